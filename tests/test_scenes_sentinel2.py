"""Sentinel-2: every layout and baseline opens as what it is, lies where it says, and is scaled once."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr
from conftest import TILE, random_bands, write_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from servers import s3_server
from typer.testing import CliRunner

from rsdata.commands import app
from rsdata.errors import SceneError
from rsdata.grid import PATCH_SIDE_M, Tile, corners, footprints
from rsdata.records import Sentinel2Scene
from rsdata.scenes import (
    check_complete,
    check_contents,
    harmonize,
    open_mask,
    open_sentinel2,
    open_stac_item,
    read_mask_polygons,
    read_product_xml,
    sun_angles,
    surface_reflectance,
    to_reflectance,
    view_angles,
)
from rsdata.scenes.sentinel2 import Place, Sentinel2Product
from rsdata.scenes.sentinel2_masks import burn
from rsdata.scenes.sentinel2_summary import offsets_in_words, summarize
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import SENTINEL2_L1C

DOCS = Path(__file__).parents[1] / "docs" / "products.md"

# What lies in the folder of real data, and what each is.
REAL = {
    "s2_safe_metadata_only/S2A_MSIL1C_20170226T102021_N0204_R065_T32TNM_20170226T102458.SAFE": "SAFE without pixels, two GML masks",
    "s2_safe_metadata_only/S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE": "SAFE without pixels",
    "s2_safe_metadata_only/S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857.SAFE": "SAFE without pixels",
    "s2_safe_metadata_only/S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825.SAFE": "SAFE without pixels",
    "s2_safe_metadata_only/S2B_MSIL2A_20210122T133229_N0214_R081_T22HBD_20210122T155500.SAFE": "SAFE without pixels",
    "s2_safe_metadata_only/S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.SAFE": "SAFE without pixels",
    "s2_safe_metadata_only/S2C": "two product XML files of Sentinel-2C, nothing else",
    "s2_safe_metadata_only/S2C/S2C_MTD_MSIL1C.xml": "product XML alone",
    "s2_safe_metadata_only/S2C/S2C_MTD_MSIL2A.xml": "product XML alone",
    "s2_safe_with_pixels/S2A_MSIL1C_20180101T105441_N0206_R051_T31TDH_20180101T124911.SAFE": "SAFE without manifest, B01 of the whole tile",
    "s2_safe_with_pixels/S2A_MSIL1C_20200622T105631_N0500_R094_T30TXR_20231110T094313.SAFE": (
        "SAFE without manifest, B02, B04 and two masks cut to 523 x 106 pixels, GeoTIFF named .jp2"
    ),
    "s2_l1c_offset_pair/S2B_MSIL1C_20200406T101559_N0209_R065_T32UPC_20200406T130159_MTD.xml": "product XML beside counts and reflectance",
    "s2_l1c_offset_pair/S2B_MSIL1C_20220615T101559_N0400_R065_T32UPC_20220615T122549_MTD.xml": "product XML beside counts and reflectance",
    "s2_l2a_33TWM_120m/S2B_33TWM_20230813_0_L2A": "folder of a STAC item",
    "s2_l2a_33TWM_120m/S2B_33TWM_20230813_0_L2A/S2B_33TWM_20230813_0_L2A.json": "STAC item, bands at 120 m, JPEG 2000 named .tif",
}  # fmt: skip


def says(path: Path) -> str:
    """What rsdata says to one path, in one sentence without the folders above it."""
    try:
        if path.suffix == ".xml":
            header = read_product_xml(path)
            offsets = sorted(set(header.offsets.values()))
            return (
                f"read_product_xml: {header.mission} {header.level} {header.baseline}, offset {', '.join(f'{each:g}' for each in offsets)}"
            )
        scene = (open_stac_item if path.suffix == ".json" else open_sentinel2)(path).scene
    except SceneError as error:
        return f"refused: {str(error).replace(f'{path.parent}/', '')}"
    offset = offsets_in_words(scene)
    text = (
        f"opens: {scene.mission} {scene.level} {scene.baseline}, tile {scene.tile_id}, offset {offset}, {len(scene.bands)} bands and layers"
    )
    return "; ".join([text, *scene.notes])


@pytest.mark.parametrize("place", REAL)
def test_the_table_in_the_docs_is_what_rsdata_says_to_every_real_product(shared_data, place):
    row = f"| `{place}` | {REAL[place]} | {says(shared_data / place)} |"
    assert row in DOCS.read_text(encoding="utf-8").splitlines(), f"docs/products.md differs; its row should be\n{row}"


def test_no_real_product_is_left_out_of_the_table(shared_data):
    found = set(shared_data.glob("s2_*/*.SAFE")) | set(shared_data.glob("s2_*/*/*.json"))
    found |= {path for path in shared_data.glob("s2_*/**/*MTD*.xml") if ".SAFE" not in str(path)}
    assert {str(path.relative_to(shared_data)) for path in found} <= set(REAL)


# --- radiometry -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "offset", "missing"),
    [
        ("S2B_MSIL1C_20200406T101559_N0209_R065_T32UPC_20200406T130159", 0, 5),
        ("S2B_MSIL1C_20220615T101559_N0400_R065_T32UPC_20220615T122549", -1000, 0),
    ],
)
def test_the_offset_pair_gives_the_published_reflectance(shared_data, name, offset, missing):
    folder = shared_data / "s2_l1c_offset_pair"
    header = read_product_xml(folder / f"{name}_MTD.xml")
    assert set(header.offsets.values()) == {float(offset)}
    assert list(header.offsets) == [f"B{n:02d}" for n in range(1, 9)] + ["B8A"] + [f"B{n:02d}" for n in range(9, 13)]
    with rasterio.open(folder / f"{name}.tif") as raster, rasterio.open(folder / f"{name}_toa.tif") as published:
        counts, expected = raster.read(), published.read()
    made = np.stack(
        [
            surface_reflectance(xr.DataArray(counts[i], dims=("y", "x")), header.offsets[band], header.quantification, header.nodata).values
            for i, band in enumerate(header.offsets)
        ]
    )
    assert np.isnan(made).sum() == (counts == 0).sum() == missing  # published as 0, though nothing was measured there
    assert np.nanmax(np.abs(made - expected)) <= 1e-6


def test_harmonize_applies_offset_and_scale_once(made_safe):
    counts = open_sentinel2(made_safe).open_dataset(gsd_m=20)
    assert list(counts.data_vars) == ["B05", "B06", "B07", "B8A", "B11", "B12", "SCL", "CLDPRB", "SNWPRB"]
    assert counts["B05"].attrs["scale_factor"] == 1e-4
    assert counts["B05"].attrs["add_offset"] == -0.1
    assert counts.attrs["offset_applied"] == 0
    made = harmonize(counts)
    expected = (random_bands()["B05"].astype(np.float64) - 1000) / 10_000
    assert made["B05"].dtype == np.float32
    assert np.abs(made["B05"].values - expected).max() < 1e-6
    assert made["SCL"].dtype == np.uint8
    for again in (made, counts.assign_attrs(offset_applied=1), counts.assign(B05=counts["B05"].assign_attrs(offset_applied=1))):
        with pytest.raises(SceneError, match="carries its offset already"):
            harmonize(again)
    with pytest.raises(SceneError, match="B05 states no scale_factor, so it was scaled already"):
        to_reflectance(made)


def test_cf_readers_make_the_same_reflectance(made_safe):
    counts = open_sentinel2(made_safe).open_dataset(bands=["B02", "B03"])
    decoded = xr.decode_cf(counts)
    assert np.abs(decoded["B02"].values - harmonize(counts)["B02"].values).max() < 1e-6
    with pytest.raises(SceneError, match="so it was scaled already"):
        harmonize(decoded)


def test_masked_and_missing_pixels_are_nan(tmp_path):
    bands = random_bands(120)
    bands["B02"][0, 0] = 0
    product = open_sentinel2(write_scene(tmp_path, bands))
    counts = product.open_dataset(gsd_m=10)
    cloud = xr.zeros_like(counts["B02"], dtype=bool)
    cloud[5, 7] = True
    made = harmonize(counts, cloud)
    assert np.argwhere(np.isnan(made["B02"].values)).tolist() == [[0, 0], [5, 7]]
    assert np.argwhere(np.isnan(made["B03"].values)).tolist() == [[5, 7]]
    with pytest.raises(SceneError, match="on another grid"):
        harmonize(counts, cloud[:-1])


@pytest.mark.parametrize("baseline", ["02.04", "02.14", "03.01", "04.00", "05.11", "99.99"])
def test_offsets_come_from_the_xml_in_every_baseline(tmp_path, baseline):
    bands = random_bands(120)
    stated = open_sentinel2(write_scene(tmp_path, bands, baseline=baseline)).scene
    assert stated.offsets["B02"] == (-1000 if baseline in ("04.00", "05.11") else 0)
    odd = open_sentinel2(write_scene(tmp_path, bands, baseline=baseline, offset=-700)).scene
    assert odd.offsets["B02"] == -700  # whatever the baseline would suggest


@pytest.mark.parametrize("mission", ["S2A", "S2B", "S2C", "S2D"])
def test_every_satellite_opens(tmp_path, mission):
    scene = open_sentinel2(write_scene(tmp_path, random_bands(120), mission=mission)).scene
    assert (scene.mission, scene.product[:3]) == (mission, mission)


def test_offsets_for_some_bands_only_are_refused(safe):
    path = safe / "MTD_MSIL2A.xml"
    path.write_text(re.sub(r'<BOA_ADD_OFFSET band_id="3">.*?</BOA_ADD_OFFSET>', "", path.read_text()))
    with pytest.raises(SceneError, match="states BOA_ADD_OFFSET for some bands only"):
        open_sentinel2(safe)


# --- layouts ----------------------------------------------------------------------------------------------


def write_old_product(folder: Path, tiles: dict[str, tuple[int, int]]) -> Path:
    """A Level-1C product in the naming before December 2016, with one granule of 120 pixels for each tile."""
    stamp, sensing = "20160504T225644", "20160504T105917"
    safe = folder / f"S2A_OPER_PRD_MSIL1C_PDMC_{stamp}_R094_V{sensing}_{sensing}.SAFE"
    granules, listed = "", []
    rng = np.random.default_rng(0)
    for tile, (ul_x_m, ul_y_m) in tiles.items():
        stem = f"S2A_OPER_MSI_L1C_TL_SGS__20160504T163055_A004524_T{tile}"
        images = "".join(f"<IMAGE_ID>{stem}_{band}</IMAGE_ID>" for band in SENTINEL2_L1C.band_names)
        granules += f'<Granule_List><Granules granuleIdentifier="{stem}_N02.02" imageFormat="JPEG2000">{images}</Granules></Granule_List>'
        inside = f"GRANULE/{stem}_N02.02"
        (safe / inside / "IMG_DATA").mkdir(parents=True)
        (safe / inside / "QI_DATA").mkdir()
        for band in SENTINEL2_L1C.bands:
            side = 1200 // band.gsd_m
            with rasterio.open(
                safe / inside / "IMG_DATA" / f"{stem}_{band.name}.jp2", "w", driver="JP2OpenJPEG", dtype="uint16", count=1, height=side,
                width=side, crs=f"EPSG:{Tile.from_name(tile).epsg}", transform=from_origin(ul_x_m, ul_y_m, band.gsd_m, band.gsd_m),
                QUALITY="100", REVERSIBLE="YES",
            ) as raster:  # fmt: skip
                raster.write(rng.integers(1, 5000, (side, side), dtype=np.uint16), 1)
        sizes = "".join(f'<Size resolution="{g}"><NROWS>{1200 // g}</NROWS><NCOLS>{1200 // g}</NCOLS></Size>' for g in (10, 20, 60))
        mask = f"S2A_OPER_MSK_CLOUDS_SGS__20160504T163055_A004524_T{tile}_B00_MSIL1C.gml"
        (safe / inside / "QI_DATA" / mask).write_text(
            '<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2"></eop:Mask>'
        )
        tile_xml = f"{inside}/{stem.replace('MSI_L1C', 'MTD_L1C')}.xml"
        (safe / tile_xml).write_text(
            f'<n1:Level-1C_Tile_ID xmlns:n1="x"><n1:General_Info><TILE_ID>{stem}_N02.02</TILE_ID>'
            f"<SENSING_TIME>2016-05-04T11:06:16.000Z</SENSING_TIME></n1:General_Info><n1:Geometric_Info><Tile_Geocoding>"
            f"<HORIZONTAL_CS_CODE>EPSG:{Tile.from_name(tile).epsg}</HORIZONTAL_CS_CODE>{sizes}"
            f'<Geoposition resolution="10"><ULX>{ul_x_m}</ULX><ULY>{ul_y_m}</ULY></Geoposition></Tile_Geocoding></n1:Geometric_Info>'
            f'<MASK_FILENAME type="MSK_CLOUDS">{mask}</MASK_FILENAME></n1:Level-1C_Tile_ID>'
        )
        listed.append(tile_xml)
    product_xml = f"S2A_OPER_MTD_SAFL1C_PDMC_{stamp}_R094_V{sensing}_{sensing}.xml"
    (safe / product_xml).write_text(
        f'<n1:Level-1C_User_Product xmlns:n1="x"><Product_Info><PRODUCT_URI>{safe.name}</PRODUCT_URI><PROCESSING_LEVEL>Level-1C'
        f"</PROCESSING_LEVEL><PRODUCT_TYPE>S2MSI1C</PRODUCT_TYPE><PROCESSING_BASELINE>02.02</PROCESSING_BASELINE>"
        f'<Datatake datatakeIdentifier="GS2A_20160504T105622_004524_N02.02"><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>'
        f"<DATATAKE_SENSING_START>2016-05-04T10:56:22.000Z</DATATAKE_SENSING_START><SENSING_ORBIT_NUMBER>94</SENSING_ORBIT_NUMBER>"
        f"</Datatake>{granules}</Product_Info><QUANTIFICATION_VALUE>10000</QUANTIFICATION_VALUE></n1:Level-1C_User_Product>"
    )
    entries = "".join(f'<byteStream><fileLocation href="./{name}"/></byteStream>' for name in (product_xml, *listed))
    (safe / "manifest.safe").write_text(f"<XFDU>{entries}</XFDU>")
    return safe


def test_a_product_of_many_tiles_opens_by_tile(tmp_path):
    safe = write_old_product(tmp_path, {"30TXR": (600000, 5100000), "30TYR": (699960, 5100000)})
    with pytest.raises(SceneError, match=r"holds 2 tiles: 30TXR, 30TYR; name the one to open, such as tile='30TXR'"):
        open_sentinel2(safe)
    with pytest.raises(SceneError, match=r"holds no tile 31TCJ, only 30TXR, 30TYR"):
        open_sentinel2(safe, tile="31TCJ")
    products = {tile: open_sentinel2(safe, tile=tile) for tile in ("30TXR", "30TYR")}
    for tile, product in products.items():
        assert product.scene.scene_id == f"S2A_MSIL1C_20160504T105622_N0202_R094_T{tile}"
        assert product.scene.product == safe.name.removesuffix(".SAFE")
        assert list(product.scene.bands) == list(SENTINEL2_L1C.band_names)
        assert product.scene.absolute_orbit == 4524
        assert read_mask_polygons(product, "CLOUDS").empty
        assert open_mask(product, "CLOUDS").sum() == 0
        assert product.open_dataset(gsd_m=60)["B10"].shape == (20, 20)
    assert products["30TYR"].scene.ul_x_m == 699960
    assert not np.array_equal(products["30TXR"].read("B02"), products["30TYR"].read("B02"))
    result = CliRunner().invoke(app, ["scenes", "inspect", str(safe), "--tile", "30TYR"])
    assert result.exit_code == 0
    assert "30TYR" in result.output


def test_a_product_of_many_tiles_with_one_of_them_here_opens_as_that(tmp_path):
    safe = write_old_product(tmp_path, {"30TXR": (600000, 5100000), "30TYR": (699960, 5100000)})
    shutil.rmtree(next((safe / "GRANULE").glob("*T30TXR*")))
    scene = open_sentinel2(safe).scene
    assert scene.tile_id == "30TYR"
    assert "lists 2 tiles, of which only 30TYR is here" in scene.notes


def test_the_pilot_level_2ap_opens(safe):
    """Its tags have other names, and each resolution is a granule entry of its own."""
    path = safe / "MTD_MSIL2A.xml"
    text = path.read_text(encoding="utf-8")
    text = text.replace("<PROCESSING_LEVEL>Level-2A<", "<PROCESSING_LEVEL>Level-2Ap<").replace(">S2MSI2A<", ">S2MSI2Ap<")
    text = text.replace("PRODUCT_URI>", "PRODUCT_URI_2A>").replace("IMAGE_FILE>", "IMAGE_FILE_2A>")
    text = re.sub(r"(?<=[</])(BOA|AOT|WVP)_QUANTIFICATION_VALUE", r"L2A_\1_QUANTIFICATION_VALUE", text)
    granule = re.search(r"<Granule .*?</Granule>", text, re.DOTALL)
    assert granule is not None
    head = granule[0].split(">")[0] + ">"
    entries = re.findall(r"<IMAGE_FILE_2A>.*?</IMAGE_FILE_2A>", granule[0])
    parts = "".join(f"{head}{''.join(e for e in entries if f'_{gsd}m<' in e)}</Granule>" for gsd in (10, 20, 60))
    path.write_text(text.replace(granule[0], parts), encoding="utf-8")
    product = open_sentinel2(safe)
    assert set(product.scene.bands) == {*SENTINEL2.band_names, "SCL", "CLDPRB", "SNWPRB"}
    assert product.scene.aot_quantification == 1000
    assert "Level-2Ap, the pilot production of 2017" in product.scene.notes
    assert np.array_equal(product.read("B11"), random_bands()["B11"])


def test_a_product_without_manifest_opens_with_a_note(safe):
    (safe / "manifest.safe").unlink()
    product = open_sentinel2(safe)
    assert product.scene.notes == ["no manifest.safe: files were found through MTD_MSIL2A.xml and cannot be held to sizes or checksums"]
    assert np.array_equal(product.read("B02"), random_bands()["B02"])


def test_one_file_of_a_product_is_refused(safe):
    with pytest.raises(SceneError, match=r"MTD_MSIL2A.xml is one file of a product; expected the product's folder or zip"):
        open_sentinel2(safe / "MTD_MSIL2A.xml")


def test_layers_carry_their_units(safe):
    tile = open_sentinel2(safe).scene.bands["SCL"]
    for layer, value in (("AOT", 83), ("WVP", 3433)):
        target = safe / tile.replace("SCL", layer)
        with rasterio.open(safe / tile) as raster:
            profile = raster.profile | {"driver": "GTiff", "dtype": "uint16"}
        with rasterio.open(target, "w", **profile) as raster:
            raster.write(np.full((120, 120), value, np.uint16), 1)
        xml = safe / "MTD_MSIL2A.xml"
        entry = f"<IMAGE_FILE>{tile.removesuffix('.jp2')}</IMAGE_FILE>"
        xml.write_text(xml.read_text().replace(entry, entry + entry.replace("SCL", layer)))
    made = harmonize(open_sentinel2(safe).open_dataset(bands=["AOT", "WVP", "SCL"]))
    assert made["AOT"].attrs["units"] == "1"
    assert made["WVP"].attrs["units"] == "cm"
    assert float(made["AOT"][0, 0]) == pytest.approx(0.083)
    assert float(made["WVP"][0, 0]) == pytest.approx(3.433)
    assert made["SCL"].attrs["flag_meanings"].split()[6] == "water"


def test_a_dataset_is_one_grid(made_safe):
    product = open_sentinel2(made_safe)
    with pytest.raises(SceneError, match=r"B02 240 x 240 at 10 m, B05 120 x 120 at 20 m; expected one grid"):
        product.open_dataset(bands=["B02", "B05"])
    with pytest.raises(SceneError, match="give one of the two"):
        product.open_dataset()
    with pytest.raises(SceneError, match="lacks B10; it has B02"):
        product.open_dataset(bands=["B10"])
    with pytest.raises(SceneError, match="has no bands at 30 m"):
        product.open_dataset(gsd_m=30)


# --- real pixels ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crop(shared_data: Path) -> Sentinel2Product:
    return open_sentinel2(next((shared_data / "s2_safe_with_pixels").glob("*T30TXR*")))


def test_a_real_crop_lies_on_its_tile(crop):
    """GeoTIFF named .jp2, cut from the tile along its pixels."""
    counts = crop.open_dataset(gsd_m=10)
    assert counts.sizes == {"y": 106, "x": 523}
    assert (float(counts.x[0]), float(counts.y[0])) == (638845.0, 5023615.0)  # centre of the first pixel
    assert counts.rio.bounds() == (638840.0, 5022560.0, 644070.0, 5023620.0)  # outer edges
    assert harmonize(counts)["B02"].values[50, 100] == pytest.approx((float(counts["B02"][50, 100]) - 1000) / 10_000, abs=1e-7)
    with pytest.raises(SceneError, match="is 106 x 523 pixels, but MTD_TL.xml says 10980 x 10980"):
        crop.read("B02")  # whole bands are for patches
    with rasterio.open(crop.files.gdal_path(crop.scene.bands["B04"])) as raster:
        assert np.array_equal(raster.read(1), counts["B04"].values)
        x, y = float(counts.x[300]), float(counts.y[40])
        assert next(raster.sample([(x, y)]))[0] == counts["B04"].values[40, 300]


def test_the_real_detector_mask_covers_the_pixels(crop):
    detectors = open_mask(crop, "DETFOO", "B02")
    assert set(np.unique(detectors)) == {0, 5, 6}
    counts = crop.open_counts("B02")
    assert np.array_equal(detectors.x, counts.x)
    agree = (detectors.values > 0) == (counts.values > 0)
    assert agree.mean() > 0.99
    with pytest.raises(SceneError, match="has no mask QUALIT_B02, only DETFOO_B02, DETFOO_B04"):
        open_mask(crop, "QUALIT", "B02")
    with pytest.raises(SceneError, match="is a raster, as masks are from baseline 04.00 on"):
        read_mask_polygons(crop, "DETFOO", "B02")


def test_a_real_jpeg_2000_of_a_whole_tile_is_read(shared_data):
    product = open_sentinel2(next((shared_data / "s2_safe_with_pixels").glob("*T31TDH*")))
    counts = product.read("B01")
    assert counts.shape == (1830, 1830)
    assert (counts == 0).mean() == pytest.approx(0.41, abs=0.01)
    assert np.array_equal(product.open_counts("B01").values, counts)
    reflectance = product.open_reflectance("B01").values
    assert np.nanmax(np.abs(reflectance - np.where(counts == 0, np.nan, counts / 10_000))) < 1e-6


# --- angles -----------------------------------------------------------------------------------------------


def test_sun_angles_are_those_of_the_xml(crop):
    angles = sun_angles(crop)
    assert angles["zenith"].shape == (23, 23)
    text = (crop.files.path / str(crop.scene.tile_xml)).read_text()
    first = re.search(r"<Sun_Angles_Grid>.*?<VALUES>(\S+)", text, re.DOTALL)
    assert first is not None
    assert float(angles["zenith"][0, 0]) == float(first[1])
    assert (float(angles.x[0]), float(angles.y[0])) == (600000, 5100000)  # nodes, the first on the corner
    assert float(angles.x[1] - angles.x[0]) == 5000
    assert float(angles["zenith"].mean()) == pytest.approx(crop.scene.sun_zenith_deg, abs=0.05)
    assert float(angles["azimuth"].mean()) == pytest.approx(crop.scene.sun_azimuth_deg, abs=0.05)
    assert angles["zenith"].attrs["units"] == "degree"


def test_view_angles_are_the_mean_over_detectors(crop):
    angles = view_angles(crop)
    assert angles["zenith"].shape == (13, 23, 23)
    root = crop.files.read_xml(str(crop.scene.tile_xml))
    grids = [
        np.array([row.text.split() for row in grid.find("{*}Zenith").iter("VALUES")], float)
        for grid in root.iter("Viewing_Incidence_Angles_Grids")
        if grid.get("bandId") == "1"
    ]
    assert len(grids) > 2
    for y, x in [(0, 0), (5, 5), (11, 11), (20, 3), (12, 15)]:
        seen = [grid[y, x] for grid in grids if not np.isnan(grid[y, x])]
        value = float(angles["zenith"].sel(band="B02")[y, x])
        assert value == pytest.approx(np.mean(seen)) if seen else np.isnan(value)
    for band in SENTINEL2_L1C.band_names:
        assert float(angles["zenith"].sel(band=band).mean()) == pytest.approx(crop.scene.view_zenith_deg[band], abs=1.0), band
    azimuth = angles["azimuth"].values
    assert np.nanmin(azimuth) >= 0
    assert np.nanmax(azimuth) < 360


def test_view_azimuths_meet_at_north(safe):
    """Detectors that look to 350 and 20 degrees look to 5 degrees together, not to 185."""
    path = next(safe.rglob("MTD_TL.xml"))
    grid = '<Viewing_Incidence_Angles_Grids bandId="1" detectorId="{0}"><Zenith><COL_STEP>5000</COL_STEP><VALUES>4 4</VALUES><VALUES>NaN 4'
    grid += "</VALUES></Zenith><Azimuth><COL_STEP>5000</COL_STEP><VALUES>{1} {1}</VALUES><VALUES>{1} {1}</VALUES></Azimuth>"
    grid += "</Viewing_Incidence_Angles_Grids></Tile_Angles>"
    text = path.read_text()
    for detector, azimuth in ((1, 350), (2, 20)):
        text = text.replace("</Tile_Angles>", grid.format(detector, azimuth))
    path.write_text(text)
    angles = view_angles(open_sentinel2(safe))
    assert angles["azimuth"].sel(band="B02").values[0].tolist() == pytest.approx([5, 5])
    assert np.isnan(angles["zenith"].values[0, 1, 0])
    assert np.isnan(angles["azimuth"].values[0, 1, 0])
    with pytest.raises(SceneError, match="has no Sun_Angles_Grid"):
        sun_angles(open_sentinel2(safe))
    path.write_text(text.replace("EPSG:32", f"EPSG:{10**29}32"))
    with pytest.raises(SceneError, match="make no sense"):
        view_angles(open_sentinel2(safe))


# --- masks ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gml(shared_data: Path) -> Sentinel2Product:
    return open_sentinel2(next((shared_data / "s2_safe_metadata_only").glob("*N0204*")))


def test_real_gml_clouds_cover_what_the_product_states(gml):
    """Cloud per observed area is the percentage in the product's own XML."""
    clouds = read_mask_polygons(gml, "CLOUDS")
    assert clouds["mask_type"].tolist() == ["OPAQUE"] * 4 + ["CIRRUS"]
    assert clouds.crs.to_epsg() == 32632
    footprint = read_mask_polygons(gml, "DETFOO", "B02")
    assert footprint["detector"].tolist() == [9, 10, 11, 12]
    assert footprint.geometry.is_valid.all()
    observed = footprint.union_all().intersection(shapely.box(499980, 4590240, 609780, 4700040)).area
    assert 100 * clouds.area.sum() / observed == pytest.approx(gml.scene.cloud_percent, rel=0.02)  # seen by B02, not by all bands


