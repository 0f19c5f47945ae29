"""Leaks, duplicates and contradictions planted one by one, the balance, the likeness of labels, and another table."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely

from rsdata.errors import SplitError
from rsdata.grid import Tile, footprints
from rsdata.records import SplitAudit, SplitInfo
from rsdata.splits import positions
from rsdata.splits.audit import examine
from rsdata.splits.audit_conditions import conditions_met, parse_conditions


def patch(tile: str, col: int, row: int, date: str = "20170613T101031") -> str:
    return f"S2A_MSIL2A_{date}_N9999_R022_T{tile}_{col:02d}_{row:02d}"


def sound() -> pd.DataFrame:
    """Three splits on one tile, far from each other, nothing wrong with them."""
    ids = {
        "train": [patch("33UUP", col, row) for col in range(10) for row in range(10)],
        "validation": [patch("33UUP", col, row) for col in range(30, 35) for row in range(10)],
        "test": [patch("33UUP", col, row) for col in range(50, 55) for row in range(10)],
    }
    rows = [(patch_id, split) for split, names in ids.items() for patch_id in names]
    return pd.DataFrame(rows, columns=["patch_id", "split"])


def with_footprints(table: pd.DataFrame) -> gpd.GeoDataFrame:
    where = positions(table["patch_id"])
    shapes = np.empty(len(table), object)
    for epsg, rows in where.groupby("epsg").indices.items():
        shapes[rows] = footprints(where["ul_x_m"].to_numpy()[rows], where["ul_y_m"].to_numpy()[rows], int(epsg))
    stated = {name: where[name] for name in ("epsg", "ul_x_m", "ul_y_m", "col", "row")}
    return gpd.GeoDataFrame(table.assign(**stated), geometry=shapes, crs=4326)


def look(table: pd.DataFrame, **options: object) -> SplitAudit:
    return examine(table, **options)[0]  # type: ignore[arg-type]


def findings(table: pd.DataFrame) -> dict[str, list]:
    found: dict[str, list] = {}
    for each in look(table).findings or []:
        found.setdefault(each.kind, []).append(each)
    return found


def plus(table: pd.DataFrame, *rows: tuple[str, str]) -> pd.DataFrame:
    return pd.concat([table, pd.DataFrame(rows, columns=["patch_id", "split"])], ignore_index=True)


def cell_at(tile: Tile, lon: float, lat: float) -> tuple[int, int]:
    x_m, y_m = pyproj.Transformer.from_crs(4326, tile.epsg, always_xy=True).transform(lon, lat)
    return int((x_m - tile.ul_x_m) // 1200), int((tile.ul_y_m - y_m) // 1200)


# --- planted leaks ----------------------------------------------------------------------------------------


def test_a_sound_table_has_no_findings():
    assert findings(sound()) == {}
    assert findings(with_footprints(sound())) == {}


def test_the_same_place_on_two_dates_in_two_splits_is_listed():
    again = patch("33UUP", 3, 4, "20170926T101031")
    found = findings(plus(sound(), (again, "test")))
    assert list(found) == ["shared_place"]
    (one,) = found["shared_place"]
    assert (one.splits, one.count, one.examples[0].patch_ids) == (["train", "test"], 1, [patch("33UUP", 3, 4), again])
    assert one.examples[0].splits == ["train", "test"]


def test_overlapping_patches_of_neighbouring_tiles_in_two_zones_are_listed():
    one = patch("33UTP", 70, 40)
    where = positions(pd.Series([one])).iloc[0]
    lonlat = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(where["ul_x_m"] + 600, where["ul_y_m"] - 600)
    other = patch("32UQU", *cell_at(Tile.from_name("32UQU"), *lonlat))
    found = findings(plus(sound(), (one, "train"), (other, "test")))
    assert list(found) == ["overlap"]
    assert (found["overlap"][0].splits, found["overlap"][0].examples[0].patch_ids) == (["train", "test"], [one, other])
    example = found["overlap"][0].examples[0]
    assert (example.lon, example.lat) == pytest.approx(lonlat, abs=1e-6)


def test_a_footprint_with_col_and_row_swapped_is_listed():
    table = with_footprints(sound())
    row = table.index[table["patch_id"] == patch("33UUP", 32, 7)][0]
    swapped = positions(pd.Series([patch("33UUP", 7, 32)])).iloc[0]
    table.loc[row, "geometry"] = footprints(np.array([swapped["ul_x_m"]]), np.array([swapped["ul_y_m"]]), 32633)[0]
    found = findings(table)
    assert list(found) == ["flipped"]
    assert (found["flipped"][0].count, found["flipped"][0].examples[0].patch_ids) == (1, [patch("33UUP", 32, 7)])
    assert "col and row are swapped" in found["flipped"][0].examples[0].note


@pytest.mark.parametrize("with_ids", [True, False])
def test_a_footprint_with_latitude_and_longitude_swapped_is_listed(with_ids):
    table = with_footprints(sound())
    table.loc[17, "geometry"] = shapely.transform(table.geometry[17], lambda xy: xy[:, ::-1])
    found = findings(table if with_ids else table[["split", "geometry"]])
    assert list(found) == ["flipped"]
    assert found["flipped"][0].examples[0].patch_ids == [table["patch_id"][17] if with_ids else "row 17"]
    assert "latitude and longitude are swapped" in found["flipped"][0].examples[0].note


@pytest.mark.parametrize(
    ("columns", "note"), [(("col", "row"), "the id says col 32 and row 7"), (("ul_x_m", "ul_y_m"), "`ul_x_m` and `ul_y_m` are swapped")]
)
def test_columns_that_are_swapped_are_listed(columns, note):
    table = with_footprints(sound())
    row = table.index[table["patch_id"] == patch("33UUP", 32, 7)][0]
    table.loc[row, list(columns)] = table.loc[row, list(reversed(columns))].to_numpy()
    found = findings(table)
    assert list(found) == ["flipped"]
    assert note in found["flipped"][0].examples[0].note


def test_a_duplicate_row_is_listed():
    table = sound()
    found = findings(pd.concat([table, table.iloc[[5]]], ignore_index=True))
    assert list(found) == ["duplicate"]
    assert (found["duplicate"][0].count, found["duplicate"][0].examples[0].patch_ids) == (1, [table["patch_id"][5]] * 2)


def test_one_acquisition_under_two_names_is_a_duplicate():
    again = patch("33UUP", 3, 4).replace("N9999", "N0500")
    found = findings(plus(sound(), (again, "train")))
    assert list(found) == ["duplicate"]
    assert found["duplicate"][0].examples[0].patch_ids == sorted([again, patch("33UUP", 3, 4)])


def test_an_id_that_does_not_match_its_footprint_is_listed():
    table = with_footprints(sound())
    table.loc[3, "patch_id"] = patch("33UUP", 80, 80)
    found = findings(table)
    assert list(found) == ["mismatch"]
    assert (found["mismatch"][0].count, found["mismatch"][0].examples[0].patch_ids) == (1, [patch("33UUP", 80, 80)])


def test_a_footprint_of_another_size_is_listed():
    table = with_footprints(sound())
    table.loc[3, "geometry"] = shapely.affinity.scale(table.geometry[3], 2, 2)
    assert "2,399 m wide, the patch 1,200 m" in findings(table)["mismatch"][0].examples[0].note


def test_lists_of_examples_are_bounded_and_sorted_and_counts_are_not():
    train = [patch("33UUP", col, row) for col in range(10) for row in range(10)]
    test = [patch("33UUP", col, row, "20170926T101031") for col in range(10) for row in range(10)]
    table = pd.DataFrame({"patch_id": train + test, "split": ["train"] * 100 + ["test"] * 100})
    (one,) = findings(table)["shared_place"]
    assert (one.count, len(one.examples)) == (100, 20)
    assert look(table.sample(frac=1, random_state=1)) == look(table)


# --- balance and likeness ---------------------------------------------------------------------------------


def test_countries_and_seasons_are_compared_as_by_hand():
    dates = ["20170531T101031", "20170601T101031", "20171130T101031", "20171201T101031"]
    ids = [patch("33UUP", index, 0, date) for index, date in enumerate(dates * 2)]
    table = pd.DataFrame({"patch_id": ids, "split": ["train"] * 4 + ["test"] * 4, "country": ["Austria"] * 3 + ["Serbia"] * 5})
    balance = {each.of: each for each in look(table).balance}
    assert balance["season"].shares["train"] == {"winter": 0.25, "spring": 0.25, "summer": 0.25, "autumn": 0.25}
    assert (balance["season"].largest_ratio, balance["season"].total_variation) == (1.0, 0.0)
    assert balance["country"].shares == {"train": {"Austria": 0.75, "Serbia": 0.25}, "test": {"Austria": 0.0, "Serbia": 1.0}}
    assert (balance["country"].largest_ratio, balance["country"].largest_ratio_name) == (None, "Austria")
    assert (balance["country"].total_variation, balance["country"].total_variation_pair) == (0.75, ["train", "test"])


def test_total_variation_of_classes_is_over_all_labels():
    table = pd.DataFrame({"patch_id": [patch("33UUP", index, 0) for index in range(3)], "split": ["train", "train", "test"]})
    table["labels"] = [["A", "B"], ["A"], ["B"]]
    (balance,) = (each for each in look(table).balance if each.of == "class")
    assert balance.total_variation == pytest.approx((abs(2 / 3 - 0) + abs(1 / 3 - 1)) / 2)


def grid_table(side: int, label_of) -> pd.DataFrame:
    cells = [(col, row) for col in range(side) for row in range(side)]
    labels = [[label_of(col, row)] for col, row in cells]
    split = ["train" if col < side // 2 else "test" for col, _ in cells]
    return pd.DataFrame({"patch_id": [patch("33UUP", *cell) for cell in cells], "split": split, "labels": labels})


def test_morans_i_is_as_by_hand_on_all_pairs():
    random = np.random.default_rng(0)
    table = grid_table(12, lambda col, row: "A" if (col // 3 + row // 4) % 2 or random.random() < 0.2 else "B")
    table["labels"] = [labels + (["C"] if random.random() < 0.3 else []) for labels in table["labels"]]
    found = look(table).autocorrelation
    where = positions(table["patch_id"])
    xy = where[["ul_x_m", "ul_y_m"]].to_numpy(float)
    apart_m = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) / 0.9996
    pairs = np.triu(np.ones((144, 144), bool), 1)
    assert len(found.bins) >= 5
    for each in found.bins:
        near = pairs & (apart_m >= each.from_m) & (apart_m < each.to_m)
        assert each.pairs == near.sum()
        i, j = np.nonzero(near)
        for name, moran in each.classes.items():
            x = np.array([name in labels for labels in table["labels"]], float)
            assert moran == pytest.approx(((x[i] - x.mean()) * (x[j] - x.mean())).mean() / x.var(), abs=1e-5)
        common = [bool(set(table["labels"][a]) & set(table["labels"][b])) for a, b in zip(i, j, strict=True)]
        assert each.same_label == pytest.approx(np.mean(common))


def test_a_buffer_follows_from_the_grain_of_the_labels():
    random = np.random.default_rng(1)
    blobs = random.integers(0, 2, (20, 20))
    grain = 6
    found = look(grid_table(90, lambda col, row: "AB"[blobs[col // grain, row // grain]])).autocorrelation
    # In blocks of 6 patches the likeness falls with distance and is gone beyond 6 patches.
    assert 3 * 1200 < found.below_threshold_m < 7 * 1200
    assert found.buffer_m == pytest.approx(found.below_threshold_m - 1200, abs=0.2)
    assert found.bins[0].mean > 0.6


def test_labels_without_a_pattern_need_no_buffer():
    random = np.random.default_rng(2)
    found = look(grid_table(60, lambda col, row: "AB"[random.integers(2)])).autocorrelation
    assert all(abs(each.mean) < 0.05 for each in found.bins if each.pairs > 5000)
    assert found.buffer_m < 1200


def test_where_all_is_alike_no_likeness_is_measured():
    assert look(grid_table(10, lambda col, row: "A")).autocorrelation is None


# --- another table ----------------------------------------------------------------------------------------


def test_places_shared_with_another_dataset_are_counted_by_split():
    theirs = pd.DataFrame(
        {
            "patch_id": [patch("33UUP", 3, 4, "20180101T101031"), patch("33UUP", 11, 4), patch("33UUP", 90, 90)],
            "split": ["test", "test", "train"],
        }
    )
    against = look(sound(), against=theirs, against_name="theirs").against
    pairs = {(each.a, each.b): each for each in against.pairs}
    assert against.counts == {"train": 1, "validation": 0, "test": 2}
    assert pairs["train", "test"].shared_places == 1
    assert (pairs["train", "test"].overlapping_a, pairs["train", "test"].overlapping_b) == (1, 1)
    assert pairs["train", "test"].gaps_b.quantiles_m[-1] == 1200  # column 10 lies between 9 and 11
    assert pairs["test", "train"].shared_places == 0
    (one,) = against.findings
    assert (one.kind, one.splits, one.examples[0].patch_ids) == (
        "shared_place", ["train", "test"], [patch("33UUP", 3, 4), patch("33UUP", 3, 4, "20180101T101031")],
    )  # fmt: skip


def test_another_table_without_splits_is_one():
    against = look(sound(), against=sound().drop(columns="split")).against
    assert [(each.b, each.shared_places) for each in against.pairs] == [("all", 100), ("all", 50), ("all", 50)]


# --- conditions -------------------------------------------------------------------------------------------


def met(table: pd.DataFrame, text: str, **options: object) -> list[str]:
    return conditions_met(look(table, **options), parse_conditions(text))


def leaky() -> pd.DataFrame:
    """Train and test share a place and touch; validation has one class only."""
    table = plus(sound(), (patch("33UUP", 3, 4, "20170926T101031"), "test"))
    table["labels"] = [["A"] if split == "validation" or index % 4 else ["A", "B"] for index, split in enumerate(table["split"])]
    return table


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("shared", "1 places lie in both (train and test)"),
        ("touching", "10 patches touch (train and test)"),
        ("touching>9", "10 patches touch (train and test)"),
        ("touching>10", None),
        ("touching[train/test]", "10 patches touch (train and test)"),
        ("touching[test/train]", "10 patches touch (train and test)"),
        ("touching[train/validation]", None),
        ("overlapping", "1 pairs of patches overlap (train and test)"),
        ("gap<1750", "train and test lie 0 m apart"),
        ("gap[train/validation]<24000", None),
        ("gap[train/validation]<24001", "train and validation lie 24,000 m apart"),
        ("ratio>1.5", "B is missing from a split"),
        ("tvd>0.01", "validation and"),
        ("tvd>0.99", None),
        ("country-ratio>2", "cannot be checked, the table says nothing of country"),
        ("season-tvd>0.001", "train and test"),
        ("duplicates", None),
        ("mismatch", None),
        ("flipped>3", None),
        ("empty", None),
        ("against-shared", "cannot be checked without another table"),
    ],
)
def test_a_condition_is_met_or_not(condition, said):
    lines = met(leaky(), condition)
    assert len(lines) == (said is not None)
    if said is not None:
        assert lines[0].startswith(f"{condition}: ")
        assert said in lines[0]


def test_conditions_on_another_table_look_at_that():
    assert met(sound(), "shared,against-shared", against=sound()) == [
        "against-shared: 100 places lie in both (train and train); 50 places lie in both (validation and validation); "
        "50 places lie in both (test and test)"
    ]
    assert met(sound(), "against-shared[train/test],against-gap[train/test]<1", against=sound()) == []


def test_a_split_that_is_known_to_leak_is_told_by_its_strategy():
    audit = look(sound())
    info = SplitInfo(strategy="random", options={}, seed=0, ratios={}, leaks="neighbours fall into different splits", notes=[])
    assert conditions_met(audit, parse_conditions("leaks")) == []
    assert conditions_met(audit.model_copy(update={"split": info}), parse_conditions("leaks")) == [
        "leaks: strategy random: neighbours fall into different splits"
    ]


def test_several_conditions_are_answered_in_their_order():
    assert [line.split(":")[0] for line in met(leaky(), "ratio>1.1, mismatch,touching")] == ["ratio>1.1", "touching"]


REFUSED = (
    "leaking", "leaks>1", "ratio", "ratio<2", "gap>5", "gap", "touching>", "ratio[train/test]>2", "",
    "touching,,shared", "empty>1", "Touching",
)  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_a_condition_that_nobody_knows_is_refused(text):
    with pytest.raises(SplitError):
        parse_conditions(text)


def test_a_condition_on_splits_that_are_not_there_is_refused():
    with pytest.raises(SplitError, match="fold 1 and test"):
        met(sound(), "touching[fold 1/test]")
