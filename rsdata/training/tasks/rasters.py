"""Rasters of a shard as targets: they are read, brought to the input's grid and turned by the same code as the images."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rsdata.errors import TrainingError
from rsdata.records import BandInfo
from rsdata.shards.reading import BatchPlan, pieces_of
from rsdata.training.dataset import PatchDataset, ShardReader
from rsdata.training.tasks.base import keys_of

IGNORED = -100  # a pixel without a class; torch's losses leave it out


class _Raster:
    def __init__(self, shard: ShardReader, dataset: PatchDataset, band: BandInfo) -> None:
        self._shard, self._band, self._side = shard, band.name, dataset.input_px
        self._patch_ids = dataset.patch_ids
        self._keys = keys_of(shard, dataset.patch_ids, band)
        nodata = float("nan") if band.nodata is None else float(band.nodata)
        self._plans = [BatchPlan((band.name,), [minus], [1.0], [nodata], dataset.input_px, "nearest") for minus in (0.0, 1.0)]

    def stored(self, places: npt.NDArray[np.int64], turns: npt.NDArray[np.int64], minus: int = 0) -> npt.NDArray[np.float32]:
        """(patch, y, x) stored values, each that under the pixel's centre, less 0 or 1; 0 where there is none."""
        out = np.empty((len(places), 1, self._side, self._side), np.float32)
        with pieces_of(self._shard, [self._keys[place] for place in places], [self._band]) as pieces:
            lacking = self._plans[minus].fill(pieces, [self._band], out, turns)
        if lacking:
            patch_id = self._patch_ids[places[lacking[0][0]]]
            raise TrainingError(f"the entry of {patch_id} does not hold {self._band}; verify the shard", patch_id=patch_id)
        return out[:, 0]


class ClassMap(_Raster):
    """(patch, y, x) int64: index of each pixel's class, IGNORED where its code means none."""

    def __init__(self, shard: ShardReader, dataset: PatchDataset, band: BandInfo, codes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__(shard, dataset, band)
        self._classes = np.full(65_536, IGNORED, np.int64)
        for index, of_class in enumerate(codes):
            self._classes[list(of_class)] = index

    def read(self, places: npt.NDArray[np.int64], turns: npt.NDArray[np.int64], epoch: int) -> Tensor:
        return torch.from_numpy(self._classes[self.stored(places, turns).astype(np.int64)])


class MeasureMap(_Raster):
    """(patch, 1, y, x) float32 in standard deviations from the mean; NaN where it is missing."""

    def __init__(self, shard: ShardReader, dataset: PatchDataset, band: BandInfo, mean: float, std: float) -> None:
        super().__init__(shard, dataset, band)
        self._mean, self._std = np.float32(mean), np.float32(std)

    def read(self, places: npt.NDArray[np.int64], turns: npt.NDArray[np.int64], epoch: int) -> Tensor:
        values = self.stored(places, turns)
        zero = values == 0
        if zero.any():  # a pixel that is missing is 0 whatever is taken off, and no value is
            values[zero & (self.stored(places, turns, minus=1) == 0)] = np.nan
        return torch.from_numpy((values - self._mean) / self._std)[:, None]
