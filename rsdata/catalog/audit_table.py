"""Reading a table for an audit: only what an audit looks at, from any Parquet file, with patch ids or footprints."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyarrow as pa

from rsdata.catalog.geoparquet import GEOMETRY, _crs, _from_wkb, _geometry_columns, _unreadable
from rsdata.errors import CatalogError
from rsdata.foreign import PARQUET_ERRORS, open_parquet

COLUMNS = ("patch_id", "split", "labels", "country", "season", "datetime", "epsg", "ul_x_m", "ul_y_m", "side_m", "col", "row")


def read_for_audit(path: Path) -> pd.DataFrame:
    """Read the columns that an audit knows; a table may lack any of them.

    Returns: a GeoDataFrame where the file is GeoParquet, else a DataFrame, whose ``geometry`` is WKB if it has one.
        ``labels`` stay an Arrow column.
    Raises: CatalogError if the file cannot be read as Parquet, or an id is missing or no text.
    """
    try:
        file = open_parquet(path)
        bare = file.schema_arrow.empty_table()
        geometry, _ = _geometry_columns(path, bare)
        wanted = [name for name in (*COLUMNS, geometry or GEOMETRY) if name in bare.column_names]
        table = file.read(columns=wanted).replace_schema_metadata(bare.schema.metadata)
        columns = {name: _column(table, name) for name in wanted if name != geometry}
    except FileNotFoundError as error:
        raise CatalogError(f"{path} does not exist; expected a Parquet table", path=str(path)) from error
    except PARQUET_ERRORS as error:
        raise _unreadable(path, error) from error
    if "patch_id" in wanted:
        ids = table.schema.field("patch_id").type
        if not (pa.types.is_string(ids) or pa.types.is_large_string(ids)):
            raise CatalogError(f"{path}: `patch_id` is {ids}, expected text such as S2A_…_T33UUP_26_57", path=str(path))
        if nameless := table.column("patch_id").null_count:
            raise CatalogError(f"{path}: {nameless} rows have no `patch_id`; give each row its patch", path=str(path))
    frame = pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))
    if geometry is None:
        return frame
    return gpd.GeoDataFrame(frame, geometry=_from_wkb(path, table.column(geometry)), crs=_crs(path, table, geometry))


def _column(table: pa.Table, name: str) -> pd.Series:
    column = table.column(name)
    if pa.types.is_nested(column.type):
        return pd.Series(column, dtype=pd.ArrowDtype(column.type))
    return column.to_pandas()
