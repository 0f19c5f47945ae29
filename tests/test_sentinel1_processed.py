"""Sentinel-1 that was terrain corrected elsewhere: its layouts, its unit, its grid."""

import json
import os
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from conftest import SENSING, TILE, random_bands, run_steps, write_recipe, write_scene
from rasterio.warp import Resampling, reproject
from scipy.ndimage import map_coordinates
from servers import FileServer, Served
from typer.testing import CliRunner

from rsdata import steps
from rsdata.__main__ import app
from rsdata.catalog import read_patches
from rsdata.errors import SceneError
from rsdata.recipe import load_recipe
from rsdata.records import PatchId, s1_patch_id
from rsdata.scenes import expand, matches_in_time, open_sentinel1, open_sentinel2
from rsdata.scenes.sentinel1 import Sentinel1Processing, describe_sentinel1
from rsdata.scenes.sentinel1_rasters import Place
from rsdata.scenes.sentinel1_resample import resample_power
from rsdata.scenes.terrain import Ground
from rsdata.shards import open_shard
from rsdata.testing.sentinel1 import write_s1_pair
from rsdata.testing.sentinel1_processed import dimap_header, write_dim, write_hyp3, write_item, write_tiff, write_two_band_tiff

GRD = "S1A_IW_GRDH_1SDV_20230612T051234_20230612T051259_048951_05E2F1_A1B2"
HYP3 = "S1A_IW_20230612T051234_DVP_RTC10_G_g{}uned_FD6A"
LEFT, TOP = TILE.ul_x_m + 1200, TILE.ul_y_m - 2400
ON_GRID = Affine(10, 0, LEFT, 0, -10, TOP)
UTM33, GEOGRAPHIC = "EPSG:32633", "EPSG:4326"
WHERE = {"epsg": 32633, "ul_x_m": LEFT, "ul_y_m": TOP, "width_m": 900, "height_m": 700}
RESAMPLED = Sentinel1Processing(resample=True)


def power(seed: int = 0, shape: tuple[int, int] = (70, 90)) -> np.ndarray:
    """Speckled power with a hole of no data."""
    pixels = np.random.default_rng(seed).exponential(0.05, shape).astype(np.float32) + np.float32(2e-3)
    pixels[10:14, 20:30] = 0
    return pixels


def decibel(pixels: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.where(pixels > 0, pixels, np.nan).astype(float))


VV, VH = power(1), power(2)


