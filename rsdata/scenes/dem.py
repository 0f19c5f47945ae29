"""Terrain heights above the WGS 84 ellipsoid, on any map grid, from elevation models whose vertical datum is known.

Most elevation models hold heights above the sea, and up to a hundred metres lie between the sea and the ellipsoid. Taken
for each other they shift a radar image by several pixels while all seems well, so a height without a stated datum is
refused, and one above a geoid asks for that geoid's grid.
Source of the datums: EPSG registry, vertical CRS 5773 (EGM96 height) and 3855 (EGM2008 height).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyproj
import rasterio
from pyproj.exceptions import CRSError, ProjError
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import Resampling
from rasterio.windows import Window
from scipy.ndimage import map_coordinates

from rsdata.errors import SceneError
from rsdata.foreign import RASTER_ERRORS
from rsdata.scenes.mosaic import rasters_in
from rsdata.scenes.product import making_sense

Datum = Literal["ellipsoid", "EGM96", "EGM2008"]
_BY_EPSG: dict[int, Datum] = {5773: "EGM96", 3855: "EGM2008"}
_GEOID_NAMES: tuple[tuple[str, Datum], ...] = (("egm96", "EGM96"), ("egm08", "EGM2008"), ("egm2008", "EGM2008"))
_COORDINATE_DEGREE = 4  # of the polynomials from map to raster coordinates over one cell: exact to a millionth of a pixel
_NODES = 9
_MOST_PIXELS = 2**29  # held at once, 2 GiB; the finest geoid grid in use has less than half as many
_SEA_MARGIN = 0.001  # degrees, a pixel of the 90 m model
_GEOID_STEPS = 33  # points of the geoid per side of a cell


@dataclass(frozen=True)
class RasterFile:
    """One raster file of heights, as its header tells it."""

    path: str
    crs_wkt: str  # horizontal part
    transform: Affine
    shape_yx: tuple[int, int]
    nodata: float | None
    datum: Datum | None  # as the file states it


@dataclass(frozen=True)
class Geoid:
    """Height of a geoid above the ellipsoid, in metres, on a grid of longitude and latitude."""

    path: str
    datum: Datum | None  # which geoid, where tags or name tell it
    transform: Affine
    undulation_m: np.ndarray  # (y, x) float32

    def at(self, lon_deg: np.ndarray, lat_deg: np.ndarray) -> np.ndarray:
        """Undulation at points, bilinear, any shape; NaN outside the grid."""
        width = self.undulation_m.shape[1]
        row = (lat_deg - self.transform.f) / self.transform.e - 0.5
        col = (lon_deg - self.transform.c) / self.transform.a - 0.5
        turn = 360 / self.transform.a
        if width >= turn - 1:  # the whole globe: columns go round, and one more joins the two ends
            col = np.mod(col, turn)
            wrapped = np.concatenate([self.undulation_m, self.undulation_m[:, :2]], axis=1) if width < turn + 1 else self.undulation_m
        else:
            col = np.where(col > width - 0.5, col - turn, col)
            col = np.where(col < -0.5, col + turn, col)
            wrapped = self.undulation_m
        # Within half a pixel of the grid's edge the outermost value holds.
        row = np.where((row > -0.5001) & (row < len(wrapped) - 0.4999), np.clip(row, 0, len(wrapped) - 1), row)
        col = np.where((col > -0.5001) & (col < wrapped.shape[1] - 0.4999), np.clip(col, 0, wrapped.shape[1] - 1), col)
        return np.asarray(map_coordinates(wrapped, [row, col], order=1, output=np.float64, cval=np.nan, prefilter=False))


@dataclass(frozen=True)
class Dem:
    """One or several height rasters, their datum, and the geoid that brings them to the ellipsoid."""

    files: tuple[RasterFile, ...]  # where they overlap, the first that has a height there
    datum: Datum
    geoid: Geoid | None
    sea: tuple[tuple[int, int], ...] = ()  # south-western corners of squares of one degree, (latitude, longitude): height 0

    def heights(self, epsg: int, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """Heights above the ellipsoid over a raster of a map, bilinear between the model's pixel centres.

        Args:
            epsg: of the map.
            x_m: (x,) eastings of pixel centres, evenly spaced.
            y_m: (y,) northings of pixel centres, evenly spaced.

        Returns: (y, x) float32 metres; NaN where no file has a height.
        """
        found = np.full((len(y_m), len(x_m)), np.nan, np.float32)
        groups = _grids(self.files)
        # The second round, by nearest neighbour, closes the half pixel between two models of different pixel sizes.
        for order, group in [(1, each) for each in groups] + [(0, each) for each in groups]:
            if not np.isnan(found).any():
                break
            np.copyto(found, _sample(group, epsg, x_m, y_m, order), where=np.isnan(found))
        if self.sea and (missing := np.isnan(found)).any():
            rows, cols = np.nonzero(missing)
            at_sea = _within(self.sea, epsg, x_m[cols], y_m[rows])
            found[rows[at_sea], cols[at_sea]] = 0
        if self.geoid is not None:
            found += _lattice(self.geoid, epsg, x_m, y_m)
        return found


def open_dem(
    paths: Sequence[str | Path], *, datum: Datum | None = None, geoid: str | Path | None = None, sea: Sequence[tuple[int, int]] = ()
) -> Dem:
    """Open an elevation model; only headers and the geoid grid are read.

    Args:
        paths: rasters of heights in metres, on any grids; or folders with such ``.tif``, such as tiles of the Copernicus DEM.
        datum: what the heights are above, where the files do not say it in their CRS.
        geoid: grid of the geoid's height above the ellipsoid, such as PROJ's ``us_nga_egm96_15.tif`` or ``egm08_25.gtx``.
        sea: south-western corners (latitude, longitude) of the squares of one degree where no file means height 0.

    Raises: SceneError if a file cannot be opened, its datum is not stated or contradicts the one given, or the geoid grid is
        missing or that of another geoid.
    """
    names: list[str] = []
    for path in paths:
        names += rasters_in(Path(path)) if Path(path).is_dir() else [str(path)]
    if not names:
        raise SceneError(f"no elevation model among {', '.join(map(str, paths)) or 'nothing'}; name GeoTIFFs of heights")
    files = tuple(_open_file(name) for name in names)
    for each in files:
        if each.datum is None and datum is None:
            raise SceneError(
                f"{each.path} does not say what its heights are above; state it (ellipsoid, EGM96 or EGM2008), as the difference "
                "shifts a radar image by several pixels. The Copernicus DEM is above EGM2008, SRTM above EGM96",
                path=each.path,
            )
        if each.datum is not None and datum is not None and each.datum != datum:
            raise SceneError(
                f"{each.path} says its heights are above {each.datum}, and {datum} was stated; drop one of the two", path=each.path
            )
    stated = {each.datum or datum for each in files}
    if len(stated) > 1:
        raise SceneError(f"the elevation models are above {' and '.join(sorted(map(str, stated)))}; use models of one datum")
    found: Datum = files[0].datum or datum  # type: ignore[assignment]  # one of the two is known by now
    if found == "ellipsoid":
        if geoid is not None:
            raise SceneError(
                f"{files[0].path} holds heights above the ellipsoid, yet the geoid {geoid} is given; drop the geoid, "
                "or state the datum that the heights are above",
                path=files[0].path,
            )
        if sea:
            raise SceneError(
                f"{files[0].path} holds heights above the ellipsoid, where the sea is not at 0; give an elevation model above a geoid, "
                "or leave out `dem_sea` and fill the sea in the files",
                path=files[0].path,
            )
        return Dem(files, found, None)
    if geoid is None:
        raise SceneError(
            f"{files[0].path} holds heights above {found}; give the grid of that geoid (PROJ's "
            f"{'us_nga_egm96_15.tif' if found == 'EGM96' else 'us_nga_egm08_25.tif'}), or heights above the ellipsoid",
            path=files[0].path,
            datum=found,
        )
    grid = open_geoid(geoid)
    if grid.datum is not None and grid.datum != found:
        raise SceneError(
            f"{geoid} is the geoid {grid.datum}, and {files[0].path} is above {found}; give the geoid of the heights", path=grid.path
        )
    return Dem(files, found, grid, tuple(sea))


def open_geoid(path: str | Path) -> Geoid:
    """Read a grid of geoid heights in longitude and latitude, metres.

    Raises: SceneError if it cannot be read, is not in longitude and latitude, or holds what no geoid holds.
    """
    try:
        with rasterio.open(path) as raster:
            if raster.width * raster.height > _MOST_PIXELS:
                raise SceneError(
                    f"the geoid {path} claims {raster.height} x {raster.width} pixels, more than any geoid grid; name a PROJ grid",
                    path=str(path),
                )
            tags, transform, values = raster.tags(), raster.transform, raster.read(1, masked=True).filled(np.nan)
            geographic = raster.crs is None or raster.crs.is_geographic
    except RASTER_ERRORS as error:
        raise SceneError(
            f"the geoid {path} cannot be read ({error}); name a PROJ grid such as us_nga_egm96_15.tif", path=str(path)
        ) from error
    if not geographic or transform.b or transform.d:
        raise SceneError(f"the geoid {path} is not on a grid of longitude and latitude; name a PROJ grid", path=str(path))
    known = values[np.isfinite(values)]
    # The Earth's geoid lies between -107 and +86 m from the ellipsoid.
    if not known.size or known.min() < -120 or known.max() > 120:
        raise SceneError(
            f"the geoid {path} holds {known.min() if known.size else 'nothing'} to {known.max() if known.size else 'nothing'} m; "
            "a geoid lies within 120 m of the ellipsoid, so name another file",
            path=str(path),
        )
    datum = next((name for part, name in _GEOID_NAMES if part in Path(path).name.lower()), None)
    if code := re.search(r"\d+", tags.get("target_crs_epsg_code", "")):
        datum = _BY_EPSG.get(int(code[0]), datum)
    return Geoid(str(path), datum, transform, values.astype(np.float32))


def _open_file(path: str) -> RasterFile:
    try:
        with rasterio.open(path) as raster:
            if raster.crs is None:
                raise SceneError(f"{path} has no CRS; name a georeferenced elevation model", path=path)
            crs = pyproj.CRS(raster.crs.to_wkt(version="WKT2_2019"))
            if raster.transform.b or raster.transform.d or raster.transform.e > 0:
                raise SceneError(f"{path} is not north up; warp it first", path=path)
            return RasterFile(path, _horizontal(crs).to_wkt(), raster.transform, raster.shape, raster.nodata, _datum(crs))
    except (*RASTER_ERRORS, CRSError) as error:
        raise SceneError(f"the elevation model {path} cannot be opened ({error}); name a GeoTIFF of heights", path=path) from error


def _datum(crs: pyproj.CRS) -> Datum | None:
    if not crs.is_compound:
        return "ellipsoid" if len(crs.axis_info) == 3 else None
    vertical = next((part for part in crs.sub_crs_list if part.is_vertical), None)
    if vertical is None:
        return None
    code = vertical.to_epsg()
    if code in _BY_EPSG:
        return _BY_EPSG[code]
    if "ellipsoid" in vertical.name.lower():  # GDAL writes three-dimensional CRS as a horizontal one with such a height
        return "ellipsoid"
    named = [name for part, name in _GEOID_NAMES if part in vertical.name.lower()]
    if named:
        return named[0]
    raise SceneError(
        f"the elevation model's heights are in {vertical.name!r}; convert them to heights above the ellipsoid, EGM96 or EGM2008",
        vertical=vertical.name,
    )


def _horizontal(crs: pyproj.CRS) -> pyproj.CRS:
    if crs.is_compound:
        return crs.sub_crs_list[0]
    return crs.to_2d() if len(crs.axis_info) == 3 else crs


# --- sampling ---------------------------------------------------------------------------------------------


def _grids(files: Sequence[RasterFile]) -> list[list[RasterFile]]:
    """Files that share CRS and pixel size come together: they are laid out as one raster, so no seam shows."""
    groups: dict[tuple[str, float, float], list[RasterFile]] = {}
    for each in files:
        groups.setdefault((each.crs_wkt, round(each.transform.a, 12), round(each.transform.e, 12)), []).append(each)
    return list(groups.values())


def _sample(files: list[RasterFile], epsg: int, x_m: np.ndarray, y_m: np.ndarray, order: int) -> np.ndarray:
    """Heights from files of one pixel size, bilinear (order 1) or nearest (0), (y, x) float32; NaN where there are none."""
    first = files[0]
    col, row = _raster_coordinates(first, epsg, x_m, y_m)
    with making_sense(first.path, "name another elevation model"):
        reach = _extent(row), _extent(col)
    pixels = (reach[0][1] - reach[0][0]) * (reach[1][1] - reach[1][0])
    if pixels > _MOST_PIXELS:
        raise SceneError(
            f"the elevation model {first.path} has {pixels:,} pixels over the scene; more than {_MOST_PIXELS:,} are not held in memory, so "
            "name a coarser one",
            path=first.path,
        )
    nothing = np.full((len(y_m), len(x_m)), np.nan, np.float32)
    mosaic = np.full((reach[0][1] - reach[0][0], reach[1][1] - reach[1][0]), np.nan, np.float32)
    touched = False
    for each in files:
        touched |= _paste(each, first, reach, mosaic)
    if not touched:
        return nothing
    row -= reach[0][0]
    col -= reach[1][0]
    return np.asarray(map_coordinates(mosaic, [row, col], order=order, output=np.float32, cval=np.nan, prefilter=False))


def _extent(index: np.ndarray) -> tuple[int, int]:
    return math.floor(float(index.min())) - 1, math.ceil(float(index.max())) + 2


def _raster_coordinates(file: RasterFile, epsg: int, x_m: np.ndarray, y_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column and row in a raster, counted between pixel centres, of every point of a map's raster, (y, x) float64 each.

    Projecting every point would take longer than all else, so a polynomial is fitted through a few.
    """
    try:
        to_raster = pyproj.Transformer.from_crs(epsg, file.crs_wkt, always_xy=True)
    except ProjError as error:
        raise SceneError(
            f"{file.path} states a CRS that nothing can be converted to ({error}); assign its own with gdal_edit.py -a_srs",
            path=file.path,
        ) from error
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    half_x, half_y = max(np.ptp(x_m) / 2, 1.0), max(np.ptp(y_m) / 2, 1.0)
    mid_x, mid_y = (x_m[0] + x_m[-1]) / 2, (y_m[0] + y_m[-1]) / 2
    grid_x, grid_y = np.meshgrid(mid_x + nodes * half_x, mid_y + nodes * half_y)
    across, along = to_raster.transform(grid_x, grid_y)
    across = np.where(np.ptp(across) > 180, np.mod(across, 360), across) if pyproj.CRS(file.crs_wkt).is_geographic else across
    col = (np.asarray(across) - file.transform.c) / file.transform.a - 0.5
    row = (np.asarray(along) - file.transform.f) / file.transform.e - 0.5
    solve = np.linalg.pinv(np.polynomial.chebyshev.chebvander(nodes, _COORDINATE_DEGREE))
    in_x = np.polynomial.chebyshev.chebvander((x_m - mid_x) / half_x, _COORDINATE_DEGREE)
    in_y = np.polynomial.chebyshev.chebvander((y_m - mid_y) / half_y, _COORDINATE_DEGREE)
    across = np.ascontiguousarray(in_x.T)
    # Not by @: BLAS spreads so thin a product over threads, which then wait for each other a hundred times as long.
    found_col, found_row = (np.einsum("yi,ix->yx", in_y @ (solve @ each @ solve.T), across) for each in (col, row))
    return found_col, found_row


