"""Facts of a patch worked out slowly, to hold the fast ones to: loops over pixels, scipy's labels and exact fractions.

Nothing here comes from ``rsdata.captions``, so an error would have to be made twice to go unseen.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from rasterio.warp import transform
from scipy import ndimage


def slow_facts(row: Mapping[str, Any], codes: np.ndarray, class_of_code: Mapping[int, str], min_region_pixels: int) -> dict[str, Any]:
    """All fields of the facts but the climate, as plain values.

    Args:
        row: of the patch table.
        codes: (y, x) uint16.
        class_of_code: code to class name; codes without a class are absent.
    """
    names = [[class_of_code.get(int(code)) for code in line] for line in codes]
    height, width = codes.shape
    counts = Counter(name for line in names for name in line if name is not None)
    total = height * width
    all_regions = list(_regions(names, sorted(counts)))
    tile, col, line_number = row["patch_id"].split("_")[-3:]
    product = row["s1_product"]
    (longitude,), (latitude,) = transform(f"EPSG:{row['epsg']}", "EPSG:4326", [row["ul_x_m"] + 600], [row["ul_y_m"] - 600])
    return {
        "patch_id": row["patch_id"],
        "s1_name": None if product is None else f"{product[:32]}_{tile[1:]}_{int(col)}_{int(line_number)}",
        "split": row["split"],
        "classes": [
            {
                "name": name,
                "share": count / total,
                "area_m2": 100.0 * count,
                "decile": next(decile for decile in range(1, 11) if Fraction(count, total) <= Fraction(decile, 10)),
                "dominance": "primary" if count / total > 0.25 else "marginal" if count / total < 0.05 else "secondary",
                "regions": sum(region["name"] == name for region in all_regions),
            }
            for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        ],
        "unlabeled_fraction": 1 - sum(counts.values()) / total,
        "regions": sorted((each for each in all_regions if each["pixels"] >= min_region_pixels), key=_region_order),
        "adjacent": _adjacent(names),
        "diversity": -sum(count / counts.total() * math.log(count / counts.total()) for count in counts.values()),
        "season": row["season"],
        "datetime": row["datetime"],
        "country": row["country"],
        "longitude": longitude,
        "latitude": latitude,
        "sensors": ["s2"] if product is None else ["s2", "s1"],
    }


def differences(said: Any, expected: Any, place: str = "") -> list[str]:
    """One sentence for each value that differs; numbers may differ by a millionth, as some are rounded to six decimals."""
    if isinstance(expected, dict):
        missing = [f"{place}: no {key}" for key in expected if key not in said]
        return missing + [each for key in expected if key in said for each in differences(said[key], expected[key], f"{place}.{key}")]
    if isinstance(expected, list):
        if len(said) != len(expected):
            return [f"{place} has {len(said)} items, expected {len(expected)}"]
        return [
            each for i, (one, other) in enumerate(zip(said, expected, strict=True)) for each in differences(one, other, f"{place}[{i}]")
        ]
    if isinstance(expected, float):
        return [] if abs(said - expected) <= 1e-6 else [f"{place} is {said}, expected {expected}"]
    return [] if said == expected else [f"{place} is {said!r}, expected {expected!r}"]


def _regions(names: list[list[str | None]], present: list[str]) -> Iterator[dict[str, Any]]:
    grid = np.array(names, dtype=object)
    height, width = grid.shape
    for name in present:
        labels, count = ndimage.label(grid == name, structure=np.ones((3, 3)))
        for label in range(1, count + 1):
            places = np.argwhere(labels == label)  # in reading order
            pixels = len(places)
            (y0, x0), (y1, x1) = places.min(axis=0), places.max(axis=0) + 1
            mean_y, mean_x = (Fraction(int(places[:, axis].sum()), pixels) + Fraction(1, 2) for axis in (0, 1))
            away = np.hypot(places[:, 0] + 0.5 - float(mean_y), places[:, 1] + 0.5 - float(mean_x))
            inside = places[np.flatnonzero(away <= away.min() + 1e-9)[0]]
            yield {
                "name": name,
                "pixels": pixels,
                "area_m2": 100.0 * pixels,
                "centroid_x": float(mean_x),
                "centroid_y": float(mean_y),
                "box": {"x0": int(x0), "y0": int(y0), "x1": int(x1), "y1": int(y1), "raster": "reference_map"},
                "inside": {"x": int(inside[1]), "y": int(inside[0]), "raster": "reference_map"},
                "extent_ratio": float(Fraction(pixels, int((x1 - x0) * (y1 - y0)))),
                "position": _position(mean_y / height, mean_x / width),
            }


def _position(down: Fraction, across: Fraction) -> str:
    rows = "north" if down < Fraction(1, 3) else "south" if down > Fraction(2, 3) else ""
    cols = "west" if across < Fraction(1, 3) else "east" if across > Fraction(2, 3) else ""
    return f"{rows}-{cols}".strip("-") or "centre"


def _region_order(region: Mapping[str, Any]) -> tuple[Any, ...]:
    box = region["box"]
    return -region["pixels"], box["x0"], box["y0"], box["x1"], box["y1"], region["name"]


def _adjacent(names: list[list[str | None]]) -> list[dict[str, Any]]:
    sides: defaultdict[tuple[str, str], int] = defaultdict(int)
    for y, line in enumerate(names):
        for x, name in enumerate(line):
            for other in (line[x + 1] if x + 1 < len(line) else None, names[y + 1][x] if y + 1 < len(names) else None):
                if name is not None and other is not None and name != other:
                    first, second = sorted((name, other))
                    sides[first, second] += 1
    ordered = sorted(sides.items(), key=lambda item: (-item[1], item[0]))
    return [{"first": first, "second": second, "border_m": 10.0 * count} for (first, second), count in ordered]
