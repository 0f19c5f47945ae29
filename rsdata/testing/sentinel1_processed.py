"""Writes terrain-corrected Sentinel-1 in the layouts of SNAP, ASF HyP3 and STAC catalogues.

Headers and TIFF tags are put together here rather than by GDAL, so that a reader can be held against GDAL.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pyproj
import tifffile
from affine import Affine

from rsdata.scenes.dimap import TIFF_TAG
from rsdata.testing.safe import write_raster

_DIM = """<?xml version="1.0" encoding="ISO-8859-1"?>
<Dimap_Document name="{stem}.dim">
    <Metadata_Id><METADATA_FORMAT version="2.12.1">DIMAP</METADATA_FORMAT></Metadata_Id>
    <Dataset_Id><DATASET_SERIES>BEAM-PRODUCT</DATASET_SERIES><DATASET_NAME>{stem}</DATASET_NAME></Dataset_Id>
    <Coordinate_Reference_System><WKT>{wkt}</WKT></Coordinate_Reference_System>
    <Geoposition><IMAGE_TO_MODEL_TRANSFORM>{transform}</IMAGE_TO_MODEL_TRANSFORM></Geoposition>
    <Raster_Dimensions><NCOLS>{width}</NCOLS><NROWS>{height}</NROWS><NBANDS>{count}</NBANDS></Raster_Dimensions>
    <Data_Access><DATA_FILE_FORMAT>ENVI</DATA_FILE_FORMAT>{files}</Data_Access>
    <Image_Interpretation>{bands}</Image_Interpretation>
    <Dataset_Sources>
        <MDElem name="metadata"><MDElem name="Abstracted_Metadata">
            <MDATTR name="PRODUCT" type="ascii" mode="rw">{product}</MDATTR>
            <MDATTR name="MISSION" type="ascii" mode="rw">SENTINEL-1A</MDATTR>
            <MDATTR name="ACQUISITION_MODE" type="ascii" mode="rw">IW</MDATTR>
            <MDATTR name="PASS" type="ascii" mode="rw">{orbit}</MDATTR>
            <MDATTR name="first_line_time" type="utc" mode="rw">12-JUN-2023 05:12:34.512345</MDATTR>
        </MDElem></MDElem>
    </Dataset_Sources>
