"""Patches of one split as a torch dataset: any bands of a shard, by name, normalised and on one pixel grid.

Everything that describes the pixels comes from the shard's manifest, so a shard of another sensor mix needs no code
here. What a model was fed is one value, ``Normalisation``, which travels with its weights.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rsdata.errors import TrainingError
from rsdata.records import SPLITS, BandInfo, ShardManifest, keys_of
from rsdata.sensors import REFERENCE_MAP, SENTINEL1
from rsdata.shards.reading import RESAMPLINGS, SYMMETRIES, BatchPlan, Resampling, pieces_of
from rsdata.training.choosing import labels_for

_RAW = ("uint8", "int16", "uint16", "float32")  # stored types that raw pixels may have


class ShardReader(Protocol):
    """What training asks of a shard; ``rsdata.shards.open_shard`` gives one for every format."""

    @property
    def manifest(self) -> ShardManifest: ...

    @property
    def index(self) -> pd.DataFrame:
        """One row per patch with the columns of ``ShardIndexRow``, sorted by patch id."""

    def read(self, key: str) -> Mapping[str, npt.NDArray[Any]]:
        """Bands (y, x) of one key at native resolution, as stored."""


@dataclass(frozen=True)
class Normalisation:
    """The bands a model is fed, in order, and what each is divided by: ``(stored - mean) / std``."""

    bands: tuple[str, ...]
    mean: tuple[float, ...]  # per band, in the shard's stored unit
    std: tuple[float, ...]  # per band, in the shard's stored unit, above 0

    @classmethod
    def from_manifest(cls, manifest: ShardManifest, bands: Sequence[str] | None = None, sensor: str | None = None) -> "Normalisation":
        """Take the train split's statistics of the named bands; all spectral and radar bands if none are named.

        Where two sensors of a shard spell their bands alike, ``sensor`` says whose are meant.

        A band that is constant over the train split has no spread to divide by; it is divided by 1, so it is 0
        wherever it has that constant.

        Raises: TrainingError if a band is unknown, named twice, or has no statistics.
        """
        known = {band.name: band for band in input_bands(manifest) if sensor in (None, band.sensor)}
        names = tuple(known) if bands is None else tuple(bands)
        check_bands(manifest, names)
        mean, std = [], []
        for name in names:
            statistics = known[name].statistics
            if statistics is None or statistics.mean is None or statistics.std is None:
                raise TrainingError(
                    f"the manifest of shard {manifest.name!r} has no train statistics for band {name}, which normalisation needs; "
                    "write the shard again with a train split that is not empty",
                    band=name,
                )
            mean.append(statistics.mean)
            std.append(statistics.std if statistics.std > 0 else 1.0)
        return cls(names, tuple(mean), tuple(std))


def input_bands(manifest: ShardManifest) -> list[BandInfo]:
    """Bands a model may be fed, in the manifest's order: all but the reference map, which is the answer."""
    return [band for band in manifest.bands if band.sensor != REFERENCE_MAP.name]


def check_bands(manifest: ShardManifest, bands: Sequence[str]) -> None:
    """Raises: TrainingError if no band is named, one is named twice, or the shard lacks one."""
    known = [band.name for band in input_bands(manifest)]
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise TrainingError(
            f"shard {manifest.name!r} has no band {', '.join(unknown)}; known are {', '.join(known) or 'none'}", bands=unknown, known=known
        )
    if not bands or len(set(bands)) < len(bands):
        raise TrainingError(
            f"the bands [{', '.join(bands)}] are no choice; name at least one of {', '.join(known)}, each once", known=known
        )


