"""Verbs that score predicted texts and embeddings: score, recall."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, err, new_table, out

_SHOWN = 5  # ids that are listed


def caption_score(
    rows: Annotated[Path, typer.Argument(help="A built dataset, or a Parquet table like its texts.parquet.")],
    predictions: Annotated[Path, typer.Argument(help="JSON lines, CSV or Parquet with `row_id` and `output`.")],
    as_json: AsJson = False,
) -> None:
    """Accuracy per task, overlap of boxes, and likeness of captions, of a model's answers.

    A row without an answer counts as wrong.
    """
    scores = steps.score_predictions(rows, predictions)
    if as_json:
        out.print_json(json.dumps(asdict(scores)))
        return
    if scores.tasks:
        table = new_table("task", "about", "rows", "answered", "read", "accuracy")
        for task in scores.tasks:
            table.add_row(task.category, task.type, f"{task.rows:,}", f"{task.answered:,}", f"{task.read:,}", f"{task.accuracy:.2%}")
        out.print(table)
    if scores.boxes:
        table = new_table("boxes", "rows", "answered", "read", "mIoU", "IoU >= 0.5")
        for box in scores.boxes:
            table.add_row(box.category, f"{box.rows:,}", f"{box.answered:,}", f"{box.read:,}", f"{box.miou:.4f}", f"{box.half:.2%}")
        out.print(table)
    if scores.captions:
        found = scores.captions
        table = new_table("captions", "answered", "BLEU-4", "ROUGE-L", "CIDEr-D")
        table.add_row(f"{found.rows:,}", f"{found.answered:,}", f"{found.bleu4:.2f}", f"{found.rouge_l:.4f}", f"{found.cider_d:.3f}")
        out.print(table)
    for ids, what in ((scores.missing, "rows have no prediction and count as wrong"), (scores.unknown, "predictions belong to no row")):
        if ids:
            some = f"{', '.join(ids[:_SHOWN])}{' and others' if len(ids) > _SHOWN else ''}"
            err.print(f"{len(ids):,} {what}: {some}", soft_wrap=True)


def caption_recall(
    images: Annotated[Path, typer.Argument(help="Embeddings of images: .npz with `vectors` and `ids`, or .npy.")],
    texts: Annotated[Path, typer.Argument(help="Embeddings of texts, likewise; the same id means that they belong together.")],
    as_json: AsJson = False,
) -> None:
    """How often a text finds its image among the nearest, and an image its text."""
    found = steps.score_retrieval(images, texts)
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = new_table("retrieval", "recall")
    for name, recall in found.items():
        table.add_row(name, f"{recall:.2%}")
    out.print(table)
