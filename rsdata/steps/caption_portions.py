"""Facts and texts of some patches at a time, here or in worker processes.

A portion depends on nothing but its own patches, so who makes it does not matter. What depends on the patches before, where
the right options stand, is left to who puts the portions in order.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from rsdata import captions, catalog, shards
from rsdata.errors import CaptionError
from rsdata.recipe import Recipe
from rsdata.records import PatchFacts, TextRow, reference_map_id
from rsdata.sensors import REFERENCE_MAP
from rsdata.steps.asking import QuestionWriter
from rsdata.steps.engines import surroundings
from rsdata.steps.inputs import local_path
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.processes import end_with_parent
from rsdata.workspace import Workspace

_AHEAD = 2  # portions that a worker has been given, at most


@dataclass(frozen=True)
class Portion:
    """Some patches of one scene, in the order of their ids."""

    scene: str
    rows: Sequence[Mapping[str, Any]]  # of the patch table, with the columns of ``captions.ROW_COLUMNS``


class PortionTexts(NamedTuple):
    """What was made of a portion."""

    facts: pa.Table  # as ``PatchFacts``
    texts: pa.Table  # as ``TextRow``; of questions, the right option is the last
    left_out: int  # questions that the map did not confirm


class PortionMaker:
    """Makes facts and texts of portions of one dataset."""

    def __init__(self, recipe: Recipe, workspace: Workspace, options: captions.TextOptions | None = None) -> None:
        """Take a dataset, and what its questions depend on; without, there are none."""
        self._recipe, self._workspace = recipe, workspace
        self._classes = captions.MapClasses.of(nomenclature_of(recipe).classes)
        self._questions = QuestionWriter(recipe, options) if options else None

    def facts(self, portion: Portion) -> tuple[list[PatchFacts], list[np.ndarray]]:
        """Facts and (y, x) uint16 maps of patches; the maps are those that the scene contributes to the shards."""
        rows, files = portion.rows, climate_files(self._recipe, self._workspace)
        with ExitStack() as stack:
            store = stack.enter_context(shards.LmdbStore(self._workspace.part("quality", portion.scene, "")))
            climate = stack.enter_context(captions.ClimateRaster(files[0], captions.climate_names(*files[1:]))) if files else None
            zones = climate.zones([captions.centre_of(row) for row in rows]) if climate else [None] * len(rows)
            maps = [store.read(reference_map_id(row["patch_id"]))[REFERENCE_MAP.band_names[0]] for row in rows]
        fewest = self._recipe.captions.min_region_pixels
        facts = [
            captions.facts_of(row, codes, self._classes, min_region_pixels=fewest, climate=zone, sensors=self._recipe.shards.sensors)
            for row, codes, zone in zip(rows, maps, zones, strict=True)
        ]
        return facts, maps

    def texts(self, portion: Portion, engine: captions.Engine) -> PortionTexts:
        """Facts, captions and confirmed questions of patches."""
        facts, maps = self.facts(portion)
        captioned = engine.captions(facts)
        if self._questions:
            texts, left_out = self._questions.rows(facts, maps, captioned)
        else:
            texts, left_out = catalog.records_as_arrow(captioned, TextRow), 0
        return PortionTexts(catalog.records_as_arrow(facts, PatchFacts), texts, left_out)


def texts_in_processes(
    portions: Iterable[Portion], recipe: Recipe, workspace: Workspace, options: captions.TextOptions | None, workers: int
) -> Iterator[PortionTexts]:
    """What ``PortionMaker.texts`` makes of portions with captions from templates, in the order of the portions.

    Args:
        workers: processes; portions are read as these become free.

    Raises: RsdataError that a portion ends in, in its turn; CaptionError if a process dies.
    """
    waiting, futures = iter(portions), deque[Future[PortionTexts]]()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(recipe, workspace, options))
    try:
        while True:
            futures.extend(pool.submit(_make, portion) for portion in islice(waiting, _AHEAD * workers - len(futures)))
            if not futures:
                return
            yield futures.popleft().result()
    except BrokenProcessPool as error:
        raise CaptionError(
            f"one of {workers} processes that wrote captions died, perhaps for want of memory; build again with fewer workers",
            workers=workers,
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_OF_PROCESS: list[tuple[PortionMaker, captions.Engine]] = []  # what a worker works with


def _begin(recipe: Recipe, workspace: Workspace, options: captions.TextOptions | None) -> None:
    end_with_parent()
    with captions.open_engine(recipe.captions, surroundings(recipe, workspace)) as engine:
        _OF_PROCESS[:] = [(PortionMaker(recipe, workspace, options), engine)]


def _make(portion: Portion) -> PortionTexts:
    maker, engine = _OF_PROCESS[0]
    return maker.texts(portion, engine)


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
