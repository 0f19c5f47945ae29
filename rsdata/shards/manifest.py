"""What lies beside a shard's pixels: the manifest that describes them, and the index of patches and their keys."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from rsdata.errors import ShardError
from rsdata.foreign import PARQUET_ERRORS, open_parquet
from rsdata.records import Artifact, Record, ShardIndexRow, ShardManifest, arrow_schema

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.parquet"
SERIES_FORMAT = "video"  # of a shard that holds time series and not patches


def artifact(folder: Path, name: str) -> Artifact:
    """Describe a finished file of a shard."""
    with (folder / name).open("rb") as stream:
        return Artifact(path=name, bytes=(folder / name).stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def file_findings(folder: Path, manifest: ShardManifest) -> list[str]:
    """One sentence for each file that is not as the manifest says."""
    findings = []
    for file in manifest.files:
        if not (folder / file.path).is_file():
            return [f"{file.path} is missing; the shard is incomplete"]
        found = artifact(folder, file.path)
        if found != file:
            findings.append(
                f"{file.path} has {found.bytes} bytes and digest {found.sha256[:9]}…; the manifest says {file.bytes} and {file.sha256[:9]}…"
            )
    return findings


def write_manifest(path: Path, manifest: ShardManifest) -> None:
    path.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> ShardManifest:
    """Raises: ShardError if the folder has no manifest, or one of another kind."""
    try:
        text = (folder / MANIFEST_FILE).read_bytes()
    except OSError as error:
        raise ShardError(f"{folder} has no {MANIFEST_FILE}; name a shard's folder, such as DIR/shards/lmdb", path=str(folder)) from error
    try:
        return ShardManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = f"`{place}` {first['msg']}"
        raise ShardError(f"{folder / MANIFEST_FILE} is not a shard's manifest: {said}; make the shard again", path=str(folder)) from error


def write_index(path: Path, index: pd.DataFrame) -> None:
    """Write rows of ``ShardIndexRow``, sorted by patch id."""
    write_rows(path, index.sort_values("patch_id"), ShardIndexRow)


def write_rows(path: Path, rows: pd.DataFrame, record: type[Record]) -> None:
    """Write a table with the columns of a record."""
    schema = arrow_schema(record)
    columns = [pa.array([_plain(v) for v in rows[field.name]], type=field.type, from_pandas=True) for field in schema]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, np.ndarray) else value


def read_index(folder: Path) -> pd.DataFrame:
    """Rows of ``ShardIndexRow`` by patch id. Raises: ShardError if they cannot be read."""
    return read_rows(folder / INDEX_FILE, ShardIndexRow)


def read_rows(path: Path, record: type[Record]) -> pd.DataFrame:
    """A table with the columns of a record; None stays None. Raises: ShardError if it cannot be read."""
    schema = arrow_schema(record)
    try:
        columns = open_parquet(path).read().select(schema.names).to_pydict()
    except (*PARQUET_ERRORS, KeyError) as error:
        raise ShardError(f"{path} cannot be read ({error}); make the shard again", path=str(path.parent)) from error
    # objects, so that None stays None
    nullable = {field.name for field in schema if field.nullable and not pa.types.is_floating(field.type)}
    return pd.DataFrame({name: pd.Series(values, dtype=object if name in nullable else None) for name, values in columns.items()})
