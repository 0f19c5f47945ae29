"""Where a recipe finds its inputs, or makes them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rsdata.recipe import Countries, Recipe
from rsdata.records import Failure
from rsdata.scenes.sentinel2_url import as_url
from rsdata.steps.fetching import copies_of
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
    urls: dict[str, str] = field(default_factory=dict)  # copy of a product in the workspace to where it came from
    failures: list[Failure] = field(default_factory=list)  # products that could not be fetched


def make_inputs(recipe: Recipe, workspace: Workspace, progress: Callable[[str], None] = lambda line: None) -> Outcome | None:
    """Make the scenes of a recipe that asks for synthetic ones; None if it names scenes to read."""
    if recipe.synthetic is None:
        return None
    from rsdata.testing import synthesize

    synthetic = recipe.synthetic

    def work() -> tuple[list[Path], dict[str, int]]:
        made = synthesize(synthetic, workspace.inputs, progress)
        scene_files = [file for folder in (*made.sentinel2, *made.sentinel1) for file in sorted(folder.rglob("*")) if file.is_file()]
        return [made.labels, made.countries, workspace.inputs / "synthetic.json", *scene_files], {"scenes": len(made.sentinel2)}

    return once("inputs", "synthetic", workspace, {"recipe": synthetic.digest()}, work)


def locate_inputs(recipe: Recipe, workspace: Workspace) -> Inputs:
    """Where the products, polygons and countries of a recipe lie; what it names by URL, in the workspace.

    Raises: DownloadError if something was never fetched.
    """
    if recipe.scenes is not None and recipe.labels.path is not None:
        countries = recipe.countries
        if countries is not None and countries.path is not None:
            countries = countries.model_copy(update={"path": str(local_path(countries.path, recipe, workspace))})
        urls: dict[str, str] = {}
        failures: list[Failure] = []

        def patterns(named: Iterable[str]) -> list[str]:
            found = []
            for each in named:
                if as_url(each) is None:
                    found.append(recipe.absolute(each))
                    continue
                for copy in copies_of(each, workspace):
                    if copy.path is None:
                        unit = copy.url.rsplit("/", 1)[-1]
                        failures.append(Failure(stage="scenes", unit=unit, error="DownloadError", message=str(copy.reason)))
                        continue
                    found.append(str(workspace.root / copy.path))
                    urls[found[-1]] = copy.url
            return found

        sentinel2, sentinel1 = patterns(recipe.scenes.sentinel2), patterns(recipe.scenes.sentinel1)
        return Inputs(sentinel2, sentinel1, local_path(recipe.labels.path, recipe, workspace), countries, urls, failures)
    folder = workspace.inputs
    return Inputs(
        [str(folder / "sentinel2" / "S2*.SAFE")],
        [str(folder / "sentinel1" / "S1*")],
        folder / "corine.gpkg",
        (recipe.countries or Countries()).model_copy(update={"path": str(folder / "countries.gpkg")}),
    )


def local_path(named: str, recipe: Recipe, workspace: Workspace) -> Path:
    """Where one file that a recipe names lies: in the workspace, if it named it by URL.

    Raises: DownloadError if it was never fetched.
    """
    if as_url(named) is None:
        return Path(recipe.absolute(named))
    (copy,) = copies_of(named, workspace)
    return workspace.root / str(copy.path)
