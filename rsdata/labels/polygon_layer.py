"""Polygons with a code: burnt by pixel centre, or laid over boxes exactly.

Where polygons overlap, the one that stands later in the file wins, in both.
"""

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize

from rsdata.labels.layer import CodeShares
from rsdata.sensors.reference_map import NO_POLYGON

_OVERLAP = 1e-12  # share of a box from which pieces are taken to overlap; rounding stays far below


@dataclass(frozen=True)
class PolygonLayer:
    """The polygons over an area, in its CRS and in file order."""

    codes: np.ndarray  # (n,) uint16
    geometry: np.ndarray  # (n,) valid shapely polygons
    repaired: np.ndarray  # (n,) bool
    left_out: int = 0  # features of the file that are no polygons

    @property
    def counts(self) -> dict[str, int]:
        found = {"polygons": len(self.codes), "repaired": int(self.repaired.sum())}
        return found | ({"not polygons": self.left_out} if self.left_out else {})

    def rasterize(self, transform: Affine, shape_yx: tuple[int, int]) -> np.ndarray:
        """Burn codes by pixel centre.

        Args:
            transform: pixel (col, row) to CRS metres.
            shape_yx: height and width, pixels.

        Returns: (y, x) uint16 codes; 999 where no polygon lies.
        """
        shapes = ((shape, int(code)) for shape, code in zip(self.geometry, self.codes, strict=True) if not shape.is_empty)
        return rasterize(shapes, out_shape=shape_yx, transform=transform, fill=NO_POLYGON, dtype="uint16", all_touched=False)

    def shares(self, boxes: np.ndarray) -> CodeShares:
        """Lay polygons over boxes, in double precision.

        Large polygons are first cut to the strip of boxes with the same bottom and top, so that a polygon as large
        as the area is not cut anew for each box.

        Args:
            boxes: (n, 4) left, bottom, right, top.
        """
        known = np.unique(np.append(self.codes, NO_POLYGON)).astype(np.uint16)
        column = np.searchsorted(known, self.codes)
        shares = np.zeros((len(boxes), len(known)))
        tree = shapely.STRtree(self.geometry)
        strips, strip_of_box = np.unique(boxes[:, [1, 3]], axis=0, return_inverse=True)
        for number, (bottom, top) in enumerate(strips):
            members = np.flatnonzero(strip_of_box.ravel() == number)
            strip = shapely.box(boxes[members, 0].min(), bottom, boxes[members, 2].max(), top)
            near = np.sort(tree.query(strip))
            cut = shapely.intersection(self.geometry[near], strip)
            left, _, right, _ = shapely.bounds(cut).T  # NaN where nothing is left, which no comparison holds for
            for member in members:
                here = np.flatnonzero((right > boxes[member, 0]) & (left < boxes[member, 2]))
                area_m2 = _visible_areas(cut[here], shapely.box(*boxes[member]))
                np.add.at(shares[member], column[near[here]], area_m2)
        sides = boxes[:, 2:] - boxes[:, :2]
        shares /= sides.prod(axis=1, keepdims=True)
        shares[:, np.searchsorted(known, NO_POLYGON)] += np.maximum(0, 1 - shares.sum(axis=1))
        return CodeShares(known, shares)


def _visible_areas(shapes: np.ndarray, box: shapely.Geometry) -> np.ndarray:
    """Area of each shape inside a box that no later shape covers."""
    pieces = shapely.intersection(shapes, box)
    areas = shapely.area(pieces)
    inside = np.flatnonzero(areas > 0)
    if len(inside) < 2:
        return areas
    covered = shapely.union_all(pieces[inside])
    if areas.sum() - shapely.area(covered) <= _OVERLAP * shapely.area(box):
        return areas
    above = shapely.Polygon()
    for place in inside[::-1]:
        areas[place] = shapely.area(shapely.difference(pieces[place], above))
        above = shapely.union(above, pieces[place])
    return areas
