"""How fast time series feed a network on this machine, with one thread and with several."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rsdata.errors import TrainingError
from rsdata.shards import CubeShard, open_cubes
from rsdata.shards.video import Clip
from rsdata.training.benching import ROUNDS, ReaderSpeed, ReadingBench
from rsdata.training.cubes import CubeBatch, CubeDataset
from rsdata.training.dataset import Normalisation, input_bands
from rsdata.training.loading import PatchLoader

FRAMES = 8  # dates drawn of each place, or all if it has fewer


def bench_cubes(
    path: Path,
    *,
    bands: Sequence[str] | None = None,
    places: int = 64,
    batch_size: int = 4,
    input_px: int | None = None,
    workers: int = 2,
    seconds: float = 3.0,
    advance: Callable[[int], None] = lambda n: None,
) -> ReadingBench:
    """Measure how many dates a second come out of the first places of a shard of time series, from a warm page cache.

    Args:
        bands: all of the first band's sensor if absent.
        input_px: side of the square they are brought to; that of the largest band if absent.
        workers: threads, and then as many processes, of further runs; 0 for neither.
        seconds: for each reader.
        advance: called with 1 when a reader is done with a round.

    Raises: TrainingError if there are no places.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with open_cubes(path) as shard:
        dataset = _dataset(shard, bands, input_px, places)
        known = {band.name: band for band in input_bands(shard.manifest)}
        chosen = [known[name] for name in dataset.normalisation.bands]
        frame_bytes = sum(int(np.prod(band.shape)) * np.dtype(band.dtype).itemsize for band in chosen)
        loaders: dict[str, PatchLoader[CubeBatch]] = {"rsdata": PatchLoader(dataset, batch_size, shuffle=True)}
        if workers:
            loaders[f"rsdata, {workers} threads"] = PatchLoader(dataset, batch_size, shuffle=True, workers=workers)
            loaders[f"rsdata, {workers} processes"] = PatchLoader(dataset, batch_size, shuffle=True, workers=workers, kind="forkserver")
        speeds: dict[str, list[float]] = {name: [] for name in loaders}
        try:
            for loader in loaders.values():
                _dates_per_s(loader, 0)  # compiles, starts workers
            for _ in range(ROUNDS):
                for name, loader in loaders.items():
                    speeds[name].append(_dates_per_s(loader, seconds / ROUNDS))
                    advance(1)
            shares = _shares(shard, dataset, batch_size, seconds / ROUNDS)
        finally:
            for loader in loaders.values():
                loader.close()
            torch.set_num_threads(threads)
    return ReadingBench(
        patches=len(dataset),
        bands=list(dataset.normalisation.bands),
        input_px=dataset.input_px,
        batch_size=batch_size,
        speeds=[
            ReaderSpeed(name, round(statistics.median(found), 1), round(statistics.median(found) * frame_bytes / 1e6, 1))
            for name, found in speeds.items()
        ],
        shares=shares,
        left_out=[],
    )


def _dataset(shard: CubeShard, bands: Sequence[str] | None, input_px: int | None, places: int) -> CubeDataset:
    """Places with all dates of the first band's sensor; statistics do not matter here."""
    known = {band.name: band for band in input_bands(shard.manifest)}
    main = known[bands[0]].sensor if bands and bands[0] in known else next(iter(known.values())).sensor
    names = tuple(bands or (name for name, band in known.items() if band.sensor == main))
    shard.index = shard.index[shard.index[f"{main}_frames"] > 0].iloc[:places]
    if shard.index.empty:
        raise TrainingError(f"shard {shard.manifest.name!r} holds no series of {main}, so there is nothing to measure")
    normalisation = Normalisation(names, (0.0,) * len(names), (1.0,) * len(names))
    side = input_px or max(max(known[name].shape) for name in names if name in known)
    return CubeDataset(shard, None, normalisation, side, FRAMES)


def _dates_per_s(loader: PatchLoader[Any], seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while True:
        for batch in loader:
            count += int(batch.present.sum())
        if (taken := time.perf_counter() - started) > seconds:
            return count / taken


class _Timed:
    """A shard that notes how long its clips are decoded."""

    def __init__(self, shard: CubeShard) -> None:
        self.groups, self._shard = shard.groups, shard
        self.decoding_s = 0.0

    def clip(self, place_id: str, group: str) -> "_TimedClip":
        started = time.perf_counter()
        clip = self._shard.clip(place_id, group)
        self.decoding_s += time.perf_counter() - started
        return _TimedClip(clip, self)


class _TimedClip:
    def __init__(self, clip: Clip, shard: _Timed) -> None:
        self._clip, self._shard = clip, shard

    def read(self, *arguments: Any) -> np.ndarray:
        return self._timed(self._clip.read, *arguments)

    def valid(self, *arguments: Any) -> np.ndarray:
        return self._timed(self._clip.valid, *arguments)

    def _timed(self, function: Callable[..., np.ndarray], *arguments: Any) -> np.ndarray:
        started = time.perf_counter()
        found = function(*arguments)
        self._shard.decoding_s += time.perf_counter() - started
        return found


def _shares(shard: CubeShard, dataset: CubeDataset, batch_size: int, seconds: float) -> dict[str, float]:
    timed = _Timed(shard)
    dataset.shard = timed  # type: ignore[assignment]
    started = time.perf_counter()
    try:
        loader = PatchLoader(dataset, batch_size, shuffle=True)
        while (taken := time.perf_counter() - started) < seconds or not timed.decoding_s:
            for _ in loader:
                pass
    finally:
        dataset.shard = shard
    return {"decode": round(timed.decoding_s / taken, 3), "convert and collate": round(1 - timed.decoding_s / taken, 3)}
