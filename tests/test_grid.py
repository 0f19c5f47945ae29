"""Tiles and patches, by hand, against real products and against an independent MGRS library."""

import re

import mgrs
import numpy as np
import pandas as pd
import pytest

from rsdata.errors import GridError
from rsdata.grid import TILE_SIDE_M, PatchGrid, Tile, corners, footprints

T33UUP = Tile("33UUP", 32633, 300_000, 5_400_000)


# --- tiles ------------------------------------------------------------------------------------------------


def test_corner_lies_on_the_60_m_lattice_outside_the_100_km_square():
    assert Tile.from_name("33UUP") == T33UUP
    # 400 000 is no multiple of 60: the corner moves 40 m west. 5 500 000 moves 20 m north.
    assert Tile.from_name("33UVQ") == Tile("33UVQ", 32633, 399_960, 5_500_020)


def test_south_of_the_equator_the_lattice_counts_from_the_equator():
    # 22HBD reaches up to 5 900 000 m, 4 100 000 m from the equator; 4 099 980 m is the next multiple of 60 m northward.
    assert Tile.from_name("22HBD") == Tile("22HBD", 32722, 199_980, 10_000_000 - 4_099_980)


def test_every_real_product_lies_where_its_name_says(shared_data):
    found = sorted(shared_data.glob("s2_*/**/MTD_TL.xml"))
    assert len(found) >= 8
    for path in found:
        text = path.read_text(encoding="utf-8")
        name = re.search(r"<TILE_ID[^>]*>[^<]*_T(\w{5})_", text)[1]
        epsg = int(re.search(r"<HORIZONTAL_CS_CODE>EPSG:(\d+)<", text)[1])
        places = {(int(x), int(y)) for x, y in re.findall(r"<ULX>(-?\d+)</ULX>\s*<ULY>(-?\d+)</ULY>", text)}
        assert {(epsg, *place) for place in places} == {(lambda t: (t.epsg, t.ul_x_m, t.ul_y_m))(Tile.from_name(name))}, path


