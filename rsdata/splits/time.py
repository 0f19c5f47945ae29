"""The ``time`` split: whole years, seasons or months are held out, wherever they were seen.

It asks whether a model lasts, not whether it travels: the same place may be in train and in test, on two dates.
"""

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from rsdata.recipe import SplitPart
from rsdata.records import SEASON_OF_MONTH
from rsdata.splits.positions import positions
from rsdata.splits.strategy import Division, Grouping, SplitStrategy, held_out

_STAMP = slice(len("S2A_MSIL2A_"), len("S2A_MSIL2A_20170613T101031"))  # where a patch id has its time


class Time(SplitStrategy, Grouping):
    """Hold out the years, seasons or months named in ``test`` and ``validation``; all others train."""

    divides_time = True

    by: Literal["year", "season", "month"] = "year"
    test: list[int | str] = Field([], description="what is held out for test")
    validation: list[int | str] = Field([], description="what is held out for validation")

    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        return Division(held_out(self.groups(table), self.test, self.validation, self.by))

    def groups(self, table: pd.DataFrame) -> np.ndarray:
        """Year (``2017``), meteorological season (``summer``) or month (``1`` to ``12``), UTC, as the patch id has it."""
        positions(table["patch_id"])  # refuses what is no patch id
        stamp = table["patch_id"].astype(str).str[_STAMP]
        if self.by == "year":
            return stamp.str[:4].to_numpy(object)
        month = stamp.str[4:6].astype(int).to_numpy()
        names = [str(number) for number in range(1, 13)] if self.by == "month" else list(SEASON_OF_MONTH)
        return np.array(names, object)[month - 1]
