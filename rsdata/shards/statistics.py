"""Statistics of a band over many patches: exact, streamed, and independent of order.

Integer bands are summed as integers. Float bands are summed per patch and those sums added with correct
rounding, so neither the order of patches nor the number of workers changes a digit.
"""

import math
from fractions import Fraction

import numpy as np

from rsdata.records import BandStatistics
from rsdata.sensors import Band

# unit of the stored values: first edge, last edge, bins; values beyond fall into the outer bins
_HISTOGRAMS = {"counts": (0.0, 65536.0, 1024), "dB": (-60.0, 40.0, 1000)}


class BandAccumulator:
    """Gathers one band's statistics, patch by patch."""

    def __init__(self, band: Band) -> None:
        self.band = band
        self.low, self.high, bins = _HISTOGRAMS[band.unit]
        self.histogram = np.zeros(bins, np.int64)
        self.count = 0
        self.sums: list[float] = []
        self.squares: list[float] = []
        self.min = math.inf
        self.max = -math.inf

    def add(self, pixels: np.ndarray) -> None:
        """Take in one patch (y, x); missing pixels are left out."""
        nodata = self.band.nodata
        flat = pixels.ravel()
        if nodata is not None:
            missing = np.isnan(flat) if math.isnan(nodata) else flat == nodata
            if missing.any():
                flat = flat[~missing]
        if not flat.size:
            return
        wide = flat.astype(np.float64)  # sums of 16-bit squares over a patch stay below 2**53, so they are exact
        self.count += flat.size
        self.sums.append(float(wide.sum()))
        self.squares.append(float(np.dot(wide, wide)))
        self.min = min(self.min, float(flat.min()))
        self.max = max(self.max, float(flat.max()))
        bins = len(self.histogram)
        place = ((wide - self.low) * (bins / (self.high - self.low))).astype(np.int64)
        self.histogram += np.bincount(np.clip(place, 0, bins - 1), minlength=bins)

    def result(self) -> BandStatistics:
        edges = [self.low, self.high]
        if not self.count:
            return BandStatistics(
                count=0, mean=None, std=None, min=None, max=None, histogram=[int(n) for n in self.histogram], bin_edges=edges
            )
        total, squares = Fraction(math.fsum(self.sums)), Fraction(math.fsum(self.squares))
        mean = total / self.count
        variance = squares / self.count - mean * mean
        return BandStatistics(
            count=self.count,
            mean=float(mean),
            std=math.sqrt(max(0.0, float(variance))),
            min=self.min,
            max=self.max,
            histogram=[int(n) for n in self.histogram],
            bin_edges=edges,
        )
