"""The cube of one place: its frames as arrays per native resolution, which of their pixels are valid, and a row for each frame."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from rsdata.recipe import Series
from rsdata.sensors import SENTINEL1, SENTINEL2
from rsdata.sensors.band import Band
from rsdata.sensors.sentinel2 import NODATA_COUNTS, SATURATED_COUNTS, SCL_SNOW
from rsdata.series.choosing import Slot
from rsdata.series.composites import best_dates, median_pixels, taken_from
from rsdata.series.masks import clouded_pixels, scl_at, valid_pixels


@dataclass(frozen=True)
class Group:
    """Bands of one sensor and resolution, which make one array."""

    name: str
    sensor: str
    gsd_m: int
    bands: tuple[Band, ...]

    @property
    def nodata(self) -> float:
        return math.nan if self.bands[0].nodata is None else self.bands[0].nodata


def _groups() -> Iterator[Group]:
    for gsd_m in sorted({band.gsd_m for band in SENTINEL2.bands}):
        bands = tuple(band for band in SENTINEL2.bands if band.gsd_m == gsd_m)
        yield Group(f"{SENTINEL2.name}_{gsd_m}m", SENTINEL2.name, gsd_m, bands)
    yield Group(SENTINEL1.name, SENTINEL1.name, SENTINEL1.bands[0].gsd_m, SENTINEL1.bands)


GROUPS: dict[str, Group] = {group.name: group for group in _groups()}  # s2_10m, s2_20m, s2_60m, s1
_CLASSES_OF = "s2_20m"  # the group on whose pixels the scene classification lies


@dataclass(frozen=True)
class Observed:
    """What was read of one place: all dates of all slots, slot by slot, so that dates of a composite lie side by side."""

    slots: Mapping[str, list[Slot]]  # by sensor
    pixels: Mapping[str, np.ndarray]  # by group, (date, band, y, x) as stored
    scl: np.ndarray | None  # (date, y, x) scene classification at 20 m, if there is Sentinel-2

    def parts(self, sensor: str) -> Iterator[tuple[Slot, slice]]:
        """Each slot and where its dates lie."""
        start = 0
        for slot in self.slots[sensor]:
            yield slot, slice(start, start + len(slot.seen))
            start += len(slot.seen)


def shifted_counts(counts: np.ndarray, shift: int) -> np.ndarray:
    """Counts as they would be if the product's offset were smaller by ``shift``, so that dates of all baselines compare.

    Args:
        counts: uint16; 0 (no data) and 65535 (saturated) stay as they are.
        shift: added, 0 or more; the few that would exceed 65535 become saturated.
    """
    if shift == 0:
        return counts
    moved = np.minimum(counts.astype(np.uint32) + shift, SATURATED_COUNTS).astype(counts.dtype)
    return np.where(counts == NODATA_COUNTS, counts, moved)


def valid_frames(observed: Observed, part: Series) -> dict[str, np.ndarray]:
    """Where each frame of each group is valid, (frame, y, x) bool.

    A single date is valid where all bands of the group hold data; with ``mask_clouds``, only where the scene classification
    says neither cloud nor shadow. A median is valid where one of its dates holds data and is clear, whatever ``mask_clouds``
    says. A best pixel is valid where one of its dates holds data; with ``mask_clouds``, where the one that was taken is clear.
    """
    return {name: _Made(observed, part, GROUPS[name]).valid() for name in observed.pixels}


def made_frames(observed: Observed, part: Series) -> dict[str, np.ndarray]:
    """The frames of each group, (frame, band, y, x), in the dtype that was read.

    Single dates are as they were, also where they are not valid. Composites hold no-data where they have none. A composite
    of Sentinel-1, which has no scene classification, is the median of its dates in dB.
    """
    return {name: _Made(observed, part, GROUPS[name]).pixels() for name in observed.pixels}


def frame_rows(place_id: str, observed: Observed, part: Series) -> list[dict[str, Any]]:
    """Rows of ``CubeFrame``: what each frame was made from and how much of it is valid, clouded, covered by snow.

    Cloud and snow of a single date are those of its row in the patch table. A median has no cloud, and snow where most of
    the clear dates have; a best pixel has those of the scene classification of the dates that were taken.
    """
    valid = valid_frames(observed, part)
    rows = []
    for sensor in observed.slots:
        groups = [name for name in valid if GROUPS[name].sensor == sensor]
        for index, (slot, dates) in enumerate(observed.parts(sensor)):
            cloud, snow = _sky(observed, part, slot, dates) if sensor == SENTINEL2.name else (None, None)
            rows.append(
                {
                    "place_id": place_id,
                    "sensor": sensor,
                    "frame": index,
                    "time": slot.time,
                    "products": list(dict.fromkeys(each.product for each in slot.seen)),
                    "nodata_fraction": max(1 - float(valid[name][index].mean()) for name in groups),
                    "cloud_fraction": cloud,
                    "snow_fraction": snow,
                }
            )
    return rows


class _Made:
    """The frames of one group; what pixels and masks share is worked out here."""

    def __init__(self, observed: Observed, part: Series, group: Group) -> None:
        self.observed, self.part, self.group = observed, part, group
        self.read = observed.pixels[group.name]
        self.holds = valid_pixels(self.read, group.nodata)
        self.scl = scl_at(observed.scl, group.gsd_m) if group.sensor == SENTINEL2.name and observed.scl is not None else None
        self.clear = self.holds if self.scl is None else self.holds & ~clouded_pixels(self.scl)

    def valid(self) -> np.ndarray:
        if self.part.composite == "none":
            return self.clear if self.part.mask_clouds else self.holds
        if self._by_median:
            return np.stack([self.clear[dates].any(axis=0) for _, dates in self._parts()])
        used = self.clear if self.part.mask_clouds else self.holds
        return np.stack([taken_from(used[dates], self._taken(slot, dates)) for slot, dates in self._parts()])

    def pixels(self) -> np.ndarray:
        if self.part.composite == "none":
            return self.read
        if self._by_median:
            return np.stack([median_pixels(self.read[dates], self.clear[dates], self.group.nodata) for _, dates in self._parts()])
        frames = []
        for slot, dates in self._parts():
            taken = self._taken(slot, dates)
            best, holds = taken_from(self.read[dates], taken), taken_from(self.holds[dates], taken)
            frames.append(np.where(holds, best, self.read.dtype.type(self.group.nodata)))
        return np.stack(frames)

    @property
    def _by_median(self) -> bool:
        return self.part.composite == "median" or self.scl is None

    def _parts(self) -> Iterator[tuple[Slot, slice]]:
        return self.observed.parts(self.group.sensor)

    def _taken(self, slot: Slot, dates: slice) -> np.ndarray:
        return _best(self.holds[dates], self.scl[dates], slot)  # type: ignore[index]  # without classes there is no best pixel


def _best(holds: np.ndarray, scl: np.ndarray, slot: Slot) -> np.ndarray:
    middle = slot.period.middle if slot.period is not None else slot.time
    return best_dates(holds, scl, np.array([abs(each.time - middle) / timedelta(seconds=1) for each in slot.seen]))


def _sky(observed: Observed, part: Series, slot: Slot, dates: slice) -> tuple[float, float]:
    """Share of cloud with shadow, and of snow, of one frame of Sentinel-2."""
    if part.composite == "none" or observed.scl is None:
        return slot.seen[0].cloud, slot.seen[0].snow
    scl = observed.scl[dates]
    holds = valid_pixels(observed.pixels[_CLASSES_OF][dates], GROUPS[_CLASSES_OF].nodata)
    if part.composite == "best":
        classes = taken_from(scl, _best(holds, scl, slot))
        return float(clouded_pixels(classes).mean()), float(np.isin(classes, SCL_SNOW).mean())
    clear = holds & ~clouded_pixels(scl)
    snowy = (np.isin(scl, SCL_SNOW) & clear).sum(axis=0)
    return 0.0, float((2 * snowy > clear.sum(axis=0)).mean())
