"""Where a recipe finds its inputs, or makes them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rsdata.recipe import Countries, Recipe
from rsdata.steps.receipts import Outcome, once
from rsdata.workspace import (
    Workspace,
)


@dataclass(frozen=True)
class Inputs:
    """Where a recipe's products and layers lie, once it is known."""

    sentinel2: list[str]
    sentinel1: list[str]
    labels: Path
    countries: Countries | None


def make_inputs(recipe: Recipe, workspace: Workspace, progress: Callable[[str], None] = lambda line: None) -> Outcome | None:
    """Make the scenes of a recipe that asks for synthetic ones; None if it names scenes to read."""
    if recipe.synthetic is None:
        return None
    from rsdata.testing import synthesize

    synthetic = recipe.synthetic

    def work() -> tuple[list[Path], dict[str, int]]:
        made = synthesize(synthetic, workspace.inputs, progress)
        scene_files = [file for folder in (*made.sentinel2, *made.sentinel1) for file in sorted(folder.rglob("*")) if file.is_file()]
        return [made.labels, made.countries, *scene_files], {"scenes": len(made.sentinel2)}

    return once("inputs", "synthetic", workspace, {"recipe": synthetic.digest()}, work)


def locate_inputs(recipe: Recipe, workspace: Workspace) -> Inputs:
    """Where the products, polygons and countries of a recipe lie."""
    if recipe.scenes is not None and recipe.labels.path is not None:
        countries = recipe.countries
        if countries is not None and countries.path is not None:
            countries = countries.model_copy(update={"path": recipe.absolute(countries.path)})
        return Inputs(
            [recipe.absolute(pattern) for pattern in recipe.scenes.sentinel2],
            [recipe.absolute(pattern) for pattern in recipe.scenes.sentinel1],
            Path(recipe.absolute(recipe.labels.path)),
            countries,
        )
    folder = workspace.inputs
    return Inputs(
        [str(folder / "sentinel2" / "S2*.SAFE")],
        [str(folder / "sentinel1" / "S1*")],
        folder / "corine.gpkg",
        (recipe.countries or Countries()).model_copy(update={"path": str(folder / "countries.gpkg")}),
    )
