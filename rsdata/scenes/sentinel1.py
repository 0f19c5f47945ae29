"""Sentinel-1 scenes, read as decibel over a window of a Sentinel-2 tile's 10 m grid.

Those terrain corrected already (one GeoTIFF per polarisation) are never moved: the rasters must lie on the tile's own
grid, and a scene that does not is refused rather than shifted by part of a pixel. GRD products are calibrated and terrain
corrected while they are read, for the window asked and no more.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rsdata.errors import SceneError
from rsdata.records import Sentinel1Scene, is_s1_product, s1_scene_id, s1_start
from rsdata.scenes.dem import Datum, Dem, open_dem
from rsdata.scenes.grd import GrdProduct, is_grd_safe, open_grd
from rsdata.scenes.grd_radiometry import Quantity, to_db
from rsdata.scenes.product import ProductFiles, list_files
from rsdata.scenes.terrain import Corrected, Ground, TerrainCorrector, range_doppler
from rsdata.scenes.terrain_sarsen import sarsen_terrain
from rsdata.sensors import SENTINEL1

PIXEL_M = 10
_ROWS_TO_DB = 512  # rows turned to decibel at a time, in place

CORRECTORS: dict[str, TerrainCorrector] = {"range-doppler": range_doppler, "sarsen": sarsen_terrain}


@dataclass(frozen=True)
class Sentinel1Processing:
    """How Sentinel-1 becomes decibel on the ground, where a product is not that already."""

    unit: Literal["db", "linear"] = "db"  # of products that are terrain corrected already
    dem: tuple[str, ...] = ()  # files or folders; GRD needs one
    dem_datum: Datum | None = None  # where the files do not say it
    geoid: str | None = None
    quantity: Quantity = "sigma0"
    remove_noise: bool = True
    flatten: bool = False
    corrector: str = "range-doppler"
    threads: int = 1


@dataclass(frozen=True)
class Sentinel1Product:
    """One pair of polarisations, opened: its georeference is read, its pixels are not."""

    files: ProductFiles
    scene: Sentinel1Scene
    linear: bool = False  # whether its pixels are power rather than decibel

    def read(self, band: str, *, epsg: int, ul_x_m: int, ul_y_m: int, width_m: int, height_m: int) -> np.ndarray:
        """Read backscatter over a window of the tile, (y, x) float32 dB; NaN where the scene has no pixels.

        Raises: SceneError if the file is damaged or lies on another grid than the window.
        """
        where = f"{self.files.path}: {self.scene.bands[band]}"
        right_px, down_px = (ul_x_m - self.scene.ul_x_m) / PIXEL_M, (self.scene.ul_y_m - ul_y_m) / PIXEL_M
        if self.scene.epsg != epsg or right_px % 1 or down_px % 1:
            raise SceneError(
                f"{where} lies on another grid (EPSG:{self.scene.epsg}, corner {self.scene.ul_x_m}, {self.scene.ul_y_m}); expected the "
                f"10 m grid of the Sentinel-2 tile in EPSG:{epsg}, so terrain correct it onto that grid",
                path=str(self.files.path),
            )
        height, width = height_m // PIXEL_M, width_m // PIXEL_M
        pixels = np.full((height, width), np.nan, np.float32)
        left, top = int(right_px), int(down_px)
        try:
            with rasterio.open(self.files.gdal_path(self.scene.bands[band])) as raster:
                from_x, from_y = max(left, 0), max(top, 0)
                to_x, to_y = min(left + width, raster.width), min(top + height, raster.height)
                if from_x < to_x and from_y < to_y:
                    part = raster.read(1, window=Window.from_slices((from_y, to_y), (from_x, to_x)))
                    if raster.nodata is not None and not np.isnan(raster.nodata):
                        part = np.where(part == raster.nodata, np.float32(np.nan), part)
                    pixels[from_y - top : to_y - top, from_x - left : to_x - left] = part
        except RasterioError as error:
            raise SceneError(
                f"{where} cannot be decoded ({error.__cause__ or error}); the file is damaged, make it again", path=str(self.files.path)
            ) from error
        if self.linear:
            if (pixels < 0).any():
                raise SceneError(
                    f"{where} holds negative values (lowest {np.nanmin(pixels):.3g}) where power is expected; "
                    "if it is in decibel, say `sentinel1_unit: db` in the recipe",
                    path=str(self.files.path),
                )
            pixels[pixels == 0] = np.nan  # what processors write where they have nothing
            _to_db_in_place(pixels)
        return pixels


@dataclass(frozen=True)
class Sentinel1GrdProduct:
    """A GRD product with both polarisations, opened: metadata are read, pixels and heights are not."""

    grd: GrdProduct
    scene: Sentinel1Scene
    processing: Sentinel1Processing

    @property
    def files(self) -> ProductFiles:
        return self.grd.files

    @cached_property
    def dem(self) -> Dem:
        """Raises: SceneError if no elevation model was named, or its datum is not stated."""
        if not self.processing.dem:
            raise SceneError(
                f"{self.files.path} is a GRD in radar geometry; name an elevation model to correct it with (`dem` in the recipe)",
                path=str(self.files.path),
            )
        return open_dem(self.processing.dem, datum=self.processing.dem_datum, geoid=self.processing.geoid)

    def correct(self, band: str, ground: Ground) -> Corrected:
        """Power over a window, and why pixels are missing."""
        corrector = CORRECTORS.get(self.processing.corrector)
        if corrector is None:
            raise SceneError(f"no terrain corrector is called {self.processing.corrector!r}; known are {', '.join(CORRECTORS)}")
        return corrector(
            self.grd,
            band,
            self.dem,
            ground,
            quantity=self.processing.quantity,
            remove_noise=self.processing.remove_noise,
            flatten=self.processing.flatten,
            threads=self.processing.threads,
        )

    def read(self, band: str, *, epsg: int, ul_x_m: int, ul_y_m: int, width_m: int, height_m: int) -> np.ndarray:
        """Correct a window of the tile, (y, x) float32 dB; NaN outside the image, without height, in layover and in shadow.

        Raises: SceneError if the product or the elevation model cannot be read, or the datum of its heights is not stated.
        """
        power = self.correct(band, Ground(epsg, ul_x_m, ul_y_m, height_m // PIXEL_M, width_m // PIXEL_M)).power
        _to_db_in_place(power)
        return power


def _to_db_in_place(power: np.ndarray) -> None:
    for first in range(0, len(power), _ROWS_TO_DB):
        power[first : first + _ROWS_TO_DB] = to_db(power[first : first + _ROWS_TO_DB])


def open_sentinel1(path: Path, processing: Sentinel1Processing | None = None) -> Sentinel1Product | Sentinel1GrdProduct:
    """Open a Sentinel-1 scene of both polarisations.

    Args:
        path: a GRD product in SAFE layout, folder or zip; or a folder named like one that holds one GeoTIFF for VV and one
            for VH, terrain corrected.
        processing: how it becomes decibel on the ground.

    Raises: SceneError if a polarisation is missing, or terrain-corrected rasters do not lie on one 10 m grid.
    """
    processing = processing or Sentinel1Processing()
    if is_grd_safe(path):
        return _open_radar_geometry(path, processing)
    name = path.name.removesuffix(".SAFE")
    if not is_s1_product(name):
        raise SceneError(
            f"{path} is not named like a Sentinel-1 GRD product; expected a folder such as "
            "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017014_01C595_B2A5",
            path=str(path),
        )
    files = list_files(path)
    bands: dict[str, str] = {}
    for band in SENTINEL1.band_names:
        found = sorted(
            f for f in files.sizes if f.lower().endswith((f"_{band.lower()}.tif", f"_{band.lower()}.tiff")) or f.upper() == f"{band}.TIF"
        )
        if len(found) != 1:
            raise SceneError(
                f"{path} holds {len(found) or 'no'} GeoTIFF for {band}; expected one named …_{band}.tif, terrain corrected and in decibel",
                path=str(path),
            )
        bands[band] = found[0]
    grids = {}
    for band, inside in bands.items():
        try:
            with rasterio.open(files.gdal_path(inside)) as raster:
                grids[band] = (raster.crs, raster.transform, raster.shape, raster.dtypes[0])
        except RasterioError as error:
            raise SceneError(f"{path}: {inside} cannot be opened ({error}); make it again", path=str(path)) from error
    crs, transform, shape, dtype = grids["VV"]
    if grids["VH"] != grids["VV"] or crs is None or dtype != "float32" or (transform.a, transform.e) != (PIXEL_M, -PIXEL_M):
        raise SceneError(
            f"{path}: VV is {shape} {dtype} with pixels of {transform.a} x {-transform.e} m and VH is {grids['VH'][2]} {grids['VH'][3]}; "
            "expected both as float32 decibel on one 10 m grid",
            path=str(path),
        )
    scene_id = s1_scene_id(name)
    scene = Sentinel1Scene(
        product=name,
        scene_id=scene_id,
        mission=name[:3],
        datetime=s1_start(scene_id),
        epsg=crs.to_epsg() or 0,
        ul_x_m=transform.c,
        ul_y_m=transform.f,
        width_m=shape[1] * PIXEL_M,
        height_m=shape[0] * PIXEL_M,
        bands=bands,
    )
    return Sentinel1Product(files, scene, linear=processing.unit == "linear")


def _open_radar_geometry(path: Path, processing: Sentinel1Processing) -> Sentinel1GrdProduct:
    grd = open_grd(path)
    for band in SENTINEL1.band_names:
        if grd.channel(band).measurement is None:
            raise SceneError(f"{path} has no pixels for {band}; fetch the product again", path=str(path))
    scene_id = s1_scene_id(grd.name)
    scene = Sentinel1Scene(
        product=grd.name,
        scene_id=scene_id,
        mission=grd.mission,
        datetime=s1_start(scene_id),
        epsg=0,
        ul_x_m=0,
        ul_y_m=0,
        width_m=0,
        height_m=0,
        orbit_direction=grd.orbit_direction,
        bands={band: str(grd.channel(band).measurement) for band in SENTINEL1.band_names},
        footprint=[(float(lon), float(lat)) for lon, lat in grd.footprint_lonlat()],
    )
    return Sentinel1GrdProduct(grd, scene, processing)
