"""Quality: shares per patch, and one reason for each patch that is dropped."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from rsdata.grid import PatchGrid, Tile
from rsdata.patches import season_of
from rsdata.quality import class_shares, fingerprints, judge, mean_per_patch, missing_fraction, saturated_pixels, sky_fractions
from rsdata.recipe import Quality
from rsdata.records import DROP_REASONS

TILE = Tile.from_name("33UUP")
TWO_BY_TWO = PatchGrid(TILE, TILE.ul_x_m, TILE.ul_y_m, 2400, 2400)
FINE = {
    "nodata_fraction": 0.0, "defective_fraction": 0.0, "saturated_fraction": 0.0, "unlabeled_fraction": 0.0, "cloud_fraction": 0.0,
    "shadow_fraction": 0.0, "snow_fraction": 0.0,
}  # fmt: skip
LIMITS = {
    "max_cloud_or_shadow_fraction": 0.3, "max_snow_fraction": 0.5, "max_defective_fraction": 0.1, "max_saturated_fraction": 0.2,
    "max_coregistration_shift_px": 1.5,
}  # fmt: skip


def judged(
    changes: dict[str, float | None],
    *,
    s1_missing: float | None = 0.0,
    require_s1: bool = True,
    refused: bool = False,
    shift_px: float | None = None,
    limits: dict[str, float] = LIMITS,
) -> pd.Series:
    return judge(
        pd.DataFrame([FINE | changes]),
        thresholds=Quality(**limits),
        max_unlabeled_fraction=0.25,
        shift_px=None if shift_px is None else np.array([shift_px]),
        s1_missing_fraction=None if s1_missing is None else np.array([s1_missing]),
        require_s1=require_s1,
        product_refused=refused,
    ).iloc[0]


def test_missing_pixels_are_counted_in_the_patch_they_lie_in():
    band = np.ones((120, 120), np.uint16)  # 20 m, so 60 pixels to a patch
    band[0, 61] = 0
    assert missing_fraction(band, 0, TWO_BY_TWO, 20).tolist() == [0, 1 / 3600, 0, 0]
    backscatter = np.full((240, 240), -10, np.float32)
    backscatter[120:, 120:] = np.nan
    assert missing_fraction(backscatter, float("nan"), TWO_BY_TWO, 10).tolist() == [0, 0, 0, 1]


def test_cloud_comes_from_classification_or_probability_and_snow_gives_way_to_it():
    scl = np.full((120, 120), 4, np.uint8)
    cloud = np.zeros_like(scl)
    snow = np.zeros_like(scl)
    scl[:60, :30] = 9  # half of the first patch
    scl[:30, 60:] = 3  # half of the second is shadow
    cloud[60:, :15] = 50  # a quarter of the third by probability
    scl[60:, 60:] = 11
    snow[60:, 60:] = 90
    cloud[60:75, 60:] = 80  # a quarter of the fourth is cloud over snow
    shares = sky_fractions(scl, cloud, snow, TWO_BY_TWO, Quality())
    assert shares["cloud_fraction"].tolist() == [0.5, 0, 0.25, 0.25]
    assert shares["shadow_fraction"].tolist() == [0, 0.5, 0, 0]
    assert shares["snow_fraction"].tolist() == [0, 0, 0, 0.75]


def test_class_shares_of_a_patch_sum_to_one():
    scl = np.full((120, 120), 4, np.uint8)
    scl[:30, :60] = 1  # half of the first patch
    scl[60:75, 60:] = 6  # a quarter of the last
    shares = class_shares(scl, TWO_BY_TWO)
    assert set(shares) == set(range(12))
    assert shares[1].tolist() == [0.5, 0, 0, 0]
    assert shares[6].tolist() == [0, 0, 0, 0.25]
    assert sum(shares.values()).tolist() == [1, 1, 1, 1]


def test_a_mean_probability_is_that_of_the_patch():
    probability = np.zeros((120, 120), np.uint8)
    probability[:60, :15] = 80
    assert mean_per_patch(probability, TWO_BY_TWO, 20).tolist() == [20, 0, 0, 0]


def test_a_pixel_is_saturated_by_its_value_or_by_its_flag():
    band = np.full((4, 4), 500, np.uint16)
    band[0, 0] = 65535
    flagged = np.zeros((4, 4), bool)
    flagged[0, :2] = True
    assert saturated_pixels(band, 65535, None).sum() == 1
    assert np.argwhere(saturated_pixels(band, 65535, flagged)).tolist() == [[0, 0], [0, 1]]


def test_equal_pixels_have_equal_marks_and_one_count_makes_another():
    draw = np.random.default_rng(0)
    fine, coarse = draw.integers(1, 5000, (240, 240), np.uint16), draw.integers(1, 5000, (120, 120), np.uint16)
    fine[120:, :120], coarse[60:, :60] = fine[:120, :120], coarse[:60, :60]  # the third patch repeats the first
    bands = [(fine, 10), (coarse, 20)]
    marks = fingerprints(bands, TWO_BY_TWO)
    assert marks[0] == marks[2] and len(set(marks)) == 3
    assert fingerprints(bands, TWO_BY_TWO, threads=2) == marks
    coarse[119, 0] += 1  # one pixel of one band of the third
    changed = fingerprints(bands, TWO_BY_TWO)
    assert [a == b for a, b in zip(marks, changed, strict=True)] == [True, True, False, True]


def test_a_patch_of_one_value_per_band_has_no_mark_and_two_values_are_enough_for_one():
    fine, coarse = np.zeros((240, 240), np.uint16), np.full((120, 120), 7, np.uint16)
    coarse[0, 0] = 8
    assert [mark is None for mark in fingerprints([(fine, 10), (coarse, 20)], TWO_BY_TWO)] == [False, True, True, True]


@pytest.mark.parametrize("share, kept", [(0.2499, True), (0.25, False)])
def test_a_patch_is_kept_below_a_quarter_unlabelled(share, kept):
    verdict = judged({"unlabeled_fraction": share})
    assert verdict["kept"] == kept
    assert verdict["drop_reason"] == (None if kept else "unlabeled")


def test_the_first_reason_that_applies_is_recorded():
    assert judged({"nodata_fraction": 1e-6, "unlabeled_fraction": 1.0})["drop_reason"] == "nodata"
    assert judged({"nodata_fraction": 1e-6}, refused=True)["drop_reason"] == "product_quality"
    assert judged({"cloud_fraction": 0.2, "shadow_fraction": 0.11})["drop_reason"] == "cloud_or_shadow"
    assert judged({"snow_fraction": 0.51})["drop_reason"] == "snow"
    assert judged({}, s1_missing=None)["drop_reason"] == "no_s1"
    assert judged({}, s1_missing=0.01)["drop_reason"] == "s1_nodata"
    assert judged({}, s1_missing=None, require_s1=False)["drop_reason"] is None
    assert judged({"defective_fraction": 0.11, "saturated_fraction": 0.21})["drop_reason"] == "defective"
    assert judged({"saturated_fraction": 0.21, "unlabeled_fraction": 1.0})["drop_reason"] == "saturated"
    assert judged({"nodata_fraction": 0.1, "defective_fraction": 0.11})["drop_reason"] == "nodata"
    assert judged({}, shift_px=1.6)["drop_reason"] == "coregistration"
    assert judged({"snow_fraction": 0.51}, shift_px=1.6)["drop_reason"] == "snow"


def test_a_share_at_its_limit_is_kept_and_what_is_not_known_drops_nothing():
    assert judged({"defective_fraction": 0.1, "saturated_fraction": 0.2}, shift_px=1.5)["kept"]
    assert judged({"defective_fraction": None}, shift_px=float("nan"))["kept"]


def test_without_limits_in_the_recipe_broken_pixels_and_shifts_drop_nothing():
    assert judged({"defective_fraction": 1.0, "saturated_fraction": 1.0}, shift_px=99.0, limits={})["kept"]


def test_reasons_that_need_the_whole_table_come_after_those_of_one_scene():
    assert DROP_REASONS.index("duplicate") > DROP_REASONS.index("coregistration") > DROP_REASONS.index("s1_nodata")


def test_marks_follow_their_threshold():
    assert not judged({"cloud_fraction": 0.01})["contains_cloud_or_shadow"]
    assert judged({"shadow_fraction": 0.011})["contains_cloud_or_shadow"]
    assert judged({"snow_fraction": 0.02})["contains_seasonal_snow"]


@pytest.mark.parametrize(
    "day, season",
    [("2023-02-28", "winter"), ("2023-03-01", "spring"), ("2023-05-31", "spring"), ("2023-06-01", "summer"), ("2023-08-31", "summer"),
     ("2023-09-01", "autumn"), ("2023-11-30", "autumn"), ("2023-12-01", "winter")],
)  # fmt: skip
def test_the_season_is_that_of_the_calendar_month(day, season):
    assert season_of(datetime.fromisoformat(day).replace(tzinfo=UTC)) == season
