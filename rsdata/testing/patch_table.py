"""A patch table in the shape of reBEN, made up: real tiles and grids, invented scenes and labels, no pixels.

Labels are smooth random fields over the ground (EPSG:3035), so neighbours are alike, overlapping tiles agree
whatever their UTM zone, and all dates of a place show the same classes, as they do where labels come from a map.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyproj
from scipy.ndimage import map_coordinates

from rsdata.grid import PATCH_SIDE_M, PATCHES_PER_SIDE, Tile, corners
from rsdata.labels import load_nomenclature
from rsdata.patches import season_of
from rsdata.testing.noise import generator

REBEN_PATCHES = 549_488
# 54 tiles of 7 UTM zones: neighbours overlap, also across zone borders, and regions lie far apart.
TILES_OF_COUNTRY = {
    "Portugal": ("29SMC", "29SMD", "29SNB", "29SNC", "29SND", "29SPC", "29TNE", "29TNF", "29TNG", "29TPE"),
    "Ireland": ("29UMU", "29UNU", "29UNV", "29UPU", "29UPV", "30UUE"),
    "Belgium": ("31UDS", "31UES", "31UFS"),
    "Luxembourg": ("31UGR", "32ULA"),
    "Switzerland": ("32TLT", "32TMT", "32TMS", "32TNS"),
    "Austria": ("33TVN", "33TWN", "33TXN", "33UUP", "33UVP", "33UWP", "33UXP", "33UYP"),
    "Serbia": ("34TCR", "34TCQ", "34TDQ", "34TDR", "34TEQ", "34TDP"),
    "Kosovo": ("34TDN", "34TEN"),
    "Lithuania": ("34UEF", "34UFF", "34UEG", "34UFG", "35ULA", "35ULB"),
    "Finland": ("34VEM", "34VEN", "34VFN", "35VLG", "35VLH", "35VML", "35VLJ"),
}
REBEN_TILES = tuple(tile for tiles in TILES_OF_COUNTRY.values() for tile in tiles)

# Share of patches meant to show each class, in the order of the nomenclature's indices, shuffled so that rare ones are
# not neighbours; patches left without a class get the common one they are nearest to.
_SHARES = (
    0.10, 0.020, 0.17, 0.010, 0.12, 0.14, 0.11, 0.030, 0.14, 0.16, 0.15, 0.012, 0.004, 0.13, 0.0020, 0.006, 0.0010, 0.08, 0.07,
)  # fmt: skip
_COMMON = 0.06  # from this share on
_GRAINS_M = (160_000, 30_000, 6_000)  # of the smooth fields: landscapes, districts, parishes
_AREA_M = (2_000_000, 1_000_000, 7_500_000, 6_000_000)  # EPSG:3035: west, south, east, north; Europe
_DATES_OF_TILE = (2, 1, 3, 2, 4, 1, 2, 2, 3, 1)  # by turns
_FIRST_DAY = datetime(2017, 6, 3, 10, 10, 31, tzinfo=UTC)
_YEAR_DAYS = 362


def patch_table(patches: int = REBEN_PATCHES, tiles: Sequence[str] = REBEN_TILES, seed: int = 0) -> pd.DataFrame:
    """Make up a patch table of exactly so many rows.

    A tile has 1 to 4 dates within a year. Which cells a scene keeps follows from a smooth field on the ground,
    as borders and coasts cut the published tiles, and for each scene from another one, as clouds do.

    Args:
        patches: number of rows.
        tiles: MGRS names; those of ``REBEN_TILES`` know their country, others are given one by their zone.
        seed: another seed, another table.

    Returns: ``patch_id``, ``labels`` (sorted lists of the 19 BigEarthNet names, at least one), ``country``,
        ``season``, ``datetime`` (UTC); ordered by scene, then row, then column.
    Raises: ValueError if the tiles' scenes have fewer cells than ``patches``.
    """
    scenes = _scenes(tiles, seed)
    cells = PATCHES_PER_SIDE**2
    if patches > len(scenes) * cells:
        raise ValueError(f"{len(scenes)} scenes have {len(scenes) * cells} cells, fewer than {patches}; name more tiles")
    row, col = (each.ravel() for each in np.divmod(np.arange(cells), PATCHES_PER_SIDE))
    x_m, y_m = (np.empty((len(tiles), cells)) for _ in range(2))
    for index, name in enumerate(tiles):
        tile = Tile.from_name(name)
        ul_x_m, ul_y_m = corners(tile, col, row)
        to_laea = pyproj.Transformer.from_crs(tile.epsg, 3035, always_xy=True)
        x_m[index], y_m[index] = to_laea.transform(ul_x_m + PATCH_SIDE_M / 2, ul_y_m - PATCH_SIDE_M / 2)

    tile_of_scene = np.array([index for index, _ in scenes])
    land = _smooth(x_m, y_m, 60_000, seed, "land") + 0.3 * _smooth(x_m, y_m, 8_000, seed, "coast")
    land -= 0.6 * np.median(land, axis=1, keepdims=True)  # so that no tile is left out
    wanted = np.empty((len(scenes), cells))
    for number, (index, _) in enumerate(scenes):
        clouds = 0.35 * _smooth(x_m[index], y_m[index], 15_000, seed, "clouds", number)
        wanted[number] = land[index] + clouds + 0.1 * generator(seed, "loss", number).standard_normal(cells)
    kept = np.zeros(wanted.size, bool)
    kept[np.argpartition(-wanted.ravel(), patches - 1)[:patches]] = True
    scene, cell = np.divmod(np.flatnonzero(kept), cells)

    place = tile_of_scene[scene] * cells + cell
    distinct, first = np.unique(place, return_inverse=True)
    lists = _labels(x_m.ravel()[distinct], y_m.ravel()[distinct], np.bincount(first), seed)
    names = [f"S2{'AB'[number % 2]}_MSIL2A_{time:%Y%m%dT%H%M%S}_N9999_R{1 + number % 143:03d}_T{tiles[index]}"
             for number, (index, time) in enumerate(scenes)]  # fmt: skip
    ending = [f"_{c:02d}_{r:02d}" for c, r in zip(col, row, strict=True)]
    return pd.DataFrame(
        {
            "patch_id": [names[s] + ending[c] for s, c in zip(scene.tolist(), cell.tolist(), strict=True)],
            "labels": lists[first],
            "country": np.array([_country(tiles[index]) for index, _ in scenes], object)[scene],
            "season": np.array([season_of(time) for _, time in scenes], object)[scene],
            "datetime": pd.to_datetime([time for _, time in scenes], utc=True)[scene],
        }
    )


def _scenes(tiles: Sequence[str], seed: int) -> list[tuple[int, datetime]]:
    """Each scene's tile, by its place in ``tiles``, and its time; tile by tile, early to late."""
    scenes = []
    for index, name in enumerate(tiles):
        dates = _DATES_OF_TILE[index % len(_DATES_OF_TILE)]
        days = np.sort(generator(seed, "dates", name).choice(_YEAR_DAYS, dates, replace=False))
        scenes += [(index, _FIRST_DAY + timedelta(days=int(day))) for day in days]
    return scenes


