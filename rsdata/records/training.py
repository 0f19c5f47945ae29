"""How a model was trained and how it scored."""

from typing import Literal

from pydantic import Field

from rsdata.records.base import Record


class ClassScore(Record):
    """Average precision and F1 of one class; none where the split has no positive."""

    name: str
    positives: int
    average_precision: float | None
    f1: float


class Scores(Record):
    """Multi-label scores on one split; classes without a positive are left out of macro means."""

    patches: int
    loss: float
    average_precision_macro: float
    average_precision_micro: float
    f1_macro: float
    f1_micro: float
    chance_average_precision_macro: float = Field(description="macro AP of a constant score: the mean class frequency")
    classes: list[ClassScore]


class EpochLog(Record):
    """One pass over the train split."""

    epoch: int
    train_loss: float
    validation: Scores | None
    seconds: float


class TrainingReport(Record):
    """``metrics.json`` of a training run."""

    schema_version: Literal["1"] = "1"
    model: str
    task: str
    bands: list[str]
    classes: list[str]
    seed: int
    parameters: int
    shard_manifest_sha256: str
    epochs: list[EpochLog]
    best_epoch: int
    test: Scores | None
