"""The audit of splits: leaks planted by hand, and brute force over random patches."""

import itertools

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from scipy import ndimage
from suites import SCENES

from rsdata.errors import SplitError
from rsdata.grid import Tile
from rsdata.records import SplitAudit
from rsdata.splits import audit, positions


def patch(tile: str, col: int, row: int, date: str = "20170613T101031") -> str:
    return f"S2A_MSIL2A_{date}_N9999_R022_T{tile}_{col:02d}_{row:02d}"


def pair_of(train: list[str], test: list[str]):
    """The audit's finding about two lists of patches."""
    table = pd.DataFrame({"patch_id": train + test, "split": ["train"] * len(train) + ["test"] * len(test)})
    return next(each for each in audit(table).pairs if (each.a, each.b) == ("train", "test"))


def summary(pair):
    return pair.min_gap_m, pair.touching_a, pair.touching_b, pair.shared_places


def test_patches_side_by_side_touch():
    assert summary(pair_of([patch("33UUP", 10, 10)], [patch("33UUP", 11, 10)])) == (0, 1, 1, 0)


def test_patches_corner_to_corner_touch():
    assert summary(pair_of([patch("33UUP", 10, 10)], [patch("33UUP", 11, 11), patch("33UUP", 9, 11)])) == (0, 1, 2, 0)


def test_one_patch_between_leaves_1200_m():
    assert summary(pair_of([patch("33UUP", 10, 10)], [patch("33UUP", 12, 11)])) == (1200, 0, 0, 0)


def test_gaps_are_measured_from_corner_to_corner():
    # Three columns and four rows lie between: 3600 m and 4800 m.
    assert pair_of([patch("33UUP", 10, 10)], [patch("33UUP", 14, 15)]).min_gap_m == 6000


def test_the_nearest_squares_need_not_have_the_nearest_centres():
    # Centres 7200 m apart leave 6000 m; centres 7127.9 m apart on the diagonal leave less, 5430.9 m.
    train = [patch("33UUP", 0, 0), patch("33UUP", 40, 40)]
    assert pair_of(train, [patch("33UUP", 46, 40)]).min_gap_m == 6000
    # 5 columns and 3 rows between (7200, 4800 m): centres 8653 m, gap 6997 m; straight: centres 8400 m, gap 7200 m.
    assert pair_of(train, [patch("33UUP", 47, 40), patch("33UUP", 6, 4)]).min_gap_m == pytest.approx(np.hypot(6000, 3600))


def test_one_place_on_two_dates_in_two_splits_is_found():
    found = pair_of([patch("33UUP", 10, 10)], [patch("33UUP", 10, 10, "20170926T101031"), patch("33UUP", 50, 50)])
    assert summary(found) == (0, 1, 1, 1)


def test_a_place_seen_on_many_dates_is_one_place_but_many_patches():
    dates = [f"201709{day:02d}T101031" for day in range(10, 15)]
    assert summary(pair_of([patch("33UUP", 10, 10)], [patch("33UUP", 10, 10, date) for date in dates])) == (0, 1, 5, 1)


def test_overlap_of_neighbouring_tiles_is_found():
    # Column 83 of 33UUP spans 399 600 to 400 800 m east, and 33UVP begins at 399 960 m.
    assert summary(pair_of([patch("33UUP", 83, 10)], [patch("33UVP", 0, 10)])) == (0, 1, 1, 2)
    assert summary(pair_of([patch("33UUP", 80, 10)], [patch("33UVP", 0, 10)])) == (399_960 - 397_200, 0, 0, 0)


def test_the_equator_is_no_border():
    # Row 83 of 33NUA spans 420 m north to 780 m south of the equator, where row 0 of 33MUV begins.
    assert summary(pair_of([patch("33NUA", 5, 83)], [patch("33MUV", 5, 0)])) == (0, 1, 1, 2)
    assert pair_of([patch("33NUA", 5, 81)], [patch("33MUV", 5, 0)]).min_gap_m == 100_020 - 82 * 1200


