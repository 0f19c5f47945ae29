"""Products as they are delivered: found, opened lazily, and paired in time.

A scene here is metadata and paths; pixels are read only when somebody asks for a band by name.
"""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyproj
import shapely

from rsdata.errors import SceneError
from rsdata.foreign import is_there
from rsdata.records import Sentinel1Scene, Sentinel2Scene
from rsdata.scenes import sen2cor
from rsdata.scenes.sentinel1 import (
    Sentinel1GrdProduct,
    Sentinel1Processing,
    Sentinel1Product,
    describe_sentinel1,
    is_sentinel1,
    open_sentinel1,
)
from rsdata.scenes.sentinel1_processed import lies_on_grid_of
from rsdata.scenes.sentinel1_summary import summarize_sentinel1
from rsdata.scenes.sentinel2 import (
    LAYERS,
    Sentinel2Product,
    check_complete,
    check_contents,
    harmonize,
    open_sentinel2,
    quality_problem,
    surface_reflectance,
    to_reflectance,
)
from rsdata.scenes.sentinel2_angles import sun_angles, view_angles
from rsdata.scenes.sentinel2_masks import open_mask, read_mask_polygons
from rsdata.scenes.sentinel2_metadata import read_product_xml
from rsdata.scenes.sentinel2_stac import open_stac_item
from rsdata.scenes.sentinel2_summary import summarize

__all__ = [
    "LAYERS",
    "Sentinel1GrdProduct",
    "Sentinel1Processing",
    "Sentinel1Product",
    "Sentinel2Product",
    "check_complete",
    "check_contents",
    "describe_sentinel1",
    "expand",
    "harmonize",
    "is_sentinel1",
    "matches_in_time",
    "open_mask",
    "open_sentinel1",
    "open_sentinel2",
    "open_stac_item",
    "quality_problem",
    "read_mask_polygons",
    "read_product_xml",
    "sen2cor",
    "summarize",
    "summarize_sentinel1",
    "sun_angles",
    "surface_reflectance",
    "to_reflectance",
    "view_angles",
]


def expand(patterns: Iterable[str]) -> list[Path]:
    """Paths that glob patterns name, sorted, each once.

    The ``.data`` folder of a BEAM-DIMAP product is left out where its ``.dim`` is named as well.

    Raises: SceneError if a pattern matches nothing.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = [pattern] if is_there(pattern) else glob.glob(pattern)  # noqa: PTH207, as the pattern is absolute
        if not matches:
            raise SceneError(f"{pattern} matches nothing; name folders or zips of products", pattern=pattern)
        found.update(Path(match) for match in matches)
    return sorted(path for path in found if path.suffix.lower() != ".data" or path.with_suffix(".dim") not in found)


def matches_in_time(
    scene: Sentinel2Scene,
    candidates: Sequence[Sentinel1Scene],
    max_gap_h: float,
    prefer: str | None = None,
    resample: bool = False,
) -> list[tuple[Sentinel1Scene, float]]:
    """The Sentinel-1 scenes over the same ground within a time gap, the first choice first.

    Those of the preferred orbit direction come before all others, then the nearer in time, then the earlier product
    name, so that the order of the candidates does not matter.

    Args:
        max_gap_h: largest time between the two acquisitions, hours.
        prefer: ASCENDING or DESCENDING; no preference if absent.
        resample: whether rasters of another coordinate system count; their records then note what will be done to them.

    Returns: (scene, gap in hours, Sentinel-1 minus Sentinel-2).
    """
    near = [
        (prefer is not None and candidate.orbit_direction != prefer, abs(gap_h), candidate.product, gap_h, candidate)
        for candidate in candidates
        if _over_same_ground(scene, candidate, resample)
        and abs(gap_h := (candidate.datetime - scene.datetime).total_seconds() / 3600) <= max_gap_h
    ]
    return [(_noted(candidate, scene), gap_h) for *_, gap_h, candidate in sorted(near, key=lambda item: item[:3])]


def _noted(candidate: Sentinel1Scene, scene: Sentinel2Scene) -> Sentinel1Scene:
    """A scene with a note where it does not lie on the tile's grid."""
    if lies_on_grid_of(candidate, scene.epsg):
        return candidate
    note = f"resampled bilinearly in linear power from {candidate.grid} onto the 10 m grid of EPSG:{scene.epsg}"
    return candidate.model_copy(update={"notes": [*candidate.notes, note]})


def _over_same_ground(scene: Sentinel2Scene, candidate: Sentinel1Scene, resample: bool) -> bool:
    if not (resample or lies_on_grid_of(candidate, scene.epsg)):
        return False
    if candidate.epsg == scene.epsg:
        return (
            candidate.ul_x_m < scene.ul_x_m + scene.width_m
            and scene.ul_x_m < candidate.ul_x_m + candidate.width_m
            and candidate.ul_y_m > scene.ul_y_m - scene.height_m
            and scene.ul_y_m > candidate.ul_y_m - candidate.height_m
        )
    if candidate.footprint is None:
        return False
    # What has no rectangle in the tile's own zone is compared there by its outline, as there the tile is a rectangle.
    to_zone = pyproj.Transformer.from_crs(4326, scene.epsg, always_xy=True)
    lon_deg, lat_deg = np.array(candidate.footprint).T
    x_m, y_m = to_zone.transform(lon_deg, lat_deg)
    if not np.isfinite([x_m, y_m]).all():
        return False  # on the other side of the Earth
    tile = shapely.box(scene.ul_x_m, scene.ul_y_m - scene.height_m, scene.ul_x_m + scene.width_m, scene.ul_y_m)
    return bool(shapely.Polygon(zip(x_m, y_m, strict=True)).intersection(tile).area > 0)
