"""Fewer patches: a few of each class, or shares that lie inside each other and keep the classes' shares."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rsdata.errors import SubsetError
from rsdata.subsets.patches import Patches, rounded

Within = npt.NDArray[np.float64]  # (n,) smallest size that holds the patch; NaN where none does


def few_shot(patches: Patches, counts: Sequence[int], seed: int) -> Within:
    """Choose patches until every class has at least k, for each k of ``counts``.

    In rounds: round k tops up each class to k patches, the rarest class first, by patches drawn among those that have it. As a
    patch has several classes, common ones get more than k; a class with fewer than k patches gets all of them. The choice for
    one k does not depend on the others, and lies inside that for any larger k.

    Returns: (n,) the smallest k that holds each patch; NaN where none does.
    Raises: SubsetError if a count is no count.
    """
    if not counts or min(counts) < 1:
        raise SubsetError(f"{', '.join(map(str, counts)) or 'nothing'} are no numbers of patches per class; expected 1 and more")
    sizes = sorted(set(counts))
    random = np.random.default_rng(seed)
    order = [random.permutation(np.flatnonzero(column)).tolist()[::-1] for column in patches.labels.T]
    have = np.zeros(len(patches.classes), np.int64)
    within = np.full(len(patches), np.nan)
    for k in range(1, sizes[-1] + 1):
        for column in np.argsort(patches.labels.sum(axis=0), kind="stable"):
            while have[column] < k and order[column]:
                row = order[column].pop()
                if np.isnan(within[row]):
                    within[row] = next(size for size in sizes if size >= k)
                    have += patches.labels[row]
    return within


def nested(patches: Patches, shares: Sequence[float], seed: int) -> Within:
    """Draw shares of the patches, each inside the next, with the classes' shares of the whole.

    A share s holds round(s * n) patches, but one at least. Layers between one share and the next are drawn together by ``stratify``.

    Returns: (n,) the smallest share that holds each patch; NaN where none does.
    Raises: SubsetError if a share is not above 0 and at most 1.
    """
    if not shares or min(shares) <= 0 or max(shares) > 1:
        raise SubsetError(f"{', '.join(f'{each:g}' for each in shares) or 'nothing'} are no shares; expected above 0 and at most 1")
    sizes = sorted(set(shares))
    ends = [max(1, rounded(share, len(patches))) for share in sizes]
    layer = stratify(patches.labels, np.diff([0, *ends, len(patches)]), np.random.default_rng(seed))
    return np.array([*sizes, np.nan])[layer]


def stratify(labels: npt.NDArray[np.bool_], sizes: npt.ArrayLike, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Deal out patches to groups of exact sizes so that every class has nearly the same share in each.

    Iterative stratification: the class with the fewest patches left is dealt out first, each patch to the group that still lacks
    most of that class, then to the one with most room, then by chance. A full group gets no more, so sizes are exact.

    Args: labels: (n, class); sizes: (group,) that sum up to n.
    Returns: (n,) the group of each patch.
    Source: Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011, algorithm 1.
    """
    wanted = np.asarray(sizes, np.int64)
    count = len(labels)
    room = wanted.tolist()
    lacking = (labels.sum(axis=0)[:, None] * (wanted / count)[None, :]).tolist()  # [class][group]
    left = labels.sum(axis=0).astype(np.int64)
    rank = random.permutation(count)
    chance = random.random((count, len(wanted))).tolist()
    own = [np.flatnonzero(row).tolist() for row in labels]
    group = np.full(count, -1, np.int64)

    def put(row: int, best: int) -> None:
        group[row] = best
        room[best] -= 1
        for each in own[row]:
            lacking[each][best] -= 1
            left[each] -= 1

    while left.any():
        rarest = int(np.where(left > 0, left, count + 1).argmin())
        rows = np.flatnonzero(labels[:, rarest] & (group < 0))
        for row in rows[np.argsort(rank[rows])].tolist():
            wants = [(round(lacking[rarest][each], 9), room[each], chance[row][each], each) for each in range(len(room)) if room[each] > 0]
            put(row, max(wants)[-1])
    bare = np.flatnonzero(group < 0)  # patches without a label
    group[bare] = random.permutation(np.repeat(np.arange(len(room)), room))
    return group
