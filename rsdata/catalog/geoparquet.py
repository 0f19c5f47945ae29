"""Tables on disk: Parquet with the columns of a record, and GeoParquet 1.1 where rows have a footprint.

The columns come from ``records.arrow_schema`` and the writer's options are fixed here, so the same rows give
the same bytes. In memory a missing text is None, a list is a list and a map is a dict, whatever wrote the file.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely
from pydantic import BaseModel, ValidationError

from rsdata.errors import CatalogError
from rsdata.foreign import PARQUET_ERRORS, load_json, open_parquet
from rsdata.records import PUBLISHED_COLUMNS, PatchId, PatchRow, Record, SplitInfo, arrow_schema, s1_patch_id, s1_scene_id

GEOPARQUET_VERSION = "1.1.0"
GEOMETRY, BBOX = "geometry", "bbox"
SPLIT_KEY = "rsdata:split"  # of the file's metadata: a SplitInfo as JSON
ROWS_PER_GROUP = 8_192  # about one tile; box filters skip whole groups
FOOTPRINT_CRS = pyproj.CRS.from_epsg(4326)  # coordinates are stored as (longitude, latitude), as GeoParquet asks

# Types of the metadata published with BigEarthNet v2; each of its columns may be null.
_PUBLISHED_TYPES = {
    "labels": pa.list_(pa.string()),
    "contains_seasonal_snow": pa.bool_(),
    "contains_cloud_or_shadow": pa.bool_(),
}
PUBLISHED_SCHEMA = pa.schema([pa.field(name, _PUBLISHED_TYPES.get(name, pa.string())) for name in PUBLISHED_COLUMNS])


# --- writing ----------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: pd.DataFrame, model: type[Record]) -> None:
    """Write a table with exactly the columns of ``model``, in the order of its fields; rows keep their order.

    Raises: CatalogError if a column is missing, unknown, of another type, or empty where a value is required.
    """
    write_table(path, rows_as_arrow(rows, model))


def rows_as_arrow(rows: pd.DataFrame, model: type[Record]) -> pa.Table:
    """A table with exactly the columns of ``model``; raises as ``write_rows``."""
    schema = arrow_schema(model)
    _check_columns(rows.columns, schema.names, model)
    return pa.Table.from_arrays([_arrow_column(rows, field, model) for field in schema], schema=schema)


def write_patches(path: Path, patches: gpd.GeoDataFrame, split: SplitInfo | None = None) -> None:
    """Write the patch table as GeoParquet 1.1: footprints as WKB, their boxes beside them for fast filters.

    Args:
        patches: the columns of ``PatchRow`` and ``geometry``, polygons in EPSG:4326. ``bbox`` may be left out; it
            is always computed from the footprints.
        split: how the patches were divided; written into the file's metadata.

    Raises: CatalogError if a column is missing, unknown or of another type, if a value is missing where one is
        required, if two rows share a patch id, or if a footprint is not a polygon in EPSG:4326.
    """
    schema = arrow_schema(PatchRow)
    _check_columns([name for name in patches.columns if name != BBOX], [*_without(schema.names, BBOX), GEOMETRY], PatchRow)
    if patches["patch_id"].duplicated().any():
        patch_id = patches["patch_id"][patches["patch_id"].duplicated()].iloc[0]
        raise CatalogError(f"the patch table names {patch_id} more than once; expected one row per patch", patch_id=patch_id)
    footprints = _footprints(patches)
    columns = {field.name: _arrow_column(patches, field, PatchRow) for field in schema if field.name != BBOX}
    columns[GEOMETRY] = pa.array(shapely.to_wkb(footprints, byte_order=1), type=pa.binary())
    columns[BBOX] = boxes(footprints, schema.field(BBOX).type)
    fields = [*(schema.field(name) for name in _without(schema.names, BBOX)), pa.field(GEOMETRY, pa.binary(), False), schema.field(BBOX)]
    table = pa.Table.from_arrays([columns[field.name] for field in fields], schema=pa.schema(fields))
    write_table(path, table, {"geo": json.dumps(geo_metadata(footprints)), **_split_metadata(split)})


def published_columns(patches: pd.DataFrame) -> pd.DataFrame:
    """The kept patches with the eight columns of the metadata published with BigEarthNet v2.

    ``s1_name`` is the patch's Sentinel-1 twin, none where it has no Sentinel-1 product. ``s2v1_name`` is the
    patch's name in BigEarthNet v1; patches cut since have none, so the column is empty.
    """
    kept = patches[patches["kept"].astype(bool)]
    twins = [
        None if pd.isna(product) else s1_patch_id(s1_scene_id(product), PatchId.parse(patch_id))
        for patch_id, product in zip(kept["patch_id"], kept["s1_product"], strict=True)
    ]
    columns: dict[str, Any] = {name: kept[name].to_list() for name in PUBLISHED_COLUMNS if name in kept.columns}
    columns |= {"s1_name": twins, "s2v1_name": [None] * len(kept)}
    table = pa.Table.from_arrays([_arrow_column(columns, field, PatchRow) for field in PUBLISHED_SCHEMA], schema=PUBLISHED_SCHEMA)
    return _frame(table)


def write_published(path: Path, patches: pd.DataFrame) -> None:
    """Write ``published_columns`` of a patch table as Parquet."""
    rows = published_columns(patches)
    write_table(path, pa.Table.from_arrays([_arrow_column(rows, field, PatchRow) for field in PUBLISHED_SCHEMA], schema=PUBLISHED_SCHEMA))


def write_patch_ids(path: Path, table: pd.DataFrame, split: SplitInfo | None = None) -> None:
    """Write a table that ``read_patch_ids`` read, with whatever columns it has now; dicts of numbers stay maps.

    A whole patch table becomes GeoParquet as ``write_patches`` makes it, another table with footprints GeoParquet
    as geopandas makes it, and any other plain Parquet. ``split`` says in the file's metadata how it was divided.

    Raises: CatalogError if a column holds values that have no common type.
    """
    if isinstance(table, gpd.GeoDataFrame):
        if set(table.columns) - {BBOX} == {*PatchRow.model_fields, GEOMETRY} - {BBOX}:
            write_patches(path, table, split)
        else:
            table.to_parquet(path, index=False, compression="zstd", schema_version=GEOPARQUET_VERSION)
            written = _read(path)
            metadata = {**(written.schema.metadata or {}), **_split_metadata(split)}
            pq.write_table(written.replace_schema_metadata(metadata), path, compression="zstd")
        return
    fields = {}
    for name in table.columns:
        known = next((value for value in table[name] if not _missing(value)), None)
        try:
            if isinstance(known, dict):
                fields[name] = pa.array(_plain(table[name], pa.map_(pa.string(), pa.float64())), pa.map_(pa.string(), pa.float64()))
            else:
                fields[name] = pa.array(table[name], from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise CatalogError(f"column `{name}` cannot be written: {' '.join(str(error).split())}", column=name) from error
    write_table(path, pa.table(fields), _split_metadata(split))


# --- reading ----------------------------------------------------------------------------------------------


def read_table(path: Path, model: type[Record], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table that ``write_rows`` wrote: texts as str or None, lists as list, maps and structs as dict.

    Args: columns: the only ones to read; all if absent.
    Raises: CatalogError if the file is not Parquet or does not have the columns of ``model``.
    """
    schema = arrow_schema(model)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    table = _read(path, columns)
    check_schema(path, table, schema, model)
    return _frame_of(path, table.select(schema.names))


