"""Statistics of a band over many patches: exact, streamed, and independent of order.

Of 8- and 16-bit bands every value is counted, and all statistics follow from the counts. Other bands are summed per
patch and those sums added without rounding, so neither the order of patches nor the number of workers changes a digit.
"""

import ctypes
import math
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from rsdata.errors import ShardError
from rsdata.records import BandStatistics
from rsdata.shards.reading import Piece

# unit of stored floats: first edge, last edge, bins; values beyond fall into the outer bins
_FLOAT_HISTOGRAMS = {"dB": (-60.0, 40.0, 1000)}
_MOST_BINS = 1024
_TINY = 1074  # 2**-1074 is the smallest float64, so every float64 is a whole number of them


class Measured(Protocol):
    """What statistics depend on; a sensor's ``Band`` is one."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def nodata(self) -> float | None: ...


class BandAccumulator:
    """Gathers one band's statistics, patch by patch."""

    def __init__(self, band: Measured) -> None:
        self.band = band
        self.dtype = np.dtype(band.dtype)
        self._counted = self.dtype.kind in "iu" and self.dtype.itemsize <= 2
        if self._counted:
            limits = np.iinfo(self.dtype)
            self._lowest = int(limits.min)
            self._counts = np.zeros(int(limits.max) - self._lowest + 1, np.int64)
            self.edges, self.bins = [float(limits.min), float(limits.max) + 1], min(len(self._counts), _MOST_BINS)
        else:
            low, high, self.bins = _FLOAT_HISTOGRAMS.get(band.unit, (0.0, 0.0, 0))
            self.edges = [low, high] if self.bins else []
            self._histogram = np.zeros(self.bins, np.int64)
            self._count = self._total = self._squares = 0  # sums in units of 2**-1074
            self._min, self._max = math.inf, -math.inf

    def add(self, pixels: np.ndarray) -> None:
        """Take in one patch (y, x); no-data, NaN and infinite values are left out.

        Raises: ShardError if the patch is not of the band's dtype.
        """
        if pixels.dtype != self.dtype:
            raise ShardError(f"a patch of band {self.band.name} holds {pixels.dtype}, expected {self.dtype}", band=self.band.name)
        self.add_many(np.ascontiguousarray(pixels).ravel(), np.zeros(1, np.int64), pixels.size)

    def add_many(self, pixels: np.ndarray, starts: np.ndarray, size: int) -> None:
        """Take in patches that lie apart in one array.

        Args: pixels: (n,) of the band's dtype; starts: (patch,) int64, where each begins; size: pixels of a patch.
        """
        from rsdata.shards import kernels  # loads its compiler, which takes a while

        if self._counted:
            kernels.count_values(pixels, starts, size, self._lowest, self._counts)
            return
        nodata = math.nan if self.band.nodata is None else float(self.band.nodata)
        first, per_unit = (self.edges[0], self.bins / (self.edges[1] - self.edges[0])) if self.bins else (0.0, 0.0)
        counts, sums = np.empty(len(starts), np.int64), np.empty((len(starts), 4))
        kernels.sum_values(pixels, starts, size, nodata, first, per_unit, self._histogram, counts, sums)
        self._count += int(counts.sum())
        self._total += sum(map(_whole, sums[:, 0].tolist()))
        self._squares += sum(map(_whole, sums[:, 1].tolist()))
        self._min, self._max = min(self._min, float(sums[:, 2].min())), max(self._max, float(sums[:, 3].max()))

    def add_piece(self, piece: Piece, band: str) -> None:
        """Take in a band of all entries of a piece, where they lie in memory.

        Raises: ShardError if they lack the band or hold another dtype.
        """
        plane = piece.layout.planes.get(band)
        if plane is None or plane.dtype != self.dtype.name:
            found = "nothing" if plane is None else plane.dtype
            raise ShardError(f"a patch holds {found} as band {band}, expected {self.dtype}", band=band)
        starts = piece.addresses + plane.offset
        if (starts % self.dtype.itemsize).any():  # compiled code wants numbers where the processor does
            for entry in range(len(starts)):
                self.add(piece.plane(entry, band).copy())
            return
        first, size = int(starts.min()), math.prod(plane.shape_yx)
        reach = int(starts.max()) - first + size * self.dtype.itemsize
        memory = np.frombuffer(memoryview((ctypes.c_uint8 * reach).from_address(first)), self.dtype)  # only entries are looked at
        self.add_many(memory, (starts - first) // self.dtype.itemsize, size)

    def state(self) -> tuple[Any, ...]:
        """What was gathered so far, small enough to send to another process."""
        if self._counted:
            places = np.flatnonzero(self._counts)
            return places, self._counts[places]
        return self._histogram, self._count, self._total, self._squares, self._min, self._max

    def merge(self, state: tuple[Any, ...]) -> None:
        """Take in what another accumulator of the same band gathered."""
        if self._counted:
            places, counts = state
            self._counts[places] += counts
            return
        histogram, count, total, squares, smallest, largest = state
        self._histogram += histogram
        self._count, self._total, self._squares = self._count + count, self._total + total, self._squares + squares
        self._min, self._max = min(self._min, smallest), max(self._max, largest)

    def result(self) -> BandStatistics:
        return self._of_counts() if self._counted else self._of_sums()

    def _of_counts(self) -> BandStatistics:
        counts = self._counts.copy()
        nodata = self.band.nodata
        if nodata is not None and float(nodata).is_integer() and self.edges[0] <= nodata < self.edges[1]:
            counts[int(nodata) - self._lowest] = 0
        values = np.arange(len(counts)) + self._lowest
        there = np.flatnonzero(counts)
        return self._statistics(
            int(counts.sum()),
            Fraction(_exact_dot(counts, values)),
            Fraction(_exact_dot(counts, values * values)),
            [float(values[place]) for place in there[[0, -1]]] if len(there) else [],
            counts.reshape(self.bins, -1).sum(axis=1),
        )

    def _of_sums(self) -> BandStatistics:
        unit = Fraction(1, 2**_TINY)
        return self._statistics(self._count, self._total * unit, self._squares * unit, [self._min, self._max], self._histogram)

    def _statistics(self, count: int, total: Fraction, squares: Fraction, extremes: list[float], histogram: np.ndarray) -> BandStatistics:
        mean = total / count if count else None
        return BandStatistics(
            count=count,
            mean=None if mean is None else float(mean),
            std=None if mean is None else math.sqrt(max(0.0, float(squares / count - mean * mean))),
            min=extremes[0] if count else None,
            max=extremes[1] if count else None,
            histogram=[int(n) for n in histogram],
            bin_edges=self.edges,
        )


def _whole(value: float) -> int:
    """A finite float64 in units of 2**-1074, exactly."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_TINY - denominator.bit_length() + 1)


def _exact_dot(counts: np.ndarray, values: np.ndarray) -> int:
    """Sum of counts times values (n,) int64; values below 2**33 and at most 2**16 of them, so twelve bits at a time fit."""
    total = 0
    for shift in range(0, 63, 12):
        total += int(np.dot((counts >> shift) & 0xFFF, values)) << shift
    return total
