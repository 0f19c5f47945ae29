"""Convert BigEarthNet-like patches and compare with a plain rasterio loop and with ``cp -r``.

    python tests/benchmarks/convert.py [--patches N] [--rounds N] [--workers 1 2] [--scratch DIR]

The tree is made first from real pixels: Sentinel-2 windows of Major TOM pieces, Sentinel-1 windows of SSL4EO-S12, under
the headers of real BigEarthNet files. Nothing of that counts. Then each round runs, one after the other on the same
files, the plain loop (rasterio, safetensors, LMDB, one commit per 512 values, synced at the end), ``cp -r`` with a sync,
and ``rsdata.shards.convert``; ratios are of medians over the rounds. Each finds memory that the
machine has at hand. What is converted is compared with the plain loop's
database, value by value.

Exits 1 if a bound below is missed.
"""

import argparse
import json
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, zip_longest
from pathlib import Path

import lmdb
import numpy as np
import rasterio
from safetensors.numpy import save

MIN_RATIO = 10.0  # plain loop over rsdata, same workers
MAX_PEAK_MB = 500.0
SHARED = Path(__file__).parents[3] / "shared" / "data"

SIDES_PX = {
    "B02": 120, "B03": 120, "B04": 120, "B08": 120, "B05": 60, "B06": 60, "B07": 60, "B8A": 60, "B11": 60, "B12": 60, "B01": 20, "B09": 20,
}  # fmt: skip
PER_SCENE = 2000
CHUNK = 512
WARMED_BYTES = 2 * 2**30


