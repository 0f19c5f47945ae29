"""What a trained network has to beat: the commonest answer, and a linear model of band means, scored on the same split.

Both give answers of the kind a network gives, so they pass through the same scores.
"""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from rsdata.records import BaselineScores, RecallAt, RetrievalScores
from rsdata.training.dataset import PatchDataset
from rsdata.training.loading import PatchLoader
from rsdata.training.tasks import Multilabel, Regression, Retrieval, Segmentation, Task
from rsdata.training.tasks.rasters import IGNORED

_BATCH = 64
_SURE = 1e-9  # probabilities of 0 and 1 have no logit
_MOST_PIXELS = 20_000  # of the train split that a linear model of pixels is fitted to
_Features = npt.NDArray[np.float64]
_Model = Callable[[_Features], _Features]  # (sample, feature) to (sample, output)

MAJORITY, LINEAR = "majority", "linear"


def score_baselines(task: Task, training: PatchDataset, test: PatchDataset) -> list[BaselineScores]:
    """Fit both baselines to the train split and score them on the test split.

    The linear model is logistic or ridge regression by scikit-learn, on the mean and standard deviation of each band over a patch;
    for maps, on the bands of each pixel. Retrieval has chance alone, as there is no usual answer and no class.
    """
    if isinstance(task, Retrieval):
        return [_chance(task, len(test))]
    pixels = task.answers == "pixel"
    features, targets = _pixels(training) if pixels else _patches(training)
    models: list[tuple[str, str, _Model]]
    if isinstance(task, Multilabel):
        shares = targets.mean(axis=0)
        models = [
            (MAJORITY, "each class as often as in train", lambda x: _logit(np.tile(shares, (len(x), 1)))),
            (LINEAR, "logistic regression on band means and standard deviations", _logistic_each(features, targets)),
        ]
    elif isinstance(task, Segmentation):
        known = targets[:, 0] != IGNORED
        features, classes = features[known], targets[known, 0].astype(int)
        counts = np.bincount(classes, minlength=len(task.classes)) / max(1, len(classes))
        models = [
            (MAJORITY, "the commonest class of train everywhere", lambda x: np.tile(np.log(np.maximum(counts, _SURE)), (len(x), 1))),
            (LINEAR, "logistic regression on the bands of each pixel", _logistic_one(features, classes, len(task.classes))),
        ]
    elif isinstance(task, Regression):
        known = np.isfinite(targets[:, 0])
        features, targets = features[known], targets[known]
        mean = targets.mean(axis=0)
        what = "the bands of each pixel" if pixels else "band means and standard deviations"
        models = [
            (MAJORITY, "the mean of train everywhere", lambda x: np.tile(mean, (len(x), 1))),
            (LINEAR, f"ridge regression on {what}", _ridge(features, targets)),
        ]
    else:
        return []
    return [_scored(task, test, name, about, model, pixels) for name, about, model in models]


def _scored(task: Task, test: PatchDataset, name: str, about: str, model: _Model, pixels: bool) -> BaselineScores:
    scorer = task.scorer()
    for images, targets in _batches(test):
        if pixels:
            count, bands, side, _ = images.shape
            found = model(images.permute(0, 2, 3, 1).reshape(-1, bands).double().numpy())
            answer = torch.from_numpy(found).reshape(count, side, side, -1).permute(0, 3, 1, 2)
        else:
            answer = torch.from_numpy(model(_summary(images)))
        scorer.add(answer, targets)
    return BaselineScores(name=name, about=about, test=scorer.scores())


def _batches(dataset: PatchDataset) -> Iterator[tuple[Tensor, Tensor]]:
    """All patches in order, as they lie."""
    augment, dataset.augment = dataset.augment, False
    try:
        with PatchLoader(dataset, _BATCH, rank=0, world_size=1) as loader:
            yield from loader
    finally:
        dataset.augment = augment


def _summary(images: Tensor) -> _Features:
    """(patch, 2 band): mean and standard deviation of each band."""
    wide = images.double()
    return torch.cat([wide.mean(dim=(2, 3)), wide.std(dim=(2, 3))], dim=1).nan_to_num().numpy()


def _patches(dataset: PatchDataset) -> tuple[_Features, _Features]:
    parts = [(_summary(images), targets.double().numpy()) for images, targets in _batches(dataset)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _pixels(dataset: PatchDataset) -> tuple[_Features, _Features]:
    """Some pixels of each patch, as many in all as a linear model needs."""
    random = np.random.default_rng(0)
    each = max(1, _MOST_PIXELS // len(dataset))
    features, found = [], []
    for images, targets in _batches(dataset):
        flat = images.flatten(2).double().numpy()  # (patch, band, pixel)
        wanted = targets.reshape(len(images), -1).double().numpy()
        places = random.integers(flat.shape[2], size=(len(flat), each))
        features.append(np.take_along_axis(flat, places[:, None], axis=2).transpose(0, 2, 1).reshape(-1, flat.shape[1]))
        found.append(np.take_along_axis(wanted, places, axis=1).reshape(-1, 1))
    return np.concatenate(features), np.concatenate(found)


def _logistic_each(features: _Features, targets: _Features) -> _Model:
    """One yes or no for each class; a class that all or none of the patches have is answered so."""
    scaled = StandardScaler().fit(features)
    fitted = [_fit(scaled.transform(features), column) if 0 < column.mean() < 1 else float(column.mean()) for column in targets.T]

    def answer(x: _Features) -> _Features:
        x = scaled.transform(x)
        columns = [np.full(len(x), _logit(each)) if isinstance(each, float) else each.decision_function(x) for each in fitted]
        return np.stack(columns, axis=1)

    return answer


def _logistic_one(features: _Features, classes: npt.NDArray[np.int64], count: int) -> _Model:
    """One of the classes; those without a train pixel are never answered."""
    present = np.unique(classes)
    if len(present) < 2:
        only = np.eye(count)[present].sum(axis=0) if len(present) else np.zeros(count)
        return lambda x: np.tile(only, (len(x), 1))
    scaled = StandardScaler().fit(features)
    model = _fit(scaled.transform(features), classes)

    def answer(x: _Features) -> _Features:
        out = np.full((len(x), count), np.log(_SURE))
        out[:, model.classes_] = model.predict_log_proba(scaled.transform(x))
        return out

    return answer


def _fit(features: _Features, targets: npt.NDArray[np.generic]) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline that is nearly there will do
        return LogisticRegression(max_iter=1000).fit(features, targets)


def _ridge(features: _Features, targets: _Features) -> _Model:
    model = make_pipeline(StandardScaler(), Ridge()).fit(features, targets[:, 0])
    return lambda x: model.predict(x)[:, None]


def _logit(share: npt.ArrayLike) -> npt.NDArray[np.float64]:
    share = np.clip(np.asarray(share, np.float64), _SURE, 1 - _SURE)
    return np.asarray(np.log(share / (1 - share)))


def _chance(task: Retrieval, patches: int) -> BaselineScores:
    def way(queries: str, candidates: str) -> RecallAt:
        shares = {f"recall_{k}": min(1.0, k / patches) for k in (1, 5, 10)}
        return RecallAt(queries=queries, candidates=candidates, median_rank=(patches + 1) / 2, **shares)

    first, second = task.pair
    scores = RetrievalScores(patches=patches, loss=float(np.log(min(_BATCH, patches))), ways=[way(first, second), way(second, first)])
    return BaselineScores(name="chance", about="any candidate is as likely as another", test=scores)