def test_an_independent_library_puts_squares_in_the_same_place():
    converter, random, seen = mgrs.MGRS(), np.random.default_rng(0), {}
    for zone in range(1, 61):
        for south in (-80, -72, -64, -56, -48, -40, -32, -24, -16, -8, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72):
            lat, lon = random.uniform(south, south + (12 if south == 72 else 8)), -186 + 6 * zone + random.uniform(0, 6)
            name = converter.toMGRS(lat, lon, MGRSPrecision=0)
            zone_found, hemisphere, x_m, y_m = converter.MGRSToUTM(name)  # of a point inside the 100 km square
            seen[name] = (zone_found, hemisphere, x_m // 100_000 * 100_000, y_m // 100_000 * 100_000)
    assert len(seen) > 1000
    assert {name[2] for name in seen} == set("CDEFGHJKLMNPQRSTUVWX")
    for name, (zone, hemisphere, easting_m, northing_m) in seen.items():
        tile = Tile.from_name(name)
        assert tile.epsg == (32600 if hemisphere == "N" else 32700) + zone, name
        assert 0 <= easting_m - tile.ul_x_m < 60, name
        assert 0 <= tile.ul_y_m - (northing_m + 100_000) < 60, name


@pytest.mark.parametrize("name", ["33UUI", "33IUP", "61UUP", "00UUP", "3UUP", "33uup", "33UAP", "T33UUP", "", "33UUP\n", "３３UUP"])
def test_what_is_no_tile_is_refused(name):
    with pytest.raises(GridError, match="is not an MGRS tile"):
        Tile.from_name(name)


# --- patches ----------------------------------------------------------------------------------------------


def test_whole_tile_has_8281_patches():
    grid = PatchGrid.whole(T33UUP)
    cols, rows = grid.cells()
    assert (len(grid.cols), len(grid.rows), len(cols), len(rows)) == (91, 91, 8281, 8281)
    assert (cols[:2].tolist(), rows[:2].tolist(), cols[-1], rows[-1]) == ([0, 1], [0, 0], 90, 90)


def test_second_patch_starts_120_columns_east():
    grid = PatchGrid.whole(T33UUP)
    assert grid.window(col=1, row=0, gsd_m=10) == (slice(0, 120), slice(120, 240))
    assert grid.window(col=1, row=2, gsd_m=60) == (slice(40, 60), slice(20, 40))


def test_corner_counts_east_and_south():
    x_m, y_m = corners(T33UUP, np.array([0, 26]), np.array([0, 57]))
    assert (x_m.tolist(), y_m.tolist()) == ([300_000, 331_200], [5_400_000, 5_331_600])


def test_part_of_a_tile_keeps_the_numbers_of_the_whole():
    # The raster begins 60 m before column 8 and row 40 end, so 9 and 41 are the first whole ones.
    grid = PatchGrid(T33UUP, T33UUP.ul_x_m + 9 * 1200 - 60, T33UUP.ul_y_m - 41 * 1200 + 60, 3 * 1200, 2 * 1200)
    assert (grid.cols, grid.rows) == (range(9, 11), range(41, 42))
    assert grid.window(col=9, row=41, gsd_m=10) == (slice(6, 126), slice(6, 126))


def test_raster_smaller_than_a_patch_holds_none():
    grid = PatchGrid(T33UUP, T33UUP.ul_x_m, T33UUP.ul_y_m, 1140, 1140)
    assert (len(grid.cols), len(grid.rows)) == (0, 0)
    assert grid.cut(np.zeros((114, 114)), 10).shape == (0, 0, 120, 120)


def test_last_partial_column_of_the_tile_is_no_patch():
    grid = PatchGrid(T33UUP, T33UUP.ul_x_m + 90 * 1200, T33UUP.ul_y_m, 1800, 1200)
    assert grid.cols == range(90, 91)


@pytest.mark.parametrize("gsd_m", [10, 20, 60])
def test_cut_is_the_windows_and_copies_nothing(gsd_m):
    grid = PatchGrid(T33UUP, T33UUP.ul_x_m + 1140, T33UUP.ul_y_m - 2460, 4800, 3600)
    pixels = np.random.default_rng(0).integers(0, 9999, (3600 // gsd_m, 4800 // gsd_m), np.uint16)
    patches = grid.cut(pixels, gsd_m)
    assert np.shares_memory(patches, pixels)
    assert patches.shape[:2] == (len(grid.rows), len(grid.cols))
    for down, row in enumerate(grid.rows):
        for right, col in enumerate(grid.cols):
            assert (patches[down, right] == pixels[grid.window(col, row, gsd_m)]).all()


@pytest.mark.parametrize(
    ("x_m", "y_m", "width_m", "message"),
    [
        (-60, 0, 1200, "does not lie in tile"),
        (0, 60, 1200, "does not lie in tile"),
        (0, 0, TILE_SIDE_M + 60, "does not lie in tile"),
        (10, 0, 1200, "multiples of 60 m"),
        (0, -20, 1200, "multiples of 60 m"),
    ],
)
def test_raster_off_the_tile_or_off_its_lattice_is_refused(x_m, y_m, width_m, message):
    with pytest.raises(GridError, match=message):
        PatchGrid(T33UUP, T33UUP.ul_x_m + x_m, T33UUP.ul_y_m + y_m, width_m, 1200)


def test_corners_are_those_of_the_published_bounds(shared_data):
    folder = shared_data / "bigearthnet_v2" / "metadata_sample"
    bounds = pd.read_parquet(folder / "patch_bounds_3tiles.parquet")
    cells = bounds["s2v1_name"].str.extract(r"_(\d+)_(\d+)$").astype(int)
    assert len(bounds) == 13_956
    for name, rows in bounds.groupby("tile"):
        tile = Tile.from_name(name.removeprefix("T"))
        x_m, y_m = corners(tile, cells.loc[rows.index, 0].to_numpy(), cells.loc[rows.index, 1].to_numpy())
        assert (rows["epsg"] == tile.epsg).all()
        assert (rows["minx"] == x_m).all()
        assert (rows["maxx"] == x_m + 1200).all()
        assert (rows["maxy"] == y_m).all()
        assert (rows["miny"] == y_m - 1200).all()


def test_footprint_is_a_closed_square_in_degrees():
    (outline,) = footprints(np.array([331_200]), np.array([5_331_600]), 32633)
    assert outline.is_valid
    west, south, east, north = outline.bounds
    assert (round(west, 2), round(north, 2)) == (12.73, 48.12)
    assert (east - west) * 111_320 * np.cos(np.radians(48.1)) == pytest.approx(1200, abs=50)
    assert (north - south) * 110_600 == pytest.approx(1200, abs=50)


def test_footprint_across_the_180th_meridian_is_not_torn():
    tile = Tile.from_name("01KAB")
    x_m, y_m = corners(tile, np.arange(91), np.full(91, 45))
    outlines = footprints(x_m, y_m, tile.epsg)
    assert all(outline.bounds[2] - outline.bounds[0] < 0.02 for outline in outlines)
