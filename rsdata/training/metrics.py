"""Multi-label scores: average precision and F1, per class, macro and micro.

A class without a positive in the split has no precision to average, so it is left out of macro means; it still
counts in micro means, where its false alarms are false alarms.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

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
    # torchmetrics warns about classes without positives; those are asked for nothing
    average_precision = torch.full((len(classes),), torch.nan, dtype=torch.float64)
    average_precision[present] = torch.atleast_1d(
        multilabel_average_precision(probabilities[:, present], targets[:, present], int(present.sum()), average="none")
    ).double()
    f1 = torch.atleast_1d(multilabel_f1_score(probabilities, targets, len(classes), THRESHOLD, average="none")).double()
    return Scores(
        patches=len(targets),
        loss=loss,
        average_precision_macro=float(average_precision[present].mean()),
        average_precision_micro=float(multilabel_average_precision(probabilities, targets, len(classes), average="micro")),
        f1_macro=float(f1[present].mean()),
        f1_micro=float(multilabel_f1_score(probabilities, targets, len(classes), THRESHOLD, average="micro")),
        chance_average_precision_macro=float(positives[present].double().mean() / len(targets)),
        classes=[
            ClassScore(
                name=name,
                positives=int(positives[index]),
                average_precision=float(average_precision[index]) if present[index] else None,
                f1=float(f1[index]),
            )
            for index, name in enumerate(classes)
        ],
    )
