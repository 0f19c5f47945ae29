"""Croissant 1.0: the dataset's tables as record sets that any Croissant reader can iterate, and its files with their digests.

Pixels are listed as files, not as records: no Croissant reader opens LMDB or Zarr. Fields follow from the records that the
tables have as rows, so a column is named and explained once. Maps and structures have no counterpart in Croissant 1.0 and are
left out; ``label_fractions`` is the one column of the patch table that this concerns, beside the footprint.

Source: Croissant format specification 1.0, mlcommons.org.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from rsdata.catalog.exports.source import Advance, Source
from rsdata.catalog.exports.stac import media_type_of
from rsdata.catalog.sources import attributions, data_sources, summary_of, titles_of
from rsdata.errors import CatalogError
from rsdata.records import SPLITS, Artifact, PatchRow, Record, TextRow, arrow_schema

CROISSANT_FILE = "croissant.json"
CROISSANT_VERSION = "http://mlcommons.org/croissant/1.0"
PARQUET = "application/x-parquet"
_TABLES: dict[str, tuple[type[Record], str]] = {
    "patches": (PatchRow, "One row per patch, dropped ones too: `kept` tells them apart, `drop_reason` why."),
    "texts": (TextRow, "Captions, questions with answers and instructions, each about one patch."),
}
_TERMS = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        term: f"cr:{term}"
        for term in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
            "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace",
            "samplingRate", "separator", "source", "subField", "transform",
        )
    },
}  # fmt: skip
_TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float", pa.bool_(): "sc:Boolean"}


class Croissant:
    """The description and the tables it describes, side by side, so that the folder can be moved."""

    summary = "Croissant 1.0 description beside copies of the tables it describes"

    def write(self, source: Source, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
        tables = [file for file in source.dataset.outputs if "/" not in file.path and file.path.endswith(".parquet")]
        for file in tables:
            shutil.copyfile(source.root / file.path, folder / file.path)
        write_croissant(folder / CROISSANT_FILE, source, tables, ".")
        advance(len(source.patches))
        return {"files": len(tables) + 1}


def write_croissant(path: Path, source: Source, files: list[Artifact], prefix: str) -> None:
    """Write the description as JSON-LD; arguments as ``croissant``."""
    path.write_text(json.dumps(croissant(source, files, prefix), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def croissant(source: Source, files: list[Artifact], prefix: str) -> dict[str, Any]:
    """The description of a dataset.

    Args:
        files: to list; the tables among them become record sets.
        prefix: where they lie, seen from the description.

    Raises: CatalogError if the patch table is not among the files.
    """
    listed = {file.path for file in files}
    if "patches.parquet" not in listed:
        raise CatalogError("the dataset does not list patches.parquet; build it again", files=sorted(listed))
    recipe, sources = source.recipe, data_sources(source.recipe, source.patches, source.dataset)
    licences = [recipe.licence] if recipe.licence else [each.licence_url or each.licence for each in sources]
    return {
        "@context": dict(sorted(_TERMS.items())),
        "@type": "sc:Dataset",
        "name": source.name,
        "alternateName": source.title,
        "description": summary_of(recipe, source.patches, source.sensors),
        "conformsTo": CROISSANT_VERSION,
        "version": f"1.0.0+{source.dataset.recipe_sha256[:12]}",
        "license": licences or ["not stated"],
        "creditText": " ".join(attributions(recipe, sources)),
        "citeAs": citation(source),
        "keywords": [*titles_of(source.sensors), "land cover", "remote sensing"],
        "isLiveDataset": False,
        "distribution": [_file_object(file, prefix) for file in files],
        "recordSet": [
            _splits(),
            _labels(source),
            *(_record_set(name, record, text) for name, (record, text) in _TABLES.items() if f"{name}.parquet" in listed),
        ],
    }


def citation(source: Source) -> str:
    """How to name the dataset: it has no authors of its own that rsdata knows."""
    digest = source.dataset.recipe_sha256[:12]
    return f"{source.title} (recipe {digest}), made with rsdata {source.dataset.rsdata_version}."


def _file_object(file: Artifact, prefix: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path if prefix == "." else f"{prefix}/{file.path}",
        "contentSize": f"{file.bytes} B",
        "encodingFormat": PARQUET if file.path.endswith(".parquet") else media_type_of(file.path),
        "sha256": file.sha256,
    }


def _record_set(name: str, record: type[Record], text: str) -> dict[str, Any]:
    fields = [_field(name, column, record) for column in arrow_schema(record)]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": text,
        "key": {"@id": f"{name}/{'row_id' if name == 'texts' else 'patch_id'}"},
        "field": [field for field in fields if field is not None],
    }


def _field(table: str, column: pa.Field, record: type[Record]) -> dict[str, Any] | None:
    """One column; None if Croissant 1.0 cannot say it."""
    kind, repeated = column.type, pa.types.is_list(column.type)
    if repeated:
        kind = kind.value_type
    data_type = "sc:DateTime" if pa.types.is_timestamp(kind) else _TYPES.get(kind)
    if data_type is None:
        return None
    said = record.model_fields[column.name].description or column.name.replace("_", " ")
    return {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "description": said,
        "dataType": ["sc:Text", "cr:Split"] if column.name == "split" else data_type,
        **({"repeated": True} if repeated else {}),
        "source": {"fileObject": {"@id": f"{table}.parquet"}, "extract": {"column": column.name}},
    }


def _enumeration(name: str, text: str, columns: dict[str, str], rows: list[dict[str, Any]], data_type: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": text,
        "dataType": data_type,
        "key": {"@id": f"{name}/name"},
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "description": column, "dataType": kind}
            for column, kind in columns.items()
        ],
        "data": [{f"{name}/{column}": value for column, value in row.items()} for row in rows],
    }


def _splits() -> dict[str, Any]:
    words = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit", "test": "cr:TestSplit"}
    rows = [{"name": split, "url": words[split]} for split in SPLITS]
    return _enumeration("splits", "What patches are divided into.", {"name": "sc:Text", "url": "sc:URL"}, rows, "cr:Split")


def _labels(source: Source) -> dict[str, Any]:
    rows = [{"name": each.name, "index": each.index, "color": each.color} for each in source.manifest.labels]
    columns = {"name": "sc:Text", "index": "sc:Integer", "color": "sc:Text"}
    return _enumeration("labels", "Classes that a patch may show.", columns, rows, "sc:Enumeration")