def _paste(file: RasterFile, first: RasterFile, reach: tuple[tuple[int, int], tuple[int, int]], mosaic: np.ndarray) -> bool:
    """Fill gaps of the mosaic, which lies on the first file's grid, from one file; whether it has anything there."""
    down = (file.transform.f - first.transform.f) / first.transform.e
    right = (file.transform.c - first.transform.c) / first.transform.a
    (top, bottom), (left, stop) = reach
    if down + file.shape_yx[0] <= top or down >= bottom or right + file.shape_yx[1] <= left or right >= stop:
        return False
    try:
        with rasterio.open(file.path) as raster:
            if abs(down - round(down)) > 1e-3 or abs(right - round(right)) > 1e-3:
                # Pixels of another phase, as where tiles were cut by hand: brought onto the first grid.
                part, y0, x0 = _warped(raster, file, first, reach), top, left
            else:
                y0, x0 = max(top, round(down)), max(left, round(right))
                y1, x1 = min(bottom, round(down) + file.shape_yx[0]), min(stop, round(right) + file.shape_yx[1])
                window = Window.from_slices((y0 - round(down), y1 - round(down)), (x0 - round(right), x1 - round(right)))
                part = raster.read(1, window=window, masked=True).astype(np.float32).filled(np.nan)
    except RASTER_ERRORS as error:
        raise SceneError(
            f"the elevation model {file.path} cannot be decoded ({error.__cause__ or error}); fetch it again", path=file.path
        ) from error
    target = mosaic[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]]
    np.copyto(target, part, where=np.isnan(target))
    return True


