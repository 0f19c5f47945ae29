"""Colours that people with any common kind of colour vision tell apart.

Splits have those of Okabe and Ito. Classes have a set of twenty that was searched for: the smallest distance between
any two (CIE 1976) is 21, and stays so where red, green or blue receptors are missing, as simulated by Machado, Oliveira
and Fernandes (2009). Beyond twenty classes colours repeat, so a class always shows its number as well.
"""

import colorsys
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from rsdata.catalog.pages import safe_color
from rsdata.records import LabelClass

# Okabe and Ito, "Color Universal Design".
SPLIT_COLORS = {"train": "#0072b2", "validation": "#e69f00", "test": "#009e73"}
_MORE_COLORS = ("#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
GREY, DARK_GREY = "#c4cad1", "#5c6670"

# In such an order that the first of them lie farther apart than all of them.
CLASS_COLORS = (
    "#5aff87", "#4b0078", "#ff96ff", "#002dff", "#5a690f", "#ffe100", "#966969", "#96d2a5", "#ff1eff", "#a5a5b4",
    "#00b45a", "#781e69", "#f0960f", "#e1e1f0", "#4b2d0f", "#ff2d3c", "#2d00a5", "#784bb4", "#6987b4", "#2d2d2d",
)  # fmt: skip


def split_colors(splits: Sequence[str]) -> dict[str, str]:
    others = [name for name in splits if name not in SPLIT_COLORS]
    return {**SPLIT_COLORS, **{name: _MORE_COLORS[index % len(_MORE_COLORS)] for index, name in enumerate(others)}}


def class_colors(classes: Sequence[LabelClass]) -> dict[str, str]:
    """Each class's colour #rrggbb out of ``CLASS_COLORS``, as near to those of the label table as can be had for all together."""
    colors: dict[str, str] = {}
    for start in range(0, len(classes), len(CLASS_COLORS)):
        part = classes[start : start + len(CLASS_COLORS)]
        wanted = np.array([_likeness(safe_color(each.color)) for each in part])
        offered = np.array([_likeness(color) for color in CLASS_COLORS])
        away = ((wanted[:, None] - offered[None]) ** 2).sum(axis=2)
        rows, columns = linear_sum_assignment(away)
        colors |= {part[row].name: CLASS_COLORS[column] for row, column in zip(rows, columns, strict=True)}
    return colors


def map_colors(codes: Sequence[int], classes: Sequence[LabelClass], colors: Mapping[str, str]) -> dict[int, str]:
    """The colour of each reference-map code: its class's, or grey where it has none."""
    class_of = {code: each.name for each in classes for code in each.codes}
    return {code: colors[class_of[code]] if code in class_of else GREY for code in codes}


def _likeness(color: str) -> tuple[float, float, float]:
    """A place for a colour so that those of one hue lie near each other, pale ones a little nearer to all; lightness counts half."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in rgb(color)))
    weight = 0.35 + 0.65 * saturation if saturation > 0.03 else 0.0
    return weight * math.cos(2 * math.pi * hue), weight * math.sin(2 * math.pi * hue), 0.5 * value


def ink_on(color: str) -> str:
    """Black or white, whichever stands out more on a colour #rrggbb (WCAG 2.2, relative luminance)."""
    parts = [part / 255 for part in rgb(color)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def rgb(color: str) -> tuple[int, int, int]:
    """The parts of a colour #rrggbb, 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
