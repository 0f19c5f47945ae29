"""How much of a patch can be used, and whether it is kept.

Cloud, shadow and snow come from sen2cor's scene classification and its probability layers; a patch with any
missing pixel in any band is dropped. Each dropped patch has exactly one reason.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_gradient_magnitude
from skimage.registration import phase_cross_correlation

from rsdata.grid import PatchGrid
from rsdata.recipe import Quality
from rsdata.records import DROP_REASONS, DropReason
from rsdata.sensors.sentinel2 import SCL_CLOUD, SCL_GSD_M, SCL_SHADOW, SCL_SNOW


def missing_fraction(pixels: np.ndarray, nodata: float, grid: PatchGrid, gsd_m: int) -> np.ndarray:
    """Share of missing pixels per patch, (n,) float64 in the grid's order.

    Args:
        pixels: (y, x) of one band.
        nodata: stored value that marks a missing pixel, or NaN.
    """
    missing = np.isnan(pixels) if np.isnan(nodata) else pixels == nodata
    if not missing.any():
        return np.zeros(len(grid.rows) * len(grid.cols))
    return grid.cut(missing, gsd_m).mean(axis=(2, 3)).ravel()


def sky_fractions(
    scl: np.ndarray, cloud_probability: np.ndarray, snow_probability: np.ndarray, grid: PatchGrid, thresholds: Quality
) -> dict[str, np.ndarray]:
    """Cloud, shadow and snow shares per patch.

    A pixel is cloud if it is classified so (medium or high probability, cirrus) or its cloud probability reaches
    the threshold; snow likewise, unless it is cloud; shadow if it is classified as cloud shadow.

    Args:
        scl, cloud_probability, snow_probability: (y, x) uint8 at 20 m; probabilities in percent.

    Returns: ``cloud_fraction``, ``shadow_fraction``, ``snow_fraction``, each (n,) float64 in the grid's order.
    """
    cloud = np.isin(scl, SCL_CLOUD) | (cloud_probability >= thresholds.cloud_probability)
    snow = (np.isin(scl, SCL_SNOW) | (snow_probability >= thresholds.snow_probability)) & ~cloud
    shadow = np.isin(scl, SCL_SHADOW) & ~cloud
    masks = {"cloud_fraction": cloud, "shadow_fraction": shadow, "snow_fraction": snow}
    return {name: grid.cut(mask, SCL_GSD_M).mean(axis=(2, 3)).ravel() for name, mask in masks.items()}


def judge(
    patches: pd.DataFrame,
    *,
    thresholds: Quality,
    max_unlabeled_fraction: float,
    s1_missing_fraction: np.ndarray | None,
    require_s1: bool,
    product_refused: bool,
) -> pd.DataFrame:
    """Keep or drop each patch; the first reason of ``DROP_REASONS`` that applies is the one recorded.

    Args:
        patches: fractions per patch: no-data, unlabelled, cloud, shadow, snow.
        s1_missing_fraction: (n,) share of missing Sentinel-1 pixels, None if there is no Sentinel-1 scene.
        product_refused: whether the product failed one of its own quality inspections.

    Returns: ``contains_cloud_or_shadow``, ``contains_seasonal_snow``, ``kept``, ``drop_reason``.
    """
    never = np.zeros(len(patches), bool)
    clouded = (patches["cloud_fraction"] + patches["shadow_fraction"]).to_numpy()
    snow = patches["snow_fraction"].to_numpy()
    applies: Mapping[DropReason, np.ndarray] = {
        "product_quality": ~never if product_refused else never,
        "nodata": patches["nodata_fraction"].to_numpy() > 0,
        "unlabeled": patches["unlabeled_fraction"].to_numpy() >= max_unlabeled_fraction,
        "cloud_or_shadow": clouded > thresholds.max_cloud_or_shadow_fraction,
        "snow": snow > thresholds.max_snow_fraction,
        "no_s1": ~never if require_s1 and s1_missing_fraction is None else never,
        "s1_nodata": s1_missing_fraction > 0 if s1_missing_fraction is not None and require_s1 else never,
    }
    reason = np.full(len(patches), None, object)
    for name in reversed(DROP_REASONS):
        reason[applies[name]] = name
    return pd.DataFrame(
        {
            "contains_cloud_or_shadow": clouded > thresholds.contains_fraction,
            "contains_seasonal_snow": snow > thresholds.contains_fraction,
            "kept": pd.isna(reason),
            "drop_reason": reason,
        },
        index=patches.index,
    )


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
    for top, left in corners[:: max(1, len(corners) // _MAX_BLOCKS)]:
        block = (slice(top, top + _BLOCK_PX), slice(left, left + _BLOCK_PX))
        counts, decibel = optical[block], backscatter_db[block]
        if (counts == 0).mean() > _MAX_MISSING or np.isnan(decibel).mean() > _MAX_MISSING:
            continue
        reference = _edges(np.log(np.maximum(counts, 1).astype(np.float32))) * window
        moved = _edges(np.nan_to_num(decibel, nan=float(np.nanmedian(decibel)))) * window
        shift, _, _ = phase_cross_correlation(reference, moved, upsample_factor=10, normalization=None)
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
