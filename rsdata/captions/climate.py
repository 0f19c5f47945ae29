"""Climate zones at places, from a raster that the user supplies and a table that names its values.

The table beside the code names the 30 Köppen-Geiger classes as Beck et al. number them ("Present and future
Köppen-Geiger climate classification maps at 1-km resolution", Scientific Data 5, 2018); 0, the sea, has no class.
"""

import csv
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pyproj
import rasterio
from pyproj.exceptions import ProjError

from rsdata.errors import CaptionError
from rsdata.foreign import RASTER_ERRORS

_TABLE = resources.files("rsdata.captions").joinpath("tables", "koppen-geiger.csv")
_COLUMNS = ["value", "name"]


def climate_names(path: Path | None = None) -> dict[int, str]:
    """Names of a climate raster's values; an empty name stands for no class.

    Args:
        path: CSV file with the columns value and name; the 30 classes of Beck et al. (2018) if absent.

    Raises: CaptionError if the file is no such table.
    """
    table: Traversable = _TABLE if path is None else path
    try:
        reader = csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CaptionError(f"the table of climate classes {table} cannot be read: {reason}; name a CSV file", path=str(table)) from error
    if reader.fieldnames != _COLUMNS:
        found = ", ".join(reader.fieldnames or []) or "none at all"
        raise CaptionError(f"{table.name} has the columns {found}; expected {' and '.join(_COLUMNS)}", path=str(table))
    names: dict[int, str] = {}
    for row in reader:
        value, name = (row["value"] or "").strip(), (row["name"] or "").strip()
        if None in row or not value.removeprefix("-").isdecimal() or int(value) in names:
            raise CaptionError(
                f"{table.name}, line {reader.line_num}: expected a whole number that has not stood there yet, and a name in quotes "
                "if it holds a comma",
                path=str(table),
                line=reader.line_num,
            )
        names[int(value)] = name
    return names


class ClimateRaster:
    """A raster of climate classes in any CRS, looked at place by place; the first band counts."""

    def __init__(self, path: Path, names: Mapping[int, str]) -> None:
        """Raises: CaptionError if the file is no raster that states where it lies."""
        self.path, self.names = path, names
        try:
            self._raster = rasterio.open(path)
        except RASTER_ERRORS as error:
            raise CaptionError(
                f"{path} cannot be read as a raster ({error}); expected a GeoTIFF or another GDAL raster of climate classes, "
                "so name another file",
                path=str(path),
            ) from error
        if self._raster.crs is None:
            self._raster.close()
            raise CaptionError(f"{path.name} does not state its CRS; assign one with gdal_edit.py -a_srs", path=str(path))
        if self._raster.transform.is_degenerate:
            self._raster.close()
            raise CaptionError(f"{path.name} has pixels of no extent on the ground; the file is damaged, fetch it again", path=str(path))
        try:
            self._to_raster = pyproj.Transformer.from_crs(4326, pyproj.CRS.from_user_input(self._raster.crs.to_wkt()), always_xy=True)
        except ProjError as error:
            self._raster.close()
            raise CaptionError(
                f"{path.name} states a CRS that nothing can be converted to ({error}); assign its own with gdal_edit.py -a_srs",
                path=str(path),
            ) from error

    def __enter__(self) -> "ClimateRaster":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._raster.close()

    def zones(self, places: Sequence[tuple[float, float]]) -> list[str | None]:
        """The class of the pixel under each place; None where the raster has no data or its value means no class.

        Args: places: longitude and latitude, WGS 84, degrees.
        Raises: CaptionError if a place lies outside the raster, or a value stands for nothing that is known.
        """
        points = [self._to_raster.transform(*place) for place in places]
        inverse = ~self._raster.transform
        for place, point in zip(places, points, strict=True):
            col, row = inverse @ point if point[0] < float("inf") else (-1, -1)
            if not (0 <= col < self._raster.width and 0 <= row < self._raster.height):
                raise CaptionError(
                    f"{self.path.name} does not cover the patch around {place[0]:.4f} degrees east, {place[1]:.4f} degrees north; "
                    "name a climate raster of the same region, or leave `captions.climate` out",
                    path=str(self.path),
                    place=place,
                )
        try:
            values = [found.tolist()[0] for found in self._raster.sample(points, indexes=[1], masked=True)]
        except RASTER_ERRORS as error:
            raise CaptionError(
                f"{self.path} cannot be read as a raster ({error.__cause__ or error}); the file is damaged, fetch it again",
                path=str(self.path),
            ) from error
        if strange := sorted({value for value in values if value is not None and value not in self.names}):
            raise CaptionError(
                f"{self.path.name} holds {', '.join(f'{value:g}' for value in strange[:5])}, which the table of climate classes does not "
                "name; give it a row each, with an empty name where there is no class",
                path=str(self.path),
                values=strange[:5],
            )
        return [(self.names[value] or None) if value is not None else None for value in values]