def layouts(folder: Path, crs: str = UTM33, transform: Affine = ON_GRID, vv: np.ndarray = VV, vh: np.ndarray = VH) -> dict[str, Path]:
    """The same power in every layout that is read."""
    bands = {"Sigma0_VV": vv, "Sigma0_VH": vh}
    place = {"crs": crs, "transform": transform}
    header = dimap_header("x", bands, product=f"{GRD}_Orb_Cal_TC", **place)
    for band, pixels in (("vv", vv), ("vh", vh)):
        write_tiff(folder / "cogs" / f"iw-{band}.rtc.tiff", np.where(pixels == 0, np.float32(-32768), pixels), nodata=-32768, **place)
    found = {
        "dim": write_dim(folder / f"{GRD}_Orb_Cal_TC.dim", bands, product=f"{GRD}_Orb_Cal_TC", **place),
        "hyp3": write_hyp3(folder, HYP3.format("p"), vv, vh, **place),
        "item": write_item(folder / "item.json", GRD, {band: f"cogs/iw-{band}.rtc.tiff" for band in ("vv", "vh")}),
    }
    if crs != GEOGRAPHIC:
        epsg = int(crs.removeprefix("EPSG:"))
        found["tiff"] = write_two_band_tiff(folder / "tiff" / f"{GRD}_TC.tif", bands, epsg=epsg, transform=transform, header=header)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For reading only."""
    return layouts(tmp_path_factory.mktemp("processed"))


@pytest.fixture
def dim(made: dict[str, Path], tmp_path: Path) -> Path:
    """A BEAM-DIMAP product that a test may damage."""
    shutil.copytree(made["dim"].with_suffix(".data"), tmp_path / made["dim"].with_suffix(".data").name)
    return Path(shutil.copy(made["dim"], tmp_path))


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="iso-8859-1")
    assert old in text
    path.write_text(text.replace(old, new), encoding="iso-8859-1")
    return path


# --- layouts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dim", "tiff", "hyp3", "item"])
def test_every_layout_gives_the_same_decibel_on_the_tiles_own_grid(made, layout):
    product = open_sentinel1(made[layout])
    for band, source in (("VV", VV), ("VH", VH)):
        np.testing.assert_allclose(product.read(band, **WHERE), decibel(source), atol=2e-5)
    beside = product.read("VV", **(WHERE | {"ul_x_m": LEFT + 500, "ul_y_m": TOP + 300}))
    np.testing.assert_allclose(beside[30:, :40], decibel(VV)[:40, 50:], atol=2e-5)
    assert np.isnan(beside[:30]).all() and np.isnan(beside[:, 40:]).all()


@pytest.mark.parametrize(
    ("layout", "product", "quantity", "orbit"),
    [
        ("dim", GRD, "sigma0", "DESCENDING"),
        ("tiff", GRD, "sigma0", "DESCENDING"),
        ("hyp3", "S1A_IW_GRDH_1SDV_20230612T051234", "gamma0", None),
        ("item", GRD, "gamma0", "DESCENDING"),
    ],
)
def test_a_scene_states_what_its_product_states(made, layout, product, quantity, orbit):
    scene = open_sentinel1(made[layout]).scene
    assert (scene.product, scene.quantity, scene.orbit_direction, scene.unit) == (product, quantity, orbit, "linear")
    assert scene.scene_id == "S1A_IW_GRDH_1SDV_20230612T051234"
    assert scene.datetime == datetime(2023, 6, 12, 5, 12, 34, tzinfo=UTC)
    assert (scene.epsg, scene.ul_x_m, scene.ul_y_m, scene.width_m, scene.height_m) == (32633, LEFT, TOP, 900, 700)
    assert scene.on_utm_grid


def test_a_dim_holds_what_gdals_envi_driver_reads(made):
    with rasterio.open(made["dim"].with_suffix(".data") / "Sigma0_VH.img") as raster:
        source = raster.read(1)
    assert np.array_equal(source, VH)  # the file is big-endian
    np.testing.assert_allclose(open_sentinel1(made["dim"]).read("VH", **WHERE), decibel(source), atol=2e-5)


def test_a_two_band_tiff_lies_where_gdal_says(made):
    with rasterio.open(made["tiff"]) as raster:
        assert (raster.crs.to_epsg(), raster.transform, raster.count) == (32633, ON_GRID, 2)


def test_bands_of_a_tiff_without_a_header_go_by_their_descriptions(tmp_path):
    path = tmp_path / GRD / "both.tif"
    path.parent.mkdir()
    profile = {"driver": "GTiff", "height": 70, "width": 90, "count": 2, "dtype": "float32", "crs": UTM33, "transform": ON_GRID}
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(decibel(VH).astype(np.float32), 1)
        raster.write(decibel(VV).astype(np.float32), 2)
        raster.descriptions = ("Gamma0_VH_db", "Gamma0_VV_db")
    product = open_sentinel1(path.parent)
    assert (product.scene.unit, product.scene.quantity, product.scene.product) == ("db", "gamma0", GRD)
    assert np.array_equal(product.read("VV", **WHERE), decibel(VV).astype(np.float32), equal_nan=True)  # to the bit
    with rasterio.open(path, "r+") as raster:
        raster.descriptions = ("", "")
    with pytest.raises(SceneError, match="expected one band each, named such as Sigma0_VV and Sigma0_VH"):
        open_sentinel1(path.parent)


def test_a_dim_in_decibel_is_read_to_the_bit_and_its_own_no_data_is_missing(tmp_path):
    stored = {f"Gamma0_{band}_db": np.nan_to_num(decibel(pixels), nan=0).astype(np.float32) for band, pixels in (("VV", VV), ("VH", VH))}
    folder = tmp_path / "product"
    write_dim(folder / "renamed.dim", stored, crs=UTM33, transform=ON_GRID, product=GRD, unit="intensity_db")
    product = open_sentinel1(folder)  # a folder with one header
    assert (product.scene.unit, product.scene.quantity) == ("db", "gamma0")
    assert np.array_equal(product.read("VV", **WHERE), decibel(VV).astype(np.float32), equal_nan=True)


def test_of_two_quantities_the_recipes_is_taken_and_power_before_decibel(tmp_path):
    bands = {f"{kind}_{band}": power(seed) for seed, (kind, band) in enumerate((k, b) for k in ("Sigma0", "Gamma0") for b in ("VV", "VH"))}
    bands |= {f"Sigma0_{band}_db": np.full((70, 90), -3, np.float32) for band in ("VV", "VH")}
    path = write_dim(tmp_path / "all.dim", bands, crs=UTM33, transform=ON_GRID, product=GRD)
    edit(path, "<BAND_NAME>Sigma0_VV_db</BAND_NAME>", "<BAND_NAME>Sigma0_VV_db</BAND_NAME><VIRTUAL_BAND>true</VIRTUAL_BAND>")
    for quantity, seed in (("sigma0", 0), ("gamma0", 2)):
        product = open_sentinel1(path, Sentinel1Processing(quantity=quantity))
        assert product.scene.quantity == quantity
        np.testing.assert_allclose(product.read("VV", **WHERE), decibel(power(seed)), atol=2e-5)


@pytest.mark.parametrize(("flag", "unit"), [("p", "linear"), ("d", "db"), ("a", "amplitude")])
def test_the_flag_in_a_hyp3_name_decides_the_unit(tmp_path, flag, unit):
    with np.errstate(divide="ignore"):
        stored = [{"p": p, "d": np.nan_to_num(10 * np.log10(p), neginf=0), "a": np.sqrt(p)}[flag].astype(np.float32) for p in (VV, VH)]
    product = open_sentinel1(write_hyp3(tmp_path, HYP3.format(flag), *stored, crs=UTM33, transform=ON_GRID))
    assert product.scene.unit == unit and product.scene.layout == "HyP3 RTC, 10 m"
    np.testing.assert_allclose(product.read("VH", **WHERE), decibel(VH), atol=2e-5)


def test_a_hyp3_zip_is_read_where_it_is(made, tmp_path):
    folder = made["hyp3"]
    with zipfile.ZipFile(tmp_path / f"{folder.name}.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{folder.name}/{file.name}")
    np.testing.assert_allclose(open_sentinel1(tmp_path / f"{folder.name}.zip").read("VV", **WHERE), decibel(VV), atol=2e-5)


def test_items_point_beside_them_to_absolute_paths_and_to_addresses_whose_keys_are_not_recorded(made, tmp_path):
    cogs = made["item"].parent / "cogs"
    absolute = {band: str(cogs / f"iw-{band}.rtc.tiff") for band in ("vv", "vh")}
    with FileServer() as server:
        for band in ("vv", "vh"):
            server.files[f"/{band}.tif?sig=SECRET"] = Served((cogs / f"iw-{band}.rtc.tiff").read_bytes())
        remote = {band: f"{server.url}/{band}.tif?sig=SECRET" for band in ("vv", "vh")}
        for name, hrefs in (("absolute", absolute), ("remote", remote)):
            product = open_sentinel1(write_item(tmp_path / f"{name}.json", GRD, hrefs))
            np.testing.assert_allclose(product.read("VV", **WHERE), decibel(VV), atol=2e-5)
            assert product.files.path == tmp_path / f"{name}.json"
            assert "SECRET" not in product.scene.model_dump_json()
    assert product.scene.bands["VV"].endswith("/vv.tif")
    with pytest.raises(SceneError, match="cannot be") as gone:
        open_sentinel1(write_item(tmp_path / "gone.json", GRD, {band: f"{url}2" for band, url in remote.items()}))
    assert "SECRET" not in str(gone.value)


def test_digests_follow_pixels_header_and_addresses(dim, tmp_path):
    first = open_sentinel1(dim).files
    marks = first.sha256(), first.signature()
    assert marks == (open_sentinel1(dim).files.sha256(), open_sentinel1(dim).files.signature())
    image = dim.with_suffix(".data") / "Sigma0_VV.img"
    image.write_bytes(b"\1" + image.read_bytes()[1:])
    os.utime(image, (1, 1))
    changed = open_sentinel1(dim).files
    assert changed.sha256() != marks[0] and changed.signature() != marks[1]


# --- the unit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dim", "tiff", "hyp3", "item"])
def test_a_unit_that_contradicts_the_product_is_refused(made, layout):
    assert open_sentinel1(made[layout], Sentinel1Processing(unit="linear")).unit == "linear"
    with pytest.raises(SceneError, match=r"states that it holds linear power, and the recipe says `sentinel1_unit: db`; drop that line"):
        open_sentinel1(made[layout], Sentinel1Processing(unit="db"))


def test_a_unit_that_nobody_states_is_asked_for(dim, tmp_path):
    edit(dim, "<PHYSICAL_UNIT>intensity</PHYSICAL_UNIT>", "<PHYSICAL_UNIT></PHYSICAL_UNIT>")
    with pytest.raises(SceneError, match=r"does not state the unit of its pixels; say `sentinel1_unit:` db, linear or amplitude"):
        open_sentinel1(dim)
    squared = open_sentinel1(dim, Sentinel1Processing(unit="amplitude")).read("VV", **WHERE)
    np.testing.assert_allclose(squared, np.maximum(2 * decibel(VV), -40), atol=4e-5)
    item = write_item(tmp_path / "x" / "other.json", GRD, {"vv": "vv.tif", "vh": "vh.tif"}, collection="somebody-else")
    for band, pixels in (("vv", VV), ("vh", VH)):
        write_tiff(tmp_path / "x" / f"{band}.tif", pixels, crs=UTM33, transform=ON_GRID, nodata=None)
    with pytest.raises(SceneError, match="does not state the unit"):
        open_sentinel1(item)
    write_item(item, GRD, {"vv": "vv.tif", "vh": "vh.tif"}, collection="somebody-else", unit="dB")
    assert open_sentinel1(item).scene.unit == "db"


def test_a_band_that_is_decibel_by_name_and_power_by_unit_is_refused(tmp_path):
    path = write_dim(tmp_path / "x.dim", {"Sigma0_VV_db": VV, "Sigma0_VH_db": VH}, crs=UTM33, transform=ON_GRID, product=GRD)
    with pytest.raises(SceneError, match="Sigma0_VV_db is decibel by its name and 'intensity' by its unit|Sigma0_VH_db is decibel"):
        open_sentinel1(path)


def test_plain_geotiffs_are_decibel_unless_the_recipe_says_otherwise(tmp_path):
    folder = write_s1_pair(tmp_path, product_name=GRD, tile=TILE, vv=VV, vh=VH, ul_x_m=LEFT, ul_y_m=TOP)
    assert np.array_equal(open_sentinel1(folder).read("VV", **WHERE), VV)
    linear = open_sentinel1(folder, Sentinel1Processing(unit="linear"))
    np.testing.assert_allclose(linear.read("VV", **WHERE), decibel(VV), atol=2e-5)
    with rasterio.open(next(folder.glob("*_VV.tif")), "r+") as raster:
        raster.units = ("dB",)
    with rasterio.open(next(folder.glob("*_VH.tif")), "r+") as raster:
        raster.units = ("dB",)
    with pytest.raises(SceneError, match="states that it holds decibel"):
        open_sentinel1(folder, Sentinel1Processing(unit="linear"))


# --- another grid -----------------------------------------------------------------------------------------


def elsewhere(crs: str, pixel: float, margin: float = 12) -> tuple[Affine, tuple[int, int]]:
    """A raster in another system that covers the window with room to spare: its transform and shape."""
    x, y = np.meshgrid(LEFT + np.linspace(0, 900, 9), TOP - np.linspace(0, 700, 9))
    u, v = pyproj.Transformer.from_crs(32633, crs, always_xy=True).transform(x, y)
    left, top = u.min() - (margin + 0.3) * pixel, v.max() + (margin + 0.7) * pixel
    shape = int((top - v.min()) / pixel + margin), int((u.max() - left) / pixel + margin)
    return Affine(pixel, 0, left, 0, -pixel, top), shape


OTHERS = [("EPSG:32632", 10.0), ("EPSG:32633", 20.0), (GEOGRAPHIC, 8.983e-5), ("EPSG:3035", 10.0)]


@pytest.mark.parametrize(
    ("layout", "crs", "pixel"),
    [(layout, *other) for layout in ("dim", "hyp3", "item", "tiff") for other in OTHERS if (layout, other[0]) != ("tiff", GEOGRAPHIC)],
)
def test_a_gradient_lands_where_pyproj_says_from_any_grid(tmp_path, layout, crs, pixel):
    """Power that is linear in the source's coordinates is what bilinear resampling gives back without error."""
    transform, (height, width) = elsewhere(crs, pixel)
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    vv, vh = (1 + 0.02 * col).astype(np.float32), (1 + 0.02 * row).astype(np.float32)
    path = layouts(tmp_path, crs, transform, vv, vh)[layout]
    x, y = np.meshgrid(LEFT + 10 * np.arange(90) + 5, TOP - 10 * np.arange(70) - 5)
    u, v = pyproj.Transformer.from_crs(32633, crs, always_xy=True).transform(x, y)
    product = open_sentinel1(path, RESAMPLED)
    for band, expected_px in (("VV", (u - transform.c) / pixel), ("VH", (transform.f - v) / pixel)):
        found_px = (10 ** (product.read(band, **WHERE).astype(float) / 10) - 1) / 0.02
        assert np.abs(found_px - expected_px).max() < 0.01  # of a source pixel, corners whole numbers


