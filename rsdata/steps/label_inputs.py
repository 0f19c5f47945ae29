"""What a recipe's labels are read from: the files under a scene, and the tables that give their codes a meaning."""

from pathlib import Path

import numpy as np

from rsdata import labels
from rsdata.grid import PATCH_SIDE_M, PatchGrid, corners
from rsdata.recipe import Recipe
from rsdata.records import Sentinel2Scene
from rsdata.steps.inputs import locate_inputs
from rsdata.steps.receipts import read_pair
from rsdata.workspace import Workspace


def nomenclature_of(recipe: Recipe) -> labels.Nomenclature:
    """The codes that a recipe's land cover may hold, and the classes they mean.

    Raises: LabelError if the source, or a table that the recipe names, does not serve.
    """
    said = recipe.labels

    def table(named: str | None) -> str | None:
        return recipe.absolute(named) if named is not None and named.endswith(".csv") else named

    codes = labels.label_source(said.source).codes or table(said.codes)
    return labels.load_nomenclature(table(said.nomenclature) or "", codes, table(said.conversion))


def area_of(scene: Sentinel2Scene) -> labels.Area:
    return labels.Area(scene.epsg, scene.ul_x_m, scene.ul_y_m - scene.height_m, scene.ul_x_m + scene.width_m, scene.ul_y_m)


def boxes_of(grid: PatchGrid) -> np.ndarray:
    """Left, bottom, right and top of every patch in metres, (n, 4), in the grid's order."""
    left, top = corners(grid.tile, *grid.cells())
    return np.stack([left, top - PATCH_SIDE_M, left + PATCH_SIDE_M, top], axis=1).astype(float)


def with_own_tables(recipe: Recipe) -> tuple[Recipe, dict[str, bytes]]:
    """A recipe whose tables lie beside it, and those tables by name, so that a dataset can be read without its maker's files."""
    tables: dict[str, bytes] = {}

    def beside(key: str, named: str) -> str:
        path = Path(recipe.absolute(named))
        content = path.read_bytes()
        name = path.name if tables.get(path.name, content) == content else f"{key}-{path.name}"
        tables[name] = content
        return name

    said, texts = recipe.labels, recipe.captions
    for key in ("nomenclature", "codes", "conversion"):
        named = getattr(said, key)
        if named is not None and named.endswith(".csv"):
            said = said.model_copy(update={key: beside(key, named)})
    if texts.climate is not None and texts.climate.classes is not None:
        climate = texts.climate.model_copy(update={"classes": beside("climate", texts.climate.classes)})
        texts = texts.model_copy(update={"climate": climate})
    return recipe.model_copy(update={"labels": said, "captions": texts}), tables


def label_files(unit: str, recipe: Recipe, workspace: Workspace) -> list[Path]:
    """The files that the labels of a scene are read from."""
    source = labels.label_source(recipe.labels.source)
    return source.files(locate_inputs(recipe, workspace).labels, area_of(read_pair(unit, workspace).s2))
