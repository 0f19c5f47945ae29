"""Turned samples: boxes, points and words hold on the turned map, for all eight symmetries."""

import random

import numpy as np
import pytest
import torch

from rsdata.captions import MapClasses, TemplateCaptioner, TextOptions, TextRows, check_caption, facts_of
from rsdata.captions.solver import MapSolver, QuestionReader
from rsdata.errors import TrainingError
from rsdata.labels import load_nomenclature
from rsdata.records import DIRECTIONS, PixelBox, PixelPoint
from rsdata.shards.reading import SYMMETRIES
from rsdata.shards.reading.batches import _steps
from rsdata.testing.mutations import known_facts
from rsdata.testing.reference_maps import map_row, reference_map
from rsdata.testing.text_trial import around_generated, facts_and_maps
from rsdata.training.transforms import RandomTurn, Turned, combined, inverse, turn_boxes, turn_pixels, turn_points, turn_words

CLASSES = MapClasses.of(load_nomenclature("bigearthnet-19").classes)
NAMES = [each.name for each in load_nomenclature("bigearthnet-19").classes]
ALL = range(SYMMETRIES)
EVERY = pytest.mark.parametrize("symmetry", ALL)
WORDS = [
    "Forest lies in the north-west, north of the lake.",
    "The South-Eastern corner, the WEST, and Northeast of it; southwards to the easternmost field.",
    "A strip runs north-south in the upper left, another in the top-right corner.",
    "The lake is to the left of the forest and above the fields, below the town and to the right of the road.",
    "On the left-hand side and in the lower half; the topmost, the rightmost.",
    "A vertical band, horizontally cut, turns clockwise in the NW.",
    "The region at (3, 117) has the box [0, 10, 20, 120] in pixels.",
]


@EVERY
def test_numbers_are_those_of_the_shards(symmetry):
    square = np.arange(16).reshape(4, 4)
    first, down, across = _steps(4)[symmetry]
    read = first + down * np.arange(4)[:, None] + across * np.arange(4)
    assert turn_pixels(square, symmetry).tolist() == read.tolist()


@EVERY
def test_arrays_and_tensors_turn_alike_and_only_in_their_last_axes(symmetry):
    image = np.random.default_rng(0).integers(0, 9999, (2, 3, 6, 6), np.uint16)
    turned = turn_pixels(image, symmetry)
    assert turned.shape == image.shape
    assert turned.dtype == np.uint16
    assert np.array_equal(turn_pixels(torch.from_numpy(image.astype(np.int32)), symmetry).numpy(), turned)
    assert np.array_equal(turned[1, 2], turn_pixels(image[1, 2], symmetry))


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_two_turns_are_one_for_everything(first, second):
    one = combined(first, second)
    rng = np.random.default_rng(first * 8 + second)
    image = rng.random((3, 120, 120))
    assert np.array_equal(turn_pixels(turn_pixels(image, first), second), turn_pixels(image, one))
    corner = rng.integers(0, 100, (50, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 20, (50, 2))], axis=1)
    assert np.array_equal(turn_boxes(turn_boxes(boxes, first, 120), second, 120), turn_boxes(boxes, one, 120))
    assert np.array_equal(turn_points(turn_points(corner, first, 120), second, 120), turn_points(corner, one, 120))
    for text in WORDS:
        assert turn_words(turn_words(text, first), second) == turn_words(text, one)


@EVERY
def test_there_and_back_is_where_it_was(symmetry):
    assert combined(symmetry, inverse(symmetry)) == 0
    for text in WORDS:
        assert turn_words(turn_words(text, symmetry), inverse(symmetry)) == text


@EVERY
def test_a_turned_box_encloses_the_turned_region_exactly(symmetry):
    rng = np.random.default_rng(symmetry)
    for _ in range(50):
        mask = np.zeros((120, 120), bool)
        x, y = rng.integers(0, 120, (2, 5))
        mask[y, x] = True
        box = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
        turned = turn_pixels(mask, symmetry)
        rows, cols = np.nonzero(turned)
        assert turn_boxes(box, symmetry, 120) == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
        x_, y_ = turn_points([int(x[0]), int(y[0])], symmetry, 120)
        assert turned[y_, x_]


