"""Sentinel-1 GRD: metadata of real and synthetic products, calibration, thermal noise, border, and what is refused."""

import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rsdata.errors import SceneError
from rsdata.scenes.grd import GrdProduct, open_grd
from rsdata.scenes.grd_geometry import image_coordinates
from rsdata.scenes.grd_radiometry import FLOOR_POWER, calibrate, find_border, interpolate_table, noise_power, to_db
from rsdata.testing.grd import GrdScene, write_grd_safe

VV_XML = "annotation/*vv*.xml"
SCENE = GrdScene(12.5, 47.0, datetime(2023, 6, 12, 5, 12, 34, tzinfo=UTC), (300, 400))


def random_dn(shape_yx: tuple[int, int] = SCENE.shape_yx, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 900, shape_yx).astype(np.uint16)


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grd_safe(tmp_path_factory.mktemp("grd"), SCENE, {"VV": random_dn(), "VH": random_dn(seed=1)})


@pytest.fixture(scope="module")
def rome(shared_data: Path) -> Path:
    return next((shared_data / "s1_grd").glob("S1B_IW_GRDH_*.SAFE"))


@pytest.fixture(scope="module")
def rome_grd(rome: Path) -> GrdProduct:
    return open_grd(rome)


# --- metadata ---------------------------------------------------------------------------------------------


def test_the_rome_product_says_what_its_xml_says(rome_grd: GrdProduct):
    channel = rome_grd.channel("VV")
    assert (rome_grd.mission, rome_grd.mode, rome_grd.orbit_direction, rome_grd.ipf_version) == ("S1B", "IW", "DESCENDING", 3.40)
    assert channel.shape_yx == (16705, 26102)
    assert channel.first_line == datetime(2021, 12, 23, 5, 11, 22, 594441, tzinfo=UTC)
    assert len(channel.orbit.time_s) == 16 and len(channel.conversion.time_s) == 28 and len(channel.grid.line) == 210
    assert channel.orbit.time_s[0] == pytest.approx(-61.565141, abs=1e-6)  # 05:10:21.029300
    assert channel.noise.schema == "noiseRangeVectorList" and [part.first_pixel for part in channel.noise.along_azimuth] == [0, 8890, 17701]
    assert channel.calibration["sigmaNought"].value[0][0] == 663.8558


def test_the_2015_product_has_the_old_noise_schema_and_no_noise_in_it(shared_data: Path):
    archive = next((shared_data / "s1_grd" / "annotation_only").glob("*.zip"))
    product = open_grd(archive)
    assert sorted(product.channels) == ["VH", "VV"] and product.ipf_version == 2.36
    noise = product.channel("VV").noise
    assert noise.schema == "noiseVectorList" and noise.along_azimuth == () and not noise.known
    with pytest.raises(SceneError, match="has no pixels for VV"), product.open_pixels("VV"):
        pass


def test_the_outline_follows_the_geolocation_grid(rome_grd: GrdProduct):
    outline = rome_grd.footprint_lonlat()
    assert outline.shape[1] == 2 and (outline[0] == outline[-1]).all()
    # Corners as manifest.safe states them, latitude first: 40.876698,14.925448 41.281048,11.865704 42.780445,12.189661 42.376778,15.321935
    for lat, lon in ((40.876698, 14.925448), (41.281048, 11.865704), (42.780445, 12.189661), (42.376778, 15.321935)):
        assert np.abs(outline - [lon, lat]).max(axis=1).min() < 0.02


def test_the_geolocation_grid_lies_where_the_product_says(rome_grd: GrdProduct):
    channel = rome_grd.channel("VV")
    found = image_coordinates(channel, channel.grid.lon_deg, channel.grid.lat_deg, channel.grid.height_m)
    assert np.abs(found.line - channel.grid.line).max() < 0.5
    assert np.abs(found.pixel - channel.grid.pixel).max() < 1