def test_gml_is_burnt_by_pixel_centre(gml):
    clouds = read_mask_polygons(gml, "CLOUDS")
    burnt = open_mask(gml, "CLOUDS")
    assert burnt["flag"].values.tolist() == ["OPAQUE", "CIRRUS"]
    assert burnt.shape == (2, 1830, 1830)
    for flag, polygons in clouds.groupby("mask_type"):
        assert float(burnt.sel(flag=flag).sum()) * 3600 == polygons.area.sum(), flag  # drawn along 60 m pixels
    opaque = burnt.sel(flag="OPAQUE").values
    for y, x in np.random.default_rng(0).integers(300, 800, (200, 2)):
        centre = shapely.Point(float(burnt.x[x]), float(burnt.y[y]))
        assert opaque[y, x] == clouds[clouds["mask_type"] == "OPAQUE"].contains(centre).any()
    detectors = open_mask(gml, "DETFOO", "B02")
    assert detectors.shape == (10980, 10980)
    assert set(np.unique(detectors.values[::100, ::100])) == {0, 9, 10, 11, 12}


def test_burning_takes_centres_and_holes(gml):
    place = Place(0, 40, 10, (4, 4))
    outline = shapely.Polygon([(0, 0), (40, 0), (40, 40), (0, 40)], [[(10, 10), (20, 10), (20, 20), (10, 20)]])
    sliver = shapely.box(0, 0, 4.9, 40)  # crosses pixels, holds no centre
    frame = read_mask_polygons(gml, "CLOUDS").iloc[:1]
    assert burn(frame.set_geometry([outline], crs=32632), place).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]]
    assert burn(frame.set_geometry([sliver], crs=32632), place).sum() == 0


