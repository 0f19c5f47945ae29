"""What a Sentinel-2 product says of itself: its XML turned into one ``Sentinel2Scene``.

Three layouts are read alike: compact naming (since December 2016), the naming before it, where one product
holds many tiles, and the pilot Level-2Ap of 2017. Files are found through the manifest where there is one, else
through the product's own XML; tags and file names are the product's word, dates are never asked.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal
from xml.etree.ElementTree import Element

from rsdata.errors import RsdataError, SceneError
from rsdata.grid import TILE_SIDE_M
from rsdata.records import Sentinel2Scene, s2_scene_id
from rsdata.scenes.product import ProductFiles, making_sense
from rsdata.sensors import SENTINEL2, Sensor
from rsdata.sensors.sentinel2 import (
    BAND_OF_INDEX,
    NODATA_COUNTS,
    QUALITY_CHECKS,
    SATURATED_COUNTS,
    SCL_GSD_M,
    SENTINEL2_L1C,
)

MANIFEST = "manifest.safe"
# What tells a product's folder inside a zip, best first.
MARKERS = (MANIFEST, "MTD_MSIL1C.xml", "MTD_MSIL2A.xml", "S2?_*_MTD_SAFL??_*.xml")
LAYERS = {"SCL": SCL_GSD_M, "CLDPRB": 20, "SNWPRB": 20}  # needed for patches; ground sampling distance in metres
OTHER_LAYERS = {"AOT": 20, "WVP": 20}  # read where they are

_MOST_PIXELS = TILE_SIDE_M // 10  # of a raster at 10 m, in each direction
_PRODUCT_XML = re.compile(r"(?:MTD_MSIL(?:1C|2A)|S2[A-D]_(?:OPER|USER)_MTD_SAFL(?:1C|2A)_.+)\.xml")
_TILE_XML = re.compile(r"(?:MTD_TL|S2[A-D]_(?:OPER|USER)_MTD_L(?:1C|2A)_TL_.+)\.xml")
_TILE_NAME = re.compile(r"_T(\d{2}[C-X][A-Z]{2})(?:_|\.|$)")
_IMAGE_NAME = re.compile(r".*_(?P<band>B\d[0-9A]|SCL|AOT|WVP|CLD|SNW)(?:_(?P<gsd>\d\d)m)?")
_RENAMED = {"CLD": "CLDPRB", "SNW": "SNWPRB"}  # as Level-2Ap calls them
_DATATAKE = re.compile(r"G(?P<mission>S2[A-D])_(?P<start>\d{8}T\d{6})_(?P<orbit>\d{6})_N\d\d\.\d\d")


@dataclass(frozen=True)
class Metadata:
    """One XML file and the sentence to say when it lacks something."""

    where: str
    root: Element
    name: str

    def find(self, *tags: str) -> str | None:
        """Text of the first tag that is stated, without blanks around it."""
        for tag in tags:
            text = self.root.findtext(f".//{{*}}{tag}")
            if text is not None and text.strip():
                return text.strip()
        return None

    def text(self, *tags: str) -> str:
        text = self.find(*tags)
        if text is None:
            raise SceneError(
                f"{self.where}: {self.name} does not state {tags[0].replace('{*}', '')}; fetch the product again", path=self.where
            )
        return text

    def number(self, *tags: str) -> float:
        text = self.text(*tags)
        try:
            return float(text)
        except ValueError as error:
            raise SceneError(
                f"{self.where}: {self.name} states {tags[0].replace('{*}', '')} as {text!r}; expected a number, so fetch the product again",
                path=self.where,
            ) from error

    def number_or_none(self, *tags: str) -> float | None:
        return self.number(*tags) if self.find(*tags) is not None else None


@dataclass(frozen=True)
class Header:
    """What the product's own XML states, without its tile: enough to turn counts into reflectance."""

    product: str  # as PRODUCT_URI names it, without .SAFE
    mission: str
    level: Literal["L1C", "L2A"]
    product_type: str | None
    baseline: str
    datatake_id: str | None
    datatake_start: str  # 20170226T102021
    absolute_orbit: int | None
    relative_orbit: int
    orbit_direction: str | None
    generation_time: datetime | None
    quantification: float  # counts per unit of reflectance
    offsets: dict[str, float]  # band to counts added before scaling
    aot_quantification: float | None
    wvp_quantification: float | None  # counts per cm
    nodata: int
    saturated: int
    quality_checks: dict[str, str]
    cloud_percent: float | None
    degraded_percent: float | None


