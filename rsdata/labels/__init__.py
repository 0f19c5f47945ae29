"""What the ground is: land cover of any kind, brought to the 10 m grid and to multi-label classes.

A label source reads the codes over an area; adding one is a file and a name in ``SOURCES``.
"""

from rsdata.errors import LabelError
from rsdata.labels.corine import Corine
from rsdata.labels.corine_raster import CorineRaster
from rsdata.labels.countries import nearest_countries
from rsdata.labels.layer import Area, CodeShares, LabelLayer, LabelSource
from rsdata.labels.nomenclature import NOMENCLATURES, Nomenclature, load_nomenclature
from rsdata.labels.polygons import AnyPolygons
from rsdata.labels.reference_map import PatchLabels, label_patches, label_shares
from rsdata.labels.siblings import siblings
from rsdata.labels.worldcover import WorldCover

SOURCES: dict[str, LabelSource] = {
    "corine": Corine(),
    "corine-raster": CorineRaster(),
    "polygons": AnyPolygons(),
    "worldcover": WorldCover(),
}


def label_source(name: str) -> LabelSource:
    """Raises: LabelError if there is no label source of that name."""
    if name not in SOURCES:
        raise LabelError(f"there is no label source {name!r}; known are {', '.join(sorted(SOURCES))}", source=name)
    return SOURCES[name]


__all__ = [
    "NOMENCLATURES",
    "SOURCES",
    "Area",
    "CodeShares",
    "LabelLayer",
    "LabelSource",
    "Nomenclature",
    "PatchLabels",
    "label_patches",
    "label_shares",
    "label_source",
    "load_nomenclature",
    "nearest_countries",
    "siblings",
]
