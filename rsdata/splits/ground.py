"""Where patches lie on the Earth: distances between footprints that no zone, hemisphere or meridian gets in the way of.

A place is one grid cell, however many dates show it. Each carries its centre in geocentric metres and the directions
of its edges, so the gap between two footprints is a few dot products, whatever their UTM zones. Pairs are looked up
in a hash of cubes, without a list of all pairs in memory.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyproj

from rsdata.compiled import compiled
from rsdata.grid import PATCH_SIDE_M

_SOUTH_FALSE_NORTHING_M = 10_000_000
_CUBE_OFFSET, _CUBE_BITS = 1 << 20, 21  # cubes are numbered from here, so that three numbers fit one int64


@dataclass(frozen=True)
class Places:
    """Distinct grid cells, sorted by zone, northing and easting; arrays are (n,) unless said otherwise."""

    zone: np.ndarray  # 1 to 60
    x_m: np.ndarray  # int64, centre in the zone's grid
    y_m: np.ndarray  # int64, the same, counted from the equator in both hemispheres
    of_patch: np.ndarray  # (patches,) place number of each patch

    @classmethod
    def of(cls, where: pd.DataFrame) -> "Places":
        """Places of a table as ``positions`` gives it."""
        epsg = where["epsg"].to_numpy()
        south = epsg // 100 == 327
        x_m = where["ul_x_m"].to_numpy() + PATCH_SIDE_M // 2
        y_m = where["ul_y_m"].to_numpy() - PATCH_SIDE_M // 2 - np.where(south, _SOUTH_FALSE_NORTHING_M, 0)
        key = ((epsg % 100) << 50) + ((y_m + _SOUTH_FALSE_NORTHING_M) << 25) + x_m
        _, first, of_patch = np.unique(key, return_index=True, return_inverse=True)
        return cls(epsg[first] % 100, x_m[first], y_m[first], of_patch)

    def __len__(self) -> int:
        return len(self.zone)

    def frames(self) -> np.ndarray:
        """Centre, eastward and northward half edge of each footprint, (n, 3, 3) float64, geocentric metres (WGS 84)."""
        frames = np.empty((len(self), 3, 3))
        half = PATCH_SIDE_M / 2
        for zone in np.unique(self.zone):
            here = np.flatnonzero(self.zone == zone)
            for index, (right, up) in enumerate(((0.0, 0.0), (half, 0.0), (0.0, half))):
                frames[here, index] = geocentric(int(zone), self.x_m[here] + right, self.y_m[here] + up)
        frames[:, 1:] -= frames[:, :1]
        return frames


def geocentric(zone: int, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """Points of a UTM grid (WGS 84, ``y_m`` counted from the equator) as geocentric metres, (n, 3)."""
    to_xyz = pyproj.Transformer.from_pipeline(
        f"+proj=pipeline +step +inv +proj=utm +zone={zone} +ellps=WGS84 +step +proj=cart +ellps=WGS84"
    )
    return np.stack(to_xyz.transform(x_m, y_m, np.zeros(len(x_m))), axis=-1)


@dataclass(frozen=True)
class Neighbourhood:
    """Places sorted into cubes, ready to be asked which of them lie closer than ``gap_m``."""

    gap_m: float
    frames: np.ndarray  # (n, 3, 3) as ``Places.frames``
    order: np.ndarray  # (n,) place numbers, cube by cube
    start: np.ndarray  # (cubes + 1,) where each cube begins in ``order``
    around: np.ndarray  # (cubes, 27) int32, the cubes around each, itself included; -1 where there is none

    @classmethod
    def of(cls, frames: np.ndarray, gap_m: float) -> "Neighbourhood":
        """Args: gap_m: footprints closer than this are neighbours, true metres."""
        diagonal_m = 2 * np.sqrt(2) * float(np.linalg.norm(frames[:, 1], axis=-1).max(initial=0))
        cube = np.floor(frames[:, 0] / (gap_m + diagonal_m + 1)).astype(np.int64) + _CUBE_OFFSET
        key = (((cube[:, 0] << _CUBE_BITS) + cube[:, 1]) << _CUBE_BITS) + cube[:, 2]
        order = np.argsort(key, kind="stable")
        keys, start = np.unique(key[order], return_index=True)
        steps = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
        shifts = (((steps[:, 0] << _CUBE_BITS) + steps[:, 1]) << _CUBE_BITS) + steps[:, 2]
        around = np.empty((len(keys), len(shifts)), np.int32)
        for index, shift in enumerate(shifts):
            found = np.minimum(np.searchsorted(keys, keys + shift), len(keys) - 1)
            around[:, index] = np.where(keys[found] == keys + shift, found, -1)
        return cls(gap_m, frames, order.astype(np.int32), np.append(start, len(order)).astype(np.int64), around)

    def other_groups(self, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each place the groups, other than its own, that come closer than ``gap_m``.

        Args:
            group: (n,) int32 group of each place; places of group -1 are left out.

        Returns: (k,) places and (k,) groups, each pair once.
        """
        return _other_groups(self.gap_m, self.frames, self.order, self.start, self.around, group.astype(np.int32))

    def pairs_between(self, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of places of different groups closer than ``gap_m``; (k,) each, each pair once; -1 is left out."""
        return _pairs_between(self.gap_m, self.frames, self.order, self.start, self.around, group.astype(np.int32))


@compiled()
def _closer(gap_m: float, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two footprints come closer than ``gap_m``; turned squares are taken by their box along the other's edges.

    The box is never farther away than the square, so no near pair is missed; of the two boxes the farther one counts.
    """
    dx, dy, dz = b[0, 0] - a[0, 0], b[0, 1] - a[0, 1], b[0, 2] - a[0, 2]
    reach = gap_m + 1.5 * (np.sqrt(a[1, 0] ** 2 + a[1, 1] ** 2 + a[1, 2] ** 2) * 2)
    if dx * dx + dy * dy + dz * dz > reach * reach:
        return False
    largest = 0.0
    for turn in range(2):
        own, other = (a, b) if turn == 0 else (b, a)
        square = 0.0
        for axis in range(1, 3):
            half = np.sqrt(own[axis, 0] ** 2 + own[axis, 1] ** 2 + own[axis, 2] ** 2)
            apart = abs(dx * own[axis, 0] + dy * own[axis, 1] + dz * own[axis, 2]) / half
            for edge in range(1, 3):
                apart -= abs(other[edge, 0] * own[axis, 0] + other[edge, 1] * own[axis, 1] + other[edge, 2] * own[axis, 2]) / half
            apart -= half
            if apart > 0:
                square += apart * apart
        largest = max(largest, square)
    return largest < gap_m * gap_m


@compiled()
def _other_groups(gap_m, frames, order, start, around, group):  # type: ignore[no-untyped-def]
    size = 1024
    places, groups = np.empty(size, np.int32), np.empty(size, np.int32)
    found = 0
    for cube in range(len(start) - 1):
        for at in range(start[cube], start[cube + 1]):
            i = order[at]
            own = group[i]
            if own < 0:
                continue
            first = found
            for which in range(around.shape[1]):
                other = around[cube, which]
                if other < 0:
                    continue
                for near in range(start[other], start[other + 1]):
                    j = order[near]
                    theirs = group[j]
                    if theirs < 0 or theirs == own:
                        continue
                    known = False
                    for back in range(first, found):
                        if groups[back] == theirs:
                            known = True
                            break
                    if known or not _closer(gap_m, frames[i], frames[j]):
                        continue
                    if found == size:
                        size *= 2
                        places, groups = np.append(places, places), np.append(groups, groups)
                    places[found], groups[found] = i, theirs
                    found += 1
    return places[:found].copy(), groups[:found].copy()


@compiled()
def _pairs_between(gap_m, frames, order, start, around, group):  # type: ignore[no-untyped-def]
    size = 1024
    firsts, seconds = np.empty(size, np.int32), np.empty(size, np.int32)
    found = 0
    for cube in range(len(start) - 1):
        for at in range(start[cube], start[cube + 1]):
            i = order[at]
            if group[i] < 0:
                continue
            for which in range(around.shape[1]):
                other = around[cube, which]
                if other < 0:
                    continue
                for near in range(start[other], start[other + 1]):
                    j = order[near]
                    if j <= i or group[j] < 0 or group[j] == group[i] or not _closer(gap_m, frames[i], frames[j]):
                        continue
                    if found == size:
                        size *= 2
                        firsts, seconds = np.append(firsts, firsts), np.append(seconds, seconds)
                    firsts[found], seconds[found] = i, j
                    found += 1
    return firsts[:found].copy(), seconds[:found].copy()
