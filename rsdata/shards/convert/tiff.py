"""GeoTIFFs of small patches, read without GDAL where their structure is plain.

Opening such a file through GDAL costs more than its pixels. What is read here is a little-endian classic TIFF with one
image in strips, uncompressed or deflated; anything else is left to rasterio, and said so. Files of one kind share one
structure, so a ``Template`` of the first one tells by comparing bytes whether the next is the same but for its place
on Earth, its pixels and its texts.

Source: TIFF Revision 6.0, Adobe, 1992; OGC GeoTIFF 1.1 for the tags of the place.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from rsdata.errors import ShardError
from rsdata.shards.compression import MAX_VALUE_BYTES

_HEADER = b"II*\0"
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_DTYPES = {
    (1, 8): "uint8", (1, 16): "uint16", (1, 32): "uint32",
    (2, 8): "int8", (2, 16): "int16", (2, 32): "int32",
    (3, 32): "float32", (3, 64): "float64",
}  # fmt: skip  # (SampleFormat, BitsPerSample)

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES = 256, 257, 258, 259, 262, 273, 277
_ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR, _PREDICTOR, _SAMPLE_FORMAT = 278, 279, 284, 317, 339
_NEEDED = (_WIDTH, _HEIGHT, _BITS, _STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES)
# Tags whose value must be this one (where absent, it is): not a mask or reduced image, bits in order, upper left first.
_ONLY = {254: 0, 266: 1, 274: 1}
# Tags that do not touch pixels: texts, resolution, value range, extra samples, no-data, and the place on Earth.
_MUTE = {270, 280, 281, 282, 283, 296, 305, 306, 338, 42112, 42113}
_PLACE = {33550, 33922, 34264, 34735, 34736, 34737}
_FREE = _PLACE | {270, 306, 42112}  # may differ from file to file where they lie outside the directory
_KNOWN = set(_NEEDED) | set(_ONLY) | _MUTE | _PLACE | {_COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _PREDICTOR, _SAMPLE_FORMAT}
_PLAIN, _DEFLATE = 1, (8, 32946)
_MOST_BYTES = 2**30  # larger files are left to rasterio


class Unusual(Exception):
    """Why a file is left to rasterio; short, as it is counted in reports."""


@dataclass(frozen=True)
class Structure:
    """How one TIFF lies in its file; byte ranges were checked to lie within it."""

    shape: tuple[int, int, int]  # (band, y, x)
    dtype: str
    chunky: bool  # bands of a pixel lie together
    deflated: bool
    differenced: bool  # horizontal predictor
    strips: tuple[tuple[int, int], ...]  # first byte, bytes
    strip_rows: int
    fixed: tuple[tuple[int, int], ...]  # byte ranges (first, end) that make this structure what it is


def parse(data: bytes, path: Path) -> Structure:
    """Read the structure of a TIFF.

    Raises: ShardError if the file ends before its pixels do; Unusual if rasterio has to read it.
    """
    if len(data) < 8 or data[:4] != _HEADER:
        raise Unusual("not a little-endian classic TIFF")
    (directory,) = struct.unpack_from("<I", data, 4)
    if directory + 2 > len(data):
        raise ShardError(f"{path} ends after {len(data)} bytes, before its directory at byte {directory}; fetch it again", path=str(path))
    (entries,) = struct.unpack_from("<H", data, directory)
    end = directory + 2 + 12 * entries + 4
    if end > len(data):
        raise ShardError(f"{path} ends after {len(data)} bytes, within its directory; fetch it again", path=str(path))
    if data[end - 4 : end] != b"\0\0\0\0":
        raise Unusual("several images in one file")
    fixed = [(0, 8), (directory, end)]
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(directory + 2, end - 4, 12):
        tag, kind, count = struct.unpack_from("<HHI", data, entry)
        if tag not in _KNOWN or kind not in _TYPE_BYTES or not count:
            raise Unusual(f"tag {tag}")
        size = _TYPE_BYTES[kind] * count
        first = entry + 8 if size <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
        if first + size > len(data):
            raise ShardError(f"{path} ends after {len(data)} bytes, within its tag {tag}; fetch it again", path=str(path))
        if size > 4 and tag not in _FREE:
            fixed.append((first, first + size))
        if kind in _INTEGERS and tag not in _MUTE | _PLACE:
            tags[tag] = struct.unpack_from(f"<{count}{_INTEGERS[kind]}", data, first)
    return _structure(tags, fixed, len(data), path)


def _structure(tags: dict[int, tuple[int, ...]], fixed: list[tuple[int, int]], file_bytes: int, path: Path) -> Structure:
    if missing := [tag for tag in _NEEDED if not tags.get(tag)]:
        raise Unusual("tiles instead of strips" if _STRIP_OFFSETS in missing else f"no tag {missing[0]}")
    for tag, value in _ONLY.items():
        if tags.get(tag, (value,)) != (value,):
            raise Unusual(f"tag {tag} is {tags[tag][0]}")
    width, height, rows = tags[_WIDTH][0], tags[_HEIGHT][0], min(tags[_ROWS_PER_STRIP][0], tags[_HEIGHT][0])
    (samples,), (compression,), (planar,), (predictor,) = (tags.get(tag, (1,))[:1] for tag in (_SAMPLES, _COMPRESSION, _PLANAR, _PREDICTOR))
    kinds = set(zip(tags.get(_SAMPLE_FORMAT, (1,) * samples), tags[_BITS], strict=False))
    dtype = _DTYPES.get(next(iter(kinds))) if len(kinds) == 1 else None
    if dtype is None:
        raise Unusual("bits per sample")
    if tags.get(_PHOTOMETRIC, (1,))[0] not in (1, 2):
        raise Unusual(f"photometric {tags[_PHOTOMETRIC][0]}")
    if compression != _PLAIN and compression not in _DEFLATE:
        raise Unusual(f"compression {compression}")
    deflated = compression != _PLAIN
    differenced = deflated and predictor == 2  # the tag means nothing to uncompressed files
    if deflated and (predictor not in (1, 2) or (predictor == 2 and dtype.startswith("float"))):
        raise Unusual(f"predictor {predictor}")
    chunky = planar == 1 and samples > 1
    if not (width and height and rows and samples) or planar not in (1, 2):
        raise Unusual("planar configuration")
    per_plane = math.ceil(height / rows)
    planes = 1 if chunky else samples
    strips = tuple(zip(tags[_STRIP_OFFSETS], tags[_STRIP_BYTES], strict=False))
    if not len(tags[_STRIP_OFFSETS]) == len(tags[_STRIP_BYTES]) == per_plane * planes:
        raise Unusual("number of strips")
    _check_size(width, height, samples, dtype, path)
    row_bytes = width * np.dtype(dtype).itemsize * (samples if chunky else 1)
    for index, (first, length) in enumerate(strips):
        if not first or (not deflated and length != min(rows, height - index % per_plane * rows) * row_bytes):
            raise Unusual("sparse or odd strips")
        if first + length > file_bytes:
            raise ShardError(
                f"{path} ends after {file_bytes} bytes, its pixels reach to byte {first + length}; fetch it again", path=str(path)
            )
    return Structure((samples, height, width), dtype, chunky, deflated, differenced, strips, rows, tuple(sorted(fixed)))


def _check_size(width: int, height: int, bands: int, dtype: str, path: Path) -> None:
    """Refuse a size that no patch has, before memory is taken for it."""
    if width * height * bands * np.dtype(dtype).itemsize > MAX_VALUE_BYTES:
        raise ShardError(
            f"{path} claims {bands} x {height} x {width} pixels (bands, rows, columns), more than any patch; fetch it again", path=str(path)
        )


def pixels_of(data: bytes, structure: Structure, path: Path) -> np.ndarray:
    """Pixels (band, y, x) of a file whose structure is known.

    Raises: ShardError if a compressed strip is damaged.
    """
    samples, height, width = structure.shape
    together = samples if structure.chunky else 1
    row_bytes = width * together * np.dtype(structure.dtype).itemsize
    rows_in_plane = math.ceil(height / structure.strip_rows)
    pieces = []
    for index, (first, length) in enumerate(structure.strips):
        piece = data[first : first + length]
        if structure.deflated:
            expected = min(structure.strip_rows, height - index % rows_in_plane * structure.strip_rows) * row_bytes
            piece = _inflated(piece, expected, path)
        pieces.append(piece)
    pixels = np.frombuffer(b"".join(pieces), np.dtype(structure.dtype).newbyteorder("<"))
    planes = pixels.reshape(-1, height, width, together)  # (plane, y, x, bands that lie together)
    if structure.differenced:
        planes = np.cumsum(planes, axis=2, dtype=planes.dtype)
    ordered = planes.transpose(3, 0, 1, 2) if structure.chunky else planes
    return np.ascontiguousarray(ordered.reshape(structure.shape), structure.dtype)


def _inflated(piece: bytes, expected: int, path: Path) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(piece, expected + 1)
    except zlib.error as error:
        raise ShardError(f"{path} holds damaged pixels ({error}); fetch it again", path=str(path)) from error
    if len(plain) != expected:
        raise ShardError(f"{path} holds a strip of {len(plain)} bytes, expected {expected}; fetch it again", path=str(path))
    return plain


@dataclass(frozen=True)
class Template:
    """A structure as bytes to compare and runs of bytes to copy."""

    file_bytes: int
    compared: tuple[tuple[int, bytes], ...]  # first byte in the file, what must stand there
    runs: tuple[tuple[int, int, int], ...]  # byte in the file, byte in the value, length


def template_of(data: bytes, structure: Structure, band_at: Sequence[int]) -> Template | None:
    """What to compare and copy, or None if pixels have to be unpacked or put in another order.

    Args: band_at: byte in the value at which each band's pixels begin.
    """
    if structure.chunky or structure.deflated:
        return None
    per_band = len(structure.strips) // structure.shape[0]
    runs: list[tuple[int, int, int]] = []
    for index, (first, length) in enumerate(structure.strips):
        band, strip = divmod(index, per_band)
        target = band_at[band] + sum(size for _, size in structure.strips[band * per_band : band * per_band + strip])
        if runs and runs[-1][0] + runs[-1][2] == first and runs[-1][1] + runs[-1][2] == target:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + length)
        else:
            runs.append((first, target, length))
    return Template(len(data), tuple((first, data[first:end]) for first, end in structure.fixed), tuple(runs))


def read_tiff(path: Path) -> tuple[np.ndarray, str | None, bytes, Structure | None]:
    """Read one file, without GDAL if its structure is plain.

    Returns: pixels (band, y, x); why rasterio read it, if it did; the file's bytes and its structure otherwise.
    Raises: ShardError if it cannot be read or is damaged.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise Unusual("large file")
        data = path.read_bytes()
        structure = parse(data, path)
        return pixels_of(data, structure, path), None, data, structure
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing; fetch it again", path=str(path)) from error
    except OSError as error:
        raise ShardError(f"{path} cannot be read: {error.strerror or error}", path=str(path)) from error
    except Unusual as unusual:
        try:
            with rasterio.open(path) as raster:
                _check_size(raster.width, raster.height, raster.count, max(raster.dtypes, key=lambda dtype: np.dtype(dtype).itemsize), path)
                return raster.read(), str(unusual), b"", None
        except (RasterioError, OSError, ValueError) as error:
            if isinstance(error, ShardError):
                raise
            raise ShardError(f"{path} is not a TIFF that can be read ({error}); fetch it again", path=str(path)) from error
