"""What the report shows of trained models: results of all of them, curves of the first run, and scores per class."""

from collections.abc import Mapping, Sequence
from typing import Any

from rsdata.catalog import plots
from rsdata.records import MultilabelScores, Scores, SegmentationScores, TrainingReport, result_rows

_SECOND_COLOR = "#56b4e9"


def training_page(
    training: TrainingReport,
    results: Sequence[TrainingReport],
    in_train: Mapping[str, int],
    split_colors: Mapping[str, str],
) -> dict[str, Any]:
    """The section's numbers.

    Args:
        training: the recipe's model.
        results: all models of its task on its shard, itself among them; itself alone if empty.
        in_train: class to the patches of the train split that show it.
        split_colors: split to #rrggbb.
    """
    run = training.runs[0]
    names = list(training.test) or _figures(run.test) or _figures(next((log.validation for log in run.epochs if log.validation), None))
    return {
        "figures": names,
        "results": result_rows(results or [training]),
        "several": any(len(each.runs) > 1 for each in results),
        "baselines": {each.name: each.about for each in training.baselines},
        "seeds": [each.seed for each in training.runs],
        "best_epochs": [each.best_epoch for each in training.runs],
        "test_patches": run.test.patches if run.test is not None else 0,
        "chance": run.test.chance_average_precision_macro if isinstance(run.test, MultilabelScores) else None,
        "charts": _charts(training, names, split_colors),
        "epochs": [
            {
                "epoch": log.epoch,
                "train_loss": log.train_loss,
                "loss": log.validation.loss if log.validation else None,
                "figures": [(log.validation.figures() if log.validation else {}).get(name) for name in names],
                "seconds": log.seconds,
            }
            for log in run.epochs
        ],
        "classes": _class_rows(run.test, in_train),
        "kind": run.test.task if run.test is not None else None,
    }


def _figures(scores: Scores | None) -> list[str]:
    return list(scores.figures()) if scores is not None else []


def _charts(training: TrainingReport, names: Sequence[str], colors: Mapping[str, str]) -> list[plots.Chart]:
    run = training.runs[0]
    epochs = [log.epoch for log in run.epochs]
    validation = [log.validation for log in run.epochs]
    chance = next((scores.chance_average_precision_macro for scores in validation if isinstance(scores, MultilabelScores)), None)
    shown = list(zip(names[:2], (colors["test"], _SECOND_COLOR), strict=False)) if training.task != "regression" else []
    charts = [
        plots.epoch_chart(
            "Loss",
            epochs,
            {
                "train": (colors["train"], [log.train_loss for log in run.epochs]),
                "validation": (colors["validation"], [None if scores is None else scores.loss for scores in validation]),
            },
            least=0.0,
        )
    ]
    if shown:
        charts.append(
            plots.epoch_chart(
                "Scores on validation",
                epochs,
                {name: (color, [None if each is None else each.figures()[name] for each in validation]) for name, color in shown},
                least=0.0,
                most=1.0,
                level=None if chance is None else (chance, "chance (macro)"),
            )
        )
    return charts


def _class_rows(test: Scores | None, in_train: Mapping[str, int]) -> list[dict[str, Any]]:
    """Test scores per class, the most frequent first; the frequency is also the average precision of a constant score."""
    counted: list[tuple[str, int, int, float | None, float | None]]
    if isinstance(test, MultilabelScores):
        counted = [(each.name, each.positives, test.patches, each.average_precision, each.f1) for each in test.classes]
    elif isinstance(test, SegmentationScores):
        counted = [(each.name, each.pixels, test.pixels, each.iou, each.f1) for each in test.classes]
    else:
        return []
    rows = [
        {
            "name": name,
            "train": int(in_train.get(name, 0)),
            "positives": count,
            "frequency": count / of if of else 0.0,
            "score": score,
            "f1": f1,
        }
        for name, count, of, score, f1 in counted
    ]
    return sorted(rows, key=lambda row: (-int(str(row["positives"])), str(row["name"])))
