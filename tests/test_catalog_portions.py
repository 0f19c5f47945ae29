"""Tables written a portion at a time are those written at once."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rsdata.catalog import geoparquet, portions
from rsdata.catalog.portions import writing_rows
from rsdata.errors import CatalogError
from rsdata.records import Failure

ROWS = [Failure(stage="labels", unit=f"unit {number}", error="E" * (number % 7), message="m" * (number % 11)) for number in range(1000)]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(portions, "ROWS_PER_GROUP", 128)
    monkeypatch.setattr(geoparquet, "ROWS_PER_GROUP", 128)


def written(path, cuts):
    """All rows in portions that end at ``cuts``."""
    with writing_rows(path, Failure) as rows:
        for first, last in zip((0, *cuts), (*cuts, len(ROWS)), strict=True):
            rows.append(ROWS[first:last])
    assert rows.rows == len(ROWS)
    return path.read_bytes()


@pytest.mark.parametrize("cuts", [(), (1,), (128, 256), (127, 129, 130, 900), (500, 500), tuple(range(10, 1000, 10))])
def test_the_same_rows_give_the_same_bytes_however_they_are_divided(tmp_path, cuts):
    geoparquet.write_rows(tmp_path / "whole.parquet", pd.DataFrame([row.model_dump() for row in ROWS]), Failure)
    assert written(tmp_path / "t.parquet", cuts) == (tmp_path / "whole.parquet").read_bytes()
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 8


def test_no_more_than_one_group_waits(tmp_path):
    with writing_rows(tmp_path / "t.parquet", Failure) as rows:
        for row in ROWS:
            rows.append([row])
            assert len(rows._waiting) < 128
            assert rows._waiting.nbytes < 20_000  # what was written is let go of


def test_rows_may_come_as_records_as_a_frame_or_as_arrow(tmp_path):
    frame = pd.DataFrame([row.model_dump() for row in ROWS[:3]])
    for number, rows_as in enumerate((ROWS[:3], frame, geoparquet.rows_as_arrow(frame, Failure))):
        with writing_rows(tmp_path / f"{number}.parquet", Failure) as rows:
            rows.append(rows_as)
    assert len({(tmp_path / f"{number}.parquet").read_bytes() for number in range(3)}) == 1


def test_no_rows_give_an_empty_table(tmp_path):
    with writing_rows(tmp_path / "t.parquet", Failure) as rows:
        rows.append([])
    assert geoparquet.read_table(tmp_path / "t.parquet", Failure).empty


def test_one_column_can_be_read_alone(tmp_path):
    written(tmp_path / "t.parquet", ())
    table = geoparquet.read_table(tmp_path / "t.parquet", Failure, ["unit"])
    assert list(table) == ["unit"]
    assert table["unit"].tolist() == [row.unit for row in ROWS]


def test_arrow_of_another_shape_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="Failure"), writing_rows(tmp_path / "t.parquet", Failure) as rows:
        rows.append(pa.table({"unit": ["a"]}))
