"""Pages of a mapped file asked for before they are needed, so that the disk works on a whole batch at once.

Left to page faults, a shuffled batch waits for its entries one after the other. Where the system knows no such request,
nothing is asked for, and reading is only slower.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterable

import numpy as np

_WILL_NEED = 3  # MADV_WILLNEED
_madvise = ctypes.CDLL(None, use_errno=True).madvise if sys.platform == "linux" else None
if _madvise is not None:
    _madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def major_faults() -> int:
    """How often this thread had to wait for the disk so far; 0 where that is not counted."""
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


def prefetch(values: Iterable[memoryview]) -> None:
    """Ask for the pages of mapped memory; returns at once. A request that the system refuses costs time only."""
    if _madvise is None:
        return
    for value in values:
        if len(value):
            address = np.frombuffer(value, np.uint8).__array_interface__["data"][0]
            first = address // mmap.PAGESIZE * mmap.PAGESIZE
            _madvise(first, address + len(value) - first, _WILL_NEED)
