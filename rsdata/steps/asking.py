"""Questions of a build: made from the facts, and answered again from the reference map before they are written."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from rsdata import captions, labels
from rsdata.errors import CaptionError
from rsdata.recipe import Recipe
from rsdata.records import PatchFacts, TextRow
from rsdata.steps.label_inputs import nomenclature_of


class QuestionWriter:
    """Puts questions behind the captions of one dataset, portion by portion."""

    def __init__(self, recipe: Recipe, countries: Iterable[str], climates: Iterable[str]) -> None:
        """Take a recipe, the countries of its patches, and every climate zone there is."""
        from rsdata.testing.solver import QuestionReader

        nomenclature = nomenclature_of(recipe)
        around = captions.Around(
            classes=tuple(each.name for each in nomenclature.classes),
            countries=captions.countries_to_ask(countries),
            climates=tuple(climates),
            siblings=labels.siblings(nomenclature),
        )
        said = recipe.captions
        options = captions.TextOptions(around, said.seed, said.captions_may_answer)
        self._rows = captions.TextRows(options, self._is_right)
        self._reader, self._class_of_code = QuestionReader(around.classes), nomenclature.class_of_code
        self._maps: Mapping[str, np.ndarray] = {}
        self._solver: tuple[str, object] = ("", None)

    @property
    def left_out(self) -> int:
        """Questions that the map did not confirm, which are not written."""
        return self._rows.left_out

    def table(self, facts: Sequence[PatchFacts], maps: Sequence[np.ndarray], captions_of: Iterable[TextRow]) -> pa.Table:
        """Rows of some patches, captions and questions.

        Args:
            facts: in rising order of patch ids, behind those before.
            maps: (y, x) uint16 codes of the same patches.
            captions_of: rows of the same patches, in the same order.
        """
        self._maps = {each.patch_id: codes for each, codes in zip(facts, maps, strict=True)}
        return self._rows.table(facts, captions_of)

    def _is_right(self, facts: PatchFacts, question: captions.Question) -> bool:
        from rsdata.testing.solver import MapSolver

        patch_id, solver = self._solver
        if patch_id != facts.patch_id or not isinstance(solver, MapSolver):
            solver = MapSolver(
                self._maps[facts.patch_id],
                self._class_of_code,
                self._reader,
                country=facts.country,
                season=facts.season,
                climate=facts.climate,
            )
            self._solver = facts.patch_id, solver
        options = (question.answer, *question.wrong) if question.wrong else ()
        point = None if question.point is None else (question.point.x, question.point.y)
        try:
            return solver.answer(question.text, options, point) == question.answer
        except CaptionError:
            return False