def read_header(metadata: Metadata) -> Header:
    """Read ``MTD_MSIL1C.xml``, ``MTD_MSIL2A.xml`` or their older kin.

    Raises: SceneError if it leaves something out that pixels cannot be read without, or is of another level.
    """
    level = _level(metadata)
    quantification, offsets = _radiometry(metadata, level)
    special = {
        item.findtext("{*}SPECIAL_VALUE_TEXT", "").strip(): _integer(item.findtext("{*}SPECIAL_VALUE_INDEX", ""), metadata)
        for item in metadata.root.iter("Special_Values")
    }
    datatake = next(metadata.root.iter("Datatake"), None)
    datatake_id = datatake.get("datatakeIdentifier") if datatake is not None else None
    stated = _DATATAKE.fullmatch(datatake_id or "")
    generated = metadata.find("GENERATION_TIME")
    return Header(
        product=metadata.text("PRODUCT_URI_2A", "PRODUCT_URI").removesuffix(".SAFE"),
        mission=f"S2{metadata.text('SPACECRAFT_NAME')[-1]}",
        level=level,
        product_type=metadata.find("PRODUCT_TYPE"),
        baseline=metadata.text("PROCESSING_BASELINE"),
        datatake_id=datatake_id,
        datatake_start=stated["start"] if stated else _instant(metadata.text("DATATAKE_SENSING_START"), metadata).strftime("%Y%m%dT%H%M%S"),
        absolute_orbit=int(stated["orbit"]) if stated else None,
        relative_orbit=int(metadata.number("SENSING_ORBIT_NUMBER")),
        orbit_direction=metadata.find("SENSING_ORBIT_DIRECTION"),
        generation_time=_instant(generated, metadata) if generated else None,
        quantification=quantification,
        offsets=offsets,
        aot_quantification=metadata.number_or_none("AOT_QUANTIFICATION_VALUE", "L2A_AOT_QUANTIFICATION_VALUE"),
        wvp_quantification=metadata.number_or_none("WVP_QUANTIFICATION_VALUE", "L2A_WVP_QUANTIFICATION_VALUE"),
        nodata=special.get("NODATA", NODATA_COUNTS),
        saturated=special.get("SATURATED", SATURATED_COUNTS),
        quality_checks=_quality_checks(metadata.root),
        cloud_percent=metadata.number_or_none("Cloud_Coverage_Assessment"),
        degraded_percent=metadata.number_or_none("DEGRADED_MSI_DATA_PERCENTAGE"),
    )


def read_product_xml(path: Path) -> Header:
    """Read a product XML that lies alone, without its product: enough to make reflectance of counts kept beside it.

    Raises: SceneError if it is not there, damaged, or not that of a Sentinel-2 product.
    """
    if not path.is_file():
        raise SceneError(f"{path} does not exist; name a product's MTD_MSIL1C.xml or MTD_MSIL2A.xml", path=str(path))
    files = ProductFiles(path.parent, "", {path.name: path.stat().st_size})
    with making_sense(str(path)):
        return read_header(Metadata(str(path), files.read_xml(path.name), path.name))


def read_scene(files: ProductFiles, tile: str | None = None) -> Sentinel2Scene:
    """Read a product's XML for one of its tiles.

    Args:
        files: of the product.
        tile: MGRS name such as ``32TNM``; needed only where the product holds several.

    Raises: SceneError if the product is damaged, incomplete or none at all, or holds several tiles and none is named.
    """
    with making_sense(str(files.path)):
        return _read_scene(files, tile)


