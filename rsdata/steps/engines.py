"""What the engines of captions are given by a dataset, and what is kept of a language model's work beside its texts."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from rsdata import captions, catalog, shards
from rsdata.recipe import Recipe
from rsdata.records import ModelCaption, PatchId
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.pictures import RGB, natural_colours
from rsdata.steps.receipts import read_pair
from rsdata.workspace import Workspace, write_record
from rsdata.writing import writing

_PICTURE_PX = 360  # side of what a model is shown; 120 pixels of 10 m, enlarged


def surroundings(
    recipe: Recipe, workspace: Workspace, ask: bool = True, advance: Callable[[int], None] = lambda n: None
) -> captions.Surroundings:
    """What an engine is given in this dataset; where a model's answers are kept does not depend on the engine."""
    names = [each.name for each in nomenclature_of(recipe).classes]
    return captions.Surroundings(names, answers=workspace.answers, picture=_picture_from(workspace), ask=ask, advance=advance)


@contextmanager
def keeping_outcomes(engine: captions.Engine, workspace: Workspace) -> Iterator[Callable[[], None]]:
    """Hand out what to call after each portion of captions; in the end what became of them is on the disk.

    That is the outcome of each caption, and a report. Templates have neither, and those of an earlier model are removed.
    """
    if not isinstance(engine, captions.ModelEngine):
        yield lambda: None
        for path in kept_files(workspace):
            path.unlink(missing_ok=True)
        return
    with writing(workspace.model_captions) as aside, catalog.writing_rows(aside, ModelCaption) as rows:
        yield lambda: rows.append(engine.outcomes)
    write_record(workspace.text_report, engine.report())


def kept_files(workspace: Workspace) -> list[Path]:
    """What a language model leaves beside texts and answers."""
    return [workspace.model_captions, workspace.text_report]


def _picture_from(workspace: Workspace) -> captions.Picture:
    """Shows patches as PNG in natural colours, read from what the scenes contribute to the shards."""

    def picture(patch_id: str) -> bytes:
        scene = PatchId.parse(patch_id).scene
        with shards.LmdbStore(workspace.part("quality", scene, "")) as store:
            bands = store.read(patch_id)
            pixels = natural_colours({name: bands[name] for name in RGB}, read_pair(scene, workspace).s2.offsets)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((_PICTURE_PX, _PICTURE_PX), Image.Resampling.BICUBIC).save(stream, "PNG")
        return stream.getvalue()

    return picture
