"""Scores of every task: average precision and F1, overlap of maps, recall of retrieval, errors of numbers.

A class without a positive in the split has nothing to average, so it is left out of macro means; it still
counts in micro means and in other classes' errors, where its false alarms are false alarms.
"""

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from rsdata.errors import TrainingError
from rsdata.records import ClassOverlap, ClassScore, MultilabelScores, RecallAt, SegmentationScores
from rsdata.training.models.library import unfit_torchvision

try:
    from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, R2Score
    from torchmetrics.classification import MulticlassConfusionMatrix
    from torchmetrics.functional.classification import binary_average_precision, binary_f1_score
except RuntimeError as error:  # it imports torchvision where that is installed
    raise unfit_torchvision("scoring needs torchmetrics, which imports torchvision where it is installed", error) from error

THRESHOLD = 0.5  # probability above which a class is predicted, for F1


def score_multilabel(probabilities: Tensor, targets: Tensor, classes: Sequence[str], loss: float) -> MultilabelScores:
    """Score predictions on one split.

    Args:
        probabilities: (patch, class) in 0 to 1.
        targets: (patch, class) of 0 and 1.
        classes: names, in the order of the columns.
        loss: mean binary cross-entropy on the split, kept beside the scores.

    Raises: TrainingError if no patch carries any class, so nothing can be scored.
    """
    targets = targets.long()
    positives = targets.sum(dim=0)
    present = positives > 0
    if not present.any():
        raise TrainingError(f"none of the {len(targets)} patches carries a label, so there is nothing to score")
    # One class at a time: torchmetrics' multi-label functions refuse a single class and warn of absent ones.
    scored = [
        ClassScore(
            name=name,
            positives=int(positives[index]),
            average_precision=_average_precision(probabilities[:, index], targets[:, index]) if present[index] else None,
            f1=_f1(probabilities[:, index], targets[:, index]),
        )
        for index, name in enumerate(classes)
    ]
    return MultilabelScores(
        patches=len(targets),
        loss=loss,
        average_precision_macro=fmean(score.average_precision for score in scored if score.average_precision is not None),
        average_precision_micro=_average_precision(probabilities.flatten(), targets.flatten()),
        f1_macro=fmean(score.f1 for score in scored if score.positives),
        f1_micro=_f1(probabilities.flatten(), targets.flatten()),
        chance_average_precision_macro=fmean(score.positives / len(targets) for score in scored if score.positives),
        classes=scored,
    )


def _average_precision(probabilities: Tensor, targets: Tensor) -> float:
    return float(binary_average_precision(probabilities, targets))


def _f1(probabilities: Tensor, targets: Tensor) -> float:
    return float(binary_f1_score(probabilities, targets, THRESHOLD))


class Confusion:
    """Which class is taken for which, over any number of batches; scored like scikit-learn's ``jaccard_score`` and ``f1_score``."""

    def __init__(self, classes: Sequence[str], ignored: int) -> None:
        self._classes = classes
        self._patches = 0
        self._matrix = MulticlassConfusionMatrix(len(classes), ignore_index=ignored)

    def add(self, found: Tensor, targets: Tensor) -> None:
        """Args: both (patch, ...) int64 indices of classes; targets may be ignored."""
        self._patches += len(targets)
        self._matrix.update(found, targets)

    def scores(self, loss: float) -> SegmentationScores:
        """Raises: TrainingError if no pixel has a class."""
        matrix = self._matrix.compute().double()  # (true, found)
        true, found, right = matrix.sum(dim=1), matrix.sum(dim=0), matrix.diagonal()
        if not true.any():
            raise TrainingError(f"no pixel of the {self._patches} patches has a class, so there is nothing to score")
        iou, f1 = right / (true + found - right), 2 * right / (true + found)
        present = [index for index in range(len(true)) if true[index]]
        return SegmentationScores(
            patches=self._patches,
            pixels=int(true.sum()),
            loss=loss,
            miou=fmean(float(iou[index]) for index in present),
            f1_macro=fmean(float(f1[index]) for index in present),
            accuracy=float(right.sum() / true.sum()),
            classes=[
                ClassOverlap(
                    name=name,
                    pixels=int(true[index]),
                    iou=float(iou[index]) if index in present else None,
                    f1=float(f1[index]) if index in present else None,
                )
                for index, name in enumerate(self._classes)
            ],
        )


class Errors:
    """Errors of numbers, over any number of batches."""

    def __init__(self) -> None:
        self.values = 0
        self._lowest, self._highest = math.inf, -math.inf
        self._metrics: tuple[Metric, ...] = tuple(
            metric.set_dtype(torch.float64) for metric in (R2Score(), MeanSquaredError(), MeanAbsoluteError())
        )

    def add(self, found: Tensor, targets: Tensor) -> None:
        """Args: both (value,) float64."""
        self.values += len(targets)
        if len(targets):
            self._lowest, self._highest = min(self._lowest, float(targets.min())), max(self._highest, float(targets.max()))
            for metric in self._metrics:
                metric.update(found, targets)

    def figures(self) -> tuple[float | None, float, float]:
        """R2, which needs two values that differ, mean squared and mean absolute error."""
        r2, squared, absolute = self._metrics
        explained = float(r2.compute()) if self._lowest < self._highest else None
        return explained, float(squared.compute()), float(absolute.compute())


def recall(queries: Tensor, candidates: Tensor, name: str, other: str, at_once: int = 1024) -> RecallAt:
    """How well each query finds the candidate of its own place, by the greatest inner product.

    Written out here, and held against torchmetrics' ``retrieval_recall`` in the tests: that takes one query at a time.

    Args:
        queries, candidates: (patch, value) float32.
        name, other: what they are.
        at_once: queries whose products with all candidates are in memory together.
    """
    ranks = []
    for first in range(0, len(queries), at_once):
        alike = queries[first : first + at_once] @ candidates.T
        own = alike[torch.arange(len(alike)), torch.arange(first, first + len(alike))]
        # equals count before, so a constant answer finds nothing; and so does one that is no number
        ranks.append(len(candidates) - (alike < own[:, None]).sum(dim=1))
    rank = torch.cat(ranks)
    shares = {f"recall_{k}": float((rank <= k).double().mean()) for k in (1, 5, 10)}
    return RecallAt(queries=name, candidates=other, median_rank=float(rank.double().quantile(0.5)), **shares)
