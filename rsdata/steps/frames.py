"""Pixels of dates that may enter a time series: where they lie in ``parts/``, and how a place's dates are read from there.

Kept patches lie among the pixels that a scene contributes to the shards. What else a series may need lies beside them:
patches that were dropped, as for clouds, and the scene classification under all.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd

from rsdata import series, shards
from rsdata.errors import SceneError
from rsdata.records import PatchId, reference_map_id, s1_patch_id, s1_scene_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL2
from rsdata.series import GROUPS, Observed, Seen, Slot
from rsdata.steps.receipts import read_pair, read_rows
from rsdata.workspace import Workspace
from rsdata.writing import writing_folder


def scl_key(patch_id: str) -> str:
    """Key of the scene classification under a patch."""
    return f"{patch_id}_scl"


def usable(table: pd.DataFrame) -> pd.Series:
    """Which patches may be a date of a series: those of a product that passed its inspections, with any data in them."""
    return (table["drop_reason"].fillna("") != "product_quality") & (table["nodata_fraction"] < 1)


def common_offsets(units: Sequence[str], workspace: Workspace) -> dict[str, float]:
    """Band to the smallest offset of the scenes, counts: what all dates are brought to, so that no count turns negative."""
    scenes = [read_pair(unit, workspace).s2 for unit in units]
    return {band: min(scene.offsets[band] for scene in scenes) for band in SENTINEL2.band_names}


def write_frames(unit: str, values: Mapping[str, Mapping[str, np.ndarray]], workspace: Workspace) -> Path:
    """Set aside what one scene may contribute to series beyond its kept patches; return the file."""
    folder = _folder(unit, workspace)
    with writing_folder(folder) as aside:
        name = shards.write_part(aside, values).name
    return folder / name


class Frames:
    """The dates of many places, read from the parts of their scenes."""

    def __init__(self, units: Sequence[str], offsets: Mapping[str, float], workspace: Workspace) -> None:
        """Args:
            offsets: what counts are brought to, see ``common_offsets``.

        Raises: ShardError if the parts are gone; SceneError if the scenes' offsets do not differ by whole counts.
        """
        self._shifts = {unit: _shifts(unit, read_pair(unit, workspace).s2.offsets, offsets) for unit in units}
        self._kept = {unit: set(rows.loc[rows["kept"], "patch_id"]) for unit in units for rows in [read_rows("quality", unit, workspace)]}
        with ExitStack() as stack:
            self._shards = {unit: stack.enter_context(shards.LmdbStore(workspace.part("quality", unit, ""))) for unit in units}
            self._others = {unit: stack.enter_context(shards.LmdbStore(_folder(unit, workspace))) for unit in units}
            self._opened = stack.pop_all()

    def __enter__(self) -> "Frames":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def read(self, slots: Mapping[str, list[Slot]]) -> Observed:
        """All dates of one place, counts brought to the common offset."""
        pixels: dict[str, np.ndarray] = {}
        dates = {sensor: [each for slot in found for each in slot.seen] for sensor, found in slots.items()}
        for sensor, seen in dates.items():
            values = [self._s2(each) if sensor == SENTINEL2.name else self._s1(each) for each in seen]
            for group in (group for group in GROUPS.values() if group.sensor == sensor):
                pixels[group.name] = np.stack([np.stack([bands[band.name] for band in group.bands]) for bands in values])
        optical = dates.get(SENTINEL2.name)
        return Observed(slots, pixels, np.stack([self._scl(each) for each in optical]) if optical else None)

    def reference_map(self, patch_id: str) -> np.ndarray:
        """Of a patch that was kept when its scene was judged, (y, x) uint16."""
        (band,) = REFERENCE_MAP.band_names
        return np.array(self._shards[PatchId.parse(patch_id).scene].read(reference_map_id(patch_id))[band])

    def _store(self, patch_id: str) -> shards.LmdbStore:
        unit = PatchId.parse(patch_id).scene
        return (self._shards if patch_id in self._kept[unit] else self._others)[unit]

    def _s2(self, seen: Seen) -> Mapping[str, np.ndarray]:
        shifts = self._shifts[PatchId.parse(seen.patch_id).scene]
        bands = self._store(seen.patch_id).read(seen.patch_id)
        return {name: series.shifted_counts(bands[name], shifts[name]) for name in SENTINEL2.band_names}

    def _s1(self, seen: Seen) -> Mapping[str, np.ndarray]:
        return self._store(seen.patch_id).read(s1_patch_id(s1_scene_id(seen.product), PatchId.parse(seen.patch_id)))

    def _scl(self, seen: Seen) -> np.ndarray:
        return self._others[PatchId.parse(seen.patch_id).scene].read(scl_key(seen.patch_id))["SCL"]


def _shifts(unit: str, offsets: Mapping[str, float], common: Mapping[str, float]) -> dict[str, int]:
    """Band to what is added to a scene's counts, so that they have the common offset."""
    shifts = {band: offsets[band] - value for band, value in common.items()}
    for band, shift in shifts.items():
        if not float(shift).is_integer():
            raise SceneError(
                f"{unit} has an offset of {offsets[band]} counts in {band} and another scene {common[band]}; "
                "series need offsets that differ by whole counts",
                unit=unit,
                band=band,
            )
    return {band: int(shift) for band, shift in shifts.items()}


def _folder(unit: str, workspace: Workspace) -> Path:
    return workspace.part("quality", unit, "-frames")
