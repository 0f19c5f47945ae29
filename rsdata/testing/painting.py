"""Paints what the satellites would see of a made-up ground: counts, scene classification, clouds, backscatter.

The raster is painted in blocks that are fixed to the tile, so a pixel does not depend on how much is painted
at a time, nor on how many threads paint.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np

from rsdata.grid import PatchGrid
from rsdata.sensors.sentinel2 import NODATA_COUNTS, OFFSET_COUNTS, QUANTIFICATION, SCL_GSD_M, SENTINEL2
from rsdata.testing.ground import Ground
from rsdata.testing.noise import generator, hashed, key, smooth_block
from rsdata.testing.surfaces import BAND_ORDER, SURFACES, greenness, spectrum

_BLOCK_PX = 480  # at 10 m; a multiple of 6, so that blocks hold whole 20 and 60 m pixels
_GRAINS_PX = (2, 6, 24, 96)
_GRAIN_NAMES = ("grain 20 m", "grain 60 m", "grain 240 m", "grain 960 m")
_SENSOR_NOISE = {10: 0.0035, 20: 0.0028, 60: 0.0020}  # reflectance, standard deviation by ground sampling distance
_LOOKS = 4.9  # equivalent number of looks of a GRD product in IW mode
_NOISE_FLOOR = 10**-2.9  # of both polarisations, linear
_DB_STEP = 1 / 128  # backscatter is rounded to this, so that files stay small

_NO_POLYGON = next(index for index, surface in enumerate(SURFACES) if surface.code == 0)


@dataclass(frozen=True)
class Cloud:
    """An elliptic cloud with ragged edges; places are pixels of 10 m from the tile's corner."""

    y: float
    x: float
    radius_px: tuple[float, float]
    angle: float  # radians
    shadow_px: tuple[int, int]  # from the cloud to its shadow, (down, right)
    thickness: float  # 1 hides the ground wholly
    number: int

    def reaches(self, top: int, left: int, side: int) -> bool:
        """Whether the cloud can touch a block."""
        reach = 2 * max(self.radius_px)
        return bool(abs(top + side / 2 - self.y) < reach + side / 2 and abs(left + side / 2 - self.x) < reach + side / 2)

    def opacity(self, seed: int, top: int, left: int, side: int) -> np.ndarray:
        """How much of the light the cloud takes in a block, (side, side) float32, 0 to 1."""
        rows, cols = np.arange(top, top + side, dtype=np.float32)[:, None], np.arange(left, left + side, dtype=np.float32)[None]
        down, right, cosine, sine = rows - self.y, cols - self.x, np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        distance = np.hypot((right * cosine + down * sine) / self.radius_px[1], (down * cosine - right * sine) / self.radius_px[0])
        coarse, fine = max(4, round(min(self.radius_px) / 2.5)), max(2, round(min(self.radius_px) / 9))
        ragged = 0.17 * smooth_block(seed + self.number, coarse, top, left, side, side)
        ragged += 0.08 * smooth_block(seed + self.number + 7919, fine, top, left, side, side)
        return np.clip((1.0 - distance + ragged) * 1.7, 0, 1).astype(np.float32) * np.float32(self.thickness)


@dataclass(frozen=True)
class Optical:
    """What one Sentinel-2 product holds."""

    bands: dict[str, np.ndarray]  # (y, x) uint16 counts at native resolution, 0 no data
    scl: np.ndarray  # (y, x) uint8 at 20 m
    cloud_probability: np.ndarray  # (y, x) uint8 percent at 20 m
    snow_probability: np.ndarray  # (y, x) uint8 percent at 20 m