@EVERY
def test_facts_of_a_turned_map_are_the_turned_facts(symmetry):
    for number in range(6):
        codes = reference_map(number, seed=3)
        straight = facts_of(map_row(number), codes, CLASSES)
        turned = facts_of(map_row(number), np.ascontiguousarray(turn_pixels(codes, symmetry)), CLASSES)
        assert turned.classes == straight.classes
        assert sorted(turned.adjacent, key=str) == sorted(straight.adjacent, key=str)
        expected = [
            (each.name, each.pixels, turn_boxes(each.box, symmetry, 120), turn_words(each.position, symmetry)) for each in straight.regions
        ]
        found = [(each.name, each.pixels, each.box, each.position) for each in turned.regions]
        assert sorted(found, key=str) == sorted(expected, key=str)


@EVERY
def test_turned_captions_hold_on_the_turned_map_and_mostly_not_on_the_straight_one(symmetry):
    false = moved = 0
    for number, about in enumerate(known_facts(20, seed=4)):
        text = TemplateCaptioner(4, may_answer=True).caption(about)
        turned_text = turn_words(text, symmetry, names=(*NAMES, about.climate or ""))
        codes = np.ascontiguousarray(turn_pixels(reference_map(number, 4), symmetry))
        of_map = facts_of(map_row(number, 4), codes, CLASSES)
        turned = about.model_copy(update={name: getattr(of_map, name) for name in ("regions", "adjacent", "classes")})
        assert check_caption(turned_text, turned, NAMES) == [], (text, turned_text)
        if turned_text != text:
            moved += 1
            false += bool(check_caption(turned_text, about, NAMES))
    assert (moved == 0) == (symmetry == 0)
    assert false >= 0.5 * moved


@EVERY
def test_turned_questions_are_answered_rightly_from_the_turned_map(symmetry):
    around, class_of_code = around_generated(), load_nomenclature("bigearthnet-19").class_of_code
    reader, maker = QuestionReader(around.classes), TextRows(TextOptions(around, seed=6))
    turn = Turned(symmetry, names=(*around.classes, *around.climates, *around.countries))
    asked = 0
    (portion,) = facts_and_maps(12, seed=6)
    rows = maker.table([each for each, _ in portion]).to_pylist()
    for facts, codes in portion:
        codes = np.ascontiguousarray(turn_pixels(codes, symmetry))
        solver = MapSolver(codes, class_of_code, reader, country=facts.country, season=facts.season, climate=facts.climate)
        for row in (turn(each) for each in rows if each["patch_id"] == facts.patch_id and each["category"] != "caption"):
            point = None if row["point"] is None else (row["point"]["x"], row["point"]["y"])
            assert solver.answer(row["input"], row["options"], point) == row["output"], (row["input"], row["options"])
            assert not row["options"] or row["options"][row["answer_index"]] == row["output"]
            if row["box"] is not None:
                assert row["output"] == "[{x0}, {y0}, {x1}, {y1}]".format(**row["box"])
            asked += 1
    assert asked > 150


def test_directions_turn_as_a_quarter_turn_and_a_mirror_by_hand():
    quarter = {"north": "west", "north-east": "north-west", "east": "north", "south-east": "north-east", "south": "east", "west": "south"}
    assert {word: turn_words(word, 1) for word in quarter} == quarter
    assert turn_words("north-east, east, south", 4) == "north-west, west, south"
    assert turn_words("to the left of the lake", 1) == "below the lake"
    assert turn_words("Upper left, top right, left-hand side", 1) == "Lower left, top left, lower side"
    assert turn_words("NE and SW", 2) == "SW and NE"
    for symmetry in ALL:
        assert sorted(turn_words(each, symmetry) for each in DIRECTIONS) == sorted(DIRECTIONS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A north-facing slope.", "north-facing"),
        ("Terraces facing the south.", "facing the south"),
        ("Shadows fall to the north.", "Shadows"),
        ("The sun stands in the south-east.", "sun"),
        ("It lies on the northern hemisphere.", "hemisphere"),
        ("It lies in the north of the country.", "north of the country"),
        ("A view of northern Portugal.", "northern Portugal"),
        ("Fields on the left bank.", "left bank"),
        ("At 3 o'clock lies a lake.", "o'clock"),
        ("What is left is forest.", "is left"),
        ("Forest has a lower share.", "lower"),
        ("Rivers run downward.", "downward"),
    ],
)
@pytest.mark.parametrize("symmetry", range(1, SYMMETRIES))
def test_what_no_other_word_mends_is_refused(text, found, symmetry):
    with pytest.raises(TrainingError, match="cannot be turned with the image") as caught:
        turn_words(text, symmetry)
    assert caught.value.context["found"].strip() == found
    assert turn_words(text, 0) == text


