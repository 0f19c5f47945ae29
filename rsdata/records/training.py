"""How models were trained and how they scored, task by task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from rsdata.records.base import Record


class ClassScore(Record):
    """Average precision and F1 of one class; no average precision where the split has no positive."""

    name: str
    positives: int
    average_precision: float | None
    f1: float


class MultilabelScores(Record):
    """Multi-label scores on one split; classes without a positive are left out of macro means."""

    task: Literal["multilabel"] = "multilabel"
    patches: int
    loss: float
    average_precision_macro: float
    average_precision_micro: float
    f1_macro: float
    f1_micro: float
    chance_average_precision_macro: float = Field(description="macro AP of a constant score: the mean class frequency")
    classes: list[ClassScore]

    def figures(self) -> dict[str, float]:
        """What a table of results shows; the first decides which epoch is best."""
        return {
            "AP macro": self.average_precision_macro,
            "AP micro": self.average_precision_micro,
            "F1 macro": self.f1_macro,
            "F1 micro": self.f1_micro,
        }


class ClassOverlap(Record):
    """Intersection over union of one class; none where the split has no pixel of it."""

    name: str
    pixels: int = Field(description="that have this class")
    iou: float | None
    f1: float | None


class SegmentationScores(Record):
    """Scores over all pixels that have a class; classes without a pixel are left out of means over classes."""

    task: Literal["segmentation"] = "segmentation"
    patches: int
    pixels: int = Field(description="that have a class")
    loss: float
    miou: float = Field(description="mean intersection over union")
    f1_macro: float
    accuracy: float = Field(description="share of the pixels that are right")
    classes: list[ClassOverlap]

    def figures(self) -> dict[str, float]:
        """What a table of results shows; the first decides which epoch is best."""
        return {"mIoU": self.miou, "F1 macro": self.f1_macro, "accuracy": self.accuracy}


class RecallAt(Record):
    """In what share of queries the right answer is among the first; equal similarities count against it."""

    queries: str
    candidates: str
    recall_1: float
    recall_5: float
    recall_10: float
    median_rank: float = Field(description="of the right answer, from 1")


class RetrievalScores(Record):
    """How well each of two views of a patch is found by the other, among all patches of the split."""

    task: Literal["retrieval"] = "retrieval"
    patches: int
    loss: float
    ways: list[RecallAt] = Field(description="there and back")

    def figures(self) -> dict[str, float]:
        """What a table of results shows; the first decides which epoch is best."""
        each = {f"{way.queries} to {way.candidates}": way for way in self.ways}
        return {
            "R@1": sum(way.recall_1 for way in self.ways) / len(self.ways),
            **{f"{name} R@{k}": getattr(way, f"recall_{k}") for name, way in each.items() for k in (1, 5, 10)},
        }


class RegressionScores(Record):
    """Errors over all values that are known, in the unit of the target."""

    task: Literal["regression"] = "regression"
    patches: int
    values: int = Field(description="pixels, or patches, that have a value")
    loss: float = Field(description="mean squared error in train standard deviations")
    r2: float | None = Field(description="share of the variance that is explained; none where all values are equal")
    rmse: float
    mae: float

    def figures(self) -> dict[str, float]:
        """What a table of results shows; the first decides which epoch is best."""
        return {"R2": float("-inf") if self.r2 is None else self.r2, "RMSE": self.rmse, "MAE": self.mae}


Scores = Annotated[MultilabelScores | SegmentationScores | RetrievalScores | RegressionScores, Field(discriminator="task")]


class EpochLog(Record):
    """One pass over the train split."""

    epoch: int
    train_loss: float
    validation: Scores | None
    learning_rate: float = Field(0.0, description="of the last step")
    seconds: float


class TrainingRun(Record):
    """``run.json``: what came of one seed."""

    seed: int
    key: str = Field(description="digest of the options and of the shard's manifest")
    epochs: list[EpochLog]
    best_epoch: int
    stopped_early: bool = False
    test: Scores | None


class ProbeReport(Record):
    """How well a logistic regression per class does on features of a network that stays as it is."""

    features: int = Field(description="numbers per patch")
    train_patches: int
    validation_patches: int
    costs: dict[str, float | None] = Field(description="C of each class, chosen on validation; none where all or no train patches have it")
    test: MultilabelScores


class BaselineScores(Record):
    """What a model that looks at no pixel, or at no more than their means, scores on the same split."""

    name: str
    about: str
    test: Scores


class Spread(Record):
    """One figure over several seeds."""

    mean: float
    sd: float | None = Field(None, description="sample standard deviation (n - 1); none for one seed")


class TrainingReport(Record):
    """``metrics.json``: how one model did on one shard, over all its seeds."""

    schema_version: Literal["2"] = "2"
    name: str = Field(description="of its folder")
    model: str
    task: str
    preset: str | None = None
    bands: list[str]
    classes: list[str] = Field(description="empty for tasks without classes")
    options: dict[str, Any] = Field(description="all options that decided the result")
    parameters: int
    shard_manifest_sha256: str
    runs: list[TrainingRun] = Field(description="one for each seed")
    test: dict[str, Spread] = Field(description="figures on the test split over all seeds; empty without test patches")
    baselines: list[BaselineScores] = Field([])


@dataclass(frozen=True)
class ResultRow:
    """One line of a table of results."""

    name: str
    seeds: int  # none for what needs no network
    figures: dict[str, str]  # mean, and sample standard deviation where there are several seeds


def result_rows(reports: Sequence[TrainingReport]) -> list[ResultRow]:
    """Baselines and models of one task on one shard, worst to best by the first figure among each."""
    below: list[tuple[float, ResultRow]] = []
    models: list[tuple[float, ResultRow]] = []
    for report in reports:
        for baseline in report.baselines:
            figures = baseline.test.figures()
            shown = {name: _number(value) for name, value in figures.items()}
            alike = [row for _, row in below if row.name.split(",")[0] == baseline.name]
            if shown not in [row.figures for row in alike]:
                name = f"{baseline.name}, bands of {report.name}" if alike else baseline.name
                below.append((next(iter(figures.values())), ResultRow(name, 0, shown)))
        if report.test:
            shown = {
                name: _number(each.mean) + (f" ± {_number(each.sd)}" if each.sd is not None else "") for name, each in report.test.items()
            }
            models.append((next(iter(report.test.values())).mean, ResultRow(report.name, len(report.runs), shown)))
    return [row for part in (below, models) for _, row in sorted(part, key=lambda pair: (pair[0], pair[1].name))]


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
