"""Label noise: wrong labels at an exact rate, class by class, with the clean ones kept beside them.

An entry is a patch and a class: present if the patch has it, else absent. Each entry draws one number, and in each
class those with the smallest are flipped; so what a low rate flips, a higher one flips too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rsdata.errors import SubsetError
from rsdata.subsets.patches import Patches, rounded


@dataclass(frozen=True)
class Kind:
    """Which entries a kind of noise flips."""

    removes: bool
    adds: bool


NOISES = {"additive": Kind(removes=False, adds=True), "subtractive": Kind(removes=True, adds=False), "mixed": Kind(removes=True, adds=True)}


@dataclass(frozen=True, eq=False)
class Noise:
    """Labels with noise, and where it is; both (n, class)."""

    labels: npt.NDArray[np.bool_]
    flipped: npt.NDArray[np.bool_]


def inject(patches: Patches, kind: str, rate: float, seed: int) -> Noise:
    """Flip a share of the entries of every class.

    Of each class, with P present and A absent entries, ``subtractive`` removes round(rate * P), ``additive`` adds round(rate * A), and
    ``mixed`` does both, so that the rate is the share of all entries that are wrong. A half is rounded up. A patch may lose all
    its labels.

    Args:
        kind: one of ``NOISES``.
        rate: 0 to 1.
        seed: another seed, other entries.

    Raises: SubsetError if the kind is unknown or the rate impossible.
    """
    if kind not in NOISES:
        raise SubsetError(f"there is no noise {kind!r}; known are {', '.join(NOISES)}", kind=kind)
    if not 0 <= rate <= 1:
        raise SubsetError(f"a rate of {rate:g} is none; expected 0 to 1", rate=rate)
    drawn = np.random.default_rng(seed).random(patches.labels.shape)
    flipped = np.zeros_like(patches.labels)
    for column in range(len(patches.classes)):
        for there, wanted in ((True, NOISES[kind].removes), (False, NOISES[kind].adds)):
            if wanted:
                rows = np.flatnonzero(patches.labels[:, column] == there)
                order = rows[np.argsort(drawn[rows, column], kind="stable")]
                flipped[order[: rounded(rate, len(rows))], column] = True
    return Noise(patches.labels ^ flipped, flipped)
