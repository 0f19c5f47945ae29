"""Scenes: products are read as their metadata say, and refused in one clear sentence where they are not whole."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from conftest import SENSING, TILE, random_bands, write_scene

from rsdata.errors import GridError, SceneError
from rsdata.patches import cut_patches, grid_of
from rsdata.scenes import (
    check_complete,
    check_contents,
    expand,
    open_sentinel1,
    open_sentinel2,
    quality_problem,
    surface_reflectance,
)
from rsdata.scenes.product import making_sense
from rsdata.sensors import SENTINEL2
from rsdata.testing import write_s1_pair

S1_NAME = "S1A_IW_GRDH_1SDV_20230612T051234_20230612T051259_048951_05E2F1_A1B2"


def band_file(safe: Path, band: str) -> Path:
    (path,) = safe.rglob(f"*_{band}_*.jp2")
    return path


def zipped(safe: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(safe.rglob("*")):
            archive.write(path, path.relative_to(safe.parent))
    return target


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_product_says_what_its_xml_says(made_safe):
    scene = open_sentinel2(made_safe).scene
    assert scene.product == made_safe.name.removesuffix(".SAFE")
    assert (scene.tile_id, scene.epsg, scene.ul_x_m, scene.ul_y_m) == ("33UUP", 32633, TILE.ul_x_m, TILE.ul_y_m)
    assert (scene.level, scene.baseline, scene.mission) == ("L2A", "05.09", "S2A")
    assert scene.offsets == dict.fromkeys(SENTINEL2.band_names, -1000.0)
    assert (scene.quantification, scene.nodata, scene.saturated) == (10_000, 0, 65_535)
    assert set(scene.quality_checks.values()) == {"PASSED"}
    assert abs((scene.datetime - SENSING).total_seconds()) < 60
    assert (scene.width_m, scene.height_m) == (2400, 2400)


def test_every_band_is_read_to_the_bit_from_folder_and_zip(made_safe, tmp_path):
    expected = random_bands()
    for path in (made_safe, zipped(made_safe, tmp_path / "product.zip")):
        product = open_sentinel2(path)
        check_complete(product)
        for name, pixels in product.read_all(SENTINEL2.band_names, threads=2).items():
            assert pixels.dtype == np.uint16
            assert np.array_equal(pixels, expected[name]), name


def test_lazy_reflectance_is_that_of_the_formula(made_safe):
    counts = random_bands()["B08"].astype(np.float64)
    reflectance = open_sentinel2(made_safe).open_reflectance("B08")
    assert reflectance.chunks is not None
    assert np.allclose(reflectance.values, (counts - 1000) / 10_000, atol=1e-6)
    assert float(reflectance.x[0]) == TILE.ul_x_m + 5  # pixel centres
    assert float(reflectance.y[0]) == TILE.ul_y_m - 5
    assert reflectance.rio.crs.to_epsg() == 32633


def test_no_data_is_nan_negative_reflectance_stays_and_scaled_values_are_refused():
    counts = xr.DataArray(np.array([[0, 500, 1000, 11_000]], np.uint16), dims=("y", "x"))
    reflectance = surface_reflectance(counts, -1000, 10_000)
    assert np.isnan(reflectance[0, 0])
    assert reflectance[0, 1:].values.tolist() == pytest.approx([-0.05, 0.0, 1.0])
    with pytest.raises(SceneError, match="was scaled already"):
        surface_reflectance(reflectance, -1000, 10_000)


def test_a_product_without_offsets_has_offset_zero_and_keeps_its_counts(tmp_path):
    bands = random_bands(120)
    old = open_sentinel2(write_scene(tmp_path, bands, baseline="02.14")).scene
    user = open_sentinel2(write_scene(tmp_path, bands, baseline="99.99")).scene
    assert set(old.offsets.values()) == {0.0} == set(user.offsets.values())
    assert "_N9999_" in user.product


def test_files_are_found_by_metadata_not_by_name(safe):
    """A band that the XML places elsewhere is read from there."""
    moved = band_file(safe, "B02")
    target = moved.with_name("T33UUP_20230612T101031_moved_B02_10m.jp2")
    moved.rename(target)
    edit(safe / "MTD_MSIL2A.xml", moved.stem, target.stem)
    edit(safe / "manifest.safe", moved.name, target.name)
    assert np.array_equal(open_sentinel2(safe).read("B02"), random_bands()["B02"])


def test_a_truncated_jp2_is_refused(safe):
    path = band_file(safe, "B03")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    product = open_sentinel2(safe)
    with pytest.raises(SceneError, match=r"B03_10m.jp2 has \d+ bytes, but manifest.safe says \d+; the file is cut short, fetch"):
        check_complete(product)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_a_truncated_jp2_is_not_decoded_even_if_the_manifest_agrees(safe, keep):
    path = band_file(safe, "B03")
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(whole * keep)])
    edit(safe / "manifest.safe", f'size="{whole}"', f'size="{path.stat().st_size}"')
    product = open_sentinel2(safe)
    check_complete(product)
    with pytest.raises(SceneError, match=r"B03_10m.jp2 cannot be decoded .*; the file is damaged, fetch the product again"):
        product.read("B03")


def test_a_missing_band_is_named(safe):
    band_file(safe, "B8A").unlink()
    with pytest.raises(SceneError, match=r"lacks B8A; expected all twelve bands, SCL, MSK_CLDPRB and MSK_SNWPRB, so fetch"):
        check_complete(open_sentinel2(safe))


@pytest.mark.parametrize("act", [lambda: int("north"), lambda: 1 / 0, lambda: int(float("inf"))])
def test_metadata_that_make_no_sense_are_refused(act):
    with pytest.raises(SceneError, match=r"x.SAFE: its metadata make no sense \(.*\); fetch the product again"), making_sense("x.SAFE"):
        act()


def test_a_mistake_of_ours_is_not_put_down_to_the_product():
    with pytest.raises(TypeError), making_sense("x.SAFE"):
        len(3)
    with pytest.raises(AttributeError), making_sense("x.SAFE"):
        None.find("Scene")


def test_a_damaged_zip_is_refused(made_safe, tmp_path):
    path = zipped(made_safe, tmp_path / "product.zip")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SceneError, match=r"product.zip is a damaged zip or none at all .*; fetch the product again"):
        open_sentinel2(path)


def test_wrong_bytes_that_still_decode_are_found_by_their_checksum(safe):
    path = band_file(safe, "B04")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    product = open_sentinel2(safe)
    check_complete(product)
    with pytest.raises(SceneError, match=r"B04_10m.jp2 differs from its checksum in manifest.safe; the file is damaged, fetch"):
        check_contents(product, threads=2)


def test_a_zip_with_a_damaged_entry_is_refused(made_safe, tmp_path):
    path = zipped(made_safe, tmp_path / "product.zip")
    check_contents(open_sentinel2(path))
    with zipfile.ZipFile(path) as archive:
        info = next(item for item in archive.infolist() if item.filename.endswith("_B04_10m.jp2"))
    data = bytearray(path.read_bytes())
    middle = info.header_offset + 200 + info.compress_size // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(SceneError, match=r"B04_10m.jp2 (cannot be read|differs from its checksum)"):
        check_contents(open_sentinel2(path))


def test_an_empty_folder_and_a_path_to_nothing_are_refused(tmp_path):
    (tmp_path / "S2A.SAFE").mkdir()
    with pytest.raises(SceneError, match=r"S2A.SAFE is an empty folder; expected a product with its files"):
        open_sentinel2(tmp_path / "S2A.SAFE")
    with pytest.raises(SceneError, match=r"none.SAFE does not exist"):
        open_sentinel2(tmp_path / "none.SAFE")
    with pytest.raises(SceneError, match=r"\*.SAFE matches nothing"):
        expand([str(tmp_path / "scenes" / "*.SAFE")])


def test_a_level_1c_product_is_named_as_such(safe):
    edit(safe / "MTD_MSIL2A.xml", "<PROCESSING_LEVEL>Level-2A", "<PROCESSING_LEVEL>Level-1C")
    edit(safe / "MTD_MSIL2A.xml", "BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
    with pytest.raises(SceneError, match=r"is Level-1C \(top of atmosphere\); expected Level-2A, so run sen2cor"):
        check_complete(open_sentinel2(safe))
    edit(safe / "MTD_MSIL2A.xml", "<PROCESSING_LEVEL>Level-1C", "<PROCESSING_LEVEL>Level-3")
    with pytest.raises(SceneError, match=r"is of Level-3; expected Level-1C or Level-2A"):
        open_sentinel2(safe)


def test_a_product_that_failed_its_inspection_is_refused_for_labels(tmp_path):
    scene = open_sentinel2(write_scene(tmp_path, random_bands(120), quality_checks={"GEOMETRIC_QUALITY": "FAILED"})).scene
    assert scene.failed_checks == ["GEOMETRIC_QUALITY"]
    assert "GEOMETRIC_QUALITY is FAILED; expected PASSED" in str(quality_problem(scene))


def test_a_raster_of_another_size_or_place_than_the_xml_says_is_refused(safe):
    path = band_file(safe, "B02")
    with rasterio.open(path) as raster:
        profile, pixels = raster.profile, raster.read(1)
    path.unlink()
    with rasterio.open(path, "w", **(profile | {"driver": "GTiff", "height": 120})) as raster:
        raster.write(pixels[:120], 1)
    with pytest.raises(SceneError, match="is 120 x 240 pixels, but MTD_TL.xml says 240 x 240"):
        open_sentinel2(safe).read("B02")
    path.unlink()
    shifted = profile["transform"] * profile["transform"].translation(0.5, 0)
    with rasterio.open(path, "w", **(profile | {"driver": "GTiff", "transform": shifted})) as raster:
        raster.write(pixels, 1)
    with pytest.raises(SceneError, match=r"has its corner at .*, but MTD_TL.xml says"):
        open_sentinel2(safe).read("B02")


def test_a_jp2_that_holds_a_geotiff_opens(safe):
    """Some tools crop products that way."""
    path = band_file(safe, "B02")
    with rasterio.open(path) as raster:
        profile, pixels = raster.profile, raster.read(1)
    path.unlink()
    with rasterio.open(path, "w", **(profile | {"driver": "GTiff"})) as raster:
        raster.write(pixels, 1)
    assert np.array_equal(open_sentinel2(safe).read("B02"), pixels)


def test_xml_that_is_broken_or_declares_entities_is_refused(safe):
    text = (safe / "MTD_MSIL2A.xml").read_text(encoding="utf-8")
    (safe / "MTD_MSIL2A.xml").write_text(text[:2000], encoding="utf-8")
    with pytest.raises(SceneError, match=r"MTD_MSIL2A.xml is not well-formed XML"):
        open_sentinel2(safe)
    head, body = text.split("?>", 1)
    bomb = f'{head}?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;">]>{body.replace("Level-2A<", "&lol2;<")}'
    (safe / "MTD_MSIL2A.xml").write_text(bomb, encoding="utf-8")
    with pytest.raises(SceneError, match=r"MTD_MSIL2A.xml is not well-formed XML .*DTD"):
        open_sentinel2(safe)


def test_metadata_that_leave_something_out_are_refused_by_its_name(safe):
    edit(safe / "MTD_MSIL2A.xml", "PROCESSING_BASELINE", "SOMETHING_ELSE")
    with pytest.raises(SceneError, match=r"MTD_MSIL2A.xml does not state PROCESSING_BASELINE"):
        open_sentinel2(safe)
    (safe / "MTD_MSIL2A.xml").unlink()
    with pytest.raises(SceneError, match=r"lacks MTD_MSIL2A.xml; the product is incomplete, fetch it again"):
        open_sentinel2(safe)
    (safe / "manifest.safe").unlink()
    with pytest.raises(SceneError, match=r"has no manifest.safe and no MTD_MSIL1C.xml or MTD_MSIL2A.xml; expected a Sentinel-2 product"):
        open_sentinel2(safe)


def test_patches_are_numbered_from_the_tile_corner_not_the_raster(tmp_path):
    product = open_sentinel2(write_scene(tmp_path, random_bands(240), ul_x_m=TILE.ul_x_m + 600, ul_y_m=TILE.ul_y_m - 1200))
    patches = cut_patches(product.scene)
    assert patches[["col", "row"]].to_numpy().tolist() == [[1, 1], [1, 2]]
    assert patches["ul_x_m"].tolist() == [TILE.ul_x_m + 1200] * 2
    assert grid_of(product.scene).window(1, 2, 20) == (slice(60, 120), slice(30, 90))
    assert patches["patch_id"][0] == "S2A_MSIL2A_20230612T101031_N0509_R022_T33UUP_01_01"


def test_a_raster_too_small_for_a_patch_is_refused(tmp_path):
    product = open_sentinel2(write_scene(tmp_path, random_bands(120), ul_x_m=TILE.ul_x_m + 600))
    with pytest.raises(GridError, match="too little for one patch of 1200 m"):
        cut_patches(product.scene)


@pytest.fixture
def s1(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    vv, vh = (rng.normal(mean, 3, (360, 360)).astype(np.float32) for mean in (-11, -18))
    vv[0, 0] = np.nan
    return write_s1_pair(tmp_path, product_name=S1_NAME, tile=TILE, vv=vv, vh=vh)


def test_backscatter_is_read_over_the_window_asked_for(s1):
    product = open_sentinel1(s1)
    with rasterio.open(next(s1.glob("*_VV.tif"))) as raster:
        source = raster.read(1)
    read = product.read("VV", epsg=32633, ul_x_m=TILE.ul_x_m + 1200, ul_y_m=TILE.ul_y_m - 600, width_m=3600, height_m=1200)
    assert read.shape == (120, 360)
    assert np.array_equal(read[:, :240], source[60:180, 120:])
    assert np.isnan(read[:, 240:]).all()  # beyond the scene's eastern edge
    assert np.isnan(product.read("VV", epsg=32633, ul_x_m=TILE.ul_x_m, ul_y_m=TILE.ul_y_m, width_m=100, height_m=100)[0, 0])


def test_backscatter_on_another_grid_is_refused_not_shifted(s1):
    product = open_sentinel1(s1)
    for place in ({"epsg": 32632, "ul_x_m": TILE.ul_x_m}, {"epsg": 32633, "ul_x_m": TILE.ul_x_m + 5}):
        with pytest.raises(SceneError, match="lies on another grid .* expected the 10 m grid of the Sentinel-2 tile"):
            product.read("VV", ul_y_m=TILE.ul_y_m, width_m=1200, height_m=1200, **place)


def test_a_scene_without_a_polarisation_or_a_name_is_refused(s1, tmp_path):
    next(s1.glob("*_VH.tif")).unlink()
    with pytest.raises(SceneError, match=r"holds no GeoTIFF for VH; expected one named …_VH.tif"):
        open_sentinel1(s1)
    with pytest.raises(SceneError, match="is not named like a Sentinel-1 GRD product"):
        open_sentinel1(Path(shutil.copytree(s1, tmp_path / "backscatter")))


def test_every_real_metadata_set_opens_as_what_it_is(shared_data):
    found = {}
    for path in sorted((shared_data / "s2_safe_metadata_only").glob("*.SAFE")):
        scene = open_sentinel2(path).scene
        found[scene.tile_id] = (scene.level, scene.baseline, scene.offsets["B02"], scene.epsg, scene.ul_x_m, scene.ul_y_m)
        assert not scene.failed_checks
    assert found == {
        "32TNM": ("L1C", "02.04", 0.0, 32632, 499980, 4700040),
        "46RER": ("L1C", "03.01", 0.0, 32646, 499980, 3100020),
        "07HFE": ("L2A", "02.12", 0.0, 32707, 600000, 6500020),
        "22HBD": ("L2A", "02.14", 0.0, 32722, 199980, 5900020),
        "33XWJ": ("L2A", "04.00", -1000.0, 32633, 499980, 8900040),
        "01KAB": ("L2A", "05.09", -1000.0, 32701, 99960, 8200000),
    }
