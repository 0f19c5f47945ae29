"""Rasterize and label one full-size tile under a land cover as dense as CORINE, and read windows of a pan-European file.

    python tests/benchmarks/labels.py [--continent]

The land cover is made first, which does not count: more than 20,000 polygons of at least 25 ha with crooked borders, without gaps
or overlaps, in EPSG:3035. With ``--continent``, 2.4 million simple polygons are written as GeoParquet and GeoPackage and one
tile is read from each, in a process of its own whose peak memory is measured.

Exits 1 if a bound below is missed.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import scipy.spatial
import shapely
from rasterio.transform import from_origin

from rsdata.grid import TILE_SIDE_M, PatchGrid, Tile
from rsdata.labels import Area, label_patches, label_shares, label_source, load_nomenclature
from rsdata.recipe import Labels
from rsdata.steps.label_inputs import boxes_of

MAX_SECONDS = 20.0  # CPU time of all threads to read, rasterize and label a tile: wall time where nothing else runs
MAX_WINDOW_GIB = 1.5  # peak memory of reading one tile from 2.4 million polygons
MIN_POLYGONS = 20_000
MIN_AREA_HA = 25.0
CELL_M = 660  # between the seeds of polygons
BENDS = 12  # corners along one border
CONTINENT = 1550  # polygons along one side

READ = """
import re, sys, time
from pathlib import Path
from rsdata.labels import Area, label_source, load_nomenclature
from rsdata.recipe import Labels

def peak_gib():  # of this process alone; getrusage would count the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**20