def test_a_zip_reads_like_the_folder_it_was_made_from(safe: Path, tmp_path: Path):
    archive = tmp_path / f"{safe.name}.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted(safe.rglob("*")):
            made.write(path, path.relative_to(safe.parent))
    folder, zipped = open_grd(safe), open_grd(archive)
    assert zipped.name == folder.name == safe.name.removesuffix(".SAFE")
    np.testing.assert_array_equal(zipped.channel("VH").orbit.position_m, folder.channel("VH").orbit.position_m)
    with folder.open_pixels("VV") as one, zipped.open_pixels("VV") as other:
        np.testing.assert_array_equal(one.read(1), other.read(1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda safe: next(safe.glob("annotation/calibration/calibration-*-vh-*")).unlink(), "lacks the calibration XML for VH"),
        (lambda safe: next(safe.glob("annotation/calibration/noise-*-vv-*")).unlink(), "lacks the noise XML for VV"),
        (
            lambda safe: rewrite(safe, VV_XML, "<productType>GRD", "<productType>SLC"),
            "a Sentinel-1 SLC product; expected GRD",
        ),
        (
            lambda safe: rewrite(safe, VV_XML, "<numberOfLines>300", "<numberOfLines>301"),
            r"its annotation says \(301, 400\)",
        ),
        (
            lambda safe: rewrite(safe, VV_XML, "<azimuthTimeInterval>", "<azimuthTimeInterval>x"),
            "where numbers are expected",
        ),
        (lambda safe: rewrite(safe, "manifest.safe", "Sentinel-1 IPF", "other"), "names no version of the Sentinel-1 IPF"),
        (lambda safe: rewrite(safe, VV_XML, "</product>", ""), "not well-formed XML"),
        (lambda safe: rewrite(safe, VV_XML, "<product>", '<!DOCTYPE x [<!ENTITY a "b">]><product>'), "not well-formed XML"),
    ],
)
def test_a_damaged_product_is_refused_in_one_sentence(safe: Path, tmp_path: Path, damage, message: str):
    copy = Path(shutil.copytree(safe, tmp_path / safe.name))
    damage(copy)
    with pytest.raises(SceneError, match=message), open_grd(copy).open_pixels("VV"):
        pass


def test_an_slc_is_refused_by_its_name(safe: Path, tmp_path: Path):
    slc = Path(shutil.copytree(safe, tmp_path / "S1B_IW_SLC__1SDV_20210401T052624_20210401T052650_026269_032297_EFA4.SAFE"))
    with pytest.raises(SceneError, match="is a Sentinel-1 SLC product; expected GRD"):
        open_grd(slc)


def rewrite(safe: Path, pattern: str, old: str, new: str) -> None:
    for path in safe.glob(pattern):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def test_a_polarisation_that_is_not_there_is_named(rome_grd: GrdProduct):
    with pytest.raises(SceneError, match="holds VV, not VH"):
        rome_grd.channel("VH")


# --- radiometry -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quantity", "table"), [("sigma0", "sigmaNought"), ("gamma0", "gamma"), ("beta0", "betaNought")])
def test_calibration_equals_that_of_xarray_sentinel(rome: Path, rome_grd: GrdProduct, quantity, table: str):
    library = pytest.importorskip("xarray_sentinel", reason="the extra s1 is not installed")
    xr = pytest.importorskip("xarray")
    factors = xr.open_dataset(rome, engine="sentinel-1", group="IW/VV/calibration")[table]
    dn = np.random.default_rng(0).integers(1, 3000, (700, 900)).astype(np.uint16)
    planted = xr.DataArray(
        dn.astype(float), dims=("line", "pixel"), coords={"line": 5000 + np.arange(700), "pixel": 12000 + np.arange(900)}
    )
    expected = library.calibrate_intensity(planted, factors).values
    found = calibrate(dn, rome_grd.channel("VV"), quantity, 5000, 12000, remove_noise=False)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_table_is_bilinear_between_its_vectors(rome_grd: GrdProduct):
    table = rome_grd.channel("VV").calibration["sigmaNought"]
    between = interpolate_table(table, np.array([334.0]), np.array([20.0]))[0, 0]
    corners = [table.value[line][pixel] for line in (0, 1) for pixel in (0, 1)]  # lines 0 and 668, pixels 0 and 40
    assert between == pytest.approx(np.mean(corners), rel=1e-12)
    assert interpolate_table(table, np.array([-50.0]), np.array([-3.0]))[0, 0] == table.value[0][0]


def test_noise_along_azimuth_multiplies_noise_along_range(rome_grd: GrdProduct):
    noise = rome_grd.channel("VV").noise
    found = noise_power(noise, np.array([0]), np.array([0, 40, 8890]))
    along = noise.along_range.value[0]
    assert found[0, 0] == pytest.approx(along[0] * 1.091791) and found[0, 1] == pytest.approx(along[1] * 1.091791)
    swath_2 = np.interp(8890, noise.along_range.pixel[0], along) * noise.along_azimuth[1].value[0]
    assert found[0, 2] == pytest.approx(swath_2)


