"""Tiles of the Copernicus DEM, chosen by their names."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from rsdata.errors import SceneError
from rsdata.scenes.dem import open_dem
from rsdata.scenes.mosaic import choose_dem_tiles, dem_corner, dem_corners, dem_name, sea_corners, sea_tiles, short_name, tile_addresses


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
    chosen = choose_dem_tiles([str(tmp_path / "*.tif"), "https://host/x/" + dem_name((0, 6))], (12.3, 47.7, 13.8, 48.7))
    assert chosen == [str(tmp_path / dem_name(corner)) for corner in [(47, 12), (47, 13), (48, 12), (48, 13)]]
    assert choose_dem_tiles(["https://host/x/" + dem_name((0, 6))], (6.1, 0.1, 6.2, 0.2)) == ["https://host/x/" + dem_name((0, 6))]
    assert choose_dem_tiles([str(tmp_path)], (12.3, 47.7, 13.8, 48.7)) == chosen


def test_tiles_in_folders_of_their_own_are_found(tmp_path):
    for corner in [(47, 12), (47, 13), (47, 14)]:
        folder = tmp_path / dem_name(corner).removesuffix(".tif")
        folder.mkdir()
        (folder / dem_name(corner)).touch()
    chosen = choose_dem_tiles([str(tmp_path)], (12.3, 47.2, 13.8, 47.8))
    assert [path.rsplit("/", 1)[1] for path in chosen] == [dem_name((47, 12)), dem_name((47, 13))]


def test_a_file_of_another_name_is_taken_for_any_ground_and_then_no_tile_is_missed(tmp_path):
    (tmp_path / "lidar.tif").touch()
    (tmp_path / dem_name((47, 12))).touch()
    lidar, tiles, box = str(tmp_path / "lidar.tif"), str(tmp_path / "Cop*.tif"), (12.3, 47.2, 13.8, 47.8)
    assert choose_dem_tiles([lidar, tiles], box) == [lidar, str(tmp_path / dem_name((47, 12)))]
    assert choose_dem_tiles([lidar], box) == [lidar]


@pytest.mark.parametrize(
    ("base", "address"),
    [
        (
            "https://copernicus-dem-30m.s3.amazonaws.com/",
            "https://copernicus-dem-30m.s3.amazonaws.com/Copernicus_DSM_COG_10_N47_00_E013_00_DEM/Copernicus_DSM_COG_10_N47_00_E013_00_DEM.tif",
        ),
        (
            "s3://copernicus-dem-90m",
            "s3://copernicus-dem-90m/Copernicus_DSM_COG_30_N47_00_E013_00_DEM/Copernicus_DSM_COG_30_N47_00_E013_00_DEM.tif",
        ),
        ("https://host/{name}.tif", "https://host/Copernicus_DSM_COG_10_N47_00_E013_00_DEM.tif"),
    ],
)
def test_addresses_of_tiles_follow_the_public_layout(base, address):
    assert tile_addresses(base, (13.2, 47.2, 13.8, 47.8)) == {(47, 13): address}


def test_tiles_that_are_sea_are_named_by_their_corner(tmp_path):
    corners = [(47, 13), (-1, -72), (0, 6)]
    assert [short_name(corner) for corner in corners] == ["N47E013", "S01W072", "N00E006"]
    assert sea_corners(["N47E013", "S01W072", "N00E006"]) == corners
    with pytest.raises(SceneError, match="'47N13E' is no tile of the elevation model"):
        sea_corners(["47N13E"])
    box = (12.3, 47.2, 13.8, 47.8)
    chosen = [dem_name((47, 12))]
    assert sea_tiles(chosen, box, True) == sea_tiles(chosen, box, [(47, 13), (50, 1)]) == [(47, 13)]
    assert sea_tiles(chosen, box, False) == []


def test_the_sea_lies_at_height_zero_of_the_geoid_and_land_keeps_its_gaps(tmp_path):
    land, geoid = tmp_path / dem_name((47, 12)), tmp_path / "egm08.tif"
    heights = np.full((100, 100), 500, np.float32)
    heights[40:60, 40:60] = np.nan
    # Pixel centres on the western and northern edge, as the Copernicus DEM has them.
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": "EPSG:4326", "nodata": np.nan}
    with rasterio.open(land, "w", height=100, width=100, transform=from_origin(12 - 0.005, 48 + 0.005, 0.01, 0.01), **profile) as raster:
        raster.write(heights, 1)
    with rasterio.open(geoid, "w", height=10, width=10, transform=from_origin(10, 50, 1, 1), **profile) as raster:
        raster.write(np.full((10, 10), 45, np.float32), 1)
    opened = open_dem([land], datum="EGM2008", geoid=geoid, sea=[(47, 13)])
    lon = np.linspace(12.2, 13.8, 161)  # 0.01 apart
    found = opened.heights(4326, lon, np.array([47.75, 47.5]))
    assert np.allclose(found[0, lon < 12.98], 545)
    assert np.allclose(found[0, lon > 13.001], 45)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1, (lon > 12.45) & (lon < 12.55)]).all()  # a gap in a tile that is there is no sea
    assert np.isnan(open_dem([land], datum="EGM2008", geoid=geoid).heights(4326, lon, np.array([47.75]))[0, lon > 13.01]).all()
    with pytest.raises(SceneError, match="heights above the ellipsoid, where the sea is not at 0"):
        open_dem([land], datum="ellipsoid", sea=[(47, 13)])


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
    chosen = choose_dem_tiles([str(shared_data / "worldcover_dem" / "Copernicus*.tif")], (6.45, 0.02, 6.76, 0.41))
    assert [path.rsplit("/", 1)[1] for path in chosen] == ["Copernicus_DSM_COG_10_N00_00_E006_00_DEM_crop.tif"]
    opened = open_dem(chosen, datum="ellipsoid")  # stated for this test only; its heights are above EGM2008
    heights = opened.heights(4326, np.array([6.6, 6.61]), np.array([0.25, 0.25]))
    assert np.isfinite(heights).all()
    assert 100 < heights.min() <= heights.max() < 2_100  # São Tomé rises to 2,024 m
