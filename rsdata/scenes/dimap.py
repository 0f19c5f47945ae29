"""BEAM-DIMAP headers, as SNAP writes them: a ``.dim`` beside its ``.data`` folder, or the same XML inside a GeoTIFF.

The header is believed over the ``.hdr`` files beside the pixels: it alone states units and no-data values. Its transform counts
from pixel corners, as GDAL's does.
"""

import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import tifffile
from affine import Affine
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from rsdata.errors import SceneError
from rsdata.scenes.product import MAX_XML_BYTES

TIFF_TAG = 65000  # where SNAP's GeoTIFF writers put the header

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_TIME = re.compile(r"(\d{1,2})-([A-Z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.\d*)?", re.ASCII)


@dataclass(frozen=True)
class DimapBand:
    """One band as its header describes it."""

    name: str
    index: int  # from 0
    unit: str  # "" where none is stated
    nodata: float | None
    file: str | None  # its .hdr; none for a band that is only an expression, and inside a GeoTIFF
    virtual: bool  # an expression, without pixels of its own
    as_is: bool  # whether the pixels are the values, without scaling
    crs_wkt: str | None
    transform: Affine | None  # pixel corner (col, row) to the CRS


@dataclass(frozen=True)
class DimapHeader:
    """What of a header matters here."""

    shape_yx: tuple[int, int]
    bands: tuple[DimapBand, ...]
    names: tuple[str, ...]  # of the product, the most telling first
    mission: str | None
    mode: str | None
    start: datetime | None
    orbit_direction: str | None


def read_dimap(root: Element, where: str) -> DimapHeader:
    """Take a header apart.

    Args:
        root: the Dimap_Document.
        where: how messages name it.

    Raises: SceneError if it is no such header, or a number in it is none.
    """
    if root.tag != "Dimap_Document" or root.find("Image_Interpretation") is None:
        raise SceneError(f"{where} is no BEAM-DIMAP header ({root.tag}); write the product again with SNAP", path=where)
    try:
        files = {
            int(each.findtext("BAND_INDEX", "")): path.get("href", "")
            for each in root.iterfind("Data_Access/Data_File")
            if (path := each.find("DATA_FILE_PATH")) is not None
        }
        bands = tuple(_band(root, info, files) for info in root.iterfind("Image_Interpretation/Spectral_Band_Info"))
        shape_yx = int(root.findtext("Raster_Dimensions/NROWS", "")), int(root.findtext("Raster_Dimensions/NCOLS", ""))
    except ValueError as error:
        raise SceneError(f"{where} is a damaged BEAM-DIMAP header ({error}); write the product again with SNAP", path=where) from error
    facts = _abstracted(root)
    names = (facts.get("PRODUCT"), root.findtext("Dataset_Id/DATASET_NAME"), root.get("name"))
    start = facts.get("first_line_time") or root.findtext("Production/PRODUCT_SCENE_RASTER_START_TIME") or ""
    return DimapHeader(
        shape_yx,
        bands,
        names=tuple(name for name in names if name),
        mission=facts.get("MISSION"),
        mode=facts.get("ACQUISITION_MODE"),
        start=_time(start),
        orbit_direction=facts.get("PASS"),
    )


def read_tiff_tag(path: Path) -> DimapHeader | None:
    """The header that SNAP put into a GeoTIFF; None if the file has none.

    Raises: SceneError if the file is no TIFF or the header in it is damaged, too large, or declares entities.
    """
    where = f"{path}: TIFF tag {TIFF_TAG}"
    try:
        with tifffile.TiffFile(path) as file:
            tag = file.pages.first.tags.get(TIFF_TAG)
            if tag is None:
                return None
            if tag.count > MAX_XML_BYTES:
                raise SceneError(f"{where} has {tag.count} bytes, more than any real header; write the product again", path=str(path))
            text = tag.value
    except (OSError, ValueError, IndexError, TypeError, struct.error) as error:  # tifffile's own error is a ValueError
        raise SceneError(f"{path} cannot be read as TIFF ({error}); make it again", path=str(path)) from error
    try:
        raw = text if isinstance(text, bytes) else str(text).encode("latin-1" if "ISO-8859-1" in str(text)[:100] else "utf-8")
        return read_dimap(fromstring(raw.rstrip(b"\0"), forbid_dtd=True), where)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # the last of an encoding that is none
        if isinstance(error, SceneError):
            raise
        raise SceneError(f"{where} is not well-formed XML ({error}); write the product again with SNAP", path=str(path)) from error


def _band(root: Element, info: Element, files: dict[int, str]) -> DimapBand:
    def text(tag: str) -> str:
        return (info.findtext(tag) or "").strip()

    index = int(text("BAND_INDEX"))
    plain = float(text("SCALING_FACTOR") or 1) == 1 and float(text("SCALING_OFFSET") or 0) == 0 and text("LOG10_SCALED") != "true"
    affine = text("IMAGE_TO_MODEL_TRANSFORM") or _of_band(root, "Geoposition", "IMAGE_TO_MODEL_TRANSFORM", index)
    return DimapBand(
        name=text("BAND_NAME"),
        index=index,
        unit=text("PHYSICAL_UNIT"),
        nodata=float(text("NO_DATA_VALUE")) if text("NO_DATA_VALUE_USED") == "true" else None,
        file=files.get(index),
        virtual=text("VIRTUAL_BAND") == "true",
        as_is=plain,
        crs_wkt=_of_band(root, "Coordinate_Reference_System", "WKT", index),
        transform=_transform(affine) if affine else None,
    )


def _of_band(root: Element, tag: str, inside: str, index: int) -> str | None:
    """What is said of one band, or else of the whole product."""
    for of in (str(index), None):
        for each in root.iterfind(tag):
            text = (each.findtext(inside) or "").strip()
            if text and each.findtext("BAND_INDEX") == of:
                return text
    return None


def _transform(text: str) -> Affine:
    """Java's order of an affine transform, column by column."""
    numbers = [float(each) for each in text.split(",")]
    if len(numbers) != 6:
        raise ValueError(f"IMAGE_TO_MODEL_TRANSFORM of {len(numbers)} numbers, not 6")
    a, d, b, e, c, f = numbers
    return Affine(a, b, c, d, e, f)


def _abstracted(root: Element) -> dict[str, str]:
    """SNAP's own summary of a radar product's metadata."""
    for group in root.iterfind("Dataset_Sources//MDElem"):
        if group.get("name") == "Abstracted_Metadata":
            found = {each.get("name", ""): (each.text or "").strip() for each in group.iterfind("MDATTR")}
            return {name: text for name, text in found.items() if text and text != "99999"}  # 99999: SNAP's word for unknown
    return {}


def _time(text: str) -> datetime | None:
    """SNAP's ``23-JUN-2026 22:50:52.310630`` to the second."""
    match = _TIME.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second = match.groups()
    return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
