"""Long tables, written and read a portion at a time: memory holds one row group, however many rows there are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rsdata.catalog.geoparquet import ROWS_PER_GROUP, check_schema, open_writer, rows_as_arrow
from rsdata.errors import CatalogError
from rsdata.foreign import PARQUET_ERRORS, open_parquet
from rsdata.records import Record, arrow_schema


class RowsWriter:
    """Rows of one record on their way to a file; the same rows give the same bytes, however they are divided."""

    def __init__(self, writer: pq.ParquetWriter, model: type[Record]) -> None:
        self._writer, self._model = writer, model
        self._waiting = arrow_schema(model).empty_table()
        self.rows = 0  # appended so far

    def append(self, rows: Sequence[Record] | pd.DataFrame | pa.Table) -> None:
        """Add rows behind those before.

        Args:
            rows: records, or a table with exactly the fields of the record as columns; one of Arrow also with their types.

        Raises: CatalogError as ``write_rows``.
        """
        if not len(rows):
            return
        if not isinstance(rows, pa.Table):
            rows = rows_as_arrow(rows, self._model) if isinstance(rows, pd.DataFrame) else records_as_arrow(rows, self._model)
        if not rows.schema.equals(self._waiting.schema):
            expected = ", ".join(f"{field.name} {field.type}" for field in self._waiting.schema)
            raise CatalogError(f"the rows are no {self._model.__name__} table, which has the columns {expected}")
        self.rows += len(rows)
        self._waiting = pa.concat_tables([self._waiting, rows])
        whole = len(self._waiting) // ROWS_PER_GROUP * ROWS_PER_GROUP
        if whole:
            self._write(self._waiting.slice(0, whole))
            self._waiting = self._waiting.slice(whole).combine_chunks()

    def finish(self) -> None:
        """Write what is left."""
        if len(self._waiting) or not self.rows:
            self._write(self._waiting)
        self._waiting = self._waiting.slice(0, 0)

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks(), row_group_size=ROWS_PER_GROUP)


def records_as_arrow(records: Sequence[Record], model: type[Record]) -> pa.Table:
    """Some records, one at least, as a table with exactly the columns of ``model``; raises as ``write_rows``."""
    return rows_as_arrow(pd.DataFrame([each.model_dump() for each in records]), model)


@contextmanager
def writing_rows(path: Path, model: type[Record]) -> Iterator[RowsWriter]:
    """Open a table to append rows to; it is whole once the block has been left without an error."""
    with open_writer(path, arrow_schema(model)) as writer:
        rows = RowsWriter(writer, model)
        yield rows
        rows.finish()


def read_portions(path: Path, model: type[Record]) -> Iterator[pa.Table]:
    """Read a long table a row group at a time.

    Raises: CatalogError as ``read_table``.
    """
    try:
        with open_parquet(path) as table:
            check_schema(path, table.schema_arrow.empty_table(), arrow_schema(model), model)
            for group in range(table.num_row_groups):
                yield table.read_row_group(group, columns=arrow_schema(model).names)
    except FileNotFoundError as error:
        raise CatalogError(f"{path} does not exist; expected a Parquet table", path=str(path)) from error
    except PARQUET_ERRORS as error:
        reason = " ".join(str(error).split())
        raise CatalogError(f"{path} cannot be read as Parquet ({reason}); write it again", path=str(path)) from error