def test_gml_with_entities_or_of_another_zone_is_refused(shared_data, tmp_path):
    source = next((shared_data / "s2_safe_metadata_only").glob("*N0204*"))
    safe = Path(shutil.copytree(source, tmp_path / source.name, copy_function=shutil.copyfile))
    mask = next(safe.rglob("MSK_CLOUDS_B00.gml"))
    text = mask.read_text()
    mask.chmod(0o644)
    mask.parent.chmod(0o755)
    mask.write_text(text.replace("EPSG:8.7:32632", "EPSG:8.7:32633"))
    with pytest.raises(SceneError, match="MSK_CLOUDS_B00.gml is in EPSG:32633; expected EPSG:32632"):
        read_mask_polygons(open_sentinel2(safe), "CLOUDS")
    mask.write_text(text.replace("<eop:Mask ", '<!DOCTYPE a [<!ENTITY b "c">]><eop:Mask ', 1))
    with pytest.raises(SceneError, match="is not well-formed XML"):
        read_mask_polygons(open_sentinel2(safe), "CLOUDS")
    mask.write_text(text.replace("502440 4672440 502800", "502440 502800", 1))
    with pytest.raises(SceneError, match="has a ring of"):
        read_mask_polygons(open_sentinel2(safe), "CLOUDS")


