"""Terrain correction: backscatter of a GRD image straight onto the 10 m grid of a Sentinel-2 tile.

The ground is worked on in cells of 5120 m whose corners are fixed in the map, so a pixel comes out the same whatever
window, block or number of threads it was asked with. Two correctors share one protocol: ``range-doppler``, our own and
made for whole tiles, and ``sarsen``, slower and the one that flattens radiometry with the terrain.
Source: Small and Schubert, Guide to Sentinel-1 Geocoding (UZH-S1-GC-AD); layover and shadow after Kropatsch and Strobl,
The Generation of SAR Layover and Shadow Maps from Digital Elevation Models (IEEE TGRS 1990).
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyproj
from scipy.ndimage import map_coordinates

from rsdata.errors import SceneError
from rsdata.scenes.dem import Dem
from rsdata.scenes.grd import Channel, GrdProduct, read_lines
from rsdata.scenes.grd_geometry import FIT_TOLERANCE_PX, LINE, OFF_NADIR, SLANT_RANGE, CellGeometry, fit_cell
from rsdata.scenes.grd_radiometry import BORDER_FREE_IPF, Border, Quantity, calibrate, find_border

PIXEL_M = 10
CELL_PX = 512
CELL_M = CELL_PX * PIXEL_M

# Why a pixel is missing; flags that may come together.
OUTSIDE, NO_HEIGHT, LAYOVER, SHADOW = 1, 2, 4, 8

_CELLS_KEPT = 160  # heights of as many cells stay in memory, about 1 MiB each
_STEEP_MARGIN = 0.95  # below this share of the slope that layover needs, a cell is not searched for it


@dataclass(frozen=True)
class Ground:
    """A window of 10 m pixels in a map."""

    epsg: int
    ul_x_m: int  # outer edge of the first pixel
    ul_y_m: int
    height_px: int
    width_px: int

    def __post_init__(self) -> None:
        if self.ul_x_m % PIXEL_M or self.ul_y_m % PIXEL_M:
            raise SceneError(f"the corner ({self.ul_x_m}, {self.ul_y_m}) is not on a grid of 10 m; take that of the Sentinel-2 tile")


@dataclass(frozen=True)
class Corrected:
    """Backscatter on the ground."""

    power: np.ndarray  # (y, x) float32, unitless; NaN is missing; may be negative where noise was taken off
    mask: np.ndarray  # (y, x) uint8: 0 is usable, else the sum of OUTSIDE, NO_HEIGHT, LAYOVER, SHADOW


class TerrainCorrector(Protocol):
    """What brings one polarisation of a product onto the ground."""

    def __call__(
        self,
        product: GrdProduct,
        polarisation: str,
        dem: Dem,
        ground: Ground,
        *,
        quantity: Quantity = "sigma0",
        remove_noise: bool = True,
        flatten: bool = False,
        threads: int = 1,
        cell_rows: int = 1,
    ) -> Corrected:
        """Correct a window.

        Args:
            polarisation: such as VV.
            dem: heights; pixels without one are missing.
            ground: the window wanted.
            quantity: sigma0, gamma0 or beta0, with the ellipsoid's incidence angle; ignored when flattening.
            remove_noise: take thermal noise off.
            flatten: gamma0 normalised by the terrain's illuminated area (Small 2011) instead.
            threads: parts worked on at a time.
            cell_rows: rows of cells whose pixels are read at a time; changes memory and time, never the result.

        Raises: SceneError if pixels or heights cannot be read, or the corrector cannot do what is asked.
        """


# --- the ground in cells ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """One square of ground: heights, and how they lie in the image."""

    height_m: np.ndarray  # (512, 512) float32 above the ellipsoid
    geometry: CellGeometry | None  # None where there are no heights or the orbit does not reach
    steep: bool  # whether slopes may cast shadow or lie over

    def evaluate(self, which: int, index: tuple[int, int]) -> np.ndarray:
        if self.geometry is None:
            return np.full(self.height_m.shape, np.nan)
        return self.geometry.evaluate(which, *_axes(index), self.height_m)


def _axes(index: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Eastings and northings of a cell's pixel centres; ``index`` counts cells east and north from the map's origin."""
    steps = (np.arange(CELL_PX) + 0.5) * PIXEL_M
    return index[0] * CELL_M + steps, (index[1] + 1) * CELL_M - steps


