"""How far two splits lie apart, footprint to footprint, for every patch of both.

Near pairs are listed exactly, piece of ground by piece of ground, so memory does not grow with the table; the rest
are looked up by their centres, in ever more neighbours until no nearer footprint can be left. Inside one UTM zone
distances are metres of its grid and exact. Across zones, and for outlines that are no squares, footprints are drawn
on the plane that touches the ellipsoid beside them: good to a metre up to 100 km, to 0.1 % anywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.spatial import cKDTree

from rsdata.records import GapDistribution, NearPatches, SplitPair
from rsdata.splits.audit_places import Places

MOST_PAIRS = 60_000_000  # near pairs listed at most; above that only patches are counted

_EARTH_RADIUS_M = 6_371_000
_GRID_TOLERANCE_M = 0.005  # inside one zone; corners that came as degrees are rounded to this
_DRAWN_TOLERANCE_M = 0.5  # drawn footprints never meet edge to edge; within half a metre they count as touching
_STRETCH = 1.003  # grid metres over true ones, at most, with room to spare
_PIECE_M = 64_000  # ground looked at together
_PIECE_PLACES = 4_000
_FAR_PLACES = 20_000
_FIRST_NEIGHBOURS = 6


@dataclass(frozen=True)
class Nearness:
    """What was measured between two splits."""

    pair: SplitPair
    overlaps: np.ndarray  # (k, 2) places that share area, a place of each split; the same place twice if both have it


def measure(
    places: Places, a: str, b: str, patches_a: np.ndarray, patches_b: np.ndarray, distances_m: Sequence[float], most_pairs: int = MOST_PAIRS
) -> Nearness:
    """Measure one pair of splits.

    Args:
        places: the distinct footprints.
        a, b: names of the splits.
        patches_a, patches_b: (n,) int, how many patches of each split show each place.
        distances_m: rising, 0 among them.
        most_pairs: near pairs to list at most; where a distance has more, its pairs are not counted.
    """
    in_a, in_b = np.flatnonzero(patches_a), np.flatnonzero(patches_b)
    if not len(in_a) or not len(in_b):
        nothing = SplitPair(a=a, b=b, min_gap_m=None, touching_a=0, touching_b=0, shared_places=0)
        return Nearness(nothing, np.empty((0, 2), np.int64))
    tree_a, tree_b = (cKDTree(places.centre_xyz_m[which]) for which in (in_a, in_b))
    radii_m = float(places.radius_m[in_a].max() + places.radius_m[in_b].max())
    listed_m = _listed_distance(tree_a, tree_b, radii_m, distances_m, most_pairs)

    gap_a, gap_b = np.full(len(places), np.inf), np.full(len(places), np.inf)
    counts = np.zeros(len(distances_m))
    overlaps = []
    reach_m = (listed_m + radii_m) * _STRETCH + 1
    for i, j, gap_m, overlap in _near(places, in_a, in_b, tree_b, reach_m):
        np.minimum.at(gap_a, i, gap_m)
        np.minimum.at(gap_b, j, gap_m)
        within = np.searchsorted(distances_m, gap_m)  # of how many distances the gap is longer
        near = within < len(distances_m)
        counts += np.bincount(within[near], weights=(patches_a[i] * patches_b[j])[near], minlength=len(distances_m))
        overlaps.append(np.stack([i[overlap], j[overlap]], axis=-1))
    for gap, own, other, tree in ((gap_a, in_a, in_b, tree_b), (gap_b, in_b, in_a, tree_a)):
        far = own[gap[own] > listed_m]  # beyond, some pairs are missing from the list
        if len(far):
            gap[far] = _far_gaps(places, far, other, tree)

    shared = np.concatenate(overlaps) if overlaps else np.empty((0, 2), np.int64)
    near_pairs = np.cumsum(counts).round().astype(np.int64)
    touch_a, touch_b = (int(patches[gap <= 0].sum()) for patches, gap in ((patches_a, gap_a), (patches_b, gap_b)))
    pair = SplitPair(
        a=a,
        b=b,
        min_gap_m=float(gap_a[in_a].min()),
        touching_a=touch_a,
        touching_b=touch_b,
        shared_places=len(np.unique(shared)),
        overlapping_pairs=int((patches_a[shared[:, 0]] * patches_b[shared[:, 1]]).sum()),
        overlapping_a=int(patches_a[np.unique(shared[:, 0])].sum()),
        overlapping_b=int(patches_b[np.unique(shared[:, 1])].sum()),
        gaps_a=_distribution(gap_a[in_a], patches_a[in_a]),
        gaps_b=_distribution(gap_b[in_b], patches_b[in_b]),
        near=[
            NearPatches(
                distance_m=distance_m,
                pairs=int(near_pairs[index]) if distance_m <= listed_m else None,
                patches_a=int(patches_a[gap_a <= distance_m].sum()),
                patches_b=int(patches_b[gap_b <= distance_m].sum()),
            )
            for index, distance_m in enumerate(distances_m)
        ],
    )
    return Nearness(pair, shared)


def _distribution(gap_m: np.ndarray, patches: np.ndarray) -> GapDistribution:
    """Quantiles over patches, each one a gap that occurs."""
    order = np.argsort(gap_m)
    reached = np.cumsum(patches[order])
    shares = np.r_[0.05, 0.5, np.linspace(0, 1, 41)]
    at = np.searchsorted(reached, np.maximum(shares * reached[-1] * (1 - 1e-12), 1))
    values = [round(float(each), 3) for each in gap_m[order][at]]
    return GapDistribution(min_m=values[2], p5_m=values[0], median_m=values[1], quantiles_m=values[2:])


# --- near pairs -------------------------------------------------------------------------------------------


def _listed_distance(tree_a: cKDTree, tree_b: cKDTree, radii_m: float, distances_m: Sequence[float], most_pairs: int) -> float:
    """The longest of the distances whose pairs are few enough to list; touching pairs always are listed."""
    reach_m = (np.array(distances_m) + radii_m) * _STRETCH + 1
    few = np.flatnonzero(tree_a.count_neighbors(tree_b, reach_m) <= most_pairs)
    return float(distances_m[few[-1]]) if len(few) else 0.0


def _near(
    places: Places, in_a: np.ndarray, in_b: np.ndarray, tree_b: cKDTree, reach_m: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of places, one of each split, with centres within ``reach_m``, piece by piece: places, gaps, whether they overlap."""
    cube = np.floor(places.centre_xyz_m[in_a] / _PIECE_M).astype(np.int64)
    order = np.lexsort(cube.T)
    starts = np.flatnonzero(np.r_[True, (np.diff(cube[order], axis=0) != 0).any(axis=1)])
    for piece in np.split(order, starts[1:]):
        for first in range(0, len(piece), _PIECE_PLACES):
            chosen = in_a[piece[first : first + _PIECE_PLACES]]
            found = cKDTree(places.centre_xyz_m[chosen]).sparse_distance_matrix(tree_b, reach_m, output_type="ndarray")
            if not len(found):
                continue
            i, j = chosen[found["i"]], in_b[found["j"]]
            gap_m, overlap = _grid_gaps(places, i, j)
            drawn = np.flatnonzero(~_same_grid(places, i, j))
            if len(drawn):
                gap_m[drawn], overlap[drawn] = _drawn_together(places, i[drawn], j[drawn])
            yield i, j, gap_m, overlap