class TargetReader(Protocol):
    """What a network is to answer, where that is not the patches' labels."""

    def read(self, places: npt.NDArray[np.int64], turns: npt.NDArray[np.int64], epoch: int) -> Tensor:
        """Targets of some patches.

        Args:
            places: (patch,) of the dataset.
            turns: (patch,) which of the eight symmetries of a square each is shown in; 0 is as it lies.
            epoch: decides what is drawn anew in each.
        """


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """Patches of one split, in the order of their ids.

    One item is the pixels, (band, y, x) float32 normalised, and the target, (class,) float32 of 0 and 1 in the order
    of the manifest's label table. Bands come in any order, from any resolution, on one grid of ``input_px``; missing pixels
    (the band's no-data value, or NaN) become 0, the train mean. See ``BatchPlan`` for the resampling.

    Many items are read faster than one: ``PatchLoader`` and torch's own loader ask for whole batches.
    """

    def __init__(
        self,
        shard: ShardReader,
        split: str | None,
        normalisation: Normalisation | None = None,
        input_px: int = 120,
        augment: bool = False,
        seed: int = 0,
        *,
        resampling: Resampling = "nearest",
        raw: bool = False,
        sensor: str | None = None,
        keep: Collection[str] | None = None,
        labels: Mapping[str, list[str]] | None = None,
    ) -> None:
        """Look up the split's patches; no pixel is read yet.

        Args:
            shard: an open shard; it is reopened by itself in a loader's worker processes.
            split: train, validation or test; None for all patches.
            normalisation: bands in order, with mean and std; all bands with the manifest's statistics if absent.
            input_px: side of the square every band is brought to, pixels.
            augment: turn and mirror each patch, anew in every ``epoch``.
            seed: fixes, with ``epoch``, how each patch is turned; not how patches are shuffled.
            resampling: nearest, bilinear or area.
            raw: give the stored type (uint16 for Sentinel-2) as it lies, for ``normalise`` on the device: half the bytes to move.
            sensor: whose bands, where two sensors of a shard spell theirs alike.
            keep: ids of the only patches to take of the split; those of no such patch are passed over.
            labels: what patches carry by id, instead of what the shard says.

        Raises: TrainingError if the split is unknown, a band is missing, a patch lacks its Sentinel-1 twin, a patch carries a
            label that the table does not list, or raw pixels of several types are asked for.
        """
        manifest = shard.manifest
        if split is not None and split not in SPLITS:
            raise TrainingError(f"there is no split {split!r}; known are {', '.join(SPLITS)}", split=split)
        if input_px < 1 or resampling not in RESAMPLINGS:
            raise TrainingError(f"cannot bring bands to {input_px} px by {resampling!r}; known are {', '.join(RESAMPLINGS)}")
        self.shard = shard
        self.split = split
        self.normalisation = normalisation or Normalisation.from_manifest(manifest, sensor=sensor)
        self.input_px = input_px
        self.augment = augment
        self.raw = raw
        self.seed = seed
        self.epoch = 0
        self.target_reader: TargetReader | None = None  # whose targets are given instead of labels
        self.classes = class_names(manifest) if manifest.labels else []
        check_bands(manifest, self.normalisation.bands)
        sources = _sources(manifest, self.normalisation.bands, sensor)

        rows = shard.index if split is None else shard.index[shard.index["split"] == split]
        main = {source.sensor for source in sources} - {SENTINEL1.name}
        if main:
            rows = rows[rows["sensor"].isin(main)]
        if keep is not None:
            rows = rows[rows["patch_id"].isin(list(keep))]
        self.patch_ids: list[str] = rows["patch_id"].tolist()
        carried: list[Sequence[str]] = rows["labels"].tolist() if labels is None else labels_for(self.patch_ids, labels)
        self.targets = multi_hot(self.patch_ids, carried if self.classes else [[]] * len(rows), self.classes)
        # the key each patch has for a band, and the bands that lie under it: one look-up for each of these
        self._keys: list[tuple[list[str], tuple[str, ...]]] = []
        for keys, bands in (
            (rows["patch_id"].tolist(), tuple(source.name for source in sources if source.sensor != SENTINEL1.name)),
            (keys_of(rows, SENTINEL1.name), tuple(source.name for source in sources if source.sensor == SENTINEL1.name)),
        ):
            if not bands:
                continue
            if lacking := [patch for patch, key in zip(self.patch_ids, keys, strict=True) if not isinstance(key, str)]:
                raise TrainingError(
                    f"{len(lacking)} patches of the {split} split have no {', '.join(bands)}, {lacking[0]} among them; "
                    "leave these bands out or build with `require_s1: true`",
                    bands=bands,
                    patches=lacking,
                )
            self._keys.append(([key for key in keys if key is not None], bands))
        self._nodata = [nodata_of(source) for source in sources]
        self.dtype: np.dtype[Any] = _raw_dtype(sources, resampling) if raw else np.dtype(np.float32)
        count = len(sources)
        mean, std, nodata = ([0.0] * count, [1.0] * count, [float("nan")] * count) if raw else (*self._mean_std(), self._nodata)
        stored = self.dtype.name if raw else None
        self._plan = BatchPlan(self.normalisation.bands, mean, std, nodata, input_px, resampling, stored)
        self._turned: tuple[int, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.patch_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one patch.

        Raises: TrainingError if its entry in the shard lacks a band; ShardError if the entry cannot be read.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Read many patches at once; torch's loader asks this way."""
        pixels = torch.from_numpy(self.read(indices, np.empty(self.batch_shape(len(indices)), self.dtype)))
        return list(zip(pixels, self.targets_of(indices), strict=True))

    def batch_shape(self, count: int) -> tuple[int, int, int, int]:
        """(patch, band, y, x)."""
        return count, len(self.normalisation.bands), self.input_px, self.input_px

    def batch_bytes(self, count: int) -> int:
        """Memory that a batch of so many patches needs."""
        return math.prod(self.batch_shape(count)) * self.dtype.itemsize

    def fill(self, places: npt.NDArray[np.int64], memory: npt.NDArray[np.uint8], epoch: int) -> None:
        """``read`` into plain memory, for a loader."""
        shape = self.batch_shape(len(places))
        self.read(places, memory[: self.batch_bytes(len(places))].view(self.dtype).reshape(shape), epoch)

    def batch(self, memory: Tensor, places: npt.NDArray[np.int64], epoch: int) -> tuple[Tensor, Tensor]:
        """(pixels, targets) of memory that ``fill`` wrote."""
        stored = torch.from_numpy(np.empty(0, self.dtype)).dtype
        return memory.view(stored).view(self.batch_shape(len(places))), self.targets_of(places, epoch)

    def targets_of(self, indices: Sequence[int] | npt.NDArray[np.int64], epoch: int | None = None) -> Tensor:
        """(patch, class) float32 of 0 and 1; or what ``target_reader`` gives."""
        places = np.asarray(indices, np.int64)
        if self.target_reader is None:
            return torch.from_numpy(self.targets[places])
        epoch = self.epoch if epoch is None else epoch
        return self.target_reader.read(places % len(self), self.turns_of(places, epoch), epoch)

    def forget_turns(self) -> None:
        """To be called after ``seed`` has changed."""
        self._turned = None

    def turns_of(self, places: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int64]:
        """(patch,): which of the eight symmetries of a square each is shown in; 0 is as it lies."""
        return self._turns(epoch)[places] if self.augment else np.zeros(len(places), np.int64)

    def read(
        self, indices: Sequence[int] | npt.NDArray[np.int64], out: npt.NDArray[np.generic], epoch: int | None = None
    ) -> npt.NDArray[np.generic]:
        """Write patches into memory of ``batch_shape`` and ``dtype``, in C order, and return it.

        Args:
            epoch: decides how patches are turned; the dataset's own if absent.

        Raises: TrainingError if an entry in the shard lacks a band; ShardError if an entry cannot be read; IndexError.
        """
        places = [range(len(self))[index] for index in indices]
        turns = self.turns_of(np.array(places, np.int64), self.epoch if epoch is None else epoch)
        for keys, bands in self._keys:
            asked = [keys[place] for place in places]
            with pieces_of(self.shard, asked, bands) as pieces:
                lacking = self._plan.fill(pieces, bands, out, turns)
            if lacking:
                row, band = lacking[0]
                raise TrainingError(
                    f"{asked[row]} holds {', '.join(self.shard.read(asked[row]))} but not band {band}; verify the shard",
                    patch_id=self.patch_ids[places[row]],
                    band=band,
                )
        return out

    def native(self, index: int) -> dict[str, npt.NDArray[Any]]:
        """Bands (y, x) of one patch as they are stored."""
        entries = {band: entry for keys, bands in self._keys for entry in [self.shard.read(keys[index])] for band in bands}
        return {band: entries[band][band] for band in self.normalisation.bands}

    def normalise(self, pixels: Tensor) -> Tensor:
        """Turn raw pixels (patch, band, y, x), on any device, into what a dataset without ``raw`` gives."""
        mean, std, nodata = (
            torch.tensor(values, dtype=torch.float32, device=pixels.device)[:, None, None] for values in (*self._mean_std(), self._nodata)
        )
        wide = pixels.to(torch.float32)
        return torch.where(wide.isnan() | (wide == nodata), 0.0, (wide - mean) / std)

    def _mean_std(self) -> tuple[Sequence[float], Sequence[float]]:
        return self.normalisation.mean, self.normalisation.std

    def _turns(self, epoch: int) -> npt.NDArray[np.int64]:
        """(patch,): drawn for all patches of an epoch at once, so order and workers do not matter."""
        if self._turned is None or self._turned[0] != epoch:
            self._turned = epoch, np.random.default_rng((self.seed, epoch)).integers(SYMMETRIES, size=len(self))
        return self._turned[1]


def _sources(manifest: ShardManifest, bands: Sequence[str], sensor: str | None) -> list[BandInfo]:
    """The manifest's description of each band asked for.

    Raises: TrainingError if two sensors have it, or bands of one patch come from several sensors that do not share it.
    """
    found = []
    for name in bands:
        having = [band for band in input_bands(manifest) if band.name == name and sensor in (None, band.sensor)]
        if len(having) != 1:
            sensors = [band.sensor for band in input_bands(manifest) if band.name == name]
            raise TrainingError(f"band {name} belongs to {', '.join(sensors)}; name one of them as `sensor`", band=name, sensors=sensors)
        found += having
    main = sorted({band.sensor for band in found} - {SENTINEL1.name})
    if len(main) > 1:
        raise TrainingError(f"the bands belong to {', '.join(main)}, whose patches have different ids; take one sensor", sensors=main)
    return found


def _raw_dtype(sources: Sequence[BandInfo], resampling: str) -> np.dtype[np.generic]:
    dtypes = sorted({source.dtype for source in sources})
    if len(dtypes) > 1 or dtypes[0] not in _RAW or resampling != "nearest":
        raise TrainingError(
            f"raw pixels have one type and are taken as they lie; asked for {', '.join(dtypes)} by {resampling}; "
            f"take bands of one type among {', '.join(_RAW)} by nearest",
            dtypes=dtypes,
        )
    return np.dtype(dtypes[0])


def class_names(manifest: ShardManifest) -> list[str]:
    """Names of the label table, in the order of its indices.

    Raises: TrainingError if the table is empty.
    """
    if not manifest.labels:
        raise TrainingError(f"the label table of shard {manifest.name!r} is empty; multi-label training needs at least one class")
    return [label.name for label in sorted(manifest.labels, key=lambda label: label.index)]


def multi_hot(patch_ids: list[str], labels: list[Sequence[str]], classes: list[str]) -> npt.NDArray[np.float32]:
    """(patch, class): 1 where the patch carries the class."""
    place = {name: index for index, name in enumerate(classes)}
    targets = np.zeros((len(patch_ids), len(classes)), np.float32)
    for row, (patch_id, names) in enumerate(zip(patch_ids, labels, strict=True)):
        unknown = sorted(set(names) - place.keys())
        if unknown:
            raise TrainingError(
                f"{patch_id} carries {', '.join(unknown)}, which the label table does not list; it lists {', '.join(classes)}",
                patch_id=patch_id,
                labels=unknown,
            )
        targets[row, [place[name] for name in names]] = 1
    return targets


def nodata_of(band: BandInfo) -> float:
    """Stored value that marks missing pixels; NaN, which equals nothing, where there is none or it is NaN itself."""
    return float("nan") if band.nodata is None else float(band.nodata)
