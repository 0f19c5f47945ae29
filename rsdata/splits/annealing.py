"""Blocks shared out among splits by simulated annealing: short borders, and every count in the same proportion.

A border costs the patches that have to go on either side of it. The random numbers are a counter hashed by
SplitMix64, so a seed gives one result on every machine, whatever else draws random numbers.
"""

from dataclasses import dataclass

import numpy as np

from rsdata.compiled import compiled

BOUND = 200.0  # cost of a share that strays from the whole's, beyond its tolerance, per square of its relative error
PULL = 2.0  # the same within the tolerance
RATIO = 5.0  # so many times as much for the number of patches, which stands against many classes


@dataclass(frozen=True)
class BlockGraph:
    """Blocks, what they hold, and what a border between two of them costs.

    Column 0 counts patches, the others patches of one class, country or season each.
    """

    counts: np.ndarray  # (blocks, columns) float64
    start: np.ndarray  # (blocks + 1,) where the neighbours of each block begin
    neighbour: np.ndarray  # (edges,) int32; each border stands here twice, once from either side
    twin: np.ndarray  # (edges,) int32, the same border from the other side
    loss: np.ndarray  # (edges, columns) float64, what the block itself loses if the neighbour is in another split

    @classmethod
    def of(cls, block: np.ndarray, counts: np.ndarray, place: np.ndarray, near: np.ndarray) -> "BlockGraph":
        """Put the graph together.

        Either side of a border can give way; what goes is shared between them so that the side with fewer patches
        bears more. A place near several blocks counts for each with a part: at a straight border between small
        blocks it is near two of the other side.

        Args:
            block: (places,) block of each place.
            counts: (places, columns) of each place.
            place: (k,) places that come too close to a block that is not their own.
            near: (k,) that block.
        """
        blocks, columns = int(block.max(initial=-1)) + 1, counts.shape[1]
        part = 1 / np.maximum((np.bincount(place, minlength=len(block))[place] + 1) / 2, 1)
        edge, at = np.unique(block[place].astype(np.int64) * blocks + near, return_inverse=True)
        own, other = np.divmod(edge, blocks)
        twin = np.searchsorted(edge, other * blocks + own)
        at_risk = np.stack([np.bincount(at, part * counts[place, column], len(edge)) for column in range(columns)], axis=1)
        mine, theirs = at_risk[:, 0], at_risk[twin, 0]
        loss = at_risk * (theirs / np.maximum(mine + theirs, 1e-9))[:, None]
        full = np.stack([np.bincount(block, counts[:, column], blocks) for column in range(columns)], axis=1)
        return cls(full, np.searchsorted(own, np.arange(blocks + 1)), other.astype(np.int32), twin.astype(np.int32), loss)


def held_by(graph: BlockGraph, split: np.ndarray, splits: int) -> np.ndarray:
    """What each split holds once borders are cleared, as the graph estimates it, (splits, columns)."""
    own = np.repeat(np.arange(len(graph.counts)), np.diff(graph.start))
    cut = split[own] != split[graph.neighbour]
    return np.stack(
        [graph.counts[split == each].sum(axis=0) - graph.loss[cut & (split[own] == each)].sum(axis=0) for each in range(splits)]
    )


def unevenness(held: np.ndarray, ratios: np.ndarray, slack: np.ndarray) -> float:
    """What uneven shares cost; see ``anneal``. ``held`` is (splits, columns)."""
    return float(_unevenness(held, ratios, slack, BOUND, PULL, RATIO))


def anneal(
    graph: BlockGraph,
    split: np.ndarray,
    ratios: np.ndarray,
    slack: np.ndarray,
    bias: np.ndarray,
    *,
    seed: int,
    passes: int,
    hot: float,
    cold: float,
) -> tuple[float, np.ndarray]:
    """Move blocks between splits while that lowers the cost, and at first also where it raises it a little.

    Cost is the percentage of patches lost at borders, plus what ``BOUND`` and ``PULL`` put on uneven shares.

    Args:
        split: (blocks,) split to begin with, 0 to S - 1.
        ratios: (S,) wanted share of the patches, all above 0, sum 1.
        slack: (columns,) relative error of a share that is tolerated.
        bias: (S, columns) added to what the blocks hold: what a finer count found beyond the graph's estimate.
        seed: 64 bits.
        passes: each tries as many moves as there are blocks.
        hot, cold: temperatures at the beginning and the end, in units of the cost.

    Returns: the lowest cost seen at the end of a pass, and its split, (blocks,) int64.
    """  # fmt: skip
    best, cost = _anneal(
        graph.counts, graph.start, graph.neighbour, graph.twin, graph.loss, split.astype(np.int64), ratios, slack, bias,
        np.uint64(seed), passes, hot, cold, BOUND, PULL, RATIO,
    )  # fmt: skip
    return cost, best


