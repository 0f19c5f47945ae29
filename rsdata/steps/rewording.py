"""What a language model's captions came to, and batches of questions for one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rsdata import captions
from rsdata.errors import CaptionError
from rsdata.recipe import LanguageModel, load_recipe
from rsdata.records import TextReport
from rsdata.steps.captioning import facts_in_portions
from rsdata.steps.engines import surroundings
from rsdata.steps.recaptioning import changed_captions
from rsdata.workspace import Workspace, read_record
from rsdata.writing import writing

Advance = Callable[[int], None]


def read_text_report(workspace: Workspace) -> TextReport | None:
    """What a model's captions came to; None if the templates wrote them."""
    return read_record(workspace.text_report, TextReport) if workspace.text_report.exists() else None


def write_batch(workspace: Workspace, changes: dict[str, Any], out: Path, advance: Advance = lambda n: None) -> int:
    """Write a batch file with the next question of every caption that has no supported answer yet; return how many.

    The first batch asks about every patch. Once its results have been read, the next asks again where they were wrong.

    Args:
        changes: keys of ``captions`` that differ from the recipe in the dataset, which stays as it is.
    """
    recipe = changed_captions(load_recipe(workspace.recipe), changes)
    count = 0
    with (
        captions.open_model(recipe.captions, surroundings(recipe, workspace, ask=False)) as engine,
        writing(out) as aside,
        aside.open("w", encoding="utf-8") as stream,
    ):
        for facts in facts_in_portions(recipe, workspace):
            for line in engine.batch(facts):
                stream.write(line)
                count += 1
            advance(len(facts))
    return count


def read_batch(workspace: Workspace, path: Path) -> dict[str, int]:
    """Keep the answers that a batch brought; returns how many are new, were known, and failed."""
    if not workspace.answers.exists():
        raise CaptionError(f"no batch was written for {workspace.root}; write one first", path=str(workspace.answers))
    with captions.ResponseStore(workspace.answers) as store:
        return captions.read_batch(path, store)


def run_batch(source: Path, target: Path, model: LanguageModel, advance: Advance = lambda n: None) -> dict[str, int]:
    """Send a batch file to any server and write the results; what the target holds already is not sent again."""
    return captions.run_batch(source, target, model, advance)