@pytest.mark.parametrize(
    ("kind", "band", "count", "gsd_m", "flag"), [("CLASSI", None, 3, 60, "CIRRUS"), ("QUALIT", "B05", 8, 20, "ANC_DEG")]
)
def test_raster_masks_name_their_flags(safe, kind, band, count, gsd_m, flag):
    tile_xml = next(safe.rglob("MTD_TL.xml"))
    name = f"{tile_xml.parent.relative_to(safe)}/QI_DATA/MSK_{kind}_{band or 'B00'}"
    attribute = 'bandId="4" ' if band else ""
    # Products of 04.00 name .tif where the file is .jp2.
    entry = f'<MASK_FILENAME {attribute}type="MSK_{kind}">{name}.tif</MASK_FILENAME></Pixel_Level_QI>'
    tile_xml.write_text(tile_xml.read_text().replace("</Pixel_Level_QI>", entry))
    side = 2400 // gsd_m
    pixels = np.zeros((count, side, side), np.uint8)
    pixels[1, 3, 4] = 1
    with rasterio.open(
        safe / f"{name}.jp2", "w", driver="JP2OpenJPEG", dtype="uint8", count=count, height=side, width=side, crs="EPSG:32633",
        transform=from_origin(TILE.ul_x_m, TILE.ul_y_m, gsd_m, gsd_m), QUALITY="100", REVERSIBLE="YES", YCC="NO",
    ) as raster:  # fmt: skip
        raster.write(pixels)
    mask = open_mask(open_sentinel2(safe), kind, band)
    assert mask.chunks is not None
    assert mask["flag"].values[1] == flag
    assert np.argwhere(mask.values).tolist() == [[1, 3, 4]]
    assert float(mask.x[4]) == TILE.ul_x_m + 4.5 * gsd_m


