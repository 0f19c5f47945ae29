"""Compiled loops over bytes and pixels; they run without Python's lock, so threads share the work."""

from typing import Any

import numpy as np
from numba import types
from numba.core import typing

from rsdata.compiled import compiled

# The C library's own, called without Python's lock. A failure is only counted here; who asked looks again and says why.
_open: Any = types.ExternalFunction("open", typing.signature(types.int32, types.intp, types.int32))
_read: Any = types.ExternalFunction("read", typing.signature(types.intp, types.int32, types.intp, types.intp))
_close: Any = types.ExternalFunction("close", typing.signature(types.int32, types.int32))
_copy: Any = types.ExternalFunction("memcpy", typing.signature(types.intp, types.intp, types.intp, types.intp))
_compare: Any = types.ExternalFunction("memcmp", typing.signature(types.int32, types.intp, types.intp, types.intp))
_READ_ONLY = 0

COPIED, ABSENT, UNLIKE = 0, 1, 2  # what became of a file: copied; could not be opened; like none of the templates


@compiled()
def copy_files(  # type: ignore[no-untyped-def]
    paths, path_at, slots, bases, slot_at, file_bytes, compare_at, compare_first, compare_text, text, run_at, runs, scratch, out, state
):
    """Read small files whole, compare each with the templates of its slot, and copy its pixels to where they belong.

    Args:
        paths, path_at: (byte,) uint8 paths that end in 0, laid end to end; (file,) where each begins.
        slots, bases: (file,) which slot a file belongs to; the byte of ``out`` that its value begins at.
        slot_at: (slot + 1,) first template of each slot; a slot without templates is UNLIKE and not opened.
        file_bytes: (template,) exact size of such a file.
        compare_at: (template + 1,) first comparison of each template.
        compare_first, compare_text: (comparison,) byte of the file, and byte of ``text`` that must equal it, onward.
        text: (byte,) uint8; a comparison's length is the distance to the next one's place in ``text``.
        run_at: (template + 1,) first run of each template.
        runs: (run, 3) byte of the file, byte of the value, length.
        scratch: uint8, longer than the largest file of any template.
        out: uint8, written.
        state: (file,) int8, written: COPIED, ABSENT or UNLIKE.
    """
    for each in range(slots.size):
        slot = slots[each]
        state[each] = UNLIKE
        if slot_at[slot] == slot_at[slot + 1]:
            continue
        descriptor = _open(paths.ctypes.data + path_at[each], _READ_ONLY)
        if descriptor < 0:
            state[each] = ABSENT
            continue
        got = _read(descriptor, scratch.ctypes.data, scratch.size)
        _close(descriptor)
        for template in range(slot_at[slot], slot_at[slot + 1]):
            if got != file_bytes[template]:
                continue
            like = True
            for comparison in range(compare_at[template], compare_at[template + 1]):
                begin, end = compare_text[comparison], compare_text[comparison + 1]
                if _compare(scratch.ctypes.data + compare_first[comparison], text.ctypes.data + begin, end - begin) != 0:
                    like = False
                    break
            if not like:
                continue
            for run in range(run_at[template], run_at[template + 1]):
                target = out.ctypes.data + bases[each] + runs[run, 1]
                _copy(target, scratch.ctypes.data + runs[run, 0], runs[run, 2])
            state[each] = COPIED
            break


@compiled()
def count_values(pixels, starts, size, lowest, counts):  # type: ignore[no-untyped-def]
    """Add to ``counts`` (value - lowest,) how often each value occurs in patches of 8- or 16-bit pixels.

    Args: pixels: (n,); starts: (patch,) where each patch begins in them; size: pixels of a patch.
    """
    for start in starts:
        for value in pixels[start : start + size]:
            counts[np.int64(value) - lowest] += 1


@compiled()
def sum_values(pixels, starts, size, nodata, low, bins_per_unit, histogram, counts, sums):  # type: ignore[no-untyped-def]
    """Sums over each patch as float64, pixel after pixel; what is not finite or equals ``nodata`` is left out.

    Args:
        pixels, starts, size: as of ``count_values``.
        histogram: (bin,) added to; values beyond fall into the outer bins; none are counted if it is empty.
        counts: (patch,) written: pixels that were not left out.
        sums: (patch, 4) written: sum, sum of squares, smallest, largest.
    """
    top = np.float64(histogram.size - 1)
    for patch in range(starts.size):
        count, total, squares, smallest, largest = 0, 0.0, 0.0, np.inf, -np.inf
        for value in pixels[starts[patch] : starts[patch] + size]:
            wide = np.float64(value)
            if not abs(wide) < np.inf or wide == nodata:
                continue
            count += 1
            total += wide
            squares += wide * wide
            if wide < smallest:
                smallest = wide
            if wide > largest:
                largest = wide
            if top >= 0:
                place = (wide - low) * bins_per_unit
                if place < 0.0:
                    place = 0.0
                if place > top:
                    place = top
                histogram[np.int64(place)] += 1
        counts[patch] = count
        sums[patch] = total, squares, smallest, largest
