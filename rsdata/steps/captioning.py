"""Facts of each kept patch, and the texts they support."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from rsdata import captions, catalog, shards
from rsdata.errors import CaptionError
from rsdata.recipe import Recipe
from rsdata.records import PatchFacts, PatchId, TextRow, reference_map_id
from rsdata.sensors import REFERENCE_MAP
from rsdata.steps.asking import QuestionWriter
from rsdata.steps.engines import keeping_outcomes, kept_files, surroundings
from rsdata.steps.inputs import local_path
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.receipts import Outcome, once, outputs_digest
from rsdata.workspace import Workspace, file_sha256, writing

_PORTION = 1024  # patches whose facts are in memory at a time


def caption_patches(recipe: Recipe, workspace: Workspace, advance: Callable[[int], None] = lambda n: None, ask: bool = True) -> Outcome:
    """Gather the facts of each kept patch and write texts that they support.

    Args:
        advance: told how many captions have been written.
        ask: whether the server of a language model may be asked, where the recipe names one; else its answers must be kept already.
    """
    table = _kept(workspace)

    def work() -> tuple[list[Path], dict[str, int]]:
        questions = QuestionWriter(recipe, table["country"].dropna(), _climates(recipe, workspace)) if recipe.captions.questions else None
        with (
            captions.open_engine(recipe.captions, surroundings(recipe, workspace, ask, advance)) as engine,
            keeping_outcomes(engine, workspace) as keep_outcomes,
            writing(workspace.facts) as facts_aside,
            writing(workspace.texts) as texts_aside,
            catalog.writing_rows(facts_aside, PatchFacts) as facts_rows,
            catalog.writing_rows(texts_aside, TextRow) as texts_rows,
        ):
            for facts, maps in facts_in_portions(recipe, workspace):
                facts_rows.append(facts)
                captioned = engine.captions(facts)
                keep_outcomes()
                texts_rows.append(questions.table(facts, maps, captioned) if questions else captioned)
        counts = {"patches": facts_rows.rows, "texts": texts_rows.rows}
        made = [workspace.facts, workspace.texts, *(path for path in kept_files(workspace) if path.exists())]
        return made, counts | ({"questions left out": questions.left_out} if questions else {})

    key = {f"maps {scene}": outputs_digest("quality", scene, workspace) for scene in _scenes(table).unique()}
    key |= {f"climate {number}": file_sha256(path) for number, path in enumerate(climate_files(recipe, workspace))}
    key |= {"patches": outputs_digest("splits", "all", workspace), "recipe": recipe.captions.digest()}
    return once("captions", "all", workspace, {**key, "labels": nomenclature_of(recipe).digest}, work)


def climate_files(recipe: Recipe, workspace: Workspace) -> list[Path]:
    """What climate zones are read from: the raster, and the table of its classes if the recipe names one.

    Raises: CaptionError if one is missing.
    """
    said = recipe.captions.climate
    if said is None:
        return []
    files = [local_path(said.raster, recipe, workspace), *([Path(recipe.absolute(said.classes))] if said.classes else [])]
    for path in files:
        if not path.is_file():
            raise CaptionError(f"{path} does not exist; name the files of `captions.climate`, or leave it out", path=str(path))
    return files


def check_climate(recipe: Recipe, workspace: Workspace) -> None:
    """See that climate zones can be read, before hours of work rather than after.

    Raises: CaptionError if a file is missing or is not what it should be.
    """
    if files := climate_files(recipe, workspace):
        captions.ClimateRaster(files[0], captions.climate_names(*files[1:])).close()


def _climates(recipe: Recipe, workspace: Workspace) -> list[str]:
    """Every climate zone that a patch of this recipe could lie in."""
    files = climate_files(recipe, workspace)
    return [name for name in captions.climate_names(*files[1:]).values() if name] if files else []


def facts_in_portions(recipe: Recipe, workspace: Workspace) -> Iterator[tuple[list[PatchFacts], list[np.ndarray]]]:
    """Facts and maps of all kept patches, in the order of their ids; the maps are those that the scenes contribute to the shards."""
    table = _kept(workspace)
    classes = captions.MapClasses.of(nomenclature_of(recipe).classes)
    files, fewest = climate_files(recipe, workspace), recipe.captions.min_region_pixels
    with ExitStack() as stack:
        climate = stack.enter_context(captions.ClimateRaster(files[0], captions.climate_names(*files[1:]))) if files else None
        for scene, of_scene in table.groupby(_scenes(table), sort=False):
            with shards.LmdbStore(workspace.part("quality", str(scene), "")) as store:
                for first in range(0, len(of_scene), _PORTION):
                    rows = of_scene.iloc[first : first + _PORTION].to_dict("records")
                    zones = climate.zones([captions.centre_of(row) for row in rows]) if climate else [None] * len(rows)
                    maps = [store.read(reference_map_id(row["patch_id"]))[REFERENCE_MAP.band_names[0]] for row in rows]
                    facts = [
                        captions.facts_of(row, codes, classes, min_region_pixels=fewest, climate=zone)
                        for row, codes, zone in zip(rows, maps, zones, strict=True)
                    ]
                    yield facts, maps


def _kept(workspace: Workspace) -> pd.DataFrame:
    """Rows of the patches that are kept, sorted by patch id, so each scene's are together."""
    table = catalog.read_patches(workspace.patches)
    return pd.DataFrame(table.loc[table["kept"], list(captions.ROW_COLUMNS)]).reset_index(drop=True)


def _scenes(table: pd.DataFrame) -> pd.Series:
    return table["patch_id"].map(lambda patch_id: PatchId.parse(patch_id).scene)
