"""The audit of any table's splits: measure, hold against conditions, and leave JSON and a page."""

from collections.abc import Sequence
from pathlib import Path

from rsdata.catalog.audit_page import write_audit_page
from rsdata.catalog.audit_table import read_for_audit
from rsdata.catalog.geoparquet import read_split_info
from rsdata.records import SplitAudit
from rsdata.splits.audit import DISTANCES_M, examine
from rsdata.splits.audit_conditions import conditions_met, parse_conditions
from rsdata.workspace import write_record
from rsdata.writing import writing

AUDIT_FILE = "audit.json"
PAGE_FILE = "index.html"


def audit_table(
    table_path: Path, *, against: Path | None = None, distances_m: Sequence[float] = DISTANCES_M, out: Path | None = None
) -> SplitAudit:
    """Audit the split of any table that has patch ids or footprints and a column ``split``; rows without a split are left out.

    Args:
        table_path: Parquet or GeoParquet.
        against: another dataset's table, to find what the two share.
        distances_m: count patches this near.
        out: a folder for ``audit.json`` and the page ``index.html``, made if it is not there.
    """
    table = read_for_audit(table_path)
    other = None if against is None else read_for_audit(against)
    audit, where = examine(table, distances_m=distances_m, against=other, against_name="" if against is None else against.name)
    audit = audit.model_copy(update={"split": read_split_info(table_path)})
    if out is not None:
        write_record(out / AUDIT_FILE, audit)
        with writing(out / PAGE_FILE) as aside:
            write_audit_page(aside, audit, where, table_path.name)
    return audit


__all__ = ["audit_table", "conditions_met", "parse_conditions"]
