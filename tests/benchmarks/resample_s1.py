"""Bring a terrain-corrected Sentinel-1 raster of the zone beside onto a whole tile: CPU time, wall time, peak memory.

    python tests/benchmarks/resample_s1.py [--folder DIR]

The raster is speckle made on the spot, some 550 MB compressed, and removed afterwards.
"""

import argparse
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from affine import Affine
from rasterio.windows import Window

from rsdata.grid import TILE_SIDE_M, Tile
from rsdata.scenes import Sentinel1Processing, open_sentinel1

NAME = "S1A_IW_20230612T051234_DVP_RTC10_G_gpuned_FD6A"
TILE = Tile.from_name("33UUP")
STRIP_PX = 2048


def make(folder: Path) -> Path:
    """A HyP3 product in zone 32 that covers the tile."""
    x_m = TILE.ul_x_m + np.array([0, TILE_SIDE_M, 0, TILE_SIDE_M])
    y_m = TILE.ul_y_m - np.array([0, 0, TILE_SIDE_M, TILE_SIDE_M])
    x, y = pyproj.Transformer.from_crs(TILE.epsg, 32632, always_xy=True).transform(x_m, y_m)
    left, top = x.min() // 10 * 10 - 500, y.max() // 10 * 10 + 500
    width, height = int((x.max() - left) // 10) + 50, int((top - y.min()) // 10) + 50
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "float32", "crs": "EPSG:32632", "nodata": 0}
    profile |= {"transform": Affine(10, 0, left, 0, -10, top), "compress": "deflate", "zlevel": 1}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512}
    product = folder / NAME
    product.mkdir()
    with rasterio.open(product / f"{NAME}_VV.tif", "w", **profile) as raster:
        for row in range(0, height, STRIP_PX):
            strip = rng.exponential(0.05, (min(STRIP_PX, height - row), width)).astype(np.float32)
            raster.write(strip, 1, window=Window(0, row, width, len(strip)))
    (product / f"{NAME}_VH.tif").hardlink_to(product / f"{NAME}_VV.tif")
    return product


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the raster is made")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as folder:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as aside:  # its memory does not count
            path = aside.submit(make, Path(folder)).result()
        start = cpu_s()
        with rasterio.open(path / f"{NAME}_VV.tif") as raster:
            for _, window in raster.block_windows(1):
                raster.read(1, window=window)
        print(f"decoding alone: {cpu_s() - start:.1f} s CPU")
        product = open_sentinel1(path, Sentinel1Processing(resample=True))
        start, clock = cpu_s(), time.monotonic()
        extent = {"epsg": TILE.epsg, "ul_x_m": TILE.ul_x_m, "ul_y_m": TILE.ul_y_m, "width_m": TILE_SIDE_M, "height_m": TILE_SIDE_M}
        pixels = product.read("VV", **extent)
        peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"resampling: {cpu_s() - start:.1f} s CPU, {time.monotonic() - clock:.1f} s, peak {peak_gib:.2f} GiB in all")
        print(f"result: {pixels.nbytes / 2**30:.2f} GiB, {np.isfinite(pixels).mean():.4f} of it there")


if __name__ == "__main__":
    main()