# --- STAC items -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def item_path(shared_data: Path) -> Path:
    return next((shared_data / "s2_l2a_33TWM_120m").glob("*/*.json"))


def test_an_item_that_applied_the_offset_is_not_corrected_twice(item_path):
    """It says boa_offset_applied and lists -0.1 all the same; its pixels are JPEG 2000 named .tif."""
    product = open_stac_item(item_path)
    assert product.scene.offset_applied
    assert set(product.scene.offsets.values()) == {0.0}
    assert any("lists an offset of -0.1" in note for note in product.scene.notes)
    counts = product.open_dataset(bands=["B02", "B03", "B04", "B08"])
    with pytest.raises(SceneError, match="carries its offset already"):
        harmonize(counts)
    made = to_reflectance(counts)
    with rasterio.open(item_path.parent / "B02.tif") as raster:
        assert raster.driver == "JP2OpenJPEG"
        stored = raster.read(1)
    assert (stored[stored > 0] < 1000).mean() > 0.9  # so the 1000 were taken off
    expected = np.where(stored == 0, np.nan, stored / 10_000)
    assert np.nanmax(np.abs(made["B02"].values - expected)) < 1e-6
    assert np.nanmax(np.abs(product.open_reflectance("B02").values - expected)) < 1e-6
    assert 0.02 < float(np.nanmedian(made["B02"])) < 0.04  # summer forest in blue light


