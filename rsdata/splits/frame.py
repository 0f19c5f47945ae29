"""The ``frame`` split of reBEN: nested square frames of each tile become train, validation and test.

A patch belongs to the frame its centre lies in. The frames are as wide as gives train half of a tile's area
and validation and test a quarter each.
"""

import math

import numpy as np
import pandas as pd

from rsdata.grid import PATCH_SIDE_M, TILE_SIDE_M
from rsdata.recipe import SplitPart
from rsdata.splits.positions import positions
from rsdata.splits.strategy import Division, SplitStrategy, named

TRAIN_WIDTH_M = TILE_SIDE_M * (2 - math.sqrt(2)) / 4
VALIDATION_WIDTH_M = TILE_SIDE_M * (math.sqrt(2) - 1) / 4


class Frame(SplitStrategy):
    """Divide patches by how far their centre lies from the nearest edge of their tile.

    Neither the seed nor any other row plays a part. Train and validation touch, and so do validation and
    test, and where tiles overlap a place of one tile can lie in another split than the same ground of the
    other tile: see ``audit``.

    Source: Clasen et al., reBEN: Refined BigEarthNet Dataset for Remote Sensing Image Analysis, 2024; the
        widths reproduce every published assignment.
    """

    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        where = positions(table["patch_id"])
        right_m = where["col"].to_numpy() * PATCH_SIDE_M + PATCH_SIDE_M / 2  # of the centre, from the tile's corner
        down_m = where["row"].to_numpy() * PATCH_SIDE_M + PATCH_SIDE_M / 2
        from_edge_m = np.minimum.reduce([right_m, TILE_SIDE_M - right_m, down_m, TILE_SIDE_M - down_m])
        inward = (from_edge_m >= TRAIN_WIDTH_M).astype(int) + (from_edge_m >= TRAIN_WIDTH_M + VALIDATION_WIDTH_M)
        return Division(named(inward))