def _same_grid(places: Places, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return (places.zone[i] == places.zone[j]) & (places.zone[i] != 0)


def _grid_gaps(places: Places, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gap in metres and whether area is shared, for squares of one zone; any others are to be overwritten."""
    side_i, side_j = places.side_m[i], places.side_m[j]
    apart_x = np.abs((places.x_m[i] + side_i / 2) - (places.x_m[j] + side_j / 2)) - (side_i + side_j) / 2
    apart_y = np.abs((places.y_m[i] - side_i / 2) - (places.y_m[j] - side_j / 2)) - (side_i + side_j) / 2
    overlap = (apart_x < -_GRID_TOLERANCE_M) & (apart_y < -_GRID_TOLERANCE_M)
    apart_x[apart_x < _GRID_TOLERANCE_M] = 0
    apart_y[apart_y < _GRID_TOLERANCE_M] = 0
    return np.hypot(apart_x, apart_y), overlap


def _drawn_together(places: Places, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for near footprints of any zones and shapes, all drawn on one plane in their midst."""
    used, at = np.unique(np.r_[i, j], return_inverse=True)
    middle = places.centre_xyz_m[used].mean(axis=0)
    xyz, owner = places.corners_xyz_m(used)
    east, north = _axes(middle[None])
    offset = xyz - middle
    shapes = _polygons(np.stack([offset @ east[0], offset @ north[0]], axis=-1), owner)
    return _polygon_gaps(shapes[at[: len(i)]], shapes[at[len(i) :]])


# --- far pairs --------------------------------------------------------------------------------------------


def _far_gaps(places: Places, own: np.ndarray, other: np.ndarray, tree: cKDTree) -> np.ndarray:
    """The gap from each place of one split, none of which touches the other, to the nearest place of the other.

    A place with all eight neighbours in its own split cannot be nearest, for one of them lies in between.
    """
    outer = _exposed(places, other)
    if len(outer) < len(other):
        other, tree = outer, cKDTree(places.centre_xyz_m[outer])
    return np.concatenate([_nearest(places, own[first : first + _FAR_PLACES], other, tree) for first in range(0, len(own), _FAR_PLACES)])


def _nearest(places: Places, own: np.ndarray, other: np.ndarray, tree: cKDTree) -> np.ndarray:
    gap_m = np.full(len(own), np.inf)
    open_, neighbours = np.arange(len(own)), _FIRST_NEIGHBOURS
    largest_m = float(places.radius_m[other].max())
    while len(open_):
        neighbours = min(neighbours, len(other))
        chord_m, found = tree.query(places.centre_xyz_m[own[open_]], k=np.arange(1, neighbours + 1))
        i, j = np.repeat(own[open_], neighbours), other[found.ravel()]
        each_m, _ = _grid_gaps(places, i, j)
        drawn = np.flatnonzero(~_same_grid(places, i, j))
        if len(drawn):
            each_m[drawn] = _drawn_apart(places, i[drawn], j[drawn])
        gap_m[open_] = np.minimum(gap_m[open_], each_m.reshape(-1, neighbours).min(axis=1))
        # Whatever was not looked at has its centre at least as far away as the last that was.
        least_m = (_arc_m(chord_m[:, -1]) - places.radius_m[own[open_]] - largest_m) / _STRETCH
        if neighbours == len(other):
            break
        open_ = open_[least_m < gap_m[open_]]
        neighbours *= 4
    return gap_m


def _exposed(places: Places, which: np.ndarray) -> np.ndarray:
    """Places of a split that lack one of their eight neighbours in it, on their own lattice; outlines that are no squares always do."""
    square = which[places.zone[which] != 0]
    side = places.side_m[square]
    right, up = np.floor_divide(places.x_m[square], side), np.floor_divide(places.y_m[square], side)
    lattice = np.stack([places.zone[square], side, places.x_m[square] - right * side, places.y_m[square] - up * side], axis=-1)
    _, number = np.unique(lattice, axis=0, return_inverse=True)
    width = 1 << 21
    steps_right, steps_up = ((each + width // 2).astype(np.int64) for each in (right, up))
    code = (number.reshape(-1).astype(np.int64) * width + steps_right) * width + steps_up
    known = np.sort(code)
    inside = np.ones(len(code), bool)
    for step in (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1):
        at = np.minimum(np.searchsorted(known, code + step), len(known) - 1)
        inside &= known[at] == code + step if len(known) else False
    return np.sort(np.r_[square[~inside], which[places.zone[which] == 0]])


def _drawn_apart(places: Places, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Gaps of footprints that may lie far apart, (k,) metres, each pair drawn on the plane half-way between."""
    start, end = places.centre_xyz_m[i], places.centre_xyz_m[j]
    middle = (start + end) / 2
    east, north = _axes(middle)

    def draw(which: np.ndarray) -> np.ndarray:
        xyz, owner = places.corners_xyz_m(which)
        offset = xyz - middle[owner]
        return _polygons(np.stack([(offset * east[owner]).sum(axis=-1), (offset * north[owner]).sum(axis=-1)], axis=-1), owner)

    chord_m = np.linalg.norm(start - end, axis=-1)
    gap_m, _ = _polygon_gaps(draw(i), draw(j))
    return np.where(gap_m > 0, gap_m + (_arc_m(chord_m) - chord_m), 0)


# --- drawing ----------------------------------------------------------------------------------------------


def _polygons(xy: np.ndarray, owner: np.ndarray) -> np.ndarray:
    return np.asarray(shapely.polygons(shapely.linearrings(xy, indices=owner)))


def _polygon_gaps(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gap_m = shapely.distance(first, second)
    gap_m[gap_m < _DRAWN_TOLERANCE_M] = 0
    overlap = np.zeros(len(gap_m), bool)
    meet = np.flatnonzero(gap_m == 0)
    # Edges that meet within the tolerance may share a sliver that wide.
    edge_m = np.sqrt(np.minimum(shapely.area(first[meet]), shapely.area(second[meet])))
    overlap[meet] = shapely.area(shapely.intersection(first[meet], second[meet])) > _DRAWN_TOLERANCE_M * edge_m
    return gap_m, overlap


def _axes(xyz_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions east and north along the ellipsoid at geocentric points, (n, 3) each."""
    up = xyz_m / np.array([1, 1, (6_356_752.3142 / 6_378_137.0) ** 2])
    up /= np.linalg.norm(up, axis=-1, keepdims=True)
    east = np.cross([0.0, 0.0, 1.0], up)
    east /= np.linalg.norm(east, axis=-1, keepdims=True)
    return east, np.cross(up, east)


def _arc_m(chord_m: np.ndarray) -> np.ndarray:
    return 2 * _EARTH_RADIUS_M * np.arcsin(np.minimum(chord_m / (2 * _EARTH_RADIUS_M), 1))
