"""Pictures as text that lives inside a page."""

import base64
import io
import math
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from rsdata.catalog.colors import ink_on, rgb

_MOST_CODES = 254  # of a palette of 256, beside black and white; a map with more has neither edges nor numbers
_MAX_IMAGE_PX = 240  # side of a picture; a larger one is thinned


def jpeg(pixels: np.ndarray) -> str:
    """A small picture, (y, x) grey or (y, x, 3) RGB, uint8, as a data URI of few bytes; for looking, not for measuring."""
    return data_uri(Image.fromarray(np.ascontiguousarray(pixels)), "JPEG", quality=85)


def code_png(codes: np.ndarray, colors: Mapping[int, str]) -> str:
    """A map of codes (y, x) as a data URI, a small one at twice its size.

    Each code has its colour #rrggbb, edges in black, and its number where that fits.
    Edges and numbers let areas be told apart and named without seeing their colours.
    """
    present, index = np.unique(codes, return_inverse=True)
    if len(present) > _MOST_CODES:
        return data_uri(Image.fromarray(np.array([rgb(colors[int(code)]) for code in present], np.uint8)[index.reshape(codes.shape)]))
    times = 2 if max(codes.shape) * 2 <= _MAX_IMAGE_PX else 1
    large = index.reshape(codes.shape).repeat(times, axis=0).repeat(times, axis=1).astype(np.uint8)
    edge = np.zeros(large.shape, bool)
    edge[:, 1:] |= large[:, 1:] != large[:, :-1]
    edge[1:] |= large[1:] != large[:-1]
    image = Image.fromarray(np.where(edge, len(present), large).astype(np.uint8))
    image.putpalette([part for code in present for part in rgb(colors[int(code)])] + [0, 0, 0, 255, 255, 255])
    brush = ImageDraw.Draw(image)
    for position, code in enumerate(present):
        away = distance_transform_edt(np.pad(~edge & (large == position), 1))[1:-1, 1:-1]
        y, x = np.unravel_index(away.argmax(), away.shape)
        left, top, right, bottom = brush.textbbox((0, 0), str(code))
        if away[y, x] >= math.hypot(right - left, bottom - top) / 2:
            fill = len(present) if ink_on(colors[int(code)]) == "#000000" else len(present) + 1
            brush.text((float(x) - (left + right) / 2, float(y) - (top + bottom) / 2), str(code), fill=fill)
    return data_uri(image)


def thinned(pixels: np.ndarray) -> np.ndarray:
    """A picture without so many of its pixels that neither side is longer than 240."""
    step = max(1, math.ceil(max(pixels.shape[:2]) / _MAX_IMAGE_PX))
    return pixels[::step, ::step]


def data_uri(image: Image.Image, kind: str = "PNG", **options: int) -> str:
    """An image as text that may stand in a page."""
    stream = io.BytesIO()
    image.save(stream, kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(stream.getvalue()).decode("ascii")