def test_an_item_lies_on_its_tile_though_its_files_do_not_say_so(item_path):
    product = open_stac_item(item_path)
    counts = product.open_dataset(bands=["B02", "SCL"])
    assert counts.rio.bounds() == (499980, 5090220, 609780, 5200020)
    assert (float(counts.x[0]), float(counts.y[0])) == (499980 + 60, 5200020 - 60)  # pixels of 120 m
    assert counts.rio.crs.to_epsg() == 32633
    classi = open_mask(product, "CLASSI")
    assert classi["flag"].values.tolist() == ["OPAQUE", "CIRRUS", "SNOW_ICE"]
    assert classi.rio.bounds() == counts.rio.bounds()
    assert product.open_counts("CLDPRB").rio.bounds() == counts.rio.bounds()
    high = product.open_counts("CLDPRB").values[counts["SCL"].values == 9]
    low = product.open_counts("CLDPRB").values[counts["SCL"].values == 4]
    assert high.mean() > 50 > 5 > low.mean()  # both layers lie alike
    assert sun_angles(product)["zenith"].values[0, 0] == 34.4047


@pytest.mark.parametrize(
    ("flag", "offset", "baseline", "expected"),
    [
        (False, -0.1, "05.09", -1000),
        (None, -0.1, "05.09", -1000),
        (None, None, "02.14", 0),
        (True, None, "05.09", 0),
        (False, 0, "02.14", 0),
    ],
)
def test_what_an_item_says_about_its_offset_is_followed(item_path, tmp_path, flag, offset, baseline, expected):
    scene = open_stac_item(edited_item(item_path, tmp_path, flag, offset, baseline)).scene
    assert set(scene.offsets.values()) == {float(expected)}
    assert scene.offset_applied == bool(flag)