def make_tree(out: Path, patches: int, shared: Path = SHARED) -> int:
    """Write ``patches`` pairs of Sentinel-1 and Sentinel-2 patches, 14 files each; return the bytes written."""
    optical = [
        {band: read(folder / f"{band}.tif") for band in SIDES_PX} for folder in sorted((shared / "major_tom_core/S2L2A").glob("*/*/*"))
    ]
    radar = [{band: read(folder / f"{band}.tif") for band in ("VH", "VV")} for folder in sorted((shared / "ssl4eo_s12/s1").glob("*/*"))]
    headers = {side: header(shared, band, side * side * 2) for side, band in ((120, "B02"), (60, "B05"), (20, "B01"))}
    radar_header = header(shared, "VV", 120 * 120 * 4)
    random = np.random.default_rng(0)
    total = 0
    for number in range(patches):
        scene, cell = divmod(number, PER_SCENE)
        col, row = divmod(cell, 90)
        corner = struct.pack("<2d", 300_000 + 1200 * col, 5_400_000 - 1200 * row)
        letter = "AB"[scene % 2]
        s2, s1 = f"S2{letter}_MSIL2A_20170613T1010{scene:02d}_N9999_R022_T33UUP", f"S1{letter}_IW_GRDH_1SDV_20170613T1650{scene:02d}"
        y, x = (int(place) * 6 for place in random.integers(0, 158, 2))  # multiples of 60 m
        files = {
            f"BigEarthNet-S2/{s2}/{s2}_{col:02d}_{row:02d}": {
                band: (headers[side], optical[number % 2][band][y * side // 120 :, x * side // 120 :][:side, :side].astype("<u2"))
                for band, side in SIDES_PX.items()
            }
        }
        y, x = (int(place) for place in random.integers(0, 145, 2))
        files[f"BigEarthNet-S1/{s1}/{s1}_33UUP_{col}_{row}"] = {
            band: (radar_header, radar[number % 2][band][y : y + 120, x : x + 120].astype("<f4")) for band in ("VH", "VV")
        }
        for folder, bands in files.items():
            (out / folder).mkdir(parents=True)
            for band, ((head, place), pixels) in bands.items():
                text = head[:place] + corner + head[place + 16 :] + pixels.tobytes()
                (out / folder / f"{Path(folder).name}_{band}.tif").write_bytes(text)
                total += len(text)
    return total


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


def header(shared: Path, band: str, pixel_bytes: int) -> tuple[bytes, int]:
    """What stands before the pixels of a real file of the band, and where its corner's coordinates are."""
    (path,) = (shared / "bigearthnet_v2/tiffs").glob(f"*/*/*/*_{band}.tif")
    with rasterio.open(path) as raster:
        corner = struct.pack("<2d", raster.transform.c, raster.transform.f)
    text = path.read_bytes()[:-pixel_bytes]
    return text, text.index(corner)


def encode_patch(folder: str) -> tuple[str, bytes]:
    """A patch as anybody would encode it."""
    bands = {}
    for path in sorted(Path(folder).glob("*.tif")):
        with rasterio.open(path) as raster:
            bands[path.stem.rsplit("_", 1)[1]] = raster.read(1)
    return Path(folder).name, save(bands)


def plain_loop(tree: Path, target: Path, workers: int) -> None:
    target.mkdir()
    folders = iter(sorted((str(folder) for folder in tree.glob("*/*/*")), key=lambda folder: Path(folder).name))
    env = lmdb.open(str(target), map_size=2**40, lock=False, sync=False, metasync=False)
    pool = ProcessPoolExecutor(workers) if workers > 1 else None

    def chunks() -> Iterator[list[str]]:
        while chunk := list(islice(folders, CHUNK)):
            yield chunk

    for chunk in chunks():
        encoded = pool.map(encode_patch, chunk, chunksize=32) if pool else map(encode_patch, chunk)
        with env.begin(write=True) as transaction:
            for key, value in encoded:
                transaction.put(key.encode(), value, append=True)
    if pool:
        pool.shutdown()
    env.sync(True)
    env.close()


def with_rsdata(tree: Path, target: Path, workers: int) -> None:
    from rsdata import steps

    steps.convert_dataset("bigearthnet", {"s1-dir": tree / "BigEarthNet-S1", "s2-dir": tree / "BigEarthNet-S2"}, target, workers=workers)


def copy_tree(tree: Path, target: Path, workers: int) -> None:
    subprocess.run(["cp", "-r", tree, target], check=True)
    subprocess.run(["sync", "-f", target], check=True)


WAYS = {"rasterio": plain_loop, "rsdata": with_rsdata, "cp": copy_tree}


def timed(way: str, tree: Path, target: Path, workers: int) -> dict[str, float]:
    """Run one way in a process of its own: wall and CPU seconds without imports, peak memory in MB."""
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, __file__, "--run", way, str(tree), str(target), str(workers)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)


def run(way: str, tree: Path, target: Path, workers: int) -> None:
    if way == "rsdata":  # imports do not count for anybody, nor does loading compiled code, about a second
        with tempfile.TemporaryDirectory() as scratch:
            for folder in ("BigEarthNet-S1", "BigEarthNet-S2"):
                patch = min((tree / folder).glob("*/*"))
                shutil.copytree(patch, Path(scratch) / folder / patch.parent.name / patch.name)
            with_rsdata(Path(scratch), Path(scratch) / "out", workers)
    warm_memory()
    start, before = time.monotonic(), cpu_s()
    WAYS[way](tree, target, workers)
    wall, cpu = time.monotonic() - start, cpu_s() - before
    print(json.dumps({"wall": wall, "cpu": cpu, "peak_mb": peak_mb()}))


def warm_memory() -> None:
    """Touch as much memory as a run needs and give it back.

    A virtual machine that returns free pages to its host waits for each when it is wanted again, seconds for a gigabyte:
    whoever runs after a pause, or after a large file was deleted, would pay for it.
    """
    np.ones(WARMED_BYTES, np.uint8)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew


def peak_mb() -> float:
    """Largest resident memory of this process alone; what getrusage says includes the parent's at the time of the fork."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def equal(a: Path, b: Path) -> bool:
    """Whether two databases hold the same keys and the same bytes under each."""
    with (
        lmdb.open(str(a), readonly=True, lock=False) as first,
        lmdb.open(str(b), readonly=True, lock=False) as second,
        first.begin(buffers=True) as left,
        second.begin(buffers=True) as right,
    ):
        return all(x == y for x, y in zip_longest(left.cursor(), right.cursor()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scratch", type=Path, help="folder to work in, on the disk to be measured")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        way, tree, target, workers = arguments.run
        run(way, Path(tree), Path(target), int(workers))
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        tree, target = Path(scratch) / "tree", Path(scratch) / "target"
        total = make_tree(tree, arguments.patches)
        print(f"{arguments.patches} patches, {arguments.patches * 14} files, {total / 1e9:.2f} GB, {arguments.rounds} rounds", flush=True)
        timed("rsdata", tree, target, 1)  # compiles, and brings the files into the page cache
        cases = [("cp", 1)] + [(way, workers) for workers in arguments.workers for way in ("rasterio", "rsdata")]
        seen: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
        for _ in range(arguments.rounds):
            for case in cases:
                seen[case].append(timed(case[0], tree, target, case[1]))
                print(f"  {case[0]:<9} {case[1]} worker(s): " + ", ".join(f"{k} {v:.1f}" for k, v in seen[case][-1].items()), flush=True)
                if case[0] == "rasterio":
                    shutil.rmtree(f"{target}-plain", ignore_errors=True)
                    target.rename(f"{target}-plain")
                elif case[0] == "rsdata" and not equal(target, Path(f"{target}-plain")):
                    print("the databases differ")
                    return 1
        missed = False
        wall = {case: statistics.median(each["wall"] for each in runs) for case, runs in seen.items()}
        cpu = {case: statistics.median(each["cpu"] for each in runs) for case, runs in seen.items()}
        for workers in arguments.workers:
            plain, ours = ("rasterio", workers), ("rsdata", workers)
            peak = max(each["peak_mb"] for each in seen[ours])
            ratio, copies = wall[plain] / wall[ours], wall["cp", 1] / wall[ours]
            print(
                f"{workers} worker(s): plain loop {wall[plain]:.1f} s, rsdata {wall[ours]:.1f} s, "
                f"{arguments.patches / wall[ours]:.0f} patches/s; ratio {ratio:.1f}, of CPU time {cpu[plain] / cpu[ours]:.1f}; "
                f"cp -r {wall['cp', 1]:.1f} s, {copies:.1f} times rsdata; peak {peak:.0f} MB"
            )
            missed |= ratio < MIN_RATIO or copies < 1 or peak > MAX_PEAK_MB
        print("missed" if missed else "held")
        return int(missed)


if __name__ == "__main__":
    sys.exit(main())
