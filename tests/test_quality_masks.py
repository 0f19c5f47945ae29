"""Saturated and defective pixels, from the products' own masks: rasters from baseline 04.00 on, polygons before."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from conftest import TILE, random_bands, write_scene
from rasterio.transform import from_origin

from rsdata import patches
from rsdata.quality import flagged_pixels
from rsdata.recipe import Quality
from rsdata.records import PatchMeasures
from rsdata.scenes import open_sentinel2
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import QUALIT_FLAGS
from rsdata.steps.measuring import measure

GML = """<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2" gml:id="{kind}"><eop:maskMembers>
<eop:MaskFeature gml:id="{kind}-{band}-0"><eop:maskType codeSpace="urn:gs2:S2PDGS:maskType">{flag}</eop:maskType><eop:extentOf>
<gml:Polygon gml:id="p" srsName="urn:ogc:def:crs:EPSG:8.7:32633"><gml:exterior><gml:LinearRing><gml:posList srsDimension="2">{ring}
</gml:posList></gml:LinearRing></gml:exterior></gml:Polygon></eop:extentOf></eop:MaskFeature></eop:maskMembers></eop:Mask>"""
EMPTY_GML = '<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2" gml:id="x"/>'


def plant(safe: Path, kind: str, band: str, content: np.ndarray | str) -> None:
    """Add a mask to a product: a raster (flag, y, x), or the text of a GML file."""
    tile_xml = next(safe.rglob("MTD_TL.xml"))
    name = f"{tile_xml.parent.relative_to(safe)}/QI_DATA/MSK_{kind}_{band}"
    if isinstance(content, str):
        (safe / f"{name}.gml").write_text(content)
    else:
        gsd_m = SENTINEL2[band].gsd_m
        count, height, width = content.shape
        with rasterio.open(
            safe / f"{name}.jp2", "w", driver="JP2OpenJPEG", dtype="uint8", count=count, height=height, width=width, crs=TILE.epsg,
            transform=from_origin(TILE.ul_x_m, TILE.ul_y_m, gsd_m, gsd_m), QUALITY="100", REVERSIBLE="YES", YCC="NO",
        ) as raster:  # fmt: skip
            raster.write(content)
    entry = f'<MASK_FILENAME bandId="{SENTINEL2[band].product_index}" type="MSK_{kind}">{name}</MASK_FILENAME></Pixel_Level_QI>'
    tile_xml.write_text(tile_xml.read_text().replace("</Pixel_Level_QI>", entry))


def flags(band: str, **marked: tuple[slice, slice]) -> np.ndarray:
    side = 2400 // SENTINEL2[band].gsd_m
    pixels = np.zeros((8, side, side), np.uint8)
    for flag, (rows, cols) in marked.items():
        pixels[QUALIT_FLAGS.index(flag), rows, cols] = 1
    return pixels


def square(band: str, kind: str, flag: str, left_m: int, top_m: int, side_m: int) -> str:
    """GML with one square, metres from the tile's corner."""
    left, top = TILE.ul_x_m + left_m, TILE.ul_y_m - top_m
    corners = [(left, top), (left + side_m, top), (left + side_m, top - side_m), (left, top - side_m), (left, top)]
    return GML.format(kind=kind, band=band, flag=flag, ring=" ".join(f"{x} {y}" for x, y in corners))


def measured(safe: Path, **thresholds: object) -> pd.DataFrame:
    """Two by two patches, in the order upper left, upper right, lower left, lower right."""
    product = open_sentinel2(safe)
    layers = product.read_all(["SCL", "CLDPRB", "SNWPRB", *SENTINEL2.band_names])
    return measure(product, layers, patches.grid_of(product.scene), Quality(**thresholds), threads=2)


