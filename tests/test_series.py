"""Which dates enter a series, which pixels are valid, and composites, against xarray and counting by hand."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from pydantic import ValidationError

from rsdata import series
from rsdata.recipe import Series
from rsdata.sensors.sentinel2 import SCL_CLASSES
from rsdata.series import GROUPS, Observed, Seen, Slot
from rsdata.series.composites import SCL_ORDER, best_dates, median_pixels, taken_from
from rsdata.series.masks import clouded_pixels, scl_at, valid_pixels
from rsdata.series.periods import by_period, period_of


def day(text: str, hour: int = 10) -> datetime:
    return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + timedelta(hours=hour)


def seen(text: str, name: str = "", **shares: float) -> Seen:
    return Seen(f"patch {text}{name}", f"product {text}{name}", day(text), **shares)


def taken(choice: series.Choice, sensor: str = "s2") -> list[str]:
    """The days of each frame, joined by a plus where it has several."""
    return ["+".join(f"{each.time:%m-%d}" for each in slot.seen) for slot in choice.slots[sensor]]


ONLY_S2 = {"sensors": ["s2"], "min_frames": 1}


# --- which dates ------------------------------------------------------------------------------------------


def test_dates_come_in_the_order_of_time_and_each_limit_includes_its_own_value():
    frames = [
        seen("2023-07-01", cloud=0.3),
        seen("2023-05-01", snow=0.2),
        seen("2023-06-01", nodata=0.1),
        seen("2023-06-02", cloud=0.31),
        seen("2023-06-03", snow=0.21),
        seen("2023-06-04", nodata=0.11),
    ]
    part = Series(**ONLY_S2, filters={"max_cloud": 0.3, "max_snow": 0.2, "max_nodata": 0.1})
    assert taken(series.choose_frames({"s2": frames}, part)) == ["05-01", "06-01", "07-01"]


def test_of_two_processings_of_one_acquisition_the_later_name_is_taken():
    frames = [Seen("a", "product N0509", day("2023-05-01")), Seen("b", "product N0400", day("2023-05-01")), seen("2023-06-01")]
    (first, _) = series.choose_frames({"s2": frames}, Series(**ONLY_S2)).slots["s2"]
    assert first.seen[0].product == "product N0509"


def test_an_acquisition_of_sentinel1_that_two_dates_share_is_one_frame_and_clouds_do_not_hide_it():
    radar = [Seen("patch a", "S1 x", day("2023-05-01", 16)), Seen("patch b", "S1 x", day("2023-05-01", 16)), seen("2023-05-09")]
    optical = [seen("2023-05-01", cloud=0.9), seen("2023-05-09"), seen("2023-05-19")]
    choice = series.choose_frames({"s2": optical, "s1": radar}, Series())
    assert (taken(choice), taken(choice, "s1")) == (["05-09", "05-19"], ["05-01", "05-09"])


def test_the_clearest_dates_are_kept_and_of_equally_clear_ones_the_earlier():
    clouds = {"2023-05-01": 0.2, "2023-05-02": 0.1, "2023-05-03": 0.0, "2023-05-04": 0.1, "2023-05-05": 0.1}
    frames = [seen(text, cloud=cloud) for text, cloud in clouds.items()]
    part = Series(sensors=["s2"], max_frames=3)
    assert taken(series.choose_frames({"s2": frames}, part)) == ["05-02", "05-03", "05-04"]


def test_of_sentinel1_dates_are_kept_that_are_spread_evenly():
    frames = [seen(f"2023-05-{index + 1:02d}") for index in range(9)]
    choice = series.choose_frames({"s1": frames}, Series(sensors=["s1"], max_frames=4))
    assert taken(choice, "s1") == ["05-01", "05-04", "05-06", "05-09"]  # every 8/3 days: 1, 3.7, 6.3, 9


@pytest.mark.parametrize(
    ("frames", "options", "reason"),
    [
        (["2023-05-01"], {}, "few_frames"),
        (["2023-05-01", "2023-05-09"], {"composite": "median"}, "few_frames"),  # one month
        ([], {"composite": "median", "min_frames": 1}, "few_frames"),
        (["2023-05-01"], {"pair": {}}, "no_pair"),
        (["2023-05-01", "2023-06-01"], {"pair": {"before": "2023-05-02", "after": "2023-05-04"}}, "no_pair"),  # both are nearest to 1 May
        (["2023-05-01", "2023-08-01"], {"pair": {"before": "2023-05-01", "after": "2023-06-20"}}, "no_pair"),  # 42 days off
    ],
)
def test_a_place_without_enough_dates_is_left_out_with_the_reason(frames, options, reason):
    choice = series.choose_frames({"s2": [seen(each) for each in frames]}, Series(sensors=["s2"], **options))
    assert (choice.left_out, choice.slots) == (reason, {})


def test_a_place_needs_enough_dates_of_every_sensor_asked_for():
    optical = [seen("2023-05-01"), seen("2023-05-09")]
    assert series.choose_frames({"s2": optical, "s1": optical[:1]}, Series()).left_out == "few_frames"
    assert series.choose_frames({"s2": optical, "s1": optical[:1]}, Series(sensors=["s2"])).left_out is None


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ({}, ["05-01", "07-01"]),
        ({"before": "2023-05-13"}, ["05-11", "07-01"]),
        ({"before": "2023-05-06", "after": "2023-06-20"}, ["05-01", "06-30"]),  # 5 May 22:00 to 1 May as far as to 11 May: the earlier
        ({"before": "2023-05-13", "after": "2023-05-14"}, None),  # both would be 11 May
    ],
)
def test_a_pair_is_the_usable_dates_nearest_to_those_that_are_named(pair, expected):
    frames = [
        seen("2023-05-01"),
        Seen("p", "p", day("2023-05-11", 14)),
        seen("2023-05-12", cloud=0.9),
        seen("2023-06-30"),
        seen("2023-07-01"),
    ]
    choice = series.choose_frames({"s2": frames}, Series(sensors=["s2"], pair=pair))
    assert (taken(choice) if expected else choice.left_out) == (expected or "no_pair")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pair": {"before": "2023-06-01", "after": "2023-05-01"}}, "must lie before"),
        ({"pair": {}, "composite": "median"}, "leave `composite` and `max_frames` out"),
        ({"min_frames": 5, "max_frames": 4}, "smaller than"),
        ({"sensors": ["s2", "s2"]}, "twice"),
        ({"period": "0 days"}, "period"),
        ({"period": "fortnight"}, "say month, season, or a number of days"),
    ],
)
def test_a_series_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        Series(**options)


# --- periods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "length", "start", "end"),
    [
        ("2023-05-31", "month", "2023-05-01", "2023-06-01"),
        ("2023-12-31", "month", "2023-12-01", "2024-01-01"),
        ("2023-05-31", "season", "2023-03-01", "2023-06-01"),
        ("2023-06-01", "season", "2023-06-01", "2023-09-01"),
        ("2023-12-05", "season", "2023-12-01", "2024-03-01"),
        ("2024-02-29", "season", "2023-12-01", "2024-03-01"),
        ("2023-01-16", "16 days", "2023-01-01", "2023-01-17"),
        ("2023-01-17", "16 days", "2023-01-17", "2023-02-02"),
        ("2023-12-31", "16 days", "2023-12-19", "2024-01-01"),  # day 353 of the year on, cut short
    ],
)
def test_a_time_lies_in_its_period(time, length, start, end):
    period = period_of(day(time), length)
    assert (period.start, period.end) == (day(start, 0), day(end, 0))


def test_the_first_instant_of_a_period_belongs_to_it_and_its_end_does_not():
    assert list(by_period([day("2023-05-01", 0), day("2023-06-01", 0), day("2023-05-31", 23)], "month").values()) == [[0, 2], [1]]


# --- masks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gsd_m", [10, 60])
def test_the_classification_is_looked_up_by_the_nearest_centre(gsd_m):
    scl = np.random.default_rng(0).integers(0, 12, (60, 60), np.uint8)
    centres = {name: np.arange(60) * 20 + 10.0 for name in "yx"}
    wanted = np.arange(1200 // gsd_m) * gsd_m + gsd_m / 2
    nearest = xr.DataArray(scl, centres, dims=("y", "x")).sel(y=wanted, x=wanted, method="nearest")
    assert np.array_equal(scl_at(scl, gsd_m), nearest)
    assert np.array_equal(scl_at(scl, 20), scl)


def test_a_pixel_is_valid_where_no_band_lacks_data():
    pixels = np.full((2, 3, 2, 2), 5, np.uint16)
    pixels[1, 2, 0, 1] = 0
    assert np.argwhere(~valid_pixels(pixels, 0)).tolist() == [[1, 0, 1]]
    decibel = np.full((1, 2, 2, 2), -12, np.float32)
    decibel[0, 0, 1, 1] = np.nan
    assert np.argwhere(~valid_pixels(decibel, float("nan"))).tolist() == [[0, 1, 1]]


def test_cloud_cirrus_and_cloud_shadow_are_clouded_and_nothing_else():
    classes = np.array(sorted(SCL_CLASSES), np.uint8)
    names = {SCL_CLASSES[index] for index in classes[clouded_pixels(classes)]}
    assert names == {"CLOUD_SHADOW", "CLOUD_MEDIUM_PROBA", "CLOUD_HIGH_PROBA", "THIN_CIRRUS"}


def test_counts_of_an_older_baseline_get_the_offset_of_the_newer():
    """Reflectance (counts + offset) / 10000 is the same before and after; no-data and saturated stay."""
    counts = np.array([0, 1, 4000, 64_535, 65_000, 65_535], np.uint16)
    assert series.shifted_counts(counts, 1000).tolist() == [0, 1001, 5000, 65_535, 65_535, 65_535]
    assert series.shifted_counts(counts, 0) is counts


# --- composites -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dates", [1, 2, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_the_median_is_that_of_xarray_over_valid_pixels(dates, dtype):
    rng = np.random.default_rng(dates)
    pixels = rng.integers(0, 65_536, (dates, 3, 20, 20)).astype(dtype)
    valid = rng.random((dates, 20, 20)) < 0.6
    valid[:, 3, 4] = False
    if dtype == np.float32:
        pixels[~np.broadcast_to(valid[:, None], pixels.shape)] = np.nan  # what is not valid may hold anything
    nodata = 0 if dtype == np.uint16 else np.nan
    median = (
        xr.DataArray(pixels.astype(np.float64), dims=("time", "band", "y", "x"))
        .where(xr.DataArray(valid, dims=("time", "y", "x")))
        .median("time", skipna=True)
    )
    expected = (median.round() if dtype == np.uint16 else median).fillna(nodata).to_numpy().astype(dtype)
    made = median_pixels(pixels, valid, nodata)
    assert made.dtype == dtype
    assert np.array_equal(made, expected, equal_nan=True)
    assert (made[:, 3, 4] == 0).all() if dtype == np.uint16 else np.isnan(made[:, 3, 4]).all()


def test_halves_of_a_median_are_rounded_to_even():
    pixels = np.array([[2, 3], [3, 4]], np.uint16).reshape(2, 1, 1, 2)  # means 2.5 and 3.5
    assert median_pixels(pixels, np.ones((2, 1, 2), bool), 0).ravel().tolist() == [2, 4]


def test_the_documents_state_the_order_of_classes_and_every_default_of_the_recipe():
    text = (Path(__file__).parents[1] / "docs" / "series.md").read_text()
    rows = re.findall(r"^\| \d \| (.*) \|$", text, re.MULTILINE)
    assert [tuple(int(each) for each in re.findall(r"\((\d+)\)", row)) for row in rows] == list(SCL_ORDER)
    said = yaml.safe_load(text[text.index("series:\n") : text.index("```\n\n")])
    assert Series.model_validate(said["series"]) == Series()
    assert set(said["series"]) == set(Series.model_fields)


def test_every_class_has_one_place_in_the_order_of_wishes():
    assert sorted(each for classes in SCL_ORDER for each in classes) == sorted(SCL_CLASSES)


def test_the_best_date_is_found_as_a_search_pixel_by_pixel_finds_it():
    rng = np.random.default_rng(5)
    scl = rng.choice(np.array([3, 4, 5, 7, 8, 9, 10, 11], np.uint8), (6, 15, 15))
    valid = rng.random((6, 15, 15)) < 0.7
    valid[:, 2, 2] = False
    apart = np.array([9.0, 2, 2, 4, 0, 30])
    pixels = rng.integers(1, 60_000, (6, 2, 15, 15)).astype(np.uint16)
    place = {each: rank for rank, classes in enumerate(SCL_ORDER) for each in classes}
    dates = best_dates(valid, scl, apart)
    made = taken_from(pixels, dates)
    for y, x in np.ndindex(15, 15):
        ranked = sorted((place[scl[t, y, x]], apart[t], t) for t in range(6) if valid[t, y, x])
        if ranked:
            assert dates[y, x] == ranked[0][2]
            assert made[:, y, x].tolist() == pixels[ranked[0][2], :, y, x].tolist()
    assert not taken_from(valid, dates)[2, 2]


# --- cubes ------------------------------------------------------------------------------------------------


def observed(scl: np.ndarray, times: list[str], composite: str, seed: int = 0) -> tuple[Observed, Series]:
    """One place of 120 m under a given classification; the first two rows of 20 m of date 0 hold no data."""
    rng = np.random.default_rng(seed)
    dates = [Seen(f"p{index}", f"S2 {index}", day(text), cloud=0.25, snow=0.125) for index, text in enumerate(times)]
    pixels = {
        name: rng.integers(1000, 5000, (len(dates), len(group.bands), 120 // group.gsd_m, 120 // group.gsd_m)).astype(np.uint16)
        for name, group in GROUPS.items()
        if group.sensor == "s2"
    }
    for name in pixels:
        pixels[name][0, :, : 40 // GROUPS[name].gsd_m] = 0
    radar = [Seen(f"p{index}", f"S1 {index}", day(text, 16)) for index, text in enumerate(times)]
    pixels["s1"] = rng.normal(-12, 3, (len(dates), 2, 12, 12)).astype(np.float32)
    if composite == "none":
        slots = {"s2": [Slot((each,)) for each in dates], "s1": [Slot((each,)) for each in radar]}
    else:
        month = period_of(dates[0].time, "month")
        slots = {"s2": [Slot(tuple(dates), month)], "s1": [Slot(tuple(radar), month)]}
    return Observed(slots, pixels, scl), Series(composite=composite)


def clear_sky(dates: int) -> np.ndarray:
    return np.full((dates, 6, 6), 4, np.uint8)


def test_single_dates_stay_as_they_are_and_clouds_count_only_if_the_recipe_says_so():
    scl = clear_sky(2)
    scl[1, 5, 0] = 9
    place, part = observed(scl, ["2023-05-01", "2023-05-20"], "none")
    assert all(np.array_equal(made, place.pixels[name]) for name, made in series.made_frames(place, part).items())
    valid = series.valid_frames(place, part)
    assert (valid["s2_20m"][0].sum(), valid["s2_20m"][1].all()) == (24, True)  # 2 of 6 rows lack data
    masked = series.valid_frames(place, part.model_copy(update={"mask_clouds": True}))
    assert np.argwhere(~masked["s2_20m"][1]).tolist() == [[5, 0]]
    assert np.argwhere(~masked["s2_10m"][1]).tolist() == [[10, 0], [10, 1], [11, 0], [11, 1]]
    assert masked["s2_60m"][1].all()  # the middle of the nine pixels is clear
    assert masked["s1"].all()


def test_rows_of_single_dates_repeat_the_patch_table_and_count_what_is_not_valid():
    place, part = observed(clear_sky(2), ["2023-05-01", "2023-05-20"], "none")
    first, second, *radar = series.frame_rows("33UUP_26_57", place, part)
    assert first == {
        "place_id": "33UUP_26_57", "sensor": "s2", "frame": 0, "time": day("2023-05-01"), "products": ["S2 0"],
        "nodata_fraction": pytest.approx(1 / 3), "cloud_fraction": 0.25, "snow_fraction": 0.125,
    }  # fmt: skip
    assert (second["frame"], second["nodata_fraction"]) == (1, 0)
    assert [(row["sensor"], row["frame"], row["time"], row["cloud_fraction"]) for row in radar] == [
        ("s1", 0, day("2023-05-01", 16), None),
        ("s1", 1, day("2023-05-20", 16), None),
    ]


def test_a_median_is_over_clear_dates_at_every_resolution_and_sentinel1_gets_one_too():
    scl = clear_sky(3)
    scl[1, :3], scl[2, 4:], scl[:, 3, 3] = 8, 3, 9  # cloud, shadow, and one pixel that is never clear
    scl[2, 0, 0] = scl[2, 0, 1] = 11
    place, part = observed(scl, ["2023-05-02", "2023-05-12", "2023-05-25"], "median")
    made, valid = series.made_frames(place, part), series.valid_frames(place, part)
    for name, group in GROUPS.items():
        values = xr.DataArray(place.pixels[name].astype(np.float64), dims=("time", "band", "y", "x"))
        if group.sensor == "s2":
            clouded = np.isin(scl, [3, 8, 9, 10])
            side = 120 // group.gsd_m
            at = np.floor((np.arange(side) + 0.5) * group.gsd_m / 20).astype(int)  # the 20 m pixel under each centre
            values = values.where((values > 0).all("band")).where(xr.DataArray(~clouded[:, at][:, :, at], dims=("time", "y", "x")))
            assert np.array_equal(valid[name][0], values.notnull().all("band").any("time"))
            expected = values.median("time").round().fillna(0)
        else:
            assert valid[name].all()
            expected = values.median("time").astype(np.float32)
        assert np.array_equal(made[name][0], expected)
        assert made[name].dtype == place.pixels[name].dtype
    optical, radar = series.frame_rows("place", place, part)
    assert optical["products"] == ["S2 0", "S2 1", "S2 2"]
    assert optical["time"] == day("2023-05-13")  # mean of the 2nd, 12th and 25th at 10:00
    # Never clear is one of 36 pixels of 20 m. Snow: of the two such pixels date 0 lacks data and date 1 is clouded.
    assert (optical["cloud_fraction"], optical["snow_fraction"]) == (0.0, pytest.approx(2 / 36))
    assert optical["nodata_fraction"] == pytest.approx(1 / 36)
    assert (radar["time"], radar["cloud_fraction"]) == (day("2023-05-13", 16), None)


def test_a_best_pixel_takes_all_bands_of_the_clearest_date_nearest_the_middle():
    scl = clear_sky(3)
    scl[1, 0], scl[2, 0] = 9, 10  # in the first row date 0 lacks data, 1 is cloud, 2 is cirrus
    scl[:, 5, 5] = 9
    place, part = observed(scl, ["2023-05-02", "2023-05-12", "2023-05-25"], "best")
    made, valid = series.made_frames(place, part)["s2_20m"][0], series.valid_frames(place, part)["s2_20m"][0]
    read = place.pixels["s2_20m"]
    assert np.array_equal(made[:, 0], read[2][:, 0])
    assert np.array_equal(made[:, 1:], read[1][:, 1:])  # all are clear, or all clouded; the middle of May is nearest to the 12th
    assert valid.all()
    masked = series.valid_frames(place, part.model_copy(update={"mask_clouds": True}))["s2_20m"][0]
    assert np.argwhere(~masked).tolist() == [[0, x] for x in range(6)] + [[5, 5]]
    optical, _ = series.frame_rows("place", place, part)
    assert (optical["cloud_fraction"], optical["nodata_fraction"]) == (pytest.approx(7 / 36), 0)
    radar = xr.DataArray(place.pixels["s1"], dims=("time", "band", "y", "x")).median("time")
    assert np.array_equal(series.made_frames(place, part)["s1"][0], radar)


def test_a_best_pixel_without_data_on_any_date_holds_no_data():
    place, part = observed(clear_sky(1), ["2023-05-02"], "best")
    place.pixels["s2_10m"][0, 1, 7, 7] = 0  # one band of four
    made, valid = series.made_frames(place, part)["s2_10m"][0], series.valid_frames(place, part)["s2_10m"][0]
    assert (made[:, 7, 7].tolist(), valid[7, 7]) == ([0, 0, 0, 0], False)
