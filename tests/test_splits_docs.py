"""The strategy that the documentation adds passes the suite that all are held to."""

import re
from pathlib import Path

import pytest
from suites import SplitStrategyTests

from rsdata.splits import STRATEGIES

PAGE = Path(__file__).parents[1] / "docs" / "splits.md"
STRATEGY, SUITE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
_names: dict[str, object] = {"__name__": "north"}
exec(STRATEGY, _names)
_suite: dict[str, object] = {"__name__": __name__}
exec(SUITE, _suite)


class TestNorthOfTheDocumentation(_suite["TestNorth"]):  # type: ignore[name-defined, misc]
    @pytest.fixture(autouse=True)
    def named(self, monkeypatch):
        monkeypatch.setitem(STRATEGIES, "north", _names["North"])


def test_the_documentation_names_every_strategy_and_option():
    text = PAGE.read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip(" `"): row for row in text.splitlines() if row.startswith("| `")}
    assert set(rows) == set(STRATEGIES)
    for name, strategy in STRATEGIES.items():
        assert [option for option in strategy.model_fields if f"`{option}`" not in rows[name]] == []
    assert issubclass(TestNorthOfTheDocumentation, SplitStrategyTests)
