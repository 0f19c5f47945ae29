"""What leaves a build for other programs and for people: tables as Parquet, and a report to look at."""

from rsdata.catalog.geoparquet import (
    published_columns,
    read_patch_ids,
    read_patches,
    read_split_info,
    read_table,
    write_patch_ids,
    write_patches,
    write_published,
    write_rows,
)
from rsdata.catalog.portions import RowsWriter, read_portions, records_as_arrow, writing_rows
from rsdata.catalog.report import Sample, ShardFacts, StageTime, choose_samples, write_report
from rsdata.catalog.series import SeriesFrame, SeriesSummary

__all__ = [
    "RowsWriter",
    "Sample",
    "SeriesFrame",
    "SeriesSummary",
    "ShardFacts",
    "StageTime",
    "choose_samples",
    "published_columns",
    "read_patch_ids",
    "read_patches",
    "read_portions",
    "read_split_info",
    "read_table",
    "records_as_arrow",
    "write_patch_ids",
    "write_patches",
    "write_published",
    "write_report",
    "write_rows",
    "writing_rows",
]
