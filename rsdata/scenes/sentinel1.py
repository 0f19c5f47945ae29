"""Sentinel-1 scenes that are terrain corrected already: one GeoTIFF in decibel per polarisation.

Pixels are never moved: the rasters must lie on the Sentinel-2 tile's own 10 m grid, and a scene that does not
is refused rather than shifted by part of a pixel.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rsdata.errors import SceneError
from rsdata.records import Sentinel1Scene, is_s1_product, s1_scene_id, s1_start
from rsdata.scenes.product import ProductFiles, list_files
from rsdata.sensors import SENTINEL1

PIXEL_M = 10


@dataclass(frozen=True)
class Sentinel1Product:
    """One pair of polarisations, opened: its georeference is read, its pixels are not."""

    files: ProductFiles
    scene: Sentinel1Scene

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
        return pixels


def open_sentinel1(path: Path) -> Sentinel1Product:
    """Open a folder named like a Sentinel-1 GRD product that holds one GeoTIFF for VV and one for VH.

    Raises: SceneError if a polarisation is missing or the two do not lie on one 10 m grid.
    """
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
    return Sentinel1Product(files, scene)
