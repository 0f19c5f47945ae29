"""Writes Sentinel-2 Level-2A products as ESA delivers them: a SAFE folder with real JPEG 2000 and real XML.

Pixels are written as they are given, bit for bit, whether they were made up or taken from a real scene. The
same arguments give the same bytes: no clock and no random name reaches a file.
"""

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from rsdata.errors import SceneError, WorkspaceError
from rsdata.grid import PatchGrid, Tile
from rsdata.sensors.sentinel2 import (
    MISSIONS,
    NODATA_COUNTS,
    OFFSET_COUNTS,
    QUANTIFICATION,
    SATURATED_COUNTS,
    SCL_CLASSES,
    SCL_CLOUD,
    SCL_GSD_M,
    SENTINEL2,
)
from rsdata.testing.safe_xml import MANIFEST_XML, PRODUCT_XML, TILE_XML

# A raster, or a function that makes it; a function is called once and its result is let go after writing.
Pixels = np.ndarray | Callable[[], np.ndarray]

QUALITY_PASSED: Mapping[str, str] = {
    "FORMAT_CORRECTNESS": "PASSED",
    "GENERAL_QUALITY": "PASSED",
    "GEOMETRIC_QUALITY": "PASSED",
    "L2A_QUALITY": "PASSED",
    "RADIOMETRIC_QUALITY": "PASSED",
    "SENSOR_QUALITY": "PASSED",
}

_JP2_BLOCK_PX = 1024  # a smaller raster is one block
_GSDS_M = (10, 20, 60)
_ORBITS_PER_CYCLE = 143  # in ten days
# Relative minus absolute orbit, in whole cycles. S2A and S2B follow from real products, the others are assumed alike.
_ORBIT_SHIFT = {"S2A": 3, "S2B": -26, "S2C": 3, "S2D": -26}
_ORBIT_EPOCH = {"S2A": datetime(2015, 6, 23, tzinfo=UTC), "S2B": datetime(2017, 3, 7, tzinfo=UTC),
                "S2C": datetime(2024, 9, 5, tzinfo=UTC), "S2D": datetime(2024, 9, 5, tzinfo=UTC)}  # fmt: skip
# Solar irradiance by band_id, W/m²/µm. Source: a product of Sentinel-2A, baseline 05.09.
_IRRADIANCE = (1884.69, 1959.66, 1823.24, 1512.06, 1424.64, 1287.61, 1162.08, 1041.63, 955.32, 812.92, 367.15, 245.59, 85.25)
# Where each band begins and ends by band_id, nm. Source: the same.
_RANGE_NM = ((412, 456), (456, 533), (538, 583), (646, 684), (695, 714), (731, 749), (769, 797), (760, 907), (837, 881), (932, 958),
             (1337, 1412), (1539, 1682), (2078, 2320))  # fmt: skip

# Percentages in the products' XML and the scene class each one counts.
_CONTENT = {
    "NODATA_PIXEL": 0,
    "SATURATED_DEFECTIVE_PIXEL": 1,
    "DARK_FEATURES": 2,
    "CLOUD_SHADOW": 3,
    "VEGETATION": 4,
    "NOT_VEGETATED": 5,
    "WATER": 6,
    "UNCLASSIFIED": 7,
    "MEDIUM_PROBA_CLOUDS": 8,
    "HIGH_PROBA_CLOUDS": 9,
    "THIN_CIRRUS": 10,
    "SNOW_ICE": 11,
}


def product_name(
    tile: Tile,
    sensing: datetime,
    *,
    baseline: str = "05.09",
    mission: str = "S2A",
    relative_orbit: int = 22,
    processed: datetime | None = None,
) -> str:
    """Compact name of a Level-2A product, without ``.SAFE``.

    Baseline 99.99 is that of products corrected by the user, whose names say N9999.
    """
    processed = processed or sensing + _PROCESSING_DELAY
    return f"{mission}_MSIL2A_{stamp(sensing)}_N{baseline.replace('.', '')}_R{relative_orbit:03d}_T{tile.name}_{stamp(processed)}"


