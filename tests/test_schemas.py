"""``schemas/`` holds the JSON Schema of every record, as the records are now."""

import json
from pathlib import Path

import pytest

from rsdata.records import RECORDS

SCHEMAS = Path(__file__).parents[1] / "schemas"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_the_schema_on_disk_is_that_of_the_record(record):
    path = SCHEMAS / f"{record.__name__}.schema.json"
    assert path.is_file(), f"{path.name} is missing; run `make schemas`"
    on_disk = json.loads(path.read_text(encoding="utf-8"))
    assert on_disk == record.model_json_schema(), f"{path.name} differs from rsdata.records.{record.__name__}; run `make schemas`"


def test_no_schema_outlives_its_record():
    known = {f"{record.__name__}.schema.json" for record in RECORDS}
    assert {path.name for path in SCHEMAS.glob("*.json")} <= known, "schemas/ holds files of no record; remove them and run `make schemas`"
