"""The ``random`` split: every place by itself, as if neighbours knew nothing of each other. It leaks.

It is here because people publish it and compare with it; every output says that it leaks.
"""

import numpy as np
import pandas as pd

from rsdata.recipe import SplitPart
from rsdata.splits.positions import positions
from rsdata.splits.strategy import Division, Grouping, SplitStrategy, named, share_out


class Random(SplitStrategy, Grouping):
    """Places shared out by chance; all dates of a grid cell stay together, neighbours do not."""

    leaks = "neighbouring patches, whose ground is nearly the same, fall into different splits"
    uses_ratios = True

    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        return Division(named(share_out(self.groups(table), part.ratios.values(), part.seed)))

    def groups(self, table: pd.DataFrame) -> np.ndarray:
        """``<zone>_<easting>_<northing>`` of each patch's corner, so cells of tiles on one lattice are one place."""
        where = positions(table["patch_id"])
        return (where["epsg"].astype(str) + "_" + where["ul_x_m"].astype(str) + "_" + where["ul_y_m"].astype(str)).to_numpy(object)
