"""How much a split leaks and how well it is balanced, from patch ids alone.

Distances are between footprints, not centres. Inside one UTM zone a footprint is a square along the axes, so
its distances follow exactly from the corners, in metres of the zone's grid. Footprints of different zones
are turned against each other; they are drawn on the plane that touches the ellipsoid between the two, which
is good to a metre up to 100 km and to one part in a thousand anywhere on Earth. Nearest patches are looked up
by straight lines through the Earth, where neither zones nor the 180th meridian nor the equator is a border.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyproj
import shapely
from scipy.spatial import cKDTree

from rsdata.errors import SplitError
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import SPLITS, SplitAudit, SplitPair
from rsdata.splits.positions import positions

_SOUTH_FALSE_NORTHING_M = 10_000_000
_EARTH_RADIUS_M = 6_371_000
# Centres of touching squares are at most a diagonal apart, and UTM shrinks distances to 0.9996 at most.
_TOUCHING_REACH_M = PATCH_SIDE_M * np.sqrt(2) / 0.9996 + 1
# Footprints of two zones never meet edge to edge; within half a metre they count as touching.
_ACROSS_ZONES_TOLERANCE_M = 0.5


@dataclass(frozen=True)
class _Places:
    """Distinct grid cells; a cell seen on several dates is one place."""

    zone: np.ndarray  # (n,) 1 to 60
    x_m: np.ndarray  # (n,) upper-left corner in the zone's grid
    y_m: np.ndarray  # (n,) the same, counted from the equator in both hemispheres
    centre_xyz_m: np.ndarray  # (n, 3) geocentric

    @classmethod
    def of(cls, where: pd.DataFrame) -> "_Places":
        epsg, x_m, y_m = (where[name].to_numpy() for name in ("epsg", "ul_x_m", "ul_y_m"))
        zone = epsg % 100
        y_m = y_m - np.where(epsg // 100 == 327, _SOUTH_FALSE_NORTHING_M, 0)
        return cls(zone, x_m, y_m, _geocentric(zone, x_m + PATCH_SIDE_M / 2, y_m - PATCH_SIDE_M / 2))


def audit(table: pd.DataFrame, classes: Sequence[str] | None = None) -> SplitAudit:
    """Measure leakage between the splits of a patch table, and how evenly they share the classes.

    For each pair of splits: ``min_gap_m`` is the smallest distance between a footprint of one and a footprint
    of the other; a patch counts as ``touching`` if its footprint shares an edge, a corner or any area with one
    of the other split (so the eight neighbours on its grid, the same cell on another date, and patches of an
    overlapping tile); ``shared_places`` are the distinct grid cells whose ground lies in both splits, wholly
    (the same cell, counted once) or in part (cells of overlapping tiles, each counted).

    Args:
        table: one row per patch with ``patch_id`` and ``split``, and ``labels`` (lists of class names) if shares
            are wanted. Rows without a split are left out.
        classes: the class names to compare; every name that occurs if absent.

    Returns: the audit. Splits are train, validation and test, empty ones too, or whatever other names the
        column holds. ``largest_ratio`` is the largest share of a class in one split over its smallest in another;
        it is None if ``largest_ratio_class`` is missing from a split altogether, and both are None without labels.
    Raises: SplitError if a column is missing; CatalogError or GridError if an id does not name a patch.
    """
    missing = [name for name in ("patch_id", "split") if name not in table]
    if missing:
        raise SplitError(f"the table has no column `{'`, `'.join(missing)}`; an audit needs `patch_id` and `split`", missing=missing)
    table = table[table["split"].notna().to_numpy()]
    split = table["split"].to_numpy(object)
    found = set(split)
    names = list(SPLITS) if found <= set(SPLITS) else sorted(found, key=lambda name: (name not in SPLITS, str(name)))

    where = positions(table["patch_id"])
    place = where.groupby(["epsg", "ul_x_m", "ul_y_m"], sort=False).ngroup().to_numpy()
    places = _Places.of(where.iloc[np.unique(place, return_index=True)[1]])
    patches = {name: np.bincount(place[split == name], minlength=len(places.zone)) for name in names}  # patches per place

    shares = _class_shares(table, split, names, classes) if "labels" in table else {}
    ratio, ratio_class = _largest_ratio(shares)
    return SplitAudit(
        counts={name: int(patches[name].sum()) for name in names},
        pairs=[_pair(places, a, b, patches[a], patches[b]) for a, b in itertools.combinations(names, 2)],
        class_shares=shares,
        largest_ratio=ratio,
        largest_ratio_class=ratio_class,
    )


# --- leakage ----------------------------------------------------------------------------------------------


def _pair(places: _Places, a: str, b: str, patches_a: np.ndarray, patches_b: np.ndarray) -> SplitPair:
    in_a, in_b = np.flatnonzero(patches_a), np.flatnonzero(patches_b)
    if not len(in_a) or not len(in_b):
        return SplitPair(a=a, b=b, min_gap_m=None, touching_a=0, touching_b=0, shared_places=0)
    tree_b = cKDTree(places.centre_xyz_m[in_b])
    nearest_m, _ = tree_b.query(places.centre_xyz_m[in_a])

    i, j = _within(places, in_a, in_b, tree_b, nearest_m, _TOUCHING_REACH_M)
    gap_m, overlap = _gaps(places, i, j)
    touch = gap_m == 0
    if touch.any():
        min_gap_m = 0.0
    else:
        # The nearest centres need not belong to the nearest squares: those reach between 600 m and 600*sqrt(2) m
        # from their centres. Grid metres differ from true ones by up to 0.15 %.
        reach_m = nearest_m.min() * 1.003 + PATCH_SIDE_M * (np.sqrt(2) - 1) * 1.01 + 1
        min_gap_m = float(_gaps(places, *_within(places, in_a, in_b, tree_b, nearest_m, reach_m))[0].min())
    return SplitPair(
        a=a,
        b=b,
        min_gap_m=min_gap_m,
        touching_a=int(patches_a[np.unique(i[touch])].sum()),
        touching_b=int(patches_b[np.unique(j[touch])].sum()),
        shared_places=len(np.union1d(i[overlap], j[overlap])),
    )


def _within(
    places: _Places, in_a: np.ndarray, in_b: np.ndarray, tree_b: cKDTree, nearest_m: np.ndarray, reach_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of places, one of each split, whose centres lie within ``reach_m``: two (k,) arrays of place numbers."""
    near = in_a[nearest_m <= reach_m]
    if not len(near):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    neighbours = tree_b.query_ball_point(places.centre_xyz_m[near], reach_m)
    return np.repeat(near, [len(each) for each in neighbours]), in_b[np.concatenate(neighbours).astype(np.int64)]