def test_raster_masks_give_shares_per_band_and_the_worst_band_counts(safe):
    top_left = (slice(0, 60), slice(0, 60))  # at 10 m a quarter of the first patch
    stripe = (slice(120, 132), slice(120, 240))  # a tenth of the last
    plant(safe, "QUALIT", "B02", flags("B02", QT_DEFECTIVE_PIXELS=top_left, MSI_LOST=top_left, QT_SATURATED_PIXELS=stripe))
    plant(safe, "QUALIT", "B05", flags("B05", ANC_DEG=(slice(0, 60), slice(0, 30)), QT_NODATA_PIXELS=(slice(60, 75), slice(0, 60))))
    plant(safe, "QUALIT", "B09", flags("B09", QT_PARTIALLY_CORRECTED_PIXELS=(slice(0, 20), slice(0, 20))))
    table = measured(safe)
    assert table["defective_B02"].tolist() == [0.25, 0, 0, 0]
    assert table["defective_B05"].tolist() == [0.5, 0, 0, 0]
    assert table["defective_B09"].tolist() == [0, 0, 0, 0]
    assert table["defective_B03"].isna().all()  # it has no mask
    assert table["defective_fraction"].tolist() == [0.5, 0, 0, 0]
    assert table["saturated_B02"].tolist() == [0, 0, 0, 0.1]
    assert table["saturated_fraction"].tolist() == [0, 0, 0, 0.1]
    assert table["nodata_flagged_fraction"].tolist() == [0, 0, 0.25, 0]


def test_polygons_of_earlier_baselines_count_alike(safe):
    plant(safe, "DEFECT", "B03", square("B03", "DEFECT", "QT_DEFECTIVE_PIXELS", 1200, 0, 600))
    plant(safe, "TECQUA", "B03", square("B03", "TECQUA", "MSI_DEG", 1200, 600, 600))
    plant(safe, "SATURA", "B03", square("B03", "SATURA", "QT_SATURATED_PIXELS_L1B", 0, 1200, 120))
    plant(safe, "NODATA", "B03", EMPTY_GML)
    table = measured(safe)
    assert table["defective_B03"].tolist() == [0, 0.5, 0, 0]
    assert table["saturated_B03"].tolist() == [0, 0, 0.01, 0]
    assert table["nodata_flagged_fraction"].tolist() == [0, 0, 0, 0]


def test_without_masks_defects_are_unknown_and_saturation_comes_from_values_and_classes(tmp_path):
    bands = random_bands()
    bands["B8A"][:6, :60] = 65535  # a tenth of the first patch
    bands["B01"][20:, :20] = 0  # the third patch
    scl = np.full((120, 120), 4, np.uint8)
    scl[60:63, 60:] = 1  # a twentieth of the last
    safe = write_scene(tmp_path, bands, scl=scl)
    table = measured(safe)
    assert table[[name for name in table if name.startswith("defective_")]].isna().all(axis=None)
    assert table["saturated_B8A"].tolist() == [0.1, 0, 0, 0]
    assert table["saturated_fraction"].tolist() == [0.1, 0, 0, 0.05]
    assert table["nodata_B01"].tolist() == [0, 0, 1, 0]
    assert table["nodata_B02"].tolist() == [0, 0, 0, 0]
    assert table["scl_saturated_defective"].tolist() == [0, 0, 0, 0.05]
    assert set(table) < set(PatchMeasures.model_fields)


def test_masks_are_left_alone_if_the_recipe_says_so(safe):
    plant(safe, "QUALIT", "B02", flags("B02", QT_DEFECTIVE_PIXELS=(slice(0, 60), slice(0, 60))))
    assert measured(safe)["defective_B02"].tolist() == [0.25, 0, 0, 0]
    assert measured(safe, read_masks=False)["defective_fraction"].isna().all()


@pytest.mark.parametrize("chunks", [None, {"y": 1024, "x": -1}])
def test_a_mask_is_read_in_strips_without_losing_a_row(chunks):
    pixels = np.zeros((2, 2050, 3), np.uint8)
    marked = [(0, 0), (1023, 1), (1024, 2), (2047, 0), (2048, 1), (2049, 2)]
    pixels[(0, *np.array(marked).T)] = 1
    mask = xr.DataArray(pixels, {"flag": ["MSI_LOST", "ANC_LOST"]}, ("flag", "y", "x"))
    found = flagged_pixels([mask if chunks is None else mask.chunk(chunks)])
    assert list(zip(*np.nonzero(found["defective"]), strict=True)) == marked
    assert not found["saturated"].any()
    assert flagged_pixels([]) == {}
