"""Manifests that change what a model learns from and touch no pixel: noisy labels, subsets, clients, and what was pruned."""

from typing import Literal

from pydantic import Field

from rsdata.records.base import Record

SUBSET_KEY = "rsdata:subset"  # of a manifest's Parquet metadata: a SubsetInfo as JSON


class CountRow(Record):
    """One line of a table of exact counts."""

    name: str
    counts: dict[str, int]


class SubsetInfo(Record):
    """How a manifest was made; travels in its file."""

    kind: Literal["noise", "few-shot", "nested", "clients", "strata", "prune"]
    options: dict[str, float | int | str | list[float] | list[str] | None] = Field(description="all that decided the result, the seed too")
    source: str = Field(description="name of the table or folder that the patches were read from")
    source_sha256: str = Field(description="digest of that table, or of a shard's manifest")
    split: str | None = Field(description="whose patches were looked at; none for all")
    classes: list[str] = Field(description="in the order of masks over classes")
    counts: dict[str, int]
    of: str = Field(description="what a row of ``rows`` counts, such as class or client")
    rows: list[CountRow]
    notes: list[str] = Field([])


class NoisyLabelsRow(Record):
    """One patch with wrong labels, and what is wrong with them."""

    patch_id: str
    labels: list[str] = Field(description="with the noise; sorted")
    clean_labels: list[str] = Field(description="as they were; sorted")
    flipped: list[bool] = Field(description="one per class, in the order of SubsetInfo.classes: whether it was added or removed")


class SubsetRow(Record):
    """One patch of a subset, or of several that lie inside each other."""

    patch_id: str
    within: float = Field(description="the smallest size asked for that holds the patch; all larger ones hold it too")
    group: str | None = Field(description="the stratum that the patch was drawn from; none without strata")


class ClientRow(Record):
    """Which client of a federation holds a patch."""

    patch_id: str
    client: str
    sensors: list[str] = Field(description="whose bands the client has, such as s1 and s2; the same for all its patches")


class PruneRow(Record):
    """Whether a patch is kept, and if not, which kept one is so like it."""

    patch_id: str
    kept: bool
    near: str | None = Field(description="the kept patch that it is most like; none where it was kept, or left out for diversity alone")
    similarity: float | None = Field(description="cosine to that patch")
    order: int | None = Field(description="when diversity chose it, from 0; none where it did not")
