"""The compiled pass over a batch: convert, resample, normalise, turn, and write each band to its place.

It runs without Python's lock. It trusts the addresses it is given; ``Piece`` has checked them.
"""

from typing import Any

import numpy as np
from numba import carray, types
from numba.core import typing
from numba.extending import intrinsic

from rsdata.compiled import compiled
from rsdata.shards.reading.streaming import ALIGNED_BYTES, settle, stream

TYPES = {"uint16": 0, "float32": 1, "int16": 2, "uint8": 3}  # stored types that are read as they lie
NEAREST, BILINEAR, AREA = 0, 1, 2
LARGE_BYTES = 16 * 2**20  # of a batch that no cache keeps until it is read
_ROWS = 15  # worked out together before they are streamed

_compiled = compiled(error_model="numpy")  # a division is one instruction, without a test for zero


def _as_pointer(typing_context, address):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.intp), generate


_pointer: Any = intrinsic(_as_pointer)  # an integer as the pointer it is
_copy: Any = types.ExternalFunction("memcpy", typing.signature(types.intp, types.intp, types.intp, types.intp))


@_compiled
def _normalise(source, mean, std, nodata, target):  # type: ignore[no-untyped-def]
    """(pixel,) stored values to (stored - mean) / std in float32; 0 where they are missing."""
    for place in range(source.size):
        value = np.float32(source[place])
        target[place] = np.float32(0) if value != value or value == nodata else (value - mean) / std


@_compiled
def _normalise_stored(address, kind, pixels, mean, std, nodata, target):  # type: ignore[no-untyped-def]
    if kind == 0:
        _normalise(carray(_pointer(address), (pixels,), np.uint16), mean, std, nodata, target)
    elif kind == 1:
        _normalise(carray(_pointer(address), (pixels,), np.float32), mean, std, nodata, target)
    elif kind == 2:
        _normalise(carray(_pointer(address), (pixels,), np.int16), mean, std, nodata, target)
    else:
        _normalise(carray(_pointer(address), (pixels,), np.uint8), mean, std, nodata, target)


@_compiled
def _nearest(source, width, rows, columns, target):  # type: ignore[no-untyped-def]
    """``source`` (pixel,) to ``target`` (pixel,); equal rows are worked out once."""
    side = rows.size
    times = side // width
    whole = side == times * width  # then nothing is looked up per pixel
    start = target.ctypes.data
    for y in range(side):
        at = y * side
        if y > 0 and rows[y] == rows[y - 1]:
            _copy(start + 4 * at, start + 4 * (at - side), 4 * side)
        elif whole and times == 2:  # the commonest case, 20 m to 10 m; two pixels at once, as one number of twice their size
            native = carray(_pointer(source.ctypes.data + 4 * rows[y] * width), (width,), np.uint32)
            pairs = carray(_pointer(start + 4 * at), (width,), np.uint64)
            for x in range(width):
                pairs[x] = np.uint64(native[x]) | (np.uint64(native[x]) << np.uint64(32))
        elif whole:
            for x in range(width):
                value = source[rows[y] * width + x]
                for place in range(at + x * times, at + (x + 1) * times):
                    target[place] = value
        else:
            for x in range(side):
                target[at + x] = source[rows[y] * width + columns[x]]


@_compiled
def _bilinear(source, width, row_from, row_to, row_share, column_from, column_to, column_share, target):  # type: ignore[no-untyped-def]
    side = row_from.size
    one = np.float32(1)
    for y in range(side):
        upper = source[row_from[y] * width : (row_from[y] + 1) * width]
        lower = source[row_to[y] * width : (row_to[y] + 1) * width]
        down = row_share[y]
        for x in range(side):
            left, right, across = column_from[x], column_to[x], column_share[x]
            above = upper[left] * (one - across) + upper[right] * across
            below = lower[left] * (one - across) + lower[right] * across
            target[y * side + x] = above * (one - down) + below * down


@_compiled
def _area(source, width, row_from, row_to, column_from, column_to, target):  # type: ignore[no-untyped-def]
    side = row_from.size
    for y in range(side):
        for x in range(side):
            total = np.float64(0)
            for row in range(row_from[y], row_to[y] + 1):
                for column in range(column_from[x], column_to[x] + 1):
                    total += source[row * width + column]
            target[y * side + x] = total / ((row_to[y] + 1 - row_from[y]) * (column_to[x] + 1 - column_from[x]))


@_compiled
def _resample(source, width, method, row_axis, column_axis, low, high, share, target):  # type: ignore[no-untyped-def]
    rows, columns = low[row_axis], low[column_axis]
    if method == NEAREST:
        _nearest(source, width, rows, columns, target)
    elif method == BILINEAR:
        _bilinear(source, width, rows, high[row_axis], share[row_axis], columns, high[column_axis], share[column_axis], target)
    else:
        _area(source, width, rows, high[row_axis], columns, high[column_axis], target)


