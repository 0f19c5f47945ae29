"""Pixels turned into what people look at."""

from collections.abc import Mapping

import numpy as np

from rsdata.sensors.sentinel2 import QUANTIFICATION

RGB = ("B04", "B03", "B02")
RGB_REFLECTANCE = 0.25  # reflectance shown as white
S1_DB = (-22.0, -2.0)  # backscatter shown as black and as white


def natural_colours(bands: Mapping[str, np.ndarray], offsets: Mapping[str, float]) -> np.ndarray:
    """Counts of red, green and blue as a picture, (y, x, 3) uint8.

    Args:
        bands: band to (y, x) counts.
        offsets: band to counts added before scaling.
    """
    rgb = np.stack([(bands[name].astype(np.float32) + offsets[name]) / QUANTIFICATION for name in RGB], axis=-1)
    return as_picture(rgb, 0.0, RGB_REFLECTANCE)


def as_picture(pixels: np.ndarray, black: float, white: float) -> np.ndarray:
    """Stretch values to uint8; what is missing is black."""
    return (np.clip((np.nan_to_num(pixels, nan=black) - black) / (white - black), 0, 1) * 255).astype(np.uint8)


def halved(picture: np.ndarray) -> np.ndarray:
    """A picture (y, x, 3) uint8 at half its size, by means of two by two pixels; both sides are even."""
    height, width, channels = picture.shape
    return picture.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3)).round().astype(np.uint8)
