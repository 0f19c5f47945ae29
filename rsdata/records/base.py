"""What every record has in common, the words they share, and the columns of tables whose rows are records."""

import types
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, create_model

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Season = Literal["winter", "spring", "summer", "autumn"]
SEASONS: tuple[Season, ...] = get_args(Season)
# Meteorological seasons, northern hemisphere: 31 May is spring, 1 June is summer.
SEASON_OF_MONTH: tuple[Season, ...] = (
    "winter", "winter", "spring", "spring", "spring", "summer",
    "summer", "summer", "autumn", "autumn", "autumn", "winter",
)  # fmt: skip
# Why a patch was dropped; the first that applies, in this order.
DropReason = Literal[
    "product_quality", "nodata", "defective", "saturated", "unlabeled", "cloud_or_shadow", "snow", "no_s1", "s1_nodata",
    "coregistration", "duplicate", "split_buffer", "not_in_split",
]  # fmt: skip
DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)
Stage = Literal[
    "inputs", "correct", "scenes", "patches", "labels", "quality", "splits", "captions", "shards", "series", "catalog", "training",
    "report",
]  # fmt: skip
STAGES: tuple[Stage, ...] = get_args(Stage)


class Record(BaseModel):
    """A record on disk: unknown fields are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Instant = datetime  # for records with a field called datetime


def columns_of(model: type[Record], name: str, fields: tuple[str, ...]) -> type[Record]:
    """A record with some of another's fields: what one stage adds to a row."""
    picked: dict[str, Any] = {field: (model.model_fields[field].annotation, model.model_fields[field]) for field in fields}
    return create_model(name, __base__=Record, **picked)


_ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def arrow_schema(model: type[Record]) -> pa.Schema:
    """Columns of a table whose rows are ``model``; a field is nullable if it may be None."""
    return pa.schema([pa.field(name, *_arrow_type(field.annotation)) for name, field in model.model_fields.items()])


def _arrow_type(annotation: Any) -> tuple[pa.DataType, bool]:
    """Arrow type of a Python annotation, and whether it may be null."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _arrow_type(arguments[0])
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return _arrow_type(inner[0])[0], len(inner) < len(arguments)
    if origin is Literal:
        return _arrow_type(type(arguments[0]))
    if origin is list:
        return pa.list_(_arrow_type(arguments[0])[0]), False
    if origin is dict:
        return pa.map_(_arrow_type(arguments[0])[0], _arrow_type(arguments[1])[0]), False
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return pa.struct([pa.field(f.name, f.type) for f in arrow_schema(annotation)]), False
    return _ARROW_TYPES[annotation], False