def read_patches(path: Path) -> gpd.GeoDataFrame:
    """Read a patch table: the columns of ``PatchRow`` but ``bbox``, then the footprints as ``geometry``, EPSG:4326.

    ``labels`` are lists, ``label_fractions`` dicts, ``datetime`` is UTC, and a missing text is None.

    Raises: CatalogError if the file is not Parquet or does not have these columns.
    """
    table, schema = _read(path), arrow_schema(PatchRow)
    if GEOMETRY not in table.column_names:
        raise CatalogError(f"{path} has no column `{GEOMETRY}`; expected the GeoParquet table of a build", path=str(path))
    check_schema(path, table, schema, PatchRow)
    frame = _frame_of(path, table.select(_without(schema.names, BBOX)))
    return gpd.GeoDataFrame(frame, geometry=_from_wkb(path, table.column(GEOMETRY)), crs=_crs(path, table, GEOMETRY) or FOOTPRINT_CRS)


def read_split_info(path: Path) -> SplitInfo | None:
    """How a table was divided, as the program that divided it wrote into the file; None if it does not say.

    Raises: CatalogError if the file is not Parquet, or says it in a way that cannot be read.
    """
    try:
        text = (pq.read_metadata(path).metadata or {}).get(SPLIT_KEY.encode())
    except FileNotFoundError as error:
        raise CatalogError(f"{path} does not exist; expected a Parquet table", path=str(path)) from error
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    try:
        return None if text is None else SplitInfo.model_validate_json(text)
    except ValidationError as error:
        raise CatalogError(f"{path} says how it was divided in a way of another version; divide it again", path=str(path)) from error


