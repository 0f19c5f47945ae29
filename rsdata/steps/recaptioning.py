"""The texts of a dataset that is built already, written anew."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from rsdata.errors import RecipeError
from rsdata.recipe import Captions, Recipe, findings_of, load_recipe
from rsdata.records import Manifest
from rsdata.steps.captioning import caption_patches
from rsdata.steps.cataloguing import write_manifest
from rsdata.steps.receipts import Outcome
from rsdata.steps.report import write_report
from rsdata.workspace import Workspace, read_record


def recaption(workspace: Workspace, changes: dict[str, Any], ask: bool = True, advance: Callable[[int], None] = lambda n: None) -> Outcome:
    """Write facts and texts of a built dataset as its recipe says, save for some keys of ``captions``; then manifest and report.

    Nothing is done where nothing has changed. The recipe in the dataset says afterwards what was done.

    Args:
        ask: whether a language model's server may be asked, where the recipe names one.
        advance: told how many captions have been written.

    Raises: RecipeError if a changed key is unknown or has an impossible value.
    """
    recipe = changed_captions(load_recipe(workspace.recipe), changes)
    manifest = read_record(workspace.manifest, Manifest)
    outcome = caption_patches(recipe, workspace, advance, ask)
    units = [each.name for each in manifest.inputs if each.kind == "scene"]
    write_manifest(units, manifest.failures, recipe, workspace)
    write_report(recipe, workspace)
    return outcome


def changed_captions(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """A recipe with some keys of ``captions`` changed; of ``llm``, only those that are given.

    Raises: RecipeError if a key is unknown or has an impossible value.
    """
    said = recipe.captions.model_dump()
    model = {"llm": (said["llm"] or {}) | changes["llm"]} if "llm" in changes else {}
    try:
        part = Captions.model_validate(said | changes | model)
    except ValidationError as error:
        raise RecipeError(f"the captions cannot be written so: {findings_of(error)}", keys=sorted(changes)) from None
    return recipe.model_copy(update={"captions": part})
