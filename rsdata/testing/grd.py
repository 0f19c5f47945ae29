"""Writes Sentinel-1 GRD products: a SAFE folder with planted DN, a plausible orbit, and look-up tables in either noise schema.

The orbit is a circle in the Earth-fixed frame, which a real one is not; but state vectors, timing and range conversion
belong to each other as in a product, and that is all geolocation knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from rasterio.control import GroundControlPoint

from rsdata.errors import SceneError
from rsdata.testing.safe import write_raster, written_aside

_LIGHT_M_S = 299_792_458.0
_A_M, _E2 = 6_378_137.0, 0.0066943799901413165
_ORBIT_RADIUS_M = 7_071_000.0
_GROUND_SPEED_RATE = 7_590.0 / _ORBIT_RADIUS_M  # radians per second around the Earth's centre
_LINE_INTERVAL_S = 1.4965699e-3
_SPACING_M = 10.0
_TIE_POINTS = (6, 7)  # along azimuth and range


@dataclass(frozen=True)
class GrdScene:
    """Geometry of a synthetic acquisition that looks to the right, with the scene's centre at one place."""

    lon_deg: float
    lat_deg: float
    start: datetime  # of the first line, UTC
    shape_yx: tuple[int, int]  # lines, pixels
    heading_deg: float = 193.0  # of flight over the centre; 193 is descending, 347 ascending
    look_deg: float = 33.0  # angle off nadir at the centre; incidence is some 5 degrees more

    @property
    def middle_s(self) -> float:
        return self.shape_yx[0] * _LINE_INTERVAL_S / 2

    def centre(self) -> np.ndarray:
        """Scene centre on the ellipsoid, (3,) Earth-fixed metres."""
        lon, lat = np.radians(self.lon_deg), np.radians(self.lat_deg)
        normal = _A_M / np.sqrt(1 - _E2 * np.sin(lat) ** 2)
        return np.array(
            [normal * np.cos(lat) * np.cos(lon), normal * np.cos(lat) * np.sin(lon), normal * (1 - _E2) * np.sin(lat)], np.float64
        )

    def _frame(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors of the orbit's plane: towards the satellite and along its flight, at the middle of the scene."""
        centre = self.centre()
        radius = float(np.linalg.norm(centre))
        up = centre / radius
        lon = np.radians(self.lon_deg)
        east = np.array([-np.sin(lon), np.cos(lon), 0.0])
        north = np.cross(up, east)
        heading = np.radians(self.heading_deg)
        along = np.cos(heading) * north + np.sin(heading) * east
        left = np.cross(up, along)  # of flight: the satellite stands there when it looks to the right
        look = np.radians(self.look_deg)
        turn = np.arcsin(_ORBIT_RADIUS_M / radius * np.sin(look)) - look  # angle at the Earth's centre
        return np.cos(turn) * up + np.sin(turn) * left, along

    def orbit(self, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity, (n, 3) each, at seconds since the first line."""
        up, along = self._frame()
        angle = _GROUND_SPEED_RATE * (np.atleast_1d(time_s) - self.middle_s)[:, None]
        position = _ORBIT_RADIUS_M * (np.cos(angle) * up + np.sin(angle) * along)
        velocity = _ORBIT_RADIUS_M * _GROUND_SPEED_RATE * (np.cos(angle) * along - np.sin(angle) * up)
        return position, velocity

    def slant_range_m(self, ground_range_m: np.ndarray) -> np.ndarray:
        """Slant range of a ground range, on a sphere through the scene's centre."""
        centre = self.centre()
        radius = float(np.linalg.norm(centre))
        here = self.orbit(np.array([self.middle_s]))[0][0]
        turn = (
            np.arccos(here @ centre / radius / _ORBIT_RADIUS_M) + (np.asarray(ground_range_m) - self.shape_yx[1] * _SPACING_M / 2) / radius
        )
        return np.sqrt(_ORBIT_RADIUS_M**2 + radius**2 - 2 * _ORBIT_RADIUS_M * radius * np.cos(turn))

    def ground_point(self, line: float, pixel: float, height_m: float = 0.0) -> tuple[float, float]:
        """Longitude and latitude, degrees, of the point at a height that lies at a line and pixel."""
        position, velocity = (each[0] for each in self.orbit(np.array([line * _LINE_INTERVAL_S])))
        slant_m = float(self.slant_range_m(np.array(pixel * _SPACING_M)))
        point = self.centre()
        axes = np.array([_A_M + height_m, _A_M + height_m, _A_M * np.sqrt(1 - _E2) + height_m])
        for _ in range(20):
            sight = point - position
            residual = np.array(
                [sight @ velocity / 7500, (sight @ sight - slant_m**2) / (2 * slant_m), (np.sum((point / axes) ** 2) - 1) * _A_M / 2]
            )
            jacobian = np.stack([velocity / 7500, sight / slant_m, point / axes**2 * _A_M])
            point = point - np.linalg.solve(jacobian, residual)
        lon = np.arctan2(point[1], point[0])
        across = np.hypot(point[0], point[1])
        lat = np.arctan2(point[2], across * (1 - _E2))
        for _ in range(6):
            normal = _A_M / np.sqrt(1 - _E2 * np.sin(lat) ** 2)
            lat = np.arctan2(point[2] + _E2 * normal * np.sin(lat), across)
        return float(np.degrees(lon)), float(np.degrees(lat))


def grd_name(start: datetime, stop: datetime, mission: str = "S1A", mode: str = "IW") -> str:
    """Name of a synthetic product, such as S1A_IW_GRDH_1SDV_20230612T051234_20230612T051259_048951_05E2F1_A1B2."""
    return f"{mission}_{mode}_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}_048951_05E2F1_A1B2"


def write_grd_safe(
    folder: Path,
    scene: GrdScene,
    dn: Mapping[str, np.ndarray],
    *,
    ipf_version: str = "003.61",
    noise_schema: str = "noiseRangeVectorList",
    noise_dn2: float = 400.0,
    sigma0_factor: float = 600.0,
    noise_removed: bool = False,
    compress: str | None = "deflate",
) -> Path:
    """Write a GRD product; the folder appears only once it is whole.

    Args:
        folder: where the product's folder is made.
        scene: geometry and size.
        dn: polarisation to (line, pixel) uint16.
        ipf_version: of the processor, as in manifest.safe.
        noise_schema: "noiseRangeVectorList" or "noiseVectorList".
        noise_dn2: thermal noise at near range, DN squared; it falls to half of that at far range.
        sigma0_factor: A of sigma0 at near range; it falls by a tenth to far range.
        noise_removed: what thermalNoiseCorrectionPerformed says.
        compress: of the measurement GeoTIFF; None for ESA's plain strips.

    Returns: the product's folder.
    Raises: SceneError if a polarisation is not of the scene's size or not uint16.
    """
    for polarisation, pixels in dn.items():
        if pixels.shape != scene.shape_yx or pixels.dtype != np.uint16:
            raise SceneError(
                f"{polarisation} is {pixels.dtype} {pixels.shape}; expected uint16 {scene.shape_yx}", polarisation=polarisation
            )
    stop = scene.start + timedelta(seconds=(scene.shape_yx[0] - 1) * _LINE_INTERVAL_S)
    name = grd_name(scene.start, stop)
    target = folder / f"{name}.SAFE"
    ties = _tie_points(scene)
    with written_aside(target) as aside:
        for number, (polarisation, pixels) in enumerate(sorted(dn.items()), 1):
            stem = f"s1a-iw-grd-{polarisation.lower()}-{scene.start:%Y%m%dt%H%M%S}-{stop:%Y%m%dt%H%M%S}-048951-05e2f1-{number:03d}"
            trees = {
                f"annotation/{stem}.xml": _annotation(scene, polarisation, stop, ties, noise_removed),
                f"annotation/calibration/calibration-{stem}.xml": _calibration(scene, polarisation, sigma0_factor),
                f"annotation/calibration/noise-{stem}.xml": _noise(scene, polarisation, noise_schema, noise_dn2),
            }
            for inside, tree in trees.items():
                _write(aside / inside, tree)
            gcps = [GroundControlPoint(line, pixel, lon, lat, 0.0) for line, pixel, lon, lat, _ in ties]
            profile = {"compress": compress} if compress else {}
            write_raster(
                aside / "measurement" / f"{stem}.tiff",
                pixels,
                threads=1,
                driver="GTiff",
                gcps=gcps,
                crs="EPSG:4326",
                BIGTIFF="IF_SAFER",
                **profile,
            )
        _write(aside / "manifest.safe", _manifest(ipf_version))
    return target


_Tree = dict[str, "str | _Tree | list[_Tree]"]


def _element(tag: str, content: "str | _Tree") -> ElementTree.Element:
    element = ElementTree.Element(tag)
    if isinstance(content, str):
        element.text = content
        return element
    for name, value in content.items():
        if isinstance(value, list):  # ESA's lists: <fooList count="2"><foo/><foo/></fooList>
            several = ElementTree.SubElement(element, name, count=str(len(value)))
            several.extend(_element(name.removesuffix("List"), each) for each in value)
        else:
            element.append(_element(name, value))
    return element


def _write(path: Path, root: ElementTree.Element) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.15e}" for value in values)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"


def _at(scene: GrdScene, seconds: float) -> str:
    return _time(scene.start + timedelta(seconds=seconds))


def _header(scene: GrdScene, polarisation: str) -> "_Tree":
    return {
        "missionId": "S1A",
        "productType": "GRD",
        "polarisation": polarisation,
        "mode": "IW",
        "swath": "IW",
        "startTime": _time(scene.start),
    }


def _tie_points(scene: GrdScene) -> list[tuple[float, float, float, float, float]]:
    """Line, pixel, longitude, latitude, incidence angle."""
    lines, pixels = (np.linspace(0, size - 1, count).round().tolist() for size, count in zip(scene.shape_yx, _TIE_POINTS, strict=True))
    return [(line, pixel, *scene.ground_point(line, pixel), scene.look_deg + 5) for line in lines for pixel in pixels]


def _annotation(
    scene: GrdScene, polarisation: str, stop: datetime, ties: list[tuple[float, float, float, float, float]], noise_removed: bool
) -> ElementTree.Element:
    lines, pixels = scene.shape_yx
    # State vectors at whole microseconds, as a product states their times.
    times = np.arange(-60, lines * _LINE_INTERVAL_S + 61, 10.0)
    states: list[_Tree] = []
    for time_s, position, velocity in zip(times, *scene.orbit(times), strict=True):
        axes: list[_Tree] = [{axis: f"{value:.9e}" for axis, value in zip("xyz", each, strict=True)} for each in (position, velocity)]
        states.append({"time": _at(scene, time_s), "frame": "Earth Fixed", "position": axes[0], "velocity": axes[1]})
    ground = np.linspace(-2_000, pixels * _SPACING_M + 2_000, 400)
    slant = scene.slant_range_m(ground)
    sr0 = float(scene.slant_range_m(np.zeros(1))[0])
    srgr = np.polynomial.Polynomial.fit(slant - sr0, ground, 8).convert().coef
    grsr = np.polynomial.Polynomial.fit(ground, slant, 8).convert().coef
    conversions: list[_Tree] = [
        {
            "azimuthTime": _at(scene, seconds),
            "slantRangeTime": f"{2 * sr0 / _LIGHT_M_S:.15e}",
            "sr0": f"{sr0:.15e}",
            "srgrCoefficients": _numbers(srgr),
            "gr0": "0.000000000000000e+00",
            "grsrCoefficients": _numbers(grsr),
        }
        for seconds in np.arange(-1, lines * _LINE_INTERVAL_S + 1, 1.0)
    ]
    points: list[_Tree] = [
        {
            "azimuthTime": _at(scene, line * _LINE_INTERVAL_S),
            "line": f"{line:.0f}",
            "pixel": f"{pixel:.0f}",
            "latitude": f"{lat:.12e}",
            "longitude": f"{lon:.12e}",
            "height": "0.0",
            "incidenceAngle": f"{incidence:.6e}",
        }
        for line, pixel, lon, lat, incidence in ties
    ]
    return _element(
        "product",
        {
            "adsHeader": _header(scene, polarisation),
            "generalAnnotation": {
                "productInformation": {
                    "pass": "Descending" if 90 < scene.heading_deg % 360 < 270 else "Ascending",
                    "projection": "Ground Range",
                    "rangeSamplingRate": "6.434523812571428e+07",
                    "radarFrequency": "5.405000454334350e+09",
                },
                "orbitList": states,
            },
            "imageAnnotation": {
                "imageInformation": {
                    "productFirstLineUtcTime": _time(scene.start),
                    "productLastLineUtcTime": _time(stop),
                    "slantRangeTime": f"{2 * sr0 / _LIGHT_M_S:.15e}",
                    "rangePixelSpacing": f"{_SPACING_M:.15e}",
                    "azimuthPixelSpacing": "1.0e+01",
                    "azimuthTimeInterval": f"{_LINE_INTERVAL_S:.15e}",
                    "numberOfSamples": str(pixels),
                    "numberOfLines": str(lines),
                    "incidenceAngleMidSwath": f"{scene.look_deg + 5:.6e}",
                },
                "processingInformation": {"thermalNoiseCorrectionPerformed": "true" if noise_removed else "false"},
            },
            "coordinateConversion": {"coordinateConversionList": conversions},
            "geolocationGrid": {"geolocationGridPointList": points},
        },
    )


def _vector_places(scene: GrdScene) -> tuple[np.ndarray, np.ndarray]:
    lines, pixels = scene.shape_yx
    return np.unique(np.r_[0 : lines - 1 : 668, lines - 1]), np.unique(np.r_[0 : pixels - 1 : 40, pixels - 1])


def _calibration(scene: GrdScene, polarisation: str, factor: float) -> ElementTree.Element:
    at_line, at_pixel = _vector_places(scene)
    far = at_pixel / (scene.shape_yx[1] - 1)
    vectors: list[_Tree] = []
    for line in at_line:
        drift = 1 + 0.01 * line / scene.shape_yx[0]
        vectors.append(
            {
                "azimuthTime": _at(scene, line * _LINE_INTERVAL_S),
                "line": str(line),
                "pixel": " ".join(map(str, at_pixel)),
                "sigmaNought": _numbers(factor * drift * (1 - 0.1 * far)),
                "betaNought": _numbers(np.full(len(at_pixel), 0.72 * factor)),
                "gamma": _numbers(0.93 * factor * drift * (1 - 0.12 * far)),
                "dn": _numbers(np.full(len(at_pixel), 0.61 * factor)),
            }
        )
    return _element(
        "calibration",
        {
            "adsHeader": _header(scene, polarisation),
            "calibrationInformation": {"absoluteCalibrationConstant": "1.0"},
            "calibrationVectorList": vectors,
        },
    )


def _noise(scene: GrdScene, polarisation: str, schema: str, noise_dn2: float) -> ElementTree.Element:
    at_line, at_pixel = _vector_places(scene)
    lines, pixels = scene.shape_yx
    new = schema == "noiseRangeVectorList"
    vectors: list[_Tree] = [
        {
            "azimuthTime": _at(scene, line * _LINE_INTERVAL_S),
            "line": str(line),
            "pixel": " ".join(map(str, at_pixel)),
            "noiseRangeLut" if new else "noiseLut": _numbers(noise_dn2 * (1 - 0.5 * at_pixel / (pixels - 1))),
        }
        for line in at_line
    ]
    content: _Tree = {"adsHeader": _header(scene, polarisation), schema: vectors}
    if new:
        every = np.unique(np.r_[0 : lines - 1 : 50, lines - 1])
        middle = pixels // 2
        content["noiseAzimuthVectorList"] = [
            {
                "swath": swath,
                "firstAzimuthLine": "0",
                "firstRangeSample": str(first),
                "lastAzimuthLine": str(lines - 1),
                "lastRangeSample": str(last),
                "line": " ".join(map(str, every)),
                "noiseAzimuthLut": _numbers(1 + 0.1 * np.cos(every / 200) * sign),
            }
            for swath, first, last, sign in (("IW1", 0, middle - 1, 1), ("IW2", middle, pixels - 1, -1))
        ]
    return _element("noise", content)


def _manifest(ipf_version: str) -> ElementTree.Element:
    safe = "{http://www.esa.int/safe/sentinel-1.0}"
    root = ElementTree.Element("{urn:ccsds:schema:xfdu:1}XFDU")
    section = ElementTree.SubElement(root, "metadataSection")
    holder = ElementTree.SubElement(section, "metadataObject", ID="processing", classification="PROVENANCE", category="PDI")
    wrap = ElementTree.SubElement(ElementTree.SubElement(holder, "metadataWrap", mimeType="text/xml"), "xmlData")
    processing = ElementTree.SubElement(wrap, f"{safe}processing", name="GRD Post Processing")
    facility = ElementTree.SubElement(processing, f"{safe}facility", country="Synthetic", name="rsdata")
    ElementTree.SubElement(facility, f"{safe}software", name="Sentinel-1 IPF", version=ipf_version)
    return root
