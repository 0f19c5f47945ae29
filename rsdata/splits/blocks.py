"""The ``blocks`` split: squares of a map grid, each of which goes to one split as a whole.

Squares are laid on one reference system for all tiles and zones, so cells of overlapping tiles fall into the
same square, save where its edge runs between their centres. Squares of different splits touch.
"""

import numpy as np
import pandas as pd
import pyproj
from pydantic import Field

from rsdata.errors import SplitError
from rsdata.grid import PATCH_SIDE_M
from rsdata.recipe import SplitPart
from rsdata.splits.positions import positions
from rsdata.splits.strategy import Division, Grouping, SplitStrategy, named, share_out


class Blocks(SplitStrategy, Grouping):
    """Squares of ``side_m`` in ``crs``, shared out by chance until each split has its ratio."""

    uses_ratios = True

    side_m: float = Field(10_000, gt=0, description="side of a square, metres of the reference system")
    crs: str = Field("EPSG:3035", description="a projected reference system in metres")

    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        return Division(named(share_out(self.groups(table), part.ratios.values(), part.seed)))

    def groups(self, table: pd.DataFrame) -> np.ndarray:
        """``<column>_<row>`` of the square that a patch's centre lies in, counted from the origin of ``crs``.

        Raises: SplitError if ``crs`` is not projected in metres or a patch lies where it is not defined.
        """
        x_m, y_m = centres(table["patch_id"], self.crs)
        column, row = np.floor(x_m / self.side_m).astype(np.int64), np.floor(y_m / self.side_m).astype(np.int64)
        found, which = np.unique(np.stack([column, row], axis=-1), axis=0, return_inverse=True)
        return np.array([f"{c}_{r}" for c, r in found.tolist()], object)[which]


def centres(patch_ids: pd.Series, crs: str) -> tuple[np.ndarray, np.ndarray]:
    """Centres of patches in a projected reference system, metres: x and y, (n,) each.

    Raises: SplitError if ``crs`` is not projected in metres or a patch lies where it is not defined.
    """
    try:
        system = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise SplitError(f"{crs!r} is no reference system that PROJ knows; name one such as EPSG:3035", crs=crs) from error
    if not system.is_projected or any(axis.unit_name not in ("metre", "meter") for axis in system.axis_info):
        raise SplitError(f"{crs} ({system.name}) is not projected in metres; name a map projection such as EPSG:3035", crs=crs)
    where = positions(patch_ids)
    x_m, y_m = np.empty(len(where)), np.empty(len(where))
    epsg, right_m, up_m = (where[name].to_numpy() for name in ("epsg", "ul_x_m", "ul_y_m"))
    for zone in np.unique(epsg):
        rows = np.flatnonzero(epsg == zone)
        to_map = pyproj.Transformer.from_crs(int(zone), system, always_xy=True)
        x_m[rows], y_m[rows] = to_map.transform(right_m[rows] + PATCH_SIDE_M / 2, up_m[rows] - PATCH_SIDE_M / 2)
    outside = ~(np.isfinite(x_m) & np.isfinite(y_m))
    if outside.any():
        patch_id = str(patch_ids.iloc[int(np.flatnonzero(outside)[0])])
        raise SplitError(f"{patch_id} lies outside of {crs} ({system.name}); name a reference system that covers all patches", crs=crs)
    return x_m, y_m
