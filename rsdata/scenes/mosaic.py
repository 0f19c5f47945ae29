"""Which tiles of the Copernicus DEM a piece of ground needs, found by their names alone.

A tile covers one degree and is named after its south-western corner. Tiles exist only where there is land, so a
missing one is either sea or a gap, and which of the two it is must be said.
"""

import glob
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from rsdata.errors import SceneError
from rsdata.foreign import is_there

# Source: Copernicus DEM product handbook, naming; 10 stands for 30 m, 30 for 90 m, _COG is absent in the original format.
_NAME = re.compile(
    r"Copernicus_DSM_(?:COG_)?(?P<spacing>10|30)_(?P<ns>[NS])(?P<lat>\d{2})_00_(?P<ew>[EW])(?P<lon>\d{3})_00_DEM(?P<rest>\w*)\.(?:tif|TIF|dt1|dt2)",
    re.ASCII,
)
_SHORT = re.compile(r"([NS])(\d{2})([EW])(\d{3})", re.ASCII)
Bounds = tuple[float, float, float, float]  # west, south, east, north, degrees
Corner = tuple[int, int]  # south-western corner, whole degrees (latitude, longitude)


def dem_corner(name: str) -> Corner | None:
    """South-western corner of the tile that a file is named after, or none if it is named otherwise."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    lat, lon = int(match["lat"]), int(match["lon"])
    return (lat if match["ns"] == "N" else -lat), (lon if match["ew"] == "E" else -lon)


def dem_name(corner: Corner, spacing: int = 10) -> str:
    """Name of a tile as it is published, such as ``Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif``.

    Args:
        spacing: tenths of an arc second: 10 for the tiles of 30 m, 30 for those of 90 m.
    """
    lat, lon = corner
    return f"Copernicus_DSM_COG_{spacing}_{'N' if lat >= 0 else 'S'}{abs(lat):02d}_00_{'E' if lon >= 0 else 'W'}{abs(lon):03d}_00_DEM.tif"


def dem_corners(west: float, south: float, east: float, north: float) -> list[Corner]:
    """Corners of the tiles that a box in degrees touches, from south-west to north-east.

    Pixel centres of a tile lie on its western and northern edge, so the pixels along a box's edge need the
    neighbour too where the edge is a whole degree.

    Args:
        east: may be less than ``west``, or beyond 180, if the box lies across the 180th meridian.

    Raises: SceneError if the box is empty or not on Earth.
    """
    if east < west:
        east += 360
    if not (-90 <= south < north <= 90 and -180 <= west < east <= west + 360):
        raise SceneError(f"west {west}, south {south}, east {east}, north {north} is no box in degrees; give west, south, east, north")
    lats = range(math.floor(south), min(90, math.floor(north) + 1))
    lons = range(math.floor(west), math.floor(east) + 1)
    return [(lat, (lon + 180) % 360 - 180) for lat in lats for lon in dict.fromkeys(lons)]


def sea_corners(names: Iterable[str]) -> list[Corner]:
    """Corners of tiles that a recipe states to be sea, from names such as ``N47E013``.

    Raises: SceneError if a name is none.
    """
    corners = []
    for name in names:
        match = _SHORT.fullmatch(name)
        if match is None:
            raise SceneError(f"{name!r} is no tile of the elevation model; name its south-western corner, such as N47E013")
        corners.append((int(match[2]) * (1 if match[1] == "N" else -1), int(match[4]) * (1 if match[3] == "E" else -1)))
    return corners


def short_name(corner: Corner) -> str:
    """A tile as a recipe names it: ``N47E013``."""
    lat, lon = corner
    return f"{'N' if lat >= 0 else 'S'}{abs(lat):02d}{'E' if lon >= 0 else 'W'}{abs(lon):03d}"


def tile_addresses(base: str, bounds: Bounds) -> dict[Corner, str]:
    """Addresses of the tiles that a box needs, in a bucket or server of the Copernicus DEM's public layout.

    Args:
        base: ``<base>/<name>/<name>.tif`` is a tile; or a template with ``{name}``. Tiles are those of 90 m if it says
            ``90m``, else of 30 m.
    """
    spacing = 30 if "90m" in base else 10
    names = {corner: dem_name(corner, spacing).removesuffix(".tif") for corner in dem_corners(*bounds)}
    template = base if "{name}" in base else f"{base.rstrip('/')}/{{name}}/{{name}}.tif"
    return {corner: template.replace("{name}", name) for corner, name in names.items()}


def choose_dem_tiles(sources: Iterable[str], bounds: Bounds, sea: Sequence[Corner] | bool = False) -> list[str]:
    """The files among files, folders, globs and addresses that a box needs, in the order of the sources.

    Tiles named as those of the Copernicus DEM are taken where they touch the box. Files of other names are all taken,
    and where there is one, no tile counts as missing: the file may cover its ground.

    Args:
        sources: paths, folders, glob patterns, or addresses (``https://…``, ``s3://…``), which are taken as they are.
        bounds: west, south, east, north in degrees.
        sea: tiles known to be sea, or True if every tile that is missing is.

    Raises: SceneError if a tile that is not sea is missing, a pattern matches nothing, two files are the same tile, or
        files of both spacings are among those needed.
    """
    wanted = dem_corners(*bounds)
    chosen: list[str] = []
    found: dict[Corner, str] = {}
    spacings: dict[str, str] = {}
    for source in _expanded(sources):
        match = _NAME.fullmatch(PurePosixPath(source).name)
        corner = dem_corner(PurePosixPath(source).name)
        if match is None or corner is None:
            chosen.append(source)
            continue
        if corner not in wanted:
            continue
        if corner in found:
            raise SceneError(f"{found[corner]} and {source} are the same tile; name it once", tiles=(found[corner], source))
        found[corner] = source
        chosen.append(source)
        spacings.setdefault(match["spacing"], source)
    if len(spacings) > 1:
        raise SceneError(f"{' and '.join(sorted(spacings.values()))} have different spacing; name tiles of 30 m or of 90 m, not both")
    missing = [corner for corner in wanted if corner not in found and not (sea if isinstance(sea, bool) else corner in sea)]
    if missing and len(chosen) == len(found):
        rest = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise SceneError(
            f"the elevation model lacks {dem_name(missing[0])}{rest} of the {len(wanted)} tiles that this ground needs; "
            f"fetch them, or state that they are sea (`dem_sea: [{', '.join(map(short_name, missing))}]` in the recipe)",
            missing=[dem_name(corner) for corner in missing],
        )
    return chosen


def sea_tiles(chosen: Iterable[str], bounds: Bounds, sea: Sequence[Corner] | bool) -> list[Corner]:
    """The corners of a box's tiles that were stated to be sea, and of which there is no file."""
    there = {dem_corner(PurePosixPath(each).name) for each in chosen}
    return [corner for corner in dem_corners(*bounds) if corner not in there and (sea if isinstance(sea, bool) else corner in sea)]


def rasters_in(folder: Path) -> list[str]:
    """GeoTIFFs in a folder, sorted; and tiles in folders of their own name, as public buckets have them."""
    return [str(path) for path in sorted([*folder.glob("*.tif"), *folder.glob("Copernicus_DSM_*/Copernicus_DSM_*.tif")])]


def _expanded(sources: Iterable[str]) -> list[str]:
    names: list[str] = []
    for source in sources:
        if re.match(r"[a-z][a-z0-9+]*://|/vsi", source):
            names.append(source)
            continue
        if is_there(source) and Path(source).is_dir():
            names += rasters_in(Path(source))
            continue
        matches = [source] if is_there(source) else sorted(glob.glob(source))  # noqa: PTH207, as the pattern may be absolute
        if not matches:
            raise SceneError(f"{source} matches nothing; name tiles of the elevation model", pattern=source)
        names += matches
    return list(dict.fromkeys(names))
