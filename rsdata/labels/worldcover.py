"""ESA WorldCover: eleven classes at 10 m in longitude and latitude, in tiles of three degrees named by their corner.

A folder of tiles will do, of which only those under the scene are opened, and so will one file or mosaic.
"""

import math
import re
from pathlib import Path

from rsdata.errors import LabelError
from rsdata.labels.layer import Area
from rsdata.labels.nomenclature import Nomenclature
from rsdata.labels.rasters import RasterLayer, read_raster
from rsdata.recipe import Labels
from rsdata.sensors.reference_map import NO_POLYGON

_TILE = re.compile(r"ESA_WorldCover_10m_(?P<edition>\d{4}_v\d{3})_(?P<corner>[NS]\d{2}[EW]\d{3})_Map.*\.tiff?", re.IGNORECASE)
_SIDE_DEGREES = 3
_NO_DATA = 0


class WorldCover:
    """Tiles of ESA WorldCover 2020 (v100) or 2021 (v200)."""

    codes = "worldcover-11"

    def files(self, path: Path, area: Area) -> list[Path]:
        """The tiles under an area; a place without a tile is open sea and has none."""
        if not path.exists():
            raise LabelError(f"{path} does not exist; name a WorldCover tile, or a folder of them, under labels.path", path=str(path))
        if not path.is_dir():
            return [path]
        corners = _corners(area)
        named = [(file, match) for file in sorted(path.rglob("*.tif*")) if (match := _TILE.fullmatch(file.name))]
        here = {file: match["edition"] for file, match in named if match["corner"].upper() in corners}
        if not here:
            raise LabelError(
                f"{path} has no WorldCover tile for the scene, which covers {area}; "
                f"expected a file such as ESA_WorldCover_10m_2021_v200_{corners[0]}_Map.tif",
                path=str(path),
                tiles=corners,
            )
        if len(set(here.values())) > 1:
            raise LabelError(
                f"{path} holds the editions {', '.join(sorted(set(here.values())))} of WorldCover; name a folder with one of them",
                path=str(path),
            )
        return list(here)

    def read(self, path: Path, area: Area, nomenclature: Nomenclature, said: Labels) -> RasterLayer:
        meaning = {_NO_DATA: NO_POLYGON} | {code: code for code in nomenclature.code_names}
        return read_raster(self.files(path, area), area, meaning, "the eleven codes of WorldCover, 10 to 100")


def _corners(area: Area) -> list[str]:
    """Names of the tiles under an area, by their south-western corner: N45E012."""
    west, south, east, north = area.bounds_in(4326)
    lats = range(math.floor(south / _SIDE_DEGREES) * _SIDE_DEGREES, math.ceil(north), _SIDE_DEGREES)
    lons = range(math.floor(west / _SIDE_DEGREES) * _SIDE_DEGREES, math.ceil(east), _SIDE_DEGREES)
    return [f"{'S' if lat < 0 else 'N'}{abs(lat):02d}{'W' if lon < 0 else 'E'}{abs(lon):03d}" for lat in lats for lon in lons]
