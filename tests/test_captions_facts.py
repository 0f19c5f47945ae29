"""Facts of a patch: small maps by hand, many generated ones by an independent slow count."""

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from rsdata.captions import MapClasses, facts_digest, facts_of
from rsdata.captions.facts import unclassified_share
from rsdata.errors import CaptionError
from rsdata.labels import load_nomenclature
from rsdata.records import PatchFacts
from rsdata.testing.reference_maps import EDGE_EVERY, edge_cases, map_row, reference_map
from rsdata.testing.slow_facts import differences, slow_facts

NOMENCLATURE = load_nomenclature("bigearthnet-19")
CLASSES = MapClasses.of(NOMENCLATURE.classes)
ROW = {
    "patch_id": "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
    "epsg": 32633,
    "ul_x_m": 331_160,
    "ul_y_m": 5_331_640,
    "season": "summer",
    "country": "Austria",
    "datetime": datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC),
    "s1_product": "S1B_IW_GRDH_1SDV_20170612T165809_20170612T165834_006022_00A937_4BCF",
    "split": "train",
    "cloud_fraction": 0.1,
}
CODES = {"a": 211, "b": 212, "f": 311, "m": 313, "p": 231, "w": 512, ".": 999, "u": 142}
ARABLE, FOREST, MIXED, PASTURE, WATER = "Arable land", "Broad-leaved forest", "Mixed forest", "Pastures", "Inland waters"


def drawn(*lines: str) -> np.ndarray:
    """A map from letters: a and b arable land in two codes, f and m forests, p pastures, w water, . and u no class."""
    return np.array([[CODES[letter] for letter in line] for line in lines], np.uint16)


def facts(*lines: str, least: int = 1, **changes: object) -> PatchFacts:
    return facts_of(ROW | changes, drawn(*lines), CLASSES, min_region_pixels=least)


# --- classes ----------------------------------------------------------------------------------------------


def test_classes_fall_by_share_and_then_by_name():
    found = facts("ppff", "aaam", "aa..").classes
    assert [(each.name, each.share) for each in found] == [(ARABLE, 5 / 12), (FOREST, 2 / 12), (PASTURE, 2 / 12), (MIXED, 1 / 12)]
    assert [each.area_m2 for each in found] == [500, 200, 200, 100]


def test_codes_of_one_class_count_together():
    (only,) = facts("aabb", "bbaa").classes
    assert (only.name, only.share, only.regions) == (ARABLE, 1, 1)


def test_what_has_no_class_belongs_to_nobody():
    found = facts("a.u", "a.u")
    assert [each.name for each in found.classes] == [ARABLE]
    assert found.unlabeled_fraction == unclassified_share(found) == 4 / 6
    assert found.adjacent == []
    assert found.diversity == 0


@pytest.mark.parametrize(
    ("pixels", "dominance", "decile"),
    [(5, "marginal", 1), (720, "secondary", 1), (719, "marginal", 1), (1440, "secondary", 1), (1441, "secondary", 2),
     (3600, "secondary", 3), (3601, "primary", 3), (14_400, "primary", 10)],
)  # fmt: skip
def test_dominance_and_decile_change_at_their_bounds(pixels, dominance, decile):
    codes = np.where(np.arange(14_400) < pixels, CODES["w"], CODES["."]).reshape(120, 120).astype(np.uint16)
    (only,) = facts_of(ROW, codes, CLASSES).classes
    assert (only.dominance, only.decile, only.area_m2) == (dominance, decile, 100 * pixels)


def test_diversity_is_the_entropy_of_what_has_a_class():
    assert facts("ap", "..").diversity == pytest.approx(np.log(2), abs=1e-6)
    assert facts("aaap").diversity == pytest.approx(0.562335, abs=1e-6)  # -(0.75 ln 0.75 + 0.25 ln 0.25)
    assert facts("aaaa").diversity == 0


# --- regions ----------------------------------------------------------------------------------------------


def test_a_region_goes_on_over_corners_in_both_directions():
    assert len(facts("w..", ".w.", "..w").regions) == 1
    assert len(facts("..w", ".w.", "w..").regions) == 1
    assert len(facts("w.w", "...", "w.w").regions) == 4


def test_arms_that_meet_late_are_one_region():
    (one,) = facts("w.w.w", "w.w.w", "w.www", "www..").regions
    assert (one.pixels, one.name) == (13, WATER)
    (other,) = facts("..w", "w.w", ".w.").regions
    assert other.pixels == 4