@EVERY
@pytest.mark.parametrize(
    "text",
    [
        "A summer scene from Northern Ireland and South Korea.",
        "Pastures lie right next to the forest, above 25 % of it.",
        "At 48.2° N, 16.3° E the top three classes are found.",
        "B",
        "E",
        "Northern peatland",
    ],
)
def test_what_is_no_direction_of_the_image_stays(text, symmetry):
    assert turn_words(text, symmetry, names=("Northern peatland",)) == text


def test_a_class_may_follow_a_direction_if_it_is_named():
    with pytest.raises(TrainingError, match="a place on the earth"):
        turn_words("Is it north of Pastures?", 2)
    assert turn_words("Is it north of Pastures?", 2, names=("Pastures",)) == "Is it south of Pastures?"


def sample():
    image = np.random.default_rng(1).random((4, 120, 120), np.float32)
    mask = reference_map(2)
    return {
        "image": torch.from_numpy(image), "mask": mask, "box": PixelBox(x0=0, y0=10, x1=20, y1=120, raster="reference_map"),
        "boxes": [[0, 0, 1, 1], [3, 4, 50, 60]], "point": PixelPoint(x=5, y=100, raster="reference_map"), "answer_index": 1,
        "input": "Where is forest?", "options": ["north", "south-west", "upper right"], "output": "[0, 10, 20, 120]", "point_of_time": None,
    }  # fmt: skip


@EVERY
def test_a_sample_turns_as_a_whole(symmetry):
    given = sample()
    turned = Turned(symmetry)(given)
    assert torch.equal(turned["image"], turn_pixels(given["image"], symmetry))
    assert np.array_equal(turned["mask"], turn_pixels(given["mask"], symmetry))
    box = turned["box"]
    assert turned["output"] == f"[{box.x0}, {box.y0}, {box.x1}, {box.y1}]"
    assert given["mask"][100, 5] == turned["mask"][turned["point"].y, turned["point"].x]
    assert turned["options"] == [turn_words(each, symmetry) for each in given["options"]]
    assert (turned["answer_index"], turned["input"]) == (1, "Where is forest?")
    back = Turned(inverse(symmetry))(turned)
    assert torch.equal(back["image"], given["image"])
    assert {name: back[name] for name in ("box", "boxes", "point", "options", "output")} == {
        name: given[name] for name in ("box", "boxes", "point", "options", "output")
    }
    assert given["output"] == "[0, 10, 20, 120]"


def test_the_same_seed_draws_the_same_turns_and_all_of_them():
    given = {"mask": np.arange(9).reshape(3, 3)}
    one, two, other = RandomTurn(5), RandomTurn(5), RandomTurn(6)
    drawn = [one(given)["mask"].tolist() for _ in range(60)]
    assert drawn == [two(given)["mask"].tolist() for _ in range(60)]
    assert drawn != [other(given)["mask"].tolist() for _ in range(60)]
    assert len({str(each) for each in drawn}) == SYMMETRIES
    numbers = list(range(40))
    placed = {number: one.at(given, number, epoch=2)["mask"].tolist() for number in numbers}
    random.Random(0).shuffle(numbers)
    assert {number: two.at(given, number, epoch=2)["mask"].tolist() for number in numbers} == placed


def test_torch_can_draw_as_well():
    turn, given = RandomTurn(None), {"mask": np.arange(9).reshape(3, 3)}
    torch.manual_seed(3)
    first = [turn(given)["mask"].tolist() for _ in range(20)]
    torch.manual_seed(3)
    assert first == [turn(given)["mask"].tolist() for _ in range(20)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(TrainingError, match="no symmetry 8"):
        turn_pixels(np.zeros((2, 2)), 8)
    with pytest.raises(TrainingError, match="3 by 4 pixels cannot be turned by a quarter"):
        turn_pixels(np.zeros((3, 4)), 1)
    assert turn_pixels(np.zeros((3, 4)), 4).shape == (3, 4)
    with pytest.raises(TrainingError, match="does not lie inside the raster of 60 pixels"):
        turn_boxes([0, 0, 61, 10], 1, 60)
    with pytest.raises(TrainingError, match="does not lie inside the raster of 60 pixels"):
        turn_points([60, 0], 1, 60)
    with pytest.raises(TrainingError, match="no symmetry to draw from"):
        RandomTurn(0, symmetries=())


def test_a_symmetry_of_zero_may_be_among_those_drawn():
    assert RandomTurn(0, symmetries=(0,))({"output": "north"}) == {"output": "north"}
