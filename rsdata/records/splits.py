"""What an audit of a split found."""

from typing import Literal, get_args

from pydantic import Field

from rsdata.records.base import Record
from rsdata.records.shards import SplitInfo


class GapDistribution(Record):
    """How far the patches of one split lie from the nearest footprint of another, metres, footprint to footprint."""

    min_m: float
    p5_m: float = Field(description="5 % of the patches lie this near or nearer")
    median_m: float
    quantiles_m: list[float] = Field(description="gap that 0, 2.5, 5, … 100 % of the patches do not exceed, 41 values")


class NearPatches(Record):
    """How much of two splits lies within a distance of the other."""

    distance_m: float = Field(description="footprint to footprint; 0 means touching or overlapping")
    pairs: int | None = Field(description="pairs of patches, one of each split; none where there are too many to count")
    patches_a: int
    patches_b: int


class SplitPair(Record):
    """How far two splits lie apart."""

    a: str
    b: str
    min_gap_m: float | None = Field(description="smallest distance between footprints, 0 if they touch")
    touching_a: int = Field(description="patches of a whose footprint meets one of b: 8-neighbours, overlaps, the same cell")
    touching_b: int
    shared_places: int = Field(description="places whose ground lies in both, wholly or in part")
    overlapping_pairs: int = Field(0, description="pairs of patches whose footprints share area")
    overlapping_a: int = Field(0, description="patches of a that share area with one of b")
    overlapping_b: int = 0
    gaps_a: GapDistribution | None = Field(None, description="from each patch of a to the nearest of b")
    gaps_b: GapDistribution | None = None
    near: list[NearPatches] = Field([], description="by rising distance")


class ShareBalance(Record):
    """How evenly classes, countries or seasons are spread over the splits."""

    of: Literal["class", "country", "season"]
    shares: dict[str, dict[str, float]] = Field(description="split, name, share of its patches that have it")
    largest_ratio: float | None = Field(description="largest over smallest share of one name between splits; none if one is zero")
    largest_ratio_name: str | None
    total_variation: float | None = Field(
        description="largest distance between two splits' distributions, 0 to 1; classes are taken as shares of all labels"
    )
    total_variation_pair: list[str] = Field(description="the two splits; empty where there are none")


class AutocorrelationBin(Record):
    """How alike the labels of patches are that lie a distance apart."""

    from_m: float = Field(description="distance between centres")
    to_m: float
    distance_m: float = Field(description="mean over the sampled pairs")
    pairs: int = Field(description="sampled")
    mean: float = Field(description="mean over classes of Moran's I, 1 alike, 0 as chance has it")
    classes: dict[str, float] = Field(description="Moran's I per class")
    same_label: float = Field(description="share of the pairs that have a label in common")


class Autocorrelation(Record):
    """How far the likeness of labels reaches, so that a buffer can be read off."""

    bins: list[AutocorrelationBin]
    chance_same_label: float = Field(description="share of pairs drawn anywhere that have a label in common")
    threshold: float
    below_threshold_m: float | None = Field(description="distance between centres from which on the mean stays below the threshold")
    buffer_m: float | None = Field(description="the same between footprints: less the side of a patch")


class FindingExample(Record):
    """Patches that show a finding."""

    patch_ids: list[str]
    splits: list[str]
    lon: float | None = Field(description="where, degrees; none where that is not known")
    lat: float | None
    note: str


FindingKind = Literal["shared_place", "overlap", "duplicate", "mismatch", "flipped"]
FINDING_KINDS: tuple[FindingKind, ...] = get_args(FindingKind)


class AuditFinding(Record):
    """Something that a table of patches should not have."""

    kind: FindingKind
    splits: list[str] = Field(description="the two splits it lies between; empty where it does not depend on splits")
    count: int = Field(description="places, pairs of places or rows, as the kind has it")
    examples: list[FindingExample] = Field(description="the first 20")


class AuditAgainst(Record):
    """What a table shares with another dataset's."""

    name: str
    counts: dict[str, int] = Field(description="patches per split of the other table")
    pairs: list[SplitPair] = Field(description="a is a split of this table, b of the other")
    findings: list[AuditFinding]


class SplitAudit(Record):
    """Leakage and balance of a split; what a build leaves out is empty or none."""

    counts: dict[str, int]
    pairs: list[SplitPair]
    class_shares: dict[str, dict[str, float]] = Field(description="split, class, share of its patches that show the class")
    largest_ratio: float | None = Field(description="largest over smallest share of one class between splits")
    largest_ratio_class: str | None
    places: int | None = Field(None, description="distinct footprints")
    balance: list[ShareBalance] = Field([], description="of classes, countries and seasons, where the table has them")
    autocorrelation: Autocorrelation | None = None
    findings: list[AuditFinding] | None = Field(None, description="none where they were not looked for")
    against: AuditAgainst | None = None
    split: SplitInfo | None = Field(None, description="how the table was divided, where it says so")
