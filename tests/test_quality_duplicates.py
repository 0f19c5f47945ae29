"""Duplicates: the same pixels under two names, and the same ground in one data take."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from rsdata.grid import PATCH_SIDE_M, Tile, corners, footprints
from rsdata.quality import find_duplicates


def patches_of(scene: str, cells: list[tuple[int, int]], marks: list[str | None] | None = None) -> gpd.GeoDataFrame:
    """Patches (column, row) of a scene such as ``S2A_MSIL2A_20230612T101031_N0509_R022_T33UUP``, without pixels' marks unless given."""
    tile = Tile.from_name(scene[-5:])
    col, row = (np.array(axis) for axis in zip(*cells, strict=True))
    x, y = corners(tile, col, row)
    table = {
        "patch_id": [f"{scene}_{c:02d}_{r:02d}" for c, r in cells],
        "pixels_sha256": pd.Series(marks or [None] * len(cells), dtype=object),
    }
    return gpd.GeoDataFrame(table, geometry=footprints(x, y, tile.epsg), crs=4326)


def found(*tables: gpd.GeoDataFrame) -> dict[str, tuple[str, str]]:
    """Patch to the one it repeats and how; the order of rows must not matter."""
    table = pd.concat(tables, ignore_index=True)
    shuffled = table.sample(frac=1, random_state=5)
    pairs = []
    for each in (table, shuffled):
        rows = each.join(find_duplicates(each)).dropna(subset="duplicate_of")
        pairs.append({row.patch_id: (row.duplicate_of, row.duplicate_kind) for row in rows.itertuples()})
    assert pairs[0] == pairs[1]
    return pairs[0]


SCENE = "S2A_MSIL2A_20230612T101031_N0509_R022_T33UUP"
EARLIER_BASELINE = SCENE.replace("N0509", "N0400")
OTHER_DAY = SCENE.replace("0612T", "0617T")


def test_the_same_acquisition_processed_twice_repeats_every_patch_though_pixels_differ():
    first, second = patches_of(EARLIER_BASELINE, [(0, 0), (1, 0)], ["a", "b"]), patches_of(SCENE, [(0, 0), (1, 0)], ["c", "d"])
    assert found(first, second) == {
        f"{SCENE}_00_00": (f"{EARLIER_BASELINE}_00_00", "ground"),
        f"{SCENE}_01_00": (f"{EARLIER_BASELINE}_01_00", "ground"),
    }


def test_neighbours_share_a_border_and_no_ground():
    assert found(patches_of(EARLIER_BASELINE, [(3, 3)]), patches_of(SCENE, [(2, 2), (3, 2), (4, 3), (4, 4)])) == {}


def test_the_same_place_on_another_day_is_no_duplicate():
    assert found(patches_of(SCENE, [(5, 5)], ["a"]), patches_of(OTHER_DAY, [(5, 5)], ["b"])) == {}


def test_the_same_pixels_are_found_whatever_the_name_and_place():
    table = found(patches_of(SCENE, [(5, 5), (9, 9)], ["a", "a"]), patches_of(OTHER_DAY, [(70, 1)], ["a"]))
    assert table == {f"{SCENE}_09_09": (f"{SCENE}_05_05", "pixels"), f"{OTHER_DAY}_70_01": (f"{SCENE}_05_05", "pixels")}


def test_patches_without_a_mark_equal_no_other():
    assert found(patches_of(SCENE, [(5, 5), (9, 9)]), patches_of(OTHER_DAY, [(5, 5)])) == {}


def test_overlapping_tiles_of_one_zone_repeat_the_patches_that_overlap_by_more_than_half():
    """33UUP and 33UVP: corners 99,960 or 100,020 m apart, so columns 84 to 90 of one lie over columns 0 to 6 of the other."""
    west, east = Tile.from_name("33UUP"), Tile.from_name("33UVP")
    apart_m = east.ul_x_m - west.ul_x_m
    assert apart_m in (99_960, 100_020)
    columns = range(80, 91)
    table = found(
        patches_of(SCENE, [(col, 4) for col in columns]), patches_of(SCENE.replace("33UUP", "33UVP"), [(col, 4) for col in range(9)])
    )
    expected = {}
    for col in range(9):
        for other in columns:
            overlap_m = PATCH_SIDE_M - abs(apart_m + PATCH_SIDE_M * (col - other))
            if overlap_m > PATCH_SIDE_M / 2:
                expected[f"{SCENE.replace('33UUP', '33UVP')}_{col:02d}_04"] = (f"{SCENE}_{other:02d}_04", "ground")
    assert len(expected) >= 7
    assert table == expected


def test_overlap_is_seen_across_utm_zones():
    """32UQU and 33UUP overlap near 12 degrees east; the patch over a given one is found by area, computed here in zone 33."""
    a = patches_of(SCENE.replace("33UUP", "32UQU"), [(c, r) for c in range(91) for r in range(20)])
    b = patches_of(SCENE, [(c, r) for c in range(12) for r in range(10)])
    metres_a, metres_b = a.to_crs(32633).geometry.to_numpy(), b.to_crs(32633)
    tree = a.to_crs(32633).sindex
    expected = set()
    for row in metres_b.itertuples():
        for index in tree.query(row.geometry):
            if row.geometry.intersection(metres_a[index]).area > 0.5 * PATCH_SIDE_M**2:
                expected.add(row.patch_id)
    assert len(expected) > 10
    assert set(found(a, b)) == expected


def test_what_repeats_a_duplicate_alone_is_kept():
    """a ~ b by pixels, b ~ c by ground, a and c have nothing in common: b goes, and c stays."""
    a = patches_of(OTHER_DAY.replace("0617", "0101"), [(0, 0)], ["x"])
    b, c = patches_of(EARLIER_BASELINE, [(7, 7)], ["x"]), patches_of(SCENE, [(7, 7)], ["y"])
    assert found(a, b, c) == {b["patch_id"][0]: (a["patch_id"][0], "pixels")}


@pytest.mark.parametrize("empty", [[], ["a"]])
def test_few_patches_have_no_duplicates(empty):
    table = patches_of(SCENE, [(5, 5)], ["a"]).iloc[: len(empty)]
    assert find_duplicates(table)["duplicate_of"].isna().all()
