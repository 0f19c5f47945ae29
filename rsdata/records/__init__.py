"""Everything rsdata leaves on disk, as pydantic models; ids are built and parsed in ``records.ids`` and nowhere else.

A record forbids unknown fields, so a file of another version is refused instead of half understood.
``schemas/`` holds one JSON Schema per record and ``arrow_schema`` turns a row model into the columns of its
Parquet table, so a field is named, typed and explained once.
"""

import json
from pathlib import Path

from rsdata.records.archives import ArchiveInfo, ArchiveMember
from rsdata.records.base import (
    DROP_REASONS,
    SEASON_OF_MONTH,
    SEASONS,
    SPLITS,
    STAGES,
    DropReason,
    Instant,
    Record,
    Season,
    Split,
    Stage,
    arrow_schema,
    columns_of,
)
from rsdata.records.builds import Builder, BuildState, ProcessUse, StageProgress
from rsdata.records.dataset import BuildDifferences, Failure, InputDigest, Manifest, PatchChanges, Receipt, ReceiptDigest
from rsdata.records.ids import (
    PatchId,
    is_s1_product,
    parse_start,
    place_id,
    reference_map_id,
    s1_patch_id,
    s1_scene_id,
    s1_start,
    s2_scene_id,
)
from rsdata.records.patches import PUBLISHED_COLUMNS, BoundingBox, PatchLabeling, PatchMeasures, PatchPlace, PatchQuality, PatchRow
from rsdata.records.remote import Download, FetchedFile, ProductType, RemoteCopy, RemoteFile, RemoteInput, RemoteProduct
from rsdata.records.scenes import (
    Coregistration,
    Coregistrations,
    Correction,
    Quarantine,
    ScenePair,
    Sentinel1Match,
    Sentinel1Scene,
    Sentinel2Scene,
)
from rsdata.records.series import CubeFrame, CubeRow
from rsdata.records.shards import (
    Artifact,
    BandInfo,
    BandStatistics,
    LabelClass,
    LeftOut,
    ShardIndexRow,
    ShardManifest,
    SplitInfo,
    keys_of,
    sensors_of,
)
from rsdata.records.splits import (
    FINDING_KINDS,
    AuditAgainst,
    AuditFinding,
    Autocorrelation,
    AutocorrelationBin,
    FindingExample,
    FindingKind,
    GapDistribution,
    NearPatches,
    ShareBalance,
    SplitAudit,
    SplitPair,
)
from rsdata.records.subsets import SUBSET_KEY, ClientRow, CountRow, NoisyLabelsRow, PruneRow, SubsetInfo, SubsetRow
from rsdata.records.texts import (
    DIRECTIONS,
    TEXT_CATEGORIES,
    TEXT_TYPES,
    AdjacencyFact,
    CaptionOutcome,
    ClassFact,
    Direction,
    Diversity,
    Dominance,
    ModelCaption,
    PatchFacts,
    PixelBox,
    PixelPoint,
    Position,
    RegionFact,
    TextCategory,
    TextReport,
    TextRow,
    TextType,
)
from rsdata.records.training import (
    BaselineScores,
    ClassOverlap,
    ClassScore,
    EpochLog,
    MultilabelScores,
    ProbeReport,
    RecallAt,
    RegressionScores,
    ResultRow,
    RetrievalScores,
    Scores,
    SegmentationScores,
    Spread,
    TrainingReport,
    TrainingRun,
    result_rows,
)
from rsdata.records.video import CubeGroup, VideoGroup, VideoHeader, VideoMeasured, VideoStream

RECORDS: tuple[type[Record], ...] = (
    Sentinel2Scene, Sentinel1Scene, ScenePair, PatchRow, PatchMeasures, PatchFacts, TextRow, ShardManifest, ShardIndexRow,
    Receipt, Failure, BuildState, BuildDifferences, Correction, Quarantine, RemoteProduct, Download, RemoteInput, Coregistrations,
    SplitAudit, SplitInfo, Manifest, TrainingReport, VideoHeader, CubeRow, CubeFrame, ModelCaption, TextReport,
    SubsetInfo, NoisyLabelsRow, SubsetRow, ClientRow, PruneRow, ProbeReport, ArchiveInfo, ArchiveMember,
)  # fmt: skip