def test_a_region_has_box_centroid_and_extent():
    (one,) = facts("....", ".ww.", ".w..").regions
    box = one.box
    assert (box.x0, box.y0, box.x1, box.y1, box.raster) == (1, 1, 3, 3, "reference_map")
    assert (one.centroid_x, one.centroid_y) == pytest.approx((11 / 6, 11 / 6))
    assert one.extent_ratio == 3 / 4
    assert one.area_m2 == 300


def test_the_point_inside_a_ring_lies_on_it():
    (ring, hole) = facts("www", "wpw", "www").regions
    assert (hole.name, hole.inside.x, hole.inside.y) == (PASTURE, 1, 1)
    assert (ring.centroid_x, ring.centroid_y) == (1.5, 1.5)
    assert (ring.inside.x, ring.inside.y) == (1, 0)  # of four that are as near, the first in reading order


def test_regions_fall_by_size_and_then_by_box():
    found = facts("pp.ww", ".....", "ffffw").regions
    assert [(each.name, each.pixels, each.box.x0) for each in found] == [(FOREST, 4, 0), (PASTURE, 2, 0), (WATER, 2, 3), (WATER, 1, 4)]


def test_small_regions_are_not_listed_but_counted():
    found = facts("pppw", "pppp", "w.pp", least=2)
    assert [(each.name, each.pixels) for each in found.regions] == [(PASTURE, 9)]
    assert [(each.name, each.regions) for each in found.classes] == [(PASTURE, 1), (WATER, 2)]
    assert [(each.first, each.second, each.border_m) for each in found.adjacent] == [(WATER, PASTURE, 30.0)]


def test_ten_pixels_are_the_smallest_region_unless_said_otherwise():
    cases = edge_cases()
    assert [len(facts_of(ROW, cases[name], CLASSES).regions) for name in ("nine pixels", "ten pixels")] == [1, 2]


@pytest.mark.parametrize(
    ("x", "y", "position"),
    [(0, 0, "north-west"), (1, 0, "north"), (2, 0, "north-east"), (0, 1, "west"), (1, 1, "centre"), (2, 1, "east"),
     (0, 2, "south-west"), (1, 2, "south"), (2, 2, "south-east")],
)  # fmt: skip
def test_positions_are_fields_of_three_by_three(x, y, position):
    codes = np.full((120, 120), CODES["."], np.uint16)
    codes[40 * y + 10 : 40 * y + 30, 40 * x + 10 : 40 * x + 30] = CODES["w"]
    (one,) = facts_of(ROW, codes, CLASSES).regions
    assert one.position == position


@pytest.mark.parametrize("turn", [lambda codes: codes, np.fliplr, np.flipud, np.transpose])
def test_a_centroid_on_a_border_belongs_to_the_middle_in_every_mirror(turn):
    case = edge_cases()["centroid on the border of a field"]
    assert facts_of(ROW, np.ascontiguousarray(turn(case)), CLASSES).regions[1].position == "centre"


# --- borders ----------------------------------------------------------------------------------------------


def test_borders_are_sides_and_not_corners():
    found = facts("pw", "wp").adjacent
    assert [(each.first, each.second, each.border_m) for each in found] == [(WATER, PASTURE, 40.0)]
    assert facts("p.", ".w").adjacent == []


def test_borders_fall_by_length_and_then_by_name():
    found = facts("ppw", "ppw", "ffa").adjacent
    assert [(each.first, each.second, each.border_m) for each in found] == [
        (FOREST, PASTURE, 20.0),
        (WATER, PASTURE, 20.0),
        (ARABLE, FOREST, 10.0),
        (ARABLE, WATER, 10.0),
    ]


# --- the row of the table ---------------------------------------------------------------------------------


def test_time_place_and_sensors_come_from_the_row():
    found = facts("a")
    assert (found.season, found.country, found.sensors, found.split) == ("summer", "Austria", ["s2", "s1"], "train")
    assert found.datetime == ROW["datetime"]
    assert found.s1_name == "S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57"
    assert found.climate is None


@pytest.mark.parametrize("absent", [None, float("nan"), pd.NA, ""])
def test_what_is_absent_stays_absent(absent):
    found = facts("a", country=absent, s1_product=absent, split=absent)
    assert (found.country, found.sensors, found.s1_name, found.split) == (None, ["s2"], None, None)


