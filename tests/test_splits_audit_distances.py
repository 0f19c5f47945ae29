"""Distances of the audit against plain arithmetic: every pair of footprints, drawn by a projection of its own."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely

from rsdata.errors import SplitError
from rsdata.grid import Tile
from rsdata.splits import positions
from rsdata.splits.audit import examine
from rsdata.splits.audit_distances import measure
from rsdata.splits.audit_places import gather, locate

DISTANCES_M = (0.0, 1200.0, 1750.0, 5000.0)


def patch(tile: str, col: int, row: int, date: str = "20170613T101031") -> str:
    return f"S2A_MSIL2A_{date}_N9999_R022_T{tile}_{col:02d}_{row:02d}"


def outline(patch_id: str) -> shapely.Polygon:
    """A patch in longitude and latitude, every side drawn by five points."""
    where = positions(pd.Series([patch_id])).iloc[0]
    x, y = where["ul_x_m"], where["ul_y_m"]
    ring = shapely.segmentize(shapely.box(x, y - 1200, x + 1200, y), 300)
    to_lonlat = pyproj.Transformer.from_crs(int(where["epsg"]), 4326, always_xy=True)
    return shapely.Polygon(list(to_lonlat.itransform(ring.exterior.coords)))


def by_hand(train: list[shapely.Polygon], test: list[shapely.Polygon]) -> np.ndarray:
    """Gaps of all pairs, (train, test): each pair drawn by a projection that keeps distances from the middle of the first."""
    gaps = np.empty((len(train), len(test)))
    for i, one in enumerate(train):
        lon, lat = one.centroid.coords[0]
        project = pyproj.Transformer.from_crs(4326, f"+proj=aeqd +lon_0={lon} +lat_0={lat} +ellps=WGS84", always_xy=True)
        drawn = [shapely.transform(each, lambda xy: np.column_stack(project.transform(xy[:, 0], xy[:, 1]))) for each in [one, *test]]  # noqa: B023
        gaps[i] = shapely.distance(drawn[0], np.array(drawn[1:]))
    return gaps


def pair_of(table: pd.DataFrame, distances_m=DISTANCES_M):
    audit, _ = examine(table, distances_m=distances_m)
    return next(each for each in audit.pairs if (each.a, each.b) == ("train", "test"))


def around(tiles: list[str], cells: int, count: int, random: np.random.Generator) -> list[str]:
    """Patches of several tiles near one spot that lies in all of them."""
    first = Tile.from_name(tiles[0])
    lon, lat = pyproj.Transformer.from_crs(first.epsg, 4326, always_xy=True).transform(first.ul_x_m + 100_000, first.ul_y_m - 55_000)
    found = set()
    for tile in (Tile.from_name(name) for name in tiles):
        x_m, y_m = pyproj.Transformer.from_crs(4326, tile.epsg, always_xy=True).transform(lon, lat)
        for _ in range(count):
            col = int((x_m - tile.ul_x_m) // 1200) + int(random.integers(-cells, cells + 1))
            row = int((tile.ul_y_m - y_m) // 1200) + int(random.integers(-cells, cells + 1))
            if 0 <= col < 91 and 0 <= row < 91:
                found.add(patch(tile.name, col, row))
    return sorted(found)


def check(pair, gaps: np.ndarray):
    """The finding about a pair against the matrix of gaps; counts may differ where a gap lies at the distance itself."""
    for found, nearest in ((pair.gaps_a, gaps.min(axis=1)), (pair.gaps_b, gaps.min(axis=0))):
        expected = np.sort(nearest)[[int(np.ceil(share * len(nearest))) - 1 if share else 0 for share in (0, 0.05, 0.5, 1)]]
        assert [found.min_m, found.p5_m, found.median_m, found.quantiles_m[-1]] == pytest.approx(expected, rel=1.5e-3, abs=1.0)
        assert len(found.quantiles_m) == 41
        assert found.quantiles_m == sorted(found.quantiles_m)
    for near in pair.near:
        slack = 1.0 + 0.0015 * near.distance_m
        for low, high, count in (
            ((gaps <= near.distance_m - slack).sum(), (gaps <= near.distance_m + slack).sum(), near.pairs),
            *(
                ((gaps.min(axis=axis) <= near.distance_m - slack).sum(), (gaps.min(axis=axis) <= near.distance_m + slack).sum(), patches)
                for axis, patches in ((1, near.patches_a), (0, near.patches_b))
            ),
        ):
            assert low <= count <= high


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cells", [3, 40], ids=["near", "far"])
@pytest.mark.parametrize("tiles", [["33UUP"], ["33UUP", "33UVP"], ["33UTP", "33UUP", "32UQU"]], ids="+".join)
def test_every_gap_is_as_by_hand_across_tiles_and_zones(tiles, cells, seed):
    random = np.random.default_rng(seed)
    ids = around(tiles, cells, 30, random)
    split = random.choice(["train", "test"], len(ids))
    pair = pair_of(pd.DataFrame({"patch_id": ids, "split": split}))
    shapes = np.array([outline(each) for each in ids])
    check(pair, by_hand(list(shapes[split == "train"]), list(shapes[split == "test"])))


def test_splits_far_apart_are_measured_without_listing_pairs_between():
    train = [patch("33UUP", col, row) for col in range(0, 91, 6) for row in range(0, 91, 6)]
    test = [patch("35VML", 40, 40), patch("33UXP", 90, 40)]
    pair = pair_of(pd.DataFrame({"patch_id": train + test, "split": ["train"] * len(train) + ["test"] * 2}))
    shapes = [outline(each) for each in train]
    gaps = by_hand([outline(each) for each in test], shapes)
    assert [pair.gaps_b.quantiles_m[0], pair.gaps_b.quantiles_m[-1]] == pytest.approx(sorted(gaps.min(axis=1)), rel=1e-3)


def test_squares_of_any_side_are_placed_by_their_footprints_alone():
    to_lonlat = pyproj.Transformer.from_crs(32633, 4326, always_xy=True)
    corners = [(400_000, 5_300_000, 2560), (402_560, 5_300_000, 640), (409_000, 5_300_000, 1000)]
    drawn = np.array([shapely.box(x, y - side, x + side, y) for x, y, side in corners])
    shapes = shapely.transform(drawn, lambda xy: np.column_stack(to_lonlat.transform(xy[:, 0], xy[:, 1])))
    pair = pair_of(gpd.GeoDataFrame({"split": ["train", "test", "test"]}, geometry=shapes, crs=4326))
    assert (pair.min_gap_m, pair.touching_a, pair.touching_b, pair.overlapping_pairs) == (0, 1, 1, 0)
    assert pair.gaps_b.quantiles_m[-1] == pytest.approx(409_000 - 402_560, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_outlines_that_are_no_squares_are_measured_too(seed):
    random = np.random.default_rng(seed)
    middles = random.uniform((14, 47), (14.4, 47.3), (40, 2))
    shapes = [shapely.Polygon(middle + random.uniform(-0.02, 0.02, (3, 2))) for middle in middles]
    split = random.choice(["train", "test"], 40)
    table = pd.DataFrame({"split": split, "geometry": shapely.to_wkb(np.array(shapes))})
    fine = np.array([shapely.segmentize(each, 0.001) for each in shapes])
    pair = pair_of(table)
    gaps = by_hand(list(fine[split == "train"]), list(fine[split == "test"]))
    check(pair, gaps)


def test_columns_say_the_same_as_ids():
    ids = around(["33UTP", "33UUP", "32UQU"], 4, 30, np.random.default_rng(0))
    table = pd.DataFrame({"patch_id": ids, "split": ["train", "test"] * (len(ids) // 2) + ["train"] * (len(ids) % 2)})
    columns = positions(table["patch_id"])[["epsg", "ul_x_m", "ul_y_m"]].assign(split=table["split"])
    assert pair_of(columns) == pair_of(table)


def test_footprints_in_degrees_say_the_same_as_ids():
    ids = around(["33UTP", "33UUP", "32UQU"], 4, 30, np.random.default_rng(1))
    table = pd.DataFrame({"patch_id": ids, "split": ["train", "test"] * (len(ids) // 2) + ["train"] * (len(ids) % 2)})
    shapes = []
    for where in positions(table["patch_id"]).itertuples():
        square = gpd.GeoSeries([shapely.box(where.ul_x_m, where.ul_y_m - 1200, where.ul_x_m + 1200, where.ul_y_m)], crs=where.epsg)
        shapes.append(square.to_crs(4326).iloc[0])
    assert pair_of(gpd.GeoDataFrame({"split": table["split"]}, geometry=shapes, crs=4326)) == pair_of(table)


def test_patches_of_many_dates_count_each_but_are_one_place():
    dates = [f"201709{day:02d}T101031" for day in (10, 11, 12)]
    train = [patch("33UUP", 10, 10, date) for date in dates]
    test = [patch("33UUP", 11, 10, date) for date in dates[:2]] + [patch("33UUP", 30, 10)]
    pair = pair_of(pd.DataFrame({"patch_id": train + test, "split": ["train"] * 3 + ["test"] * 3}))
    assert [(each.distance_m, each.pairs, each.patches_a, each.patches_b) for each in pair.near] == [
        (0, 6, 3, 2),
        (1200, 6, 3, 2),
        (1750, 6, 3, 2),
        (5000, 6, 3, 2),
    ]
    # Of three test patches two touch, the third has 19 columns less one between it and train.
    assert (pair.gaps_b.p5_m, pair.gaps_b.median_m, pair.gaps_b.quantiles_m[-1]) == (0, 0, 19 * 1200)


def test_too_many_pairs_are_not_counted_but_their_patches_are():
    ids = [patch("33UUP", col, row) for col in range(20) for row in range(20)]
    located = locate(pd.DataFrame({"patch_id": ids}))
    places, (place,) = gather(located)
    test = np.arange(400) % 2
    patches = [np.bincount(place[test == which], minlength=400) for which in (0, 1)]
    full = measure(places, "train", "test", *patches, DISTANCES_M).pair
    short = measure(places, "train", "test", *patches, DISTANCES_M, most_pairs=2_500).pair
    assert [each.pairs is None for each in short.near] == [False, False, False, True]
    assert [(each.patches_a, each.patches_b) for each in short.near] == [(each.patches_a, each.patches_b) for each in full.near]
    assert short.gaps_a == full.gaps_a


def test_distances_are_the_ones_asked_for_and_zero():
    table = pd.DataFrame({"patch_id": [patch("33UUP", 1, 1), patch("33UUP", 5, 1)], "split": ["train", "test"]})
    assert [(each.distance_m, each.pairs) for each in pair_of(table, (4000, 3600, 3599)).near] == [(0, 0), (3599, 0), (3600, 1), (4000, 1)]
    with pytest.raises(SplitError, match="expected 0 or more"):
        pair_of(table, (-1.0,))


def test_a_table_without_positions_says_what_it_lacks():
    with pytest.raises(SplitError, match="no column `patch_id`, no `epsg`"):
        examine(pd.DataFrame({"split": ["train"], "name": ["a"]}))


def test_a_zone_that_is_none_is_refused():
    with pytest.raises(SplitError, match="`epsg` holds 3035"):
        examine(pd.DataFrame({"split": ["train"], "epsg": [3035], "ul_x_m": [0], "ul_y_m": [0]}))


def test_points_are_no_footprints():
    with pytest.raises(SplitError, match="no polygon as footprint, the first is row 0"):
        examine(gpd.GeoDataFrame({"split": ["train"]}, geometry=[shapely.Point(14, 48)], crs=4326))
