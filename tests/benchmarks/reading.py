"""Read shuffled batches of BigEarthNet-like patches and compare with other formats and readers on the same patches.

    python tests/benchmarks/reading.py [--patches N] [--rounds N] [--scratch DIR]

The patches are windows of real pixels (Sentinel-2 of Major TOM, Sentinel-1 of SSL4EO-S12), made first. Every reader gives
batches of 64, all 14 bands as float32 at 120 x 120 px, normalised, shuffled, from a warm page cache, on one thread, in a
process of its own. Processes wait for each other: a round runs each once, in turn. Ratios are of medians over the rounds
of CPU seconds per patch, which other work on the machine disturbs least; two workers are compared with one by wall time,
round by round. The cold cache
is made by ``posix_fadvise(DONTNEED)`` on the shard's file, which drops its clean pages.

Exits 1 if a bound below is missed, or a reader is left out because its library is not installed (``pip install rsdata[bench]``).
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import chain
from multiprocessing.connection import Connection
from operator import truediv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from convert import SHARED, SIDES_PX, read

BATCH = 64
RATIOS = {"lmdb": 15.0, "webdataset": 10.0, "litdata": 10.0, "datasets": 3.0, "npy": 1.5}  # rsdata over each, at least
TWO_WORKERS, RGB_ONLY = 1.6, 3.0  # over one worker; over all bands
ZARR = 5.0  # rsdata over its Zarr shard, over zarr-python on the same store
SLOW = {"lmdb", "webdataset", "litdata", "zarr"}  # read only so many patches of an epoch
SLOW_PATCHES = 16 * BATCH
EPOCHS = 4  # that the others read in a round; one lasts a fifth of a second, too short to say anything


def make_shard(folder: Path, patches: int, shared: Path = SHARED) -> Path:
    from rsdata.records import LabelClass
    from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
    from rsdata.shards import pack, write_part

    optical = [{band: read(each / f"{band}.tif") for band in SIDES_PX} for each in sorted((shared / "major_tom_core/S2L2A").glob("*/*/*"))]
    radar = [{band: read(each / f"{band}.tif") for band in ("VH", "VV")} for each in sorted((shared / "ssl4eo_s12/s1").glob("*/*"))]
    random = np.random.default_rng(0)
    values: dict[str, dict[str, np.ndarray]] = {}
    rows = []
    for number in range(patches):
        scene, cell = divmod(number, 8000)
        end = f"{cell // 90:02d}_{cell % 90:02d}"
        patch_id = f"S2A_MSIL2A_20170613T1010{scene:02d}_N9999_R022_T33UUP_{end}"
        s1_key = f"S1A_IW_GRDH_1SDV_20170613T1650{scene:02d}_33UUP_{end}"
        y, x = (int(place) * 6 for place in random.integers(0, 158, 2))  # multiples of 60 m
        values[patch_id] = {
            band: optical[number % 2][band][y * side // 120 :, x * side // 120 :][:side, :side] for band, side in SIDES_PX.items()
        }
        y, x = (int(place) for place in random.integers(0, 145, 2))
        values[s1_key] = {band: radar[number % 2][band][y : y + 120, x : x + 120].astype(np.float32) for band in ("VH", "VV")}
        values[f"{patch_id}_reference_map"] = {"Data": np.full((120, 120), 999, np.uint16)}
        rows.append((patch_id, "s2", s1_key, f"{patch_id}_reference_map", "train", ["a"]))
    names = ["patch_id", "sensor", "s1_key", "reference_map_key", "split", "labels"]
    write_part(folder / "part", values)
    pack(
        folder / "shard", [folder / "part"], name="reading", index=pd.DataFrame(rows, columns=names),
        sensors=(SENTINEL2, SENTINEL1, REFERENCE_MAP), offsets={}, quantification=10_000,
        labels=[LabelClass(index=0, name="a", color="#000000", codes=[])], unlabeled_codes=[999], recipe_sha256="0" * 64,
    )  # fmt: skip
    shutil.rmtree(folder / "part")
    return folder / "shard"


def serve(case: str, folder: Path, pipe: Connection) -> None:
    """Be one reader: for each number received, read the epochs of that round and send (patches, wall s, CPU s)."""
    import torch

    from rsdata.shards import open_shard
    from rsdata.training import Normalisation, PatchDataset
    from rsdata.training.comparison import READERS, RsdataReader

    torch.set_num_threads(1)
    shard = open_shard(folder / ("zarr/shard" if case == "over zarr" else "shard"))
    bands = ["B02", "B03", "B04"] if case == "rgb" else None
    options: dict[str, Any] = {"bilinear": {"resampling": "bilinear"}, "turned": {"augment": True}}.get(case, {})
    dataset = PatchDataset(shard, "train", Normalisation.from_manifest(shard.manifest, bands), **options)
    reader = READERS[case]() if case in READERS else RsdataReader({"one worker": 1, "two workers": 2}.get(case, 0))
    place = folder / case
    if case in READERS and not place.exists():
        place.mkdir()
        reader.write(place, dataset)
    epoch = reader.open(place, dataset, BATCH)
    for _ in zip(range(3), epoch(0), strict=False):  # compiles, opens files
        pass
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        wanted = SLOW_PATCHES if case in SLOW else EPOCHS * len(dataset)
        patches, checked, wall, cpu = 0, 0.0, time.perf_counter(), time.process_time()
        for pixels in chain.from_iterable(epoch(EPOCHS * number + each) for each in range(EPOCHS)):
            patches += len(pixels)
            checked += float(pixels[0, 0, 0, 0])
            if patches >= wanted:
                break
        pipe.send((patches, time.perf_counter() - wall, time.process_time() - cpu))


def cold_mb_per_s(folder: Path) -> dict[str, float]:
    """Reading once from a cold cache, MB of stored pixels a second, and ``cat`` of the same file."""
    data = folder / "shard" / "data.mdb"

    def drop() -> None:
        with data.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    found = {}
    size = data.stat().st_size
    for case, command in (("cat", ["cat", str(data)]), ("rsdata", [sys.executable, __file__, "--cold", str(folder)])):
        drop()
        started = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE if case != "cat" else subprocess.DEVNULL)
        found[case] = size / 1e6 / (json.loads(done.stdout) if done.stdout else time.perf_counter() - started)
    return found


def read_cold(folder: Path) -> float:
    """Seconds one shuffled epoch takes, from the first batch asked for."""
    from rsdata.shards import open_shard
    from rsdata.training import PatchDataset, PatchLoader

    dataset = PatchDataset(open_shard(folder / "shard"), "train")
    started = time.perf_counter()
    for _ in PatchLoader(dataset, BATCH, shuffle=True, workers=2):
        pass
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patches", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--cold", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cold:
        print(json.dumps(read_cold(options.cold)))
        return 0

    from rsdata.training.comparison import installed_readers

    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        make_shard(folder, options.patches)
        missing = [name for name in RATIOS if name not in installed_readers()]
        compared = [name for name in RATIOS if name not in missing]
        cases = ["rsdata", *compared, "zarr", "over zarr", "rgb", "one worker", "two workers", "bilinear", "turned"]
        context = multiprocessing.get_context("spawn")
        pipes = {}
        for case in cases:
            here, there = context.Pipe()
            context.Process(target=serve, args=(case, folder, there), daemon=True).start()
            there.close()  # so that a reader that dies is noticed
            pipes[case] = here
            here.recv()  # one after the other, so that making the files disturbs nobody
            print(f"{case}: ready", file=sys.stderr)
        wall: dict[str, list[float]] = {case: [] for case in cases}
        cpu: dict[str, list[float]] = {case: [] for case in cases}
        for number in range(options.rounds):
            for case, pipe in pipes.items():
                pipe.send(number + 1)
                patches, wall_s, cpu_s = pipe.recv()
                wall[case].append(wall_s / patches)
                cpu[case].append(cpu_s / patches)
        for pipe in pipes.values():
            pipe.send(None)
        cold = cold_mb_per_s(folder)

    middle_wall, middle_cpu = ({case: statistics.median(all_s) for case, all_s in each.items()} for each in (wall, cpu))
    print(f"{'reader':14} {'samples/s':>10} {'per CPU s':>10}")
    for case in cases:
        print(f"{case:14} {1 / middle_wall[case]:10,.0f} {1 / middle_cpu[case]:10,.0f}")
    bounds = [(f"over {name}", middle_cpu[name] / middle_cpu["rsdata"], least) for name, least in RATIOS.items() if name not in missing]
    bounds.append(("Zarr, over zarr-python", middle_cpu["zarr"] / middle_cpu["over zarr"], ZARR))
    bounds.append(("two workers over one, wall", statistics.median(map(truediv, wall["one worker"], wall["two workers"])), TWO_WORKERS))
    bounds.append(("RGB over all bands", middle_cpu["rsdata"] / middle_cpu["rgb"], RGB_ONLY))
    for text, found, least in bounds:
        print(f"{text:28} {found:6.2f}  at least {least}{'' if found >= least else '  MISSED'}")
    print("cold cache, MB/s: " + ", ".join(f"{case} {found:,.0f}" for case, found in cold.items()))
    for name in missing:
        print(f"{name} is not installed: not compared  MISSED")
    return int(bool(missing) or any(found < least for _, found, least in bounds))


if __name__ == "__main__":
    sys.exit(main())
