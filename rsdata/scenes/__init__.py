"""Products as they are delivered: found, opened lazily, and paired in time.

A scene here is metadata and paths; pixels are read only when somebody asks for a band by name.
"""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from rsdata.errors import SceneError
from rsdata.records import Sentinel1Scene, Sentinel2Scene
from rsdata.scenes.sentinel1 import Sentinel1Product, open_sentinel1
from rsdata.scenes.sentinel2 import (
    LAYERS,
    Sentinel2Product,
    check_complete,
    check_contents,
    open_sentinel2,
    quality_problem,
    surface_reflectance,
)

__all__ = [
    "LAYERS",
    "Sentinel1Product",
    "Sentinel2Product",
    "check_complete",
    "check_contents",
    "expand",
    "matches_in_time",
    "open_sentinel1",
    "open_sentinel2",
    "quality_problem",
    "surface_reflectance",
]


def expand(patterns: Iterable[str]) -> list[Path]:
    """Paths that glob patterns name, sorted, each once.

    Raises: SceneError if a pattern matches nothing.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = glob.glob(pattern)  # noqa: PTH207, as the pattern is absolute
        if not matches:
            raise SceneError(f"{pattern} matches nothing; name folders or zips of products", pattern=pattern)
        found.update(Path(match) for match in matches)
    return sorted(found)


def matches_in_time(
    scene: Sentinel2Scene, candidates: Sequence[Sentinel1Scene], max_gap_h: float, prefer: str | None = None
) -> list[tuple[Sentinel1Scene, float]]:
    """The Sentinel-1 scenes over the same ground within a time gap, the first choice first.

    Those of the preferred orbit direction come before all others, then the nearer in time, then the earlier product
    name, so that the order of the candidates does not matter.

    Args:
        max_gap_h: largest time between the two acquisitions, hours.
        prefer: ASCENDING or DESCENDING; no preference if absent.

    Returns: (scene, gap in hours, Sentinel-1 minus Sentinel-2).
    """
    near = [
        (prefer is not None and candidate.orbit_direction != prefer, abs(gap_h), candidate.product, gap_h, candidate)
        for candidate in candidates
        if candidate.epsg == scene.epsg
        and candidate.ul_x_m < scene.ul_x_m + scene.width_m
        and scene.ul_x_m < candidate.ul_x_m + candidate.width_m
        and candidate.ul_y_m > scene.ul_y_m - scene.height_m
        and scene.ul_y_m > candidate.ul_y_m - candidate.height_m
        and abs(gap_h := (candidate.datetime - scene.datetime).total_seconds() / 3600) <= max_gap_h
    ]
    return [(candidate, gap_h) for *_, gap_h, candidate in sorted(near, key=lambda item: item[:3])]
