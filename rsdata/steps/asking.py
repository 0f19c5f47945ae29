"""Questions of a build: made from the facts, and answered again from the reference map before they are written."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from rsdata import captions, labels
from rsdata.errors import CaptionError
from rsdata.recipe import Recipe
from rsdata.records import PatchFacts, TextRow
from rsdata.steps.label_inputs import nomenclature_of


def question_options(recipe: Recipe, countries: Iterable[str], climates: Iterable[str]) -> captions.TextOptions:
    """What the questions of a dataset depend on: its recipe, the countries of its patches, and every climate zone there is."""
    nomenclature, said = nomenclature_of(recipe), recipe.captions
    around = captions.Around(
        classes=tuple(each.name for each in nomenclature.classes),
        countries=captions.countries_to_ask(countries),
        climates=tuple(climates),
        siblings=labels.siblings(nomenclature),
    )
    return captions.TextOptions(around, said.seed, said.captions_may_answer)


class QuestionWriter:
    """Puts confirmed questions behind the captions of patches; the right options have no places yet."""

    def __init__(self, recipe: Recipe, options: captions.TextOptions) -> None:
        """Take the recipe of a dataset, and what its questions depend on."""
        self._options, self._reader = options, captions.QuestionReader(options.around.classes)
        self._class_of_code = nomenclature_of(recipe).class_of_code

    def rows(self, facts: Sequence[PatchFacts], maps: Sequence[np.ndarray], captions_of: Iterable[TextRow]) -> tuple[pa.Table, int]:
        """Rows of some patches as of ``captions.asked_rows``, and how many questions the map did not confirm, which are left out.

        Args:
            facts: in rising order of patch ids.
            maps: (y, x) uint16 codes of the same patches.
            captions_of: rows of the same patches, in the same order.
        """
        map_of = {each.patch_id: codes for each, codes in zip(facts, maps, strict=True)}
        solvers: dict[str, captions.MapSolver] = {}

        def is_right(facts: PatchFacts, question: captions.Question) -> bool:
            solver = solvers.get(facts.patch_id)
            if solver is None:
                codes, known = map_of[facts.patch_id], {"country": facts.country, "season": facts.season, "climate": facts.climate}
                solvers.clear()  # patch by patch
                solver = solvers[facts.patch_id] = captions.MapSolver(codes, self._class_of_code, self._reader, **known)
            options = (question.answer, *question.wrong) if question.wrong else ()
            point = None if question.point is None else (question.point.x, question.point.y)
            try:
                return solver.answer(question.text, options, point) == question.answer
            except CaptionError:
                return False

        return captions.asked_rows(facts, captions_of, self._options, is_right)
