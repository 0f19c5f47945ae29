"""Questions about maps that can be answered by eye, what is not asked of them, and which wrong answers come along."""

from collections import defaultdict

import numpy as np
import pytest
from suites import CLASS_NAMES, facts

from rsdata.captions import Around, MapClasses, facts_of
from rsdata.captions.division import DIVIDED, Division, divide
from rsdata.captions.draw import Draw
from rsdata.captions.questions import SUBJECTS, questions_about
from rsdata.captions.view import View, clear_direction
from rsdata.labels import load_nomenclature, siblings
from rsdata.testing.reference_maps import map_row, reference_map

NOMENCLATURE = load_nomenclature("bigearthnet-19")
AROUND = Around(
    CLASS_NAMES, ("Austria", "Belgium", "Finland", "Portugal", "Serbia"), ("Cfa", "Cfb", "Csa", "Csb", "Dfb"), siblings(NOMENCLATURE)
)
PASTURE, FOREST, LAKE, TOWN, ARABLE = 231, 311, 512, 112, 211


def view_of(codes: np.ndarray, number: int = 0, **changes: object) -> View:
    return View(facts_of(map_row(number), codes, MapClasses.of(NOMENCLATURE.classes)).model_copy(update=changes))


def blocks(*rectangles: tuple[int, int, int, int, int], ground: int = PASTURE) -> np.ndarray:
    """A map of one class with rectangles (x0, y0, x1, y1, code) on it."""
    codes = np.full((120, 120), ground, np.uint16)
    for x0, y0, x1, y1, code in rectangles:
        codes[y0:y1, x0:x1] = code
    return codes


def all_asked(view: View, subject: str, seeds: int = 60, around: Around = AROUND):
    """What many seeds ask about one subject."""
    division = Division(frozenset(), frozenset(DIVIDED), (), tuple(view.sized))
    return [
        question
        for seed in range(seeds)
        for name, asked in questions_about(view, division, around, seed)
        if name == subject
        for question in asked
    ]


THREE = blocks((0, 0, 120, 30, FOREST), (50, 60, 70, 80, LAKE))  # 25 % forest in the north, 2.78 % lake, 72.2 % pastures


def test_yes_and_no_come_in_pairs_with_the_same_wording():
    for number in range(40):
        view = view_of(reference_map(number), number)
        for _, asked in questions_about(view, divide(view, 0, True), AROUND, 0):
            answers = defaultdict(list)
            for question in asked:
                if question.category == "binary":
                    answers[question.template].append(question.answer)
            assert all(given == ["yes", "no"] for given in answers.values())


def test_no_question_comes_twice_and_no_option_twice():
    for number in range(60):
        view = view_of(reference_map(number), number)
        questions = [question for _, asked in questions_about(view, divide(view, 1, True), AROUND, 1) for question in asked]
        texts = [(question.text, question.category) for question in questions]
        assert len(set(texts)) == len(texts)
        for question in questions:
            assert len({question.answer, *question.wrong}) == (4 if question.wrong else 1)


def test_absent_classes_are_those_nearest_in_the_hierarchy():
    view = view_of(blocks(ground=FOREST))  # siblings of broad-leaved forest on level 2: coniferous and mixed
    wrong = {question.text for question in all_asked(view, "presence") if question.answer == "no"}
    assert wrong
    assert all("coniferous forest" in each or "mixed forest" in each for each in wrong)
    for question in all_asked(view, "presence"):
        if question.wrong:
            assert question.wrong[0] in ("Coniferous forest", "Mixed forest")


def test_without_a_hierarchy_any_absent_class_will_do():
    view = view_of(blocks(ground=FOREST))
    asked = all_asked(view, "presence", seeds=200, around=Around(CLASS_NAMES))
    assert len({question.text for question in asked if question.answer == "no"}) > 30


def test_a_class_of_specks_is_neither_present_nor_absent():
    codes = blocks()
    codes[::20, ::20] = LAKE  # 36 single pixels
    texts = [
        f"{question.text} {question.answer} {question.wrong}".lower()
        for subject in SUBJECTS
        for question in all_asked(view_of(codes), subject)
    ]
    assert texts
    assert not any("inland waters" in each for each in texts)


def test_shares_of_the_map_are_asked_in_tenths_hectares_and_by_comparison():
    asked = all_asked(view_of(THREE), "area", seeds=300)
    said = {(question.text, question.answer) for question in asked}
    assert ("Do pastures cover between 70% and 80% of this patch?", "yes") in said
    assert ("Does broad-leaved forest cover between 70% and 80% of this patch?", "no") in said
    assert ("Is the area of pastures larger than that of broad-leaved forest?", "yes") in said
    assert ("Is the area of broad-leaved forest larger than that of pastures?", "no") in said
    assert ("How large is the area of broad-leaved forest in this patch?", "36 ha") in said
    assert ("What share of this patch does broad-leaved forest cover?", "20% to 30%") in said
    largest = [question for question in asked if "largest" in question.template]
    assert {question.answer for question in largest} == {"Pastures", "Broad-leaved forest"}
    assert all("Pastures" not in question.wrong for question in largest)


