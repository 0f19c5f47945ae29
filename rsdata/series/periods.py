"""Spans of time that composites are made over: months, seasons, or so many days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, order=True)
class Period:
    """From its start up to, but without, its end; UTC."""

    start: datetime
    end: datetime

    @property
    def middle(self) -> datetime:
        return self.start + (self.end - self.start) / 2


def period_of(time: datetime, length: str) -> Period:
    """The period a time lies in.

    Seasons are meteorological: December belongs to the winter of the year that follows. Periods of days are counted from
    1 January of each year, as those of MODIS are, so the last of a year may be shorter.

    Args:
        length: month, season, or such as ``16 days``; the recipe has checked it.
    """
    year, month = time.year, time.month
    if length == "month":
        return Period(_first(year, month), _first(year, month + 1))
    if length == "season":
        since = month % 3  # months since the season's first
        return Period(_first(year, month - since), _first(year, month - since + 3))
    days, new_year = int(length.split()[0]), _first(year, 1)
    start = new_year + timedelta(days=(time - new_year).days // days * days)
    return Period(start, min(start + timedelta(days=days), _first(year + 1, 1)))


def by_period(times: Sequence[datetime], length: str) -> dict[Period, list[int]]:
    """Positions of the times in each period, periods in order; one without any is not there."""
    found: dict[Period, list[int]] = {}
    for index, time in enumerate(times):
        found.setdefault(period_of(time, length), []).append(index)
    return dict(sorted(found.items()))


def _first(year: int, month: int) -> datetime:
    """First instant of a month; months before the first and after the last are those of the years beside."""
    return datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)