def schema_text(record: type[Record]) -> str:
    """JSON Schema of a record as it lies in ``schemas/``."""
    return json.dumps(record.model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write one JSON Schema per record; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for record in RECORDS:
        path = folder / f"{record.__name__}.schema.json"
        path.write_text(schema_text(record), encoding="utf-8")
        paths.append(path)
    return paths


__all__ = [
    "DIRECTIONS",
    "DROP_REASONS",
    "FINDING_KINDS",
    "PUBLISHED_COLUMNS",
    "RECORDS",
    "SEASONS",
    "SEASON_OF_MONTH",
    "SPLITS",
    "STAGES",
    "SUBSET_KEY",
    "TEXT_CATEGORIES",
    "TEXT_TYPES",
    "AdjacencyFact",
    "ArchiveInfo",
    "ArchiveMember",
    "Artifact",
    "AuditAgainst",
    "AuditFinding",
    "Autocorrelation",
    "AutocorrelationBin",
    "BandInfo",
    "BandStatistics",
    "BaselineScores",
    "BoundingBox",
    "BuildDifferences",
    "BuildState",
    "Builder",
    "CaptionOutcome",
    "ClassFact",
    "ClassOverlap",
    "ClassScore",
    "ClientRow",
    "Coregistration",
    "Coregistrations",
    "Correction",
    "CountRow",
    "CubeFrame",
    "CubeGroup",
    "CubeRow",
    "Direction",
    "Diversity",
    "Dominance",
    "Download",
    "DropReason",
    "EpochLog",
    "Failure",
    "FetchedFile",
    "FindingExample",
    "FindingKind",
    "GapDistribution",
    "InputDigest",
    "Instant",
    "LabelClass",
    "LeftOut",
    "Manifest",
    "ModelCaption",
    "MultilabelScores",
    "NearPatches",
    "NoisyLabelsRow",
    "PatchChanges",
    "PatchFacts",
    "PatchId",
    "PatchLabeling",
    "PatchMeasures",
    "PatchPlace",
    "PatchQuality",
    "PatchRow",
    "PixelBox",
    "PixelPoint",
    "Position",
    "ProbeReport",
    "ProcessUse",
    "ProductType",
    "PruneRow",
    "Quarantine",
    "RecallAt",
    "Receipt",
    "ReceiptDigest",
    "Record",
    "RegionFact",
    "RegressionScores",
    "RemoteCopy",
    "RemoteFile",
    "RemoteInput",
    "RemoteProduct",
    "ResultRow",
    "RetrievalScores",
    "ScenePair",
    "Scores",
    "Season",
    "SegmentationScores",
    "Sentinel1Match",
    "Sentinel1Scene",
    "Sentinel2Scene",
    "ShardIndexRow",
    "ShardManifest",
    "ShareBalance",
    "Split",
    "SplitAudit",
    "SplitInfo",
    "SplitPair",
    "Spread",
    "Stage",
    "StageProgress",
    "SubsetInfo",
    "SubsetRow",
    "TextCategory",
    "TextReport",
    "TextRow",
    "TextType",
    "TrainingReport",
    "TrainingRun",
    "VideoGroup",
    "VideoHeader",
    "VideoMeasured",
    "VideoStream",
    "arrow_schema",
    "columns_of",
    "is_s1_product",
    "keys_of",
    "parse_start",
    "place_id",
    "reference_map_id",
    "result_rows",
    "s1_patch_id",
    "s1_scene_id",
    "s1_start",
    "s2_scene_id",
    "schema_text",
    "sensors_of",
    "write_schemas",
]
