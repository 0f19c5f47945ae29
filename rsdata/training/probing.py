"""The linear probe: how much of the labels a line through frozen features finds.

A logistic regression for each class, by scikit-learn, on features brought to mean 0 and deviation 1 over train. How
strongly each is held back (C) is chosen by average precision on validation; test is looked at once, at the end.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import binary_cross_entropy

from rsdata.errors import TrainingError
from rsdata.records import ProbeReport
from rsdata.training.metrics import score_multilabel

COSTS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_UNCHOSEN = 1.0  # where validation has no patch with the class, or none without it
_MOST_STEPS = 500

_Features = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """Patches of one split: features (patch, feature) and targets (patch, class)."""

    features: _Features
    targets: npt.NDArray[np.bool_]


def linear_probe(train: Known, validation: Known, test: Known, classes: Sequence[str], costs: Sequence[float] = COSTS) -> ProbeReport:
    """Fit and score a linear probe.

    A class that all or none of the train patches have gets its share in train as answer, and no C. Of equal Cs the smallest is taken.

    Raises: TrainingError if a split has no patches, or test no label.
    """
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if not len(part.features):
            raise TrainingError(f"no embeddings of {name} patches; make them with --split all, from a shard that has all splits")
    scaler = StandardScaler().fit(train.features)
    x, x_validation, x_test = (scaler.transform(part.features) for part in (train, validation, test))
    answers = np.zeros(test.targets.shape)
    chosen: dict[str, float | None] = {}
    for index, name in enumerate(classes):
        y, y_validation = train.targets[:, index], validation.targets[:, index]
        if y.all() or not y.any():
            answers[:, index], chosen[name] = float(y.mean()), None
            continue
        if y_validation.all() or not y_validation.any():
            best = _fit(x, y, _UNCHOSEN)
        else:
            fitted = [_fit(x, y, cost) for cost in sorted(costs)]
            best = max(fitted, key=lambda each: average_precision_score(y_validation, each.decision_function(x_validation)))
        answers[:, index], chosen[name] = best.predict_proba(x_test)[:, 1], float(best.C)
    probabilities, targets = torch.from_numpy(answers), torch.from_numpy(test.targets)
    loss = float(binary_cross_entropy(probabilities, targets.double()))
    return ProbeReport(
        features=train.features.shape[1],
        train_patches=len(x),
        validation_patches=len(x_validation),
        costs=chosen,
        test=score_multilabel(probabilities.float(), targets, classes, loss),
    )


def _fit(x: _Features, y: npt.NDArray[np.bool_], cost: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # judged by validation, however far it came
        return LogisticRegression(C=cost, max_iter=_MOST_STEPS).fit(x, y)
