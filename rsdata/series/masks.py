"""Which pixels are valid: those that hold data and, if wanted, show the ground."""

import math

import numpy as np

from rsdata.sensors.sentinel2 import SCL_CLOUD, SCL_GSD_M, SCL_SHADOW


def scl_at(scl: np.ndarray, gsd_m: int) -> np.ndarray:
    """Look up the scene classification for pixels of another size, by the nearest centre.

    A pixel of 10 m takes the class of the 20 m pixel it lies in; one of 60 m that of the middle one of the nine it covers.

    Args:
        scl: (..., y, x) at 20 m, sides multiples of 3.
        gsd_m: 10, 20 or 60.

    Returns: (..., y, x) of the same dtype.
    """
    if gsd_m < SCL_GSD_M:
        return scl.repeat(SCL_GSD_M // gsd_m, axis=-2).repeat(SCL_GSD_M // gsd_m, axis=-1)
    step = gsd_m // SCL_GSD_M
    return scl[..., step // 2 :: step, step // 2 :: step]


def clouded_pixels(scl: np.ndarray) -> np.ndarray:
    """Where the scene classification says cloud (medium or high probability, thin cirrus) or cloud shadow, bool."""
    return np.isin(scl, (*SCL_CLOUD, *SCL_SHADOW))


def valid_pixels(pixels: np.ndarray, nodata: float) -> np.ndarray:
    """Where all bands hold data.

    Args:
        pixels: (time, band, y, x).
        nodata: value that marks missing data; NaN marks any that is not finite.

    Returns: (time, y, x) bool.
    """
    holds = np.isfinite(pixels) if math.isnan(nodata) else np.not_equal(pixels, nodata)
    return np.all(holds, axis=1)
