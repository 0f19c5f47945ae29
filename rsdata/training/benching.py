"""How fast a shard is read on this machine, where the time goes, and how fast the same patches are from other formats."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from rsdata.errors import TrainingError
from rsdata.records import BandInfo, ShardManifest
from rsdata.sensors import SENTINEL1
from rsdata.shards import Shard, open_shard, read_manifest
from rsdata.shards.manifest import SERIES_FORMAT
from rsdata.shards.reading import Piece, pieces_of
from rsdata.training.comparison import READERS, RsdataReader, installed_readers
from rsdata.training.dataset import Normalisation, PatchDataset, input_bands
from rsdata.training.loading import PatchLoader

ROUNDS = 3  # all readers in turn; the median counts, as other work on the machine disturbs


@dataclass(frozen=True)
class ReaderSpeed:
    """What one reader reached, with one thread unless its name says otherwise."""

    reader: str
    samples_per_s: float
    mb_per_s: float  # of stored pixels, 10**6 bytes


@dataclass(frozen=True)
class ReadingBench:
    """Speeds of reading shuffled batches of all bands, float32, normalised."""

    patches: int
    bands: list[str]
    input_px: int
    batch_size: int
    speeds: list[ReaderSpeed]
    shares: dict[str, float]  # of rsdata's time per step: look-up, convert, collate
    left_out: list[str]  # readers whose libraries are not installed


class TimedShard:
    """A shard that notes how long its entries are looked up, and how long they are then in use."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.looking_s = self.using_s = 0.0

    @property
    def manifest(self) -> ShardManifest:
        return self._shard.manifest

    @property
    def index(self) -> pd.DataFrame:
        return self._shard.index

    def read(self, key: str) -> Mapping[str, npt.NDArray[Any]]:
        return self._shard.read(key)

    def pieces(self, keys: Sequence[str], bands: Sequence[str]) -> AbstractContextManager[list[Piece]]:
        return self._timed(keys, bands)

    @contextmanager
    def _timed(self, keys: Sequence[str], bands: Sequence[str]) -> Iterator[list[Piece]]:
        started = time.perf_counter()
        with pieces_of(self._shard, keys, bands) as pieces:
            found = list(pieces)
            looked = time.perf_counter()
            self.looking_s += looked - started
            yield found
            self.using_s += time.perf_counter() - looked


