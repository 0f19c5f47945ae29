"""Where patches lie: the 1200 m grid over one Sentinel-2 tile, in the tile's own UTM zone.

Columns count eastward and rows southward from the tile's upper-left corner, so cutting a patch is a slice
and never a resampling. A raster that covers only a part of its tile holds the patches that lie wholly in it,
with the same numbers they would have in the whole tile.
"""

import math
import re
from dataclasses import dataclass

import numpy as np
import pyproj
import shapely

from rsdata.errors import GridError

TILE_SIDE_M = 109_800
PATCH_SIDE_M = 1_200
PATCHES_PER_SIDE = TILE_SIDE_M // PATCH_SIDE_M  # 91; the last partial row and column are dropped

_SQUARE_M = 100_000
_EQUATOR_SOUTH_M = 10_000_000  # false northing of the southern UTM zones
_COLUMN_LETTERS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")  # zones 1, 2, 3, then again
_ROW_LETTERS = "ABCDEFGHJKLMNPQRSTUV"
_ROW_CYCLE_M = 2_000_000
# Smallest northing that occurs in each latitude band, rounded down to 100 km. Source: NGA, MGRS (STANAG 2211).
_BAND_NORTHING_M = {
    "C": 1_100_000, "D": 2_000_000, "E": 2_800_000, "F": 3_700_000, "G": 4_600_000, "H": 5_500_000,
    "J": 6_400_000, "K": 7_300_000, "L": 8_200_000, "M": 9_100_000, "N": 0, "P": 800_000,
    "Q": 1_700_000, "R": 2_600_000, "S": 3_500_000, "T": 4_400_000, "U": 5_300_000, "V": 6_200_000,
    "W": 7_000_000, "X": 7_900_000,
}  # fmt: skip
_TILE_NAME = re.compile(r"(?P<zone>\d{2})(?P<band>[C-HJ-NP-X])(?P<column>[A-HJ-NP-Z])(?P<row>[A-HJ-NP-V])", re.ASCII)


@dataclass(frozen=True)
class Tile:
    """A Sentinel-2 tile: its MGRS name, UTM zone and upper-left corner in metres."""

    name: str
    epsg: int
    ul_x_m: int
    ul_y_m: int

    @classmethod
    def from_name(cls, name: str) -> "Tile":
        """Work out a tile's zone and corner from its MGRS name alone, such as ``33UUP``.

        Sentinel-2 puts the corner on the 60 m lattice that starts at the equator and at the zone's false
        easting, outside the 100 km square. South of the equator the lattice counts from the equator too, so
        the false northing is taken off before rounding.

        Raises: GridError if the name is not that of an MGRS 100 km square.
        """
        match = _TILE_NAME.fullmatch(name)
        if match is None or not 1 <= int(match["zone"]) <= 60:
            raise GridError(f"{name!r} is not an MGRS tile; expected two digits and three letters such as 33UUP", tile=name)
        zone, south = int(match["zone"]), match["band"] < "N"
        letters = _COLUMN_LETTERS[(zone - 1) % 3]
        if match["column"] not in letters:
            raise GridError(f"{name!r} is not an MGRS tile; zone {zone} has the columns {letters}", tile=name)
        easting_m = (letters.index(match["column"]) + 1) * _SQUARE_M
        row = (_ROW_LETTERS.index(match["row"]) - (0 if zone % 2 else 5)) % len(_ROW_LETTERS)
        northing_m = row * _SQUARE_M
        while northing_m < _BAND_NORTHING_M[match["band"]]:
            northing_m += _ROW_CYCLE_M
        from_equator_m = northing_m + _SQUARE_M - (_EQUATOR_SOUTH_M if south else 0)
        return cls(
            name=name,
            epsg=(32700 if south else 32600) + zone,
            ul_x_m=math.floor(easting_m / 60) * 60,
            ul_y_m=math.ceil(from_equator_m / 60) * 60 + (_EQUATOR_SOUTH_M if south else 0),
        )


