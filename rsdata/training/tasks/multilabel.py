"""Which of the label table's classes a patch shows: binary cross-entropy, one logit per class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from rsdata.errors import TrainingError
from rsdata.recipe import Training
from rsdata.records import MultilabelScores, ShardManifest
from rsdata.training.dataset import PatchDataset, ShardReader, TargetReader, class_names
from rsdata.training.metrics import THRESHOLD, score_multilabel
from rsdata.training.models import Answers
from rsdata.training.ranks import cpu
from rsdata.training.tasks.base import Answer, Build, Maps, TaskBase, the


@dataclass(frozen=True)
class Multilabel(TaskBase):
    """Answers are (patch, class) logits, targets (patch, class) float32 of 0 and 1."""

    classes: tuple[str, ...]
    name: ClassVar[str] = "multilabel"
    answers: ClassVar[Answers] = "patch"

    @classmethod
    def of(cls, shard: ShardReader, options: Training, bands: Sequence[str], table: Path | None) -> Self:
        return cls(tuple(class_names(shard.manifest)))

    def check_fits(self, manifest: ShardManifest) -> None:
        check_classes(manifest, self.classes)

    def reader(self, shard: ShardReader, dataset: PatchDataset, table: Path | None, training: bool) -> TargetReader | None:
        if len(dataset) and not dataset.targets.any():
            raise TrainingError(
                f"none of the {len(dataset)} patches in the {dataset.split} split of shard {shard.manifest.name!r} carries a label; "
                "check the labels stage",
                split=dataset.split,
            )
        return None

    def network(self, build: Build, bands: Sequence[str]) -> nn.Module:
        return build(len(bands), len(self.classes))

    def loss(self, answer: Answer, targets: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(the(answer), targets)

    def weight(self, targets: Tensor) -> float:
        return len(targets)

    def scorer(self) -> "MultilabelScorer":
        return MultilabelScorer(self.classes)

    def columns(self, answer: Answer) -> dict[str, Any]:
        shares = cpu(the(answer)).sigmoid().numpy()
        labels = [[name for name, share in zip(self.classes, row, strict=True) if share > THRESHOLD] for row in shares]
        return {"labels": labels, **{name: shares[:, index] for index, name in enumerate(self.classes)}}

    def maps(self, answer: Answer) -> Maps | None:
        return None


class MultilabelScorer:
    """Keeps the logits of a split."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = classes
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, answer: Answer, targets: Tensor) -> None:
        self._logits.append(cpu(answer))
        self._targets.append(cpu(targets))

    def scores(self) -> MultilabelScores:
        logits, targets = torch.cat(self._logits), torch.cat(self._targets)
        loss = float(binary_cross_entropy_with_logits(logits, targets))
        return score_multilabel(logits.sigmoid(), targets, self._classes, loss)


def check_classes(manifest: ShardManifest, classes: Sequence[str]) -> None:
    """Raises: TrainingError if the label table has other classes, or another order of them."""
    found = class_names(manifest)
    if found != list(classes):
        raise TrainingError(
            f"the model answers {', '.join(classes)}; shard {manifest.name!r} has the classes {', '.join(found)}; "
            "use a shard with the same label table",
            model=tuple(classes),
            shard=found,
        )