@compiled()
def _mixed(bits):  # type: ignore[no-untyped-def]
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@compiled()
def _unevenness(held, ratios, slack, bound, pull, ratio):  # type: ignore[no-untyped-def]
    splits, columns = held.shape
    patches = 0.0
    for s in range(splits):
        patches += held[s, 0]
    cost = 0.0
    for c in range(columns):
        whole = 0.0
        for s in range(splits):
            whole += held[s, c]
        if whole <= 0:
            continue
        for s in range(splits):
            expected = ratios[s] * whole if c == 0 else held[s, 0] / patches * whole
            error = abs(held[s, c] - expected) / (ratios[s] * whole)  # of what it should hold: small splits may still grow
            weight = ratio if c == 0 else 1.0
            cost += weight * pull * error * error
            if error > slack[c]:
                cost += weight * bound * (error - slack[c]) ** 2
    return cost


@compiled()
def _anneal(counts, start, neighbour, twin, loss, split, ratios, slack, bias, seed, passes, hot, cold, bound, pull, ratio):  # type: ignore[no-untyped-def]
    blocks, columns = counts.shape
    splits = len(ratios)
    held = bias.copy()
    lost = 0.0
    patches = 0.0
    for a in range(blocks):
        held[split[a]] += counts[a]
        patches += counts[a, 0]
        for e in range(start[a], start[a + 1]):
            if split[neighbour[e]] != split[a]:
                held[split[a]] -= loss[e]
                lost += loss[e, 0]
    percent = 100.0 / patches
    cost = lost * percent + _unevenness(held, ratios, slack, bound, pull, ratio)
    best, best_cost = split.copy(), cost
    trial = held.copy()
    draw = seed
    golden = np.uint64(0x9E3779B97F4A7C15)
    unit = 2.0**-53
    for turn in range(passes):
        temperature = hot * (cold / hot) ** (turn / max(passes - 1, 1))
        for _ in range(blocks):
            draw += golden
            bits = _mixed(draw)
            a = int((bits >> np.uint64(33)) % np.uint64(blocks))
            s = split[a]
            degree = start[a + 1] - start[a]
            low = np.int64(bits & np.uint64(0x7FFFFFFF))
            t = split[neighbour[start[a] + (low // 16) % degree]] if degree > 0 and low % 16 != 0 else (low // 16) % splits
            if t == s:
                continue
            for c in range(columns):
                trial[s, c] = held[s, c] - counts[a, c]
                trial[t, c] = held[t, c] + counts[a, c]
            more = 0.0
            for e in range(start[a], start[a + 1]):
                theirs = split[neighbour[e]]
                back = twin[e]
                if theirs != s:  # cut before
                    for c in range(columns):
                        trial[s, c] += loss[e, c]
                    more -= loss[e, 0]
                if theirs != t:  # cut now
                    for c in range(columns):
                        trial[t, c] -= loss[e, c]
                    more += loss[e, 0]
                if theirs == s:
                    for c in range(columns):
                        trial[s, c] -= loss[back, c]
                    more += loss[back, 0]
                elif theirs == t:
                    for c in range(columns):
                        trial[t, c] += loss[back, c]
                    more -= loss[back, 0]
            changed = (lost + more) * percent + _unevenness(trial, ratios, slack, bound, pull, ratio)
            draw += golden
            chance = np.float64(_mixed(draw) >> np.uint64(11)) * unit
            if changed <= cost or chance < np.exp((cost - changed) / temperature):
                split[a] = t
                lost += more
                cost = changed
                for c in range(columns):
                    held[s, c] = trial[s, c]
                    held[t, c] = trial[t, c]
            else:
                for c in range(columns):
                    trial[s, c] = held[s, c]
                    trial[t, c] = held[t, c]
        if cost < best_cost:
            best_cost = cost
            best[:] = split
    return best, best_cost
