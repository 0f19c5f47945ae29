"""Sentinel-1 Level-1 GRD products as delivered: SAFE folder or zip, metadata parsed, pixels left on disk.

Times become seconds since the first line, so geometry runs on plain float64 and no datetime is rounded on the way.
Sources: ESA, Sentinel-1 Product Specification (S1-RS-MDA-52-7441); ESA, Sentinel-1 Product Definition (S1-RS-MDA-52-7440).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np
import rasterio
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsdata.errors import SceneError
from rsdata.foreign import RASTER_ERRORS
from rsdata.scenes.product import ProductFiles, list_files, making_sense

MODES = ("IW", "EW", "SM")
_MOST_PIXELS = (2**20, 2**17)  # lines and samples; a slice of IW at high resolution has some 17,000 x 26,000
_POLARISATION = re.compile(r"(?:^|-)(vv|vh|hh|hv)(?:-|$)")


@dataclass(frozen=True)
class Orbit:
    """State vectors in the Earth-fixed frame."""

    time_s: np.ndarray  # (n,) seconds since the first line
    position_m: np.ndarray  # (n, 3) x, y, z
    velocity_m_s: np.ndarray  # (n, 3)


@dataclass(frozen=True)
class RangeConversion:
    """Polynomials from slant range to ground range, one per azimuth time."""

    time_s: np.ndarray  # (n,) seconds since the first line
    sr0_m: np.ndarray  # (n,) slant range the polynomial starts at
    srgr: np.ndarray  # (n, degree + 1) ground range in metres as a polynomial in (slant range - sr0), lowest power first


@dataclass(frozen=True)
class RangeVectors:
    """A look-up table: vectors along range, each at one line. Pixel positions may differ from vector to vector."""

    line: np.ndarray  # (n,)
    pixel: tuple[np.ndarray, ...]  # n arrays
    value: tuple[np.ndarray, ...]  # n arrays, float64


@dataclass(frozen=True)
class AzimuthNoise:
    """Noise along azimuth over one part of the image; it multiplies the noise along range."""

    first_line: int
    last_line: int  # inclusive
    first_pixel: int
    last_pixel: int  # inclusive
    line: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Noise:
    """Thermal noise in units of DN squared; of IPF below 2.50 it is scaled already by what ESA asks for."""

    schema: str  # "noiseVectorList" (up to IPF 2.8) or "noiseRangeVectorList" (from 2.9)
    along_range: RangeVectors
    along_azimuth: tuple[AzimuthNoise, ...]  # empty in the old schema
    removed_already: bool  # thermalNoiseCorrectionPerformed

    @property
    def known(self) -> bool:
        """Whether the product states any noise; early processors wrote zeros."""
        return any(value.any() for value in self.along_range.value)


@dataclass(frozen=True)
class GeolocationGrid:
    """Tie points of the image."""

    line: np.ndarray  # (n,)
    pixel: np.ndarray
    lon_deg: np.ndarray
    lat_deg: np.ndarray
    height_m: np.ndarray
    incidence_deg: np.ndarray  # from the ellipsoid's normal


@dataclass(frozen=True)
class Channel:
    """One polarisation of a product."""

    polarisation: str
    measurement: str | None  # path inside the product; None where the pixels were not delivered
    shape_yx: tuple[int, int]  # lines, pixels
    first_line: datetime  # UTC, zero-Doppler time of line 0
    line_interval_s: float
    pixel_spacing_m: float  # along ground range
    orbit: Orbit
    conversion: RangeConversion
    grid: GeolocationGrid
    calibration: dict[str, RangeVectors]  # sigmaNought, betaNought, gamma: amplitude factors A, backscatter = DN² / A²
    noise: Noise


@dataclass(frozen=True)
class GrdProduct:
    """One GRD product, opened: its metadata are read, its pixels are not."""

    files: ProductFiles
    name: str  # without .SAFE
    mission: str
    mode: str
    orbit_direction: str  # ASCENDING or DESCENDING
    ipf_version: float  # such as 3.40
    channels: dict[str, Channel]

    def channel(self, polarisation: str) -> Channel:
        """Raises: SceneError if the product lacks the polarisation."""
        if polarisation not in self.channels:
            raise SceneError(
                f"{self.files.path} holds {' and '.join(sorted(self.channels))}, not {polarisation}; take a product of that polarisation",
                path=str(self.files.path),
                polarisation=polarisation,
            )
        return self.channels[polarisation]

    @contextmanager
    def open_pixels(self, polarisation: str) -> Iterator[DatasetReader]:
        """The measurement raster of one polarisation, (line, pixel) uint16 DN.

        Raises: SceneError if it is missing, damaged, or not of the size the annotation states.
        """
        channel = self.channel(polarisation)
        if channel.measurement is None:
            raise SceneError(f"{self.files.path} has no pixels for {polarisation}; fetch the product again", path=str(self.files.path))
        try:
            with rasterio.open(self.files.gdal_path(channel.measurement)) as raster:
                if raster.shape != channel.shape_yx or raster.dtypes[0] != "uint16":
                    raise SceneError(
                        f"{self.files.path}: {channel.measurement} holds {raster.shape} {raster.dtypes[0]}; its annotation says "
                        f"{channel.shape_yx} uint16, so fetch the product again",
                        path=str(self.files.path),
                    )
                yield raster
        except RASTER_ERRORS as error:
            raise SceneError(
                f"{self.files.path}: {channel.measurement} cannot be decoded ({error.__cause__ or error}); fetch the product again",
                path=str(self.files.path),
            ) from error

    def footprint_lonlat(self) -> np.ndarray:
        """Outline of the image from its geolocation grid, (n, 2) longitude and latitude in degrees, closed."""
        grid = next(iter(self.channels.values())).grid
        first, last = grid.line == grid.line.min(), grid.line == grid.line.max()
        left, right = grid.pixel == grid.pixel.min(), grid.pixel == grid.pixel.max()
        sides = [(first, grid.pixel, 1), (right, grid.line, 1), (last, grid.pixel, -1), (left, grid.line, -1)]
        points = []
        for chosen, along, sign in sides:
            order = np.flatnonzero(chosen)
            order = order[np.argsort(sign * along[order])]
            points.append(np.stack([grid.lon_deg[order], grid.lat_deg[order]], axis=1))
        ring = np.concatenate(points)
        ring = ring[np.r_[True, np.any(np.diff(ring, axis=0) != 0, axis=1)]]
        return np.concatenate([ring, ring[:1]]) if np.any(ring[0] != ring[-1]) else ring


def is_grd_safe(path: Path) -> bool:
    """Whether a path looks like a Sentinel-1 product in SAFE layout, without opening more than a listing."""
    if path.is_dir():
        return (path / "manifest.safe").is_file()
    return path.is_file() and path.name.upper().startswith("S1") and path.suffix.lower() == ".zip"


def open_grd(path: Path) -> GrdProduct:
    """Open a Sentinel-1 GRD product.

    Args:
        path: the SAFE folder, or a zip with it; both ESA's file names and the short ones of the AWS archive are known.

    Raises: SceneError if it is not a GRD product, or annotation, calibration or noise of a polarisation is missing or damaged.
    """
    with making_sense(str(path)):
        return _open_grd(path)


def _open_grd(path: Path) -> GrdProduct:
    files = list_files(path, marker="manifest.safe")
    name = files.name.removesuffix(".SAFE").removesuffix(".zip")
    if "_SLC_" in name:  # before its several images per polarisation are stumbled over
        raise SceneError(f"{path} is a Sentinel-1 SLC product; expected GRD, so take the GRD of the same acquisition", path=str(path))
    annotations = _by_polarisation(files, "annotation", ".xml")
    if not annotations:
        raise SceneError(
            f"{path} holds no annotation of any polarisation; expected a Sentinel-1 GRD product in SAFE layout", path=str(path)
        )
    calibrations = _by_polarisation(files, "annotation/calibration", ".xml", "calibration-")
    noises = _by_polarisation(files, "annotation/calibration", ".xml", "noise-")
    measurements = _by_polarisation(files, "measurement", (".tiff", ".tif"))
    manifest = files.read_xml("manifest.safe")
    ipf_version = _ipf_version(manifest, files)
    channels: dict[str, Channel] = {}
    facts: dict[str, str] = {}
    for polarisation, inside in sorted(annotations.items()):
        root = files.read_xml(inside)
        found = _Reader(files, inside, root)
        product_type = found.text("adsHeader/productType")
        if product_type != "GRD":
            raise SceneError(
                f"{path} is a Sentinel-1 {product_type} product; expected GRD, so take the GRD of the same acquisition", path=str(path)
            )
        for kind, known in (("calibration", calibrations), ("noise", noises)):
            if polarisation not in known:
                raise SceneError(
                    f"{path} lacks the {kind} XML for {polarisation} (annotation/calibration/{kind}-…); fetch the product again",
                    path=str(path),
                    polarisation=polarisation,
                )
        facts = {
            "mission": found.text("adsHeader/missionId"),
            "mode": found.text("adsHeader/mode"),
            "direction": found.text("generalAnnotation/productInformation/pass").upper(),
        }
        if facts["mode"] not in MODES:
            raise SceneError(f"{path} is of mode {facts['mode']}; expected {', '.join(MODES)}", path=str(path))
        channels[polarisation] = _channel(
            files, found, polarisation, measurements.get(polarisation), calibrations[polarisation], noises[polarisation], ipf_version
        )
    return GrdProduct(files, name, facts["mission"], facts["mode"], facts["direction"], ipf_version, channels)


def _by_polarisation(files: ProductFiles, folder: str, suffix: str | tuple[str, ...], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for inside in sorted(files.sizes):
        where = PurePosixPath(inside)
        if where.parent.as_posix() != folder or not where.name.lower().endswith(suffix) or not where.name.lower().startswith(prefix):
            continue
        match = _POLARISATION.search(where.stem.lower())
        if match is None:
            continue
        polarisation = match[1].upper()
        if polarisation in found:
            raise SceneError(
                f"{files.path} holds {found[polarisation]} and {inside} for {polarisation}; expected one image per polarisation, as in GRD",
                path=str(files.path),
            )
        found[polarisation] = inside
    return found


def _ipf_version(manifest: Element, files: ProductFiles) -> float:
    for element in manifest.iter():
        if element.tag.rpartition("}")[2] == "software" and "IPF" in element.get("name", ""):
            try:
                return float(element.get("version", ""))
            except ValueError:
                break
    raise SceneError(f"{files.path}: manifest.safe names no version of the Sentinel-1 IPF; fetch the product again", path=str(files.path))


@dataclass(frozen=True)
class _Reader:
    """Reads values out of one XML file and names it when one is missing."""

    files: ProductFiles
    inside: str
    root: Element

    def text(self, path: str, parent: Element | None = None) -> str:
        found = (self.root if parent is None else parent).findtext(path)
        if found is None or not found.strip():
            raise SceneError(f"{self.files.path}: {self.inside} has no {path}; fetch the product again", path=str(self.files.path))
        return found.strip()

    def number(self, path: str, parent: Element | None = None) -> float:
        return float(self.numbers(path, parent)[0])

    def numbers(self, path: str, parent: Element | None = None) -> np.ndarray:
        text = self.text(path, parent)
        try:
            found = np.array(text.split(), np.float64)
        except ValueError as error:
            raise self.damaged(f"{path} holds {text[:40]!r} where numbers are expected") from error
        if not np.isfinite(found).all():
            raise self.damaged(f"{path} holds numbers that are not finite")
        return found

    def time(self, path: str, parent: Element | None = None) -> datetime:
        text = self.text(path, parent)
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError as error:
            raise self.damaged(f"{path} holds {text[:40]!r} where a time is expected") from error

    def all(self, path: str, at_least: int = 1) -> list[Element]:
        found = self.root.findall(path)
        if len(found) < at_least:
            raise self.damaged(f"{len(found)} {path} where at least {at_least} are expected")
        return found

    def column(self, elements: list[Element], path: str) -> np.ndarray:
        return np.array([self.number(path, element) for element in elements])

    def seconds(self, elements: list[Element], path: str, since: datetime) -> np.ndarray:
        return np.array([(self.time(path, element) - since).total_seconds() for element in elements])

    def damaged(self, why: str) -> SceneError:
        return SceneError(f"{self.files.path}: {self.inside}: {why}; fetch the product again", path=str(self.files.path), file=self.inside)


def _channel(
    files: ProductFiles, found: _Reader, polarisation: str, measurement: str | None, calibration: str, noise: str, ipf_version: float
) -> Channel:
    image = "imageAnnotation/imageInformation"
    first = found.time(f"{image}/productFirstLineUtcTime")
    states = found.all("generalAnnotation/orbitList/orbit", at_least=4)
    vector = {kind: np.stack([found.column(states, f"{kind}/{axis}") for axis in "xyz"], axis=1) for kind in ("position", "velocity")}
    orbit = Orbit(found.seconds(states, "time", first), vector["position"], vector["velocity"])
    if np.any(np.diff(orbit.time_s) <= 0):
        raise found.damaged("the orbit's state vectors are not in the order of time")
    records = found.all("coordinateConversion/coordinateConversionList/coordinateConversion")
    polynomials = [found.numbers("srgrCoefficients", record) for record in records]
    longest = max(len(each) for each in polynomials)
    conversion = RangeConversion(
        found.seconds(records, "azimuthTime", first),
        found.column(records, "sr0"),
        np.stack([np.pad(each, (0, longest - len(each))) for each in polynomials]),
    )
    points = found.all("geolocationGrid/geolocationGridPointList/geolocationGridPoint", at_least=4)
    names = ("line", "pixel", "longitude", "latitude", "height", "incidenceAngle")
    grid = GeolocationGrid(*(found.column(points, name) for name in names))
    factors = _Reader(files, calibration, files.read_xml(calibration))
    vectors = factors.all("calibrationVectorList/calibrationVector", at_least=2)
    tables = {kind: _range_vectors(factors, vectors, kind) for kind in ("sigmaNought", "betaNought", "gamma")}
    for kind, table in tables.items():
        if min(value.min() for value in table.value) <= 0:
            raise factors.damaged(f"{kind} is not positive everywhere")
    shape_yx = int(found.number(f"{image}/numberOfLines")), int(found.number(f"{image}/numberOfSamples"))
    if not all(0 < found_px <= most for found_px, most in zip(shape_yx, _MOST_PIXELS, strict=True)):
        raise found.damaged(f"an image of {shape_yx[0]} x {shape_yx[1]} pixels, more than any product has or none")
    return Channel(
        polarisation=polarisation,
        measurement=measurement,
        shape_yx=shape_yx,
        first_line=first,
        line_interval_s=found.number(f"{image}/azimuthTimeInterval"),
        pixel_spacing_m=found.number(f"{image}/rangePixelSpacing"),
        orbit=orbit,
        conversion=conversion,
        grid=grid,
        calibration=tables,
        noise=_noise(
            _Reader(files, noise, files.read_xml(noise)),
            found.root.findtext("imageAnnotation/processingInformation/thermalNoiseCorrectionPerformed", "false").strip() == "true",
            _noise_scale(ipf_version, found.text("adsHeader/mode"), factors.numbers("dn", vectors[0])[0]),
        ),
    )


def _range_vectors(found: _Reader, vectors: list[Element], kind: str, scale: float = 1.0) -> RangeVectors:
    line = found.column(vectors, "line")
    pixel = tuple(found.numbers("pixel", each) for each in vectors)
    value = tuple(found.numbers(kind, each) * scale for each in vectors)
    if any(len(p) != len(v) or np.any(np.diff(p) <= 0) for p, v in zip(pixel, value, strict=True)):
        raise found.damaged(f"{kind} and its pixel positions do not belong together")
    if np.any(np.diff(line) <= 0):
        order = np.argsort(line, kind="stable")
        keep = order[np.r_[True, np.diff(line[order]) > 0]]
        line, pixel, value = line[keep], tuple(pixel[i] for i in keep), tuple(value[i] for i in keep)
    return RangeVectors(line, pixel, value)


def _noise(found: _Reader, removed_already: bool, scale: float) -> Noise:
    if old := found.root.findall("noiseVectorList/noiseVector"):
        return Noise("noiseVectorList", _range_vectors(found, old, "noiseLut", scale), (), removed_already)
    along_range = _range_vectors(found, found.all("noiseRangeVectorList/noiseRangeVector"), "noiseRangeLut", scale)
    parts = []
    for each in found.root.findall("noiseAzimuthVectorList/noiseAzimuthVector"):
        line, value = found.numbers("line", each), found.numbers("noiseAzimuthLut", each)
        if len(line) != len(value):
            raise found.damaged("noiseAzimuthLut and its lines do not belong together")
        names = ("firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample")
        first_line, last_line, first_pixel, last_pixel = (int(found.number(name, each)) for name in names)
        parts.append(AzimuthNoise(first_line, last_line, first_pixel, last_pixel, line, value))
    return Noise("noiseRangeVectorList", along_range, tuple(parts), removed_already)


_NOISE_SCALE = {"IW": 75088.7, "EW": 56065.87}


def _noise_scale(ipf_version: float, mode: str, dn: float) -> float:
    """What the noise vectors of early processors are to be multiplied with to be in DN squared.

    Source: ESA, Masking "No-value" Pixels on GRD Products generated by the Sentinel-1 ESA IPF (MPC-0243).
    """
    if ipf_version >= 2.5:
        return 1.0
    return _NOISE_SCALE.get(mode, 1.0) * (dn if ipf_version < 2.34 else dn**2)


def read_lines(raster: DatasetReader, lines: slice, pixels: slice) -> np.ndarray:
    """DN of part of an image, (line, pixel) uint16. Raises rasterio's errors; call inside ``open_pixels``."""
    return np.asarray(raster.read(1, window=Window.from_slices((lines.start, lines.stop), (pixels.start, pixels.stop))))
