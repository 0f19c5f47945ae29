"""Which samples are no measurement, and which kind of none they are: coded apart, without loss.

A class per sample: 0 measured, 1 the no-data value, 2 NaN, 3 and 4 plus and minus infinity. Each class in use is one
bit plane, packed, and within a segment each frame is stored as its difference to the one before. Which pixels are valid,
where a caller says so, is a plane of its own: where that differs from having been measured in every band.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from rsdata.errors import ShardError

NODATA, NAN, PLUS_INF, MINUS_INF = 1, 2, 3, 4
UNWANTED = 5  # measured and not valid: nobody asks for its value; never stored
_DIFFERS = (1,)  # the one kind in a plane of validity


def classify(cube: np.ndarray, nodata: float | None) -> np.ndarray:
    """Classes (time, band, y, x) uint8 of a cube."""
    classes = np.zeros(cube.shape, np.uint8)
    if cube.dtype.kind == "f":
        finite = np.isfinite(cube)
        if not finite.all():
            classes[np.isnan(cube)] = NAN
            classes[np.isposinf(cube)] = PLUS_INF
            classes[np.isneginf(cube)] = MINUS_INF
    if nodata is not None and not np.isnan(nodata):
        classes[cube == nodata] = NODATA
    return classes


def restore(cube: np.ndarray, classes: np.ndarray, nodata: float | None) -> None:
    """Put back, in place, what was no measurement. ``classes`` may have one band for all."""
    if not classes.any():
        return
    for number, value in ((NODATA, nodata), (NAN, np.nan), (PLUS_INF, np.inf), (MINUS_INF, -np.inf)):
        where = np.broadcast_to(classes == number, cube.shape)
        if where.any():
            if value is None or (cube.dtype.kind != "f" and not np.isfinite(value)):
                raise ShardError("a mask marks samples as something their type cannot hold; the shard is damaged")
            cube[where] = value


def encode(classes: np.ndarray, kinds: Sequence[int]) -> bytes:
    """Code one segment's classes (time, band, y, x)."""
    planes = np.stack([np.packbits((classes == kind).reshape(len(classes), -1), axis=1) for kind in kinds], axis=1)
    planes[1:] ^= planes[:-1].copy()
    return zlib.compress(planes.tobytes(), 9)


def decode(data: bytes, kinds: Sequence[int], shape: tuple[int, int, int, int]) -> np.ndarray:
    """Classes (time, band, y, x) uint8 of one segment.

    Raises: ShardError if the data is damaged.
    """
    frames, *rest = shape
    samples = int(np.prod(rest))
    row = -(-samples // 8)
    raw = inflate(data, frames * len(kinds) * row, "a mask")
    if len(raw) != frames * len(kinds) * row:
        raise ShardError("a mask is damaged: it is shorter than its cube; make the shard again")
    planes = np.frombuffer(raw, np.uint8).reshape(frames, len(kinds), row)
    planes = np.bitwise_xor.accumulate(planes, axis=0)
    classes = np.zeros((frames, samples), np.uint8)
    for number, kind in enumerate(kinds):
        classes[np.unpackbits(planes[:, number], axis=1, count=samples).astype(bool)] = kind
    return classes.reshape(shape)


def encode_validity(valid: np.ndarray, classes: np.ndarray | None) -> bytes:
    """Code which pixels of one segment are valid.

    Args: valid: (time, y, x) bool; classes: (time, band, y, x) as the mask has them, None without a mask.
    """
    return encode((valid != _measured(classes, valid.shape))[:, None].astype(np.uint8), _DIFFERS)


def decode_validity(data: bytes, classes: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """Valid pixels (time, y, x) bool of one segment; undoes ``encode_validity``.

    Raises: ShardError if the data is damaged.
    """
    frames, rows, columns = shape
    return np.asarray((decode(data, _DIFFERS, (frames, 1, rows, columns))[:, 0] == 0) == _measured(classes, shape))


def _measured(classes: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """(time, y, x): no band is marked."""
    return np.ones(shape, bool) if classes is None else np.asarray(~classes.any(axis=1))


def inflate(data: bytes, limit: int, what: str, dictionary: bytes = b"") -> bytes:
    """Undo zlib, to ``limit`` bytes at most.

    Raises: ShardError if it is damaged or holds more.
    """
    stream = zlib.decompressobj(zdict=dictionary) if dictionary else zlib.decompressobj()
    try:
        raw = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise ShardError(f"{what} is damaged ({error}); make the shard again") from error
    if len(raw) > limit or not stream.eof:
        raise ShardError(f"{what} is damaged: it is cut short or holds more than the {limit} bytes it may; make the shard again")
    return raw


def fill(cube: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """A cube whose marked samples hold what lay there last time, or the band's mean: something cheap to code."""
    gone = classes != 0
    if not gone.any():
        return cube
    frames = np.arange(len(cube))[:, None, None, None]
    last = np.maximum.accumulate(np.where(gone, -1, frames), axis=0)
    earliest = np.argmin(gone, axis=0)[None]  # first frame that measured here; 0 if none did
    filled = np.take_along_axis(cube, np.where(last >= 0, last, earliest), axis=0)
    for band in range(cube.shape[1]):
        never = gone[:, band].all(axis=0)
        if never.any():
            known = cube[:, band][~gone[:, band]]
            filled[:, band, never] = np.asarray(known.mean(dtype=np.float64) if known.size else 0).astype(cube.dtype)
    return filled