def _read_scene(files: ProductFiles, tile: str | None) -> Sentinel2Scene:
    where = str(files.path)
    notes: list[str] = []
    names: Iterable[str]
    if MANIFEST in files.sizes:
        names, by = listed_files(files), MANIFEST
    else:
        names, by = files.sizes, "the folder"
    product_xml = _product_xml(files, names, by)
    if MANIFEST not in files.sizes:
        notes.append(f"no {MANIFEST}: files were found through {product_xml} and cannot be held to sizes or checksums")
    product = Metadata(where, files.read_xml(product_xml), product_xml)
    header = read_header(product)
    tile_xml, granules = _choose_tile(files, product, names, by, tile, notes)
    folder = str(PurePosixPath(tile_xml).parent)
    geometry = Metadata(where, files.read_xml(tile_xml), tile_xml)
    granule_id = geometry.text("TILE_ID_2A", "TILE_ID")
    tile_id = _tile_of(granule_id) or _tile_of(folder) or tile
    if tile_id is None:
        raise SceneError(f"{where}: {tile_xml} names no MGRS tile in TILE_ID ({granule_id}); fetch the product again", path=where)
    rows, cols = (int(geometry.number(f"Tile_Geocoding/{{*}}Size[@resolution='10']/{{*}}{name}")) for name in ("NROWS", "NCOLS"))
    if not (0 < rows <= _MOST_PIXELS and 0 < cols <= _MOST_PIXELS):
        raise SceneError(
            f"{where}: {tile_xml} states a tile of {rows} x {cols} pixels; expected at most {_MOST_PIXELS} x {_MOST_PIXELS}, so fetch the "
            "product again",
            path=where,
        )
    ul_x_m, ul_y_m = (int(geometry.number(f"Tile_Geocoding/{{*}}Geoposition[@resolution='10']/{{*}}{name}")) for name in ("ULX", "ULY"))
    try:
        scene_id = s2_scene_id(header.product)
    except RsdataError:
        notes.append("named as before December 2016; its scene id is put together from its metadata")
        scene_id = (
            f"{header.mission}_MSI{header.level}_{header.datatake_start}_N{header.baseline.replace('.', '')}"
            f"_R{header.relative_orbit:03d}_T{tile_id}"
        )
    if header.product_type == "S2MSI2Ap":
        notes.append("Level-2Ap, the pilot production of 2017")
    code = geometry.text("HORIZONTAL_CS_CODE").upper().removeprefix("EPSG:")
    zenith, azimuth = mean_view_angles(geometry.root)
    cloudy, degraded = (geometry.number_or_none(f"{name}_PERCENTAGE") for name in ("CLOUDY_PIXEL", "DEGRADED_MSI_DATA"))
    bands = image_files(files, granules, folder, header.level) | probability_files(files, geometry.root, folder)
    return Sentinel2Scene(
        product=header.product,
        scene_id=scene_id,
        mission=header.mission,
        level=header.level,
        product_type=header.product_type,
        baseline=header.baseline,
        tile_id=tile_id,
        datetime=_instant(geometry.text("SENSING_TIME"), geometry),
        generation_time=header.generation_time,
        datatake_id=header.datatake_id,
        datastrip_id=geometry.find("DATASTRIP_ID_2A", "DATASTRIP_ID"),
        granule_id=granule_id,
        tile_xml=tile_xml,
        absolute_orbit=header.absolute_orbit,
        relative_orbit=header.relative_orbit,
        orbit_direction=header.orbit_direction,
        quantification=header.quantification,
        offsets=header.offsets,
        aot_quantification=header.aot_quantification,
        wvp_quantification=header.wvp_quantification,
        nodata=header.nodata,
        saturated=header.saturated,
        quality_checks=header.quality_checks,
        sun_zenith_deg=geometry.number_or_none("Mean_Sun_Angle/{*}ZENITH_ANGLE"),
        sun_azimuth_deg=geometry.number_or_none("Mean_Sun_Angle/{*}AZIMUTH_ANGLE"),
        view_zenith_deg=zenith,
        view_azimuth_deg=azimuth,
        cloud_percent=header.cloud_percent if cloudy is None else cloudy,
        nodata_percent=geometry.number_or_none("NODATA_PIXEL_PERCENTAGE"),
        degraded_percent=header.degraded_percent if degraded is None else degraded,
        epsg=_integer(code, geometry),
        ul_x_m=ul_x_m,
        ul_y_m=ul_y_m,
        width_m=cols * 10,
        height_m=rows * 10,
        bands=bands,
        masks=mask_files(files, geometry.root, folder),
        notes=notes,
    )


