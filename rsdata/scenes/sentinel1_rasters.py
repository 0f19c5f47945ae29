"""What terrain-corrected Sentinel-1 products have in common, however they are laid out: rasters, a unit, a place, a name.

A reader of a layout says what the product states and no more; whether that fits a recipe is decided afterwards, in one place.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import numpy as np
import pyproj
import rasterio
from affine import Affine
from pyproj.exceptions import CRSError

from rsdata.errors import SceneError
from rsdata.foreign import RASTER_ERRORS
from rsdata.scenes.product import ProductFiles
from rsdata.scenes.remote import public_href

PIXEL_M = 10
Unit = Literal["db", "linear", "amplitude"]
Quantity = Literal["sigma0", "gamma0"]
UNIT_WORDS: dict[Unit, str] = {"db": "decibel", "linear": "linear power", "amplitude": "amplitude"}

# Units as products spell them. SNAP calls power of any kind "intensity". "1" and "" leave the question open.
_SPELLINGS: dict[str, Unit] = {
    "db": "db", "decibel": "db", "decibels": "db", "intensity_db": "db",
    "intensity": "linear", "linear": "linear", "power": "linear", "linear power": "linear",
    "amplitude": "amplitude",
}  # fmt: skip
# For addresses: nothing is listed beside them, and some are signed for GET alone.
_REMOTE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "CPL_VSIL_CURL_USE_HEAD": "NO"}
_BAND_NAME = re.compile(r"(?P<quantity>[A-Za-z]+0?)_(?P<band>VV|VH|HH|HV)(?P<db>_db)?", re.ASCII | re.IGNORECASE)
_PRODUCT = re.compile(
    r"(?P<mission>S1[A-D])_(?P<mode>IW|EW|SM)_(?P<type>GRD[FHM]|SLC_)_1S(?P<polarisation>DV|DH|SV|SH)_(?P<start>\d{8}T\d{6})"
    r"(?P<rest>_\d{8}T\d{6}_\d{6}_[0-9A-F]{6}(?:_[0-9A-F]{4})?(?![0-9A-Za-z]))?",
    re.ASCII,
)


@dataclass(frozen=True)
class BesideFiles(ProductFiles):
    """Files that one file points to, as a header or an item does: beside it, or behind a URL. ``path`` is the one that points."""

    remote: tuple[str, ...] = field(default=(), repr=False)  # addresses, keys included

    @property
    def zipped(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return self.path.stem

    def gdal_path(self, inside: str) -> str:
        parts = urlsplit(inside)
        if parts.scheme == "s3":
            return f"/vsis3/{parts.netloc}{parts.path}"
        return f"/vsicurl/{inside}" if parts.scheme in ("http", "https") else str(self._local(inside))

    def _local(self, inside: str) -> Path:
        return Path(unquote(urlsplit(inside).path)) if inside.startswith("file://") else self.path.parent / inside

    def _read(self, inside: str) -> bytes:
        try:
            return self._local(inside).read_bytes()
        except OSError as error:
            raise SceneError(f"{self.path}: {inside} cannot be read ({error}); make the product again", path=str(self.path)) from error

    def digest(self, inside: str, algorithm: str) -> str:
        try:
            with self._local(inside).open("rb") as stream:
                return hashlib.file_digest(stream, algorithm).hexdigest()
        except OSError as error:
            raise SceneError(f"{self.path}: {inside} cannot be read ({error}); make the product again", path=str(self.path)) from error

    def signature(self) -> str:
        """A quick mark of names, sizes and times; of what lies behind a URL the address only."""
        marks = [f"{inside}\0{self.sizes[inside]}\0{self._local(inside).stat().st_mtime_ns}" for inside in sorted(self.sizes)]
        return hashlib.sha256("\n".join([*marks, *map(public_href, self.remote)]).encode()).hexdigest()

    def sha256(self) -> str:
        """Digest over the contents of every file; of what lies behind a URL the address only."""
        marks = [f"{inside}\0{self.digest(inside, 'sha256')}" for inside in sorted(self.sizes)]
        return hashlib.sha256("\n".join([*marks, *map(public_href, self.remote)]).encode()).hexdigest()


@dataclass(frozen=True)
class Raster:
    """Pixels of one polarisation."""

    inside: str  # file inside the product, or its address
    index: int = 1  # band of the file, from 1
    driver: str = "GTiff"  # the only one that may open it
    nodata: float | None = None  # stated beside the file; else what the file says


@dataclass(frozen=True)
class Place:
    """Where the pixels of a product lie."""

    crs: pyproj.CRS
    transform: Affine  # pixel corner (col, row) to the CRS, x before y
    shape_yx: tuple[int, int]

    @cached_property  # looking it up takes a quarter of a second where the CRS does not name it
    def epsg(self) -> int:
        """EPSG code of the CRS, that of its UTM zone if it gives the same coordinates to a millimetre; 0 if it has none."""
        return _epsg(self.crs, self.transform)

    @property
    def on_utm_grid(self) -> bool:
        """Whether this is a grid that Sentinel-2 tiles of some zone share: 10 m pixels, corners at multiples of 10 m."""
        a, b, c, d, e, f = self.transform[:6]
        utm = 32601 <= self.epsg <= 32660 or 32701 <= self.epsg <= 32760
        return utm and (a, b, d, e) == (PIXEL_M, 0, 0, -PIXEL_M) and c % PIXEL_M == 0 and f % PIXEL_M == 0

    @property
    def in_words(self) -> str:
        a, _, c, _, e, f = self.transform[:6]
        unit = self.crs.axis_info[0].unit_name if self.crs.axis_info else "unit"
        name = f"EPSG:{self.epsg}" if self.epsg else self.crs.name
        return f"{name}, pixels of {a:.9g} x {-e:.9g} {unit}, corner at {c:.10g}, {f:.10g}"

    def to_crs(self, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of pixel corners."""
        return self.transform.c + self.transform.a * col, self.transform.f + self.transform.e * row

    def to_corner(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of coordinates; whole numbers are pixel corners."""
        return (x - self.transform.c) / self.transform.a, (y - self.transform.f) / self.transform.e

    def footprint_lonlat(self, per_side: int = 16) -> list[tuple[float, float]]:
        """Closed outline in longitude and latitude, with points along the sides, as sides that are straight here bend there."""
        height, width = self.shape_yx
        along = np.linspace(0, 1, per_side, endpoint=False)
        zero, one = np.zeros(per_side), np.ones(per_side)
        col = np.concatenate([along, one, 1 - along, zero, [0.0]]) * width
        row = np.concatenate([zero, along, one, 1 - along, [0.0]]) * height
        x, y = self.to_crs(col, row)
        lon_deg, lat_deg = pyproj.Transformer.from_crs(self.crs, 4326, always_xy=True).transform(x, y)
        return [(round(float(lon), 7), round(float(lat), 7)) for lon, lat in zip(lon_deg, lat_deg, strict=True)]


@dataclass(frozen=True)
class Processed:
    """What a terrain-corrected product says of itself."""

    files: ProductFiles
    product: str  # a GRD's name, as far as it can be told
    layout: str
    rasters: dict[str, Raster]
    place: Place
    unit: Unit | None
    quantity: Quantity | None
    orbit_direction: str | None = None
    fallback: Unit | None = None  # unit where neither product nor recipe states one
    notes: tuple[str, ...] = ()


def unit_of(*texts: str | None) -> Unit | None:
    """The unit that texts such as a PHYSICAL_UNIT state, the first that is known; None if none is."""
    return next((_SPELLINGS[text.strip().lower()] for text in texts if text and text.strip().lower() in _SPELLINGS), None)


def band_of(name: str) -> tuple[str, str, bool] | None:
    """Quantity, polarisation, and whether it is decibel, of a band named as SNAP names them: ``Sigma0_VV``, ``Gamma0_VH_db``."""
    match = _BAND_NAME.fullmatch(name.strip())
    return (match["quantity"].lower(), match["band"].upper(), match["db"] is not None) if match else None


def quantity_of(name: str) -> Quantity | None:
    lowered = name.lower()
    return "sigma0" if lowered == "sigma0" else "gamma0" if lowered == "gamma0" else None


def grd_name(texts: Iterable[str]) -> tuple[str, tuple[str, ...]] | None:
    """The Sentinel-1 product that names such as ``…_Orb_Cal_TC`` begin with, and what is to be noted of it; None if there is none."""
    for text in texts:
        match = _PRODUCT.search(text)
        if match is None:
            continue
        if match["type"] != "SLC_":
            return match[0], ()
        return made_up_name(match["mission"], match["mode"], match["polarisation"], match["start"]), (f"made from the SLC {match[0]}",)
    return None


def made_up_name(mission: str, mode: str, polarisation: str, start: str) -> str:
    """A name in the form that patch ids need, for products that do not tell which GRD they were made from."""
    return f"{mission}_{mode}_GRDH_1S{polarisation}_{start}"


def stamp(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S}"


def place_of(path: Path, wkt: str, transform: Affine, shape_yx: tuple[int, int]) -> Place:
    """Raises: SceneError if the CRS is none that PROJ knows, or the raster is rotated."""
    try:
        crs = pyproj.CRS.from_user_input(wkt)
    except CRSError as error:
        raise SceneError(
            f"{path} has a coordinate system that PROJ does not know ({error}); write the product again", path=str(path)
        ) from error
    if not (transform.a > 0 > transform.e) or transform.b or transform.d:
        raise SceneError(f"{path} is rotated or upside down ({tuple(transform)[:6]}); terrain correct it north up", path=str(path))
    return Place(crs, transform, shape_yx)


def read_place(path: Path, files: ProductFiles, rasters: dict[str, Raster]) -> Place:
    """Where the rasters of a product say they lie.

    Raises: SceneError if one cannot be opened, has no place on a map, or is no float32 raster on the grid of the other.
    """
    found = {}
    for band, raster in rasters.items():
        with opened(path, files, raster) as source:
            found[band] = (source.crs, source.transform, source.shape, source.dtypes[raster.index - 1])
    crs, transform, shape, dtype = found["VV"]
    if crs is None:
        raise SceneError(f"{path} has no coordinate system; terrain correct it first, or name the GRD in SAFE layout", path=str(path))
    if found["VH"] != found["VV"] or dtype != "float32":
        raise SceneError(
            f"{path}: VV is {shape} {dtype} with pixels of {transform.a} x {-transform.e} and VH is {found['VH'][2]} {found['VH'][3]}; "
            "expected both as float32 on one grid",
            path=str(path),
        )
    return place_of(path, crs.to_wkt(), transform, shape)


def opened(path: Path, files: ProductFiles, raster: Raster) -> rasterio.DatasetReader:
    """Open one raster with the driver that its layout needs, so that a file cannot make GDAL open others.

    Raises: SceneError if it cannot be opened. The message shows no key that an address may hold.
    """
    where = public_href(raster.inside) if urlsplit(raster.inside).netloc else raster.inside
    try:
        with rasterio.Env(**(_REMOTE if urlsplit(raster.inside).netloc else {})):
            source = rasterio.open(files.gdal_path(raster.inside), driver=raster.driver)
    except RASTER_ERRORS as error:
        raise SceneError(f"{path}: {where} cannot be opened ({without_keys(error)}); make it again", path=str(path)) from error
    if source.count < raster.index:
        source.close()
        raise SceneError(f"{path}: {where} holds {source.count} bands; expected VV and VH", path=str(path))
    return source


def without_keys(error: Exception) -> str:
    """What GDAL says, without the query of any address in it."""
    return re.sub(r"\?\S*", "", str(error.__cause__ or error))


def missing_band(path: Path, band: str, held: str, expected: str) -> SceneError:
    return SceneError(f"{path} holds {held} for {band}; expected {expected}", path=str(path))


def _epsg(crs: pyproj.CRS, transform: Affine) -> int:
    code = crs.to_epsg()
    if code is not None:
        return int(code)
    if not crs.is_projected:
        return 4326 if crs.is_geographic and _agree(crs, 4326, [(0, 0), (12, 48), (-70, -40)], 1e-8) else 0
    x, y = transform.c, transform.f
    lon_deg, lat_deg = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    if not np.isfinite([lon_deg, lat_deg]).all():
        return 0
    zone = int((lon_deg + 180) // 6)
    zones = [base + (zone + step) % 60 for base in (32601, 32701) for step in (0, 1, -1)]  # a raster may reach beyond its zone
    places = [(x, y), (x + 50_000, y - 50_000)]
    return next((code for code in zones if _agree(crs, code, places, 1e-3)), 0)


def _agree(crs: pyproj.CRS, epsg: int, places: list[tuple[float, float]], within: float) -> bool:
    """Whether two systems give the same coordinates; SNAP often leaves out what EPSG calls a system."""
    there = np.array(pyproj.Transformer.from_crs(crs, epsg, always_xy=True).transform(*np.array(places, float).T))
    return bool(np.abs(there - np.array(places, float).T).max() <= within)
