"""Time series of one split as a torch dataset: some dates of each place, any bands by name, normalised and on one pixel grid.

Only the packets of the dates that were drawn are decoded. Which dates these are follows from seed, epoch and place, so
neither order nor workers matter.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rsdata.errors import TrainingError
from rsdata.records import SPLITS, BandInfo
from rsdata.shards import CubeShard
from rsdata.shards.reading import RESAMPLINGS, SYMMETRIES, BatchPlan, Layout, Piece, Plane, Resampling
from rsdata.training.dataset import Normalisation, check_bands, class_names, input_bands, multi_hot, nodata_of

Sampling = Literal["random", "even", "all"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)
_VALID = "valid"
_DAY = np.timedelta64(1, "D")
_EPOCH = np.datetime64("1970-01-01")


class CubeBatch(NamedTuple):
    """Some dates of some places; where a place has fewer dates than asked for, the last ones are padding."""

    pixels: Tensor  # (cube, time, band, y, x) float32, normalised; 0, the train mean, where a band's group is not valid
    valid: Tensor  # (cube, time, y, x) bool: valid in every group of bands; False in padding
    days: Tensor  # (cube, time) float64: acquisition in days since 1970-01-01 UTC, rising; 0 in padding
    present: Tensor  # (cube, time) bool: False in padding
    targets: Tensor  # (cube, class) float32 of 0 and 1


class CubeDataset(Dataset[CubeBatch]):
    """Places of one split, in the order of their ids; an item is a ``CubeBatch`` without its first dimension.

    Bands come in any order, from any resolution, on one grid of ``input_px``, as in ``PatchDataset``. Where bands of both sensors
    are asked for, the first band's sensor gives the dates, and the other one the frame nearest in time to each.
    """

    def __init__(
        self,
        shard: CubeShard,
        split: str | None,
        normalisation: Normalisation | None = None,
        input_px: int = 120,
        frames: int | None = 8,
        sampling: Sampling = "random",
        augment: bool = False,
        seed: int = 0,
        *,
        resampling: Resampling = "nearest",
        max_cloud: float | None = None,
    ) -> None:
        """Look up the split's places; no pixel is read yet.

        Args:
            shard: an open shard of time series; it is reopened by itself in a loader's worker processes.
            split: train, validation or test; None for all places.
            normalisation: bands in order, with mean and std; all Sentinel-2 bands with the manifest's statistics if absent.
            input_px: side of the square every band is brought to, pixels.
            frames: dates of each place, at most; None for as many as any place of the split has.
            sampling: random (anew in every ``epoch``, each set of dates alike likely), even (the middle date of equal parts of the
                series) or all (the first so many).
            augment: turn and mirror each place, all dates alike, anew in every ``epoch``.
            seed: fixes, with ``epoch``, which dates are drawn and how each place is turned.
            max_cloud: leave out dates with a larger share of cloud and shadow, where the share is known.

        Raises: TrainingError if an option is unknown, a band is missing, or a place has no date of a band's sensor.
        """
        manifest = shard.manifest
        if split is not None and split not in SPLITS:
            raise TrainingError(f"there is no split {split!r}; known are {', '.join(SPLITS)}", split=split)
        if sampling not in SAMPLINGS or resampling not in RESAMPLINGS or input_px < 1 or (frames is not None and frames < 1):
            raise TrainingError(
                f"cannot take {frames} dates by {sampling!r} at {input_px} px by {resampling!r}; dates are taken by "
                f"{', '.join(SAMPLINGS)}, pixels by {', '.join(RESAMPLINGS)}"
            )
        self.shard = shard
        self.split = split
        self.normalisation = normalisation or Normalisation.from_manifest(manifest, _all_bands(manifest.bands))
        self.input_px, self.sampling, self.augment, self.seed, self.epoch = input_px, sampling, augment, seed, 0
        self.classes = class_names(manifest) if manifest.labels else []
        check_bands(manifest, self.normalisation.bands)
        known = {band.name: band for band in input_bands(manifest)}
        sources = [known[name] for name in self.normalisation.bands]
        self._sensors = list(dict.fromkeys(band.sensor for band in sources))  # the first gives the dates
        self._groups = shard.groups_with(self.normalisation.bands)
        rows = shard.index if split is None else shard.index[shard.index["split"] == split]
        self.place_ids: list[str] = rows["place_id"].tolist()
        self.targets = multi_hot(self.place_ids, rows["labels"].tolist() if self.classes else [[]] * len(rows), self.classes)
        self._frames, self._days = self._usable(max_cloud)
        self.frames = frames if frames is not None else max((len(each) for each in self._frames), default=1)
        self._nodata = {band.name: nodata_of(band) for band in sources}
        self._plan = BatchPlan(
            self.normalisation.bands,
            self.normalisation.mean,
            self.normalisation.std,
            [self._nodata[band] for band in self.normalisation.bands],
            input_px,
            resampling,
        )
        self._valid_plan = BatchPlan((_VALID,), [0.0], [1.0], [math.nan], input_px, stored="uint8")
        self._layouts = {group: _layout(own, known[own[0]]) for group, own in self._groups.items()}
        self._valid_layouts = {group: Layout({_VALID: Plane(0, "uint8", _shape(known[own[0]]))}) for group, own in self._groups.items()}

    def __len__(self) -> int:
        return len(self.place_ids)

    def __getitem__(self, index: int) -> CubeBatch:
        """Read one place.

        Raises: ShardError if its blobs cannot be read.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[CubeBatch]:
        """Read many places at once; torch's loader asks this way."""
        batch = self.read(indices)
        return [CubeBatch(*(part[at] for part in batch)) for at in range(len(indices))]

    def read(self, indices: Sequence[int] | npt.NDArray[np.int64], epoch: int | None = None) -> CubeBatch:
        """Read a batch.

        Args: epoch: decides which dates are drawn and how places are turned; the dataset's own if absent.

        Raises: ShardError if a blob cannot be read; IndexError.
        """
        places = np.array([range(len(self))[index] for index in indices], np.int64)
        memory = np.empty(self.batch_bytes(len(places)), np.uint8)
        self.fill(places, memory, self.epoch if epoch is None else epoch)
        return self.batch(torch.from_numpy(memory), places, self.epoch if epoch is None else epoch)

    def frames_of(self, place: int, epoch: int | None = None) -> npt.NDArray[np.int64]:
        """Numbers of the dates that are drawn of a place, rising; at most ``frames``."""
        usable, count = self._frames[place], self.frames
        if len(usable) <= count:
            return usable
        if self.sampling == "random":
            drawn = np.random.default_rng((self.seed, self.epoch if epoch is None else epoch, place)).choice(
                len(usable), count, replace=False
            )
            return usable[np.sort(drawn)]
        if self.sampling == "even":
            return usable[((np.arange(count) + 0.5) * len(usable) / count).astype(np.int64)]
        return usable[:count]

    def batch_bytes(self, count: int) -> int:
        """Memory that a batch of so many places needs: pixels, then validity."""
        return count * self.frames * self.input_px**2 * (4 * len(self.normalisation.bands) + 1)

    def fill(self, places: npt.NDArray[np.int64], memory: npt.NDArray[np.uint8], epoch: int) -> None:
        """Write pixels and validity of a batch, for a loader.

        Raises: ShardError if a blob cannot be read.
        """
        pixels, valid = self._parts(memory, len(places))
        turns = self._turns(epoch, places)
        for at, place in enumerate(places):
            self._fill_one(int(place), epoch, int(turns[at]), pixels[at], valid[at])

    def batch(self, memory: Tensor, places: npt.NDArray[np.int64], epoch: int) -> CubeBatch:
        """A batch of memory that ``fill`` wrote."""
        count = len(places)
        size = self.batch_bytes(count) // (4 * len(self.normalisation.bands) + 1)
        shape = (count, self.frames, self.input_px, self.input_px)
        pixels = memory[: self.batch_bytes(count) - size].view(torch.float32).view(*shape[:2], -1, *shape[2:])
        valid = memory[self.batch_bytes(count) - size : self.batch_bytes(count)].view(torch.bool).view(shape)
        days, present = np.zeros((count, self.frames)), np.zeros((count, self.frames), bool)
        for at, place in enumerate(places):
            drawn = self.frames_of(int(place), epoch)
            days[at, : len(drawn)], present[at, : len(drawn)] = self._days[place][self._sensors[0]][drawn], True
        targets = torch.from_numpy(self.targets[places])
        return CubeBatch(pixels, valid, torch.from_numpy(days), torch.from_numpy(present), targets)

    def _parts(self, memory: npt.NDArray[np.uint8], count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        total, samples = self.batch_bytes(count), count * self.frames * self.input_px**2
        shape = (count, self.frames, len(self.normalisation.bands), self.input_px, self.input_px)
        return (
            memory[: total - samples].view(np.float32).reshape(shape),
            memory[total - samples : total].reshape(count, self.frames, 1, self.input_px, self.input_px),
        )

    def _fill_one(self, place: int, epoch: int, turn: int, pixels: npt.NDArray[np.float32], valid: npt.NDArray[np.uint8]) -> None:
        """One place into (time, band, y, x) and (time, 1, y, x)."""
        drawn, days = self.frames_of(place, epoch), self._days[place]
        count = len(drawn)
        pixels[count:], valid[:count], valid[count:] = 0, 1, 0
        turns = np.full(count, turn, np.int64)
        own = np.empty((count, 1, self.input_px, self.input_px), np.uint8)
        for group, bands in self._groups.items():
            sensor = self.shard.groups[group].sensor
            wanted = drawn if sensor == self._sensors[0] else _nearest(days[sensor], days[self._sensors[0]][drawn])
            clip = self.shard.clip(self.place_ids[place], group)
            decoded, here = clip.read(wanted.tolist(), bands), clip.valid(wanted.tolist())
            for band, planes in zip(bands, np.moveaxis(decoded, 1, 0), strict=True):
                if not math.isnan(self._nodata[band]) or decoded.dtype.kind == "f":
                    planes[~here] = self._nodata[band]
            self._plan.fill([_piece(self._layouts[group], decoded)], bands, pixels[:count], turns)
            self._valid_plan.fill([_piece(self._valid_layouts[group], here.view(np.uint8))], (_VALID,), own, turns)
            valid[:count] &= own

    def _turns(self, epoch: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if not self.augment:
            return np.zeros(len(places), np.int64)
        return np.random.default_rng((self.seed, epoch)).integers(SYMMETRIES, size=len(self))[places]

    def _usable(self, max_cloud: float | None) -> tuple[list[npt.NDArray[np.int64]], list[dict[str, npt.NDArray[np.float64]]]]:
        """Per place: numbers of the dates that may be drawn, and days of all dates by sensor.

        Raises: TrainingError if a place has none.
        """
        cloudy: dict[str, set[int]] = {}
        if max_cloud is not None:
            table = self.shard.frames[self.shard.frames["sensor"] == self._sensors[0]]
            for place_id, frame in table[table["cloud_fraction"].astype(float) > max_cloud][["place_id", "frame"]].itertuples(index=False):
                cloudy.setdefault(place_id, set()).add(int(frame))
        frames, days = [], []
        for place_id in self.place_ids:
            times = {sensor: (self.shard.times(place_id, sensor) - _EPOCH) / _DAY for sensor in self._sensors}
            usable = np.array([at for at in range(len(times[self._sensors[0]])) if at not in cloudy.get(place_id, ())], np.int64)
            if lacking := [sensor for sensor in self._sensors if not len(times[sensor])] or ([] if len(usable) else [self._sensors[0]]):
                raise TrainingError(
                    f"{place_id} has no date of {lacking[0]} that may be used; leave its bands out, allow more cloud, or leave the "
                    "place out of the shard",
                    place_id=place_id,
                )
            frames.append(usable)
            days.append(times)
        return frames, days


def _all_bands(bands: Sequence[BandInfo]) -> list[str] | None:
    return [band.name for band in bands if band.sensor == "s2"] or None


def _shape(band: BandInfo) -> tuple[int, int]:
    return band.shape[0], band.shape[1]


def _layout(names: Sequence[str], band: BandInfo) -> Layout:
    """Bands of one group, decoded in this order, one after the other."""
    size = math.prod(band.shape) * np.dtype(band.dtype).itemsize
    return Layout({name: Plane(at * size, band.dtype, _shape(band)) for at, name in enumerate(names)})


def _piece(layout: Layout, frames: npt.NDArray[Any]) -> Piece:
    """Frames (time, …) as entries of one layout."""
    whole = np.ascontiguousarray(frames).reshape(len(frames), -1).view(np.uint8)
    return Piece(layout, np.arange(len(frames)), list(whole))


def _nearest(days: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Which of some days lies nearest to each wanted one; the earlier of two alike near."""
    return np.abs(days[None] - wanted[:, None]).argmin(axis=1)
