"""Bounds on what others wrote, the same for every room: YAML, JSON, Parquet, rasters, names of files, and variables of the environment.

Each function that parses raises what its parser raises, so that a room says in its own words what the file should have been.
"""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rasterio.errors import RasterioError

MAX_YAML_BYTES = 4 * 2**20
MAX_YAML_NODES = 100_000  # aliases followed: nine lines of them can stand for a billion
MAX_JSON_BYTES = 2**30
RASTER_ERRORS = (RasterioError, UnicodeDecodeError)  # of rasterio; the last where what GDAL has to say of a file is no text
PARQUET_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)  # of ``open_parquet``, and of reading what it opened
# Every table here has a text of its own in each row, so rows take space; a file that claims more holds one value over and over.
_FREE_ROWS, _ROWS_PER_BYTE = 1_000_000, 16


def drop_empty_variables(*prefixes: str) -> None:
    """Unset variables of the environment that are set to nothing, as CI and compose files do: obstore and GDAL take that for a value."""
    for name in [name for name, value in os.environ.items() if not value and name.startswith(prefixes)]:
        del os.environ[name]


def is_there(path: str | Path) -> bool:
    """Whether there is a file or folder of this name; False too for a name that none can have, where ``Path.exists`` raises."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | Path) -> bool:
    """Whether there is a file of this name; False too for a name that none can have."""
    return os.path.isfile(path)  # noqa: PTH113


def load_yaml(text: bytes | str) -> Any:
    """One YAML document in plain values; no tag makes anything else.

    Raises: yaml.YAMLError if it is none, too large, nested too deeply, or holds values that are none, such as the 30th of February.
    """
    if len(text) > MAX_YAML_BYTES:
        raise yaml.YAMLError(f"{len(text):,} bytes; expected at most {MAX_YAML_BYTES:,}")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if (nodes := _expanded(node, {})) > MAX_YAML_NODES:
            raise yaml.YAMLError(f"its aliases stand for {nodes:,} values; expected at most {MAX_YAML_NODES:,}")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply, or an alias that holds itself") from None
    except (ValueError, OverflowError) as error:
        raise yaml.YAMLError(f"a value that is none ({error})") from error
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes a node stands for if each alias is written out."""
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[id(node)] = 1 + sum(_expanded(part, known) for part in parts)
    return known[id(node)]


def load_json(text: bytes | str) -> Any:
    """One JSON document. Raises: ValueError if it is none, too large or nested too deeply."""
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"{len(text):,} bytes; expected at most {MAX_JSON_BYTES:,}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def open_parquet(path: Path | str) -> pq.ParquetFile:
    """A Parquet file whose rows are not read yet.

    Raises: one of ``PARQUET_ERRORS`` if it is none, claims more rows than its bytes can hold, or the system refuses.
    """
    size = Path(path).stat().st_size
    try:
        file = pq.ParquetFile(path)
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"its names are not in UTF-8 ({error.reason})") from None
    rows, most = file.metadata.num_rows, _FREE_ROWS + _ROWS_PER_BYTE * size
    if not 0 <= rows <= most:
        file.close()
        raise pa.ArrowInvalid(f"claims {rows:,} rows in {size:,} bytes; expected at most {most:,}")
    return file
