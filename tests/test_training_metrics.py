"""Scores: equal to scikit-learn's, and to small cases counted by hand."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rsdata.errors import TrainingError  # noqa: E402
from rsdata.training.metrics import score_multilabel  # noqa: E402

CLASSES = ["Arable land", "Pastures", "Inland waters", "Marine waters"]


def test_scores_counted_by_hand():
    # ranked by the first class: hit, miss, hit, so its average precision is (1/1 + 2/3) / 2
    probabilities = torch.tensor([[0.9, 0.2], [0.8, 0.7], [0.6, 0.1]])
    targets = torch.tensor([[1, 0], [0, 1], [1, 0]])
    scores = score_multilabel(probabilities, targets, ["a", "b"], loss=0.5)
    assert scores.patches == 3
    assert scores.loss == 0.5
    assert scores.classes[0].average_precision == pytest.approx(5 / 6)
    assert scores.classes[0].f1 == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert scores.classes[1].average_precision == 1
    assert scores.average_precision_macro == pytest.approx((5 / 6 + 1) / 2)
    assert scores.chance_average_precision_macro == pytest.approx((2 / 3 + 1 / 3) / 2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_equal_those_of_scikit_learn_with_a_class_absent(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    targets = (random.random((200, 4)) < [0.5, 0.2, 0.05, 0.0]).astype(int)
    # rounded, so there are ties
    probabilities = np.clip(np.round(0.3 * targets + 0.7 * random.random((200, 4)), 2), 0, 1)
    scores = score_multilabel(torch.from_numpy(probabilities), torch.from_numpy(targets), CLASSES, loss=0)
    predicted, present = probabilities > 0.5, [0, 1, 2]
    expected = {
        "average_precision_macro": metrics.average_precision_score(targets[:, present], probabilities[:, present], average="macro"),
        "average_precision_micro": metrics.average_precision_score(targets, probabilities, average="micro"),
        "f1_macro": metrics.f1_score(targets[:, present], predicted[:, present], average="macro"),
        "f1_micro": metrics.f1_score(targets, predicted, average="micro"),
        "chance_average_precision_macro": targets[:, present].mean(),
    }
    assert {name: getattr(scores, name) for name in expected} == pytest.approx(expected, abs=1e-6)
    for index, score in enumerate(scores.classes):
        assert (score.name, score.positives) == (CLASSES[index], targets[:, index].sum())
        if index in present:
            assert score.average_precision == pytest.approx(
                metrics.average_precision_score(targets[:, index], probabilities[:, index]), abs=1e-6
            )
        assert score.f1 == pytest.approx(metrics.f1_score(targets[:, index], predicted[:, index], zero_division=0), abs=1e-6)


def test_an_absent_class_has_no_precision_and_raises_no_warning():
    targets = torch.tensor([[1, 0], [0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score_multilabel(torch.tensor([[0.9, 0.1], [0.2, 0.9]]), targets, ["here", "absent"], loss=0)
    assert scores.classes[1].average_precision is None
    assert scores.average_precision_macro == 1
    assert scores.average_precision_micro == pytest.approx(0.5)  # the absent class's false alarm ties with the hit


def test_a_constant_answer_scores_the_stated_chance():
    targets = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 0]])
    scores = score_multilabel(torch.full((4, 2), 0.3), targets, ["a", "b"], loss=0)
    assert scores.average_precision_macro == pytest.approx(scores.chance_average_precision_macro)


def test_a_single_class_is_scored():
    scores = score_multilabel(torch.tensor([[0.9], [0.2], [0.8]]), torch.tensor([[1], [0], [0]]), ["only"], loss=0)
    assert scores.average_precision_macro == scores.average_precision_micro == 1
    assert scores.f1_macro == scores.f1_micro == pytest.approx(2 / 3)


def test_nothing_to_score_is_said_in_words():
    with pytest.raises(TrainingError, match="none of the 3 patches carries a label"):
        score_multilabel(torch.rand(3, 2), torch.zeros(3, 2), ["a", "b"], loss=0)
