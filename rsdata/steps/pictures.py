"""Pixels turned into what people look at."""

from collections.abc import Mapping, Sequence

import numpy as np

from rsdata.sensors.sentinel2 import QUANTIFICATION

RGB = ("B04", "B03", "B02")
RGB_REFLECTANCE = 0.25  # reflectance shown as white
INFRARED = ("B08", "B04", "B03")
INFRARED_REFLECTANCE = 0.4  # plants reflect much infrared
S1_DB = (-22.0, -2.0)  # backscatter shown as black and as white
_RADAR_DB = {"VV": (-20.0, 0.0), "VH": (-26.0, -6.0), "ratio": (2.0, 16.0)}


def natural_colours(bands: Mapping[str, np.ndarray], offsets: Mapping[str, float]) -> np.ndarray:
    """Counts of red, green and blue as a picture, (y, x, 3) uint8.

    Args:
        bands: band to (y, x) counts.
        offsets: band to counts added before scaling.
    """
    return _composite(bands, offsets, RGB, RGB_REFLECTANCE)


def false_colours(bands: Mapping[str, np.ndarray], offsets: Mapping[str, float]) -> np.ndarray:
    """Counts of near infrared, red and green as red, green and blue, (y, x, 3) uint8; arguments as of ``natural_colours``."""
    return _composite(bands, offsets, INFRARED, INFRARED_REFLECTANCE)


def radar_colours(bands: Mapping[str, np.ndarray]) -> np.ndarray:
    """Backscatter VV and VH, dB, and their difference as red, green and blue, (y, x, 3) uint8."""
    parts = {"VV": bands["VV"], "VH": bands["VH"], "ratio": bands["VV"] - bands["VH"]}
    return np.stack([as_picture(parts[name], *limits) for name, limits in _RADAR_DB.items()], axis=-1)


def radar_greys(bands: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Backscatter of each polarisation, dB, as a grey picture (y, x) uint8."""
    return {name: as_picture(bands[name], *_RADAR_DB[name]) for name in ("VV", "VH")}


def _composite(bands: Mapping[str, np.ndarray], offsets: Mapping[str, float], names: Sequence[str], white: float) -> np.ndarray:
    return as_picture(np.stack([(bands[name].astype(np.float32) + offsets[name]) / QUANTIFICATION for name in names], axis=-1), 0.0, white)


def as_picture(pixels: np.ndarray, black: float, white: float) -> np.ndarray:
    """Stretch values to uint8; what is missing is black."""
    return (np.clip((np.nan_to_num(pixels, nan=black) - black) / (white - black), 0, 1) * 255).astype(np.uint8)


def halved(picture: np.ndarray) -> np.ndarray:
    """A picture (y, x, 3) uint8 at half its size, by means of two by two pixels; both sides are even."""
    height, width, channels = picture.shape
    return picture.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3)).round().astype(np.uint8)