def _warped(raster: DatasetReader, file: RasterFile, first: RasterFile, reach: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    (top, bottom), (left, stop) = reach
    with WarpedVRT(
        raster,
        src_crs=file.crs_wkt,
        crs=first.crs_wkt,
        transform=first.transform * Affine.translation(left, top),
        height=bottom - top,
        width=stop - left,
        resampling=Resampling.bilinear,
        src_nodata=file.nodata,
        nodata=np.nan,
        dtype="float32",
        add_alpha=False,
    ) as warped:
        return np.asarray(warped.read(1, masked=True).astype(np.float32).filled(np.nan))


def _within(squares: Sequence[tuple[int, int]], epsg: int, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """Whether points of a map lie in squares of one degree, (n,) bool.

    The squares are taken a little too large: the outermost pixels of the Copernicus DEM's tiles end half a pixel beside
    the whole degree, and between land and sea that half would belong to neither.
    """
    lon, lat = (np.asarray(each) for each in pyproj.Transformer.from_crs(epsg, 4326, always_xy=True).transform(x_m, y_m))
    found = np.zeros(lon.shape, bool)
    for south, west in squares:
        right = np.mod(lon - west + 180, 360) - 180
        found |= (lat > south - _SEA_MARGIN) & (lat < south + 1 + _SEA_MARGIN) & (right > -_SEA_MARGIN) & (right < 1 + _SEA_MARGIN)
    return found


def _lattice(geoid: Geoid, epsg: int, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """Undulation over a map's raster, (y, x) float32: sampled on a coarse lattice, bilinear between its points."""
    to_lonlat = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    knots_x, knots_y = np.linspace(x_m[0], x_m[-1], _GEOID_STEPS), np.linspace(y_m[0], y_m[-1], _GEOID_STEPS)
    values = geoid.at(*to_lonlat.transform(*np.meshgrid(knots_x, knots_y)))
    weights = [_hats(np.linspace(0, _GEOID_STEPS - 1, len(axis))) for axis in (y_m, x_m)]
    return np.einsum("yi,ix->yx", weights[0] @ values, np.ascontiguousarray(weights[1].T)).astype(np.float32)


def _hats(at: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(at[:, None] - np.arange(_GEOID_STEPS)[None, :]), 0, 1)