def _country(tile: str) -> str:
    known = next((country for country, tiles in TILES_OF_COUNTRY.items() if tile in tiles), None)
    return known or list(TILES_OF_COUNTRY)[int(tile[:2]) % len(TILES_OF_COUNTRY)]


def _labels(x_m: np.ndarray, y_m: np.ndarray, patches: np.ndarray, seed: int) -> np.ndarray:
    """Class names of each place, (n,) lists; ``patches`` weighs the places so that shares hold among patches."""
    names = [each.name for each in load_nomenclature("bigearthnet-19").classes]
    above = np.empty((len(x_m), len(names)), np.float32)  # how far each class's field rises above its threshold
    for index, (name, share) in enumerate(zip(names, _SHARES, strict=True)):
        field = 0.3 * generator(seed, name).standard_normal(len(x_m))
        for grain_m in _GRAINS_M:
            field += _smooth(x_m, y_m, grain_m, seed, name, grain_m)
        order = np.argsort(-field)
        reached = np.searchsorted(np.cumsum(patches[order]), share * patches.sum())
        above[:, index] = field - field[order[min(reached, len(order) - 1)]]
    shown = above > 0
    common = np.flatnonzero(np.array(_SHARES) >= _COMMON)
    bare = np.flatnonzero(~shown.any(axis=1))
    shown[bare, common[above[bare][:, common].argmax(axis=1)]] = True
    order = np.argsort(names)
    codes = shown[:, order] @ (1 << np.arange(len(names), dtype=np.int64))
    distinct, which = np.unique(codes, return_inverse=True)
    lists = np.empty(len(distinct), object)
    for index, code in enumerate(distinct.tolist()):
        lists[index] = [names[each] for bit, each in enumerate(order) if code >> bit & 1]
    return lists[which]


def _smooth(x_m: np.ndarray, y_m: np.ndarray, grain_m: float, *key: object) -> np.ndarray:
    """A smooth random field at places of EPSG:3035, mean 0 and variance about 1, hills about ``grain_m`` wide."""
    west, south, east, north = _AREA_M
    shape = (int((north - south) / grain_m) + 4, int((east - west) / grain_m) + 4)
    lattice = generator(*key).standard_normal(shape)
    # Cubic B-splines lower the variance of unit-variance lattice values to (151/315)**2.
    at = np.stack([(y_m - south) / grain_m + 1, (x_m - west) / grain_m + 1])
    return map_coordinates(lattice, at, order=3, prefilter=False, mode="grid-wrap") * (315 / 151)
