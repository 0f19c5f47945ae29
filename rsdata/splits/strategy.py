"""What a split strategy is: its options, checked before any work, and one function that divides a patch table.

A strategy is a pydantic model whose fields are its options, so what a recipe may say stands beside the code it
steers. The table's index and the order of its rows never play a part.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from rsdata.errors import SplitError
from rsdata.recipe import SplitPart
from rsdata.records import SPLITS, DropReason


@dataclass(frozen=True)
class Division:
    """How a strategy divides a table."""

    split: np.ndarray  # (n,) object: train, validation, test or fold_0, fold_1, …; None for patches it drops
    notes: tuple[str, ...] = ()  # sentences worth telling: how many were dropped, which region is which fold


class SplitStrategy(BaseModel, ABC):
    """A way to divide patches; its fields are its options.

    ``divide`` must give the same patch the same split whatever the order of the rows, and all dates of a place
    the same split unless ``divides_time``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    leaks: ClassVar[str | None] = None  # why its splits must not be used to measure generalisation
    divides_time: ClassVar[bool] = False  # whether two dates of a place may lie in two splits
    uses_ratios: ClassVar[bool] = False  # whether it heeds the recipe's ratios
    drops: ClassVar[DropReason | None] = None  # why it leaves patches without a split, if it ever does
    paths: ClassVar[tuple[str, ...]] = ()  # options that name files

    @classmethod
    def with_paths(cls, options: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
        """The options with ``change`` made to every path among them."""
        return {name: change(str(value)) if name in cls.paths and value is not None else value for name, value in options.items()}

    @abstractmethod
    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        """Name a split for every row of ``table``, which has at least the column ``patch_id`` and one row."""


class Grouping(ABC):
    """A strategy that can also say which patches belong together; ``kfold`` makes folds of such groups."""

    @abstractmethod
    def groups(self, table: pd.DataFrame) -> np.ndarray:
        """The name of each row's group, (n,) str or None; None lies in no group and always trains."""


def column(table: pd.DataFrame, name: str, strategy: str) -> pd.Series:
    """A column that a strategy needs.

    Raises: SplitError if the table does not have it.
    """
    if name not in table:
        raise SplitError(
            f"strategy {strategy!r} needs the column `{name}`; the table has only {', '.join(map(str, table.columns))}", column=name
        )
    return table[name]


def chance(seed: int, names: Sequence[str]) -> np.ndarray:
    """A number for each name that looks random, (n,) uint64: the first bytes of SHA-256 over seed and name."""
    digests = b"".join(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8] for name in names)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def share_out(names: np.ndarray, ratios: Sequence[float], seed: int, *, largest_first: bool = False) -> np.ndarray:
    """Give whole groups to splits so that each gets its share of the rows.

    Groups come in an order that seed and name decide, or by falling size; each goes to the split that is
    farthest behind its share, so the shares are met to within one group.

    Args:
        names: (n,) str, the group of each row.
        ratios: share of each split; a split with 0 gets nothing.

    Returns: (n,) int64 number of the split, 0 to ``len(ratios)`` - 1.
    """
    found, group, sizes = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    luck = chance(seed, found.tolist())
    order = np.lexsort((luck, -sizes)) if largest_first else np.argsort(luck, kind="stable")
    taken = np.zeros(len(ratios))
    weight = np.array(ratios, float)
    open_to = weight > 0
    split = np.empty(len(found), np.int64)
    for each in order.tolist():
        behind = np.where(open_to, (taken + sizes[each]) / np.where(open_to, weight, 1), np.inf)
        split[each] = behind.argmin()
        taken[split[each]] += sizes[each]
    return split[group]


def named(split: np.ndarray, names: Sequence[str] = SPLITS) -> np.ndarray:
    """Numbers of splits as their names, (n,) object; -1 becomes None."""
    return np.array([*names, None], object)[split]


def held_out(groups: np.ndarray, test: Sequence[object], validation: Sequence[object], what: str) -> np.ndarray:
    """Put the groups that are named into test and validation and all others into train; (n,) object.

    Args:
        groups: (n,) str or None.
        what: what the groups are, for messages.

    Raises: SplitError if none is named, a name does not occur or is named twice, or nothing is left to train on.
    """
    known = sorted({str(each) for each in set(groups.tolist()) if each is not None})
    wanted = {"test": [str(each) for each in test], "validation": [str(each) for each in validation]}
    if not wanted["test"] and not wanted["validation"]:
        raise SplitError(f"no {what} is held out; name some in `test` or `validation`. Known are {listed(known)}", known=known)
    if absent := sorted({*wanted["test"], *wanted["validation"]} - set(known)):
        raise SplitError(f"the table has no patches of {what} {listed(absent)}; known are {listed(known)}", absent=absent, known=known)
    if both := sorted(set(wanted["test"]) & set(wanted["validation"])):
        raise SplitError(f"{what} {listed(both)} is held out for both test and validation; name it in one of them", both=both)
    split_of = {name: split for split, names in wanted.items() for name in names}
    split = np.array([split_of.get(str(each), "train") for each in groups], object)
    if not (split == "train").any():
        raise SplitError(f"all patches are held out, by {what} {listed(sorted(split_of))}; leave some to train on")
    return split


def listed(names: Sequence[str], most: int = 30) -> str:
    """Names for a message, not too many of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def one_per_place(values: pd.Series, where: pd.DataFrame) -> np.ndarray:
    """The same value for all dates of a place, (n,) object: that of its first patch with one, by value."""
    place = where.groupby(["epsg", "ul_x_m", "ul_y_m"], sort=False).ngroup().to_numpy()
    known = values.notna().to_numpy()
    found = pd.Series(values.to_numpy(object)[known].astype(str)).groupby(place[known]).min()
    taken = found.reindex(range(int(place.max(initial=-1)) + 1)).to_numpy(object)[place]
    taken[pd.isna(taken)] = None
    return taken


def known_options(strategy: type[SplitStrategy]) -> str:
    """The options of a strategy, for a message."""
    return ", ".join(strategy.model_fields) or "none at all"