</Dimap_Document>
"""
_FILE = '<Data_File><DATA_FILE_PATH href="{stem}.data/{name}.hdr" /><BAND_INDEX>{index}</BAND_INDEX></Data_File>'
_BAND = """<Spectral_Band_Info><BAND_INDEX>{index}</BAND_INDEX><BAND_NAME>{name}</BAND_NAME><DATA_TYPE>float32</DATA_TYPE>
<PHYSICAL_UNIT>{unit}</PHYSICAL_UNIT><SCALING_FACTOR>1.0</SCALING_FACTOR><SCALING_OFFSET>0.0</SCALING_OFFSET>
<LOG10_SCALED>false</LOG10_SCALED><NO_DATA_VALUE_USED>true</NO_DATA_VALUE_USED><NO_DATA_VALUE>{nodata}</NO_DATA_VALUE></Spectral_Band_Info>"""
_HDR = """ENVI
description = {{Sentinel-1}}
samples = {width}
lines = {height}
bands = 1
header offset = 0
file type = ENVI Standard
data type = 4
interleave = bsq
byte order = 1
band names = {{ {name} }}
"""


def dimap_header(
    stem: str,
    bands: Mapping[str, np.ndarray],
    *,
    crs: str,
    transform: Affine,
    product: str,
    unit: str = "intensity",
    nodata: float = 0.0,
    orbit: str = "DESCENDING",
) -> str:
    """The XML that SNAP writes of bands; its transform is given column by column, as Java does.

    Args:
        bands: name such as Sigma0_VV to (y, x) float32.
        crs: as pyproj understands it; written as WKT of the first kind.
    """
    height, width = next(iter(bands.values())).shape
    wkt = pyproj.CRS.from_user_input(crs).to_wkt("WKT1_GDAL")
    a, b, c, d, e, f = transform[:6]
    return _DIM.format(
        stem=escape(stem),
        wkt=escape(wkt),
        transform=",".join(repr(float(each)) for each in (a, d, b, e, c, f)),
        width=width,
        height=height,
        count=len(bands),
        files="".join(_FILE.format(stem=escape(stem), name=name, index=index) for index, name in enumerate(bands)),
        bands="".join(_BAND.format(index=index, name=name, unit=unit, nodata=nodata) for index, name in enumerate(bands)),
        product=escape(product),
        orbit=orbit,
    )


def write_dim(path: Path, bands: Mapping[str, np.ndarray], *, crs: str, transform: Affine, product: str, **changes: object) -> Path:
    """Write a BEAM-DIMAP product: ``path`` and its ``.data`` folder with big-endian float32 of ENVI."""
    data = path.with_suffix(".data")
    data.mkdir(parents=True)
    for name, pixels in bands.items():
        (data / f"{name}.img").write_bytes(pixels.astype(">f4").tobytes())
        (data / f"{name}.hdr").write_text(_HDR.format(width=pixels.shape[1], height=pixels.shape[0], name=name), encoding="ascii")
    header = dimap_header(path.stem, bands, crs=crs, transform=transform, product=product, **changes)  # type: ignore[arg-type]
    path.write_text(header, encoding="iso-8859-1")
    return path


def write_two_band_tiff(path: Path, bands: Mapping[str, np.ndarray], *, epsg: int, transform: Affine, header: str | None) -> Path:
    """Write a GeoTIFF with both polarisations, and SNAP's header in its tag, if given.

    Args:
        epsg: of a projected system.
    """
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg)  # GeoTIFF: projected, pixel is area, its code
    tags: list[tuple[int, int, int, object, bool]] = [
        (33550, 12, 3, (transform.a, -transform.e, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, transform.c, transform.f, 0.0), True),
        (34735, 3, len(keys), keys, True),
    ]
    if header is not None:
        tags.append((TIFF_TAG, 2, len(header) + 1, header, True))
    pixels = np.stack(list(bands.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="separate", metadata=None, extratags=tags)
    return path


def write_tiff(path: Path, pixels: np.ndarray, *, crs: str, transform: Affine, nodata: float | None) -> Path:
    """Write one polarisation as a tiled GeoTIFF, as catalogues serve them."""
    profile = {"driver": "GTiff", "crs": crs, "transform": transform, "nodata": nodata, "tiled": True, "blockxsize": 64, "blockysize": 64}
    write_raster(path, pixels, threads=1, **profile)
    return path


def write_hyp3(folder: Path, name: str, vv: np.ndarray, vh: np.ndarray, *, crs: str, transform: Affine) -> Path:
    """Write a HyP3 RTC product: a folder ``name`` with a GeoTIFF per polarisation, 0 as no data."""
    for band, pixels in (("VV", vv), ("VH", vh)):
        write_tiff(folder / name / f"{name}_{band}.tif", pixels, crs=crs, transform=transform, nodata=0)
    return folder / name


def write_item(path: Path, product: str, hrefs: Mapping[str, str], *, collection: str = "sentinel-1-rtc", **said: object) -> Path:
    """Write a STAC item with an asset per polarisation, as the Planetary Computer words it.

    Args:
        hrefs: asset such as vv to where it lies.
        said: of every asset's band, such as unit.
    """
    band = {"nodata": -32768, "data_type": "float32", "spatial_resolution": 10.0} | said
    assets = {name: {"href": href, "type": "image/tiff; application=geotiff", "raster:bands": [band]} for name, href in hrefs.items()}
    item: dict[str, object] = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"{product}_rtc",
        "collection": collection,
        "geometry": None,
        "properties": {"datetime": "2023-06-12T05:12:47Z", "platform": "SENTINEL-1A", "sat:orbit_state": "descending"},
        "links": [],
        "assets": assets,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(item), encoding="utf-8")
    return path