def test_a_place_is_the_middle_of_the_patch():
    on_the_meridian = facts("a", epsg=32633, ul_x_m=500_000 - 600, ul_y_m=600)  # its middle: 15 degrees east, on the equator
    assert (on_the_meridian.longitude, on_the_meridian.latitude) == (15, 0)


def test_digest_follows_the_facts_and_nothing_else():
    assert facts_digest(facts("ap")) == facts_digest(facts("ap", cloud_fraction=0.2)) == facts_digest(facts("bp"))
    digests = {facts_digest(each) for each in (facts("ap"), facts("pa"), facts("aap"), facts("ap", season="spring"))}
    assert len(digests) == 4


def test_digest_is_the_same_wherever_the_row_came_from():
    stamped = pd.DataFrame([ROW]).to_dict("records")[0]
    assert facts_digest(facts_of(stamped, drawn("ap"), CLASSES)) == facts_digest(facts_of(ROW, drawn("ap"), CLASSES))


# --- refused ----------------------------------------------------------------------------------------------


def test_a_missing_column_is_named():
    with pytest.raises(CaptionError, match="no column `season`"):
        facts_of({name: value for name, value in ROW.items() if name != "season"}, drawn("a"), CLASSES)


@pytest.mark.parametrize(
    "codes", [np.zeros((120, 120), np.uint8), np.zeros((1, 120, 120), np.uint16), np.zeros((0, 120), np.uint16), np.zeros((3, 3))]
)
def test_what_is_no_reference_map_is_refused(codes):
    with pytest.raises(CaptionError, match=r"the reference map of S2A_.*_26_57 is .*; expected \(y, x\) uint16 codes"):
        facts_of(ROW, codes, CLASSES)


# --- against a slow count ---------------------------------------------------------------------------------


def disagreement(row, codes, least, nomenclature=NOMENCLATURE):
    fast = facts_of(row, codes, MapClasses.of(nomenclature.classes), min_region_pixels=least).model_dump()
    return differences(fast, slow_facts(row, codes, nomenclature.class_of_code, least))


@pytest.mark.parametrize("name", edge_cases())
def test_a_slow_count_agrees_on_edge_cases(name):
    assert disagreement(ROW, edge_cases()[name], 1 if "chess" not in name else 10) == []


def test_a_slow_count_agrees_on_sixty_maps():
    for number in range(60):
        assert disagreement(map_row(number), reference_map(number), 10) == [], number


def test_a_slow_count_agrees_under_other_nomenclatures():
    for number in range(10):
        for name in ("clc-3", "clc-1"):
            assert disagreement(map_row(number), reference_map(number), 3, load_nomenclature(name)) == [], (name, number)


def test_the_slow_count_would_notice_a_wrong_fact():
    row, codes = map_row(0), reference_map(0)
    said = facts_of(row, codes, CLASSES).model_dump()
    expected = slow_facts(row, codes, NOMENCLATURE.class_of_code, 10)
    said["regions"][0]["box"]["x1"] += 1
    said["adjacent"][0]["border_m"] += 10
    assert len(differences(said, expected)) == 2
    assert differences(said | {"classes": []}, expected)


# --- the maps ---------------------------------------------------------------------------------------------


def test_maps_follow_from_seed_and_number():
    assert np.array_equal(reference_map(7), reference_map(7))
    assert not np.array_equal(reference_map(7), reference_map(7, seed=1))
    assert map_row(7) == map_row(7)
    ids = [map_row(number)["patch_id"] for number in range(0, 40_000, 13)]
    assert all(before < after for before, after in pairwise(ids))


def test_maps_are_of_many_kinds():
    many = [facts_of(map_row(number), reference_map(number), CLASSES) for number in range(200) if number % EDGE_EVERY != EDGE_EVERY - 1]
    assert {len(each.classes) for each in many} >= set(range(1, 9))
    assert {region.name for each in many for region in each.regions} == set(CLASSES.names)
    assert {region.position for each in many for region in each.regions} >= {"centre", "north", "south-west"}
    assert 0.1 < np.mean([each.unlabeled_fraction > 0 for each in many]) < 0.5
    assert any(len(one.regions) < sum(each.regions for each in one.classes) for one in many)