@pytest.mark.parametrize(("crs", "pixel"), OTHERS[:3:2])
def test_a_planted_spot_lands_where_pyproj_says(tmp_path, crs, pixel):
    transform, (height, width) = elsewhere(crs, pixel)
    row, col = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    at_row, at_col = height // 2 + 3, width // 2 - 4
    spot = (1e-3 + np.exp(-((row - at_row) ** 2 + (col - at_col) ** 2) / (2 * 2.5**2))).astype(np.float32)
    product = open_sentinel1(layouts(tmp_path, crs, transform, spot, spot)["dim"], RESAMPLED)
    found = 10 ** (product.read("VV", **WHERE).astype(float) / 10) - 1e-3
    u, v = transform.c + (at_col + 0.5) * pixel, transform.f - (at_row + 0.5) * pixel
    x, y = pyproj.Transformer.from_crs(crs, 32633, always_xy=True).transform(u, v)
    found[found < 0.02] = 0
    rows, cols = np.indices(found.shape)
    assert (cols * found).sum() / found.sum() == pytest.approx((x - LEFT) / 10 - 0.5, abs=0.05)
    assert (rows * found).sum() / found.sum() == pytest.approx((TOP - y) / 10 - 0.5, abs=0.05)


def test_resampling_agrees_with_gdals_warp(tmp_path):
    transform, shape = elsewhere("EPSG:32632", 10.0)
    vv = np.random.default_rng(3).exponential(0.1, shape).astype(np.float32) + np.float32(0.01)
    product = open_sentinel1(layouts(tmp_path, "EPSG:32632", transform, vv, vv)["item"], RESAMPLED)
    warped = np.full((70, 90), np.nan, np.float32)
    # Between zones GDAL takes the rotation for a change of scale and smooths, unless told that there is none.
    place = {"src_transform": transform, "src_crs": "EPSG:32632", "dst_transform": ON_GRID, "dst_crs": UTM33}
    reproject(vv, warped, **place, resampling=Resampling.bilinear, tolerance=0, XSCALE=1, YSCALE=1)
    np.testing.assert_allclose(product.read("VV", **WHERE), 10 * np.log10(warped), atol=0.05)  # 1/1024 pixel of speckle