nomenclature = load_nomenclature("bigearthnet-19")
before, start = peak_gib(), time.monotonic()
layer = label_source("corine").read(Path(sys.argv[1]), Area(32633, *map(float, sys.argv[2:6])), nomenclature, Labels())
print(len(layer.codes), time.monotonic() - start, before, peak_gib())
"""


def crooked_polygons(left_m: float, bottom_m: float, side_m: float, seed: int) -> np.ndarray:
    """Voronoi cells of a shaken lattice, each border bent at random: a mosaic without gaps or overlaps."""
    rng = np.random.default_rng(seed)
    places = np.arange(-3, int(side_m / CELL_M) + 4) * CELL_M
    seeds = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2) + rng.uniform(-0.22, 0.22, (len(places) ** 2, 2)) * CELL_M
    cells = scipy.spatial.Voronoi(seeds)
    ends = np.array([ridge for ridge in cells.ridge_vertices if -1 not in ridge])
    start, end = cells.vertices[ends[:, 0]], cells.vertices[ends[:, 1]]
    along = np.linspace(0, 1, BENDS + 2)
    lines = start[:, None] + along[:, None] * (end - start)[:, None]
    across = (end - start)[:, ::-1] * (-1, 1)
    bends = rng.uniform(-0.06, 0.06, (len(ends), BENDS + 2)) * np.sin(np.pi * along)
    lines += bends[..., None] * across[:, None]
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(lines)))
    return shapely.transform(faces[shapely.area(faces) >= MIN_AREA_HA * 1e4], lambda xy: xy + np.array([left_m, bottom_m]))


def tile_bench(folder: Path) -> bool:
    tile = Tile.from_name("33UUP")
    area = Area(tile.epsg, tile.ul_x_m, tile.ul_y_m - TILE_SIDE_M, tile.ul_x_m + TILE_SIDE_M, tile.ul_y_m)
    nomenclature = load_nomenclature("bigearthnet-19")
    shapes = crooked_polygons(area.left_m, area.bottom_m, TILE_SIDE_M, seed=4)
    inside = shapes[shapely.intersects(shapes, shapely.box(*area.bounds))]
    codes = np.random.default_rng(5).choice(sorted(nomenclature.code_names), len(inside))
    path = folder / "clc.gpkg"
    gpd.GeoDataFrame({"Code_18": codes.astype(str)}, geometry=inside, crs=tile.epsg).to_crs(3035).to_file(path, driver="GPKG")
    corners = int(shapely.get_num_coordinates(inside).sum())
    print(f"{len(inside):,} polygons, {corners:,} corners, smallest {shapely.area(inside).min() / 1e4:.0f} ha")

    seconds: dict[str, float] = {}
    start, cpu = time.monotonic(), time.process_time()

    def lap(name: str) -> None:
        seconds[name] = time.monotonic() - start - sum(seconds.values())

    layer = label_source("corine").read(path, area, nomenclature, Labels())
    lap("read")
    grid = PatchGrid.whole(tile)
    raster = layer.rasterize(from_origin(tile.ul_x_m, tile.ul_y_m, 10, 10), (TILE_SIDE_M // 10, TILE_SIDE_M // 10))
    lap("rasterize")
    counted = label_patches(grid.cut(raster, 10).reshape(-1, 120, 120), nomenclature)
    lap("label")
    wall, cpu = sum(seconds.values()), time.process_time() - cpu
    for name, value in seconds.items():
        print(f"  {name:<12}{value:6.1f} s")
    print(f"  {'all':<12}{wall:6.1f} s wall, {cpu:.1f} s CPU, {len(counted.labels)} patches (bound on CPU: {MAX_SECONDS:.0f} s)")
    start = time.monotonic()
    shares = layer.shares(boxes_of(grid))
    exact = label_shares(shares, nomenclature)
    error = max(
        abs(share - precise.get(name, 0))
        for one, precise in zip(counted.fractions, exact.fractions, strict=True)
        for name, share in one.items()
    )
    off = float(np.abs(shares.shares.sum(axis=1) - 1).max())
    print(f"  {'exact areas':<12}{time.monotonic() - start:6.1f} s; shares sum to 1 within {off:.1g}")
    print(f"  counting pixels strays from exact areas by at most {error:.2%} of a patch")
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:6.2f} GiB, making the polygons included")
    return cpu <= MAX_SECONDS and len(inside) >= MIN_POLYGONS and off <= 1e-9


def continent_bench(folder: Path) -> bool:
    """Read one tile from files as large as the pan-European one."""
    x, y = np.meshgrid(np.arange(CONTINENT) * 2000.0 + 2_900_000, np.arange(CONTINENT) * 2000.0 + 1_500_000)
    squares = shapely.box(x.ravel(), y.ravel(), x.ravel() + 2000, y.ravel() + 2000)
    codes = np.random.default_rng(6).choice(sorted(load_nomenclature("clc-3").code_names), len(squares)).astype(str)
    table = gpd.GeoDataFrame({"Code_18": codes}, geometry=squares, crs=3035)
    tile = Tile.from_name("33UUP")
    bounds = [tile.ul_x_m, tile.ul_y_m - TILE_SIDE_M, tile.ul_x_m + TILE_SIDE_M, tile.ul_y_m]
    kept = True
    for name, write in {
        "bbox.parquet": lambda path: table.to_parquet(path, write_covering_bbox=True, schema_version="1.1.0", row_group_size=50_000),
        "plain.parquet": lambda path: table.to_parquet(path, row_group_size=50_000),
        "clc.gpkg": lambda path: table.to_file(path, driver="GPKG"),
    }.items():
        start = time.monotonic()
        write(folder / name)
        made = time.monotonic() - start
        command = [sys.executable, "-c", READ, str(folder / name), *map(str, bounds)]
        found, wall, before, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        size = (folder / name).stat().st_size / 2**20
        print(f"{name}: {len(table):,} polygons, {size:.0f} MiB, written in {made:.0f} s")
        print(f"  a tile of {found} polygons read in {float(wall):.1f} s")
        print(f"  peak memory {float(peak):.2f} GiB, {float(before):.2f} GiB of it before (bound: {MAX_WINDOW_GIB} GiB)")
        kept = kept and float(peak) <= MAX_WINDOW_GIB
        (folder / name).unlink()
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--continent", action="store_true", help="read windows of 2.4 million polygons too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = tile_bench(Path(folder))
        if asked.continent:
            kept = continent_bench(Path(folder)) and kept
    print("all bounds kept" if kept else "a bound is missed")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
