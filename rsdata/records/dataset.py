"""What was done to make a dataset, and what it holds."""

from typing import Literal

from pydantic import Field

from rsdata.records.base import Record, Stage
from rsdata.records.scenes import Coregistration
from rsdata.records.shards import Artifact, SplitInfo


class Receipt(Record):
    """Proof that one unit of work is whole."""

    stage: Stage
    unit: str
    key: str = Field(description="digest over inputs, the part of the recipe used, and the software version")
    inputs: dict[str, str]
    outputs: list[Artifact]
    counts: dict[str, int]
    seconds: float


class Failure(Record):
    """A unit of work that could not be done, and why."""

    stage: str
    unit: str
    error: str
    message: str


class InputDigest(Record):
    """A product or layer a dataset was made from."""

    name: str
    sha256: str


class Manifest(Record):
    """``manifest.json``: what was asked, from what, and what was made."""

    schema_version: Literal["1"] = "1"
    name: str
    title: str
    rsdata_version: str
    recipe_sha256: str
    inputs: list[InputDigest]
    counts: dict[str, int]
    dropped: dict[str, int]
    splits: dict[str, int]
    split: SplitInfo | None = None
    coregistration: list[Coregistration]
    failures: list[Failure]
    outputs: list[Artifact]