def test_a_real_scene_in_longitude_and_latitude_is_interpolated_where_pyproj_says(shared_data):
    """SSL4EO-S12 (264 x 264 px of some 10 m, EPSG:4326, decibel); contains modified Copernicus Sentinel data 2020."""
    (folder,) = (shared_data / "ssl4eo_s12" / "s1" / "0000200").glob("S1A_IW_GRDH_1SDV_20200607*")
    with pytest.raises(SceneError, match=r"lies on another grid \(EPSG:4326"):
        open_sentinel1(folder)
    product = open_sentinel1(folder, RESAMPLED)
    left, top, side = 335_700, 3_372_900, 300
    found = product.read("VV", epsg=32643, ul_x_m=left, ul_y_m=top, width_m=10 * side, height_m=10 * side)
    with rasterio.open(folder / "VV.tif") as raster:
        source, transform = 10 ** (raster.read(1).astype(float) / 10), raster.transform
    x, y = np.meshgrid(left + 10 * np.arange(side) + 5, top - 10 * np.arange(side) - 5)
    lon, lat = pyproj.Transformer.from_crs(32643, 4326, always_xy=True).transform(x, y)
    at = [(lat - transform.f) / transform.e - 0.5, (lon - transform.c) / transform.a - 0.5]
    expected = 10 * np.log10(map_coordinates(source, at, order=1, cval=np.nan))
    assert np.isfinite(expected).mean() > 0.6
    # At the very edge rounding to 1/1024 pixel may decide; the rest is that rounding over a range of 25 dB.
    assert (np.isfinite(found) != np.isfinite(expected)).sum() <= 2 * side
    both = np.isfinite(found) & np.isfinite(expected)
    np.testing.assert_allclose(found[both], expected[both], atol=0.01)


