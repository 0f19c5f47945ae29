"""What is known of a patch without a model, and the texts that say it."""

from pydantic import Field

from rsdata.records.base import Record


class ClassShare(Record):
    """How much of a patch one class covers."""

    name: str
    share: float


class PatchFacts(Record):
    """What is known about a patch without a model; captions are checked against it."""

    patch_id: str
    classes: list[ClassShare] = Field(description="by falling share, then name")
    season: str
    country: str | None
    year: int
    month: int
    sensors: list[str]


class CaptionRow(Record):
    """One text about one patch."""

    patch_id: str
    engine: str
    text: str
    facts_sha256: str = Field(description="digest of the facts the text was checked against")
