"""The patches that a manifest is about: their labels as a matrix, in the order of their ids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rsdata.errors import SubsetError
from rsdata.records import SEASON_OF_MONTH, PatchId, parse_start

Groups = npt.NDArray[np.object_]  # (n,) names, None where there is none


@dataclass(frozen=True, eq=False)
class Patches:
    """Rows of a patch table, sorted by id, each once."""

    ids: npt.NDArray[np.object_]  # (n,) str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.bool_]  # (n, class): whether the patch has it
    table: pd.DataFrame  # (n,) rows with all columns

    @classmethod
    def of(cls, table: pd.DataFrame, split: str | None = None, classes: Sequence[str] | None = None) -> "Patches":
        """Take the patches of a split that were not dropped.

        Args:
            table: ``patch_id``, and ``labels`` as lists of names; where it has a column ``kept``, only rows that are.
            split: all if None.
            classes: all there are, in order; those that occur, sorted, if absent.

        Raises: SubsetError if a patch is listed twice, none is left, or labels are missing or unknown.
        """
        if "kept" in table:
            table = table[table["kept"].astype(bool)]
        if split is not None:
            if "split" not in table:
                raise SubsetError(f"the table has no column `split`, so it has no {split} patches; ask for all with --split all")
            table = table[table["split"] == split]
        if not len(table):
            raise SubsetError(f"the table has no patches{'' if split is None else f' of the {split} split'} to choose from", split=split)
        if "labels" not in table:
            raise SubsetError("the table has no column `labels`; give each patch a list of class names")
        table = table.sort_values("patch_id", kind="stable").reset_index(drop=True)
        ids = table["patch_id"].to_numpy(object)
        if len(twice := ids[1:][ids[1:] == ids[:-1]]):
            raise SubsetError(f"{len(twice)} rows name a patch that is there already, {twice[0]} among them; list each patch once")
        lists = [_names(value, patch_id) for value, patch_id in zip(table["labels"], ids, strict=True)]
        found = sorted({name for names in lists for name in names})
        if classes is None:
            classes = found
        elif unknown := sorted(set(found) - set(classes)):
            raise SubsetError(f"patches carry {', '.join(unknown)}, which the label table does not list; it lists {', '.join(classes)}")
        place = {name: index for index, name in enumerate(classes)}
        labels = np.zeros((len(ids), len(classes)), np.bool_)
        for row, names in enumerate(lists):
            labels[row, [place[name] for name in names]] = True
        return cls(ids, tuple(classes), labels, table)

    def __len__(self) -> int:
        return len(self.ids)

    def names(self, labels: npt.NDArray[np.bool_]) -> list[list[str]]:
        """Rows of a matrix like ``labels`` as sorted lists of class names."""
        order = sorted(range(len(self.classes)), key=lambda index: self.classes[index])
        return [[self.classes[index] for index in order if row[index]] for row in labels]

    def groups(self, of: str) -> Groups:
        """What each patch is of: ``tile`` and ``season`` follow from the id where no column says it; others are columns.

        Raises: SubsetError if that is not known of every patch.
        """
        column = {"tile": "tile_id"}.get(of, of)
        if column in self.table:
            values = self.table[column].to_numpy(object)
        elif of == "tile":
            values = np.array([PatchId.parse(each).tile for each in self.ids], object)
        elif of == "season":
            months = [parse_start(PatchId.parse(each).scene.split("_")[2]).month for each in self.ids]
            values = np.array([SEASON_OF_MONTH[month - 1] for month in months], object)
        else:
            raise SubsetError(f"the table has no column `{column}`; it has {', '.join(self.table.columns)}", column=column)
        lacking = [patch_id for patch_id, value in zip(self.ids, values, strict=True) if value is None or value != value]
        if lacking:
            raise SubsetError(f"{len(lacking)} patches have no {of}, {lacking[0]} among them; leave it out or fill it in", patches=lacking)
        return np.array([str(value) for value in values], object)


def rounded(share: float, count: int | np.integer[Any]) -> int:
    """A share of a count as a whole number; a half counts up, and what only binary fractions keep from a half is one."""
    return math.floor(share * int(count) + 0.5 + 1e-9)


def _names(value: Any, patch_id: str) -> list[str]:
    if isinstance(value, list | tuple | np.ndarray) and all(isinstance(name, str) for name in value):
        return list(value)
    raise SubsetError(f"the labels of {patch_id} are {value!r}; expected a list of class names", patch_id=patch_id)