def test_it_is_power_that_is_averaged_not_decibel(tmp_path):
    half = Affine(10, 0, LEFT - 5, 0, -10, TOP)
    db = np.zeros((70, 92), np.float32)
    db[:, 1::2] = -20
    path = write_hyp3(tmp_path, HYP3.format("d"), db - 1, db - 1, crs=UTM33, transform=half)
    found = open_sentinel1(path, RESAMPLED).read("VV", **WHERE)
    np.testing.assert_allclose(found, 10 * np.log10((10**-0.1 + 10**-2.1) / 2), atol=1e-4)


@pytest.mark.parametrize(("shift_m", "holes", "edge"), [(0, {(29, 39)}, 49), (5, {(28, 38), (28, 39), (29, 38), (29, 39)}, 48)])
def test_no_data_does_not_bleed_and_only_neighbours_that_count_are_needed(tmp_path, shift_m, holes, edge):
    """Pixel (30, 40) of the source, and all from row 50 on, are missing; its corner lies 10 m and the shift up and left of the window."""
    pixels = np.full((74, 94), 0.1, np.float32)
    pixels[30, 40] = pixels[50:] = 0
    place = {"crs": UTM33, "transform": Affine(10, 0, LEFT - 10 - shift_m, 0, -10, TOP + 10 + shift_m)}
    folder = write_hyp3(tmp_path, HYP3.format("p"), pixels, pixels, **place)
    source = open_sentinel1(folder, RESAMPLED)
    db = source.read("VV", **WHERE)
    if not shift_m:  # the same through the resampling that this grid does not need
        asked = Ground(32633, LEFT, TOP, 70, 90)
        db = 10 * np.log10(
            resample_power(lambda rows, cols: np.where(pixels[rows, cols] > 0, pixels[rows, cols], np.nan), source.place, asked)
        )
    assert {(int(row), int(col)) for row, col in np.argwhere(np.isnan(db[:edge]))} == holes
    assert np.isnan(db[edge:]).all()
    np.testing.assert_allclose(db[:edge][np.isfinite(db[:edge])], -10, atol=1e-5)


def test_a_pixel_is_the_same_in_any_window_and_outside_is_missing():
    transform, shape = elsewhere("EPSG:32632", 10.0, margin=-3)
    source = np.random.default_rng(5).random(shape, np.float32)
    place = Place(pyproj.CRS("EPSG:32632"), transform, shape)
    asked = []

    def read(rows: slice, cols: slice) -> np.ndarray:
        asked.append((rows, cols))
        assert 0 <= rows.start < rows.stop <= shape[0] and 0 <= cols.start < cols.stop <= shape[1]
        return source[rows, cols]

    # The window straddles a block's edge, at multiples of 5120 m.
    far = Ground(32633, LEFT - 3000, TOP + 2000, 600, 700)
    whole = resample_power(read, place, far)
    assert 3000 < np.isfinite(whole).sum() < 6300
    for top, left, height, width in ((0, 0, 600, 350), (210, 310, 60, 70), (233, 333, 1, 1), (199, 299, 300, 300)):
        part = resample_power(read, place, Ground(32633, far.ul_x_m + 10 * left, far.ul_y_m - 10 * top, height, width))
        assert np.array_equal(part, whole[top : top + height, left : left + width], equal_nan=True)


@pytest.mark.parametrize(("crs", "pixel"), OTHERS)
def test_another_grid_is_refused_unless_the_recipe_allows_it(tmp_path, crs, pixel):
    transform, shape = elsewhere(crs, pixel)
    path = layouts(tmp_path, crs, transform, *np.ones((2, *shape), np.float32))["dim"]
    with pytest.raises(SceneError, match=r"lies on another grid \(.*; expected the 10 m grid .* say `resample_sentinel1: true`"):
        open_sentinel1(path)
    assert not open_sentinel1(path, RESAMPLED).scene.on_utm_grid


def test_another_zone_on_its_own_grid_opens_and_is_refused_when_read(tmp_path):
    path = layouts(tmp_path, "EPSG:32632", Affine(10, 0, 600_000, 0, -10, 5_400_000))["hyp3"]
    product = open_sentinel1(path)
    assert product.scene.on_utm_grid and product.scene.epsg == 32632
    with pytest.raises(SceneError, match=r"lies on another grid \(EPSG:32632, .* or say `resample_sentinel1: true` in the recipe"):
        product.read("VV", **WHERE)


