"""The squares of a zoomable map, packed so that half a million patches make a page of a few megabytes.

A square travels as eight bytes: its place inside a block in 16-bit steps of 2 m, its group, its side and its turn.
The script ``templates/map.js`` draws them on a canvas.
"""

import base64
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rsdata.catalog.pages import embedded_json

MOST_SQUARES = 1_000_000  # of a map; more are merged
_RADIUS_M = 6_378_137.0  # of the sphere of Web Mercator
_BLOCK_M = 131_072
_STEP_M = 2
_TURN_STEP_DEG = 0.05
_MOST_SIDES = 255

Mark = dict[str, object]  # lon, lat, text


def pack_squares(where: pd.DataFrame, colors: Mapping[str, str], marks: Sequence[Mark] = ()) -> tuple[str, int]:
    """What the script draws, as JSON that may stand in a page, and how many patch sides a merged square spans (1: none are).

    Args:
        where: one row per square: ``lon``, ``lat`` of its centre; ``side_m``; ``turn_deg``, how far its upward side points
            east of north; ``split``, a key of ``colors``.
        colors: group to #rrggbb; those that come later are drawn above the others.
        marks: places to ring.
    """
    groups = list(colors)
    x_m, y_m = _mercator(where["lon"].to_numpy(float), where["lat"].to_numpy(float))
    code = where["split"].map({name: index for index, name in enumerate(groups)}).to_numpy(np.int64)
    side_m, turn_deg = where["side_m"].to_numpy(float), where["turn_deg"].to_numpy(float)
    merged = 1
    while len(x_m) > MOST_SQUARES:
        merged *= 2
        cell_m = float(np.median(where["side_m"])) * merged * 1.5  # ground metres grow with latitude
        cells = pd.DataFrame({"x": np.floor(x_m / cell_m), "y": np.floor(y_m / cell_m), "split": code})
        first = cells.drop_duplicates().index.to_numpy()
        x_m, y_m, code, turn_deg = x_m[first], y_m[first], code[first], turn_deg[first]
        side_m = side_m[first] * 2
    block_x, block_y = np.floor(x_m / _BLOCK_M).astype(np.int64), np.floor(y_m / _BLOCK_M).astype(np.int64)
    order = np.lexsort((x_m, y_m, code, block_x, block_y))
    block_x, block_y = block_x[order], block_y[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(block_x) != 0) | (np.diff(block_y) != 0)]) if len(order) else np.empty(0, np.int64)
    sides, side = _sides(side_m[order])
    content = {
        "block": _BLOCK_M,
        "step": _STEP_M,
        "turnStep": _TURN_STEP_DEG,
        "splits": [{"name": name, "color": color} for name, color in colors.items()],
        "sides": sides,
        "blocks": [[int(block_x[start]), int(block_y[start]), int(start)] for start in starts],
        "count": len(order),
        "x": _packed((x_m[order] - block_x * _BLOCK_M) / _STEP_M, "<u2"),
        "y": _packed((y_m[order] - block_y * _BLOCK_M) / _STEP_M, "<u2"),
        "split": _packed(code[order], "u1"),
        "side": _packed(side, "u1"),
        "turn": _packed(np.clip(turn_deg[order] / _TURN_STEP_DEG, -127, 127), "i1"),
        "marks": list(marks),
    }
    return embedded_json(content), merged


def _mercator(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _RADIUS_M * np.radians(lon), _RADIUS_M * np.arcsinh(np.tan(np.radians(np.clip(lat, -85, 85))))


def _sides(side_m: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Distinct sides and the number of each square's; where there are too many they are rounded to a few."""
    rounded = np.round(side_m, 1)
    if len(np.unique(rounded)) > _MOST_SIDES:
        levels = np.quantile(rounded, np.linspace(0, 1, _MOST_SIDES))
        rounded = levels[np.clip(np.searchsorted(levels, rounded), 0, _MOST_SIDES - 1)]
    distinct, number_of = np.unique(rounded, return_inverse=True)
    return [float(each) for each in distinct], number_of


def _packed(values: np.ndarray, dtype: str) -> str:
    limits = np.iinfo(dtype)
    return base64.b64encode(np.clip(np.round(values), limits.min, limits.max).astype(dtype).tobytes()).decode("ascii")
