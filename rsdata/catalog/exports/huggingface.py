"""A folder that ``datasets.load_dataset`` reads: Parquet files for each split, and the dataset card as ``README.md``.

Pixels are columns of the type ``Array3D`` (band, y, x), one for each resolution of each sensor; classes are ``ClassLabel``. These types
stand in the head of the card, so the library gives arrays back, and any other reader of Parquet sees lists of numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rsdata.catalog.exports.card import write_card
from rsdata.catalog.exports.side_by_side import side_by_side
from rsdata.catalog.exports.source import Advance, Source
from rsdata.catalog.exports.stacks import Sample, Stack, pixels_of, samples_of, stacks_of

ROWS_PER_FILE = 1_000  # about 300 MB of pixels, before compression
_ROWS_PER_GROUP = 50
_PLAIN: dict[str, tuple[str, pa.DataType]] = {  # column to its type in either language
    "patch_id": ("string", pa.string()),
    "s1_name": ("string", pa.string()),
    "country": ("string", pa.string()),
    "season": ("string", pa.string()),
    "datetime": ("timestamp[us, tz=UTC]", pa.timestamp("us", tz="UTC")),
    "epsg": ("int32", pa.int32()),
    "ul_x_m": ("int64", pa.int64()),
    "ul_y_m": ("int64", pa.int64()),
}
_NUMBERS = {"uint8": pa.uint8(), "uint16": pa.uint16(), "int16": pa.int16(), "int32": pa.int32(), "float32": pa.float32()}


class HuggingFace:
    """See the module."""

    summary = "Hugging Face: Parquet with arrays for each split, and the card"

    def write(self, source: Source, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
        stacks = stacks_of(source.manifest)
        by_split = samples_of(source)
        schema = _schema(stacks)
        (folder / "data").mkdir()
        jobs = []
        for split, samples in by_split.items():
            files = -(-len(samples) // ROWS_PER_FILE)
            jobs += [
                (f"data/{split}-{number:05d}-of-{files:05d}.parquet", samples[number * ROWS_PER_FILE : (number + 1) * ROWS_PER_FILE])
                for number in range(files)
            ]

        def write_file(job: tuple[str, list[Sample]]) -> int:
            name, samples = job
            options = {"compression": "zstd", "use_dictionary": [*_PLAIN], "write_statistics": [*_PLAIN], "version": "2.6"}
            with pq.ParquetWriter(folder / name, schema, **options) as writer:
                for first in range(0, len(samples), _ROWS_PER_GROUP):
                    writer.write_table(_rows(source, samples[first : first + _ROWS_PER_GROUP], stacks, schema))
            return len(samples)

        for count in side_by_side(write_file, jobs, workers):
            advance(count)
        data_files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in by_split]
        head = {
            "configs": [{"config_name": "default", "data_files": data_files}],
            "dataset_info": {
                "features": _features([each.name for each in source.manifest.labels], stacks),
                "splits": [{"name": split, "num_examples": len(samples)} for split, samples in by_split.items()],
            },
        }
        write_card(folder / "README.md", source, head)
        return {"rows": sum(map(len, by_split.values())), "files": len(jobs)}


def _features(classes: Sequence[str], stacks: Sequence[Stack]) -> list[dict[str, Any]]:
    """Columns as ``dataset_info`` of a card states them."""
    plain = [{"name": name, "dtype": said} for name, (said, _) in _PLAIN.items()]
    labels = {"name": "labels", "list": {"class_label": {"names": {str(number): name for number, name in enumerate(classes)}}}}
    arrays = [
        {"name": stack.name, "dtype": {"array3_d": {"shape": [len(stack.bands), *stack.shape], "dtype": stack.dtype}}} for stack in stacks
    ]
    return [*plain, labels, *arrays]


def _schema(stacks: Sequence[Stack]) -> pa.Schema:
    fields = [pa.field(name, kind) for name, (_, kind) in _PLAIN.items()] + [pa.field("labels", pa.list_(pa.int64()))]
    fields += [pa.field(stack.name, pa.list_(pa.list_(pa.list_(_NUMBERS[stack.dtype])))) for stack in stacks]
    return pa.schema(fields)


def _rows(source: Source, samples: Sequence[Sample], stacks: Sequence[Stack], schema: pa.Schema) -> pa.Table:
    columns: dict[str, Any] = {name: pa.array([sample.row[name] for sample in samples], kind) for name, (_, kind) in _PLAIN.items()}
    columns["labels"] = pa.array([sample.row["classes"] for sample in samples], pa.list_(pa.int64()))
    gathered: dict[str, list[np.ndarray | None]] = {stack.name: [] for stack in stacks}
    for sample in samples:
        for stack, values in pixels_of(source, sample, stacks):
            gathered[stack.name].append(values)
    columns |= {stack.name: _nested(gathered[stack.name], stack) for stack in stacks}
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _nested(rows: Sequence[np.ndarray | None], stack: Stack) -> pa.Array:
    """Arrays (band, y, x) as lists of lists of lists, a missing one as null."""
    there = [row for row in rows if row is not None]
    height, width = stack.shape
    numbers = pa.array(np.stack(there).ravel() if there else np.empty(0, stack.dtype), _NUMBERS[stack.dtype])
    lines = _cut(numbers, width)
    bands = _cut(lines, height)
    ends = np.cumsum([0, *(len(stack.bands) * (row is not None) for row in rows)]).astype(np.int32)
    missing = pa.array([row is None for row in rows])
    return pa.ListArray.from_arrays(pa.array(ends), bands, mask=missing)


def _cut(values: pa.Array, length: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, length, dtype=np.int32)), values)
