"""Quality: shares per patch, and one reason for each patch that is dropped."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from rsdata.grid import PatchGrid, Tile
from rsdata.patches import season_of
from rsdata.quality import judge, missing_fraction, sky_fractions
from rsdata.recipe import Quality

TILE = Tile.from_name("33UUP")
TWO_BY_TWO = PatchGrid(TILE, TILE.ul_x_m, TILE.ul_y_m, 2400, 2400)
FINE = {"nodata_fraction": 0.0, "unlabeled_fraction": 0.0, "cloud_fraction": 0.0, "shadow_fraction": 0.0, "snow_fraction": 0.0}


def judged(changes: dict[str, float], *, s1_missing: float | None = 0.0, require_s1: bool = True, refused: bool = False) -> pd.Series:
    return judge(
        pd.DataFrame([FINE | changes]),
        thresholds=Quality(max_cloud_or_shadow_fraction=0.3, max_snow_fraction=0.5),
        max_unlabeled_fraction=0.25,
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