def test_pixels_too_fine_or_too_coarse_to_resample_are_refused(tmp_path):
    for index, (crs, pixel) in enumerate(((UTM33, 1.0), (GEOGRAPHIC, 0.01))):
        place = {"crs": crs, "transform": Affine(pixel, 0, 12, 0, -pixel, 48) if index else Affine(1, 0, LEFT, 0, -1, TOP)}
        path = write_hyp3(tmp_path / str(index), HYP3.format("p"), VV, VH, **place)
        with pytest.raises(SceneError, match="expected 3 to 100 m to resample to 10 m"):
            open_sentinel1(path, RESAMPLED)


# As SNAP writes systems that it makes up itself, with less and less that PROJ can hold on to.
SNAP_UTM = """PROJCS["UTM Zone 33 / World Geodetic System 1984", GEOGCS["World Geodetic System 1984", DATUM["{datum}",
SPHEROID["WGS 84", 6378137.0, 298.257223563]], PRIMEM["Greenwich", 0.0], UNIT["degree", 0.017453292519943295],
AXIS["Geodetic longitude", EAST], AXIS["Geodetic latitude", NORTH]], PROJECTION["Transverse_Mercator"],
PARAMETER["central_meridian", 15.0], PARAMETER["latitude_of_origin", 0.0], PARAMETER["scale_factor", {scale}],
PARAMETER["false_easting", 500000.0], PARAMETER["false_northing", 0.0], UNIT["m", 1.0], AXIS["Easting", EAST], AXIS["Northing", NORTH]]"""


@pytest.mark.parametrize(
    ("datum", "scale", "epsg"),
    [("World Geodetic System 1984", "0.9996", 32633), ("none in particular", "0.9996", 32633), ("WGS84", "0.9997", 0)],
)
def test_snaps_nameless_utm_is_known_as_the_zone_it_is(dim, datum, scale, epsg):
    text = dim.read_text(encoding="iso-8859-1")
    start, end = text.index("<WKT>") + 5, text.index("</WKT>")
    dim.write_text(text[:start] + SNAP_UTM.format(datum=datum, scale=scale) + text[end:], encoding="iso-8859-1")
    scene = open_sentinel1(dim, RESAMPLED).scene
    assert (scene.epsg, scene.on_utm_grid) == (epsg, epsg != 0)


# --- pairing and building ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("crs", "pixel"), OTHERS)
def test_scenes_of_another_system_pair_if_they_may_be_resampled(tmp_path, made_safe, crs, pixel):
    s2 = open_sentinel2(made_safe).scene
    transform, shape = elsewhere(crs, pixel)
    ones = np.ones((2, *shape), np.float32)
    s1 = open_sentinel1(layouts(tmp_path / "over", crs, transform, *ones)["dim"], RESAMPLED).scene
    away = Affine(pixel, 0, transform.c + 3000 * pixel, 0, -pixel, transform.f)
    beside = open_sentinel1(layouts(tmp_path / "beside", crs, away, *ones)["dim"], RESAMPLED).scene
    assert matches_in_time(s2, [s1, beside], 72) == []
    ((match, gap_h),) = matches_in_time(s2, [s1, beside], 72, resample=True)
    assert gap_h == pytest.approx((s1.datetime - SENSING).total_seconds() / 3600)
    assert match.product == s1.product
    assert match.notes[-1] == f"resampled bilinearly in linear power from {s1.grid} onto the 10 m grid of EPSG:32633"


