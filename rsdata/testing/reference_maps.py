"""Reference maps made up: CORINE-like land cover of one patch, 120 x 120 pixels of 10 m, and rows of a table to go with them.

Each map follows from the seed and its number alone. Most are polygons with wavy borders, as CORINE has; on some lie
holes, thin strips, pixels that touch only by corners, specks, and ground without a class. Every fortieth is one of the
cases at which programs that read maps go wrong.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from rsdata.grid import PATCHES_PER_SIDE, Tile, corners
from rsdata.labels import Nomenclature, load_nomenclature
from rsdata.patches import season_of
from rsdata.records import SPLITS, PatchId, parse_start
from rsdata.sensors.reference_map import NO_POLYGON
from rsdata.testing.noise import generator
from rsdata.testing.patch_table import TILES_OF_COUNTRY

SIDE_PX = 120
NOMENCLATURE = "bigearthnet-19"  # whose codes and gaps are drawn
EDGE_EVERY = 40  # one map of so many is an edge case
_FIRST_DAY = "20170603T101031"
_CELLS = PATCHES_PER_SIDE**2


def reference_map(number: int, seed: int = 0) -> np.ndarray:
    """Map ``number`` of a seed, (120, 120) uint16 CORINE codes."""
    if number % EDGE_EVERY == EDGE_EVERY - 1:
        cases = list(edge_cases().values())
        return cases[number // EDGE_EVERY % len(cases)]
    rng = generator(seed, "reference map", number)
    codes = _ground(rng)
    for part, chance in _PARTS:
        if rng.random() < chance:
            part(codes, rng)
    return codes


def reference_maps(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """The first maps of a seed."""
    return (reference_map(number, seed) for number in range(count))


def map_row(number: int, seed: int = 0) -> dict[str, Any]:
    """The row of a patch table that goes with map ``number``: real tiles and grid, an invented scene, and country None now and then.

    Patch ids rise with the number.
    """
    rng = generator(seed, "row", number)
    scene, cell = divmod(number, _CELLS)
    countries = [(country, name) for country, names in TILES_OF_COUNTRY.items() for name in names]
    country, name = countries[scene % len(countries)]
    tile = Tile.from_name(name)
    col, row = divmod(cell, PATCHES_PER_SIDE)
    time = parse_start(_FIRST_DAY) + timedelta(days=37 * scene, minutes=13 * scene)
    patch = PatchId(f"S2A_MSIL2A_{time:%Y%m%dT%H%M%S}_N9999_R{1 + scene % 143:03d}_T{name}", col, row)
    ul_x_m, ul_y_m = corners(tile, np.array(col), np.array(row))
    return {
        "patch_id": str(patch),
        "epsg": tile.epsg,
        "ul_x_m": int(ul_x_m),
        "ul_y_m": int(ul_y_m),
        "datetime": time,
        "season": season_of(time),
        "country": country if rng.random() < 0.95 else None,
        "s1_product": _s1_product(time) if rng.random() < 0.9 else None,
        "split": SPLITS[int(rng.choice(len(SPLITS), p=(0.5, 0.25, 0.25)))],
    }


def edge_cases() -> dict[str, np.ndarray]:
    """Maps that hold one hard thing each, by what that is."""
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX]
    ring = np.maximum(abs(rows - 59.5), abs(cols - 59.5))
    linear = rows * SIDE_PX + cols
    arable, pasture, forest, water = 211, 231, 311, 512

    def of(where: np.ndarray, inside: int, outside: int) -> np.ndarray:
        return np.where(where, inside, outside).astype(np.uint16)

    return {
        "one class": of(rows >= 0, forest, 0),
        "no class": of(rows >= 0, NO_POLYGON, 0),
        "one class in several codes": of(cols < 40, 211, 212) + of(cols >= 80, 1, 0),
        "chessboard": of((rows + cols) % 2 == 0, arable, pasture),
        "chessboard without a class": of((rows + cols) % 2 == 0, arable, NO_POLYGON),
        "halves": of(cols < 60, forest, water),
        "quadrants": of((rows < 60) == (cols < 60), forest, water),
        "one pixel": of((rows == 17) & (cols == 101), water, forest),
        "corner pixels": of(np.isin(rows, (0, 119)) & np.isin(cols, (0, 119)), water, forest),
        "frame": of(ring >= 59, water, forest),
        "rings": of(ring // 10 % 2 == 0, water, forest),
        "spiral": of(_spiral(), water, forest),
        "stripes": of(rows % 2 == 0, arable, pasture),
        "diagonal line": of(rows == cols, water, forest),
        "other diagonal, without a class around": of(rows + cols == 119, water, NO_POLYGON),
        "comb": of((cols % 4 == 0) | (rows == 119), water, forest),
        "a quarter": of(linear < 3600, water, forest),
        "a pixel more than a quarter": of(linear < 3601, water, forest),
        "a twentieth": of(linear < 720, water, forest),
        "a pixel less than a twentieth": of(linear < 719, water, forest),
        "a tenth and a pixel": of(linear < 1441, water, forest),
        "centroid on the border of a field": of((cols >= 30) & (cols < 50) & (rows >= 70) & (rows < 90), water, forest),
        "nine pixels": of((rows < 3) & (cols < 3), water, forest),
        "ten pixels": of((rows < 2) & (cols < 5), water, forest),
        "equal shares": np.choose(rows // 30, [arable, pasture, forest, water]).astype(np.uint16),
        "code nobody knows": of(cols < 20, 65_535, forest),
    }


# --- the parts of a map -----------------------------------------------------------------------------------


def _ground(rng: np.random.Generator) -> np.ndarray:
    """Polygons around random points, or level sets of a smooth field, with 1 to 8 classes in one or two codes each."""
    codes = _draw_codes(rng)
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX].astype(float)
    if rng.random() < 0.7:
        bend = rng.uniform(0, 9)
        y, x = rows + bend * _smooth(rng, 18), cols + bend * _smooth(rng, 18)
        points = rng.uniform(-10, SIDE_PX + 10, (int(rng.integers(len(codes), 3 * len(codes) + 2)), 2))
        stretch = rng.uniform(0.4, 2.5)
        nearest = np.argmin([(y - at_y) ** 2 + stretch * (x - at_x) ** 2 for at_y, at_x in points], axis=0)
        drawn = np.concatenate([codes, rng.choice(codes, max(0, len(points) - len(codes)))])[: len(points)]
        return drawn[nearest].astype(np.uint16)
    field = _smooth(rng, rng.uniform(10, 45))
    levels = np.quantile(field, np.sort(rng.uniform(0, 1, len(codes) - 1)))
    return codes[np.digitize(field, levels)].astype(np.uint16)


def _hole(codes: np.ndarray, rng: np.random.Generator) -> None:
    """Discs and boxes of another class inside what is there."""
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX]
    for code in _draw_codes(rng, most=3):
        y, x, size = rng.integers(0, SIDE_PX), rng.integers(0, SIDE_PX), rng.integers(2, 22)
        disc = (rows - y) ** 2 + (cols - x) ** 2 < size**2
        codes[disc if rng.random() < 0.5 else (abs(rows - y) < size) & (abs(cols - x) < size / 2)] = code


def _strip(codes: np.ndarray, rng: np.random.Generator) -> None:
    """A river or road across the map, 1 to 4 pixels wide, at any angle, at times wavy."""
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX]
    angle, wave = rng.uniform(0, np.pi), rng.choice([0.0, 6.0])
    along = (rows - 60) * np.sin(angle) + (cols - 60) * np.cos(angle)
    across = (rows - 60) * np.cos(angle) - (cols - 60) * np.sin(angle) + wave * np.sin(along / 12) - rng.uniform(-40, 40)
    codes[abs(across) < rng.integers(1, 5) / 2] = rng.choice([122, 511, 512, 121, 112])


def _corner_touches(codes: np.ndarray, rng: np.random.Generator) -> None:
    """A chain of blocks that touch each other by corners only."""
    code, size = _draw_codes(rng, most=1)[0], int(rng.integers(1, 9))
    y, x, down = int(rng.integers(0, 90)), int(rng.integers(0, 90)), bool(rng.random() < 0.5)
    for step in range(int(rng.integers(2, 8))):
        top, left = (y + step * size if down else y - step * size), x + step * size
        if top >= 0:
            codes[top : top + size, left : left + size] = code


def _specks(codes: np.ndarray, rng: np.random.Generator) -> None:
    """Single pixels, below any size that counts."""
    places = rng.integers(0, SIDE_PX, (2, int(rng.integers(1, 30))))
    codes[tuple(places)] = _draw_codes(rng, most=1)[0]


def _without_class(codes: np.ndarray, rng: np.random.Generator) -> None:
    """Ground whose code means no class, or that no polygon covers."""
    none = _tables().unlabeled_codes
    codes[_smooth(rng, 25) > rng.uniform(0.5, 2.0)] = rng.choice(none)


_PARTS: tuple[tuple[Callable[[np.ndarray, np.random.Generator], None], float], ...] = (
    (_hole, 0.35),
    (_strip, 0.25),
    (_corner_touches, 0.15),
    (_specks, 0.15),
    (_without_class, 0.25),
)


def _draw_codes(rng: np.random.Generator, most: int = 8) -> np.ndarray:
    """Codes of 1 to ``most`` classes; some classes come in two codes."""
    classes = _tables().classes
    chosen = rng.choice(len(classes), int(rng.integers(1, most + 1)), replace=False)
    return np.concatenate([rng.permutation(classes[each].codes)[: 1 + (rng.random() < 0.2)] for each in chosen])


def _smooth(rng: np.random.Generator, grain_px: float) -> np.ndarray:
    """A smooth random field, (120, 120), mean 0 and variance about 1, with hills about ``grain_px`` wide."""
    size = int(SIDE_PX / grain_px) + 4
    at = np.mgrid[:SIDE_PX, :SIDE_PX] / grain_px + 1
    return map_coordinates(rng.standard_normal((size, size)), at, order=3, prefilter=False, mode="grid-wrap") * (315 / 151)


def _spiral() -> np.ndarray:
    """One path of single pixels that winds inward, two pixels apart."""
    path = np.zeros((SIDE_PX, SIDE_PX), bool)
    y, x, dy, dx = 0, 0, 0, 1
    path[0, 0] = True
    turns = 0
    while turns < 2:
        ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
        inside = 0 <= ahead[0] < SIDE_PX and 0 <= ahead[1] < SIDE_PX
        clear = not (0 <= beyond[0] < SIDE_PX and 0 <= beyond[1] < SIDE_PX) or not path[beyond]
        if inside and clear and not path[ahead]:
            y, x = ahead
            path[y, x] = True
            turns = 0
        else:
            dy, dx = dx, -dy
            turns += 1
    return path


@cache
def _tables() -> Nomenclature:
    return load_nomenclature(NOMENCLATURE)


def _s1_product(time: datetime) -> str:
    start = time - timedelta(hours=5)
    return f"S1A_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_{start + timedelta(seconds=25):%Y%m%dT%H%M%S}_017014_01C595_B2A5"