def test_a_share_near_the_end_of_an_interval_is_not_asked():
    asked = all_asked(view_of(blocks((0, 0, 120, 36, FOREST))), "area", seeds=200)  # 30 and 70 per cent
    assert asked
    assert not any("share" in question.template for question in asked)


def test_classes_of_nearly_the_same_size_are_not_compared():
    asked = all_asked(view_of(blocks((0, 0, 120, 59, FOREST))), "area", seeds=200)  # 49.2 and 50.8 per cent
    assert not any("compared" in question.template or "largest" in question.template for question in asked)


def test_wrong_areas_differ_from_the_right_one_by_a_quarter_at_least():
    for question in all_asked(view_of(THREE), "area", seeds=300):
        if question.answer.endswith(" ha"):
            right, *wrong = (int(each.removesuffix(" ha")) for each in (question.answer, *question.wrong))
            assert all(abs(each - right) >= 0.25 * right and 0 < each <= 144 for each in wrong)


def test_regions_are_counted_with_corners_joined():
    codes = blocks((10, 10, 20, 20, LAKE), (20, 20, 30, 30, LAKE), (60, 60, 70, 70, LAKE))  # the first two touch by a corner
    asked = all_asked(view_of(codes), "counting", seeds=200)
    of_lakes = [question for question in asked if "inland waters" in question.text]
    assert {question.answer for question in of_lakes if question.category == "multiple_choice"} == {"2"}
    assert ("Are the pixels of inland waters spread over exactly 2 separate regions?", "yes") in {(q.text, q.answer) for q in of_lakes}
    assert ("Do pastures form exactly 2 separate regions in this patch?", "no") in {(q.text, q.answer) for q in asked}


def test_a_class_with_specks_is_not_counted():
    codes = blocks((10, 10, 20, 20, LAKE))
    codes[100, 100] = LAKE
    assert not any("inland waters" in question.text for question in all_asked(view_of(codes), "counting"))


def test_neighbours_share_sides_and_absent_or_distant_classes_do_not():
    asked = all_asked(view_of(THREE), "adjacency", seeds=300)
    yes = [question.text for question in asked if question.answer == "yes"]
    no = [question.text for question in asked if question.answer == "no"]
    assert all("pastures" in each.lower() for each in yes)
    assert any("broad-leaved forest" in each and "inland waters" in each for each in no)
    assert not any("broad-leaved forest" in each and "inland waters" in each for each in yes)


def test_a_border_of_twenty_metres_is_not_asked_either_way():
    codes = blocks((0, 0, 120, 60, FOREST), (0, 60, 120, 120, 999))
    codes[60:80, 0:2] = LAKE  # 20 m of side with the forest
    assert all_asked(view_of(codes), "adjacency") == []


def test_directions_are_asked_where_they_are_clear():
    codes = blocks((20, 20, 40, 40, FOREST), (80, 22, 100, 42, LAKE), ground=999)  # the lake lies to the east
    asked = all_asked(view_of(codes), "relative_position", seeds=200)
    said = {(question.text, question.answer) for question in asked}
    assert ("Does the region of inland waters lie to the east of the region of broad-leaved forest?", "yes") in said
    assert ("Does the region of broad-leaved forest lie to the east of the region of inland waters?", "no") in said
    assert ("Where is the region of broad-leaved forest in relation to the region of inland waters?", "west") in said
    for question in asked:
        if question.wrong:
            assert {question.answer, *question.wrong} == {"north", "east", "south", "west"}


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ((30, 20, 40, 30, LAKE), "near: 10 pixels between the centroids"),
        ((70, 45, 90, 65, LAKE), "23 degrees off east, between two words"),
        ((10, 10, 110, 110, LAKE), "one lies in the other's box"),
    ],
)
def test_a_direction_that_can_be_disputed_is_not_asked(second, why):
    first = (20, 20, 30, 30, FOREST) if "box" not in why else (40, 20, 60, 30, FOREST)
    codes = blocks(*((second, first) if "box" in why else (first, second)), ground=999)
    assert all_asked(view_of(codes), "relative_position") == []


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [(60, 10, "north"), (100, 20, "north-east"), (110, 60, "east"), (60, 110, "south"), (10, 110, "south-west"), (10, 10, "north-west")],
)
def test_north_is_up_and_east_is_right(x, y, word):
    codes = blocks((55, 55, 65, 65, FOREST), (x - 5, y - 5, x + 5, y + 5, LAKE), ground=999)
    regions = view_of(codes).regions
    found = clear_direction(regions["Inland waters"][0], regions["Broad-leaved forest"][0])
    names = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
    assert names[found] == word


