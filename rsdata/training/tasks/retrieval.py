"""Find one view of a patch by another: two encoders whose answers for the same patch are to be alike.

Loss: the mean of two cross-entropies, each view picking its partner among those of the batch, with a learned sharpness.
Source: Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, section 2.3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from rsdata.errors import TrainingError
from rsdata.recipe import Training
from rsdata.records import RetrievalScores, ShardManifest
from rsdata.training.dataset import PatchDataset, ShardReader, TargetReader, input_bands
from rsdata.training.metrics import recall
from rsdata.training.models import Answers
from rsdata.training.tasks.base import Answer, Build, Maps, TaskBase
from rsdata.training.tasks.texts import Captions, Embeddings, WordEncoder, read_embeddings

WORDS, GIVEN = "text", "embedding"  # what may stand in a pair beside sensors
_OUTPUTS = 128  # numbers in an answer
_SHARPEST = 100.0


@dataclass(frozen=True)
class Retrieval(TaskBase):
    """Answers are two (patch, 128) float32 of length 1 and the sharpness; targets are words, embeddings, or nothing."""

    pair: tuple[str, str]
    bands: tuple[tuple[str, ...], tuple[str, ...]]  # of each view; none for texts and embeddings
    given: int = 0  # numbers in an embedding
    name: ClassVar[str] = "retrieval"
    answers: ClassVar[Answers] = "patch"
    classes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, shard: ShardReader, options: Training, bands: Sequence[str], table: Path | None) -> Self:
        first, second = options.pair
        if first == second or second in (WORDS, GIVEN):
            raise TrainingError(f"the pair {first}, {second} is none; expected two sensors, or {WORDS} or {GIVEN} and then a sensor")
        sensor_of = {band.name: band.sensor for band in input_bands(shard.manifest)}
        views = [tuple(band for band in bands if sensor_of.get(band) == side) for side in options.pair]
        for side, of_side in zip(options.pair, views, strict=True):
            if not of_side and side not in (WORDS, GIVEN):
                known = sorted({*sensor_of.values()})
                raise TrainingError(
                    f"none of the bands is of {side}, which is to be retrieved; the shard has {', '.join(known)}", sensor=side
                )
        given = len(read_embeddings(table).iloc[0]) if first == GIVEN else 0
        return cls((first, second), (views[0], views[1]), given)

    @property
    def turns_images(self) -> bool:
        """Words such as north would no longer hold."""
        return not self.targets_are_input

    @property
    def targets_are_input(self) -> bool:
        return self.pair[0] in (WORDS, GIVEN)

    def check_fits(self, manifest: ShardManifest) -> None:
        """Any shard with the input's bands can be asked."""

    def reader(self, shard: ShardReader, dataset: PatchDataset, table: Path | None, training: bool) -> TargetReader | None:
        if self.pair[0] == WORDS:
            return Captions(table, dataset.split, dataset.patch_ids, training)
        return Embeddings(table, dataset.split, dataset.patch_ids) if self.pair[0] == GIVEN else None

    def network(self, build: Build, bands: Sequence[str]) -> nn.Module:
        first: nn.Module
        if self.pair[0] == WORDS:
            first = WordEncoder(_OUTPUTS)
        elif self.pair[0] == GIVEN:
            first = nn.Linear(self.given, _OUTPUTS)
        else:
            first = build(len(self.bands[0]), _OUTPUTS)
        channels = [[list(bands).index(band) for band in of_side] for of_side in self.bands]
        return TwoEncoders(first, build(len(self.bands[1]), _OUTPUTS), channels[0], channels[1])

    def answer(self, network: nn.Module, pixels: Tensor, targets: Tensor) -> Answer:
        return network(pixels, targets)

    def loss(self, answer: Answer, targets: Tensor) -> Tensor:
        first, second, sharpness = answer
        logits = sharpness * first @ second.T
        partner = torch.arange(len(logits), device=logits.device)
        return (cross_entropy(logits, partner) + cross_entropy(logits.T, partner)) / 2

    def weight(self, targets: Tensor) -> float:
        return len(targets)

    def scorer(self) -> "RetrievalScorer":
        return RetrievalScorer(self)

    def columns(self, answer: Answer) -> dict[str, Any]:
        first, second, _ = answer
        return {side: list(each.float().cpu().numpy()) for side, each in zip(self.pair, (first, second), strict=True)}

    def maps(self, answer: Answer) -> Maps | None:
        return None


class TwoEncoders(nn.Module):
    """One network for each view of a patch."""

    def __init__(self, first: nn.Module, second: nn.Module, first_channels: list[int], second_channels: list[int]) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.sharpness = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self._channels = first_channels, second_channels

    def forward(self, pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two (patch, 128) float32 of length 1, and the sharpness."""
        seen = pixels[:, self._channels[0]] if self._channels[0] else targets
        first, second = self.first(seen), self.second(pixels[:, self._channels[1]])
        return normalize(first.float(), dim=1), normalize(second.float(), dim=1), self.sharpness.exp().clamp(max=_SHARPEST)


class RetrievalScorer:
    """Keeps both views of a split."""

    def __init__(self, task: Retrieval) -> None:
        self._task = task
        self._views: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._loss = 0.0

    def add(self, answer: Answer, targets: Tensor) -> None:
        self._loss += float(self._task.loss(answer, targets)) * len(answer[0])
        for kept, view in zip(self._views, answer[:2], strict=True):
            kept.append(view.detach().float().cpu())

    def scores(self) -> RetrievalScores:
        first, second = (torch.cat(views) for views in self._views)
        name, other = self._task.pair
        return RetrievalScores(
            patches=len(first),
            loss=self._loss / len(first),
            ways=[recall(first, second, name, other), recall(second, first, other, name)],
        )
