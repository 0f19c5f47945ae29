"""The eight columns of BigEarthNet.txt, whose ``type`` is what a row asks for and whose ``category`` is what about."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from rsdata.captions.exports.spelling import spelled_answer, spelled_question

BIGEARTHNET_TXT_SCHEMA = pa.schema(
    [
        pa.field("ID", pa.int64(), False),
        pa.field("s1_name", pa.string()),
        pa.field("patch_id", pa.string(), False),
        pa.field("input", pa.string(), False),
        pa.field("output", pa.string(), False),
        pa.field("type", pa.string(), False),
        pa.field("category", pa.string(), False),
        pa.field("split", pa.string()),
    ]
)
_TYPES = {
    "caption": "captioning",
    "binary": "binary",
    "multiple_choice": "mcq",
    "referring_phrase": "bounding box",
    "referring_point": "bounding box",
}
_CATEGORIES = {"relative_position": "relative position", "climate": "climate zone"}
_REGIONS = {"referring_phrase": "reference", "referring_point": "point"}


def bigearthnet_txt(rows: Iterable[Mapping[str, Any]], first_id: int = 0) -> pa.Table:
    """Rows under the published names; ids count on from ``first_id``."""
    made = [
        {
            "ID": number,
            "s1_name": row["s1_name"],
            "patch_id": row["patch_id"],
            "input": spelled_question(row),
            "output": spelled_answer(row),
            "type": _TYPES[row["category"]],
            "category": _REGIONS.get(row["category"]) or _CATEGORIES.get(row["type"], row["type"]),
            "split": row["split"],
        }
        for number, row in enumerate(rows, first_id)
    ]
    return pa.Table.from_pylist(made, schema=BIGEARTHNET_TXT_SCHEMA)
