"""Pruning on embeddings: leave out patches that are nearly those kept already, and keep few that differ much.

Both are exact, in float64, and look at blocks of rows, so that memory grows with the rows and not with their square.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rsdata.errors import SubsetError

BLOCK = 1024  # rows compared at a time
ROUNDING = 1e-9  # of a cosine: products of equal vectors come out a little beside 1
FREE = -1  # of a patch that is near none

_Vectors = npt.NDArray[np.float64]  # (n, dimension) of length 1


@dataclass(frozen=True, eq=False)
class Near:
    """Which kept row each row is near to; ``FREE`` for rows that are kept themselves."""

    keeper: npt.NDArray[np.int64]  # (n,)
    similarity: npt.NDArray[np.float64]  # (n,) cosine to it; NaN for kept rows


def unit_vectors(embeddings: npt.NDArray[np.floating]) -> _Vectors:
    """Rows (n, dimension) brought to length 1.

    Raises: SubsetError if a row is not finite or all zero.
    """
    wide = np.asarray(embeddings, np.float64)
    length = np.linalg.norm(wide, axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if len(bad):
        raise SubsetError(f"{len(bad)} embeddings are zero or not finite, row {bad[0]} first; write them again", rows=bad.tolist())
    return wide / length[:, None]


def near_duplicates(vectors: _Vectors, threshold: float, block: int = BLOCK) -> Near:
    """Go through rows in order and leave out each whose cosine to a kept one is at least ``threshold``.

    So no two kept rows are that near, and every row left out is that near to a kept one before it; the nearest is named, the first of
    equal ones.

    Raises: SubsetError if the threshold is not a cosine.
    """
    if not -1 <= threshold <= 1:
        raise SubsetError(f"{threshold:g} is no cosine; expected -1 to 1, such as 0.95", threshold=threshold)
    count = len(vectors)
    keeper, similarity = np.full(count, FREE, np.int64), np.full(count, np.nan)
    kept: list[int] = []
    for first in range(0, count, block):
        own = vectors[first : first + block]
        best, at = np.full(len(own), -np.inf), np.full(len(own), FREE, np.int64)
        for start in range(0, len(kept), block):
            rows = np.array(kept[start : start + block])
            cosine = own @ vectors[rows].T
            nearest = cosine.argmax(axis=1)
            value = cosine[np.arange(len(own)), nearest]
            better = value > best + ROUNDING
            best, at = np.where(better, value, best), np.where(better, rows[nearest], at)
        among = own @ own.T
        for row in range(len(own)):
            if best[row] >= threshold - ROUNDING:
                keeper[first + row], similarity[first + row] = at[row], min(1.0, best[row])
                continue
            kept.append(first + row)
            nearer = among[row] > best + ROUNDING
            nearer[: row + 1] = False
            best, at = np.where(nearer, among[row], best), np.where(nearer, first + row, at)
    return Near(keeper, similarity)


def far_apart(vectors: _Vectors, count: int, candidates: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    """Choose rows that cover all others: begin with the one nearest the mean, then always take the one farthest from those chosen.

    Distances are of the vectors of length 1; of equal ones the first row is taken. The largest distance to a chosen row is at most
    twice the least possible.

    Args: candidates: rows that may be chosen; all if absent.
    Returns: (count,) rows in the order of their choice.
    Raises: SubsetError if there are fewer candidates.
    Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 38, 1985.
    """
    rows = np.arange(len(vectors)) if candidates is None else np.asarray(candidates, np.int64)
    if not 1 <= count <= len(rows):
        raise SubsetError(f"{count} of {len(rows)} patches cannot be kept; ask for 1 to {len(rows)}", count=count)
    own = vectors[rows]
    nearest = np.full(len(rows), np.inf)  # squared distance to the chosen ones
    chosen = int(_first_largest(own @ own.mean(axis=0)))
    order = []
    for _ in range(count):
        order.append(int(rows[chosen]))
        nearest = np.minimum(nearest, 2 - 2 * (own @ own[chosen]))
        nearest[chosen] = -np.inf
        chosen = int(_first_largest(nearest))
    return np.array(order, np.int64)


def _first_largest(values: npt.NDArray[np.float64]) -> np.intp:
    """The first of those that equal the largest but for rounding."""
    return np.flatnonzero(values >= values.max() - ROUNDING)[0]
