"""Seasons of patches: that of the calendar month, at both ends of each."""

from datetime import UTC, datetime, timedelta

import pytest

from rsdata.patches import season_of


@pytest.mark.parametrize(
    ("last_day", "season", "following"),
    [
        ("2017-02-28", "winter", "spring"),
        ("2020-02-29", "winter", "spring"),
        ("2017-05-31", "spring", "summer"),
        ("2017-08-31", "summer", "autumn"),
        ("2017-11-30", "autumn", "winter"),
        ("2017-12-31", "winter", "winter"),
    ],
)
def test_a_season_lasts_to_the_end_of_its_last_day(last_day, season, following):
    midnight = datetime.fromisoformat(last_day).replace(tzinfo=UTC) + timedelta(days=1)
    assert season_of(midnight - timedelta(days=1)) == season
    assert season_of(midnight - timedelta(microseconds=1)) == season
    assert season_of(midnight) == following


def test_every_month_has_the_season_of_the_meteorological_calendar():
    seasons = [season_of(datetime(2018, month, 15, tzinfo=UTC)) for month in range(1, 13)]
    assert seasons == ["winter"] * 2 + ["spring"] * 3 + ["summer"] * 3 + ["autumn"] * 3 + ["winter"]
