"""Terrain correction: where points land, against sarsen and an independent computation; heights and their datum; layover."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyproj
import pytest
import rasterio
from conftest import TILE, random_bands, run_steps, write_recipe, write_scene
from rasterio.transform import from_origin
from scipy.interpolate import KroghInterpolator
from scipy.optimize import brentq
from servers import FileServer, Served

from rsdata import steps
from rsdata.catalog import read_patches
from rsdata.errors import SceneError
from rsdata.recipe import load_recipe
from rsdata.records import PatchId, Sentinel2Scene, s1_patch_id
from rsdata.scenes import matches_in_time, open_sentinel1, open_sentinel2
from rsdata.scenes.dem import open_dem, open_geoid
from rsdata.scenes.grd import open_grd
from rsdata.scenes.grd_geometry import FIT_TOLERANCE_PX, LINE, SLANT_RANGE, fit_cell, ground_range, image_coordinates
from rsdata.scenes.grd_radiometry import calibrate
from rsdata.scenes.mosaic import dem_corners, dem_name
from rsdata.scenes.sentinel1 import CORRECTORS, Sentinel1Processing
from rsdata.scenes.terrain import LAYOVER, NO_HEIGHT, OUTSIDE, SHADOW, Ground, range_doppler
from rsdata.shards import open_shard
from rsdata.testing import write_s1_pair
from rsdata.testing.grd import GrdScene, write_grd_safe
from rsdata.workspace import Workspace, file_sha256

EPSG = 32633
START = datetime(2023, 6, 12, 5, 12, 34, tzinfo=UTC)
SCENE = GrdScene(12.5, 47.0, START, (900, 1000))
CENTRE = pyproj.Transformer.from_crs(4326, EPSG, always_xy=True).transform(12.5, 47.0)
CORNER = int(CENTRE[0] // 60 * 60) - 1800, int(CENTRE[1] // 60 * 60) + 1800
GROUND = Ground(EPSG, *CORNER, 360, 360)
GEOID_M = 48.6


def write_heights(
    path: Path, height_m: np.ndarray, crs: str | None = "EPSG:4326", west: float = 12.42, north: float = 47.06, step: float = 0.0002
) -> Path:
    transform = from_origin(west, north, step, step)
    rows, cols = height_m.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=rows, width=cols, count=1, dtype="float32", crs=crs, transform=transform, nodata=-9999
    ) as raster:
        raster.write(height_m.astype(np.float32), 1)
    return path


def write_geoid(path: Path, undulation_m: float = GEOID_M) -> Path:
    return write_heights(path, np.full((40, 40), undulation_m), west=0, north=60, step=1.0)


def hills(rows: int = 600, cols: int = 800) -> np.ndarray:
    """Gentle hills, metres: slopes below 10 degrees."""
    y, x = np.mgrid[:rows, :cols]
    return 400 + 40 * np.sin(x / 37) * np.cos(y / 41)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("terrain")


@pytest.fixture(scope="module")
def safe(folder: Path) -> Path:
    dn = {band: np.random.default_rng(seed).integers(100, 900, SCENE.shape_yx).astype(np.uint16) for seed, band in enumerate(("VV", "VH"))}
    return write_grd_safe(folder, SCENE, dn)


@pytest.fixture(scope="module")
def heights(folder: Path) -> Path:
    return write_heights(folder / "hills.tif", hills())


# --- where points land ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scalar:
    """Range-Doppler for one point at a time, from the XML alone: another orbit interpolation, another root finder."""

    root: ElementTree.Element

    def seconds(self, text: str) -> float:
        first = self.root.findtext("imageAnnotation/imageInformation/productFirstLineUtcTime")
        return (datetime.fromisoformat(text) - datetime.fromisoformat(first)).total_seconds()

    def __call__(self, lon: float, lat: float, height_m: float) -> tuple[float, float]:
        point = np.array(pyproj.Transformer.from_crs(4979, 4978, always_xy=True).transform(lon, lat, height_m))
        states = [each for each in self.root.iter("orbit") if -25 < self.seconds(each.findtext("time")) < 30]
        times = [self.seconds(each.findtext("time")) for each in states]
        places = [[float(each.findtext(f"position/{axis}")) for axis in "xyz"] for each in states]
        orbit = KroghInterpolator(times, places)
        time_s = brentq(lambda t: (point - orbit(t)) @ orbit.derivative(t), -5, 10, xtol=1e-12)
        slant_m = np.linalg.norm(point - orbit(time_s))
        records = list(self.root.find("coordinateConversion/coordinateConversionList"))
        nearest = min(records, key=lambda each: abs(self.seconds(each.findtext("azimuthTime")) - time_s))
        offset = slant_m - float(nearest.findtext("sr0"))
        ground_m = sum(float(factor) * offset**power for power, factor in enumerate(nearest.findtext("srgrCoefficients").split()))
        image = self.root.find("imageAnnotation/imageInformation")
        return time_s / float(image.findtext("azimuthTimeInterval")), ground_m / float(image.findtext("rangePixelSpacing"))


def scalar(safe: Path) -> Scalar:
    return Scalar(ElementTree.parse(next(safe.glob("annotation/*vv*.xml"))).getroot())


def bilinear(path: Path, lon: float, lat: float) -> float:
    """Height by hand."""
    with rasterio.open(path) as raster:
        values, transform = raster.read(1).astype(float), raster.transform
    col, row = (lon - transform.c) / transform.a - 0.5, (lat - transform.f) / transform.e - 0.5
    i, j = int(row), int(col)
    v, u = row - i, col - j
    return (1 - v) * ((1 - u) * values[i, j] + u * values[i, j + 1]) + v * ((1 - u) * values[i + 1, j] + u * values[i + 1, j + 1])


def test_a_corner_reflector_lands_where_it_stands_and_not_where_a_wrong_datum_puts_it(folder: Path, safe: Path):
    """One bright image pixel, at the place an independent computation gives for a point on the ground at its true height."""
    dem = write_heights(folder / "egm96.tif", hills(), crs="EPSG:9707")
    geoid = write_geoid(folder / "my_egm96.tif")
    to_lonlat = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    compute = scalar(safe)
    best = (9.0, 0, 0, 0.0, 0.0)
    for row in range(150, 170):
        for col in range(180, 200):
            lon, lat = to_lonlat.transform(CORNER[0] + 10 * col + 5, CORNER[1] - 10 * row - 5)
            line, pixel = compute(lon, lat, bilinear(dem, lon, lat) + GEOID_M)
            best = min(best, (max(abs(line - round(line)), abs(pixel - round(pixel))), row, col, line, pixel))
    off_px, row, col, line, pixel = best
    assert off_px < 0.1
    dn = np.full(SCENE.shape_yx, 100, np.uint16)
    dn[round(line), round(pixel)] = 60000
    product = open_grd(write_grd_safe(folder / "reflector", SCENE, {"VV": dn}))
    found = range_doppler(product, "VV", open_dem([dem], geoid=geoid), GROUND).power
    assert np.unravel_index(np.nanargmax(found), found.shape) == (row, col)
    # The same heights taken for ellipsoidal ones: 48.6 m too low, so 48.6 m / tan(38°) away, and the file says what it is.
    for wrong in ({"datum": "ellipsoid"}, {}):
        with pytest.raises(SceneError, match="EGM96"):
            open_dem([dem], **wrong)
    mute = write_heights(folder / "mute.tif", hills())
    with pytest.raises(SceneError, match="does not say what its heights are above"):
        open_dem([mute])
    wrong_db = range_doppler(product, "VV", open_dem([mute], datum="ellipsoid"), GROUND).power
    away = np.subtract(np.unravel_index(np.nanargmax(wrong_db), wrong_db.shape), (row, col))
    assert 50 < 10 * np.hypot(*away) < 75


def test_our_exact_solution_equals_the_scalar_one(safe: Path):
    compute, channel = scalar(safe), open_grd(safe).channel("VV")
    rng = np.random.default_rng(0)
    for lon, lat, height in zip(rng.uniform(12.46, 12.54, 20), rng.uniform(46.97, 47.03, 20), rng.uniform(-100, 3000, 20), strict=True):
        line, pixel = compute(lon, lat, height)
        found = image_coordinates(channel, np.array(lon), np.array(lat), np.array(height))
        assert float(found.line) == pytest.approx(line, abs=2e-3) and float(found.pixel) == pytest.approx(pixel, abs=2e-3)


def test_rome_lies_within_a_pixel_of_sarsen(shared_data: Path, folder: Path):
    """Real GRD and real elevation model, every height of it, brought to the ellipsoid by a geoid of 48.6 m."""
    pytest.importorskip("sarsen", reason="the extra s1 is not installed")
    import sarsen.apps
    import sarsen.orbit
    import xarray as xr
    from sarsen.scene import convert_to_dem_ecef

    s1 = shared_data / "s1_grd"
    path = next(s1.glob("S1B_IW_GRDH_*.SAFE"))
    with rasterio.open(s1 / "Rome-30m-DEM.tif") as raster:
        height_m = raster.read(1).astype(float) + GEOID_M
        x = raster.transform.c + (np.arange(360) + 0.5) * raster.transform.a
        y = raster.transform.f + (np.arange(360) + 0.5) * raster.transform.e
    dem = xr.DataArray(height_m[::-1], dims=("y", "x"), coords={"y": y[::-1], "x": x}).rio.write_crs(4326)
    whole = sarsen.Sentinel1SarProduct(str(path), "IW/VV")
    orbit = sarsen.orbit.OrbitPolyfitInterpolator.from_position(whole.state_vectors())
    seen = sarsen.apps.simulate_acquisition(convert_to_dem_ecef(dem).drop_vars("spatial_ref"), orbit)
    across = whole.slant_range_time_to_ground_range(seen.azimuth_time, seen.slant_range_time).transpose("y", "x").values[::-1]
    product = open_grd(path)
    channel = product.channel("VV")
    since_first = seen.azimuth_time.transpose("y", "x").values[::-1] - np.datetime64(channel.first_line.replace(tzinfo=None))
    times = since_first / np.timedelta64(1, "s")

    lon, lat = np.meshgrid(x, y)
    exact = image_coordinates(channel, lon, lat, height_m)
    assert np.abs(exact.line - times / channel.line_interval_s).max() < 0.2  # sarsen stops within a metre
    assert np.abs(exact.pixel - across / channel.pixel_spacing_m).max() < 0.05
    # The whole chain, geoid and elevation model included, on the tile's 10 m grid.
    geoid = write_geoid(folder / "rome_egm96.tif")
    to_lonlat = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    x_m, y_m = 290_000 + 10.0 * np.arange(300), 4_653_000 - 10.0 * np.arange(300)
    on_grid = open_dem([s1 / "Rome-30m-DEM.tif"], geoid=geoid).heights(EPSG, x_m, y_m)
    cell = fit_cell(channel, to_lonlat.transform, (291_495.0, 4_651_505.0), 1495.0, (float(on_grid.min()), float(on_grid.max())))
    line = cell.evaluate(LINE, x_m, y_m, on_grid)
    pixel = cell.pixel(line, cell.evaluate(SLANT_RANGE, x_m, y_m, on_grid))
    truth = image_coordinates(channel, *to_lonlat.transform(*np.meshgrid(x_m, y_m)), on_grid)
    assert np.abs(line - truth.line).max() < FIT_TOLERANCE_PX and np.abs(pixel - truth.pixel).max() < FIT_TOLERANCE_PX
    at_nodes = [map_to(on_grid, pyproj.Transformer.from_crs(4326, EPSG, always_xy=True).transform(lon, lat), x_m, y_m)]
    inside = np.isfinite(at_nodes[0])
    assert inside.sum() > 5000 and np.abs(at_nodes[0] - height_m)[inside].max() < 12  # the same terrain, a few metres of slope


def map_to(values: np.ndarray, places: tuple[np.ndarray, np.ndarray], x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    col, row = np.rint((places[0] - x_m[0]) / 10).astype(int), np.rint((y_m[0] - places[1]) / 10).astype(int)
    inside = (col >= 0) & (col < len(x_m)) & (row >= 0) & (row < len(y_m))
    found = np.full(col.shape, np.nan)
    found[inside] = values[row[inside], col[inside]]
    return found


# --- the correctors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CORRECTORS))
class TestTerrainCorrector:
    """What every corrector is held to."""

    @pytest.fixture(autouse=True)
    def _installed(self, name: str):
        if name == "sarsen":
            pytest.importorskip("sarsen", reason="the extra s1 is not installed")

    def test_power_is_that_of_the_image_where_the_ground_lies_in_it(self, name: str, safe: Path, heights: Path):
        product, dem = open_grd(safe), open_dem([heights], datum="ellipsoid")
        ground = Ground(EPSG, CORNER[0] + 900, CORNER[1] - 900, 60, 60)
        found = CORRECTORS[name](product, "VV", dem, ground, quantity="gamma0")
        x, y = np.meshgrid(ground.ul_x_m + 10 * np.arange(60) + 5, ground.ul_y_m - 10 * np.arange(60) - 5)
        height_m = dem.heights(EPSG, x[0].astype(float), y[:, 0].astype(float))
        at = image_coordinates(product.channel("VV"), *pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True).transform(x, y), height_m)
        with product.open_pixels("VV") as raster:
            image = calibrate(raster.read(1), product.channel("VV"), "gamma0", 0, 0)
        i, j = at.line.astype(int), at.pixel.astype(int)
        v, u = at.line - i, at.pixel - j
        expected = (1 - v) * ((1 - u) * image[i, j] + u * image[i, j + 1]) + v * ((1 - u) * image[i + 1, j] + u * image[i + 1, j + 1])
        assert found.power.dtype == np.float32 and not found.mask.any()
        np.testing.assert_allclose(found.power, expected, rtol=0.02, atol=0.01 * expected.mean())
        assert np.median(np.abs(found.power / expected - 1)) < 1e-3

    def test_outside_the_image_and_without_height_nothing_is_made_up(self, name: str, safe: Path, folder: Path):
        holed = hills()
        holed[270:300, 380:410] = -9999
        dem = open_dem([write_heights(folder / "holed.tif", holed)], datum="ellipsoid")
        wide = Ground(EPSG, CORNER[0] - 4800, CORNER[1] - 600, 120, 600)
        found = CORRECTORS[name](open_grd(safe), "VV", dem, wide)
        assert {0, OUTSIDE, NO_HEIGHT} == set(np.unique(found.mask))
        np.testing.assert_array_equal(np.isnan(found.power), found.mask != 0)

    def test_a_missing_height_everywhere_leaves_nothing(self, name: str, safe: Path, folder: Path):
        far = open_dem([write_heights(folder / "far.tif", hills(), west=20.0)], datum="ellipsoid")
        found = CORRECTORS[name](open_grd(safe), "VV", far, Ground(EPSG, *CORNER, 30, 30))
        assert np.isnan(found.power).all() and (found.mask == NO_HEIGHT).all()


def test_the_result_depends_neither_on_threads_nor_on_what_is_read_at_once_nor_on_the_window(safe: Path, heights: Path):
    product, dem = open_grd(safe), open_dem([heights], datum="ellipsoid")
    whole = range_doppler(product, "VV", dem, GROUND)
    np.testing.assert_array_equal(range_doppler(product, "VV", dem, GROUND, threads=3, cell_rows=4).power, whole.power)
    part = range_doppler(product, "VV", dem, Ground(EPSG, CORNER[0] + 770, CORNER[1] - 1230, 150, 101))
    np.testing.assert_allclose(part.power, whole.power[123:273, 77:178], rtol=1e-6)


def test_only_sarsen_flattens(safe: Path, heights: Path):
    with pytest.raises(SceneError, match="name the corrector sarsen"):
        range_doppler(open_grd(safe), "VV", open_dem([heights], datum="ellipsoid"), GROUND, flatten=True)


def test_flattened_flat_ground_is_beta_times_the_tangent_of_incidence(folder: Path):
    """On a plane the illuminated area per slant range and azimuth is the cotangent of the incidence angle (Small 2011)."""
    pytest.importorskip("sarsen", reason="the extra s1 is not installed")
    product = open_grd(write_grd_safe(folder / "even", SCENE, {"VV": np.full(SCENE.shape_yx, 400, np.uint16)}, noise_dn2=0))
    dem = open_dem([write_heights(folder / "plane.tif", np.full((600, 800), 300.0))], datum="ellipsoid")
    ground = Ground(EPSG, CORNER[0] + 900, CORNER[1] - 900, 100, 100)
    flat = CORRECTORS["sarsen"](product, "VV", dem, ground, flatten=True).power
    beta0 = 400**2 / (0.72 * 600) ** 2
    incidence_deg = np.degrees(np.arctan(np.median(flat) / beta0))
    # Off nadir 33 degrees from 7071 km: sin(i) = 7071 / 6367 * sin(33°), i = 37.2°
    assert incidence_deg == pytest.approx(37.2, abs=0.7)


# --- heights ----------------------------------------------------------------------------------------------


def test_heights_above_a_geoid_become_heights_above_the_ellipsoid(folder: Path):
    dem = write_heights(folder / "datum.tif", hills(), crs="EPSG:9707")
    geoid = write_geoid(folder / "egm96_a.tif")
    x_m, y_m = CORNER[0] + 10.0 * np.arange(50), CORNER[1] - 10.0 * np.arange(50)
    above = open_dem([dem], geoid=geoid).heights(EPSG, x_m, y_m)
    mute = write_heights(folder / "undated.tif", hills())
    np.testing.assert_allclose(above - open_dem([mute], datum="ellipsoid").heights(EPSG, x_m, y_m), GEOID_M, atol=1e-3)
    np.testing.assert_array_equal(above, open_dem([mute], datum="EGM96", geoid=geoid).heights(EPSG, x_m, y_m))
    lon, lat = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True).transform(x_m[20], y_m[31])
    assert above[31, 20] == pytest.approx(bilinear(dem, lon, lat) + GEOID_M, abs=2e-3)


def test_datum_and_geoid_must_belong_together(folder: Path):
    egm96 = write_heights(folder / "egm96_b.tif", hills(), crs="EPSG:9707")
    mute = write_heights(folder / "mute_b.tif", hills())
    other = write_geoid(folder / "us_nga_egm08_25.tif")
    for arguments, message in (
        ({"paths": [egm96], "geoid": other}, "is the geoid EGM2008, and .* is above EGM96"),
        ({"paths": [egm96], "datum": "EGM2008", "geoid": other}, "says its heights are above EGM96, and EGM2008 was stated"),
        ({"paths": [mute], "datum": "EGM2008"}, "give the grid of that geoid"),
        ({"paths": [mute], "datum": "ellipsoid", "geoid": other}, "drop the geoid"),
        ({"paths": [egm96, mute], "datum": None}, "does not say what its heights are above"),
        ({"paths": []}, "no elevation model"),
        ({"paths": [folder / "none.tif"]}, "cannot be opened"),
    ):
        with pytest.raises(SceneError, match=message):
            open_dem(**arguments)
    with pytest.raises(SceneError, match="a geoid lies within 120 m of the ellipsoid"):
        open_geoid(mute)


def test_three_dimensional_heights_are_ellipsoidal_by_themselves(folder: Path):
    assert open_dem([write_heights(folder / "3d.tif", hills(), crs="EPSG:4979")]).datum == "ellipsoid"
    assert open_dem([write_heights(folder / "egm08.tif", hills(), crs="EPSG:9518")], geoid=write_geoid(folder / "g.tif")).datum == "EGM2008"


def test_tiles_of_a_model_join_without_a_seam(folder: Path):
    whole = hills()
    x_m, y_m = CORNER[0] + 10.0 * np.arange(360), CORNER[1] - 10.0 * np.arange(360)
    expected = open_dem([write_heights(folder / "whole.tif", whole)], datum="ellipsoid").heights(EPSG, x_m, y_m)
    tiles = folder / "tiles"
    tiles.mkdir()
    write_heights(tiles / "a.tif", whole[:300, :400])
    write_heights(tiles / "b.tif", whole[:300, 400:], west=12.42 + 400 * 0.0002)
    write_heights(tiles / "c.tif", whole[300:], north=47.06 - 300 * 0.0002)
    np.testing.assert_allclose(open_dem([tiles], datum="ellipsoid").heights(EPSG, x_m, y_m), expected, atol=1e-3)
    # As the Copernicus DEM does at 50 degrees: columns twice as wide from some latitude on.
    coarse = write_heights(folder / "coarse.tif", whole[300:, ::2], north=47.06 - 300 * 0.0002)
    with rasterio.open(coarse, "r+") as raster:
        raster.transform = rasterio.Affine(0.0004, 0, 12.42, 0, -0.0002, 47.06 - 300 * 0.0002)
    mixed = open_dem([tiles / "a.tif", tiles / "b.tif", coarse], datum="ellipsoid").heights(EPSG, x_m, y_m)
    assert np.isfinite(mixed).all() and np.abs(mixed - expected).max() < 4


def test_a_geoid_goes_round_the_globe(folder: Path):
    around = np.broadcast_to(np.arange(360.0) / 4, (180, 360))
    geoid = open_geoid(write_heights(folder / "globe.tif", around, west=0, north=90, step=1.0))
    np.testing.assert_allclose(geoid.at(np.array([0.5, -0.5, 359.5, 180.0]), np.zeros(4)), [0, 89.75, 89.75, 44.875])
    assert geoid.at(np.array([0.0]), np.array([0.0]))[0] == pytest.approx(44.875)  # between column 359 and column 0


# --- layover and shadow -----------------------------------------------------------------------------------


def test_a_steep_ridge_lies_over_towards_the_satellite_and_casts_shadow_away_from_it(folder: Path, safe: Path):
    """A ridge along the flight path, 300 m high with slopes of 60 degrees; the satellite stands in the east."""
    x = np.arange(800)
    width_m = 0.0002 * 111_320 * np.cos(np.radians(47))
    ridge = np.clip(300 - np.abs(x - 400) * width_m * np.tan(np.radians(60)), 0, None)
    dem = open_dem([write_heights(folder / "ridge.tif", np.broadcast_to(ridge, (600, 800)))], datum="ellipsoid")
    ground = Ground(EPSG, CORNER[0], CORNER[1] - 1500, 60, 360)
    found = range_doppler(open_grd(safe), "VV", dem, ground)
    crest_x = pyproj.Transformer.from_crs(4326, EPSG, always_xy=True).transform(12.42 + 400.5 * 0.0002, 47.0)[0]
    crest = int((crest_x - ground.ul_x_m) // 10)
    row = found.mask[30]
    # Half-width 300 / tan 60° = 173 m. Layover reaches 300 / tan 37° = 400 m from the crest to the east, shadow as far as
    # 300 tan 37° = 230 m to the west.
    east, west = row[crest + 3 : crest + 15], row[crest - 15 : crest - 3]
    assert (east & LAYOVER).all() and not (east & SHADOW).any()
    assert (west & SHADOW).all()
    assert not row[crest + 60 :].any() and not row[: crest - 60].any()
    reach_east, reach_west = np.flatnonzero(row & LAYOVER).max() - crest, crest - np.flatnonzero(row & SHADOW).min()
    assert 34 <= reach_east <= 46 and 18 <= reach_west <= 26
    np.testing.assert_array_equal(np.isnan(found.power), found.mask != 0)


def test_gentle_hills_hide_nothing(safe: Path, heights: Path):
    assert not range_doppler(open_grd(safe), "VV", open_dem([heights], datum="ellipsoid"), GROUND).mask.any()


# --- as a scene -------------------------------------------------------------------------------------------


def test_a_grd_reads_like_any_other_scene(safe: Path, heights: Path):
    product = open_sentinel1(safe, Sentinel1Processing(dem=(str(heights),), dem_datum="ellipsoid"))
    assert product.scene.scene_id == "S1A_IW_GRDH_1SDV_20230612T051234" and product.scene.orbit_direction == "DESCENDING"
    db = product.read("VH", epsg=EPSG, ul_x_m=CORNER[0], ul_y_m=CORNER[1], width_m=1200, height_m=600)
    assert db.shape == (60, 120) and db.dtype == np.float32 and np.isfinite(db).all()
    power = range_doppler(product.grd, "VH", product.dem, Ground(EPSG, *CORNER, 60, 120)).power
    np.testing.assert_allclose(db, 10 * np.log10(power), atol=1e-4)


def test_a_grd_without_an_elevation_model_says_what_it_needs(safe: Path):
    with pytest.raises(SceneError, match="name an elevation model"):
        open_sentinel1(safe).read("VV", epsg=EPSG, ul_x_m=CORNER[0], ul_y_m=CORNER[1], width_m=60, height_m=60)


def test_a_grd_is_paired_by_its_outline(safe: Path, tmp_path: Path):
    s1 = open_sentinel1(safe).scene
    s2 = open_sentinel2(write_scene(tmp_path, random_bands(), sensing=START + timedelta(hours=5))).scene
    assert matches_in_time(s2, [s1], 24) == []  # tile 33UUP's corner is a hundred kilometres away
    over = s2.model_dump() | {"ul_x_m": CORNER[0], "ul_y_m": CORNER[1], "width_m": 2400, "height_m": 2400}
    [(match, gap_h)] = matches_in_time(Sentinel2Scene.model_validate(over), [s1], 24)
    assert match == s1 and gap_h == pytest.approx(-5, abs=0.01)


def test_ground_range_of_the_conversions_first_time_is_its_polynomial(safe: Path):
    conversion = open_grd(safe).channel("VV").conversion
    slant_m = conversion.sr0_m[:1] + 5000
    expected = np.polynomial.polynomial.polyval(5000, conversion.srgr[0])
    assert ground_range(conversion, conversion.time_s[:1], slant_m)[0] == pytest.approx(expected, abs=1e-6)


def test_a_recipe_over_raw_grd_builds_patches_with_backscatter(built, tmp_path: Path):
    """Sentinel-2 of two by two patches, a GRD around it and an elevation model above EGM96: from SAFE to shard."""
    corner = {"ul_x_m": TILE.ul_x_m + 9600, "ul_y_m": TILE.ul_y_m - 48_000}
    write_scene(tmp_path / "scenes", random_bands(), **corner)
    lon, lat = pyproj.Transformer.from_crs(TILE.epsg, 4326, always_xy=True).transform(corner["ul_x_m"] + 1200, corner["ul_y_m"] - 1200)
    scene = GrdScene(lon, lat, START, (900, 1000), heading_deg=347)
    dn = {band: np.random.default_rng(seed).integers(100, 900, scene.shape_yx).astype(np.uint16) for seed, band in enumerate(("VV", "VH"))}
    grd = write_grd_safe(tmp_path / "s1", scene, dn)
    write_heights(tmp_path / "dem.tif", hills(), crs="EPSG:9707", west=lon - 0.08, north=lat + 0.06)
    write_geoid(tmp_path / "egm96.tif")
    said = {"sentinel2": ["scenes/*.SAFE"], "sentinel1": ["s1/*"], "dem": ["dem.tif"], "backscatter": "gamma0"}
    content = {
        "name": "raw",
        "scenes": said | {"geoid": "egm96.tif"},
        "labels": {"path": str(built.inputs / "corine.gpkg"), "max_unlabeled_fraction": 1.0},
    }
    recipe = write_recipe(tmp_path, content)
    workspace, _ = run_steps(recipe, tmp_path / "out")
    table = read_patches(workspace.patches)
    kept = table[table["kept"]]
    assert len(kept) and set(kept["s1_product"]) == {grd.name.removesuffix(".SAFE")}
    product, dem = open_grd(grd), open_dem([tmp_path / "dem.tif"], geoid=tmp_path / "egm96.tif")
    expected = range_doppler(product, "VV", dem, Ground(TILE.epsg, *corner.values(), 240, 240), quantity="gamma0").power
    with open_shard(workspace.shards("lmdb")) as shard:
        for row in kept.itertuples():
            y, x = (row.row - 40) * 120, (row.col - 8) * 120
            stored = shard.read(s1_patch_id(row.s1_product[:32], PatchId.parse(row.patch_id)))["VV"]
            np.testing.assert_allclose(stored, 10 * np.log10(expected[y : y + 120, x : x + 120]), atol=1e-3)
    # Another way to process, or another geoid, redoes the scene's pixels; the same again does nothing.
    assert all(outcome.skipped for outcome in run_steps(recipe, tmp_path / "out")[1])
    write_geoid(tmp_path / "egm96.tif", 40.25)
    redone = {outcome.receipt.stage for outcome in run_steps(recipe, tmp_path / "out")[1] if not outcome.skipped}
    assert "quality" in redone and "scenes" not in redone


def test_grd_and_tiles_of_heights_behind_urls_give_what_they_give_from_the_disk(built, tmp_path: Path):
    pytest.importorskip("httpx")
    corner = {"ul_x_m": TILE.ul_x_m + 9600, "ul_y_m": TILE.ul_y_m - 48_000}
    write_scene(tmp_path / "scenes", random_bands(), **corner)
    lon, lat = pyproj.Transformer.from_crs(TILE.epsg, 4326, always_xy=True).transform(corner["ul_x_m"] + 1200, corner["ul_y_m"] - 1200)
    scene = GrdScene(lon, lat, START, (900, 1000), heading_deg=347)
    dn = {band: np.random.default_rng(seed).integers(100, 900, scene.shape_yx).astype(np.uint16) for seed, band in enumerate(("VV", "VH"))}
    grd = write_grd_safe(tmp_path / "s1", scene, dn)
    bounds = (lon - 0.2, lat - 0.2, lon + 0.2, lat + 0.2)
    tiles = {
        dem_name(each): write_heights(
            tmp_path / "dem" / dem_name(each), hills(120, 120), crs="EPSG:4326+3855", west=each[1], north=each[0] + 1, step=1 / 120
        )
        for each in dem_corners(*bounds)
        if (tmp_path / "dem").mkdir(exist_ok=True) is None
    }
    write_geoid(tmp_path / "egm08.tif")
    archive = Path(shutil.make_archive(str(tmp_path / grd.stem), "zip", grd.parent, grd.name))

    def build(name: str, sentinel1: str, dem: str) -> str:
        said = {"sentinel2": ["scenes/*.SAFE"], "sentinel1": [sentinel1], "dem": [dem], "geoid": "egm08.tif"}
        labels = {"path": str(built.inputs / "corine.gpkg"), "max_unlabeled_fraction": 1.0}
        recipe = write_recipe(tmp_path, {"name": "raw", "scenes": said, "labels": labels})
        workspace = Workspace.create(tmp_path / name)
        steps.fetch_inputs(load_recipe(recipe), workspace)
        run_steps(recipe, workspace.root)
        table = read_patches(workspace.patches)
        assert set(table.loc[table["kept"], "s1_product"]) == {grd.name.removesuffix(".SAFE")}
        return file_sha256(workspace.shards("lmdb") / "data.mdb")

    with FileServer() as server:
        server.files[f"/{archive.name}"] = Served(archive.read_bytes())
        for name, path in tiles.items():
            server.files[f"/tiles/{path.stem}/{name}"] = Served(path.read_bytes())
        far = build("far", f"{server.url}/{archive.name}", f"{server.url}/tiles/")
        asked = {each.path for each in server.log if "/tiles/" in each.path}
    assert len(asked) == 1  # of the tiles around, only the one under the scene
    assert far == build("near", "s1/*.SAFE", "dem/*.tif")


def test_linear_power_that_is_declared_becomes_decibel(tmp_path: Path):
    name = "S1A_IW_GRDH_1SDV_20230612T051234_20230612T051259_048951_05E2F1_A1B2"
    power = np.full((120, 120), 0.05, np.float32)
    power[0, 0] = 0  # what processors write where they have nothing
    folder = write_s1_pair(tmp_path, product_name=name, tile=TILE, vv=power, vh=-power)
    where = {"epsg": TILE.epsg, "ul_x_m": TILE.ul_x_m, "ul_y_m": TILE.ul_y_m, "width_m": 1200, "height_m": 1200}
    product = open_sentinel1(folder, Sentinel1Processing(unit="linear"))
    db = product.read("VV", **where)
    assert np.isnan(db[0, 0]) and db[5, 5] == pytest.approx(-13.0103, abs=1e-4)
    with pytest.raises(SceneError, match="say `sentinel1_unit: db`"):
        product.read("VH", **where)
    assert open_sentinel1(folder).read("VV", **where)[5, 5] == np.float32(0.05)
