"""How close patches of different splits come, worked out without the code that keeps them apart.

Outlines are drawn as points in longitude and latitude, turned into geocentric metres, and compared by brute force
in a k-d tree: no UTM metre, no zone and no box is involved.
"""

import itertools

import numpy as np
import pandas as pd
import pyproj
from scipy.spatial import cKDTree

from rsdata.grid import PATCH_SIDE_M, footprints
from rsdata.splits import positions

_POINTS_PER_SIDE = 20  # 60 m apart: a distance of 1 km comes out at most 0.9 m too long


def smallest_gap_m(table: pd.DataFrame, split: np.ndarray, within_m: float) -> float:
    """Smallest distance on the ground between outlines of patches of two splits; infinite if none is within ``within_m``.

    Args:
        table: rows with ``patch_id``.
        split: (n,) names; None for patches that were dropped.
        within_m: how far to look, metres; outlines farther apart are not compared.
    """
    where = positions(table["patch_id"])
    cells = where[["epsg", "ul_x_m", "ul_y_m"]].assign(split=split)[pd.notna(split)].drop_duplicates()
    outlines = np.empty((len(cells), 4 * _POINTS_PER_SIDE, 3))
    for epsg in cells["epsg"].unique():
        rows = np.flatnonzero(cells["epsg"] == epsg)
        polygons = footprints(cells["ul_x_m"].to_numpy()[rows], cells["ul_y_m"].to_numpy()[rows], int(epsg))
        corners = np.array([polygon.exterior.coords for polygon in polygons])  # (k, 5, 2) degrees
        along = np.arange(_POINTS_PER_SIDE)[:, None] / _POINTS_PER_SIDE
        lonlat = (corners[:, :4, None] * (1 - along) + corners[:, 1:, None] * along).reshape(len(rows), -1, 2)
        to_xyz = pyproj.Transformer.from_crs(4979, 4978, always_xy=True)
        outlines[rows] = np.stack(to_xyz.transform(lonlat[..., 0], lonlat[..., 1], np.zeros(lonlat.shape[:2])), axis=-1)
    centres = outlines.mean(axis=1)
    smallest = np.inf
    for a, b in itertools.combinations(sorted(set(cells["split"])), 2):
        of_a, of_b = (np.flatnonzero(cells["split"] == name) for name in (a, b))
        reach_m = within_m + 1.5 * PATCH_SIDE_M
        near_a = of_a[np.isfinite(cKDTree(centres[of_b]).query(centres[of_a], distance_upper_bound=reach_m)[0])]
        near_b = of_b[np.isfinite(cKDTree(centres[of_a]).query(centres[of_b], distance_upper_bound=reach_m)[0])]
        if len(near_a) and len(near_b):
            points_a, points_b = outlines[near_a].reshape(-1, 3), outlines[near_b].reshape(-1, 3)
            smallest = min(smallest, float(cKDTree(points_a).query(points_b, distance_upper_bound=within_m)[0].min()))
    return smallest
