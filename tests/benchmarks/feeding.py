"""Does the loader keep a network fed: its rate alone, and the share of time that training waits for it.

    python tests/benchmarks/feeding.py [SHARD] [--model resnet50] [--steps N] [--on-device]

Makes a shard of 256 patches with random pixels, all 14 bands, unless one is named. Prints

1. patches per second of the loop over batches with the training step replaced by nothing, and of the plain reader that
   ``rsdata shards bench`` times, in turns, so that other work on the machine slows both alike;
2. the share of wall and CPU time of real training steps that is spent in the network and not in waiting for a batch;
3. with ``--on-device``, the same patches brought to one grid and normalised by torch after reading instead of while reading.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from rsdata.records import LabelClass
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.shards import Shard, open_shard, pack, write_part
from rsdata.training import Normalisation, PatchDataset, PatchLoader, build_model
from rsdata.training.comparison import RsdataReader
from rsdata.training.inference import loader_workers

BATCH, ROUNDS = 64, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shard", nargs="?", type=Path)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16, help="patches per step of the network")
    parser.add_argument("--on-device", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    with tempfile.TemporaryDirectory(prefix="rsdata-feeding-") as folder:
        path = arguments.shard or made_shard(Path(folder))
        with open_shard(path) as shard:
            rates(path, shard)
            if arguments.on_device:
                on_device(shard)
            steps(shard, arguments.model, arguments.steps, arguments.batch)


def made_shard(folder: Path, patches: int = 256) -> Path:
    random, rows = np.random.default_rng(0), []
    values: dict[str, dict[str, np.ndarray]] = {}
    for number in range(patches):
        row, col = divmod(number, 91)
        patch, radar = (
            f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{col:02d}_{row:02d}",
            f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_{col}_{row}",
        )
        values[patch] = {band.name: random.integers(1, 6000, (band.pixels(1200),) * 2).astype(np.uint16) for band in SENTINEL2.bands}
        values[radar] = {band: random.normal(-12, 2, (120, 120)).astype(np.float32) for band in SENTINEL1.band_names}
        values[f"{patch}_reference_map"] = {"Data": np.full((120, 120), 231, np.uint16)}
        rows.append((patch, "s2", radar, f"{patch}_reference_map", "train", [f"class {number % 19}"]))
    write_part(folder / "part", values)
    pack(
        folder / "shard", [folder / "part"], name="feeding",
        index=pd.DataFrame(rows, columns=["patch_id", "sensor", "s1_key", "reference_map_key", "split", "labels"]),
        sensors=(SENTINEL2, SENTINEL1, REFERENCE_MAP), offsets={}, quantification=10_000,
        labels=[LabelClass(index=index, name=f"class {index}", color="#000000", codes=[]) for index in range(19)],
        unlabeled_codes=[999], recipe_sha256="0" * 64,
    )  # fmt: skip
    return folder / "shard"


def per_second(batches: Iterator[Tensor]) -> tuple[float, float]:
    """Patches per second of wall and of CPU time."""
    started, used, count = time.perf_counter(), time.process_time(), 0
    for pixels in batches:
        count += len(pixels)
    return count / (time.perf_counter() - started), count / (time.process_time() - used)


def rates(path: Path, shard: Shard) -> None:
    """The loop of training without its step, against the reader of the shard benchmark, in turns."""
    normalisation = Normalisation.from_manifest(shard.manifest)
    dataset = PatchDataset(shard, "train", normalisation)
    reader = RsdataReader().open(path, dataset, BATCH)
    loader = PatchLoader(dataset, BATCH, shuffle=True, rank=0, world_size=1)

    def loop() -> Iterator[Tensor]:
        for pixels, targets in loader:
            assert len(pixels) == len(targets)
            yield pixels

    for _ in reader(0), loop():
        pass
    per_second(loop())
    per_second(iter(reader(0)))
    found = {"loop": [], "bench": []}  # type: dict[str, list[tuple[float, float]]]
    for number in range(ROUNDS):
        found["loop"].append(per_second(loop()))
        found["bench"].append(per_second(iter(reader(number + 1))))
    for place, kind in enumerate(("wall", "CPU")):
        loop_rate, bench_rate = (statistics.median(each[place] for each in found[name]) for name in ("loop", "bench"))
        ratio = statistics.median(a[place] / b[place] for a, b in zip(found["loop"], found["bench"], strict=True))
        print(f"patches per {kind} second: training loop without a step {loop_rate:,.0f}, shard bench {bench_rate:,.0f}, ratio {ratio:.2f}")


def steps(shard: Shard, name: str, count: int, batch: int) -> None:
    """Real steps: the time between asking for a batch and having it, against all else."""
    dataset = PatchDataset(shard, "train", Normalisation.from_manifest(shard.manifest), augment=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_model(name, len(dataset.normalisation.bands), len(dataset.classes)).to(device)
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters())
    waited = used_waiting = 0.0
    done = 0
    with PatchLoader(dataset, batch, shuffle=True, workers=loader_workers(device), rank=0, world_size=1) as loader:
        batches = iter(loader)
        for step in range(count + 1):
            if step == 1:  # the first warms up
                waited, used_waiting, done = 0.0, 0.0, 0
                started, used = time.perf_counter(), time.process_time()
            asked, asked_used = time.perf_counter(), time.process_time()
            pixels, targets = next(batches)
            waited += time.perf_counter() - asked
            used_waiting += time.process_time() - asked_used
            loss = binary_cross_entropy_with_logits(network(pixels.to(device, memory_format=torch.channels_last)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            done += len(pixels)
        batches.close()  # type: ignore[attr-defined]
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    print(
        f"{name} on {device.type}, batches of {batch}: {done / wall:.1f} patches/s; {100 * (1 - waited / wall):.2f} % of wall and "
        f"{100 * (1 - used_waiting / cpu):.2f} % of CPU time is the network's"
    )
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


def on_device(shard: Shard) -> None:
    """Optical bands: one compiled pass while reading, against stored values that torch enlarges and normalises."""
    bands = [band.name for band in SENTINEL2.bands]
    normalisation = Normalisation.from_manifest(shard.manifest, bands)
    fused = PatchDataset(shard, "train", normalisation)
    sizes = {band.name: band.pixels(1200) for band in SENTINEL2.bands}
    native = {
        size: PatchDataset(
            shard, "train", Normalisation.from_manifest(shard.manifest, [b for b in bands if sizes[b] == size]), size, raw=True
        )
        for size in sorted(set(sizes.values()), reverse=True)
    }
    order = torch.tensor([[b for size in native for b in native[size].normalisation.bands].index(band) for band in bands])

    def by_torch(places: np.ndarray) -> Tensor:
        parts = []
        for dataset in native.values():
            raw = torch.from_numpy(dataset.read(places, np.empty(dataset.batch_shape(len(places)), dataset.dtype)))
            parts.append(interpolate(dataset.normalise(raw), size=(120, 120), mode="nearest"))
        return torch.cat(parts, dim=1)[:, order]

    def by_kernel(places: np.ndarray) -> Tensor:
        return torch.from_numpy(fused.read(places, np.empty(fused.batch_shape(len(places)), np.float32)))

    places = np.arange(BATCH)
    assert torch.equal(by_torch(places), by_kernel(places))
    found: dict[str, list[float]] = {"kernel": [], "torch": []}
    for _ in range(ROUNDS):
        for name, work in (("kernel", by_kernel), ("torch", by_torch)):
            used = time.process_time()
            for _ in range(4):
                work(places)
            found[name].append(4 * BATCH / (time.process_time() - used))
    kernel, torch_way = (statistics.median(found[name]) for name in ("kernel", "torch"))
    print(f"12 optical bands, patches per CPU second: {kernel:,.0f} while reading, {torch_way:,.0f} by torch afterwards; equal to the bit")


if __name__ == "__main__":
    main()
