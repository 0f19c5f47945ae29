"""Sentinel-2 products in the SAFE format: what they say of themselves, and their pixels.

Files are found through ``manifest.safe`` and the metadata it lists, never by guessing at names; offsets,
quantification, special values and quality flags come from the XML, never from a date. A JPEG 2000 tile is
decoded whole however small the window, so bands are read once and whole.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np
import rasterio
import rioxarray
import xarray as xr
from rasterio.errors import RasterioError

from rsdata.errors import SceneError
from rsdata.records import Sentinel2Scene, s2_scene_id
from rsdata.scenes.product import ProductFiles, list_files
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import NODATA_COUNTS, QUALITY_CHECKS, SATURATED_COUNTS, SCL_GSD_M

MANIFEST = "manifest.safe"
# Layers beside the bands, with their ground sampling distance in metres.
LAYERS = {"SCL": SCL_GSD_M, "CLDPRB": 20, "SNWPRB": 20}
_IMAGE_NAME = re.compile(r".*_(?P<band>B\d[0-9A]|SCL)(?:_(?P<gsd>\d\d)m)?")


@dataclass(frozen=True)
class Sentinel2Product:
    """One product, opened: its metadata are read, its pixels are not."""

    files: ProductFiles
    scene: Sentinel2Scene

    def gsd_m(self, band: str) -> int:
        return LAYERS[band] if band in LAYERS else SENTINEL2[band].gsd_m

    def read(self, band: str) -> np.ndarray:
        """Read a whole band or layer as stored, (y, x): uint16 counts, or uint8 for SCL and probabilities.

        Raises: SceneError if the file is damaged or does not fit the product's own metadata.
        """
        inside = self.scene.bands[band]
        where = f"{self.files.path}: {inside}"
        shape = (self.scene.height_m // self.gsd_m(band), self.scene.width_m // self.gsd_m(band))
        try:
            with rasterio.open(self.files.gdal_path(inside)) as raster:
                self._check_georeference(raster, where, shape)
                pixels = raster.read(1)
        except RasterioError as error:
            reason = str(error.__cause__ or error)
            raise SceneError(f"{where} cannot be decoded ({reason}); the file is damaged, fetch the product again", band=band) from error
        expected = np.dtype("uint8") if band in LAYERS else np.dtype(SENTINEL2[band].dtype)
        if pixels.dtype != expected:
            raise SceneError(f"{where} holds {pixels.dtype}; expected {expected} as ESA delivers it", band=band)
        return pixels

    def read_all(self, bands: Iterable[str], threads: int = 1) -> dict[str, np.ndarray]:
        """Read several bands, ``threads`` at a time."""
        names = list(bands)
        with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
            return dict(zip(names, pool.map(self.read, names), strict=True))

    def open_counts(self, band: str) -> xr.DataArray:
        """Open a band lazily as counts (y, x) uint16 in dask chunks of one JPEG 2000 tile row.

        ``scale_factor`` and ``add_offset`` are given the CF way: reflectance = counts * scale_factor + add_offset.
        """
        opened = rioxarray.open_rasterio(self.files.gdal_path(self.scene.bands[band]), chunks={"y": 1024, "x": -1}, lock=False)
        if not isinstance(opened, xr.DataArray):
            raise SceneError(f"{self.files.path}: {self.scene.bands[band]} holds several rasters; expected one band", band=band)
        counts = opened.squeeze("band", drop=True).rename(band)
        counts.attrs = {
            "units": "1",
            "scale_factor": 1 / self.scene.quantification,
            "add_offset": self.scene.offsets[band] / self.scene.quantification,
            "nodata": self.scene.nodata,
        }
        return counts

    def open_reflectance(self, band: str) -> xr.DataArray:
        """Open a band lazily as surface reflectance (y, x) float32, unitless; no data is NaN."""
        return surface_reflectance(self.open_counts(band), self.scene.offsets[band], self.scene.quantification, self.scene.nodata)

    def _check_georeference(self, raster: rasterio.DatasetReader, where: str, shape: tuple[int, int]) -> None:
        if raster.shape != shape:
            raise SceneError(
                f"{where} is {raster.shape[0]} x {raster.shape[1]} pixels, but MTD_TL.xml says {shape[0]} x {shape[1]}; "
                "fetch the product again",
                path=str(self.files.path),
            )
        if raster.crs is not None and raster.crs.to_epsg() not in (None, self.scene.epsg):
            raise SceneError(
                f"{where} is in EPSG:{raster.crs.to_epsg()}, but MTD_TL.xml says EPSG:{self.scene.epsg}", path=str(self.files.path)
            )
        corner = (raster.transform.c, raster.transform.f)
        if not raster.transform.is_identity and corner != (self.scene.ul_x_m, self.scene.ul_y_m):
            raise SceneError(
                f"{where} has its corner at {corner}, but MTD_TL.xml says {(self.scene.ul_x_m, self.scene.ul_y_m)}",
                path=str(self.files.path),
            )


def surface_reflectance(counts: xr.DataArray, offset: float, quantification: float, nodata: int = NODATA_COUNTS) -> xr.DataArray:
    """Turn Sentinel-2 counts into reflectance.

    Dark water can come out slightly below zero. Those values are kept: clipping them would bias every mean
    computed later.

    Args:
        counts: (…, y, x) uint16.
        offset: ADD_OFFSET of the band, in counts, read from the product.
        quantification: counts per unit of reflectance.
        nodata: count that marks missing pixels.

    Returns: same shape, float32, unitless; no data is NaN.
    Raises: SceneError if the counts are not integers, so were scaled already.
    Source: Copernicus SentiWiki, S2 Products, radiometric offset.
    """
    if counts.dtype.kind != "u":
        raise SceneError(f"{counts.name or 'the band'} is {counts.dtype}, so it was scaled already; expected counts as uint16")
    physical = (counts.astype("float32") + np.float32(offset)) / np.float32(quantification)
    physical = physical.where(counts != nodata)
    physical.attrs = {"units": "1"}
    return physical


def open_sentinel2(path: Path) -> Sentinel2Product:
    """Open a Sentinel-2 product, L1C or L2A, from its SAFE folder or zip, and read its metadata.

    Raises: SceneError if it is damaged, incomplete, or not a Sentinel-2 product in compact naming.
    """
    files = list_files(path, marker=MANIFEST)
    if MANIFEST not in files.sizes:
        raise SceneError(f"{path} has no {MANIFEST}; expected a Sentinel-2 product in the SAFE format", path=str(path))
    listed = _listed_files(files)
    product_xml = _only(
        files, [name for name in listed if re.fullmatch(r"MTD_MSIL(1C|2A)\.xml", PurePosixPath(name).name)], "MTD_MSIL2A.xml"
    )
    tile_xml = _only(files, [name for name in listed if PurePosixPath(name).name == "MTD_TL.xml"], "MTD_TL.xml")
    reader = _Metadata(files, files.read_xml(product_xml), product_xml)
    tile = _Metadata(files, files.read_xml(tile_xml), tile_xml)

    level = _level(reader.text("PROCESSING_LEVEL"), files)
    product = reader.text("PRODUCT_URI").removesuffix(".SAFE")
    quantification, offsets = _radiometry(reader, level)
    special = {
        item.findtext("{*}SPECIAL_VALUE_TEXT", ""): int(item.findtext("{*}SPECIAL_VALUE_INDEX", "-1"))
        for item in reader.root.iter("Special_Values")
    }
    rows, cols = (int(tile.text(f"Tile_Geocoding/{{*}}Size[@resolution='10']/{{*}}{name}")) for name in ("NROWS", "NCOLS"))
    ul_x_m, ul_y_m = (int(tile.text(f"Tile_Geocoding/{{*}}Geoposition[@resolution='10']/{{*}}{name}")) for name in ("ULX", "ULY"))
    try:
        scene_id = s2_scene_id(product)
        sensing = datetime.fromisoformat(tile.text("SENSING_TIME"))
    except ValueError as error:
        raise SceneError(f"{files.path}: {error}", path=str(files.path)) from error
    scene = Sentinel2Scene(
        product=product,
        scene_id=scene_id,
        mission=product[:3],
        level=level,
        baseline=reader.text("PROCESSING_BASELINE"),
        tile_id=scene_id[-5:],
        datetime=sensing.astimezone(UTC),
        relative_orbit=int(reader.text("SENSING_ORBIT_NUMBER")),
        orbit_direction=reader.root.findtext(".//{*}SENSING_ORBIT_DIRECTION"),
        quantification=quantification,
        offsets=offsets,
        nodata=special.get("NODATA", NODATA_COUNTS),
        saturated=special.get("SATURATED", SATURATED_COUNTS),
        quality_checks=_quality_checks(reader.root),
        epsg=int(tile.text("HORIZONTAL_CS_CODE").removeprefix("EPSG:")),
        ul_x_m=ul_x_m,
        ul_y_m=ul_y_m,
        width_m=cols * 10,
        height_m=rows * 10,
        bands=_image_files(files, reader.root) | _probability_files(files, tile.root),
    )
    return Sentinel2Product(files, scene)


def check_complete(product: Sentinel2Product) -> None:
    """See that a product can be cut into patches: level, bands, layers, sizes as its manifest says.

    Raises: SceneError naming what is wrong and what to do.
    """
    path, scene = product.files.path, product.scene
    if scene.level != "L2A":
        raise SceneError(
            f"{path} is Level-{scene.level[1:]} (top of atmosphere); expected Level-2A, so run sen2cor on it or fetch the L2A product",
            path=str(path),
        )
    missing = [name for name in (*SENTINEL2.band_names, *LAYERS) if name not in scene.bands]
    if missing:
        raise SceneError(
            f"{path} lacks {', '.join(missing)}; expected all twelve bands, SCL, MSK_CLDPRB and MSK_SNWPRB, so fetch the product again",
            path=str(path),
            missing=missing,
        )
    listed = _listed_files(product.files)
    for name in (*SENTINEL2.band_names, *LAYERS):
        inside = scene.bands[name]
        stated, found = listed.get(inside), product.files.sizes[inside]
        if stated is not None and found < stated:
            raise SceneError(
                f"{path}: {inside} has {found} bytes, but {MANIFEST} says {stated}; the file is cut short, fetch the product again",
                path=str(path),
                file=inside,
            )


def check_contents(product: Sentinel2Product, threads: int = 1) -> None:
    """Hold the bands and layers to the checksums in the manifest, where it states any.

    A JPEG 2000 file with a few wrong bytes decodes without complaint to wrong pixels, so this is the only guard.

    Raises: SceneError naming the file whose contents differ.
    """
    stated = _listed_checksums(product.files)

    def check(inside: str) -> None:
        algorithm, expected = stated[inside]
        if product.files.digest(inside, algorithm) != expected:
            raise SceneError(
                f"{product.files.path}: {inside} differs from its checksum in {MANIFEST}; the file is damaged, fetch the product again",
                path=str(product.files.path),
                file=inside,
            )

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for _ in pool.map(check, [inside for inside in product.scene.bands.values() if inside in stated]):
            pass


@dataclass(frozen=True)
class _Metadata:
    """One XML file and the sentence to say when it lacks something."""

    files: ProductFiles
    root: Element
    name: str

    def text(self, tag: str) -> str:
        text = self.root.findtext(f".//{{*}}{tag}")
        if text is None or not text.strip():
            raise SceneError(
                f"{self.files.path}: {self.name} does not state {tag.replace('{*}', '')}; fetch the product again",
                path=str(self.files.path),
            )
        return text.strip()


def _level(text: str, files: ProductFiles) -> Literal["L1C", "L2A"]:
    if text == "Level-1C":
        return "L1C"
    if text in ("Level-2A", "Level-2Ap"):
        return "L2A"
    raise SceneError(f"{files.path} is of {text}; expected Level-1C or Level-2A", path=str(files.path))


def _listed_files(files: ProductFiles) -> dict[str, int | None]:
    """Files the manifest lists, with the sizes it states."""
    listed: dict[str, int | None] = {}
    for stream in files.read_xml(MANIFEST).iter("byteStream"):
        location = stream.find("fileLocation")
        if location is not None:
            size = stream.get("size", "")
            listed[location.get("href", "").removeprefix("./")] = int(size) if size.isdigit() else None
    return listed


def _listed_checksums(files: ProductFiles) -> dict[str, tuple[str, str]]:
    """File to (algorithm as hashlib calls it, hex digest in lower case), for algorithms that hashlib has."""
    listed = {}
    for stream in files.read_xml(MANIFEST).iter("byteStream"):
        location, checksum = stream.find("fileLocation"), stream.find("checksum")
        if location is None or checksum is None or not checksum.text:
            continue
        algorithm = checksum.get("checksumName", "").lower().replace("sha3-", "sha3_").replace("sha-", "sha")
        if algorithm in hashlib.algorithms_available:
            listed[location.get("href", "").removeprefix("./")] = (algorithm, checksum.text.strip().lower())
    return listed


def _only(files: ProductFiles, names: list[str], wanted: str) -> str:
    if len(names) != 1:
        raise SceneError(
            f"{files.path}: {MANIFEST} lists {len(names) or 'no'} {wanted}; expected one, as in a Sentinel-2 product in compact naming",
            path=str(files.path),
        )
    return names[0]


def _radiometry(reader: _Metadata, level: str) -> tuple[float, dict[str, float]]:
    quantification_tag, offset_tag = {
        "L2A": ("BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET"),
        "L1C": ("QUANTIFICATION_VALUE", "RADIO_ADD_OFFSET"),
    }[level]
    stated = {int(item.get("band_id", "-1")): float(item.text or 0) for item in reader.root.iter(offset_tag)}
    offsets = {band.name: stated.get(band.product_index if band.product_index is not None else -1, 0.0) for band in SENTINEL2.bands}
    if stated and any(band.product_index not in stated for band in SENTINEL2.bands):
        raise SceneError(f"{reader.files.path}: {reader.name} states {offset_tag} for some bands only", path=str(reader.files.path))
    return float(reader.text(quantification_tag)), offsets


def _quality_checks(root: Element) -> dict[str, str]:
    """Inspections by name; the early layout states them as ``<GEOMETRIC_QUALITY_FLAG>PASSED``."""
    found = {item.get("checkType", ""): (item.text or "").strip() for item in root.iter("quality_check")}
    for check in QUALITY_CHECKS:
        flag = root.findtext(f".//{{*}}{check}_FLAG")
        if check not in found and flag is not None:
            found[check] = flag.strip()
    return {check: found[check] for check in QUALITY_CHECKS if check in found}


def _image_files(files: ProductFiles, root: Element) -> dict[str, str]:
    """Native-resolution image files, from the IMAGE_FILE entries, which leave out the ending."""
    by_stem = {name.rsplit(".", 1)[0]: name for name in files.sizes if not name.endswith(".xml")}
    images: dict[str, str] = {}
    for item in root.iter("IMAGE_FILE"):
        stem = (item.text or "").strip()
        match = _IMAGE_NAME.fullmatch(stem)
        if match is None or stem not in by_stem:
            continue
        band = match["band"]
        native = LAYERS.get(band) or (SENTINEL2[band].gsd_m if band in SENTINEL2.band_names else None)
        if native is not None and match["gsd"] in (None, f"{native}"):
            images[band] = by_stem[stem]
    return images


def _probability_files(files: ProductFiles, root: Element) -> dict[str, str]:
    """Cloud and snow probability at 20 m, from the MASK_FILENAME entries."""
    by_stem = {name.rsplit(".", 1)[0]: name for name in files.sizes if not name.endswith(".xml")}
    found: dict[str, str] = {}
    for item in root.iter("MASK_FILENAME"):
        layer = (item.get("type") or "").removeprefix("MSK_")
        stem = (item.text or "").strip().rsplit(".", 1)[0]
        if layer in LAYERS and stem.endswith("_20m") and stem in by_stem:
            found[layer] = by_stem[stem]
    return found


def quality_problem(scene: Sentinel2Scene) -> str | None:
    """Why a product's own inspections forbid labels, or None."""
    failed: Mapping[str, str] = {name: scene.quality_checks[name] for name in scene.failed_checks}
    if not failed:
        return None
    return f"{scene.product}: {', '.join(f'{name} is {flag}' for name, flag in failed.items())}; expected PASSED"