def listed_files(files: ProductFiles) -> dict[str, int | None]:
    """Files the manifest lists, with the sizes it states; none without a manifest."""
    listed: dict[str, int | None] = {}
    for stream in files.read_xml(MANIFEST).iter("byteStream") if MANIFEST in files.sizes else ():
        location = stream.find("fileLocation")
        if location is not None:
            size = stream.get("size", "")
            listed[location.get("href", "").removeprefix("./")] = int(size) if size.isdigit() else None
    return listed


def listed_checksums(files: ProductFiles) -> dict[str, tuple[str, str]]:
    """File to (algorithm as hashlib calls it, hex digest in lower case), for algorithms that hashlib has."""
    listed = {}
    for stream in files.read_xml(MANIFEST).iter("byteStream") if MANIFEST in files.sizes else ():
        location, checksum = stream.find("fileLocation"), stream.find("checksum")
        if location is None or checksum is None or not checksum.text:
            continue
        algorithm = checksum.get("checksumName", "").lower().replace("sha3-", "sha3_").replace("sha-", "sha")
        if algorithm in hashlib.algorithms_available:
            listed[location.get("href", "").removeprefix("./")] = (algorithm, checksum.text.strip().lower())
    return listed


def mean_view_angles(root: Element) -> tuple[dict[str, float], dict[str, float]]:
    """Mean view zenith and azimuth by band, degrees, from MTD_TL.xml."""
    zenith, azimuth = {}, {}
    for item in root.iter("Mean_Viewing_Incidence_Angle"):
        band = BAND_OF_INDEX.get(int(item.get("bandId", "-1")))
        if band is not None:
            zenith[band] = float(item.findtext("{*}ZENITH_ANGLE", "nan"))
            azimuth[band] = float(item.findtext("{*}AZIMUTH_ANGLE", "nan"))
    order = SENTINEL2_L1C.band_names
    return {band: zenith[band] for band in order if band in zenith}, {band: azimuth[band] for band in order if band in azimuth}


def image_files(files: ProductFiles, granules: list[Element], folder: str, level: str) -> dict[str, str]:
    """Bands and layers at their native resolution, from entries that leave out the ending or the folder too."""
    sensor: Sensor = SENTINEL2_L1C if level == "L1C" else SENTINEL2
    by_path = {name.rsplit(".", 1)[0]: name for name in sorted(files.sizes) if not name.endswith((".xml", ".gml"))}
    by_name = {PurePosixPath(stem).name: name for stem, name in by_path.items() if name.startswith(f"{folder}/")}
    images: dict[str, str] = {}
    for granule in granules:
        for item in granule:
            stem = (item.text or "").strip()
            match = _IMAGE_NAME.fullmatch(stem)
            inside = by_path.get(stem) or (by_name.get(stem) if "/" not in stem else None)
            if not item.tag.startswith("IMAGE_") or match is None or inside is None:
                continue
            band = _RENAMED.get(match["band"], match["band"])
            native = LAYERS.get(band) or OTHER_LAYERS.get(band) or (sensor[band].gsd_m if band in sensor.band_names else None)
            if native is not None and match["gsd"] in (None, f"{native}"):
                images[band] = inside
    order = (*sensor.band_names, *LAYERS, *OTHER_LAYERS)
    return {band: images[band] for band in order if band in images}


