"""Facts of each kept patch, and the texts they support."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from rsdata import captions, catalog
from rsdata.recipe import Recipe
from rsdata.records import PatchFacts, PatchId, TextRow
from rsdata.steps.asking import question_options
from rsdata.steps.caption_portions import Portion, PortionMaker, PortionTexts, climate_files, texts_in_processes
from rsdata.steps.engines import keeping_outcomes, kept_files, surroundings
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.receipts import Outcome, once, outputs_digest
from rsdata.workspace import Workspace, file_sha256
from rsdata.writing import writing

_PORTION = 1024  # patches whose facts are in memory at a time
_SHARED_OUT = 256  # patches that a worker takes at a time
WORTH_SHARING = 4096  # patches; with fewer, starting workers takes as long as they save


def caption_patches(
    recipe: Recipe, workspace: Workspace, advance: Callable[[int], None] = lambda n: None, ask: bool = True, workers: int = 1
) -> Outcome:
    """Gather the facts of each kept patch and write texts that they support.

    Args:
        advance: told how many captions have been written.
        ask: whether the server of a language model may be asked, where the recipe names one; else its answers must be kept already.
        workers: processes that write captions from templates, where there are many patches; a language model needs none. The
            files do not depend on it.
    """
    table = _kept(workspace)

    def work() -> tuple[list[Path], dict[str, int]]:
        options = question_options(recipe, table["country"].dropna(), _climates(recipe, workspace)) if recipe.captions.questions else None
        questions, left_out = captions.TextRows(options) if options else None, 0
        with (
            captions.open_engine(recipe.captions, surroundings(recipe, workspace, ask, advance)) as engine,
            keeping_outcomes(engine, workspace) as keep_outcomes,
            writing(workspace.facts) as facts_aside,
            writing(workspace.texts) as texts_aside,
            catalog.writing_rows(facts_aside, PatchFacts) as facts_rows,
            catalog.writing_rows(texts_aside, TextRow) as texts_rows,
        ):
            for portion in _made(table, recipe, workspace, engine, options, workers, advance):
                facts_rows.append(portion.facts)
                texts_rows.append(questions.place(portion.texts) if questions else portion.texts)
                left_out += portion.left_out
                keep_outcomes()
        counts = {"patches": facts_rows.rows, "texts": texts_rows.rows}
        made = [workspace.facts, workspace.texts, *(path for path in kept_files(workspace) if path.exists())]
        return made, counts | ({"questions left out": left_out} if questions else {})

    key = {f"maps {scene}": outputs_digest("quality", scene, workspace) for scene in _scenes(table).unique()}
    key |= {f"climate {number}": file_sha256(path) for number, path in enumerate(climate_files(recipe, workspace))}
    key |= {"patches": outputs_digest("splits", "all", workspace), "recipe": recipe.captions.digest()}
    key |= {"sensors": recipe.shards.sensors[0]} if len(recipe.shards.sensors) == 1 else {}  # texts say who saw a patch, and when
    return once("captions", "all", workspace, {**key, "labels": nomenclature_of(recipe).digest}, work)


def _made(
    table: pd.DataFrame,
    recipe: Recipe,
    workspace: Workspace,
    engine: captions.Engine,
    options: captions.TextOptions | None,
    workers: int,
    advance: Callable[[int], None],
) -> Iterator[PortionTexts]:
    """Facts and texts of all patches, in the order of their ids."""
    if workers > 1 and len(table) >= WORTH_SHARING and not isinstance(engine, captions.ModelEngine):
        for made in texts_in_processes(_portions(table, _SHARED_OUT), recipe, workspace, options, workers):
            advance(len(made.facts))
            yield made
        return
    maker = PortionMaker(recipe, workspace, options)
    for portion in _portions(table, _PORTION):
        yield maker.texts(portion, engine)


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


def facts_in_portions(recipe: Recipe, workspace: Workspace) -> Iterator[list[PatchFacts]]:
    """Facts of all kept patches, in the order of their ids."""
    maker = PortionMaker(recipe, workspace)
    for portion in _portions(_kept(workspace), _PORTION):
        yield maker.facts(portion)[0]


def _portions(table: pd.DataFrame, most: int) -> Iterator[Portion]:
    """Cut patches into portions of one scene each."""
    for scene, of_scene in table.groupby(_scenes(table), sort=False):
        for first in range(0, len(of_scene), most):
            yield Portion(str(scene), of_scene.iloc[first : first + most].to_dict("records"))


def _kept(workspace: Workspace) -> pd.DataFrame:
    """Rows of the patches that are kept, sorted by patch id, so each scene's are together."""
    table = catalog.read_patches(workspace.patches)
    return pd.DataFrame(table.loc[table["kept"], list(captions.ROW_COLUMNS)]).reset_index(drop=True)


def _scenes(table: pd.DataFrame) -> pd.Series:
    return table["patch_id"].map(lambda patch_id: PatchId.parse(patch_id).scene)
