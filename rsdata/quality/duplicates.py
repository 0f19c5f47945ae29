"""Patches that would put the same picture into a dataset twice.

Two kinds are found: the same pixels (digests are equal, whatever the names and places), and the same ground at the
same time (one data take, footprints that overlap by more than half). The second kind is what neighbouring tiles give:
they share a strip of 9.8 km, and as their corners lie 100 km apart, which is no multiple of 1200 m, their patches there
show the same pixels in another window, so that no digest could tell.
"""

from collections.abc import Iterator
from itertools import combinations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

MIN_OVERLAP = 0.5  # share of a footprint above which two patches show the same ground


def find_duplicates(patches: gpd.GeoDataFrame) -> pd.DataFrame:
    """For each patch the first one by patch id, itself no duplicate, whose picture it repeats.

    Shares are areas in degrees over each other; over 1200 m the scale is the same for both, so the share is that on the
    ground, across UTM zones too. Two tiles on either side of the 180th meridian are not compared.

    Args:
        patches: ``patch_id``, ``pixels_sha256`` (None matches nothing) and footprints in longitude and latitude, in any order.

    Returns: ``duplicate_of``, a patch id or None, and ``duplicate_kind``, "pixels" or "ground", indexed like the patches.
    """
    order = np.argsort(patches["patch_id"].to_numpy(str), kind="stable")
    ids = patches["patch_id"].to_numpy(object)[order]
    digests = patches["pixels_sha256"].to_numpy(object)[order]
    earlier: dict[int, list[int]] = {}
    for first, second in _same_ground(pd.Series(ids, dtype=str), patches.geometry.to_numpy()[order]):
        earlier.setdefault(max(first, second), []).append(min(first, second))
    holder: dict[str, int] = {}
    of, kind = np.full(len(ids), None, object), np.full(len(ids), None, object)
    repeated = pd.Series(digests).duplicated(keep=False).to_numpy() & pd.notna(digests)
    for index in np.union1d(np.flatnonzero(repeated), np.array(sorted(earlier), int)):
        digest = digests[index] if repeated[index] else None
        if digest in holder:
            of[index], kind[index] = ids[holder[digest]], "pixels"
            continue
        standing = [other for other in sorted(earlier.get(index, ())) if of[other] is None]
        if standing:
            of[index], kind[index] = ids[standing[0]], "ground"
        elif digest is not None:
            holder[digest] = index
    return pd.DataFrame({"duplicate_of": of, "duplicate_kind": kind}, index=patches.index[order]).reindex(patches.index)


def _same_ground(ids: pd.Series, outlines: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of patches of different scenes of one data take that overlap by more than ``MIN_OVERLAP``."""
    scenes = ids.str[:-6]  # without _cc_rr
    take = ids.str[:3] + ids.str[10:26]  # mission, and the start of the data take, which all its tiles carry
    for _, members in scenes.groupby(take.to_numpy()):
        if members.nunique() < 2:
            continue
        parts = {scene: group.index.to_numpy() for scene, group in members.groupby(members)}
        bounds = {scene: shapely.box(*shapely.total_bounds(outlines[part])) for scene, part in parts.items()}
        for a, b in combinations(sorted(parts), 2):
            if not bounds[a].intersects(bounds[b]):
                continue
            left, right = shapely.STRtree(outlines[parts[b]]).query(outlines[parts[a]], predicate="intersects")
            first, second = parts[a][left], parts[b][right]
            shared = shapely.area(shapely.intersection(outlines[first], outlines[second]))
            smaller = np.minimum(shapely.area(outlines[first]), shapely.area(outlines[second]))
            for index in np.flatnonzero(shared > MIN_OVERLAP * smaller):
                yield int(first[index]), int(second[index])
