"""CORINE Land Cover as a raster: level-3 codes (111 to 523) or grid codes (1 to 44), told apart by their values.

The two ranges share no value, so what a file holds over a scene decides, unless the recipe says it.
"""

from pathlib import Path

from rsdata.labels.layer import Area, files_of
from rsdata.labels.nomenclature import Nomenclature
from rsdata.labels.rasters import RasterLayer, read_raster
from rsdata.recipe import Labels
from rsdata.sensors.reference_map import NO_POLYGON

# No data, unclassified land and unclassified water of the official legend: as grid codes, and as level-3 codes.
_NO_CLASS = {"grid": (0, 48, 49, 50, 255, -128), "clc": (0, 990, 995, NO_POLYGON)}


class CorineRaster:
    """Rasters of CORINE Land Cover, of any year, CRS and pixel size."""

    codes = "clc-3"

    def files(self, path: Path, area: Area) -> list[Path]:
        return files_of(path)

    def read(self, path: Path, area: Area, nomenclature: Nomenclature, said: Labels) -> RasterLayer:
        codes = sorted(nomenclature.code_names)
        meanings = {
            "clc": {code: code for code in codes},
            "grid": dict(enumerate(codes, start=1)),
        }
        meaning: dict[int, int] = {}
        for kind in [said.raster_codes] if said.raster_codes else meanings:
            meaning |= dict.fromkeys(_NO_CLASS[kind], NO_POLYGON) | meanings[kind]
        expected = {"clc": "the codes 111 to 523", "grid": "the grid codes 1 to 44", None: "the codes 111 to 523 or the grid codes 1 to 44"}
        return read_raster([path], area, meaning, expected[said.raster_codes])