@_compiled
def _streamed(address, kind, height, width, mean, std, nodata, side, worked, stored, target):  # type: ignore[no-untyped-def]
    """Normalise a plane, repeat its pixels to (side, side) and write it past the cache, a few rows at a time.

    Args: target: an address; worked, stored: aligned room for ``_ROWS`` rows as they are written, and for one as it is stored.
    """
    times = side // width
    row_bytes = width * (4 if kind == 1 else 1 if kind == 3 else 2)
    made = worked.ctypes.data
    if times == 1:
        for first in range(0, height, _ROWS):
            rows = min(_ROWS, height - first)
            _normalise_stored(address + first * row_bytes, kind, rows * width, mean, std, nodata, worked)
            stream(target, made, rows * side)
            target += 4 * rows * side
        return
    native = carray(_pointer(stored.ctypes.data), (width,), np.float32)
    single = carray(_pointer(stored.ctypes.data), (width,), np.uint32)
    double = carray(_pointer(made), (width,), np.uint64)
    for row in range(height):
        _normalise_stored(address + row * row_bytes, kind, width, mean, std, nodata, native)
        if times == 2:  # two pixels at once, as one number of twice their size
            for x in range(width):
                double[x] = np.uint64(single[x]) | (np.uint64(single[x]) << np.uint64(32))
        else:
            for x in range(width):
                value = native[x]
                for place in range(x * times, (x + 1) * times):
                    worked[place] = value
        for _ in range(times):
            stream(target, made, side)
            target += 4 * side


@_compiled
def _aligned(floats):  # type: ignore[no-untyped-def]
    room = np.empty(floats + ALIGNED_BYTES // 4, np.float32)
    first = (-room.ctypes.data % ALIGNED_BYTES) // 4
    return room[first : first + floats]


@_compiled
def fill(  # type: ignore[no-untyped-def]
    addresses, rows, offsets, kinds, heights, widths, channels, row_axes, column_axes, mean, std, nodata, low, high, share, method,
    symmetries, steps, floats, out,
):  # fmt: skip
    """Write the bands of some entries into a batch.

    Args:
        addresses, rows: (entry,) int64: where it begins in memory, and its row in the batch.
        offsets, kinds, heights, widths, channels: (band,) int64: bytes from there, one of TYPES, pixels, channel in the batch.
        row_axes, column_axes: (band,) int64: which row of the tables below brings its height, its width to the batch's side.
        mean, std, nodata: (band,) float32, in the stored unit.
        low, high, share: (axis, side) int64, int64, float32: native pixels that an output pixel is made of, and the share of the second.
        method: NEAREST, BILINEAR or AREA; bands that have the batch's size are copied whatever it is.
        symmetries: (row of the batch,) int64, 0 to 7; 0 leaves the patch as it is.
        steps: (symmetry, 3) int64: first pixel of the turned square in the straight one, and how far the next row and column are.
        floats: whether ``out`` is float32; then a patch that is not turned is worked out right where it belongs.
        out: (row, channel, side, side), float32 or, with mean 0 and std 1, the stored type; written.
    """
    side = out.shape[2]
    largest = 1
    for band in range(offsets.size):
        largest = max(largest, heights[band] * widths[band])
    native, straight = np.empty(largest, np.float32), np.empty(side * side, np.float32)
    widest = 1
    for band in range(offsets.size):
        widest = max(widest, widths[band])
    worked, stored = _aligned(_ROWS * side), _aligned(widest)
    past_cache = floats and out.nbytes >= LARGE_BYTES and side * 4 % ALIGNED_BYTES == 0 and out.ctypes.data % ALIGNED_BYTES == 0
    for entry in range(addresses.size):
        row = rows[entry]
        symmetry = symmetries[row]
        for band in range(offsets.size):
            plane = out[row, channels[band]].reshape(-1)
            final = straight
            if floats and symmetry == 0:
                final = carray(_pointer(plane.ctypes.data), (side * side,), np.float32)
            same = heights[band] == side and widths[band] == side
            pixels = heights[band] * widths[band]
            square = heights[band] == widths[band] and side % widths[band] == 0
            if past_cache and symmetry == 0 and square and (same or method == NEAREST):
                _streamed(
                    addresses[entry] + offsets[band], kinds[band], heights[band], widths[band], mean[band], std[band], nodata[band], side,
                    worked, stored, plane.ctypes.data,
                )  # fmt: skip
                continue
            source = final if same else native
            _normalise_stored(addresses[entry] + offsets[band], kinds[band], pixels, mean[band], std[band], nodata[band], source)
            if not same:
                _resample(native, widths[band], method, row_axes[band], column_axes[band], low, high, share, final)
            if not floats or symmetry != 0:
                first, down, across = steps[symmetry, 0], steps[symmetry, 1], steps[symmetry, 2]
                for y in range(side):
                    for x in range(side):
                        plane[y * side + x] = straight[first + y * down + x * across]
    if past_cache:
        settle()