def probability_files(files: ProductFiles, root: Element, folder: str) -> dict[str, str]:
    """Cloud and snow probability at 20 m, from the MASK_FILENAME entries."""
    found: dict[str, str] = {}
    for item in root.iter("MASK_FILENAME"):
        layer = (item.get("type") or "").removeprefix("MSK_")
        stem = (item.text or "").strip().rsplit(".", 1)[0]
        inside = _by_stem(files, stem, folder)
        if layer in LAYERS and stem.endswith("_20m") and inside is not None:
            found[layer] = inside
    return found


def mask_files(files: ProductFiles, root: Element, folder: str) -> dict[str, str]:
    """Masks that are there: ``DETFOO_B02``, ``CLASSI`` or ``CLOUDS`` to file; the ending in the XML is not trusted."""
    found: dict[str, str] = {}
    for item in root.iter("MASK_FILENAME"):
        kind = (item.get("type") or "").removeprefix("MSK_")
        inside = _by_stem(files, (item.text or "").strip().rsplit(".", 1)[0], folder)
        if kind in LAYERS or inside is None:
            continue
        band = BAND_OF_INDEX.get(int(item.get("bandId", "-1")))
        found[kind if band is None else f"{kind}_{band}"] = inside
    return found


def _by_stem(files: ProductFiles, stem: str, folder: str) -> str | None:
    """A file by its path without ending; products before December 2016 give its name alone."""
    places = [stem] if "/" in stem else [f"{folder}/QI_DATA/{stem}", f"{folder}/IMG_DATA/{stem}"]
    for place in places:
        for ending in (".jp2", ".gml", ".tif"):
            if place + ending in files.sizes:
                return place + ending
    return None


def _product_xml(files: ProductFiles, names: Iterable[str], by: str) -> str:
    found = sorted({name for name in names if "/" not in name and _PRODUCT_XML.fullmatch(name)})
    if len(found) == 1:
        return found[0]
    if found:
        raise SceneError(
            f"{files.path}: {by} lists {', '.join(found)}; expected one of them, as in one Sentinel-2 product", path=str(files.path)
        )
    loose = sorted(name for name in files.sizes if re.search(r"MTD_MSIL(1C|2A)\.xml$", name))
    if by != MANIFEST and loose:
        raise SceneError(
            f"{files.path} has no {MANIFEST}, only {', '.join(loose[:3])}; expected a Sentinel-2 product with MTD_MSIL1C.xml or "
            "MTD_MSIL2A.xml at its top, and its granule below, so name the .SAFE folder",
            path=str(files.path),
        )
    lacks = (
        f"has no {MANIFEST} and no MTD_MSIL1C.xml or MTD_MSIL2A.xml" if by != MANIFEST else f"has a {MANIFEST} that lists no MTD_MSI*.xml"
    )
    raise SceneError(f"{files.path} {lacks}; expected a Sentinel-2 product in the SAFE format", path=str(files.path))


def _choose_tile(
    files: ProductFiles, product: Metadata, names: Iterable[str], by: str, tile: str | None, notes: list[str]
) -> tuple[str, list[Element]]:
    """The tile's own XML and the granule entries of the product's XML that speak of it."""
    granules: dict[str, list[Element]] = {}
    for item in (*product.root.iter("Granule"), *product.root.iter("Granules")):
        granules.setdefault(_tile_of(item.get("granuleIdentifier", "")) or "", []).append(item)
    found = sorted(name for name in names if _TILE_XML.fullmatch(PurePosixPath(name).name))
    by_tile = {_tile_of(PurePosixPath(name).parent.name) or _tile_of(PurePosixPath(name).name) or "": name for name in found}
    here = [each for each, name in by_tile.items() if name in files.sizes]
    if not found or len(by_tile) != len(found):
        raise SceneError(
            f"{files.path}: {by} lists {len(found) or 'no'} MTD_TL.xml; expected one for each granule of a Sentinel-2 product",
            path=str(files.path),
        )
    wanted = (tile or "").removeprefix("T").upper()
    if wanted and wanted not in by_tile:
        raise SceneError(f"{files.path} holds no tile {wanted}, only {', '.join(sorted(by_tile))}", path=str(files.path), tile=wanted)
    if not wanted and len(by_tile) > 1:
        if len(here) != 1:
            raise SceneError(
                f"{files.path} holds {len(by_tile)} tiles: {', '.join(sorted(by_tile))}; "
                f"name the one to open, such as tile={min(by_tile)!r}",
                path=str(files.path),
                tiles=sorted(by_tile),
            )
        notes.append(f"lists {len(by_tile)} tiles, of which only {here[0]} is here")
        wanted = here[0]
    chosen = wanted or next(iter(by_tile))
    mine = granules.get(chosen) or (next(iter(granules.values())) if len(granules) == 1 else [])
    if not mine:
        raise SceneError(
            f"{files.path}: {product.name} lists no granule of tile {chosen}, only {', '.join(sorted(filter(None, granules))) or 'none'}; "
            "fetch the product again",
            path=str(files.path),
        )
    return by_tile[chosen], mine