def bench_shard(
    path: Path,
    *,
    against: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    patches: int = 1024,
    batch_size: int = 64,
    input_px: int | None = None,
    workers: int = 2,
    seconds: float = 3.0,
    scratch: Path | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> ReadingBench:
    """Measure rsdata and other readers on the first patches of a shard, from a warm page cache.

    Args:
        against: names in READERS; all that are installed if absent. Each writes the patches once more below ``scratch``.
        bands: those of the first patch's sensor, and of its Sentinel-1 twins if all have one, if absent.
        input_px: side of the square they are brought to; that of the largest band if absent.
        seconds: for each reader.
        advance: called with 1 when a reader is done with a round.

    Of a shard of time series, see ``bench_cubes``; other readers have none.

    Raises: TrainingError if a reader is unknown or not installed, or there are no patches.
    """
    if read_manifest(path).format == SERIES_FORMAT:
        from rsdata.training.benching_cubes import bench_cubes

        if against:
            raise TrainingError(f"{', '.join(against)} cannot read time series, so there is nothing to compare with; leave them out")
        return bench_cubes(path, bands=bands, input_px=input_px, workers=workers, seconds=seconds, advance=advance)
    installed = installed_readers()
    names = [name for name in installed if name != "rsdata"] if against is None else list(against)
    if unknown := sorted(set(names) - set(installed)):
        raise TrainingError(f"cannot compare with {', '.join(unknown)}; installed are {', '.join(installed)}", readers=unknown)
    threads = torch.get_num_threads()
    with open_shard(path) as shard, tempfile.TemporaryDirectory(prefix="rsdata-bench-", dir=scratch) as folder:
        dataset, pixel_bytes = _dataset(shard, bands, input_px, patches)
        torch.set_num_threads(1)
        try:
            epochs = {"rsdata": RsdataReader().open(path, dataset, batch_size)}
            if workers:
                epochs[f"rsdata, {workers} threads"] = RsdataReader(workers).open(path, dataset, batch_size)
            for name in names:
                place = Path(folder) / name
                place.mkdir()
                reader = READERS[name]()
                reader.write(place, dataset)
                epochs[name] = reader.open(place, dataset, batch_size)
            for epoch in epochs.values():
                for _ in islice(epoch(0), 3):  # compiles, opens files
                    pass
            speeds: dict[str, list[float]] = {name: [] for name in epochs}
            for number in range(ROUNDS):
                for name, epoch in epochs.items():
                    speeds[name].append(_samples_per_s(epoch, number * 1000 + 1, seconds / ROUNDS))
                    advance(1)
            shares = _shares(shard, dataset, batch_size, seconds / ROUNDS)
        finally:
            torch.set_num_threads(threads)
    return ReadingBench(
        patches=len(dataset),
        bands=list(dataset.normalisation.bands),
        input_px=dataset.input_px,
        batch_size=batch_size,
        speeds=[
            ReaderSpeed(name, round(statistics.median(found), 1), round(statistics.median(found) * pixel_bytes / 1e6, 1))
            for name, found in speeds.items()
        ],
        shares=shares,
        left_out=[name for name in READERS if name not in installed],
    )


def _dataset(shard: Shard, bands: Sequence[str] | None, input_px: int | None, patches: int) -> tuple[PatchDataset, int]:
    """The first patches with their bands, and the bytes of one as stored."""
    if not len(shard.index):
        raise TrainingError(f"shard {shard.manifest.name!r} holds no patches, so there is nothing to measure")
    main = str(shard.index["sensor"].iloc[0])
    twins = bool(shard.index["s1_key"].notna().all())
    known = {band.name: band for band in input_bands(shard.manifest) if band.sensor == main or (twins and band.sensor == SENTINEL1.name)}
    chosen = [known[name] for name in bands or known if name in known]
    if not chosen or len(chosen) < len(bands or ()):
        raise TrainingError(f"no patch of shard {shard.manifest.name!r} has all of {', '.join(bands or ())}; it has {', '.join(known)}")
    mean, std = zip(*(_mean_std(band) for band in chosen), strict=True)
    normalisation = Normalisation(tuple(band.name for band in chosen), mean, std)
    dataset = PatchDataset(shard, None, normalisation, input_px or max(max(band.shape) for band in chosen))
    dataset.patch_ids, dataset.targets = dataset.patch_ids[:patches], dataset.targets[:patches]
    return dataset, sum(int(np.prod(band.shape)) * np.dtype(band.dtype).itemsize for band in chosen)


def _mean_std(band: BandInfo) -> tuple[float, float]:
    found = band.statistics
    return (found.mean, found.std or 1.0) if found and found.mean is not None and found.std is not None else (0.0, 1.0)


def _samples_per_s(epoch: Callable[[int], Iterator[Tensor]], number: int, seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while True:
        for pixels in epoch(number):
            count += len(pixels)
            if (taken := time.perf_counter() - started) > seconds:
                return count / taken
        number += 1


def _shares(shard: Shard, dataset: PatchDataset, batch_size: int, seconds: float) -> dict[str, float]:
    timed = TimedShard(shard)
    dataset.shard = timed
    started = time.perf_counter()
    try:
        loader = PatchLoader(dataset, batch_size, shuffle=True)
        while (taken := time.perf_counter() - started) < seconds:
            for _ in loader:
                pass
    finally:
        dataset.shard = shard
    return {
        "look-up": round(timed.looking_s / taken, 3),
        "convert": round(timed.using_s / taken, 3),
        "collate": round(1 - (timed.looking_s + timed.using_s) / taken, 3),
    }