@pytest.fixture
def mixed(tmp_path: Path, built) -> Path:
    """Four patches of Sentinel-2, and Sentinel-1 over them as a STAC item in another zone."""
    corner = {"ul_x_m": TILE.ul_x_m + 9600, "ul_y_m": TILE.ul_y_m - 48_000}
    write_scene(tmp_path / "scenes", random_bands(240), **corner)
    x, y = pyproj.Transformer.from_crs(32633, 32632, always_xy=True).transform(corner["ul_x_m"] + 1200, corner["ul_y_m"] - 1200)
    transform = Affine(10, 0, x // 10 * 10 - 2000, 0, -10, y // 10 * 10 + 2000)
    row, col = np.indices((400, 400))
    layouts(
        tmp_path / "s1", "EPSG:32632", transform, *(np.exp(-((row - at) ** 2) / 9e4 - col / 400).astype(np.float32) for at in (200, 100))
    )
    content = {
        "name": "mixed",
        "scenes": {"sentinel2": ["scenes/*.SAFE"], "sentinel1": ["s1/item.json"], "sentinel1_unit": "linear", "resample_sentinel1": True},
        "labels": {"path": str(built.inputs / "corine.gpkg"), "max_unlabeled_fraction": 1.0},
    }
    return write_recipe(tmp_path, content)


def test_a_dataset_is_built_from_linear_power_of_another_zone(mixed, tmp_path):
    workspace, _ = run_steps(mixed, tmp_path / "out")
    table = read_patches(workspace.patches)
    kept = table[table["kept"]]
    assert len(kept) == 4 and set(kept["s1_product"]) == {GRD}
    product = open_sentinel1(tmp_path / "s1" / "item.json", RESAMPLED)
    with open_shard(workspace.shards("lmdb")) as shard:
        for row in kept.itertuples():
            stored = shard.read(s1_patch_id(row.s1_product[:32], PatchId.parse(row.patch_id)))
            extent = {"epsg": 32633, "ul_x_m": row.ul_x_m, "ul_y_m": row.ul_y_m, "width_m": 1200, "height_m": 1200}
            for band in ("VV", "VH"):
                assert np.array_equal(stored[band], product.read(band, **extent))
                assert np.isfinite(stored[band]).all()
    (pair,) = steps.find_scenes(load_recipe(mixed), workspace).pairs
    assert pair.s1[0].scene.notes[-1].startswith("resampled bilinearly in linear power from EPSG:32632")


def test_a_scene_left_without_sentinel1_by_its_grid_is_reported(mixed, tmp_path):
    content = mixed.read_text(encoding="utf-8").replace("resample_sentinel1: true", "resample_sentinel1: false")
    mixed.write_text(content, encoding="utf-8")
    found = steps.find_scenes(load_recipe(mixed), steps.open_workspace(tmp_path / "out"))
    assert [pair.s1 for pair in found.pairs] == [[]]
    (left_out,) = found.failures
    assert f"has no Sentinel-1 but {GRD}, which lies on another grid (EPSG:32632" in left_out.message
    assert "say `resample_sentinel1: true`" in left_out.message


# --- looking ----------------------------------------------------------------------------------------------


def test_inspect_shows_every_layout_in_one_screen(made, tmp_path):
    off = layouts(tmp_path, GEOGRAPHIC, Affine(9e-5, 0, 12, 0, -9e-5, 48))["dim"]
    for path in (*made.values(), off):
        result = CliRunner().invoke(app, ["scenes", "inspect", str(path)])
        assert result.exit_code == 0, result.output
        assert len(result.output.splitlines()) <= 24
        assert "linear power" in result.output and "2023-06-12 05:12:34 UTC" in result.output
    assert "not one of Sentinel-2's 10 m grids" in result.output
    result = CliRunner().invoke(app, ["scenes", "inspect", "--json", str(off)])
    (record,) = json.loads(result.output)
    assert record["layout"] == "BEAM-DIMAP" and "resample_sentinel1" in record["problem"]


def test_a_product_without_a_unit_is_shown_with_what_is_missing(dim):
    edit(dim, "<PHYSICAL_UNIT>intensity</PHYSICAL_UNIT>", "<PHYSICAL_UNIT></PHYSICAL_UNIT>")
    scene, problem = describe_sentinel1(dim)
    assert scene.unit is None and problem is not None and "does not state the unit" in problem


def test_a_pattern_that_names_header_and_data_names_one_product(made):
    assert expand([f"{made['dim'].parent}/{GRD}*"]) == [made["dim"]]
    with pytest.raises(SceneError, match=r"holds the pixels of .*\.dim; name the \.dim instead"):
        open_sentinel1(made["dim"].with_suffix(".data"))


# --- what is refused --------------------------------------------------------------------------------------


def test_a_missing_polarisation_is_named(made, dim, tmp_path):
    folder = Path(shutil.copytree(made["hyp3"], tmp_path / made["hyp3"].name))
    (folder / f"{folder.name}_VH.tif").unlink()
    edit(dim, "<BAND_NAME>Sigma0_VH</BAND_NAME>", "<BAND_NAME>Sigma0_HH</BAND_NAME>")
    item = write_item(tmp_path / "half.json", GRD, {"vv": str(made["item"].parent / "cogs" / "iw-vv.rtc.tiff")})
    for path, message in (
        (folder, "holds no GeoTIFF for VH; expected S1A.*_VH.tif"),
        (dim, "holds Sigma0_VV, Sigma0_HH and so nothing for VH"),
        (item, "holds no asset for VH; expected one called vh"),
    ):
        with pytest.raises(SceneError, match=message):
            open_sentinel1(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</Dimap_Document>", "", "is not well-formed XML"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>', '<!DOCTYPE x [<!ENTITY a "b">]>', "is not well-formed XML"),
        ("<Dimap_Document ", "<Other ", "is not well-formed XML"),
        ("Image_Interpretation>", "Nothing>", "is no BEAM-DIMAP header"),
        ("<NCOLS>90</NCOLS>", "<NCOLS>wide</NCOLS>", "is a damaged BEAM-DIMAP header"),
        ("<NCOLS>90</NCOLS>", "<NCOLS>91</NCOLS>", r"holds \(70, 90\) float32 .* the header says \(70, 91\)"),
        ("<NO_DATA_VALUE>0.0", "<NO_DATA_VALUE>none", "is a damaged BEAM-DIMAP header"),
        (".data/Sigma0_VV.hdr", ".data/../../Sigma0_VV.hdr", "outside its own folder"),
        (f'href="{GRD}', f'href="/{GRD}', "outside its own folder"),
        (f'href="{GRD}', 'href="other', "lacks other_Orb_Cal_TC.data/Sigma0_V[VH].img; keep the .data folder beside the .dim"),
        ("<SCALING_FACTOR>1.0", "<SCALING_FACTOR>0.1", "is scaled or a logarithm"),
        ("<BAND_NAME>Sigma0", "<BAND_NAME>Intensity", "which is not sigma0 or gamma0; calibrate it"),
        ("Geoposition>", "Nowhere>", "has no place on a map; terrain correct it"),
        ('PROJCS["', 'PROJC["', "has a coordinate system that PROJ does not know"),
        ("TRANSFORM>10.0,0.0", "TRANSFORM>10.0,0.1", "is rotated or upside down"),
    ],
)
def test_a_damaged_header_is_refused_in_one_sentence(dim, old, new, message):
    with pytest.raises(SceneError, match=message):
        open_sentinel1(edit(dim, old, new))


