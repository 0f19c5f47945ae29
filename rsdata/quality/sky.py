"""Cloud, shadow and snow over each patch, from sen2cor's scene classification and its two probability layers."""

import numpy as np

from rsdata.grid import PatchGrid
from rsdata.recipe import Quality
from rsdata.sensors.sentinel2 import SCL_CLASSES, SCL_CLOUD, SCL_GSD_M, SCL_SHADOW, SCL_SNOW


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
    return {name: mean_per_patch(mask, grid, SCL_GSD_M) for name, mask in masks.items()}


def class_shares(scl: np.ndarray, grid: PatchGrid) -> dict[int, np.ndarray]:
    """Share of each class of the scene classification per patch: class to (n,) float64 in the grid's order.

    The shares of a patch sum to 1 unless the raster holds values that are no class.

    Args:
        scl: (y, x) uint8 at 20 m.
    """
    return {index: mean_per_patch(scl == index, grid, SCL_GSD_M) for index in SCL_CLASSES}


def mean_per_patch(pixels: np.ndarray, grid: PatchGrid, gsd_m: int) -> np.ndarray:
    """Mean of a raster (y, x) over each patch, (n,) float64 in the grid's order."""
    return grid.cut(pixels, gsd_m).mean(axis=(2, 3)).ravel()
