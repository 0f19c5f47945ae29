"""Whether the two sensors agree on where things are: a check, never a correction."""

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude
from skimage.registration import phase_cross_correlation
from threadpoolctl import threadpool_limits

RELIABLE_SPREAD_PX = 1.0  # blocks that disagree by more than this say little about the shift
_BLOCK_PX = 256
_MAX_BLOCKS = 64
_MAX_MISSING = 0.01  # share of a block
_SHARPEST = 5.0  # edges above this many times the median count alike, so that one bright roof does not decide


def register(optical: np.ndarray, backscatter_db: np.ndarray) -> tuple[float, float, float, int] | None:
    """How far backscatter lies off the optical image, by correlating edges block by block.

    The two sensors see different things but share field borders, roads and shores, so gradient magnitudes are
    correlated instead of values. Blocks with more than 1 % missing pixels are left out.

    Args:
        optical: (y, x) uint16 counts of one 10 m band, 0 missing.
        backscatter_db: (y, x) float32 dB on the same grid, NaN missing.

    Returns: shift of the backscatter southward and eastward in pixels (medians over blocks), the median absolute
        deviation of the two together, and the number of blocks; None if no block is whole.
    Source: cross-correlation with an upsampled matrix Fourier transform, Guizar-Sicairos et al., 2008.
    """
    tops = range(0, optical.shape[0] - _BLOCK_PX + 1, _BLOCK_PX)
    lefts = range(0, optical.shape[1] - _BLOCK_PX + 1, _BLOCK_PX)
    corners = [(top, left) for top in tops for left in lefts]
    window = np.outer(np.hanning(_BLOCK_PX), np.hanning(_BLOCK_PX))
    shifts = []
    with threadpool_limits(1, "blas"):  # whose threads wait for each other over so small products, a quarter of the time here
        for top, left in corners[:: max(1, len(corners) // _MAX_BLOCKS)]:
            block = (slice(top, top + _BLOCK_PX), slice(left, left + _BLOCK_PX))
            counts, decibel = optical[block], backscatter_db[block]
            if (counts == 0).mean() > _MAX_MISSING or np.isnan(decibel).mean() > _MAX_MISSING:
                continue
            reference = _edges(np.log(np.maximum(counts, 1).astype(np.float32))) * window
            moved = _edges(np.nan_to_num(decibel, nan=float(np.nanmedian(decibel)))) * window
            shift, _, _ = phase_cross_correlation(reference, moved, upsample_factor=20, normalization=None)
            shifts.append(-shift)
    if not shifts:
        return None
    south, east = np.median(shifts, axis=0)
    spread = float(np.median(np.abs(np.array(shifts) - (south, east))))
    return round(float(south), 2) + 0.0, round(float(east), 2) + 0.0, round(spread, 2), len(shifts)


def _edges(pixels: np.ndarray) -> np.ndarray:
    """Gradient magnitude in units of its median, (y, x), zero mean."""
    slope = gaussian_gradient_magnitude(pixels, 2.0)
    slope = np.minimum(slope / max(float(np.median(slope)), 1e-6), _SHARPEST)
    return slope - slope.mean()
