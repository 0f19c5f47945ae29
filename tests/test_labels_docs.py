"""The page on labels adds a source: its code, taken from the page, passes the family's suite."""

import re
from pathlib import Path

import pytest
import suites

from rsdata import labels

PAGE = Path(__file__).parents[1] / "docs" / "labels.md"
SHOWN: dict[str, object] = {}
EXAMPLE, TEST = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
exec(compile(EXAMPLE, str(PAGE), "exec"), SHOWN)
exec(compile(TEST, str(PAGE), "exec"), {"__name__": __name__, **vars(suites)}, SHOWN)
TestDynamicWorld = SHOWN["TestDynamicWorld"]


@pytest.fixture(autouse=True)
def _under_its_name(monkeypatch):
    monkeypatch.setitem(labels.SOURCES, "dynamic-world", SHOWN["DynamicWorld"]())


def test_the_page_lists_every_source_and_nomenclature():
    page = PAGE.read_text(encoding="utf-8")
    for name in (*labels.SOURCES.keys() - {"dynamic-world"}, *labels.NOMENCLATURES):
        assert f"`{name}`" in page, name


def test_the_table_on_the_page_is_read_as_it_stands(tmp_path):
    (table,) = re.findall(r"```csv\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "landuse.csv").write_text(table)
    read = labels.load_nomenclature(tmp_path / "landuse.csv")
    assert [each.name for each in read.classes] == ["Forest", "Farmland", "Built-up"]
    assert read.code_of_value["wood"] == 1
    assert read.unlabeled_codes == [9, 999]