@dataclass
class _Terrain:
    """Cells made when first asked for, and the last ones kept; threads share them."""

    channel: Channel
    dem: Dem
    epsg: int
    _kept: "OrderedDict[tuple[int, int], Future[_Cell]]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cell(self, index: tuple[int, int]) -> _Cell:
        with self._lock:
            made = self._kept.get(index)
            mine = made is None
            if made is None:
                made = self._kept[index] = Future()
                if len(self._kept) > _CELLS_KEPT:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(index)
        if mine:
            try:
                made.set_result(self._make(index))
            except BaseException as error:
                made.set_exception(error)
                raise
        return made.result()

    def _make(self, index: tuple[int, int]) -> _Cell:
        height_m = self.dem.heights(self.epsg, *_axes(index))
        if np.isnan(height_m).all():
            return _Cell(height_m, None, False)
        span = float(np.nanmin(height_m)), float(np.nanmax(height_m))
        centre = (index[0] + 0.5) * CELL_M, (index[1] + 0.5) * CELL_M
        to_lonlat = pyproj.Transformer.from_crs(self.epsg, 4326, always_xy=True)
        geometry = fit_cell(self.channel, to_lonlat.transform, centre, CELL_M / 2, span)
        if geometry is None:
            return _Cell(height_m, None, False)
        if geometry.error_px > FIT_TOLERANCE_PX:
            raise SceneError(
                f"the image's geometry bends by {geometry.error_px:.3f} pixels within 5 km of ({centre[0]:.0f}, {centre[1]:.0f}); "
                "its orbit or range conversion is damaged, so fetch the product again",
                error_px=geometry.error_px,
            )
        slope = float(np.hypot(*(np.nanmax(np.abs(np.diff(height_m, axis=axis)), initial=0) for axis in (0, 1)))) / PIXEL_M
        middle = np.full((1, 1), sum(span) / 2)
        sight = float(geometry.evaluate(OFF_NADIR, np.array([centre[0]]), np.array([centre[1]]), middle)[0, 0])
        # The incidence angle is larger than the angle at the satellite, and shadow needs more slope than layover up to
        # 45 degrees, beyond which the complement is what counts.
        steep = slope >= _STEEP_MARGIN * np.tan(min(sight, np.pi / 2 - 1.17 * sight))
        return _Cell(height_m, geometry, bool(steep))

    def flags(self, index: tuple[int, int]) -> np.ndarray | None:
        """LAYOVER and SHADOW over one cell, (512, 512) uint8; None where there is neither.

        Along a line of one zero-Doppler time, from near to far: a point lies over another if its slant range is not above
        all before it and below all after it; it lies in shadow if the satellite saw something nearer at a wider angle from
        nadir. Cells around are looked at as well, so the cause may lie 5 km away.
        """
        around = [(index[0] + right, index[1] - down) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        cells = [self.cell(each) for each in around]
        geometry = cells[4].geometry
        if geometry is None or not any(each.steep for each in cells):
            return None
        near = geometry.slant_m[0]
        slant, sight = (
            np.block(
                [
                    [
                        (cells[3 * row + col].evaluate(which, around[3 * row + col]) - base).astype(np.float32)
                        for col in range(3)
                    ]
                    for row in range(3)
                ]
            )
            for which, base in ((SLANT_RANGE, near), (OFF_NADIR, 0.0))
        )  # fmt: skip
        return _layover_and_shadow(slant, sight, geometry.range_direction())


def _layover_and_shadow(slant_m: np.ndarray, off_nadir_rad: np.ndarray, direction: tuple[float, float]) -> np.ndarray:
    """Flags of the inner third of a square raster.

    Lines of one zero-Doppler time are straight here and go by the nearest pixel, so the edge of a flagged area may be off
    by half a pixel across them.

    Args:
        slant_m: (y, x) slant range, metres from any origin.
        off_nadir_rad: (y, x).
        direction: unit vector (east, north) away from the satellite.

    Returns: (y / 3, x / 3) uint8.
    """
    east, north = direction
    step_x, step_y = east, -north  # rows count southward
    turned = abs(step_y) > abs(step_x)
    if turned:
        slant_m, off_nadir_rad, step_x, step_y = slant_m.T, off_nadir_rad.T, step_y, step_x
    if step_x < 0:
        slant_m, off_nadir_rad = slant_m[:, ::-1], off_nadir_rad[:, ::-1]
    side = slant_m.shape[0]
    third = side // 3
    cols = np.arange(side)
    shift = np.rint(step_y / abs(step_x) * (cols - side // 2)).astype(np.int64)
    reach = int(np.abs(shift[third : 2 * third]).max())
    first = third - reach
    base = np.arange(first, 2 * third + reach)
    rows = np.clip(base[:, None] + shift[None, :], 0, side - 1)
    slant, sight = slant_m[rows, cols], off_nadir_rad[rows, cols]
    farthest_before = np.fmax.accumulate(slant, axis=1)
    nearest_after = np.fmin.accumulate(slant[:, ::-1], axis=1)[:, ::-1]
    widest_before = np.fmax.accumulate(sight, axis=1)
    found = ((slant < farthest_before) | (slant > nearest_after)).astype(np.uint8) * np.uint8(LAYOVER)
    found |= (sight < widest_before).astype(np.uint8) * np.uint8(SHADOW)
    inner = np.arange(third, 2 * third)
    flags = found[inner[:, None] - shift[inner][None, :] - first, inner[None, :]]
    if step_x < 0:
        flags = flags[:, ::-1]
    return np.ascontiguousarray(flags.T if turned else flags)


def _strips(ground: Ground, cell_rows: int) -> list[list[tuple[int, int]]]:
    """Cells a window touches, row by row from the north, ``cell_rows`` rows together."""
    east = range(ground.ul_x_m // CELL_M, (ground.ul_x_m + ground.width_px * PIXEL_M - 1) // CELL_M + 1)
    north = range((ground.ul_y_m - 1) // CELL_M, (ground.ul_y_m - ground.height_px * PIXEL_M) // CELL_M - 1, -1)
    rows = [[(x, y) for x in east] for y in north]
    return [[cell for row in rows[i : i + cell_rows] for cell in row] for i in range(0, len(rows), cell_rows)]


def _overlap(ground: Ground, index: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a cell lies in the window, and which part of the cell does, as (y, x) slices."""
    left, top = (index[0] * CELL_M - ground.ul_x_m) // PIXEL_M, (ground.ul_y_m - (index[1] + 1) * CELL_M) // PIXEL_M
    y0, y1 = max(top, 0), min(top + CELL_PX, ground.height_px)
    x0, x1 = max(left, 0), min(left + CELL_PX, ground.width_px)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def cells_of(ground: Ground) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice], tuple[np.ndarray, np.ndarray]]]:
    """Cells a window touches: index, where it lies in the window, which part of it does, and its eastings and northings."""
    for strip in _strips(ground, 1):
        for index in strip:
            yield index, *_overlap(ground, index), _axes(index)


def hidden_flags(channel: Channel, dem: Dem, epsg: int, index: tuple[int, int]) -> np.ndarray | None:
    """Layover and shadow over one cell, (512, 512) uint8 flags; None where there is neither."""
    return _Terrain(channel, dem, epsg).flags(index)


# --- our own ----------------------------------------------------------------------------------------------


def range_doppler(
    product: GrdProduct,
    polarisation: str,
    dem: Dem,
    ground: Ground,
    *,
    quantity: Quantity = "sigma0",
    remove_noise: bool = True,
    flatten: bool = False,
    threads: int = 1,
    cell_rows: int = 1,
) -> Corrected:
    """Correct a window by polynomials fitted to the range-Doppler equations, see ``TerrainCorrector``.

    Power is sampled bilinearly between pixel centres; a pixel is missing if one of the four it needs is.
    """
    if flatten:
        raise SceneError("the corrector range-doppler does not flatten radiometry with the terrain; name the corrector sarsen for that")
    channel = product.channel(polarisation)
    terrain = _Terrain(channel, dem, ground.epsg)
    power = np.full((ground.height_px, ground.width_px), np.nan, np.float32)
    mask = np.full(power.shape, OUTSIDE, np.uint8)
    border = border_of(product, polarisation)

    def work(strip: list[tuple[int, int]]) -> None:
        places: list[tuple[tuple[int, int], np.ndarray, np.ndarray]] = []
        for index in strip:
            cell = terrain.cell(index)
            inside, part = _overlap(ground, index)
            if cell.geometry is None:
                mask[inside] = np.where(np.isnan(cell.height_m[part]), NO_HEIGHT, OUTSIDE)
                continue
            line = cell.evaluate(LINE, index)
            pixel = cell.geometry.pixel(line, cell.evaluate(SLANT_RANGE, index))
            places.append((index, line[part], pixel[part]))
        for first, dn, (index, line, pixel) in _with_pixels(product, polarisation, places):
            inside, part = _overlap(ground, index)
            backscatter = calibrate(dn, channel, quantity, *first, remove_noise=remove_noise, border=border)
            line -= first[0]
            pixel -= first[1]
            sampled = map_coordinates(backscatter, [line, pixel], order=1, output=np.float32, cval=np.nan, prefilter=False)
            flags = np.isnan(sampled).astype(np.uint8) * np.uint8(OUTSIDE)
            flags[np.isnan(line)] = NO_HEIGHT
            hidden = terrain.flags(index)
            if hidden is not None:
                flags |= hidden[part]
                sampled[flags != 0] = np.nan
            power[inside], mask[inside] = sampled, flags

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for done in [pool.submit(work, strip) for strip in _strips(ground, max(cell_rows, 1))]:
            done.result()
    return Corrected(power, mask)


def border_of(product: GrdProduct, polarisation: str) -> Border | None:
    """The dark border of images made before IPF 2.9; later ones have zeros there."""
    if product.ipf_version >= BORDER_FREE_IPF:
        return None
    with product.open_pixels(polarisation) as raster:
        return find_border(raster)


_Place = tuple[tuple[int, int], np.ndarray, np.ndarray]


def _with_pixels(product: GrdProduct, polarisation: str, places: list[_Place]) -> Iterator[tuple[tuple[int, int], np.ndarray, _Place]]:
    """Cells with the DN they need: (first line, first pixel), DN, and the cell. Pixels are read once for all of them."""
    shape_yx = product.channel(polarisation).shape_yx
    wanted = []
    for place in places:
        spans = [_span(image, size) for image, size in zip(place[1:], shape_yx, strict=True)]
        wanted.append((place, spans))
    seen = [spans for _, spans in wanted if all(spans)]
    if seen:
        lines = slice(min(s[0].start for s in seen), max(s[0].stop for s in seen))  # type: ignore[union-attr]
        pixels = slice(min(s[1].start for s in seen), max(s[1].stop for s in seen))  # type: ignore[union-attr]
        with product.open_pixels(polarisation) as raster:
            dn = read_lines(raster, lines, pixels)
    for place, (rows, cols) in wanted:
        if rows is None or cols is None:
            yield (0, 0), np.zeros((1, 1), np.uint16), place
        else:
            part = dn[rows.start - lines.start : rows.stop - lines.start, cols.start - pixels.start : cols.stop - pixels.start]
            yield (rows.start, cols.start), part, place


def _span(image: np.ndarray, size: int) -> slice | None:
    """Lines or pixels of the image that bilinear sampling at these places touches; None if there are none."""
    known = image[np.isfinite(image)]
    if not known.size:
        return None
    first, last = max(int(np.floor(known.min())), 0), min(int(np.ceil(known.max())) + 1, size)
    return slice(first, last) if first < last else None
