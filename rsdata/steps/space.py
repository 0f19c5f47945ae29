"""Whether the disk has room for a dataset, asked before hours of work rather than after."""

import os
import shutil
from collections.abc import Sequence

import numpy as np

from rsdata.errors import DiskFull
from rsdata.grid import PATCH_SIDE_M
from rsdata.recipe import Recipe
from rsdata.records import ScenePair
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2, Sensor
from rsdata.workspace import Workspace

_SPARE_BYTES = 64 * 2**20  # tables, report, receipts
_MAP_BYTES_PER_M2 = 2 / 10**2  # uint16 at 10 m


def check_space(pairs: Sequence[ScenePair], recipe: Recipe, workspace: Workspace) -> None:
    """See that the pixels of what is not done yet fit on the disk, were every patch kept: once as parts, once in the shard.

    Compression and time series are not foreseen, so it may be less or more.

    Raises: DiskFull if they do not fit.
    """
    if os.environ.get("RSDATA_SPACE_CHECK") == "0":
        return
    needed = space_needed(pairs, recipe, workspace)
    free = shutil.disk_usage(workspace.root).free
    if needed + _SPARE_BYTES > free:
        raise DiskFull(
            f"the disk of {workspace.root} has {free / 1e6:,.0f} MB free, and the build needs about {needed / 1e6:,.0f} MB more and "
            f"{_SPARE_BYTES / 1e6:,.0f} MB to spare; make room, name another folder with --out, or set RSDATA_SPACE_CHECK=0 if you "
            "know that fewer patches will be kept",
            needed=needed,
            free=free,
        )


def space_needed(pairs: Sequence[ScenePair], recipe: Recipe, workspace: Workspace) -> int:
    """Bytes that a build will add at most, as far as can be told from the scenes."""
    needed = 0
    packed = workspace.receipt_path("shards", recipe.shards.format).exists()
    for pair in pairs:
        sensors: list[Sensor] = [SENTINEL2, REFERENCE_MAP, *([SENTINEL1] if pair.s1 else [])]
        patches = (pair.s2.height_m // PATCH_SIDE_M) * (pair.s2.width_m // PATCH_SIDE_M)
        if not workspace.receipt_path("labels", pair.unit).exists():
            needed += int(pair.s2.height_m * pair.s2.width_m * _MAP_BYTES_PER_M2)
        if not workspace.receipt_path("quality", pair.unit).exists():
            needed += patches * sum(patch_bytes(sensor) for sensor in sensors)
        if not packed:
            sensors = [sensor for sensor in sensors if sensor is REFERENCE_MAP or sensor.name in recipe.shards.sensors]
            needed += patches * sum(patch_bytes(sensor) for sensor in sensors)
    return needed


def patch_bytes(sensor: Sensor) -> int:
    """Bytes of the pixels of one patch."""
    return sum(np.dtype(band.dtype).itemsize * (PATCH_SIDE_M // band.gsd_m) ** 2 for band in sensor.bands)