def test_country_season_and_climate_are_asked_where_they_are_known():
    view = view_of(THREE, country="Serbia", climate="Cfb", season="autumn")
    assert ("In which country does this patch lie?", "Serbia") in {(q.text, q.answer) for q in all_asked(view, "country")}
    assert ("Was this image taken in autumn?", "yes") in {(q.text, q.answer) for q in all_asked(view, "season")}
    climate = all_asked(view, "climate")
    assert {question.answer for question in climate if question.wrong} == {"Cfb"}
    assert all({"Cfa", "Csa", "Csb"} == set(question.wrong) for question in climate if question.wrong)  # those of the same main group
    unknown = view_of(THREE, country=None, climate=None)
    assert all_asked(unknown, "country") == []
    assert all_asked(unknown, "climate") == []


def test_phrases_fit_one_region_and_boxes_are_half_open():
    codes = blocks((10, 10, 30, 20, LAKE), (70, 80, 75, 90, LAKE), (100, 0, 120, 40, FOREST))
    asked = [question for question in all_asked(view_of(codes), "region", seeds=200) if question.category == "referring_phrase"]
    answers = {question.text.split("[")[0]: question.answer for question in asked}
    assert answers["Where is the only region of broad-leaved forest? Answer with its box "] == "[100, 0, 120, 40]"
    assert answers["Where is the largest region of inland waters? Answer with its box "] == "[10, 10, 30, 20]"
    assert answers["Where is the smallest region of inland waters? Answer with its box "] == "[70, 80, 75, 90]"
    assert answers["Where is the southernmost region of inland waters, by its centre? Answer with its box "] == "[70, 80, 75, 90]"
    place = "Where is the region of inland waters whose centre lies in the north-west of the patch? Answer with its box "
    assert answers[place] == "[10, 10, 30, 20]"
    for question in asked:
        box = question.box
        assert question.answer == f"[{box.x0}, {box.y0}, {box.x1}, {box.y1}]"


def test_two_regions_of_the_same_size_and_field_have_no_phrase():
    codes = blocks((10, 10, 20, 20, LAKE), (10, 22, 20, 32, LAKE), ground=999)  # 12 pixels apart, north to south
    texts = {question.text for question in all_asked(view_of(codes), "region") if question.category == "referring_phrase"}
    assert texts
    assert all("northernmost" in each or "southernmost" in each for each in texts)


def test_a_pixel_refers_to_the_region_that_holds_it():
    codes = blocks((10, 10, 30, 20, LAKE))
    asked = [question for question in all_asked(view_of(codes), "region") if question.category == "referring_point"]
    boxes = {(question.point.x, question.point.y): question.answer for question in asked}
    assert boxes[19, 14] == "[10, 10, 30, 20]"  # the pixel nearest to (20, 15), the first in reading order
    assert all(f"({x}, {y})" in question.text for question in asked for x, y in [(question.point.x, question.point.y)])


def test_captions_and_questions_share_no_subject_and_each_gets_half():
    told = 0
    for number in range(200):
        division = divide(view_of(THREE, patch_id=f"patch {number}"), 0, False)
        assert division.told | division.asked == set(DIVIDED)
        assert not division.told & division.asked
        assert not set(division.named) & set(division.hidden)
        assert division.named[0] == "Pastures"
        assert division.hidden[-1] == "Inland waters"
        told += len(division.told)
    assert 0.45 < told / (200 * len(DIVIDED)) < 0.55


def test_a_recipe_may_let_captions_answer():
    division = divide(view_of(THREE), 0, True)
    assert division.told == division.asked == set(DIVIDED)
    assert division.named == division.hidden == ("Pastures", "Broad-leaved forest", "Inland waters")


def test_nothing_is_asked_of_regions_that_are_not_known():
    bare = View(facts({"Pastures": 0.6, "Mixed forest": 0.4}))
    assert {subject for subject in SUBJECTS if all_asked(bare, subject)} == {"country", "season"}


def test_what_one_subject_asks_does_not_depend_on_the_others():
    view = view_of(reference_map(3), 3)
    whole = dict(questions_about(view, divide(view, 0, True), AROUND, 0))
    only = Division(frozenset(), frozenset({"area"}), (), tuple(view.sized))
    assert dict(questions_about(view, only, AROUND, 0))["area"] == whole["area"]


def test_draws_are_even_and_stay_the_same():
    draw = Draw("seed", 1)
    counts = np.bincount([draw.below(6) for _ in range(6000)])
    assert abs(counts - 1000).max() < 120
    assert sorted(draw.shuffled(range(9))) == list(range(9))
    assert Draw(0, "patch", "subject").below(1000) == 350  # from SHA-256 of the three words, the same on any machine
