"""Terrain correct one full-size tile from a full-size GRD and print time, peak memory and where the time goes.

    python tests/benchmarks/terrain.py [--out DIR] [--threads N] [--corrector NAME] [--side PX] [--profile]

The product (16,700 x 26,000 pixels, plain strips as ESA delivers them) and the elevation model (one arc second, hills with
an alpine third so that layover and shadow are searched for) are synthetic and made first; making them does not count. The
correction runs in a process of its own, so its peak memory is its own; --profile runs it once more with one thread under
cProfile.

Exits 1 if a bound below is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from rasterio.transform import from_origin

from rsdata.grid import TILE_SIDE_M, Tile
from rsdata.testing.grd import GrdScene, write_grd_safe

MAX_PEAK_GIB = 6.0
TILE = Tile.from_name("33UUP")
SHAPE_YX = (16_700, 26_000)
ARC_SECOND = 1 / 3600

CORRECT = """
import cProfile, json, pstats, resource, sys, time
from pathlib import Path
import numpy as np
from rsdata.scenes.sentinel1 import CORRECTORS
from rsdata.scenes.dem import open_dem
from rsdata.scenes.grd import open_grd
from rsdata.scenes.grd_radiometry import to_db
from rsdata.scenes.terrain import Ground
safe, dem, corrector, threads, side, epsg, left, top, profile = sys.argv[1:]
ground = Ground(int(epsg), int(left), int(top), int(side), int(side))
started, cpu = time.monotonic(), time.process_time()
profiler = cProfile.Profile()
if profile == "1":
    from concurrent.futures import Future
    import rsdata.scenes.terrain as terrain
    class Inline:
        def __init__(self, workers): pass
        def __enter__(self): return self
        def __exit__(self, *error): pass
        def submit(self, work, *arguments):
            done = Future(); done.set_result(work(*arguments)); return done
    terrain.ThreadPoolExecutor = Inline
    profiler.enable()
found = CORRECTORS[corrector](open_grd(Path(safe)), "VV", open_dem([dem], datum="ellipsoid"), ground, threads=int(threads))
profiler.disable()
print(json.dumps({
    "wall_s": round(time.monotonic() - started, 1),
    "cpu_s": round(time.process_time() - cpu, 1),
    "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    "missing": {str(flag): round(float(np.mean((found.mask & flag) > 0)), 4) for flag in (1, 2, 4, 8)},
    "median_db": round(float(np.nanmedian(to_db(found.power[::16, ::16]))), 2),
}))
if profile == "1":
    pstats.Stats(profiler).sort_stats("tottime").print_stats(14)
"""


def make_inputs(folder: Path) -> tuple[Path, Path]:
    """A product around the tile's centre, and heights a little beyond its edges."""
    to_lonlat = pyproj.Transformer.from_crs(TILE.epsg, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(TILE.ul_x_m + TILE_SIDE_M / 2, TILE.ul_y_m - TILE_SIDE_M / 2)
    dem = folder / "dem.tif"
    if not dem.exists():
        rows, cols = int(1.3 / ARC_SECOND), int(2.0 / ARC_SECOND)
        rng = np.random.default_rng(0)
        height_m = np.full((rows, cols), 400.0, np.float32)
        y, x = np.arange(rows, dtype=np.float32)[:, None], np.arange(cols, dtype=np.float32)[None, :]
        for wave_px, rise_m in ((900, 250), (260, 90), (70, 25)):
            height_m += rise_m * np.sin(x / wave_px * 6.28 + rng.uniform(0, 6)) * np.sin(y / wave_px * 6.28 + rng.uniform(0, 6))
        alpine = slice(0, rows // 3)
        height_m[alpine] += 700 * np.abs(np.sin(x / 60) * np.sin(y[alpine] / 55))
        with rasterio.open(
            dem, "w", driver="GTiff", width=cols, height=rows, count=1, dtype="float32", crs="EPSG:4326", tiled=True, compress="deflate",
            transform=from_origin(lon - 1.0, lat + 0.65, ARC_SECOND, ARC_SECOND),
        ) as raster:  # fmt: skip
            raster.write(height_m, 1)
    safes = sorted(folder.glob("*.SAFE"))
    if safes:
        return safes[0], dem
    dn = np.random.default_rng(1).integers(50, 600, SHAPE_YX, dtype=np.uint16)
    scene = GrdScene(lon, lat, datetime(2023, 6, 12, 5, 12, 34, tzinfo=UTC), SHAPE_YX)
    return write_grd_safe(folder, scene, {"VV": dn}, compress=None), dem


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="keep product and heights here, and use those that are there")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--corrector", default="range-doppler")
    parser.add_argument("--side", type=int, default=TILE_SIDE_M // 10, help="pixels of the window, from the tile's corner")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        safe, dem = make_inputs(folder)
        arguments = [
            str(safe),
            str(dem),
            given.corrector,
            str(given.threads),
            str(given.side),
            str(TILE.epsg),
            str(TILE.ul_x_m),
            str(TILE.ul_y_m),
        ]
        run = subprocess.run([sys.executable, "-c", CORRECT, *arguments, "0"], check=True, capture_output=True, text=True)
        figures = json.loads(run.stdout.splitlines()[0])
        print(json.dumps({"corrector": given.corrector, "threads": given.threads, "side_px": given.side} | figures, indent=2))
        if given.profile:
            print(subprocess.run([sys.executable, "-c", CORRECT, *arguments, "1"], check=True, capture_output=True, text=True).stdout)
    return 0 if figures["peak_gib"] <= MAX_PEAK_GIB else 1


if __name__ == "__main__":
    sys.exit(main())
