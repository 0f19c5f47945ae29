"""Writes terrain-corrected Sentinel-1 pairs: one GeoTIFF per polarisation on a Sentinel-2 tile's 10 m grid."""

from pathlib import Path

import numpy as np
from rasterio.transform import from_origin

from rsdata.errors import SceneError
from rsdata.grid import PatchGrid, Tile
from rsdata.records import s1_scene_id
from rsdata.testing.safe import write_raster, written_aside


def write_s1_pair(
    folder: Path,
    *,
    product_name: str,
    tile: Tile,
    vv: np.ndarray,
    vh: np.ndarray,
    ul_x_m: int | None = None,
    ul_y_m: int | None = None,
    threads: int | str = "ALL_CPUS",
) -> Path:
    """Write ``<product>/<product>_VV.tif`` and ``_VH.tif``; the folder appears only once it is whole.

    Args:
        folder: where the product's folder is made.
        product_name: name of a GRD product, such as S1A_IW_GRDH_1SDV_20230612T051234_20230612T051259_048951_05E2F1_A1B2.
        vv: (y, x) float32 backscatter in dB at 10 m; NaN is no data.
        vh: the same for the other polarisation.
        ul_x_m: left edge of the raster, metres; the tile's own if absent.
        ul_y_m: upper edge of the raster, metres; the tile's own if absent.
        threads: GDAL_NUM_THREADS while compressing.

    Returns: the product's folder.
    Raises:
        CatalogError: if the name is not that of a GRD product.
        SceneError: if the two differ in shape or are not float32.
        GridError: if the raster does not lie in its tile.
        WorkspaceError: if the system refuses to write.
    """
    s1_scene_id(product_name)  # refuses a name that nobody could find again
    if vv.shape != vh.shape or vv.ndim != 2 or vv.dtype != np.float32 or vh.dtype != np.float32:
        raise SceneError(
            f"VV is {vv.dtype} {vv.shape} and VH is {vh.dtype} {vh.shape}; expected two (y, x) float32 rasters of one shape",
            product=product_name,
        )
    left, top = tile.ul_x_m if ul_x_m is None else ul_x_m, tile.ul_y_m if ul_y_m is None else ul_y_m
    height, width = vv.shape
    PatchGrid(tile, left, top, width * 10, height * 10)  # refuses what lies outside
    target = folder / product_name
    with written_aside(target) as aside:
        for polarisation, pixels in (("VV", vv), ("VH", vh)):
            write_raster(
                aside / f"{product_name}_{polarisation}.tif",
                pixels,
                threads=threads,
                driver="GTiff",
                crs=f"EPSG:{tile.epsg}",
                transform=from_origin(left, top, 10, 10),
                nodata=float("nan"),
                compress="deflate",
                predictor=3,
                zlevel=1,
                tiled=True,
                blockxsize=256,
                blockysize=256,
                BIGTIFF="IF_SAFER",
            )
    return target
