"""Tiles of the Copernicus DEM, chosen by their names."""

import numpy as np
import pytest

from rsdata.errors import SceneError
from rsdata.scenes.mosaic import choose_dem_tiles, dem_corner, dem_corners, dem_name


@pytest.mark.parametrize(
    ("name", "corner"),
    [
        ("Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif", (0, 6)),
        ("Copernicus_DSM_COG_10_S01_00_W072_00_DEM.tif", (-1, -72)),
        ("Copernicus_DSM_30_N47_00_E013_00_DEM.tif", (47, 13)),
        ("Copernicus_DSM_COG_10_N00_00_E006_00_DEM_crop.tif", (0, 6)),
        ("N00E006.hgt", None),
    ],
)
def test_a_tile_is_named_after_its_south_western_corner(name, corner):
    assert dem_corner(name) == corner


def test_names_are_written_as_they_are_read():
    for corner in [(0, 6), (-1, -72), (89, 179), (-90, -180)]:
        assert dem_corner(dem_name(corner)) == corner


@pytest.mark.parametrize(
    ("box", "corners"),
    [
        ((12.3, 47.7, 13.8, 48.7), [(47, 12), (47, 13), (48, 12), (48, 13)]),
        ((6.5, 0.1, 6.7, 0.3), [(0, 6)]),
        ((-0.5, -0.5, 0.5, 0.5), [(-1, -1), (-1, 0), (0, -1), (0, 0)]),
        ((179.5, 10.2, -179.5, 10.8), [(10, 179), (10, -180)]),
        ((179.5, 10.2, 180.5, 10.8), [(10, 179), (10, -180)]),
    ],
)
def test_a_box_touches_the_tiles_counted_by_hand(box, corners):
    assert dem_corners(*box) == corners


def test_only_the_tiles_needed_are_chosen(tmp_path):
    for lat in (47, 48, 49):
        for lon in (11, 12, 13):
            (tmp_path / dem_name((lat, lon))).touch()
    (tmp_path / "readme.tif").touch()
    chosen = choose_dem_tiles([str(tmp_path / "*.tif"), "https://host/x/" + dem_name((0, 6))], (12.3, 47.7, 13.8, 48.7))
    assert chosen == [str(tmp_path / dem_name(corner)) for corner in [(47, 12), (47, 13), (48, 12), (48, 13)]]
    assert choose_dem_tiles(["https://host/x/" + dem_name((0, 6))], (6.1, 0.1, 6.2, 0.2)) == ["https://host/x/" + dem_name((0, 6))]


def test_a_gap_is_refused_unless_it_is_sea(tmp_path):
    (tmp_path / dem_name((47, 12))).touch()
    pattern, box = [str(tmp_path / "*.tif")], (12.3, 47.2, 13.8, 47.8)
    with pytest.raises(
        SceneError, match=r"lacks Copernicus_DSM_COG_10_N47_00_E013_00_DEM.tif of the 2 tiles .* or state that they are sea"
    ):
        choose_dem_tiles(pattern, box)
    with pytest.raises(SceneError, match="lacks"):
        choose_dem_tiles(pattern, box, sea=[(46, 13)])
    assert len(choose_dem_tiles(pattern, box, sea=[(47, 13)])) == len(choose_dem_tiles(pattern, box, sea=True)) == 1


def test_a_tile_given_twice_and_mixed_spacing_are_refused(tmp_path):
    first, second = tmp_path / dem_name((47, 12)), tmp_path / dem_name((47, 13), spacing=30)
    first.touch()
    second.touch()
    with pytest.raises(SceneError, match="are the same tile; name it once"):
        choose_dem_tiles([str(first), "s3://copernicus-dem/" + first.name], (12.3, 47.2, 12.8, 47.8))
    with pytest.raises(SceneError, match="different spacing"):
        choose_dem_tiles([str(first), str(second)], (12.3, 47.2, 13.8, 47.8))
    with pytest.raises(SceneError, match="matches nothing"):
        choose_dem_tiles([str(tmp_path / "none*.tif")], (12.3, 47.2, 12.8, 47.8))
    with pytest.raises(SceneError, match="is no box in degrees"):
        dem_corners(12, 48, 13, 47)


def test_the_real_tile_is_chosen_and_opens(shared_data):
    dem = pytest.importorskip("rsdata.scenes.dem")
    chosen = choose_dem_tiles([str(shared_data / "worldcover_dem" / "*.tif")], (6.45, 0.02, 6.76, 0.41))
    assert [path.rsplit("/", 1)[1] for path in chosen] == ["Copernicus_DSM_COG_10_N00_00_E006_00_DEM_crop.tif"]
    opened = dem.open_dem(chosen, datum="ellipsoid")  # stated for this test only; its heights are above EGM2008
    heights = opened.heights(4326, np.array([6.6, 6.61]), np.array([0.25, 0.25]))
    assert np.isfinite(heights).all()
    assert 100 < heights.min() <= heights.max() < 2_100  # São Tomé rises to 2,024 m
