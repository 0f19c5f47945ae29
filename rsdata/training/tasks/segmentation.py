"""Which class each pixel of the reference map has: cross-entropy over the pixels that have one.

Codes of the map become classes by the shard's label table; a code that means none is left out of loss and scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rsdata.errors import TrainingError
from rsdata.recipe import Training
from rsdata.records import SegmentationScores, ShardManifest
from rsdata.sensors import REFERENCE_MAP
from rsdata.training.dataset import PatchDataset, ShardReader, TargetReader
from rsdata.training.metrics import Confusion
from rsdata.training.models import Answers
from rsdata.training.tasks.base import Answer, Build, Maps, TaskBase, band_named, the
from rsdata.training.tasks.rasters import IGNORED, ClassMap

_NO_CLASS = 255  # nothing is predicted so; for tools that want a no-data value


@dataclass(frozen=True)
class Segmentation(TaskBase):
    """Answers are (patch, class, y, x) logits, targets (patch, y, x) int64 indices, IGNORED where a pixel has no class."""

    band: str
    classes: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...]  # of the map, for each class
    name: ClassVar[str] = "segmentation"
    answers: ClassVar[Answers] = "pixel"

    @classmethod
    def of(cls, shard: ShardReader, options: Training, bands: Sequence[str], table: Path | None) -> Self:
        manifest = shard.manifest
        band = options.target or next((band.name for band in manifest.bands if band.sensor == REFERENCE_MAP.name), None)
        if band is None:
            raise TrainingError(f"shard {manifest.name!r} has no reference map to learn; name a band with class codes as `target`")
        if band in bands:
            raise TrainingError(f"the band {band} is to be learned and cannot be input too; leave it out of the bands", band=band)
        band_named(manifest, band)
        classes, codes = _classes(manifest, options.classes)
        if len(classes) < 2:
            raise TrainingError(
                f"the label table of shard {manifest.name!r} gives codes for {len(classes)} classes; segmentation needs at least two"
            )
        if len(classes) >= _NO_CLASS:
            raise TrainingError(f"{len(classes)} classes are more than the {_NO_CLASS - 1} that a map of bytes can show")
        return cls(band, classes, codes)

    def check_fits(self, manifest: ShardManifest) -> None:
        known = [_classes(manifest, kind) for kind in ("labels", "codes")]
        if (self.classes, self.codes) not in known:
            raise TrainingError(
                f"the model answers {', '.join(self.classes)}; shard {manifest.name!r} has the classes {', '.join(known[0][0])}, or other "
                "codes for them; use a shard with the same label table",
                model=self.classes,
            )

    def reader(self, shard: ShardReader, dataset: PatchDataset, table: Path | None, training: bool) -> TargetReader | None:
        return ClassMap(shard, dataset, band_named(shard.manifest, self.band), self.codes)

    def network(self, build: Build, bands: Sequence[str]) -> nn.Module:
        return build(len(bands), len(self.classes))

    def loss(self, answer: Answer, targets: Tensor) -> Tensor:
        total = cross_entropy(the(answer), targets, ignore_index=IGNORED, reduction="sum")
        return total / (targets != IGNORED).sum().clamp(min=1)

    def weight(self, targets: Tensor) -> float:
        return int((targets != IGNORED).sum())

    def scorer(self) -> "SegmentationScorer":
        return SegmentationScorer(self)

    def columns(self, answer: Answer) -> dict[str, Any]:
        found = the(answer).argmax(dim=1).cpu().numpy()
        return {name: (found == index).mean(axis=(1, 2)) for index, name in enumerate(self.classes)}

    def maps(self, answer: Answer) -> Maps | None:
        found = the(answer).argmax(dim=1).cpu().numpy().astype(np.uint8)
        return Maps(found, _NO_CLASS, dict(enumerate(self.classes)), "class")


class SegmentationScorer:
    """Counts which class is taken for which."""

    def __init__(self, task: Segmentation) -> None:
        self._task = task
        self._confusion = Confusion(task.classes, IGNORED)
        self._loss = self._pixels = 0.0

    def add(self, answer: Answer, targets: Tensor) -> None:
        logits = the(answer).detach()
        targets = targets.to(logits.device)
        weight = self._task.weight(targets)
        self._loss += float(self._task.loss(logits.float(), targets)) * weight
        self._pixels += weight
        self._confusion.add(logits.argmax(dim=1).cpu(), targets.cpu())

    def scores(self) -> SegmentationScores:
        return self._confusion.scores(self._loss / max(1.0, self._pixels))


def _classes(manifest: ShardManifest, kind: str) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Names of classes and the codes of each: those of the label table, or every code by itself."""
    labels = [label for label in sorted(manifest.labels, key=lambda label: label.index) if label.codes]
    if kind == "labels":
        return tuple(label.name for label in labels), tuple(tuple(label.codes) for label in labels)
    each = sorted((code, label.name) for label in labels for code in label.codes)
    return tuple(f"{code} {name}" for code, name in each), tuple((code,) for code, _ in each)
