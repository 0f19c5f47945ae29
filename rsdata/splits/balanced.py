"""The ``balanced`` split: splits a stated distance apart, in the wanted ratios, each with the same share of every class.

The ground is cut into blocks along the tiles' own grids. Blocks are shared out by annealing, large ones first and
then ever smaller ones, so that borders are short and shares are even; then the places too near a border are
dropped, exactly and as few as possible. What they take with them shifts the shares a little, so the blocks are
shared out again with that known, a few times, and the best is kept.
"""

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from rsdata.errors import SplitError
from rsdata.recipe import SplitPart
from rsdata.records import SPLITS
from rsdata.splits.audit_shares import labels_of
from rsdata.splits.positions import positions
from rsdata.splits.strategy import Division, SplitStrategy, column, named

BLOCK_M, SMALL_BLOCK_M = 6_000, 3_600  # five patches, and three where there are few places
FEW_PLACES = 50_000
# Distances are measured in metres of UTM by some and on the ground by others; these differ by up to 0.04 % this way.
_GRID_OVER_GROUND, _ROUNDING_M = 1.0005, 1.0
_MAX_RATIO_ERROR = 0.1  # of all patches; beyond it the request cannot be met


class Balanced(SplitStrategy):
    """No two patches of different splits come closer than ``buffer_m``, and every class has the same share in each.

    All dates of a place share a split, and so do cells of overlapping tiles, whatever their UTM zones. Patches in the way
    are dropped: they get no split.
    """

    uses_ratios = True
    drops = "split_buffer"

    buffer_m: float = Field(1750, ge=0, le=200_000, description="smallest distance between footprints of two splits, metres")
    balance: list[Literal["labels", "country", "season"]] = Field(["labels"], description="whose shares are to be the same")
    block_m: float | None = Field(None, ge=1_200, description="side of the smallest blocks, metres; chosen by places and buffer if absent")
    tolerance: float = Field(0.02, gt=0, lt=1, description="relative error of a share that is good enough; larger ones drop fewer patches")
    max_dropped: float = Field(0.25, ge=0, lt=1, description="share of the patches that may be dropped; beyond it the request is refused")

    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        from rsdata.splits.ground import Places  # these two load Numba, which takes a while
        from rsdata.splits.search import Search

        ratios = np.array(part.ratios.values())
        used = np.flatnonzero(ratios > 0)
        places = Places.of(positions(table["patch_id"]))
        counts, columns = self._counts(table, places.of_patch, len(places))
        gap_m = self.buffer_m * _GRID_OVER_GROUND + _ROUNDING_M if self.buffer_m else 0.0
        side_m = self.block_m or max(SMALL_BLOCK_M if len(places) < FEW_PLACES else BLOCK_M, self.buffer_m)
        found = Search(places, counts, ratios[used], gap_m, self.tolerance, part.seed).run(int(side_m))
        self._check(found.held, counts[:, 0].sum(), ratios[used])
        split = np.where(found.kept, used[found.split], -1)
        summary = _summary(found.held, counts[:, 0].sum(), [SPLITS[each] for each in used], columns)
        return Division(named(split)[places.of_patch], (summary,))

    def _counts(self, table: pd.DataFrame, place: np.ndarray, places: int) -> tuple[np.ndarray, list[str]]:
        """Patches at each place, then those of each class, country and season, (places, columns) float64; and the columns' names."""
        columns, names = [np.bincount(place, minlength=places)], []
        if "labels" in self.balance:
            column(table, "labels", "balanced")
            if labels := labels_of(table):
                cells = np.bincount(labels.code * places + place[labels.patch], minlength=len(labels.names) * places)
                columns += list(cells.reshape(len(labels.names), places))
                names += labels.names
        for name in ("country", "season"):
            if name in self.balance:
                codes, found = pd.factorize(column(table, name, "balanced"), sort=True)  # -1 where it is missing
                columns += [np.bincount(place[codes == code], minlength=places) for code in range(len(found))]
                names += [str(each) for each in found]
        return np.stack(columns, axis=1).astype(float), names

    def _check(self, held: np.ndarray, patches: float, ratios: np.ndarray) -> None:
        """Raises: SplitError if the division found is not what was asked for."""
        dropped = 1 - held[:, 0].sum() / patches
        ask = "ask for a smaller `buffer_m` or give it patches from a larger area"
        if (held[:, 0] == 0).any():
            raise SplitError(
                f"with a buffer of {self.buffer_m:g} m the {patches:.0f} patches cannot be divided into {len(ratios)} splits "
                f"that all hold some; {ask}",
                buffer_m=self.buffer_m,
            )
        if dropped > self.max_dropped:
            raise SplitError(
                f"with a buffer of {self.buffer_m:g} m {dropped:.1%} of the patches would be dropped, more than `max_dropped` "
                f"({self.max_dropped:.1%}); {ask}, or raise `max_dropped`",
                buffer_m=self.buffer_m,
                dropped=dropped,
            )
        got = held[:, 0] / held[:, 0].sum()
        if np.abs(got - ratios).max() > _MAX_RATIO_ERROR:
            raise SplitError(
                f"with a buffer of {self.buffer_m:g} m the splits would hold {', '.join(f'{each:.1%}' for each in got)} of the patches "
                f"where {', '.join(f'{each:.1%}' for each in ratios)} are wanted; {ask}",
                buffer_m=self.buffer_m,
                ratios=got.tolist(),
            )


def _summary(held: np.ndarray, patches: float, names: list[str], columns: list[str]) -> str:
    """What came out, as one sentence."""
    shares = held[:, 1:] / held[:, :1]
    ratios = ", ".join(f"{name} {share:.1%}" for name, share in zip(names, held[:, 0] / held[:, 0].sum(), strict=True))
    text = f"{1 - held[:, 0].sum() / patches:.2%} of the patches were dropped between the splits, which hold {ratios}"
    if not len(columns) or len(names) < 2:
        return text
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = shares.max(axis=0) / shares.min(axis=0)
    worst = int(np.nan_to_num(factor, nan=1).argmax())
    if np.isinf(factor[worst]):
        return f"{text}; {columns[worst]} is missing from a split"
    return f"{text}; shares differ by up to a factor of {factor[worst]:.2f} ({columns[worst]})"