def test_an_item_that_leaves_its_offset_open_is_refused(item_path, tmp_path):
    with pytest.raises(SceneError, match="says neither boa_offset_applied nor a raster offset, so its counts may carry the offset or not"):
        open_stac_item(edited_item(item_path, tmp_path, None, None, "05.09"))
    path = tmp_path / "broken.json"
    for text, message in (("{", "cannot be read as JSON"), ("[]", "is no STAC item"), ('{"type": "Feature"}', "is no STAC item")):
        path.write_text(text)
        with pytest.raises(SceneError, match=message):
            open_stac_item(path)


def edited_item(source: Path, folder: Path, flag: bool | None, offset: float | None, baseline: str) -> Path:
    item = json.loads(source.read_text())
    item["properties"].pop("earthsearch:boa_offset_applied")
    if flag is not None:
        item["properties"]["earthsearch:boa_offset_applied"] = flag
    item["properties"]["s2:processing_baseline"] = baseline
    for asset in item["assets"].values():
        for band in asset.get("raster:bands", []):
            band.pop("offset", None)
            if offset is not None:
                band["offset"] = offset
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    return path


# --- grid -------------------------------------------------------------------------------------------------


def test_corners_are_edges_and_coordinates_are_centres_at_every_resolution(made_safe):
    product = open_sentinel2(made_safe)
    for gsd_m in (10, 20, 60):
        counts = product.open_dataset(gsd_m=gsd_m)
        assert counts.rio.bounds() == (TILE.ul_x_m, TILE.ul_y_m - 2400, TILE.ul_x_m + 2400, TILE.ul_y_m)
        assert float(counts.x[0]) == TILE.ul_x_m + gsd_m / 2
        assert float(counts.y[-1]) == TILE.ul_y_m - 2400 + gsd_m / 2
        name = str(next(iter(counts.data_vars)))
        with rasterio.open(product.files.gdal_path(product.scene.bands[name])) as raster:
            places = [(3, 5), (0, 0), (20, 11)]
            sampled = [values[0] for values in raster.sample([(float(counts.x[x]), float(counts.y[y])) for y, x in places])]
        assert sampled == [counts[name].values[y, x] for y, x in places]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["33UUP", "01KAB", "07HFE", "33XWJ", "60WWT", "32TNM", "22HBD"]),
    col=st.integers(0, 90),
    row=st.integers(0, 90),
)
def test_patch_centre_to_lonlat_and_back_is_the_same_patch(name, col, row):
    tile = Tile.from_name(name)
    ul_x_m, ul_y_m = corners(tile, np.array([col]), np.array([row]))
    (outline,) = footprints(ul_x_m, ul_y_m, tile.epsg)
    to_lonlat = pyproj.Transformer.from_crs(tile.epsg, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(ul_x_m[0] + PATCH_SIDE_M / 2, ul_y_m[0] - PATCH_SIDE_M / 2)
    assert outline.contains(shapely.Point(lon, lat)) or outline.contains(shapely.Point(lon + 360, lat))
    x, y = to_lonlat.transform(lon, lat, direction="INVERSE")
    assert int((x - tile.ul_x_m) // PATCH_SIDE_M) == col
    assert int((tile.ul_y_m - y) // PATCH_SIDE_M) == row
    assert abs(x - ul_x_m[0] - 600) < 1e-3
    assert abs(y - ul_y_m[0] + 600) < 1e-3


@settings(max_examples=15, deadline=None)
@given(y=st.integers(1, 300), x=st.integers(1, 300))
def test_results_are_equal_for_any_chunk_size(made_safe, y, x):
    product = open_sentinel2(made_safe)
    made = harmonize(product.open_dataset(bands=["B02", "B08"], chunks={"y": max(y, 40), "x": max(x, 40)}))
    expected = (random_bands()["B08"].astype(np.float32) - np.float32(1000)) / np.float32(10_000)
    assert np.array_equal(made["B08"].values, expected)


def test_a_raster_off_the_pixels_of_its_tile_is_refused(crop, tmp_path):
    safe = Path(shutil.copytree(crop.files.path, tmp_path / crop.files.path.name, copy_function=shutil.copyfile))
    path = next(safe.rglob("IMG_DATA/*_B02.jp2"))
    with rasterio.open(path) as raster:
        profile, pixels = raster.profile, raster.read()
    path.parent.chmod(0o755)
    for corner in ((638845, 5023620), (590000, 5023620), (705000, 5023620)):
        path.unlink(missing_ok=True)
        with rasterio.open(path, "w", **(profile | {"transform": from_origin(*corner, 10, 10)})) as raster:
            raster.write(pixels)
        with pytest.raises(SceneError, match="expected pixels of 10 m on the grid of tile 30TXR"):
            open_sentinel2(safe).open_counts("B02")


# --- inspect ----------------------------------------------------------------------------------------------


def test_inspect_tells_what_matters_in_one_screen(made_safe):
    result = CliRunner().invoke(app, ["scenes", "inspect", str(made_safe)])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) <= 40
    for text in (
        "-1000 in all bands",
        "baseline 05.09",
        "relative 22",
        "33UUP",
        "4 inspections PASSED",
        "zenith",
        "│ usable",
        "EPSG:32633",
    ):
        assert text in result.output, text
    record = json.loads(CliRunner().invoke(app, ["scenes", "inspect", "--json", str(made_safe)]).output)[0]
    assert record.pop("problem") is None
    assert Sentinel2Scene.model_validate(record) == open_sentinel2(made_safe).scene


def test_a_summary_says_why_a_product_is_not_usable_and_which_offset_differs(made_safe):
    scene = open_sentinel2(made_safe).scene
    odd = scene.model_copy(update={"offsets": scene.offsets | {"B09": -500.0}, "quality_checks": {"SENSOR_QUALITY": "FAILED"}})
    lines = dict(summarize(odd, "SENSOR_QUALITY is FAILED"))
    assert lines["offset"] == "-1000, but -500 in B09"
    assert lines["quality"].startswith("SENSOR_QUALITY FAILED; not stated: GENERAL_QUALITY")
    assert lines["verdict"] == "not usable: SENSOR_QUALITY is FAILED"
    assert lines["bands absent"] == "none"


# --- behind a URL -----------------------------------------------------------------------------------------


def zipped(safe: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(safe.rglob("*")):
            archive.write(path, path.relative_to(safe.parent))
    return target


@pytest.fixture(scope="module")
def bucket(made_safe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The small product in an S3 bucket on this machine, as a folder and as a zip, for all to read."""
    for package in ("moto", "flask", "obstore"):
        pytest.importorskip(package, reason=f"{package} is not installed; it comes with the extra `dev`")
    import boto3

    folder = tmp_path_factory.mktemp("bucket")
    archive = zipped(made_safe, folder / "product.zip")
    with s3_server(folder) as running, pytest.MonkeyPatch.context() as patch:
        server = running.url
        names = {
            "AWS_S3_ENDPOINT": server.removeprefix("http://"), "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "GDAL_HTTP_MAX_RETRY": "0",
        }  # fmt: skip
        for name, value in names.items():
            patch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=server)
        client.create_bucket(Bucket="scenes")
        for path in [archive, *(path for path in made_safe.rglob("*") if path.is_file())]:
            key = "product.zip" if path == archive else str(path.relative_to(made_safe.parent))
            client.put_object(Bucket="scenes", Key=key, Body=path.read_bytes(), ACL="public-read")
        yield f"s3://scenes/{made_safe.name}"


def test_a_product_in_a_bucket_equals_the_local_one(bucket, made_safe):
    local = open_sentinel2(made_safe)
    for url in (bucket, "s3://scenes/product.zip", Path("s3://scenes/product.zip")):
        product = open_sentinel2(url)
        assert product.scene == local.scene
        assert np.array_equal(product.read("B05"), local.read("B05"))
        assert np.array_equal(
            harmonize(product.open_dataset(bands=["B02"]))["B02"].values, harmonize(local.open_dataset(bands=["B02"]))["B02"].values
        )
        check_complete(product)
        check_contents(product)
    assert open_sentinel2(bucket).files.sha256() == local.files.sha256()
    result = CliRunner().invoke(app, ["scenes", "inspect", bucket])
    assert result.exit_code == 0, result.output


def test_a_bucket_without_the_product_is_refused_by_its_url(bucket):
    with pytest.raises(SceneError, match=r"s3://scenes/none.SAFE holds nothing; name the folder or the zip of a product"):
        open_sentinel2("s3://scenes/none.SAFE")
    with pytest.raises(
        SceneError, match=r"s3://scenes/none.zip cannot be read \(.*\); look at the address, the credentials and the network"
    ):
        open_sentinel2("s3://scenes/none.zip")


def test_a_product_behind_plain_http_is_found_through_its_manifest(bucket, made_safe):
    local = open_sentinel2(made_safe)
    for name in (made_safe.name, "product.zip"):
        product = open_sentinel2(f"http://{os.environ['AWS_S3_ENDPOINT']}/scenes/{name}")
        assert product.scene == local.scene
        assert np.array_equal(product.read("B01"), local.read("B01"))
