"""Clients of a federation: every patch belongs to one client.

A partition is a function by a short name that says who holds which patch. What sensors a client has is decided apart
from it, so any partition can be one of clients that see differently.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rsdata.errors import SubsetError
from rsdata.sensors import SENTINEL1, SENTINEL2
from rsdata.subsets.patches import Groups, Patches

MODALITIES = (SENTINEL1.name, SENTINEL2.name, f"{SENTINEL1.name}+{SENTINEL2.name}")
_TRIES = 100  # of a draw that leaves a client too few patches


@dataclass(frozen=True)
class Settings:
    """What partitions may be asked for."""

    clients: int | None = None  # as many as there are groups, or three, if absent
    alpha: float = 0.5  # of the Dirichlet distribution: small for clients that differ much
    least: int = 1  # patches that every client of a Dirichlet partition has


@dataclass(frozen=True, eq=False)
class Division:
    """Who holds what."""

    client: Groups  # (n,) names
    sensors: dict[str, tuple[str, ...]]  # client to the sensors it has


class Partition(Protocol):
    """A way to deal out patches to clients; its result depends on the patches, the settings and the random numbers alone."""

    def __call__(self, patches: Patches, settings: Settings, random: np.random.Generator) -> Groups:
        """(n,) the name of each patch's client.

        Raises: SubsetError if these patches cannot be dealt out so.
        """


def divide(patches: Patches, by: str, settings: Settings, seed: int, modalities: Sequence[str] = ()) -> Division:
    """Deal out patches to clients.

    Args:
        by: one of ``PARTITIONS``.
        modalities: sensors of the first client, of the second and so on, then from the start again, such as s1, s2, s1+s2; all have
            both if absent, save for the partition ``modality``.

    Raises: SubsetError if a name is unknown or the patches cannot be dealt out so.
    """
    if by not in PARTITIONS:
        raise SubsetError(f"there is no partition {by!r}; known are {', '.join(PARTITIONS)}", by=by)
    if settings.clients is not None and not 1 <= settings.clients <= len(patches):
        raise SubsetError(f"{settings.clients} clients cannot share {len(patches)} patches; expected 1 to {len(patches)}")
    if unknown := [each for each in modalities if each not in MODALITIES]:
        raise SubsetError(f"{', '.join(unknown)} is no choice of sensors; known are {', '.join(MODALITIES)}", unknown=unknown)
    client = PARTITIONS[by](patches, settings, np.random.default_rng(seed))
    turns = [each.split("+") for each in modalities or (MODALITIES if by == "modality" else MODALITIES[2:])]
    return Division(client, {name: tuple(turns[index % len(turns)]) for index, name in enumerate(sorted(set(client)))})


def _iid(patches: Patches, settings: Settings, random: np.random.Generator) -> Groups:
    """Shuffled and cut into parts whose sizes differ by one at most."""
    count = settings.clients or 3
    return _names(count)[random.permutation(np.arange(len(patches)) % count)]


def _grouped(of: str) -> Partition:
    def partition(patches: Patches, settings: Settings, random: np.random.Generator) -> Groups:
        """One client per group; with fewer clients asked for, the largest groups go first, each to the client with fewest patches."""
        found = patches.groups(of)
        groups, sizes = np.unique(found, return_counts=True)
        count = settings.clients or len(groups)
        if count > len(groups):
            raise SubsetError(f"{len(groups)} groups by {of} are too few for {count} clients; ask for {len(groups)} at most")
        if count == len(groups):
            return found
        held, owner = [0] * count, {}
        for index in sorted(range(len(groups)), key=lambda each: (-sizes[each], groups[each])):
            smallest = held.index(min(held))
            owner[groups[index]] = smallest
            held[smallest] += int(sizes[index])
        return _names(count)[[owner[group] for group in found]]

    return partition


def _dirichlet(patches: Patches, settings: Settings, random: np.random.Generator) -> Groups:
    """Clients with different shares of classes: each class is dealt out in shares drawn from a Dirichlet distribution.

    A patch counts for its rarest class (over these patches), as it can go to one client only; those without a label count as one
    more class. A draw that leaves a client fewer than ``least`` patches is drawn again, up to 100 times.

    Source: Hsu, Qi, Brown, "Measuring the effects of non-identical data distribution for federated visual classification", 2019.
    """
    count = settings.clients or 3
    if settings.alpha <= 0 or settings.least * count > len(patches):
        raise SubsetError(
            f"alpha of {settings.alpha:g} with at least {settings.least} patches for each of {count} clients cannot be had of "
            f"{len(patches)} patches; choose alpha above 0 and fewer clients"
        )
    rarity = np.argsort(np.argsort(patches.labels.sum(axis=0), kind="stable"), kind="stable")
    main = np.where(patches.labels.any(axis=1), np.where(patches.labels, rarity, len(rarity)).min(axis=1, initial=len(rarity)), len(rarity))
    for _ in range(_TRIES):
        owner = np.empty(len(patches), np.int64)
        for each in np.unique(main):
            rows = random.permutation(np.flatnonzero(main == each))
            ends = np.floor(np.cumsum(random.dirichlet(np.full(count, settings.alpha))) * len(rows) + 0.5).astype(np.int64)
            ends[-1] = len(rows)
            owner[rows] = np.searchsorted(ends, np.arange(len(rows)), side="right")
        if np.bincount(owner, minlength=count).min() >= settings.least:
            return _names(count)[owner]
    raise SubsetError(
        f"{_TRIES} draws with alpha {settings.alpha:g} left one of {count} clients fewer than {settings.least} patches; "
        "choose a larger alpha, or fewer clients",
        alpha=settings.alpha,
    )


PARTITIONS: dict[str, Partition] = {
    "iid": _iid,
    "country": _grouped("country"),
    "season": _grouped("season"),
    "tile": _grouped("tile"),
    "dirichlet": _dirichlet,
    "modality": _iid,
}


def _names(count: int) -> npt.NDArray[np.object_]:
    width = len(str(count - 1))
    return np.array([f"client-{index:0{width}d}" for index in range(count)], object)