def _gaps(places: _Places, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance between the footprints of places ``i`` and ``j`` in metres, and whether they share area; (k,) each."""
    apart_x = np.abs(places.x_m[i] - places.x_m[j])
    apart_y = np.abs(places.y_m[i] - places.y_m[j])
    gap_m = np.hypot(np.maximum(apart_x - PATCH_SIDE_M, 0), np.maximum(apart_y - PATCH_SIDE_M, 0)).astype(float)
    overlap = (apart_x < PATCH_SIDE_M) & (apart_y < PATCH_SIDE_M)
    across = np.flatnonzero(places.zone[i] != places.zone[j])
    if len(across):
        gap_m[across], overlap[across] = _gaps_across_zones(places, i[across], j[across])
    return gap_m, overlap


def _gaps_across_zones(places: _Places, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for places of different zones, drawn on the plane that touches the Earth half-way between them."""
    start, end = places.centre_xyz_m[i], places.centre_xyz_m[j]
    middle = (start + end) / 2
    up = _unit(_normal(middle))
    east = _unit(np.cross([0.0, 0.0, 1.0], up))
    north = np.cross(up, east)

    def draw(which: np.ndarray) -> np.ndarray:
        right = np.array([0, PATCH_SIDE_M, PATCH_SIDE_M, 0])
        down = np.array([0, 0, PATCH_SIDE_M, PATCH_SIDE_M])
        zone = np.broadcast_to(places.zone[which][:, None], (len(which), 4))
        corner = _geocentric(zone, places.x_m[which][:, None] + right, places.y_m[which][:, None] - down) - middle[:, None, :]
        return np.asarray(shapely.polygons(np.stack([(corner * east[:, None]).sum(-1), (corner * north[:, None]).sum(-1)], axis=-1)))

    first, second = draw(i), draw(j)
    chord_m = np.linalg.norm(start - end, axis=-1)
    arc_m = 2 * _EARTH_RADIUS_M * np.arcsin(np.minimum(chord_m / (2 * _EARTH_RADIUS_M), 1))
    gap_m = shapely.distance(first, second)
    gap_m = np.where(gap_m < _ACROSS_ZONES_TOLERANCE_M, 0.0, gap_m + (arc_m - chord_m))
    overlap = shapely.area(shapely.intersection(first, second)) > _ACROSS_ZONES_TOLERANCE_M * PATCH_SIDE_M
    return gap_m, overlap


def _geocentric(zone: np.ndarray, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """Points of UTM grids (WGS 84, ``y_m`` counted from the equator) as geocentric metres, (..., 3)."""
    xyz = np.empty((*np.shape(x_m), 3))
    for each in np.unique(zone):
        here = zone == each
        lon, lat = pyproj.Transformer.from_crs(32600 + int(each), 4326, always_xy=True).transform(x_m[here], y_m[here])
        xyz[here] = np.stack(pyproj.Transformer.from_crs(4979, 4978, always_xy=True).transform(lon, lat, np.zeros_like(lon)), axis=-1)
    return xyz


def _normal(xyz_m: np.ndarray) -> np.ndarray:
    """Direction straight up at geocentric points, (n, 3); that of the ellipsoid, good at and near its surface."""
    polar_over_equatorial = 6_356_752.3142 / 6_378_137.0
    return xyz_m / np.array([1, 1, polar_over_equatorial**2])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# --- balance ----------------------------------------------------------------------------------------------


def _class_shares(table: pd.DataFrame, split: np.ndarray, names: list[str], classes: Sequence[str] | None) -> dict[str, dict[str, float]]:
    """For each split that is not empty: class name to the share of its patches that show the class."""
    lists = [() if labels is None else labels for labels in table["labels"]]
    patch = np.repeat(np.arange(len(lists)), [len(labels) for labels in lists])
    label = np.array([name for labels in lists for name in labels], object)
    shown = pd.DataFrame({"patch": patch, "label": label}).drop_duplicates()
    counts = shown["label"].groupby(split[shown["patch"]]).value_counts()
    wanted = sorted(shown["label"].unique()) if classes is None else list(classes)
    sizes = {name: int((split == name).sum()) for name in names}
    return {name: {each: float(counts.get((name, each), 0)) / sizes[name] for each in wanted} for name in names if sizes[name]}


def _largest_ratio(shares: dict[str, dict[str, float]]) -> tuple[float | None, str | None]:
    """Largest over smallest share of one class between splits, and that class; a class missing from a split comes first."""
    if len(shares) < 2:
        return None, None
    extremes = {
        name: (min(each[name] for each in shares.values()), max(each[name] for each in shares.values()))
        for name in next(iter(shares.values()))
    }
    extremes = {name: (low, high) for name, (low, high) in extremes.items() if high > 0}
    absent = {name: high for name, (low, high) in extremes.items() if low == 0}
    if absent:
        return None, max(absent, key=lambda name: absent[name])
    if not extremes:
        return None, None
    worst = max(extremes, key=lambda name: extremes[name][1] / extremes[name][0])
    return extremes[worst][1] / extremes[worst][0], worst