@dataclass(frozen=True)
class PatchGrid:
    """The patches of a tile that lie wholly inside one raster."""

    tile: Tile
    ul_x_m: int  # of the raster, on the tile's grid
    ul_y_m: int
    width_m: int
    height_m: int

    @classmethod
    def whole(cls, tile: Tile) -> "PatchGrid":
        return cls(tile, tile.ul_x_m, tile.ul_y_m, TILE_SIDE_M, TILE_SIDE_M)

    def __post_init__(self) -> None:
        right_m, down_m = self.ul_x_m - self.tile.ul_x_m, self.tile.ul_y_m - self.ul_y_m
        if min(right_m, down_m) < 0 or max(right_m + self.width_m, down_m + self.height_m) > TILE_SIDE_M:
            raise GridError(
                f"a raster with its corner at ({self.ul_x_m}, {self.ul_y_m}) and {self.width_m} x {self.height_m} m does not "
                f"lie in tile {self.tile.name}, whose corner is ({self.tile.ul_x_m}, {self.tile.ul_y_m})",
                tile=self.tile.name,
            )
        if right_m % 60 or down_m % 60:
            raise GridError(
                f"a raster's corner lies {right_m} m east and {down_m} m south of tile {self.tile.name}'s corner; "
                "expected multiples of 60 m, so that bands of 10, 20 and 60 m share their edges",
                tile=self.tile.name,
            )

    @property
    def cols(self) -> range:
        """Patch columns wholly inside the raster."""
        return _span(self.ul_x_m - self.tile.ul_x_m, self.width_m)

    @property
    def rows(self) -> range:
        """Patch rows wholly inside the raster."""
        return _span(self.tile.ul_y_m - self.ul_y_m, self.height_m)

    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of every patch, (n,) int64 each, row by row."""
        rows, cols = np.meshgrid(np.array(self.rows, int), np.array(self.cols, int), indexing="ij")
        return cols.ravel(), rows.ravel()

    def window(self, col: int, row: int, gsd_m: int) -> tuple[slice, slice]:
        """Pixels of one patch in a band of ``gsd_m`` metres, as (y, x) slices of the raster."""
        left = (self.tile.ul_x_m + col * PATCH_SIDE_M - self.ul_x_m) // gsd_m
        top = (self.ul_y_m - self.tile.ul_y_m + row * PATCH_SIDE_M) // gsd_m
        side = PATCH_SIDE_M // gsd_m
        return slice(top, top + side), slice(left, left + side)

    def cut(self, pixels: np.ndarray, gsd_m: int) -> np.ndarray:
        """View a raster (y, x) as its patches (row, col, y, x); nothing is copied."""
        if not self.rows or not self.cols:
            side = PATCH_SIDE_M // gsd_m
            return np.empty((len(self.rows), len(self.cols), side, side), pixels.dtype)
        first, last = self.window(self.cols[0], self.rows[0], gsd_m), self.window(self.cols[-1], self.rows[-1], gsd_m)
        inner = pixels[first[0].start : last[0].stop, first[1].start : last[1].stop]
        side = PATCH_SIDE_M // gsd_m
        return inner.reshape(len(self.rows), side, len(self.cols), side).swapaxes(1, 2)


def _span(offset_m: int, extent_m: int) -> range:
    first = math.ceil(offset_m / PATCH_SIDE_M)
    return range(first, max(first, min((offset_m + extent_m) // PATCH_SIDE_M, PATCHES_PER_SIDE)))


def corners(tile: Tile, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper-left corner of patches in the tile's UTM zone: x and y in metres."""
    return tile.ul_x_m + PATCH_SIDE_M * np.asarray(col), tile.ul_y_m - PATCH_SIDE_M * np.asarray(row)


def footprints(ul_x_m: np.ndarray, ul_y_m: np.ndarray, epsg: int) -> np.ndarray:
    """Outlines of patches in longitude and latitude (EPSG:4326), (n,) shapely polygons.

    Each side is drawn by its two corners; over 1200 m a UTM line strays from the chord by far less than a
    pixel. A patch across the 180th meridian has longitudes beyond 180 degrees rather than a torn outline.
    """
    to_lonlat = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    x = np.asarray(ul_x_m)[:, None] + np.array([0, PATCH_SIDE_M, PATCH_SIDE_M, 0, 0])
    y = np.asarray(ul_y_m)[:, None] - np.array([PATCH_SIDE_M, PATCH_SIDE_M, 0, 0, PATCH_SIDE_M])
    lon, lat = (np.asarray(degrees) for degrees in to_lonlat.transform(x, y))
    torn = np.ptp(lon, axis=1) > 180
    lon[torn] = np.where(lon[torn] < 0, lon[torn] + 360, lon[torn])
    return np.asarray(shapely.polygons(np.stack([lon, lat], axis=-1)))