@dataclass(frozen=True)
class Painter:
    """Paints one raster of a ground."""

    ground: Ground
    raster: PatchGrid
    threads: int = os.cpu_count() or 1

    @cached_property
    def numbers(self) -> np.ndarray:
        """Number of the polygon under each pixel at 10 m, from 1; 0 is none. (y, x) int32."""
        return self.ground.polygon_numbers(self.raster)

    @property
    def codes(self) -> np.ndarray:
        """Land cover code of each pixel at 10 m, 999 where there is no polygon. (y, x) uint16."""
        return self.ground.code_map(self.numbers)

    def optical(self, sensing: datetime, *, clouds: int, nodata_strip: bool, rows: slice = slice(None)) -> Optical:
        """Paint what Sentinel-2 sees on a day.

        Args:
            sensing: decides on the season and on where the clouds are.
            clouds: how many.
            nodata_strip: leave a strip along the western edge without data, as at the edge of a swath.
            rows: paint only these rows of the raster at 10 m; both ends multiples of 6.
        """
        view = _OpticalView(self, sensing, clouds, nodata_strip)
        top, bottom, _ = rows.indices(self.numbers.shape[0])
        shape = (bottom - top, self.numbers.shape[1])
        made: dict[str, np.ndarray] = {
            band.name: np.zeros((shape[0] * 10 // band.gsd_m, shape[1] * 10 // band.gsd_m), np.uint16) for band in SENTINEL2.bands
        }
        masks = {name: np.zeros((shape[0] // 2, shape[1] // 2), np.uint8) for name in ("SCL", "CLDPRB", "SNWPRB")}
        gsd_m = {band.name: band.gsd_m for band in SENTINEL2.bands} | dict.fromkeys(masks, SCL_GSD_M)

        def paint(block: _Block) -> None:
            for name, pixels in view.paint(block).items():
                target = made[name] if name in made else masks[name]
                into, out_of = block.windows(gsd_m[name] // 10)
                target[into] = pixels[out_of]

        self._each_block(top, bottom, paint)
        return Optical(made, masks["SCL"], masks["CLDPRB"], masks["SNWPRB"])

    def backscatter(self, start: datetime, *, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """Paint what Sentinel-1 sees on a day: VV and VH, (y, x) float32 dB at 10 m."""
        view = _RadarView(self, start)
        top, bottom, _ = rows.indices(self.numbers.shape[0])
        made = {name: np.zeros((bottom - top, self.numbers.shape[1]), np.float32) for name in ("VV", "VH")}

        def paint(block: _Block) -> None:
            into, out_of = block.windows(1)
            for name, pixels in view.paint(block).items():
                made[name][into] = pixels[out_of]

        self._each_block(top, bottom, paint)
        return made

    @property
    def corner_px(self) -> tuple[int, int]:
        """The raster's first pixel, (down, right) from the tile's corner at 10 m."""
        return (self.raster.tile.ul_y_m - self.raster.ul_y_m) // 10, (self.raster.ul_x_m - self.raster.tile.ul_x_m) // 10

    def _each_block(self, top: int, bottom: int, paint: "Callable[[_Block], None]") -> None:
        """Call ``paint`` for each block that some of the rows from ``top`` to ``bottom`` lie in."""
        down, right = self.corner_px
        width = self.numbers.shape[1]
        blocks = [
            _Block(y * _BLOCK_PX, x * _BLOCK_PX, down + top, right, bottom - top, width)
            for y in range((down + top) // _BLOCK_PX, -(-(down + bottom) // _BLOCK_PX))
            for x in range(right // _BLOCK_PX, -(-(right + width) // _BLOCK_PX))
        ]
        with ThreadPoolExecutor(self.threads) as pool:
            for _ in pool.map(paint, blocks):
                pass

    def block_numbers(self, block: "_Block") -> np.ndarray:
        """Polygon numbers of a whole block, 0 outside the raster."""
        down, right = self.corner_px
        inside = np.zeros((_BLOCK_PX, _BLOCK_PX), np.int32)
        y0, x0 = block.top - down, block.left - right
        rows = slice(max(0, y0), min(self.numbers.shape[0], y0 + _BLOCK_PX))
        cols = slice(max(0, x0), min(self.numbers.shape[1], x0 + _BLOCK_PX))
        inside[rows.start - y0 : rows.stop - y0, cols.start - x0 : cols.stop - x0] = self.numbers[rows, cols]
        return inside


@dataclass(frozen=True)
class _Block:
    """One block, and the part of the tile that is painted; all in pixels of 10 m from the tile's corner."""

    top: int
    left: int
    first_row: int
    first_col: int
    height: int
    width: int

    def windows(self, factor: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where the block goes in the painted raster, and which part of the block that is, at coarser pixels."""
        pairs = []
        for start, first, length in ((self.top, self.first_row, self.height), (self.left, self.first_col, self.width)):
            low, high = max(start, first), min(start + _BLOCK_PX, first + length)
            into = slice((low - first) // factor, (high - first) // factor)
            pairs.append((into, slice((low - start) // factor, (high - start) // factor)))
        return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


class _Texture:
    """What lies on the ground whatever looks at it: fields, grain, and differences from polygon to polygon."""

    def __init__(self, painter: Painter) -> None:
        ground, tile = painter.ground, painter.raster.tile.name
        self.seed, self.tile = ground.seed, tile
        self.surface = np.append(ground.surfaces, _NO_POLYGON)[np.arange(-1, len(ground.surfaces))].astype(np.uint8)  # by number
        numbers = np.arange(len(self.surface))
        rng = generator(ground.seed, "polygons")
        angle = rng.uniform(0, np.pi, len(numbers))
        size = np.exp(rng.normal(0, 0.15, len(numbers)))
        length = np.array([max(surface.field_m[0], 1) for surface in SURFACES])[self.surface] * size / 10
        width = np.array([max(surface.field_m[1], 1) for surface in SURFACES])[self.surface] * size / 10
        cosine, sine = np.cos(angle), np.sin(angle)
        self.turn = np.stack([cosine / length, sine / length, -sine / width, cosine / width]).astype(np.float32)
        self.own_green = (0.04 * rng.normal(size=len(numbers))).astype(np.float32)
        self.own_bright = (0.05 * rng.normal(size=len(numbers))).astype(np.float32)
        self.elevation = np.append(0.0, ground.elevation).astype(np.float32)
        self.has_fields = np.array([surface.field_m[0] > 0 for surface in SURFACES])

    def grain(self, index: int, top: int, left: int) -> np.ndarray:
        return smooth_block(key(self.seed, self.tile, _GRAIN_NAMES[index]), _GRAINS_PX[index], top, left, _BLOCK_PX, _BLOCK_PX)

    def fields(self, numbers: np.ndarray, surface: np.ndarray, top: int, left: int) -> tuple[np.ndarray, np.ndarray]:
        """Two values per pixel that are alike within a field, each spread evenly over -1 to 1. (y, x) float32."""
        if not self.has_fields[surface].any():
            zero = np.zeros(numbers.shape, np.float32)
            return zero, zero
        rows, cols = np.arange(top, top + _BLOCK_PX, dtype=np.float32)[:, None], np.arange(left, left + _BLOCK_PX, dtype=np.float32)[None]
        along = np.floor(cols * self.turn[0][numbers] + rows * self.turn[1][numbers])
        stagger = np.float32(0.382) * along  # so that fields do not line up like a chessboard
        across = np.floor(cols * self.turn[2][numbers] + rows * self.turn[3][numbers] + stagger)
        bits = hashed(key(self.seed, "fields"), (numbers.astype(np.int64) << 40) + (along.astype(np.int64) << 20) + across.astype(np.int64))
        first, second = (bits >> np.uint64(40)).astype(np.float32), ((bits >> np.uint64(8)) & np.uint64(0xFFFFFF)).astype(np.float32)
        return first * np.float32(2**-23) - 1, second * np.float32(2**-23) - 1


def _table(values: Callable[..., object]) -> np.ndarray:
    return np.array([values(surface) for surface in SURFACES], np.float32)


class _OpticalView:
    """One Sentinel-2 overpass."""

    def __init__(self, painter: Painter, sensing: datetime, clouds: int, nodata_strip: bool) -> None:
        tile = painter.raster.tile
        day, south = sensing.timetuple().tm_yday, tile.epsg >= 32700
        self.painter, self.texture = painter, _Texture(painter)
        self.name = (painter.ground.seed, tile.name, sensing.isoformat())
        self.green = _table(lambda surface: spectrum(surface.green))
        self.dormant = _table(lambda surface: spectrum(surface.dormant))
        self.greenness = _table(lambda surface: greenness(surface, day, south))
        self.field_green, self.field_bright = _table(lambda s: s.field_green), _table(lambda s: s.field_bright)
        self.grain, self.patchy = _table(lambda s: s.grain), _table(lambda s: s.patchy)
        self.water = np.array([surface.water for surface in SURFACES])
        # What is left over of the atmosphere after its correction, by band.
        self.residual = np.exp(generator(*self.name, "atmosphere").normal(0, 0.02, len(BAND_ORDER))).astype(np.float32)
        winter = (sensing.month + (6 if south else 0) - 1) % 12 + 1 in (12, 1, 2)
        self.snow_line = 0.62 if winter else 9.0
        self.snow_seed, self.cloud_seed = key(*self.name, "snow"), key(*self.name, "cloud grain") >> 1
        self.clouds = self._clouds(clouds)
        self.strip_px = self._strip() if nodata_strip else None

    def _clouds(self, count: int) -> list[Cloud]:
        rng = generator(*self.name, "clouds")
        raster, (down, right) = self.painter.raster, self.painter.corner_px
        height, width = raster.height_m / 10, raster.width_m / 10
        typical = np.sqrt(height * width) * 0.055
        made = []
        for number in range(count):
            radius = typical * np.exp(rng.normal(0, 0.2, 2)) * (0.8, 1.25)
            y, x, angle = down + rng.uniform(0.1, 0.9) * height, right + rng.uniform(0.1, 0.9) * width, rng.uniform(0, np.pi)
            drop = radius.mean() * rng.uniform(1.0, 1.5) * (1 if raster.tile.epsg >= 32700 else -1)  # away from the sun
            thickness = 1.0 if number % 3 < 2 else 0.45
            made.append(Cloud(y, x, (radius[0], radius[1]), angle, (round(0.85 * drop), round(-0.5 * abs(drop))), thickness, number))
        return made

    def _strip(self) -> tuple[float, float]:
        """Width of the strip without data at the raster's upper and lower edge, pixels of 10 m."""
        rng = generator(*self.name, "strip")
        width = self.painter.raster.width_m / 10
        wide = min(width / 4, max(12.0, 0.03 * width))
        return wide * rng.uniform(0.8, 1.0), wide * rng.uniform(0.3, 0.6)

    def _no_data(self, top: int, left: int) -> np.ndarray | None:
        """Which pixels of a block lie in the strip; whole 60 m pixels, so that all bands agree. (y, x) bool at 60 m."""
        if self.strip_px is None:
            return None
        down, right = self.painter.corner_px
        share = (np.arange(top, top + _BLOCK_PX, 6) - down) / (self.painter.raster.height_m / 10)
        edge = right + self.strip_px[0] + (self.strip_px[1] - self.strip_px[0]) * share
        return np.arange(left, left + _BLOCK_PX, 6)[None] < edge[:, None]

    def paint(self, block: _Block) -> dict[str, np.ndarray]:
        top, left = block.top, block.left
        numbers = self.painter.block_numbers(block)
        texture = self.texture
        surface = texture.surface[numbers]
        first, second = texture.fields(numbers, surface, top, left)
        grains = [texture.grain(index, top, left) for index in range(4)]

        green = self.greenness[surface] + texture.own_green[numbers] + self.field_green[surface] * first
        green += self.patchy[surface] * (0.7 * grains[2] + 0.7 * grains[3])
        np.clip(green, 0, 1.15, out=green)
        bright = 1 + texture.own_bright[numbers] + self.field_bright[surface] * second
        for index in range(3):
            bright += self.grain[:, index][surface] * grains[index]
        np.clip(bright, 0.35, 2.5, out=bright)

        snow = None
        if self.snow_line < 1:
            depth = (texture.elevation[numbers] - self.snow_line) * 4 + 0.5 * grains[3] + 0.25 * grains[1]
            snow = np.where(self.water[surface], 0, np.clip(depth, 0, 0.9)).astype(np.float32)
            if not snow.any():
                snow = None
        opacity, shadow = self._sky(top, left)

        reflectance = {}
        noise = generator(*self.name, "sensor", top, left)
        snow_spectrum, cloud_spectrum = spectrum({"snow": 1}), spectrum({"cloud": 1})
        for index, name in enumerate(BAND_ORDER):
            dormant = self.dormant[:, index]
            pixels = dormant[surface] + (self.green[:, index] - dormant)[surface] * green
            pixels *= bright * self.residual[index]
            if snow is not None:
                pixels += (snow_spectrum[index] - pixels) * snow
            if shadow is not None:
                pixels *= 1 - np.float32(0.62) * shadow
            if opacity is not None:
                pixels += (cloud_spectrum[index] * (0.8 + 0.2 * opacity + 0.03 * grains[2]) - pixels) * opacity
            gsd_m = SENTINEL2[name].gsd_m
            pixels = _coarser(pixels, gsd_m // 10)
            reflectance[name] = pixels + np.float32(_SENSOR_NOISE[gsd_m]) * noise.standard_normal(pixels.shape, np.float32)
        no_data = self._no_data(top, left)
        made = {}
        for name, pixels in reflectance.items():
            counts = np.clip(np.rint(pixels * QUANTIFICATION - OFFSET_COUNTS), 1, 65534).astype(np.uint16)
            if no_data is not None and no_data.any():
                counts[_finer(no_data, 60 // SENTINEL2[name].gsd_m)] = NODATA_COUNTS
            made[name] = counts
        return made | self._classes(reflectance, surface, snow, opacity, shadow, no_data, noise)

    def _sky(self, top: int, left: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Opacity of the clouds over a block and depth of their shadows, 0 to 1; none where there are none."""
        opacity = shadow = None
        for cloud in self.clouds:
            if cloud.reaches(top, left, _BLOCK_PX):
                own = cloud.opacity(self.cloud_seed, top, left, _BLOCK_PX)
                opacity = own if opacity is None else np.maximum(opacity, own)
            down, right = cloud.shadow_px
            if cloud.reaches(top - down, left - right, _BLOCK_PX):
                own = cloud.opacity(self.cloud_seed, top - down, left - right, _BLOCK_PX)
                shadow = own if shadow is None else np.maximum(shadow, own)
        return opacity, shadow

    def _classes(
        self,
        reflectance: dict[str, np.ndarray],
        surface: np.ndarray,
        snow: np.ndarray | None,
        opacity: np.ndarray | None,
        shadow: np.ndarray | None,
        no_data: np.ndarray | None,
        noise: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """Scene classification and probabilities at 20 m."""
        half = _BLOCK_PX // 2
        red, infrared = _coarser(reflectance["B04"], 2), reflectance["B8A"]
        index = (infrared - red) / np.maximum(infrared + red, 0.01)
        scl = np.where(index > 0.42, 4, 5).astype(np.uint8)
        scl[_coarser(self.water[surface].astype(np.float32), 2) > 0.5] = 6
        jitter = 3 * noise.standard_normal((half, half), np.float32)
        snow_percent, cloud_percent = np.zeros((half, half), np.float32), np.clip(1 + 0.5 * jitter, 0, 4)
        if snow is not None:
            cover = _coarser(snow, 2)
            snow_percent = np.where(cover > 0.02, np.clip(cover * 140 + jitter, 0, 100), 0)
            scl[cover > 0.36] = 11
        if shadow is not None:
            scl[_coarser(shadow, 2) > 0.4] = 3
        if opacity is not None:
            cover = _coarser(opacity, 2)
            cloud_percent = np.where(cover > 0.03, np.clip(cover * 115 + jitter, 0, 100), cloud_percent)
            scl[cover > 0.12], scl[cover > 0.35], scl[cover > 0.62] = 10, 8, 9
        made = {"SCL": scl, "CLDPRB": np.rint(cloud_percent).astype(np.uint8), "SNWPRB": np.rint(snow_percent).astype(np.uint8)}
        if no_data is not None:
            for layer in made.values():
                layer[_finer(no_data, 3)] = 0
        return made


class _RadarView:
    """One Sentinel-1 overpass."""

    def __init__(self, painter: Painter, start: datetime) -> None:
        tile = painter.raster.tile
        day, south = start.timetuple().tm_yday, tile.epsg >= 32700
        self.painter, self.texture = painter, _Texture(painter)
        self.name = (painter.ground.seed, tile.name, start.isoformat())
        dormancy = 1 - _table(lambda s: (greenness(s, day, south) - s.greenness[0]) / max(0.01, s.greenness[1] - s.greenness[0]))
        winter = dormancy * _table(lambda s: s.winter_db)
        self.base = {"VV": _table(lambda s: s.vv_db) + winter, "VH": _table(lambda s: s.vh_db) + winter}
        self.field_db, self.grain = _table(lambda s: s.field_db), _table(lambda s: s.grain)
        self.wind_db = float(generator(*self.name, "wind").normal(0, 0.8))
        self.water = np.array([surface.water for surface in SURFACES], np.float32)

    def paint(self, block: _Block) -> dict[str, np.ndarray]:
        top, left = block.top, block.left
        numbers = self.painter.block_numbers(block)
        surface = self.texture.surface[numbers]
        first, second = self.texture.fields(numbers, surface, top, left)
        shared = 8 * self.grain[:, 1][surface] * self.texture.grain(1, top, left) + 0.3 * self.texture.grain(3, top, left)
        shared += self.wind_db * self.water[surface]
        shared -= (np.arange(left, left + _BLOCK_PX, dtype=np.float32) / 10980 - 0.5)[None] * 1.5  # falls off across the swath
        rng = generator(*self.name, "speckle", top, left)
        made = {}
        for name, own in (("VV", first), ("VH", 0.6 * first + 0.4 * second)):
            power = 10 ** ((self.base[name][surface] + shared + self.field_db[surface] * own) / 10)
            looks = rng.standard_gamma(_LOOKS, power.shape, np.float32) / np.float32(_LOOKS)
            decibel = 10 * np.log10(power * looks + np.float32(_NOISE_FLOOR))
            made[name] = (np.rint(decibel / _DB_STEP) * _DB_STEP).astype(np.float32)
        return made


def _coarser(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Mean of each square of pixels."""
    if factor == 1:
        return pixels
    height, width = pixels.shape
    means: np.ndarray = pixels.reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3), dtype=np.float32)
    return means


def _finer(mask: np.ndarray, factor: int) -> np.ndarray:
    return mask.repeat(factor, axis=0).repeat(factor, axis=1)
