"""Terrain-corrected Sentinel-1 read as decibel over a window of a Sentinel-2 tile, whatever it looks like on disk.

Rasters on the tile's own 10 m grid are read as they are. Others are refused, or resampled if the recipe allows it.
"""

from dataclasses import dataclass

import numpy as np
from pyproj import Geod, Transformer
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsdata.errors import SceneError
from rsdata.foreign import RASTER_ERRORS
from rsdata.records import Sentinel1Scene, s1_scene_id, s1_start
from rsdata.scenes.grd_radiometry import to_db
from rsdata.scenes.product import ProductFiles
from rsdata.scenes.remote import public_href
from rsdata.scenes.sentinel1_rasters import PIXEL_M, UNIT_WORDS, Place, Processed, Raster, Unit, opened, without_keys
from rsdata.scenes.sentinel1_resample import resample_power
from rsdata.scenes.terrain import Ground

MIN_PIXEL_M, MAX_PIXEL_M = 3, 100  # of rasters that may be resampled: finer ones would be sampled thinly, and take much memory
_ROWS_AT_A_TIME = 512  # looked at and turned to decibel in place
_ALLOW = "say `resample_sentinel1: true` in the recipe"


@dataclass(frozen=True)
class Sentinel1Product:
    """One pair of polarisations, opened: its georeference is read, its pixels are not."""

    files: ProductFiles
    scene: Sentinel1Scene
    rasters: dict[str, Raster]
    place: Place
    unit: Unit
    unit_stated: bool = False  # by the product itself
    resample: bool = False

    def read(self, band: str, *, epsg: int, ul_x_m: int, ul_y_m: int, width_m: int, height_m: int) -> np.ndarray:
        """Read backscatter over a window of the tile, (y, x) float32 dB; NaN where the scene has no pixels.

        Raises: SceneError if the file is damaged, or lies on another grid than the window and may not be resampled.
        """
        shape_yx = height_m // PIXEL_M, width_m // PIXEL_M
        right_px, down_px = (ul_x_m - self.place.transform.c) / PIXEL_M, (self.place.transform.f - ul_y_m) / PIXEL_M
        if self.scene.on_utm_grid and self.scene.epsg == epsg and right_px % 1 == 0 == down_px % 1:
            pixels = self._cut(band, shape_yx, int(down_px), int(right_px))
            return pixels if self.unit == "db" else to_db_in_place(pixels)
        if not self.resample:
            raise SceneError(
                f"{self._where(band)} lies on another grid ({self.scene.grid}); expected the 10 m grid of the Sentinel-2 tile in "
                f"EPSG:{epsg}, so terrain correct it onto that grid, or {_ALLOW}",
                path=str(self.files.path),
            )
        ground = Ground(epsg, ul_x_m, ul_y_m, *shape_yx)
        with self._opened(band) as source:
            power = resample_power(lambda rows, cols: self._power(band, self._pixels(source, band, rows, cols)), self.place, ground)
        return to_db_in_place(power)

    def _cut(self, band: str, shape_yx: tuple[int, int], top: int, left: int) -> np.ndarray:
        """A window on the raster's own grid, in decibel or power."""
        height, width = self.place.shape_yx
        rows = slice(max(top, 0), min(top + shape_yx[0], height))
        cols = slice(max(left, 0), min(left + shape_yx[1], width))
        covered = (rows.stop - rows.start, cols.stop - cols.start)
        pixels = np.empty(shape_yx, np.float32) if covered == shape_yx else np.full(shape_yx, np.nan, np.float32)
        if min(covered) > 0:
            part = pixels[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
            with self._opened(band) as source:
                self._pixels(source, band, rows, cols, out=part)
            if self.unit != "db":
                self._power(band, part)
        return pixels

    def _opened(self, band: str) -> DatasetReader:
        return opened(self.files.path, self.files, self.rasters[band])

    def _pixels(self, source: DatasetReader, band: str, rows: slice, cols: slice, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels as they lie in the file, (y, x) float32, in ``out`` if given; no data, and what is not finite, is NaN."""
        raster = self.rasters[band]
        nodata = source.nodatavals[raster.index - 1] if raster.nodata is None else raster.nodata
        try:
            window = Window.from_slices((rows.start, rows.stop), (cols.start, cols.stop))
            part: np.ndarray = source.read(raster.index, window=window, out=out)
        except RASTER_ERRORS as error:
            raise SceneError(
                f"{self._where(band)} cannot be decoded ({without_keys(error)}); the file is damaged, make it again",
                path=str(self.files.path),
            ) from error
        missing = np.float32(np.nan if nodata is None else nodata)
        for first in range(0, len(part), _ROWS_AT_A_TIME):
            strip = part[first : first + _ROWS_AT_A_TIME]
            strip[~np.isfinite(strip) | (strip == missing)] = np.nan
        return part

    def _power(self, band: str, pixels: np.ndarray) -> np.ndarray:
        """Turn pixels to linear power in place; power of 0 is what processors write where they have nothing."""
        if self.unit == "db":
            return np.power(np.float32(10), pixels / np.float32(10), out=pixels)
        if (pixels < 0).any():
            what = "power" if self.unit == "linear" else self.unit
            remedy = "make it again" if self.unit_stated else "if it is in decibel, say `sentinel1_unit: db` in the recipe"
            raise SceneError(
                f"{self._where(band)} holds negative values (lowest {np.nanmin(pixels):.3g}) where {what} is expected; {remedy}",
                path=str(self.files.path),
            )
        pixels[pixels == 0] = np.nan
        return np.square(pixels, out=pixels) if self.unit == "amplitude" else pixels

    def _where(self, band: str) -> str:
        return f"{self.files.path}: {self.scene.bands[band]}"


def to_db_in_place(power: np.ndarray) -> np.ndarray:
    for first in range(0, len(power), _ROWS_AT_A_TIME):
        power[first : first + _ROWS_AT_A_TIME] = to_db(power[first : first + _ROWS_AT_A_TIME])
    return power


def to_product(found: Processed, declared: Unit | None, resample: bool) -> Sentinel1Product:
    """A product as a recipe wants it.

    Args:
        declared: unit that the recipe states, if any.
        resample: whether it may be brought from another grid.

    Raises: SceneError if nobody states the unit, product and recipe contradict each other, or the raster would have to be
        resampled and may not, or its pixels are too small or too large for that.
    """
    path = found.files.path
    if found.unit and declared and found.unit != declared:
        raise SceneError(
            f"{path} states that it holds {UNIT_WORDS[found.unit]}, and the recipe says `sentinel1_unit: {declared}`; "
            "drop that line, as each product states its own",
            path=str(path),
        )
    unit = found.unit or declared or found.fallback
    if unit is None:
        raise SceneError(
            f"{path} does not state the unit of its pixels; say `sentinel1_unit:` db, linear or amplitude in the recipe", path=str(path)
        )
    scene = to_scene(found, unit)
    if not scene.on_utm_grid:
        if not resample:
            raise SceneError(
                f"{path} lies on another grid ({scene.grid}); expected the 10 m grid of a Sentinel-2 tile, so terrain correct it onto that "
                f"grid, or {_ALLOW}",
                path=str(path),
            )
        _check_pixel_size(found)
    return Sentinel1Product(found.files, scene, found.rasters, found.place, unit, found.unit is not None, resample)


def to_scene(found: Processed, unit: Unit | None) -> Sentinel1Scene:
    """What is recorded of a product; nothing in it holds a key of an address."""
    place = found.place
    epsg, metres = place.epsg, place.crs.is_projected
    scene_id = s1_scene_id(found.product)
    height, width = place.shape_yx
    return Sentinel1Scene(
        product=found.product,
        scene_id=scene_id,
        mission=found.product[:3],
        datetime=s1_start(scene_id),
        epsg=epsg,
        ul_x_m=place.transform.c if metres else 0,
        ul_y_m=place.transform.f if metres else 0,
        width_m=width * place.transform.a if metres else 0,
        height_m=-height * place.transform.e if metres else 0,
        orbit_direction=found.orbit_direction,
        bands={
            band: public_href(raster.inside) if raster.inside in getattr(found.files, "remote", ()) else raster.inside
            for band, raster in found.rasters.items()
        },
        footprint=place.footprint_lonlat(),
        layout=found.layout,
        unit=unit,
        quantity=found.quantity,
        grid=place.in_words,
        on_utm_grid=place.on_utm_grid,
        notes=list(found.notes),
    )


def lies_on_grid_of(scene: Sentinel1Scene, epsg: int) -> bool:
    """Whether a scene needs no resampling for tiles of a zone; a GRD in radar geometry does not either."""
    return scene.in_radar_geometry or (scene.on_utm_grid and scene.epsg == epsg)


def _check_pixel_size(found: Processed) -> None:
    place, path = found.place, str(found.files.path)
    height, width = place.shape_yx
    x, y = place.to_crs(np.array([0, 1, 0]) + width / 2, np.array([0, 0, 1]) + height / 2)
    lon_deg, lat_deg = Transformer.from_crs(place.crs, 4326, always_xy=True).transform(x, y)
    if not np.isfinite([lon_deg, lat_deg]).all():
        raise SceneError(f"{path} does not lie on Earth ({place.in_words}); write the product again", path=path)
    _, _, size_m = Geod(ellps="WGS84").inv(lon_deg[[0, 0]], lat_deg[[0, 0]], lon_deg[1:], lat_deg[1:])
    if not (size_m.min() >= MIN_PIXEL_M and size_m.max() <= MAX_PIXEL_M):
        raise SceneError(
            f"{path} has pixels of {size_m[0]:.3g} x {size_m[1]:.3g} m; expected {MIN_PIXEL_M} to {MAX_PIXEL_M} m to resample to 10 m, "
            "so terrain correct it with other pixels",
            path=path,
        )


def describe(found: Processed) -> tuple[Sentinel1Scene, str | None]:
    """A scene for somebody who looks, and what a recipe would have to say to take it, if anything."""
    try:
        return to_product(found, None, resample=False).scene, None
    except SceneError as error:
        return to_scene(found, found.unit or found.fallback), str(error)