def _tile_of(text: str) -> str | None:
    match = _TILE_NAME.search(text)
    return match[1] if match else None


def _level(metadata: Metadata) -> Literal["L1C", "L2A"]:
    text = metadata.text("PROCESSING_LEVEL")
    if text == "Level-1C":
        return "L1C"
    if text in ("Level-2A", "Level-2Ap"):
        return "L2A"
    raise SceneError(f"{metadata.where} is of {text}; expected Level-1C or Level-2A", path=metadata.where)


def _radiometry(metadata: Metadata, level: str) -> tuple[float, dict[str, float]]:
    quantification_tags, offset_tag, sensor = {
        "L2A": (("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"), "BOA_ADD_OFFSET", SENTINEL2),
        "L1C": (("QUANTIFICATION_VALUE",), "RADIO_ADD_OFFSET", SENTINEL2_L1C),
    }[level]
    stated: dict[int, float] = {}
    for item in metadata.root.iter(offset_tag):
        try:
            stated[int(item.get("band_id", item.get("bandId", "")))] = float(item.text or "")
        except ValueError as error:
            raise SceneError(
                f"{metadata.where}: {metadata.name} states {offset_tag} as {item.text!r} for band {item.get('band_id')!r}; "
                "expected numbers, so fetch the product again",
                path=metadata.where,
            ) from error
    if stated and any(band.product_index not in stated for band in sensor.bands):
        raise SceneError(
            f"{metadata.where}: {metadata.name} states {offset_tag} for some bands only; fetch the product again", path=metadata.where
        )
    offsets = {band.name: stated.get(-1 if band.product_index is None else band.product_index, 0.0) for band in sensor.bands}
    quantification = metadata.number(*quantification_tags)
    if not quantification > 0:
        raise SceneError(
            f"{metadata.where}: {metadata.name} states a quantification of {quantification}; fetch the product again", path=metadata.where
        )
    return quantification, offsets


def _quality_checks(root: Element) -> dict[str, str]:
    """Inspections by name; the early layout states them as ``<GEOMETRIC_QUALITY_FLAG>PASSED``."""
    found = {item.get("checkType", ""): (item.text or "").strip() for item in root.iter("quality_check")}
    for check in QUALITY_CHECKS:
        flag = root.findtext(f".//{{*}}{check}_FLAG")
        if check not in found and flag is not None:
            found[check] = flag.strip()
    return {check: found[check] for check in QUALITY_CHECKS if check in found}


def _instant(text: str, metadata: Metadata) -> datetime:
    """A time as the products write it, which is UTC whether they say so or not."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise SceneError(
            f"{metadata.where}: {metadata.name} states the time {text!r}; fetch the product again", path=metadata.where
        ) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _integer(text: str, metadata: Metadata) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise SceneError(
            f"{metadata.where}: {metadata.name} states {text!r} where a whole number belongs; fetch the product again", path=metadata.where
        ) from error