def write_l2a_safe(
    folder: Path,
    *,
    tile: Tile,
    sensing: datetime,
    bands: Mapping[str, Pixels],
    scl: Pixels,
    cloud_probability: Pixels,
    snow_probability: Pixels,
    ul_x_m: int | None = None,
    ul_y_m: int | None = None,
    baseline: str = "05.09",
    mission: str = "S2A",
    relative_orbit: int = 22,
    orbit_direction: str = "DESCENDING",
    processed: datetime | None = None,
    offset: int | None = None,
    quantification: int = QUANTIFICATION,
    quality_checks: Mapping[str, str] = QUALITY_PASSED,
    threads: int | str = "ALL_CPUS",
) -> Path:
    """Write a Level-2A product; it appears under its name only once it is whole.

    The raster may cover a part of the tile. One band at a time is held beside what the caller holds.

    Args:
        folder: where the product's folder is made.
        sensing: start of the datatake, UTC if it has no timezone; part of the name.
        bands: each of the twelve bands by name, (y, x) uint16 counts at its native resolution, 0 no data.
        scl: (y, x) uint8 scene classification at 20 m.
        cloud_probability: (y, x) uint8 percent at 20 m.
        snow_probability: (y, x) uint8 percent at 20 m.
        ul_x_m: left edge of the raster, metres; the tile's own if absent.
        ul_y_m: upper edge of the raster, metres; the tile's own if absent.
        baseline: processing baseline such as 05.09; 99.99 for products corrected by the user.
        processed: processing time, part of the name; some hours after ``sensing`` if absent.
        offset: BOA_ADD_OFFSET of every band, counts. If absent, what the baseline carries: -1000 from 04.00 on, and
            no offset element before that and in 99.99. Pixels are never changed to fit it.
        quality_checks: inspection to PASSED or FAILED; those not named are PASSED.
        threads: GDAL_NUM_THREADS while encoding.

    Returns: the product's folder, ``<product name>.SAFE``.
    Raises:
        SceneError: if a band is missing, is of another type, or does not cover the same ground as the others.
        GridError: if the raster does not lie in its tile, or not on its 60 m lattice.
        WorkspaceError: if the system refuses to write.
    """
    missing = [name for name in SENTINEL2.band_names if name not in bands]
    if missing or mission not in MISSIONS:
        raise SceneError(
            f"a product needs all of {', '.join(SENTINEL2.band_names)} and one of {', '.join(MISSIONS)}; "
            f"{', '.join(missing) or mission} cannot be written",
            missing=missing,
        )
    sensing = utc(sensing)
    processed = utc(processed) if processed else sensing + _PROCESSING_DELAY
    name = product_name(tile, sensing, baseline=baseline, mission=mission, relative_orbit=relative_orbit, processed=processed)
    if offset is None and 4 <= float(baseline) < 99:
        offset = OFFSET_COUNTS
    ul_x_m, ul_y_m = tile.ul_x_m if ul_x_m is None else ul_x_m, tile.ul_y_m if ul_y_m is None else ul_y_m
    orbit = absolute_orbit(mission, relative_orbit, sensing)
    stem = f"T{tile.name}_{stamp(sensing)}"
    granule = f"GRANULE/L2A_T{tile.name}_A{orbit:06d}_{stamp(sensing)}"
    dotted = f"N{baseline}"
    raster = Raster(tile, ul_x_m, ul_y_m, threads)
    with written_aside(folder / f"{name}.SAFE") as aside:
        images = []
        for band in sorted(SENTINEL2.bands, key=lambda band: (band.gsd_m, band.product_index or 0)):
            images.append(f"{granule}/IMG_DATA/R{band.gsd_m}m/{stem}_{band.name}_{band.gsd_m}m")
            raster.write(aside / f"{images[-1]}.jp2", bands[band.name], band.gsd_m, "uint16", band.name)
        images.append(f"{granule}/IMG_DATA/R{SCL_GSD_M}m/{stem}_SCL_{SCL_GSD_M}m")
        classes = scl() if callable(scl) else scl
        raster.write(aside / f"{images[-1]}.jp2", classes, SCL_GSD_M, "uint8", "SCL")
        masks = {kind: f"{granule}/QI_DATA/{kind}_{SCL_GSD_M}m.jp2" for kind in ("MSK_CLDPRB", "MSK_SNWPRB")}
        raster.write(aside / masks["MSK_CLDPRB"], cloud_probability, SCL_GSD_M, "uint8", "MSK_CLDPRB")
        raster.write(aside / masks["MSK_SNWPRB"], snow_probability, SCL_GSD_M, "uint8", "MSK_SNWPRB")

        rows, cols = raster.shape_yx
        shares = np.bincount(classes.ravel(), minlength=12)[:12]
        valid, land = max(1, shares[1:].sum()), max(1, shares[1:].sum() - shares[6])
        cloudy = shares[list(SCL_CLOUD)].sum()
        zenith_deg, azimuth_deg = sun_angles(raster, sensing)
        values = {
            "name": name,
            "start": instant(sensing),
            "sensing": instant(sensing),
            "generation": instant(processed),
            "baseline": baseline,
            "mission": mission,
            "datatake": f"G{mission}_{stamp(sensing)}_{orbit:06d}_{dotted}",
            "relative_orbit": relative_orbit,
            "absolute_orbit": orbit,
            "orbit_direction": orbit_direction,
            "datastrip_id": f"{mission}_OPER_MSI_L2A_DS_2APS_{stamp(processed)}_S{stamp(sensing)}_{dotted}",
            "tile_id": f"{mission}_OPER_MSI_L2A_TL_2APS_{stamp(processed)}_A{orbit:06d}_T{tile.name}_{dotted}",
            "l1c_tile_id": f"{mission}_OPER_MSI_L1C_TL_2APS_{stamp(sensing + _L1C_DELAY)}_A{orbit:06d}_T{tile.name}_{dotted}",
            "images": images,
            "masks": masks,
            "special_values": {"NODATA": NODATA_COUNTS, "SATURATED": SATURATED_COUNTS},
            "quantification": quantification,
            "offset": offset,
            "sun_distance_factor": sun_distance_factor(sensing),
            "spectral_bands": spectral_bands(),
            "scl_classes": SCL_CLASSES,
            "footprint": footprint(raster),
            "quality_checks": {**QUALITY_PASSED, **quality_checks},
            "cloudy": 100 * cloudy / valid,
            "cloudy_land": min(100.0, 100 * cloudy / land),
            "content": {text: 100 * shares[index] / (shares.sum() if index == 0 else valid) for text, index in _CONTENT.items()},
            "percent": "{:.6f}".format,
            "crs_name": f"WGS84 / UTM zone {tile.name[:2]}{'N' if tile.epsg < 32700 else 'S'}",
            "epsg": tile.epsg,
            "sizes": {gsd: (rows * 10 // gsd, cols * 10 // gsd) for gsd in _GSDS_M},
            "ul_x_m": ul_x_m,
            "ul_y_m": ul_y_m,
            "sun_zenith_deg": zenith_deg,
            "sun_azimuth_deg": azimuth_deg,
        }
        (aside / "MTD_MSIL2A.xml").write_text(PRODUCT_XML.render(values), encoding="utf-8")
        (aside / granule / "MTD_TL.xml").write_text(TILE_XML.render(values), encoding="utf-8")
        modern = float(baseline) >= 5  # MD5 before
        files = [
            described(aside, path, "sha3_256" if modern else "md5")
            for path in ("MTD_MSIL2A.xml", f"{granule}/MTD_TL.xml", *(f"{image}.jp2" for image in images), *masks.values())
        ]
        manifest = MANIFEST_XML.render(values, files=files, checksum_name="SHA3-256" if modern else "MD5")
        (aside / "manifest.safe").write_text(manifest, encoding="utf-8")
    return folder / f"{name}.SAFE"


_PROCESSING_DELAY = timedelta(hours=4, minutes=2, seconds=17)
_L1C_DELAY = timedelta(hours=2, minutes=11, seconds=3)


class Raster:
    """Writes the rasters of one product, and sees that they all cover the same ground."""

    def __init__(self, tile: Tile, ul_x_m: int, ul_y_m: int, threads: int | str) -> None:
        self.tile, self.ul_x_m, self.ul_y_m, self.threads = tile, ul_x_m, ul_y_m, str(threads)
        self.shape_yx = (0, 0)  # at 10 m; set by the first raster

    def write(self, path: Path, pixels: Pixels, gsd_m: int, dtype: str, name: str) -> None:
        array = pixels() if callable(pixels) else pixels
        if array.ndim != 2 or array.dtype != dtype:
            raise SceneError(f"{name} is {array.ndim}-dimensional {array.dtype}; expected (y, x) {dtype}", band=name)
        shape_yx = (array.shape[0] * gsd_m // 10, array.shape[1] * gsd_m // 10)
        if self.shape_yx == (0, 0):
            PatchGrid(self.tile, self.ul_x_m, self.ul_y_m, shape_yx[1] * 10, shape_yx[0] * 10)  # refuses what lies outside
            if not min(shape_yx) or shape_yx[0] % 6 or shape_yx[1] % 6:
                raise SceneError(
                    f"a raster of {shape_yx[0]} x {shape_yx[1]} pixels has no whole number of 60 m pixels; "
                    "give it a height and width that are multiples of 6",
                    shape_yx=shape_yx,
                )
            self.shape_yx = shape_yx
        if shape_yx != self.shape_yx:
            raise SceneError(
                f"{name} has {array.shape[0]} x {array.shape[1]} pixels of {gsd_m} m; expected "
                f"{self.shape_yx[0] * 10 // gsd_m} x {self.shape_yx[1] * 10 // gsd_m} to cover the same ground as the other bands",
                band=name,
            )
        write_jp2(path, array, self.tile.epsg, self.ul_x_m, self.ul_y_m, gsd_m, threads=self.threads)


def write_jp2(path: Path, pixels: np.ndarray, epsg: int, ul_x_m: int, ul_y_m: int, gsd_m: int, *, threads: int | str = "ALL_CPUS") -> None:
    """Write (y, x) integers as lossless JPEG 2000 with its place inside.

    Raises: WorkspaceError if the system refuses to write.
    """
    options = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO", "BLOCKXSIZE": str(_JP2_BLOCK_PX), "BLOCKYSIZE": str(_JP2_BLOCK_PX)}
    place = {"crs": f"EPSG:{epsg}", "transform": from_origin(ul_x_m, ul_y_m, gsd_m, gsd_m)}
    write_raster(path, pixels, driver="JP2OpenJPEG", threads=threads, **place, **options)


def write_raster(path: Path, pixels: np.ndarray, *, threads: int | str, **profile: object) -> None:
    """Encode one band in memory, then write the file.

    GDAL can lose an error of the disk when several threads encode; a file written from here cannot end short
    without anybody noticing.

    Raises: WorkspaceError if the system refuses to write.
    """
    height, width = pixels.shape
    size = {"height": height, "width": width, "count": 1, "dtype": pixels.dtype.name}
    # PAM would put a side file beside the raster. Without the right suffix the JPEG 2000 driver forgets where the raster lies.
    with rasterio.Env(GDAL_NUM_THREADS=str(threads), GDAL_PAM_ENABLED="NO"), MemoryFile(ext=path.suffix) as memory:
        with memory.open(**size, **profile) as dataset:
            dataset.write(pixels, 1)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                stream.write(memory.getbuffer())
        except OSError as error:
            raise WorkspaceError(
                f"{path} cannot be written: {error.strerror or error}; free space or name another folder", path=str(path)
            ) from error


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Hand out a folder to fill; it takes its final name, in place of an older one, once it is whole."""
    aside = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        shutil.rmtree(path, ignore_errors=True)
        aside.replace(path)
    except OSError as error:
        if isinstance(error, WorkspaceError):
            raise
        raise WorkspaceError(
            f"{path} cannot be written: {error.strerror or error}; free space or name another folder", path=str(path)
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@dataclass(frozen=True)
class _Described:
    """A file as the manifest lists it."""

    path: str
    object_id: str
    unit_id: str
    measurement: bool
    mime_type: str
    bytes: int
    checksum: str


def described(root: Path, path: str, algorithm: str) -> _Described:
    file = root / path
    with file.open("rb") as stream:
        checksum = hashlib.file_digest(stream, algorithm).hexdigest()
    stem = file.stem
    if stem.startswith("MTD_MSIL"):
        level = f"Level-{stem[-2:]}"
        ids = (f"S2_{level}_Product_Metadata", f"Product_Metadata_{level}")
    elif stem in ("MTD_TL", "MTD_DS"):
        level = "Level-1C" if (root / "MTD_MSIL1C.xml").exists() else "Level-2A"
        kind = {"MTD_TL": "Tile1", "MTD_DS": "Datastrip1"}[stem]
        ids = (f"S2_{level}_{kind}_Metadata", f"S2_{level}_{kind}_Metadata_Unit")
    elif stem.startswith("MSK_"):
        mask = {"MSK_CLDPRB": "CloudPrbMask", "MSK_SNWPRB": "SnowPrbMask"}[stem[:10]]
        ids = (f"{mask}_Tile1_Data", f"{mask}_Tile1_Unit")
    else:
        layer = "_".join(stem.split("_")[-2:])
        ids = (f"IMG_DATA_Band_{layer}_Tile1_Data", f"IMG_DATA_Band_{layer}_Tile1_Unit")
    pixels = file.suffix == ".jp2"
    mime = "application/octet-stream" if pixels else "text/xml"
    return _Described(path, *ids, pixels, mime, file.stat().st_size, checksum)


def spectral_bands() -> list[dict[str, object]]:
    """All thirteen bands in the order of their band_id; that of cirrus has no surface reflectance but is listed."""
    bands: dict[int, tuple[str, int, float | None]] = {10: ("B10", 60, 1373.5)}
    bands |= {band.product_index or 0: (band.name.replace("B0", "B"), band.gsd_m, band.wavelength_nm) for band in SENTINEL2.bands}
    return [
        {"band_id": index, "name": name, "gsd_m": gsd_m, "centre_nm": centre_nm,
         "low_nm": _RANGE_NM[index][0], "high_nm": _RANGE_NM[index][1], "irradiance": _IRRADIANCE[index]}
        for index, (name, gsd_m, centre_nm) in sorted(bands.items())
    ]  # fmt: skip


def utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def stamp(time: datetime) -> str:
    return utc(time).strftime("%Y%m%dT%H%M%S")


def instant(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def absolute_orbit(mission: str, relative_orbit: int, sensing: datetime) -> int:
    """The absolute orbit nearest in time that has this relative orbit."""
    elapsed = (sensing - _ORBIT_EPOCH[mission]) / timedelta(days=10) * _ORBITS_PER_CYCLE
    shift = relative_orbit - _ORBIT_SHIFT[mission]
    return max(0, round((elapsed - shift) / _ORBITS_PER_CYCLE)) * _ORBITS_PER_CYCLE + shift % _ORBITS_PER_CYCLE


def footprint(raster: Raster) -> str:
    """Corners as latitude and longitude, counter-clockwise from the upper left, closed; as in EXT_POS_LIST."""
    height_m, width_m = raster.shape_yx[0] * 10, raster.shape_yx[1] * 10
    left, top = raster.ul_x_m, raster.ul_y_m
    x, y = [left, left, left + width_m, left + width_m, left], [top, top - height_m, top - height_m, top, top]
    lon, lat = pyproj.Transformer.from_crs(raster.tile.epsg, 4326, always_xy=True).transform(x, y)
    return " ".join(f"{b:.12f} {a:.12f}" for a, b in zip(lon, lat, strict=True))


def sun_distance_factor(sensing: datetime) -> float:
    """Inverse square of the distance to the sun in astronomical units, as the products' U states it."""
    day = sensing.timetuple().tm_yday
    return 1 / (1 - 0.01673 * math.cos(0.0172 * (day - 4))) ** 2


def sun_angles(raster: Raster, sensing: datetime) -> tuple[float, float]:
    """Zenith and azimuth of the sun over the raster's middle, degrees, to about one degree.

    Source: declination and hour angle from the day of the year, without the equation of time.
    """
    x, y = raster.ul_x_m + raster.shape_yx[1] * 5, raster.ul_y_m - raster.shape_yx[0] * 5
    lon, lat = pyproj.Transformer.from_crs(raster.tile.epsg, 4326, always_xy=True).transform(x, y)
    declination = math.radians(-23.44) * math.cos(2 * math.pi * (sensing.timetuple().tm_yday + 10) / 365)
    hour = math.radians((sensing.hour + sensing.minute / 60 - 12) * 15 + lon)
    latitude = math.radians(lat)
    cosine = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(hour)
    azimuth = math.atan2(math.sin(hour), math.cos(hour) * math.sin(latitude) - math.tan(declination) * math.cos(latitude)) + math.pi
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine)))), math.degrees(azimuth) % 360
