"""What a model is: how its network is made, what it answers for, and where its bands come in and its answers go out.

A network is a plain ``torch.nn.Module``, whichever library it is from, so weights have the names that library gives them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

Answers = Literal["patch", "pixel"]  # what a network gives one answer for


@dataclass(frozen=True)
class Wanted:
    """What a network is made for."""

    bands: int
    outputs: int
    dropout: float = 0.0  # share left out before the last layer
    drop_path: float = 0.0  # share of patches that skip the last block; earlier ones are skipped more rarely
    side_px: int = 120  # of the square that it will see


class ModelBuilder(Protocol):
    """Makes an untrained network.

    The network takes (patch, band, y, x) float32. Its weights are drawn from torch's global random numbers, so a seed
    set before the call fixes them.
    """

    def __call__(self, wanted: Wanted) -> nn.Module:
        """Raises: TrainingError if the library that it is from cannot be loaded."""
        ...


@dataclass(frozen=True)
class Model:
    """A network by short name."""

    build: ModelBuilder
    features: Callable[[nn.Module, Tensor], Tensor]  # (patch, band, y, x) to (patch, feature): what its last layer is shown
    answers: Answers = "patch"  # (patch, output) or (patch, output, y, x) float32
    stem: str = "conv1.weight"  # the parameter whose second axis is the bands
    head: str = "fc"  # where the names of its last layer's parameters begin; other weights' last layer is not taken over
    least_px: int = 1  # smaller squares leave nothing to look at
    fixed_side: bool = False  # sees only squares of the size that it was made for
    drops_path: bool = True  # whether `drop_path` does anything
    extra: str = "train"  # what to install: rsdata[...]
