"""What a shard says of itself."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any, Literal, Protocol

from pydantic import Field

from rsdata.records.base import Record
from rsdata.records.video import CubeGroup
from rsdata.sensors import REFERENCE_MAP, SENTINEL1


class BandStatistics(Record):
    """Statistics of one band over the train split, or over all patches where there are no splits; no-data left out."""

    count: int = Field(description="pixels")
    mean: float | None
    std: float | None = Field(description="population standard deviation")
    min: float | None
    max: float | None
    histogram: list[int]
    bin_edges: list[float] = Field(description="first edge, last edge; bins have equal width; both lists are empty without a histogram")


class BandInfo(Record):
    """A band as it lies in a shard."""

    name: str
    sensor: str
    canonical_name: str | None = Field(None, description="the sensor's own spelling: B8A for B08A, VH for vh; none for other sensors")
    dtype: str
    shape: list[int] = Field(description="pixels per patch, (y, x)")
    sizes_vary: bool = Field(False, description="whether ``shape`` is only the usual one")
    unit: str
    nodata: float | str | None = Field(description="'nan' stands for not-a-number")
    gsd_m: float | None
    wavelength_nm: float | None
    bandwidth_nm: float | None
    scale: float = Field(description="physical = (stored + offset) * scale")
    offset: list[float] = Field(description="distinct offsets of the source products, counts; empty if they are not known")
    offset_applied: bool
    statistics: BandStatistics | None


class Artifact(Record):
    """A file that was made: where it lies below the workspace, its size and digest."""

    path: str
    bytes: int
    sha256: str


class LabelClass(Record):
    """One class of the label table."""

    index: int
    name: str
    color: str = Field(description="#rrggbb")
    codes: list[int] = Field(description="reference-map codes that mean this class")


class LeftOut(Record):
    """A value that a published dataset should have and a shard has not, because its files are damaged."""

    key: str
    reason: str


class SplitInfo(Record):
    """How a table was divided; travels with the table, so that a split that leaks is known for one wherever it goes."""

    strategy: str
    options: dict[str, Any] = Field(description="all options of the strategy, those that were not named too; paths without their folders")
    seed: int
    ratios: dict[str, float]
    leaks: str | None = Field(description="why the split must not be used to measure how well a model generalises; none if it may")
    notes: list[str] = Field(description="what the strategy has to say of the division, such as patches it dropped")


class ShardManifest(Record):
    """What a shard holds; lies beside it, never inside."""

    schema_version: Literal["1"] = "1"
    name: str
    format: str
    codec: str
    recipe_sha256: str = Field(description="digest of the recipe, or of the description and the keys of a converted dataset")
    key_rule: str
    patch_side_m: int | None
    grid: str
    bands: list[BandInfo]
    statistics_over: Literal["train split", "all patches"] = "train split"
    labels: list[LabelClass]
    unlabeled_codes: list[int]
    counts: dict[str, int] = Field(description="patches per split; empty where there are no splits")
    split: SplitInfo | None = Field(None, description="how the splits were made, where that is known")
    keys: int = Field(description="entries in the database")
    left_out: list[LeftOut] = Field([])
    video: list[CubeGroup] = Field([], description="of a shard of time series: how its groups of bands are coded")
    files: list[Artifact]


class ShardIndexRow(Record):
    """One row of a shard's ``index.parquet``: what training needs to know of a patch."""

    patch_id: str
    sensor: str = Field(description="whose bands lie under patch_id, or under a key of their own where there is one")
    s1_key: str | None
    reference_map_key: str | None
    split: str | None
    labels: list[str]


_BESIDE = {SENTINEL1.name: "s1_key", REFERENCE_MAP.name: "reference_map_key"}  # sensor to the column with its keys


class IndexColumns(Protocol):
    """The rows of an index by column, as a data frame has them."""

    def __getitem__(self, column: str, /) -> Iterable[Any]: ...


def keys_of(index: IndexColumns, sensor: str) -> list[str | None]:
    """The key each patch of an index has for a sensor's bands, None where it has none.

    A sensor's own column comes first: a patch of Sentinel-1 alone may be named as its Sentinel-2 twin is.
    """
    others = index[_BESIDE[sensor]] if sensor in _BESIDE else repeat(None)
    return [
        other if isinstance(other, str) else patch_id if of == sensor else None
        for patch_id, of, other in zip(index["patch_id"], index["sensor"], others, strict=False)
    ]


def sensors_of(index: IndexColumns) -> list[str]:
    """The sensors an index has keys of."""
    beside = [sensor for sensor, column in _BESIDE.items() if any(isinstance(key, str) for key in index[column])]
    return list(dict.fromkeys([*index["sensor"], *beside]))
