"""Patches of one split as a torch dataset: any bands of a shard, by name, normalised and on one pixel grid.

Everything that describes the pixels comes from the shard's manifest, so a shard of another sensor mix needs no code
here. What a model was fed is one value, ``Normalisation``, which travels with its weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rsdata.errors import TrainingError
from rsdata.records import SPLITS, BandInfo, ShardManifest
from rsdata.sensors import REFERENCE_MAP, SENTINEL1

_KEY_COLUMNS = {SENTINEL1.name: "s1_key"}  # sensor to the index column with its key; all others lie under the patch id
_SYMMETRIES = 8  # of a square: four quarter turns, each with and without a mirror


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
    def from_manifest(cls, manifest: ShardManifest, bands: Sequence[str] | None = None) -> "Normalisation":
        """Take the train split's statistics of the named bands; all spectral and radar bands if none are named.

        A band that is constant over the train split has no spread to divide by; it is divided by 1, so it is 0
        wherever it has that constant.

        Raises: TrainingError if a band is unknown, named twice, or has no statistics.
        """
        known = {band.name: band for band in input_bands(manifest)}
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


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """Patches of one split, in the order of their ids.

    One item is the pixels, (band, y, x) float32 normalised, and the target, (class,) float32 of 0 and 1 in the order
    of the manifest's label table. Each band is brought to ``input_px`` by nearest neighbour, pixel centre to pixel
    centre, whatever its resolution. Missing pixels (the band's no-data value, or NaN) become 0, the train mean.

    Nothing is kept in memory: against the network's own time, reading is small.
    """

    def __init__(
        self,
        shard: ShardReader,
        split: str,
        normalisation: Normalisation | None = None,
        input_px: int = 120,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        """Look up the split's patches; no pixel is read yet.

        Args:
            shard: an open shard; it is reopened by itself in a loader's worker processes.
            split: train, validation or test.
            normalisation: bands in order, with mean and std; all bands with the manifest's statistics if absent.
            input_px: side of the square every band is brought to, pixels.
            augment: turn and mirror each patch, anew in every ``epoch``.
            seed: fixes, with ``epoch``, how each patch is turned; not how patches are shuffled.

        Raises: TrainingError if the split is unknown, a band is missing, a patch lacks its Sentinel-1 twin, the label
            table is empty, or a patch carries a label that is not in it.
        """
        manifest = shard.manifest
        if split not in SPLITS:
            raise TrainingError(f"there is no split {split!r}; known are {', '.join(SPLITS)}", split=split)
        self.shard = shard
        self.split = split
        self.normalisation = normalisation or Normalisation.from_manifest(manifest)
        self.input_px = input_px
        self.augment = augment
        self.seed = seed
        self.epoch = 0
        self.classes = class_names(manifest)
        check_bands(manifest, self.normalisation.bands)

        rows = shard.index[shard.index["split"] == split]
        self.patch_ids: list[str] = rows["patch_id"].tolist()
        self.targets = _multi_hot(self.patch_ids, rows["labels"].tolist(), self.classes)

        sources = {band.name: band for band in input_bands(manifest)}
        columns = [_KEY_COLUMNS.get(sources[band].sensor, "patch_id") for band in self.normalisation.bands]
        self._keys: dict[str, list[str]] = {column: rows[column].tolist() for column in dict.fromkeys(columns)}
        for column, keys in self._keys.items():
            lacking = [patch for patch, key in zip(self.patch_ids, keys, strict=True) if not isinstance(key, str)]
            if lacking:
                bands = [band for band, used in zip(self.normalisation.bands, columns, strict=True) if used == column]
                raise TrainingError(
                    f"{len(lacking)} patches of the {split} split have no {', '.join(bands)}, {lacking[0]} among them; "
                    "leave these bands out or build with `require_s1: true`",
                    bands=bands,
                    patches=lacking,
                )
        self._columns = columns
        # (band, 1, 1), so that one expression normalises a patch
        self._mean = np.array(self.normalisation.mean, np.float32)[:, None, None]
        self._std = np.array(self.normalisation.std, np.float32)[:, None, None]
        self._nodata = np.array([_nodata(sources[band]) for band in self.normalisation.bands], np.float32)[:, None, None]
        self._nearest: dict[tuple[int, ...], tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]] = {}

    def __len__(self) -> int:
        return len(self.patch_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one patch.

        Raises: TrainingError if its entry in the shard lacks a band; ShardError if the entry cannot be read.
        """
        pixels = self._pixels(index)
        if self.augment:
            pixels = self._turned(pixels, index)
        return torch.from_numpy(pixels), torch.from_numpy(self.targets[index])

    def _pixels(self, index: int) -> npt.NDArray[np.float32]:
        entries = {column: self.shard.read(keys[index]) for column, keys in self._keys.items()}
        pixels = np.empty((len(self._columns), self.input_px, self.input_px), np.float32)
        for place, (band, column) in enumerate(zip(self.normalisation.bands, self._columns, strict=True)):
            values = entries[column].get(band)
            if values is None:
                raise TrainingError(
                    f"{self._keys[column][index]} holds {', '.join(entries[column])} but not band {band}; verify the shard",
                    patch_id=self.patch_ids[index],
                    band=band,
                )
            pixels[place] = values[self._grid(values.shape)]
        missing = np.isnan(pixels) | (pixels == self._nodata)
        pixels -= self._mean
        pixels /= self._std
        pixels[missing] = 0
        return pixels

    def _grid(self, shape_yx: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Native rows and columns that lie nearest to the centres of the input's pixels."""
        if shape_yx not in self._nearest:
            rows, columns = (((np.arange(self.input_px) + 0.5) * size / self.input_px).astype(np.intp) for size in shape_yx)
            self._nearest[shape_yx] = (rows[:, None], columns[None, :])
        return self._nearest[shape_yx]

    def _turned(self, pixels: npt.NDArray[np.float32], index: int) -> npt.NDArray[np.float32]:
        # drawn from the patch's own seed, so the result does not depend on order or on the number of workers
        symmetry = int(np.random.default_rng((self.seed, self.epoch, index)).integers(_SYMMETRIES))
        turned = np.rot90(pixels, symmetry % 4, axes=(1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if symmetry >= 4 else turned)


def class_names(manifest: ShardManifest) -> list[str]:
    """Names of the label table, in the order of its indices.

    Raises: TrainingError if the table is empty.
    """
    if not manifest.labels:
        raise TrainingError(f"the label table of shard {manifest.name!r} is empty; multi-label training needs at least one class")
    return [label.name for label in sorted(manifest.labels, key=lambda label: label.index)]


def _multi_hot(patch_ids: list[str], labels: list[Sequence[str]], classes: list[str]) -> npt.NDArray[np.float32]:
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


def _nodata(band: BandInfo) -> float:
    """Stored value that marks missing pixels; NaN, which equals nothing, where there is none or it is NaN itself."""
    return float("nan") if band.nodata is None else float(band.nodata)
