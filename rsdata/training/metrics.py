"""Multi-label scores: average precision and F1, per class, macro and micro.

A class without a positive in the split has no precision to average, so it is left out of macro means; it still
counts in micro means, where its false alarms are false alarms.
"""

from collections.abc import Sequence
from statistics import fmean

from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision, binary_f1_score

from rsdata.errors import TrainingError
from rsdata.records import ClassScore, Scores

THRESHOLD = 0.5  # probability above which a class is predicted, for F1


def score_multilabel(probabilities: Tensor, targets: Tensor, classes: Sequence[str], loss: float) -> Scores:
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
    return Scores(
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
