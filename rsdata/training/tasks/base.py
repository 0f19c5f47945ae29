"""What a task is: which answer is wanted for a patch, how far off a network's answer is, and how answers are scored.

The data path and the loop know nothing of labels, maps or texts; they ask the task.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor, nn

from rsdata.errors import TrainingError
from rsdata.foreign import PARQUET_ERRORS, open_parquet
from rsdata.recipe import Training
from rsdata.records import BandInfo, Scores, ShardManifest
from rsdata.records import keys_of as keys_in
from rsdata.training.dataset import PatchDataset, ShardReader, TargetReader
from rsdata.training.models import Answers

Answer = Tensor | tuple[Tensor, ...]  # what a network gives for a batch
Build = Callable[[int, int], nn.Module]  # bands and outputs to an untrained network of the model asked for


@dataclass(frozen=True, eq=False)
class Maps:
    """Answers as pictures on the ground, one for each patch."""

    pixels: npt.NDArray[Any]  # (patch, y, x)
    nodata: float | None
    names: dict[int, str]  # value to what it means; empty for measures
    unit: str


class Scorer(Protocol):
    """Gathers the answers to a whole split, batch by batch."""

    def add(self, answer: Answer, targets: Tensor) -> None: ...

    def scores(self) -> Scores:
        """Raises: TrainingError if there is nothing to score."""


class Task(Protocol):
    """One of the things that can be learned from a shard; its fields are what a checkpoint must remember of it."""

    name: ClassVar[str]

    @classmethod
    def of(cls, shard: ShardReader, options: Training, bands: Sequence[str], table: Path | None) -> Self:
        """Raises: TrainingError if the shard or the table cannot serve the task."""

    @classmethod
    def from_card(cls, content: Mapping[str, Any]) -> Self:
        """What ``card`` gave."""

    def card(self) -> dict[str, Any]:
        """All fields, as JSON holds them."""

    @property
    def answers(self) -> Answers:
        """What networks must give one answer for."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs in order; empty where they are not classes."""

    @property
    def turns_images(self) -> bool:
        """Whether a patch may be turned and mirrored in training."""

    @property
    def targets_are_input(self) -> bool:
        """Whether a network must be shown the targets too, as it is with texts."""

    def check_fits(self, manifest: ShardManifest) -> None:
        """Raises: TrainingError if a shard has another table of classes than the task was made from."""

    def reader(self, shard: ShardReader, dataset: PatchDataset, table: Path | None, training: bool) -> TargetReader | None:
        """Gives the targets of a dataset's patches; None for its labels.

        Raises: TrainingError if a patch has none.
        """

    def network(self, build: Build, bands: Sequence[str]) -> nn.Module:
        """An untrained network with the outputs that the task needs."""

    def answer(self, network: nn.Module, pixels: Tensor, targets: Tensor) -> Answer:
        """Ask a network; most look at pixels alone."""

    def loss(self, answer: Answer, targets: Tensor) -> Tensor:
        """Mean over whatever ``weight`` counts; differentiable."""

    def weight(self, targets: Tensor) -> float:
        """How many answers the mean loss of a batch is over."""

    def scorer(self) -> Scorer: ...

    def columns(self, answer: Answer) -> dict[str, Any]:
        """What a table of predictions says of each patch: name to (patch,) values."""

    def maps(self, answer: Answer) -> Maps | None:
        """What is drawn of each patch; None if answers are no maps."""


class TaskBase:
    """What most tasks have in common."""

    @classmethod
    def from_card(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{name: _frozen(value) for name, value in content.items()})

    def card(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @property
    def turns_images(self) -> bool:
        return True

    @property
    def targets_are_input(self) -> bool:
        return False

    def answer(self, network: nn.Module, pixels: Tensor, targets: Tensor) -> Answer:
        return network(pixels)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def the(answer: Answer) -> Tensor:
    """The answer of a task that has one tensor."""
    assert isinstance(answer, Tensor)
    return answer


def band_named(manifest: ShardManifest, name: str) -> BandInfo:
    """Raises: TrainingError if no band, or more than one, is called so."""
    found = [band for band in manifest.bands if band.name == name]
    if len(found) != 1:
        known = ", ".join(band.name for band in manifest.bands)
        raise TrainingError(
            f"shard {manifest.name!r} has {len(found) or 'no'} band{'s' if found else ''} {name}; expected one of {known}", band=name
        )
    return found[0]


def keys_of(shard: ShardReader, patch_ids: Sequence[str], band: BandInfo) -> list[str]:
    """Where a band of each patch lies in the shard.

    Raises: TrainingError if some patches do not have it.
    """
    rows = shard.index.set_index("patch_id", drop=False).loc[list(patch_ids)]
    keys = keys_in(rows, band.sensor)
    lacking = [patch for patch, key in zip(patch_ids, keys, strict=True) if not isinstance(key, str)]
    if lacking:
        raise TrainingError(
            f"{len(lacking)} of {len(patch_ids)} patches have no {band.name}, {lacking[0]} among them; leave them out of the shard",
            band=band.name,
            patches=lacking,
        )
    return [key for key in keys if key is not None]


def read_rows(table: Path | None, columns: Sequence[str], why: str) -> pd.DataFrame:
    """Some columns of a Parquet table with patch ids.

    Raises: TrainingError if there is no table, it cannot be read, or lacks a column.
    """
    if table is None:
        raise TrainingError(f"{why} needs a table with the columns patch_id and {', '.join(columns)}; name it as `table`")
    try:
        file = open_parquet(table)
        known = file.schema_arrow.names
        if missing := [name for name in ("patch_id", *columns) if name not in known]:
            raise TrainingError(
                f"{table} has no column {', '.join(missing)}, which {why} needs; it has {', '.join(known)}",
                path=str(table),
                missing=missing,
            )
        return file.read(["patch_id", *columns]).replace_schema_metadata(None).to_pandas()
    except PARQUET_ERRORS as error:
        raise TrainingError(f"{table} cannot be read as Parquet: {error}; name a table with patch ids", path=str(table)) from error


def check_answers(split: str | None, patch_ids: Sequence[str], known: npt.NDArray[np.bool_], what: str) -> None:
    """Raises: TrainingError if some patches are not in a table."""
    if not known.all():
        missing = [patch for patch, here in zip(patch_ids, known, strict=True) if not here]
        raise TrainingError(
            f"{len(missing)} of {len(patch_ids)} patches of the {split} split have no {what}, {missing[0]} among them; "
            "give a table that has all",
            split=split,
            patches=missing,
        )