@pytest.mark.parametrize("schema", ["noiseRangeVectorList", "noiseVectorList"])
def test_noise_is_taken_off_before_dividing(tmp_path: Path, schema: str):
    product = open_grd(write_grd_safe(tmp_path, SCENE, {"VV": random_dn()}, noise_schema=schema, ipf_version="002.84"))
    channel = product.channel("VV")
    assert channel.noise.schema == schema
    dn = np.full((2, 3), 30, np.uint16)
    found = calibrate(dn, channel, "sigma0", 0, 0)
    # At the first line and pixel A is 600 and noise 400, times 1 + 0.1 cos(0) in the new schema.
    assert found[0, 0] == pytest.approx((900 - 400 * (1.1 if schema == "noiseRangeVectorList" else 1)) / 600**2, rel=1e-6)


def test_noise_that_the_processor_took_off_is_not_taken_off_again(tmp_path: Path):
    channel = open_grd(write_grd_safe(tmp_path, SCENE, {"VV": random_dn()}, noise_removed=True)).channel("VV")
    assert calibrate(np.full((1, 1), 30, np.uint16), channel, "sigma0", 0, 0)[0, 0] == pytest.approx(900 / 600**2, rel=1e-6)


def test_noise_of_the_first_processors_is_scaled(tmp_path: Path):
    product = open_grd(
        write_grd_safe(tmp_path, SCENE, {"VV": random_dn()}, noise_schema="noiseVectorList", ipf_version="002.36", noise_dn2=4e-8)
    )
    # 75088.7 for IW, times dn = 0.61 * 600 squared
    assert noise_power(product.channel("VV").noise, np.array([0]), np.array([0]))[0, 0] == pytest.approx(4e-8 * 75088.7 * 366**2, rel=1e-9)


def test_blocks_calibrate_like_the_whole(safe: Path):
    channel = open_grd(safe).channel("VV")
    dn = random_dn()
    whole = calibrate(dn, channel, "gamma0", 0, 0)
    np.testing.assert_array_equal(calibrate(dn[100:170, 33:250], channel, "gamma0", 100, 33), whole[100:170, 33:250])


def test_zero_is_no_data_and_decibel_has_a_floor():
    power = np.array([[1.0, 0.01, 1e-9, -0.3, np.nan]], np.float32)
    np.testing.assert_allclose(to_db(power), [[0, -20, -40, -40, np.nan]], rtol=1e-6)
    assert FLOOR_POWER == 1e-4 and to_db(power).dtype == np.float32


def test_border_noise_is_masked_from_the_edge_inward_and_nowhere_else(tmp_path: Path):
    dn = random_dn()
    dn[:, :25] = 6  # what early processors left at near range
    dn[:, -40:] = 3
    dn[:12] = 5
    dn[150:160, 150:170] = 2  # calm water inside the scene
    dn[200, 10] = 90  # one bright speck does not end the border
    product = open_grd(write_grd_safe(tmp_path, SCENE, {"VV": dn}, ipf_version="002.72", noise_schema="noiseVectorList", noise_dn2=0))
    with product.open_pixels("VV") as raster:
        border = find_border(raster, strip=64)
    assert np.abs(border.left[20:150] - 25).max() <= 5 and np.abs(border.right[20:] - 360).max() <= 5
    assert np.abs(border.top[40:340] - 12).max() <= 5 and (border.bottom[40:340] == 300).all()
    power = calibrate(dn, product.channel("VV"), "sigma0", 0, 0, border=border)
    assert np.isnan(power[200, 2:19]).all() and np.isfinite(power[150:160, 150:170]).all()


def test_decimated_real_pixels_come_out_in_the_plausible_range(tmp_path: Path, shared_data: Path):
    """Real DN without their calibration XML: sigma0 is taken with A between 600 and 540, as in the products at hand.

    The overview was made by averaging, so speckle is low; only medians and the bulk are judged.
    """
    rasters = {
        band: rasterio.open(next((shared_data / "s1_grd" / "decimated_real_pixels").glob(f"*/measurement/iw-{band.lower()}.tiff"))).read(1)
        for band in ("VV", "VH")
    }
    scene = GrdScene(76.9, 10.2, datetime(2018, 7, 16, 0, 40, 42, tzinfo=UTC), rasters["VV"].shape)
    product = open_grd(write_grd_safe(tmp_path, scene, rasters, noise_dn2=300.0))
    share = {}
    for band, low, high in (("VV", -25, 5), ("VH", -30, 0)):
        db = to_db(calibrate(rasters[band], product.channel(band), "sigma0", 0, 0))
        known = db[np.isfinite(db)]
        share[band] = ((known > low) & (known < high)).mean()
        assert (np.isnan(db) == (rasters[band] == 0)).all()
        assert low + 5 < np.median(known) < high - 5
    assert share["VV"] > 0.99 and share["VH"] > 0.97
