"""The search behind the ``balanced`` split: blocks shared out by annealing, then places dropped between the splits.

It knows places, counts and ratios only. Large blocks come first, so that splits become few large areas; each is
then cut in four, and again, and borders move by ever smaller steps. Dropping takes more of one class than of
another, so the last step is done several times, each with what the one before found missing.
"""

from dataclasses import dataclass

import numpy as np

from rsdata.splits.annealing import BlockGraph, anneal, held_by, unevenness
from rsdata.splits.buffer import kept_apart
from rsdata.splits.ground import Neighbourhood, Places
from rsdata.splits.strategy import chance

LEVELS = (8, 4, 2, 1)  # sides of the blocks, in sides of the smallest
_STARTS, _FOLLOWED = 8, 3  # ways to share out the largest blocks that are tried, and pursued
_BLOCKS_FOR_MORE, _MOST_EFFORT = 12_000, 6  # so many times as many where blocks are few, and so many ends are mended
_START_PASSES, _PASSES, _REPAIR_PASSES = 1000, 600, 100  # a pass looks at as many blocks as there are
_REPAIRS = 10
# Temperatures, in units of what one average block holds: melting at first, then mending.
_MELTING, _WARM, _LUKEWARM, _COLD = 10.0, 1.2, 0.4, 0.035
_SLACK_PATCHES = 1.0  # and so many patches in any case: rarer classes cannot be split finer


@dataclass(frozen=True)
class Found:
    """Places divided and kept apart."""

    split: np.ndarray  # (places,) number of the split
    kept: np.ndarray  # (places,) bool
    held: np.ndarray  # (splits, columns) what the kept places of each split hold
    cost: float  # percentage dropped, and what uneven shares cost


@dataclass(frozen=True)
class Search:
    """What is to be divided, and how."""

    places: Places
    counts: np.ndarray  # (places, columns) float64: patches, then patches of each class, country or season
    ratios: np.ndarray  # (splits,) all above 0
    buffer_m: float
    tolerance: float  # relative error of a share that is good enough
    seed: int

    def run(self, side_m: int) -> Found:
        """Divide the places.

        Args:
            side_m: side of the smallest blocks, metres of each zone's grid.
        """
        neighbourhood = Neighbourhood.of(self.places.frames(), self.buffer_m)
        blocks = [_blocks(self.places, side_m * level) for level in LEVELS]
        graphs = self._graphs(blocks, neighbourhood)
        effort = int(np.clip(_BLOCKS_FOR_MORE // len(graphs[-1].counts), 1, _MOST_EFFORT))
        splits = self._starts(graphs[0], effort)
        for level in range(1, len(LEVELS)):
            parent = np.zeros(len(graphs[level].counts), np.int64)
            parent[blocks[level]] = blocks[level - 1]
            tried = [self._anneal(graphs[level], split[parent], f"{level} {number}", _PASSES, _WARM) for number, split in enumerate(splits)]
            splits = [split for _, split in tried]
        ends = [split for _, split in sorted(tried, key=lambda each: each[0])[:effort]]
        return min((self._repaired(graphs[-1], blocks[-1], split, neighbourhood) for split in ends), key=lambda each: each.cost)

    def _graphs(self, blocks: list[np.ndarray], neighbourhood: Neighbourhood) -> list[BlockGraph]:
        """One graph for each size of block; near places are looked up once, between the smallest."""
        fine = blocks[-1]
        place, near = neighbourhood.other_groups(fine)
        graphs = []
        for block in blocks:
            parent = np.zeros(int(fine.max()) + 1, np.int64)
            parent[fine] = block
            number = int(block.max()) + 1
            key = np.sort(place.astype(np.int64) * number + parent[near])
            at, other = np.divmod(key[np.append(True, key[1:] != key[:-1])[: len(key)]], number)
            outside = block[at] != other
            graphs.append(BlockGraph.of(block, self.counts, at[outside], other[outside]))
        return graphs

    def _starts(self, graph: BlockGraph, effort: int) -> list[np.ndarray]:
        """The best few of several ways to share out the largest blocks."""
        tried = []
        for number in range(_STARTS * effort):
            luck = chance(self.seed, [f"start {number} {block}" for block in range(len(graph.counts))])
            tried.append(self._anneal(graph, (luck % len(self.ratios)).astype(np.int64), f"0 {number}", _START_PASSES, _MELTING))
        return [split for _, split in sorted(tried, key=lambda each: each[0])[: _FOLLOWED * effort]]

    def _repaired(self, graph: BlockGraph, block: np.ndarray, split: np.ndarray, neighbourhood: Neighbourhood) -> Found:
        """Drop what is in the way, see what that did to the shares, and mend them; the best of several rounds."""
        patches = self.counts[:, 0].sum()
        tried = []
        for number in range(_REPAIRS):
            of_place = split[block]
            kept = kept_apart(neighbourhood, of_place, self.counts[:, 0], len(self.ratios))
            held = np.stack([self.counts[(of_place == each) & kept].sum(axis=0) for each in range(len(self.ratios))])
            uneven = unevenness(held, self.ratios, self._slack())
            tried.append(Found(of_place, kept, held, 100 * (1 - held[:, 0].sum() / patches) + uneven))
            missed = held - held_by(graph, split, len(self.ratios))
            split = self._anneal(graph, split, f"repair {number}", _REPAIR_PASSES, _LUKEWARM, missed)[1]
        return min(tried, key=lambda each: each.cost)

    def _anneal(
        self, graph: BlockGraph, split: np.ndarray, name: str, passes: int, hot: float, bias: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        per_block = 100 / len(graph.counts)  # percent of the patches
        slack = self._slack() * (1 if bias is None else 0.5)
        return anneal(
            graph, split, self.ratios, slack, np.zeros((len(self.ratios), self.counts.shape[1])) if bias is None else bias,
            seed=int(chance(self.seed, [name])[0]), passes=passes, hot=hot * per_block, cold=_COLD * per_block,
        )  # fmt: skip

    def _slack(self) -> np.ndarray:
        return np.maximum(self.tolerance, _SLACK_PATCHES / (self.ratios.min() * np.maximum(self.counts.sum(axis=0), 1)))


def _blocks(places: Places, side_m: int) -> np.ndarray:
    """Number of the square that a place's centre lies in, (n,) int64; each UTM zone has squares of its own."""
    key = (places.zone.astype(np.int64) << 50) + ((places.y_m // side_m + (1 << 24)) << 25) + places.x_m // side_m
    return np.unique(key, return_inverse=True)[1]