def cell_at(tile: Tile, lon: float, lat: float) -> tuple[int, int]:
    x_m, y_m = pyproj.Transformer.from_crs(4326, tile.epsg, always_xy=True).transform(lon, lat)
    return int((x_m - tile.ul_x_m) // 1200), int((tile.ul_y_m - y_m) // 1200)


def centre_of(patch_id: str) -> tuple[float, float]:
    where = positions(pd.Series([patch_id])).iloc[0]
    to_lonlat = pyproj.Transformer.from_crs(int(where["epsg"]), 4326, always_xy=True)
    return to_lonlat.transform(where["ul_x_m"] + 600, where["ul_y_m"] - 600)


def test_the_same_ground_in_two_zones_is_found():
    one = patch("33UTP", 70, 40)
    other = patch("32UQU", *cell_at(Tile.from_name("32UQU"), *centre_of(one)))
    assert summary(pair_of([one], [other])) == (0, 1, 1, 2)


def test_the_180th_meridian_is_no_border():
    one = patch("01KAB", 0, 40)
    lon, lat = centre_of(one)
    tile = Tile.from_name("60KXG")  # the tile west of 01KAB; its zone's grid is stretched past the meridian
    x_m, y_m = pyproj.Transformer.from_crs(4326, tile.epsg, always_xy=True).transform(lon if lon > 0 else lon + 360, lat)
    other = patch("60KXG", 90, 40)
    where = positions(pd.Series([other])).iloc[0]
    straight_m = np.hypot(where["ul_x_m"] + 600 - x_m, where["ul_y_m"] - 600 - y_m)
    assert straight_m < 200_000  # in degrees of longitude they seem a world apart
    assert pair_of([one], [other]).min_gap_m == pytest.approx(straight_m - 1200, abs=600)


def brute_force(train: list[str], test: list[str]):
    """The same finding from all pairs of polygons, each pair drawn in the zone of the first; slow and plain."""
    where = positions(pd.Series(train + test)).set_axis(train + test)
    across = {pair: pyproj.Transformer.from_crs(*pair, always_xy=True) for pair in itertools.permutations(set(where["epsg"]), 2)}
    outline = {}
    for each, own, x, y in zip(where.index, where["epsg"], where["ul_x_m"], where["ul_y_m"], strict=True):
        corners = [(x, y), (x + 1200, y), (x + 1200, y - 1200), (x, y - 1200)]
        outline[each, own] = shapely.Polygon(corners)
        for (source, target), transformer in across.items():
            if source == own:
                outline[each, target] = shapely.Polygon(list(transformer.itransform(corners)))

    gaps, touching_a, touching_b, shared = [], set(), set(), set()
    for a, b in itertools.product(train, test):
        one, other = outline[a, where.at[a, "epsg"]], outline[b, where.at[a, "epsg"]]
        gaps.append(one.distance(other))
        if gaps[-1] < 0.5:
            touching_a.add(a)
            touching_b.add(b)
        if one.intersection(other).area > 600:
            shared |= {a[-12:], b[-12:]}
    return min(gaps), len(touching_a), len(touching_b), len(shared)


@pytest.mark.parametrize(
    ("tiles", "first"),  # and a cell of the first tile whose ground lies in the others, too
    [(["33UUP"], (45, 45)), (["33UUP", "33UVP"], (84, 45)), (["32UQU", "33UTP"], (25, 45)), (["32UQU", "33UUP", "33UTP"], (42, 45))],
    ids=lambda each: "+".join(map(str, each)),
)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cells", [8, 91], ids=["dense", "sparse"])
def test_brute_force_agrees(tiles, first, seed, cells):
    random = np.random.default_rng(seed)

    def some(count):
        if cells == 91:
            drawn = [(random.choice(tiles), *random.integers(0, 91, 2)) for _ in range(count)]
        else:  # a few neighbouring cells of each tile, where the tiles overlap
            centre = centre_of(patch(tiles[0], *first))
            drawn = []
            for _ in range(count):
                tile = random.choice(tiles)
                drawn.append((tile, *(np.clip(cell_at(Tile.from_name(tile), *centre), 4, 86) + random.integers(-4, 5, 2))))
        return sorted({patch(*each) for each in drawn})

    train, test = some(25), some(25)
    test = [each for each in test if each not in train]
    gap_m, *counts = brute_force(train, test)
    found = pair_of(train, test)
    assert [found.touching_a, found.touching_b, found.shared_places] == counts
    one_zone = len({tile[:2] for tile in tiles}) == 1
    # The zone of the first patch stretches ground by up to 0.15 %; inside one zone nothing is approximate.
    assert found.min_gap_m == pytest.approx(gap_m, rel=0 if one_zone else 1.5e-3, abs=1e-6 if one_zone else 0.5)


def test_far_zones_are_as_far_apart_as_a_geodesic_says():
    one, other = patch("31UGR", 45, 45), patch("35VPK", 45, 45)
    *_, centres_m = pyproj.Geod(ellps="WGS84").inv(*centre_of(one), *centre_of(other))
    assert pair_of([one], [other]).min_gap_m == pytest.approx(centres_m - 1500, abs=0.001 * centres_m)


def test_the_published_split_touches_where_its_cells_do(shared_data):
    folder = shared_data / "bigearthnet_v2" / "metadata_sample"
    table = pd.concat([pd.read_parquet(folder / f"metadata_3tiles{suffix}.parquet") for suffix in ("", "_snow_cloud_shadow")])
    where = positions(table["patch_id"])
    found = audit(table)
    assert found.counts == {"train": 6646, "validation": 3777, "test": 3533}
    for pair in found.pairs:
        touching = {pair.a: 0, pair.b: 0}
        for tile in where["tile_id"].unique():
            seen = {}
            for split in (pair.a, pair.b):
                chosen = where[((where["tile_id"] == tile) & (table["split"] == split)).to_numpy()]
                seen[split] = np.zeros((91, 91), int)
                np.add.at(seen[split], (chosen["row"], chosen["col"]), 1)
            for split, other in ((pair.a, pair.b), (pair.b, pair.a)):
                touching[split] += seen[split][ndimage.binary_dilation(seen[other] > 0, np.ones((3, 3)))].sum()
        assert [pair.touching_a, pair.touching_b] == [touching[pair.a], touching[pair.b]]
        assert pair.shared_places == 0
    # Columns 69 to 77 lie between test and train on the east side: nine validation patches.
    assert {(pair.a, pair.b): pair.min_gap_m for pair in found.pairs} == {
        ("train", "validation"): 0,
        ("train", "test"): 9 * 1200,
        ("validation", "test"): 0,
    }


# --- balance ----------------------------------------------------------------------------------------------


def table_of(**labels_per_split: list[list[str]]) -> pd.DataFrame:
    rows = [(split, labels) for split, lists in labels_per_split.items() for labels in lists]
    ids = [patch("33UUP", index, 0) for index in range(len(rows))]
    return pd.DataFrame({"patch_id": ids, "split": [split for split, _ in rows], "labels": [labels for _, labels in rows]})


def test_class_shares_count_patches_that_show_the_class():
    found = audit(table_of(train=[["Pastures"], ["Pastures", "Arable land"], [], ["Arable land"]], test=[["Pastures", "Arable land"]]))
    assert found.class_shares == {
        "train": {"Arable land": 0.5, "Pastures": 0.5},
        "test": {"Arable land": 1.0, "Pastures": 1.0},
    }
    assert (found.largest_ratio, found.counts) == (2.0, {"train": 4, "validation": 0, "test": 1})


def test_the_most_uneven_class_is_named():
    found = audit(table_of(train=[["Pastures"]] * 3 + [["Pastures", "Arable land"]], test=[["Pastures", "Arable land"], ["Arable land"]]))
    assert (found.largest_ratio_class, found.largest_ratio) == ("Arable land", 4.0)


def test_a_class_missing_from_a_split_has_no_ratio_but_is_named():
    found = audit(table_of(train=[["Pastures"]], test=[["Pastures", "Arable land"]]))
    assert (found.largest_ratio, found.largest_ratio_class) == (None, "Arable land")


def test_only_the_classes_asked_for_are_compared():
    found = audit(table_of(train=[["Pastures", "Sand"]], test=[["Pastures"]]), classes=["Pastures", "Coast"])
    assert found.class_shares["train"] == {"Pastures": 1.0, "Coast": 0.0}
    assert (found.largest_ratio, found.largest_ratio_class) == (1.0, "Pastures")


def test_labels_may_be_arrays_as_parquet_gives_them():
    table = table_of(train=[["Pastures"]], test=[["Pastures"]])
    table["labels"] = [np.array(labels, object) for labels in table["labels"]]
    assert audit(table).class_shares["test"] == {"Pastures": 1.0}


def test_without_labels_leakage_is_still_measured():
    found = audit(table_of(train=[["Pastures"]], test=[["Pastures"]]).drop(columns="labels"))
    assert (found.class_shares, found.largest_ratio, found.largest_ratio_class) == ({}, None, None)
    assert next(each for each in found.pairs if (each.a, each.b) == ("train", "test")).touching_a == 1


def test_an_empty_split_has_no_gap():
    found = audit(table_of(train=[["Pastures"]]))
    assert [summary(each) for each in found.pairs] == [(None, 0, 0, 0)] * 3


def test_an_empty_table_is_audited_too():
    found = audit(table_of().astype({"patch_id": "str"}))
    assert found.counts == {"train": 0, "validation": 0, "test": 0}


def test_rows_without_a_split_are_left_out():
    table = table_of(train=[["Pastures"]], test=[["Pastures"], ["Arable land"]])
    table["split"] = ["train", "test", None]
    assert audit(table).counts == {"train": 1, "validation": 0, "test": 1}


def test_splits_of_other_names_are_audited_under_them():
    table = table_of(**{"fold 1": [["Pastures"]], "fold 2": [["Pastures"]]})
    assert audit(table).counts == {"fold 1": 1, "fold 2": 1}
    assert [(each.a, each.b) for each in audit(table).pairs] == [("fold 1", "fold 2")]


def test_an_audit_survives_json():
    found = audit(table_of(train=[["Pastures"]], test=[["Arable land"]]))
    assert SplitAudit.model_validate_json(found.model_dump_json()) == found


def test_order_of_the_rows_does_not_matter():
    random = np.random.default_rng(3)
    ids = [f"{scene}_{col:02d}_{row:02d}" for scene in SCENES for col in range(0, 91, 9) for row in range(0, 91, 9)]
    table = pd.DataFrame({"patch_id": ids, "split": random.choice(["train", "validation", "test"], len(ids))})
    assert audit(table.sample(frac=1, random_state=5)) == audit(table)


def test_a_missing_column_is_named():
    with pytest.raises(SplitError, match="no column `split`"):
        audit(pd.DataFrame({"patch_id": [patch("33UUP", 0, 0)]}))