def read_patch_ids(path: Path) -> pd.DataFrame:
    """Read any Parquet table that has a ``patch_id`` column, with all its other columns.

    A GeoParquet file comes back as a GeoDataFrame without its covering box, any other as a DataFrame.

    Raises: CatalogError if the file is not Parquet, or ``patch_id`` is missing, not text or empty somewhere.
    """
    table = _read(path)
    if "patch_id" not in table.column_names:
        raise CatalogError(
            f"{path} has no column `patch_id`, only {_listed(table.column_names)}; name a table with one row per patch", path=str(path)
        )
    ids = table.schema.field("patch_id").type
    if not (pa.types.is_string(ids) or pa.types.is_large_string(ids)):
        raise CatalogError(f"{path}: `patch_id` is {ids}, expected text such as S2A_…_T33UUP_26_57", path=str(path))
    if nameless := table.column("patch_id").null_count:
        raise CatalogError(f"{path}: {nameless} rows have no `patch_id`; give each row its patch", path=str(path))
    geometry, covering = _geometry_columns(path, table)
    frame = _frame_of(path, table.select([name for name in table.column_names if name not in (geometry, covering)]))
    if geometry is None:
        return frame
    return gpd.GeoDataFrame(frame, geometry=_from_wkb(path, table.column(geometry)), crs=_crs(path, table, geometry))


# --- Arrow, one column at a time --------------------------------------------------------------------------


