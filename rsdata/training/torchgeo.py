"""Patches as torchgeo's datasets without coordinates give them: one dictionary a patch, so its trainers and transforms take them.

Keys and types are those of torchgeo 0.8's ``NonGeoDataset`` members; torchgeo itself is not needed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from rsdata.errors import TrainingError
from rsdata.recipe import Training
from rsdata.training.dataset import PatchDataset
from rsdata.training.tasks import Segmentation

Sample = dict[str, Any]


class SampleDataset(Dataset[Sample]):
    """One dictionary for each patch of a ``PatchDataset``, in its order.

    | key | |
    |---|---|
    | ``image`` | (band, y, x) float32, normalised |
    | ``label`` | (class,) int64 of 0 and 1, in the order of ``patches.classes``; absent where the shard has no labels |
    | ``mask`` | (y, x) int64 index into ``mask_classes``, -100 where the map has no class; only if asked for |

    All are turned alike where the dataset turns its patches. There is no box: in torchgeo those are of objects.
    """

    def __init__(self, patches: PatchDataset, *, mask: bool = False, transforms: Callable[[Sample], Sample] | None = None) -> None:
        """Args:
            patches: with labels as targets, not raw; its ``epoch`` decides how patches are turned.
            mask: give the reference map, on the image's grid, too.
            transforms: what is done to each whole sample last, such as ``RandomTurn``.

        Raises: TrainingError if the pixels are raw, the targets are no labels, or there is no map to give.
        """
        if patches.raw:
            raise TrainingError("samples hold normalised images; make the dataset without `raw`")
        if patches.target_reader is not None:
            raise TrainingError("samples hold labels and maps; give a dataset whose targets no task has replaced")
        self.patches, self.transforms = patches, transforms
        self.mask_classes: tuple[str, ...] = ()
        self._map = None
        if mask:
            bands = patches.normalisation.bands
            task = Segmentation.of(patches.shard, Training(task="segmentation"), bands, None)
            self.mask_classes, self._map = task.classes, task.reader(patches.shard, patches, None, False)

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Sample:
        """Read one patch.

        Raises: as ``PatchDataset`` does, IndexError among them.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Read many patches at once; torch's loader asks this way."""
        samples: list[Sample] = [{"image": image} for image, _ in self.patches.__getitems__(indices)]
        places = np.array([range(len(self))[index] for index in indices], np.int64)
        if self.patches.classes:
            for sample, label in zip(samples, self.patches.targets_of(places), strict=True):
                sample["label"] = label.to(torch.int64)
        if self._map is not None:
            epoch = self.patches.epoch
            for sample, mask in zip(samples, self._map.read(places, self.patches.turns_of(places, epoch), epoch), strict=True):
                sample["mask"] = mask
        return samples if self.transforms is None else [self.transforms(sample) for sample in samples]
