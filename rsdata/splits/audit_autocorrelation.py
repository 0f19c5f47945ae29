"""How far the likeness of labels reaches: Moran's I of every class by distance, from sampled pairs of places.

A place's value for a class is the share of its patches that show it. Pairs of a distance are drawn from a subset
of the places that is as large as gives enough of them; a place is in or out by a digest of where it lies, so the
same places are drawn whatever the order of the table.
"""

import itertools

import numpy as np
from scipy.spatial import cKDTree

from rsdata.records import Autocorrelation, AutocorrelationBin
from rsdata.splits.audit_places import Places
from rsdata.splits.audit_shares import Labels

THRESHOLD = 0.1  # of the mean over classes; below it labels are called unlike
# Distances between centres, in patch sides; near edges lie between the distances that occur on a lattice.
EDGES_IN_SIDES = (0.5, 1.2, 1.7, 2.5, 3.4, 4.8, 6.9, 9.95, 13.96, 20, 28, 40, 56, 80, 112)
_PAIRS_PER_BIN = 100_000
_LEAST_PAIRS = 30  # a bin with fewer says nothing
_AT_A_TIME = 50_000


def autocorrelation(places: Places, place: np.ndarray, labels: Labels, threshold: float = THRESHOLD) -> Autocorrelation | None:
    """Measure how alike labels are by distance.

    Moran's I of a class over the pairs (i, j) of a distance is the mean of (x_i - m)(x_j - m) over the variance of x,
    with m its mean over all places; the mean over classes takes every class that varies alike.

    Args:
        places: the distinct footprints; distances are straight lines between their centres.
        place: (n,) the place of every patch, -1 for none.
        labels: which patch shows which class.
        threshold: of the mean, below which labels are called unlike.

    Returns: None where there are fewer than two places or no labels.
    Source: Moran, Notes on continuous stochastic phenomena, Biometrika 37, 1950; per distance class as in
        Cliff and Ord, Spatial Processes, 1981.
    """
    seen = np.bincount(place[place >= 0], minlength=len(places))
    shown = place[labels.patch] >= 0
    if len(places) < 2 or not shown.any():
        return None
    width = len(labels.names)
    cells = np.bincount(place[labels.patch[shown]] * width + labels.code[shown], minlength=len(places) * width)
    value = (cells.reshape(len(places), width) / np.maximum(seen, 1)[:, None]).astype(np.float32)
    mean = value.mean(axis=0, dtype=float)
    variance = value.var(axis=0, dtype=float)
    varies = np.flatnonzero(variance > 1e-12)
    if not len(varies):
        return None

    drawn = np.argsort(_digest(places), kind="stable")
    side_m = float(np.median(places.side_m))
    edges_m = np.array(EDGES_IN_SIDES) * side_m
    tree = cKDTree(places.centre_xyz_m)
    bins = []
    for low_m, high_m in itertools.pairwise(edges_m.tolist()):
        pairs, distance_m = _pairs(places, tree, drawn, low_m, high_m)
        if len(pairs) < _LEAST_PAIRS:
            continue
        product, common = np.zeros(width), 0
        for first in range(0, len(pairs), _AT_A_TIME):
            one, other = (value[pairs[first : first + _AT_A_TIME, side]] for side in (0, 1))
            product += np.einsum("ij,ij->j", one - mean, other - mean)
            common += int(((one > 0) & (other > 0)).any(axis=1).sum())
        moran = {labels.names[at]: round(float(product[at] / len(pairs) / variance[at]), 6) for at in varies}
        bins.append(
            AutocorrelationBin(
                from_m=low_m,
                to_m=high_m,
                distance_m=round(float(distance_m.mean()), 1),
                pairs=len(pairs),
                mean=round(float(np.mean(list(moran.values()))), 6),
                classes=moran,
                same_label=common / len(pairs),
            )
        )
    below_m = _below(bins, threshold)
    return Autocorrelation(
        bins=bins,
        chance_same_label=_chance(value, drawn),
        threshold=threshold,
        below_threshold_m=below_m,
        buffer_m=None if below_m is None else max(0.0, round(below_m - side_m, 1)),
    )


def _pairs(places: Places, tree: cKDTree, drawn: np.ndarray, low_m: float, high_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Sampled pairs of places with centres from ``low_m`` to below ``high_m`` apart, (k, 2), and their distances."""
    probe = drawn[: min(len(drawn), 2_000)]
    around = tree.query_ball_point(places.centre_xyz_m[probe], high_m, return_length=True).mean() - 1  # neighbours of a place
    share = min(1.0, np.sqrt(2 * _PAIRS_PER_BIN / max(1.0, len(drawn) * around)))
    subset = np.sort(drawn[: max(2, int(np.ceil(share * len(drawn))))])
    points = places.centre_xyz_m[subset]
    pairs = cKDTree(points).query_pairs(high_m, output_type="ndarray")
    distance_m = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    kept = (distance_m >= low_m) & (distance_m < high_m)
    pairs, distance_m = subset[pairs[kept]], distance_m[kept]
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))  # so that sums do not depend on the tree
    return pairs[order], distance_m[order]


def _chance(value: np.ndarray, drawn: np.ndarray) -> float:
    """Share of pairs, drawn without regard to distance, that have a label in common."""
    half = min(len(drawn) // 2, _PAIRS_PER_BIN)
    return float(((value[drawn[:half]] > 0) & (value[drawn[half : 2 * half]] > 0)).any(axis=1).mean())


def _below(bins: list[AutocorrelationBin], threshold: float) -> float | None:
    """Distance at which the mean falls below the threshold for good, between bins by a straight line."""
    above = [index for index, each in enumerate(bins) if each.mean >= threshold]
    if not bins or (above and above[-1] == len(bins) - 1):
        return None
    if not above:
        return bins[0].distance_m
    last, following = bins[above[-1]], bins[above[-1] + 1]
    part = (last.mean - threshold) / (last.mean - following.mean)
    return round(last.distance_m + part * (following.distance_m - last.distance_m), 1)


def _digest(places: Places) -> np.ndarray:
    """A number per place that looks random and follows from where it lies alone, (n,) uint64. Source: splitmix64."""
    code = np.full(len(places), 0x9E3779B97F4A7C15, np.uint64)
    for values in (places.lon, places.lat, places.side_m):
        code += np.round(values * 1e5).astype(np.int64).astype(np.uint64)
        code ^= code >> np.uint64(30)
        code *= np.uint64(0xBF58476D1CE4E5B9)
        code ^= code >> np.uint64(27)
        code *= np.uint64(0x94D049BB133111EB)
        code ^= code >> np.uint64(31)
    return code