def test_missing_and_short_images_are_refused(dim):
    image = dim.with_suffix(".data") / "Sigma0_VV.img"
    image.write_bytes(image.read_bytes()[:-4])
    with pytest.raises(SceneError, match=r"in 25196 bytes; the header says \(70, 90\) float32, 25200 bytes"):
        open_sentinel1(dim)
    image.unlink()
    with pytest.raises(SceneError, match="lacks .*Sigma0_VV.img; keep the .data folder"):
        open_sentinel1(dim)


def test_a_product_that_tells_no_grd_is_named_by_its_metadata_or_refused(dim, tmp_path):
    nameless = Path(shutil.move(dim, tmp_path / "subset.dim"))
    edit(nameless, f"{GRD}_Orb_Cal_TC</MDATTR>", "subset</MDATTR>")
    edit(nameless, f"{GRD}_Orb_Cal_TC</DATASET_NAME>", "subset</DATASET_NAME>")
    edit(nameless, f'name="{GRD}_Orb_Cal_TC.dim"', 'name="subset.dim"')
    scene = open_sentinel1(nameless).scene
    assert scene.product == "S1A_IW_GRDH_1SDV_20230612T051234" and "named by mission and time" in scene.notes[0]
    edit(nameless, "first_line_time", "other_time")
    with pytest.raises(SceneError, match="tells neither in its metadata nor in its name which Sentinel-1 product"):
        open_sentinel1(nameless)


def test_a_product_made_from_an_slc_says_so(dim):
    edit(dim, f">{GRD}_Orb_Cal_TC</MDATTR>", f">{GRD.replace('GRDH_', 'SLC__')}_Orb_Cal_TC</MDATTR>")
    scene = open_sentinel1(dim).scene
    assert scene.product == "S1A_IW_GRDH_1SDV_20230612T051234"
    assert scene.notes == [f"made from the SLC {GRD.replace('GRDH_', 'SLC__')}"]


def test_a_hostile_header_inside_a_tiff_is_refused(tmp_path):
    bands = {"Sigma0_VV": VV, "Sigma0_VH": VH}
    for name, header, message in (
        ("entities", '<!DOCTYPE x [<!ENTITY a "b">]><Dimap_Document>&a;</Dimap_Document>', "TIFF tag 65000 is not well-formed XML"),
        ("short", "<Dimap_Document><Image", "TIFF tag 65000 is not well-formed XML"),
        ("other", "<Other/>", "TIFF tag 65000 is no BEAM-DIMAP header"),
        ("encoding", '<?xml version="1.0" encoding="ISO-0000-1"?><Dimap_Document/>', "TIFF tag 65000 is not well-formed XML"),
    ):
        path = write_two_band_tiff(tmp_path / f"{GRD}_{name}.tif", bands, epsg=32633, transform=ON_GRID, header=header)
        with pytest.raises(SceneError, match=message):
            open_sentinel1(path)
    (tmp_path / f"{GRD}.tif").write_bytes(b"no tiff")
    with pytest.raises(SceneError, match="cannot be read as TIFF"):
        open_sentinel1(tmp_path / f"{GRD}.tif")


def test_what_is_not_read_is_refused_with_the_way_out(made, tmp_path):
    (tmp_path / "OPERA_L2_RTC-S1_T073-154632-IW2").mkdir()
    with pytest.raises(SceneError, match="one burst of OPERA RTC-S1, which is not read; take HyP3"):
        open_sentinel1(tmp_path / "OPERA_L2_RTC-S1_T073-154632-IW2")
    hrefs = {band: str(tmp_path / f"{band}.tif") for band in ("vv", "vh")}
    with pytest.raises(SceneError, match="points to .*vh.tif for VH, which is not there"):
        open_sentinel1(write_item(tmp_path / "item.json", GRD, hrefs))
    for href in hrefs.values():  # a GRD of a catalogue: control points instead of a place
        profile = {"driver": "GTiff", "height": 70, "width": 90, "count": 1, "dtype": "float32"}
        with rasterio.open(href, "w", **profile) as raster:
            raster.write(VV, 1)
    with pytest.raises(SceneError, match="has no coordinate system; terrain correct it first"):
        open_sentinel1(tmp_path / "item.json")
    with pytest.raises(SceneError, match="does not tell which Sentinel-1 product it is of"):
        open_sentinel1(write_item(tmp_path / "nameless.json", "scene", hrefs))
    trap = tmp_path / "vv.tif"
    trap.write_text(f'<VRTDataset rasterXSize="90" rasterYSize="70"><SRS>{UTM33}</SRS></VRTDataset>')
    with pytest.raises(SceneError, match="vv.tif cannot be opened"):  # GDAL may not open what it likes
        open_sentinel1(tmp_path / "item.json")


def test_a_damaged_tiff_is_named_when_it_is_read(made, tmp_path):
    folder = Path(shutil.copytree(made["hyp3"], tmp_path / made["hyp3"].name))
    path = folder / f"{folder.name}_VV.tif"
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(SceneError, match="_VV.tif cannot be (decoded|opened)"):
        open_sentinel1(folder).read("VV", **WHERE)
