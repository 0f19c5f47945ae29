"""The stages of a build, one function each: read the workspace, call rooms, write the workspace.

A step is safe to repeat. It first looks for a receipt with the same inputs, the same part of the recipe and the
same software version, and does nothing if there is one; the receipt is the last thing it writes. What passes
between steps are records and paths, never arrays.
"""

from rsdata.records import AuditFinding, Download, Failure, FindingExample, RemoteProduct, SplitAudit, SplitInfo, SplitPair
from rsdata.steps.auditing import audit_table, conditions_met, parse_conditions
from rsdata.steps.benching import bench_shard
from rsdata.steps.compressing import (
    TILE_PX,
    CompressedCube,
    Point,
    compress_cubes,
    measure_cubes,
    plot_points,
    rate_distortion,
    video_settings,
)
from rsdata.steps.converting import Conversion, convert_dataset, known_datasets
from rsdata.steps.correction import (
    check_sen2cor,
    correct_scene,
    correction_of,
    correction_resources,
    corrections_at_once,
    make_sen2cor_options,
    sen2cor_options,
    stop_corrections,
    uncorrected_products,
)
from rsdata.steps.dataset import (
    assign_splits,
    assign_table,
    caption_patches,
    read_training,
    train_baseline,
    verify_dataset,
    write_manifest,
)
from rsdata.steps.downloading import download_product, download_products, fetch_products, product_query, public_product, search_products
from rsdata.steps.fetching import fetch_inputs
from rsdata.steps.finding import Found, find_scenes, scenes_at_once
from rsdata.steps.inputs import Inputs, locate_inputs, make_inputs
from rsdata.steps.looking import inspect_scene, open_workspace, shard_info, summarize_scene, verify_shard
from rsdata.steps.packing import pack_shards
from rsdata.steps.receipts import Outcome, failure
from rsdata.steps.repacking import choose_patches, repack_shards
from rsdata.steps.report import write_report
from rsdata.steps.scene import assess_scene, cut_scene, label_scene, register_scene, s1_processing
from rsdata.workspace import Workspace

__all__ = [
    "TILE_PX",
    "AuditFinding",
    "CompressedCube",
    "Conversion",
    "Download",
    "Failure",
    "FindingExample",
    "Found",
    "Inputs",
    "Outcome",
    "Point",
    "RemoteProduct",
    "SplitAudit",
    "SplitInfo",
    "SplitPair",
    "Workspace",
    "assess_scene",
    "assign_splits",
    "assign_table",
    "audit_table",
    "bench_shard",
    "caption_patches",
    "check_sen2cor",
    "choose_patches",
    "compress_cubes",
    "conditions_met",
    "convert_dataset",
    "correct_scene",
    "correction_of",
    "correction_resources",
    "corrections_at_once",
    "cut_scene",
    "download_product",
    "download_products",
    "failure",
    "fetch_inputs",
    "fetch_products",
    "find_scenes",
    "inspect_scene",
    "known_datasets",
    "label_scene",
    "locate_inputs",
    "make_inputs",
    "make_sen2cor_options",
    "measure_cubes",
    "open_workspace",
    "pack_shards",
    "parse_conditions",
    "plot_points",
    "product_query",
    "public_product",
    "rate_distortion",
    "read_training",
    "register_scene",
    "repack_shards",
    "s1_processing",
    "scenes_at_once",
    "search_products",
    "sen2cor_options",
    "shard_info",
    "stop_corrections",
    "summarize_scene",
    "train_baseline",
    "uncorrected_products",
    "verify_dataset",
    "verify_shard",
    "video_settings",
    "write_manifest",
    "write_report",
]
