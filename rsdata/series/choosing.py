"""Which dates of a place enter its series, decided by what the patch table says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Literal, TypeVar, get_args

import numpy as np

from rsdata.recipe import Series, SeriesFilters, SeriesPair
from rsdata.series.periods import Period, by_period

LeftOutReason = Literal["no_split", "several_splits", "few_frames", "no_pair"]
LEFT_OUT_REASONS: tuple[LeftOutReason, ...] = get_args(LeftOutReason)  # why a place has no series
AnyItem = TypeVar("AnyItem")


@dataclass(frozen=True)
class Seen:
    """One acquisition of one sensor over one place."""

    patch_id: str  # of the Sentinel-2 patch its pixels lie with
    product: str
    time: datetime  # of acquisition, UTC
    nodata: float = 0.0  # shares of the patch
    cloud: float = 0.0  # with cloud shadow
    snow: float = 0.0


@dataclass(frozen=True)
class Slot:
    """What becomes one frame of a series: a single date, or the dates of a period in their order."""

    seen: tuple[Seen, ...]
    period: Period | None = None

    @property
    def time(self) -> datetime:
        """Mean time of its dates, to the microsecond."""
        first = self.seen[0].time
        return first + sum((each.time - first for each in self.seen), start=first - first) / len(self.seen)


@dataclass(frozen=True)
class Choice:
    """The frames of each sensor in the order of time; or why a place has none."""

    slots: Mapping[str, list[Slot]]
    left_out: LeftOutReason | None = None


def choose_frames(seen: Mapping[str, Sequence[Seen]], part: Series) -> Choice:
    """Choose the dates of one place.

    Sentinel-2 must pass the filters. Sentinel-1 sees through clouds, so all its dates may enter. The least and most
    frames are about single dates, or about periods if composites are made.

    Args:
        seen: sensor to its acquisitions, in any order.

    Returns: the frames of each sensor asked for, or why the place is left out.
    """
    chosen: dict[str, list[Slot]] = {}
    for sensor in part.sensors:
        frames = one_per_time(seen.get(sensor, ()))
        if sensor == "s2":
            frames = [each for each in frames if _passes(each, part.filters)]
        if part.pair is not None:
            pair = _pair(frames, part.pair)
            if pair is None:
                return Choice({}, "no_pair")
            chosen[sensor] = [Slot((each,)) for each in pair]
            continue
        if part.composite == "none":
            slots = [Slot((each,)) for each in frames]
        else:
            groups = by_period([each.time for each in frames], part.period)
            slots = [Slot(tuple(frames[index] for index in members), period) for period, members in groups.items()]
        if len(slots) < part.min_frames:
            return Choice({}, "few_frames")
        clearest = sensor == "s2" and part.composite == "none"
        chosen[sensor] = _clearest(slots, part.max_frames) if clearest else _spread(slots, part.max_frames)
    return Choice(chosen)


def one_per_time(frames: Sequence[Seen]) -> list[Seen]:
    """Acquisitions in the order of time, each once: of two processings the one whose name comes last, so that of the newer baseline."""
    last = {each.time: each for each in sorted(frames, key=lambda each: (each.time, each.product, each.patch_id))}
    return list(last.values())


def _passes(frame: Seen, filters: SeriesFilters) -> bool:
    return frame.cloud <= filters.max_cloud and frame.snow <= filters.max_snow and frame.nodata <= filters.max_nodata


def _clearest(slots: Sequence[Slot], most: int | None) -> list[Slot]:
    """At most so many single dates, those with the least cloud, of equally clear ones the earlier; in the order of time."""
    least_cloud = sorted(range(len(slots)), key=lambda index: (slots[index].seen[0].cloud, index))[:most]
    return [slots[index] for index in sorted(least_cloud)]


def _spread(items: Sequence[AnyItem], most: int | None) -> list[AnyItem]:
    """At most so many, spread evenly over their order; of one, the first."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _pair(frames: Sequence[Seen], pair: SeriesPair) -> list[Seen] | None:
    """The two frames nearest to noon UTC of the dates, of equally near ones the earlier; None if there are no two."""

    def nearest(wanted: datetime) -> Seen | None:
        found = min(frames, key=lambda each: (abs(each.time - wanted), each.time))
        return found if abs(found.time - wanted).total_seconds() <= pair.max_days_off * 86_400 else None

    if len(frames) < 2:
        return None
    before = frames[0] if pair.before is None else nearest(datetime.combine(pair.before, time(12), UTC))
    after = frames[-1] if pair.after is None else nearest(datetime.combine(pair.after, time(12), UTC))
    return [before, after] if before is not None and after is not None and before.time < after.time else None
