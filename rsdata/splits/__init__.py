"""Which split each patch falls into, and one audit of leakage and balance that all splits are held to.

A strategy is a function with one name in ``STRATEGIES``. It sees the patch table and its part of the recipe,
and it must not depend on the order of the rows, so that any number of workers gives the same split.
"""

from typing import Protocol

import pandas as pd

from rsdata.errors import SplitError
from rsdata.recipe import SplitPart
from rsdata.records import SPLITS
from rsdata.splits.audit import audit
from rsdata.splits.frame import frame
from rsdata.splits.positions import positions


class SplitStrategy(Protocol):
    """A way to divide patches."""

    def __call__(self, table: pd.DataFrame, part: SplitPart) -> pd.Series:
        """Name a split for every row of ``table``, which has at least the column ``patch_id``.

        Returns: "train", "validation" or "test", with the index of ``table``.
        """
        ...


STRATEGIES: dict[str, SplitStrategy] = {"frame": frame}


def assign(table: pd.DataFrame, part: SplitPart) -> pd.Series:
    """Divide patches by the strategy that a recipe names.

    Args:
        table: one row per patch, at least with ``patch_id``; other columns are there for strategies that balance.
        part: the recipe's ``split``.

    Returns: (n,) str named ``split``: "train", "validation" or "test", with the index of ``table``.
    Raises: SplitError if the strategy is unknown or ``patch_id`` is missing; CatalogError if an id is none.
    """
    if part.strategy not in STRATEGIES:
        raise SplitError(f"there is no split strategy {part.strategy!r}; known are {', '.join(sorted(STRATEGIES))}", strategy=part.strategy)
    if "patch_id" not in table:
        raise SplitError(f"the table has no column `patch_id`, only {', '.join(map(str, table.columns))}; splits are assigned by it")
    split = STRATEGIES[part.strategy](table, part).rename("split")
    unknown = sorted(set(split.unique()) - set(SPLITS), key=str)
    if unknown or not split.index.equals(table.index):
        raise SplitError(
            f"strategy {part.strategy!r} did not answer with one of {', '.join(SPLITS)} for every patch; mend the strategy",
            strategy=part.strategy,
            unknown=unknown,
        )
    return split


__all__ = ["STRATEGIES", "SplitStrategy", "assign", "audit", "positions"]
