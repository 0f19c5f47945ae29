"""The solver that tries the texts: by eye on small maps, then every row of some hundred generated ones."""

from pathlib import Path

import numpy as np
import pytest
from test_layout import imports

from rsdata.captions import TextOptions, TextRows
from rsdata.captions.solver import MapSolver, QuestionReader
from rsdata.errors import CaptionError
from rsdata.labels import load_nomenclature
from rsdata.testing.text_trial import around_generated, facts_and_maps, hold_trial

ROOT = Path(__file__).parents[1]
CLASSES = {1: "Water", 2: "Flooded vegetation", 3: "Trees, woods"}
READER = QuestionReader(CLASSES.values())


def solver_of(codes: np.ndarray, **known: str) -> MapSolver:
    return MapSolver(codes, CLASSES, READER, **known)


@pytest.fixture
def lakes() -> MapSolver:
    """10 by 10: water in three places, one of them joined by a corner; trees in the last row."""
    codes = np.full((10, 10), 2)
    codes[0:2, 0:3] = 1
    codes[2, 3] = 1  # touches the first by a corner
    codes[5:7, 8:10] = 1
    codes[9] = 3
    codes[9, 9] = 9  # no class
    return solver_of(codes, country="Serbia", season="winter", climate="Cfb (mild)")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there any water in this patch?", "yes"),
        ("Is the number of separate regions of water in this image 2?", "yes"),
        ("Does water form exactly 3 separate regions in this patch?", "no"),
        ("Does water cover between 10% and 20% of this patch?", "yes"),  # 11 of 100 pixels
        ("Does water cover between 0% and 10% of this patch?", "no"),
        ("Does water cover a larger area than flooded vegetation?", "no"),
        ("Do trees, woods and flooded vegetation share a border in this patch?", "yes"),
        ("Do trees, woods and water share a border in this patch?", "no"),
        ("Was this image taken in winter?", "yes"),
        ("Does this patch lie in Serbia?", "yes"),
        ("Is Serbia the country shown here?", "yes"),
        ('Does this patch lie in the climate zone "Csa"?', "no"),
        ("Give the bounding box of the largest region of water as [x0, y0, x1, y1] in pixels.", "[0, 0, 4, 3]"),
        ("Give the bounding box of the easternmost region of water, by its centre as [x0, y0, x1, y1] in pixels.", "[8, 5, 10, 7]"),
        # 2.7 pixels east and 8.3 south: nearer to south than to south-east
        ("Does the region of trees, woods lie to the south of the largest region of water?", "yes"),
        ("Does the region of trees, woods lie to the south-east of the largest region of water?", "no"),
    ],
)
def test_a_question_is_answered_from_the_map(lakes, question, answer):
    assert lakes.answer(question) == answer


@pytest.mark.parametrize(
    ("question", "options", "answer"),
    [
        ("How many separate regions of water are there?", ["1", "4", "2", "3"], "2"),
        ("What share of this patch does water cover?", ["0% to 10%", "10% to 20%", "20% to 30%", "30% to 40%"], "10% to 20%"),
        ("Which of these classes covers the largest area?", ["Water", "Trees, woods", "Flooded vegetation", "Town"], "Flooded vegetation"),
        ("Which of these classes borders trees, woods?", ["Water", "Flooded vegetation"], "Flooded vegetation"),
        ("Which of these classes is present in this patch?", ["Town", "Water", "Sand", "Snow"], "Water"),
        ("In which season was this image taken?", ["winter", "summer", "spring", "autumn"], "winter"),
    ],
)
def test_an_option_is_chosen_from_the_map(lakes, question, options, answer):
    assert lakes.answer(question, options) == answer


def test_a_pixel_leads_to_its_region(lakes):
    question = "What is the box, [x0, y0, x1, y1] in pixels, of the region at (3, 2)?"
    assert lakes.answer(question, point=(3, 2)) == "[0, 0, 4, 3]"
    with pytest.raises(CaptionError, match=r"says pixel \(3, 2\) and comes with \(2, 3\)"):
        lakes.answer(question, point=(2, 3))


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Give the bounding box of the only region of water as [x0, y0, x1, y1] in pixels.", []),
        ("What is the colour of water?", []),
        ("Does the region of water lie to the north of the region of trees, woods?", []),
        ("Which of these classes is present in this patch?", ["Trees, woods", "Water"]),
        ("How many separate regions of water are there?", ["3", "4"]),
    ],
)
def test_a_question_without_one_answer_is_an_error(lakes, question, options):
    with pytest.raises(CaptionError):
        lakes.answer(question, options)


def test_the_solver_shares_no_code_with_what_measures_facts_or_words_questions():
    source = (ROOT / "rsdata/captions/solver.py").read_text(encoding="utf-8")
    shared = {name for name, _, _ in imports(source, "rsdata.captions.solver", is_package=False) if name.startswith("rsdata")}
    assert shared == {"rsdata.errors.CaptionError"}


def test_of_two_names_that_fit_the_longer_is_read():
    reader = QuestionReader(["Vegetation", "Flooded vegetation"])
    assert reader.read("Is flooded vegetation next to vegetation?") == ("Is <class> next to <class>?", ["Flooded vegetation", "Vegetation"])


@pytest.mark.parametrize("may_answer", [False, True])
def test_every_row_of_two_hundred_maps_is_right_and_balanced(may_answer):
    trial = hold_trial(200, seed=21, captions_may_answer=may_answer, check=False)
    assert trial.wrong == []
    assert trial.leaks == []
    assert trial.rows > 2_500
    assert {kind for _, kind in trial.tasks} == {"binary", "multiple_choice", "referring_phrase", "referring_point"}
    assert len(trial.tasks) == 2 * 8 + 2
    for (subject, kind), points in trial.imbalance_points().items():
        # Each split may end within a round of four, so two rows more or less at most for three splits.
        assert points * trial.tasks[subject, kind] / 100 <= (0 if kind == "binary" else 3), (subject, kind)


def test_a_wrong_answer_would_be_found():
    found = Changed()
    for portion in facts_and_maps(60, seed=3):
        found.take(portion)
    assert found.tried > 700
    assert found.missed == []


class Changed:
    """Turns every answer into another and counts which the solver still gives."""

    def __init__(self):
        self.tried, self.missed = 0, []
        self._class_of_code = load_nomenclature("bigearthnet-19").class_of_code
        self._around = around_generated()
        self._reader, self._rows = QuestionReader(self._around.classes), TextRows(TextOptions(self._around))

    def take(self, portion):
        codes_of = {facts.patch_id: (facts, codes) for facts, codes in portion}
        for row in self._rows.table([facts for facts, _ in portion]).to_pylist():
            facts, codes = codes_of[row["patch_id"]]
            solver = MapSolver(codes, self._class_of_code, self._reader, country=facts.country, season=facts.season, climate=facts.climate)
            changed = {"yes": "no", "no": "yes"}.get(row["output"]) or (
                row["options"][row["answer_index"] - 1] if row["options"] else row["output"].replace("[", "[1")
            )
            point = None if row["point"] is None else (row["point"]["x"], row["point"]["y"])
            self.tried += 1
            if solver.answer(row["input"], row["options"], point) == changed:
                self.missed.append(row)