def _arrow_column(rows: pd.DataFrame | Mapping[str, Any], field: pa.Field, model: type[Record]) -> pa.Array:
    """One column as Arrow, of exactly the type its record gives it; ``rows`` is a table or a dict of columns."""
    values = rows[field.name]
    try:
        array = pa.array(_plain(values, field.type), type=field.type, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CatalogError(
            f"column `{field.name}` of {model.__name__} cannot be written as {field.type}: {reason}", column=field.name
        ) from error
    if array.null_count and not field.nullable:
        first = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        where = f"row {first}" if "patch_id" not in rows else f"patch {list(rows['patch_id'])[first]}"
        raise CatalogError(
            f"column `{field.name}` of {model.__name__} has no value in {array.null_count} rows, the first is {where}; "
            "it must not be empty",
            column=field.name,
            row=first,
        )
    return array


def _plain(values: Any, kind: pa.DataType) -> Any:
    """Values in a form Arrow turns into ``kind`` without a guess: maps as sorted pairs, records as dicts, times aware."""
    if pa.types.is_map(kind):
        return [None if _missing(value) else sorted(dict(value).items()) for value in values]
    if pa.types.is_list(kind):
        if stray := [value for value in values if not isinstance(value, (list, tuple, np.ndarray)) and not _missing(value)]:
            raise ValueError(f"{stray[0]!r} is not a list")
        return [_dumped(value) for value in values]
    if pa.types.is_struct(kind):
        return [_dumped(value) for value in values]
    if pa.types.is_timestamp(kind):
        times = pd.Series(values)
        if times.dtype == object or isinstance(times.dtype, pd.DatetimeTZDtype):
            if any(not _missing(time) and time.tzinfo is None for time in times):
                raise ValueError("a time without a time zone; expected UTC")
            return pd.to_datetime(times, utc=True).astype("datetime64[us, UTC]")
        raise ValueError(f"{times.dtype} has no time zone; expected UTC")
    return values


def _dumped(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_dumped(item) for item in value]
    return None if _missing(value) else value


def _missing(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def write_table(path: Path, table: pa.Table, metadata: dict[str, str] | None = None) -> None:
    with open_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        if metadata:
            writer.add_key_value_metadata(metadata)


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer with options that leave no room for difference; pandas metadata and times of writing are not stored."""
    return pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=9,
        data_page_version="1.0",
        use_dictionary=True,
        write_statistics=True,
        store_schema=False,
    )


def _split_metadata(split: SplitInfo | None) -> dict[str, str]:
    return {} if split is None else {SPLIT_KEY: split.model_dump_json()}


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        table = open_parquet(path).read(columns)  # not read_table, which would guess partitions from the path
        table.validate(full=True)  # texts in UTF-8, too
        return table
    except FileNotFoundError as error:
        raise CatalogError(f"{path} does not exist; expected a Parquet table", path=str(path)) from error
    except PARQUET_ERRORS as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CatalogError:
    reason = " ".join(str(error).split())
    return CatalogError(f"{path} cannot be read as Parquet ({reason}); write it again or name another file", path=str(path))


def _frame(table: pa.Table) -> pd.DataFrame:
    """A table in plain Python values: texts, lists and maps as objects with None for missing, the rest as pandas has it."""
    columns: dict[str, Any] = {}
    for field in table.schema:
        column, kind = table.column(field.name), field.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
            columns[field.name] = pd.Series(column.to_numpy(), dtype=object)
        elif pa.types.is_map(kind):
            columns[field.name] = pd.Series([None if pairs is None else dict(pairs) for pairs in column.to_pylist()], dtype=object)
        elif pa.types.is_nested(kind):
            columns[field.name] = pd.Series(column.to_pylist(), dtype=object)
        else:
            columns[field.name] = column.to_pandas()
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def _frame_of(path: Path, table: pa.Table) -> pd.DataFrame:
    """The same for a table that was read from a file, where texts may be none.

    Raises: CatalogError if so.
    """
    try:
        return _frame(table)
    except PARQUET_ERRORS as error:
        raise _unreadable(path, error) from error


# --- checks -----------------------------------------------------------------------------------------------


def _check_columns(found: Iterable[str], expected: list[str], model: type[Record]) -> None:
    names = [str(name) for name in found]
    findings = []
    if missing := [name for name in expected if name not in names]:
        findings.append(f"lacks {_listed(missing)}")
    if unknown := [name for name in names if name not in expected]:
        findings.append(f"has {_listed(unknown)} that nobody knows")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        findings.append(f"has {_listed(repeated)} more than once")
    if findings:
        raise CatalogError(
            f"the table {' and '.join(findings)}; a {model.__name__} table has exactly the columns {', '.join(expected)}",
            missing=missing,
            unknown=unknown,
        )


def check_schema(path: Path, table: pa.Table, schema: pa.Schema, model: type[Record]) -> None:
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise CatalogError(f"{path} lacks the columns {_listed(missing)} of a {model.__name__} table; build it again", path=str(path))
    for field in schema:
        found = table.schema.field(field.name).type
        if not found.equals(field.type) and not (pa.types.is_large_string(found) and pa.types.is_string(field.type)):
            raise CatalogError(f"{path}: column `{field.name}` is {found}, expected {field.type}; build it again", path=str(path))


def _footprints(patches: gpd.GeoDataFrame) -> np.ndarray:
    """Footprints as shapely polygons (n,), checked."""
    if not isinstance(patches, gpd.GeoDataFrame) or patches.crs is None or not patches.crs.equals(FOOTPRINT_CRS):
        crs = getattr(patches, "crs", None)
        found = "no stated reference system" if crs is None else crs.to_string()
        raise CatalogError(f"the footprints are in {found}; expected longitude and latitude, EPSG:4326", crs=found)
    footprints = np.asarray(patches[GEOMETRY].array, dtype=object)
    wrong = ~(shapely.get_type_id(footprints) == shapely.GeometryType.POLYGON) | shapely.is_empty(footprints)
    if wrong.any():
        patch_id = patches["patch_id"].iloc[int(np.flatnonzero(wrong)[0])]
        raise CatalogError(f"{int(wrong.sum())} patches have no polygon as footprint, the first is {patch_id}", patch_id=patch_id)
    return footprints


def _without(names: Iterable[str], *left_out: str) -> list[str]:
    return [name for name in names if name not in left_out]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# --- GeoParquet -------------------------------------------------------------------------------------------


def geo_metadata(footprints: np.ndarray) -> dict[str, Any]:
    """File metadata under the key ``geo``. Source: GeoParquet specification 1.1.0, "Metadata"."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"] if len(footprints) else [],
        "crs": FOOTPRINT_CRS.to_json_dict(),
        "edges": "planar",
        "covering": {"bbox": {edge: [BBOX, edge] for edge in ("xmin", "ymin", "xmax", "ymax")}},
    }
    if len(footprints):
        column["bbox"] = shapely.total_bounds(footprints).tolist()
    return {"version": GEOPARQUET_VERSION, "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


def boxes(footprints: np.ndarray, kind: pa.StructType) -> pa.StructArray:
    """Covering box of each footprint, degrees."""
    bounds = shapely.bounds(footprints).reshape(-1, 4)  # xmin, ymin, xmax, ymax
    edges = {"xmin": bounds[:, 0], "ymin": bounds[:, 1], "xmax": bounds[:, 2], "ymax": bounds[:, 3]}
    return pa.StructArray.from_arrays([pa.array(edges[field.name]) for field in kind], fields=list(kind))


def _geo(path: Path, table: pa.Table) -> dict[str, Any] | None:
    text = (table.schema.metadata or {}).get(b"geo")
    if text is None:
        return None
    try:
        geo = load_json(text)
        return geo if geo["primary_column"] in geo["columns"] and geo["primary_column"] in table.column_names else None
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{path} states GeoParquet metadata that cannot be read: {error}; write it again", path=str(path)) from error


def _geometry_columns(path: Path, table: pa.Table) -> tuple[str | None, str | None]:
    """Names of the primary geometry column and of its covering box, where the file has them."""
    geo = _geo(path, table)
    if geo is None or geo["columns"][geo["primary_column"]].get("encoding") != "WKB":
        return None, None
    covering = geo["columns"][geo["primary_column"]].get("covering", {}).get("bbox", {}).get("xmin", [None])[0]
    return geo["primary_column"], covering


def _crs(path: Path, table: pa.Table, geometry: str) -> pyproj.CRS | None:
    """Reference system of a geometry column; GeoParquet means OGC:CRS84 where none is named."""
    geo = _geo(path, table)
    if geo is None or geometry not in geo["columns"]:
        return None
    stated = geo["columns"][geometry].get("crs", "OGC:CRS84")
    return None if stated is None else pyproj.CRS.from_user_input(stated)


def _from_wkb(path: Path, column: pa.ChunkedArray) -> np.ndarray:
    try:
        return shapely.from_wkb(column.to_numpy())
    except (shapely.errors.GEOSException, TypeError) as error:
        raise CatalogError(f"{path} holds footprints that are not WKB: {error}; write it again", path=str(path)) from error
