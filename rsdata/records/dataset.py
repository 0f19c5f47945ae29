"""What was done to make a dataset, and what it holds."""

import hashlib
import json
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
    seal: str = Field("", description="digest over all other fields, which tells a changed receipt; empty in earlier versions")

    def sealed(self) -> "Receipt":
        """The same receipt with the seal that its fields give."""
        said = json.dumps(self.model_dump(mode="json", exclude={"seal"}), sort_keys=True)
        return self.model_copy(update={"seal": hashlib.sha256(said.encode()).hexdigest()})


class Failure(Record):
    """A unit of work that could not be done, and why."""

    stage: str
    unit: str
    error: str
    message: str


class InputDigest(Record):
    """A scene or layer a dataset was made from."""

    name: str
    sha256: str = Field(description="over the contents: of all products of a scene, or of one file")
    kind: Literal["scene", "labels", "countries", "climate"] = "scene"
    products: list[str] = Field([], description="of a scene: the Sentinel-2 product and its Sentinel-1 products, the first choice first")
    version: str | None = Field(None, description="processing baseline of a Sentinel-2 product, or edition of a map; none if unknown")
    made_by: str | None = Field(None, description="sen2cor and its version, where it corrected the scene in this build")


class ReceiptDigest(Record):
    """What a finished unit of work left, as a link of the chain from inputs to outputs."""

    stage: Stage
    unit: str
    outputs_sha256: str = Field(description="over the paths and digests of all outputs of its receipt")


class Manifest(Record):
    """``manifest.json``: what was asked, from what, and what was made."""

    schema_version: Literal["1"] = "1"
    name: str
    title: str
    rsdata_version: str
    software: dict[str, str] = Field({}, description="versions of the programs that pixels and tables went through")
    recipe_sha256: str
    inputs: list[InputDigest]
    receipts: list[ReceiptDigest] = Field([], description="of the work between inputs and outputs, in the order of the stages")
    counts: dict[str, int]
    dropped: dict[str, int]
    splits: dict[str, int]
    split: SplitInfo | None = None
    coregistration: list[Coregistration]
    failures: list[Failure]
    outputs: list[Artifact]


class PatchChanges(Record):
    """Patches that changed in one way from one build to another."""

    what: str = Field(description="such as: moved from train to test")
    count: int
    examples: list[str] = Field(description="patch ids, the first few")


class BuildDifferences(Record):
    """What one build of a dataset has other than another; two builds are the same if every list is empty."""

    recipe: list[str]
    inputs: list[str]
    software: list[str]
    counts: list[str]
    patches: list[PatchChanges]
    files: list[str]
