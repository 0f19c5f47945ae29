"""From polygons to a reference map, and from there to the labels of each patch.

A pixel takes the code of the polygon under its centre, as reBEN does; where there is none it is 999. A
patch's labels are all classes present, without a smallest area.
"""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
from affine import Affine
from rasterio.features import rasterize

from rsdata.labels.nomenclature import Nomenclature
from rsdata.sensors.reference_map import NO_POLYGON


def rasterize_codes(polygons: gpd.GeoDataFrame, transform: Affine, shape_yx: tuple[int, int]) -> np.ndarray:
    """Burn codes by pixel centre.

    Args:
        polygons: ``code`` and ``geometry``, in the raster's CRS; later rows win where polygons overlap.
        transform: pixel (col, row) to CRS metres.
        shape_yx: height and width, pixels.

    Returns: (y, x) uint16 codes; 999 where no polygon lies.
    """
    shapes = ((geometry, int(code)) for geometry, code in zip(polygons.geometry, polygons["code"], strict=True) if not geometry.is_empty)
    return rasterize(shapes, out_shape=shape_yx, transform=transform, fill=NO_POLYGON, dtype="uint16", all_touched=False)


@dataclass(frozen=True)
class PatchLabels:
    """Labels of many patches, in the order the patches were given."""

    labels: list[list[str]]  # class names, sorted
    fractions: list[dict[str, float]]  # class name to share of the patch's area
    unlabeled: np.ndarray  # (n,) float64, share of the area without a class


def label_patches(codes: np.ndarray, nomenclature: Nomenclature) -> PatchLabels:
    """Count classes per patch.

    Args:
        codes: (n, y, x) uint16 reference maps.
        nomenclature: which code means which class.
    """
    names = [each.name for each in nomenclature.classes]
    unlabeled = len(names)
    index_of_code = np.full(2**16, unlabeled, np.uint8)
    for each in nomenclature.classes:
        index_of_code[each.codes] = each.index
    n = len(codes)
    counts = np.empty((n, unlabeled + 1), np.int64)
    for i, patch in enumerate(codes):
        counts[i] = np.bincount(index_of_code[patch].ravel(), minlength=unlabeled + 1)
    shares = counts / max(1, codes[0].size if n else 1)
    present = [[(names[k], float(shares[i, k])) for k in np.flatnonzero(counts[i, :unlabeled])] for i in range(n)]
    fractions = [dict(sorted(patch)) for patch in present]
    return PatchLabels([list(patch) for patch in fractions], fractions, shares[:, unlabeled])
