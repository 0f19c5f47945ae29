"""What the ground is: land cover polygons, brought to the 10 m grid and to multi-label classes.

A label source is a function that reads polygons over a raster; adding one is a file and a name in ``SOURCES``.
"""

from pathlib import Path
from typing import Protocol

import geopandas as gpd

from rsdata.errors import LabelError
from rsdata.labels.corine import read_corine
from rsdata.labels.countries import nearest_countries
from rsdata.labels.nomenclature import NOMENCLATURES, Nomenclature, load_nomenclature
from rsdata.labels.reference_map import PatchLabels, label_patches, rasterize_codes


class LabelSource(Protocol):
    """Reads the polygons over a raster, with their codes; see ``read_corine`` for what it takes and returns."""

    def __call__(
        self,
        path: Path,
        bounds: tuple[float, float, float, float],
        epsg: int,
        nomenclature: Nomenclature,
        layer: str | None = None,
        code_column: str | None = None,
    ) -> gpd.GeoDataFrame: ...


SOURCES: dict[str, LabelSource] = {"corine": read_corine}


def label_source(name: str) -> LabelSource:
    """Raises: LabelError if there is no label source of that name."""
    if name not in SOURCES:
        raise LabelError(f"there is no label source {name!r}; known are {', '.join(sorted(SOURCES))}", source=name)
    return SOURCES[name]


__all__ = [
    "NOMENCLATURES",
    "SOURCES",
    "LabelSource",
    "Nomenclature",
    "PatchLabels",
    "label_patches",
    "label_source",
    "load_nomenclature",
    "nearest_countries",
    "rasterize_codes",
]
