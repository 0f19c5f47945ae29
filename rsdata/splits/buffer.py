"""Which places must go so that no two of different splits come too close, and as few patches as possible with them.

Too close pairs of two splits make a graph with two sides; the cheapest set of places that meets every pair is a
minimum vertex cover, which a maximum flow finds exactly. Three splits are taken pair by pair, which is not always
the very best for all three, but near where three meet only.
"""

import itertools

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from rsdata.splits.ground import Neighbourhood

_UNCUTTABLE = 2**30


def kept_apart(neighbourhood: Neighbourhood, split: np.ndarray, patches: np.ndarray, splits: int) -> np.ndarray:
    """Whether each place stays, (n,) bool: no two that stay and have different splits are neighbours.

    Args:
        split: (n,) number of the split of each place, 0 to ``splits`` - 1.
        patches: (n,) patches at each place, what dropping it costs.
    """
    kept = np.ones(len(split), bool)
    first, second = neighbourhood.pairs_between(split)
    swap = split[first] > split[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    for a, b in itertools.combinations(range(splits), 2):
        pairs = (split[first] == a) & (split[second] == b) & kept[first] & kept[second]
        kept[_cover(first[pairs], second[pairs], patches)] = False
    return kept


def _cover(first: np.ndarray, second: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Places that meet every pair and have the fewest patches: König's theorem, by the minimum cut of a flow network."""
    if not len(first):
        return np.empty(0, np.int64)
    left, from_ = np.unique(first, return_inverse=True)
    right, to = np.unique(second, return_inverse=True)
    source, sink, at_left, at_right = 0, 1, 2, 2 + len(left)
    row = np.concatenate([np.full(len(left), source), at_left + from_, at_right + np.arange(len(right))])
    col = np.concatenate([at_left + np.arange(len(left)), at_right + to, np.full(len(right), sink)])
    capacity = np.concatenate([patches[left], np.full(len(first), _UNCUTTABLE), patches[right]]).astype(np.int32)
    nodes = 2 + len(left) + len(right)
    network = csr_array((capacity, (row, col)), shape=(nodes, nodes))
    residual = network - maximum_flow(network, source, sink).flow
    residual.data[residual.data < 0] = 0
    residual.eliminate_zeros()
    reached = np.zeros(nodes, bool)
    reached[breadth_first_order(residual, source, return_predecessors=False)] = True
    return np.concatenate([left[~reached[at_left:at_right]], right[reached[at_right:]]])
