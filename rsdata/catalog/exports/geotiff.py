"""Bands of one patch as a GeoTIFF, its bytes as GDAL writes them.

GDAL takes a millisecond for a file whose pixels are copied in microseconds. Uncompressed files of one kind differ in their corner
and their pixels alone, so GDAL writes the first of a kind and its head serves all others.
"""

import struct
from functools import lru_cache

import numpy as np
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from rsdata.errors import CatalogError

_MARK_M = (123_450.0, 6_543_210.0)  # a corner that no other bytes of a head spell


def geotiff(
    pixels: np.ndarray, *, epsg: int, corner_m: tuple[float, float], gsd_m: float, nodata: float | None, names: tuple[str, ...] = ()
) -> bytes:
    """A file of uncompressed strips.

    Args:
        pixels: (y, x) or (band, y, x), of any type that GDAL knows; bands lie one after the other.
        corner_m: upper left, easting and northing.
        nodata: as the file states it; None for no statement.
        names: of the bands, as GDAL shows them; none are stated if absent.
    """
    head, place = _head(pixels.shape, pixels.dtype.str, epsg, gsd_m, nodata, names)
    corner = struct.pack("<2d", *corner_m)
    return b"".join((head[:place], corner, head[place + len(corner) :], np.ascontiguousarray(pixels).tobytes()))


def deflated_geotiff(pixels: np.ndarray, *, epsg: int, corner_m: tuple[float, float], gsd_m: float, nodata: float | None) -> bytes:
    """The same with DEFLATE over horizontal differences, for maps of classes."""
    return _by_gdal(pixels, epsg, corner_m, gsd_m, nodata, compress="deflate", predictor=2)


@lru_cache(maxsize=256)
def _head(shape: tuple[int, ...], dtype: str, epsg: int, gsd_m: float, nodata: float | None, names: tuple[str, ...]) -> tuple[bytes, int]:
    """What precedes the pixels, and the first byte of the corner in it."""
    pixels = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    written, mark = _by_gdal(pixels, epsg, _MARK_M, gsd_m, nodata, names), struct.pack("<2d", *_MARK_M)
    if not written.endswith(pixels.tobytes()) or written.count(mark) != 1:
        raise CatalogError("GDAL lays out a GeoTIFF in another way than expected; install the version in .ci/constraints.txt")
    return written[: -pixels.nbytes], written.index(mark)


def _by_gdal(
    pixels: np.ndarray,
    epsg: int,
    corner_m: tuple[float, float],
    gsd_m: float,
    nodata: float | None,
    names: tuple[str, ...] = (),
    **options: object,
) -> bytes:
    transform = Affine(gsd_m, 0, corner_m[0], 0, -gsd_m, corner_m[1])
    bands = pixels.reshape(-1, *pixels.shape[-2:])
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": pixels.dtype, "nodata": nodata}
    if count > 1:
        options["interleave"] = "band"
    with MemoryFile() as memory:
        with memory.open(**profile, crs=_crs(epsg), transform=transform, **options) as file:
            for number, name in enumerate(names, 1):
                file.set_band_description(number, name)
            file.write(bands)
        return bytes(memory.read())


@lru_cache
def _crs(epsg: int) -> CRS:
    return CRS.from_epsg(epsg)
