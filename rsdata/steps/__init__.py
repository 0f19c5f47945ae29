"""The stages of a build, one function each: read the workspace, call rooms, write the workspace.

A step is safe to repeat. It first looks for a receipt with the same inputs, the same part of the recipe and the
same software version, and does nothing if there is one; the receipt is the last thing it writes. What passes
between steps are records and paths, never arrays.
"""

from rsdata.records import (
    AuditFinding,
    Download,
    Failure,
    FindingExample,
    ProbeReport,
    RemoteProduct,
    SplitAudit,
    SplitInfo,
    SplitPair,
    SubsetInfo,
    TextReport,
)
from rsdata.steps.archiving import archive_folder, unpack_archive
from rsdata.steps.auditing import audit_table, conditions_met, parse_conditions
from rsdata.steps.benching import bench_shard
from rsdata.steps.builder import builder_of, building, changing, reading
from rsdata.steps.captioning import caption_patches
from rsdata.steps.cataloguing import write_manifest
from rsdata.steps.comparing import compare_datasets, differences_in_words
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
    CORRECTION_BYTES,
    check_sen2cor,
    correct_scene,
    correction_of,
    corrections_at_once,
    make_sen2cor_options,
    sen2cor_options,
    stop_corrections,
    uncorrected_products,
)
from rsdata.steps.dataset import assign_splits, assign_table
from rsdata.steps.downloading import download_product, download_products, fetch_products, product_query, public_product, search_products
from rsdata.steps.exporting import TEXT_FORMS, export_texts
from rsdata.steps.fetching import fetch_inputs
from rsdata.steps.finding import Found, find_scenes, largest_scene_bytes, scenes_at_once
from rsdata.steps.inputs import Inputs, locate_inputs, make_inputs
from rsdata.steps.journal import event_of, event_of_failure, log_line, read_state, receipts_by_stage
from rsdata.steps.local_workers import LocalWorkers
from rsdata.steps.looking import inspect_scene, open_workspace, shard_info, summarize_scene, verify_shard
from rsdata.steps.packing import pack_shards
from rsdata.steps.patch_series import compress_patches, is_shard
from rsdata.steps.probing import embed_patches, probe_embeddings
from rsdata.steps.publishing import EXPORT_FORMS, export_dataset
from rsdata.steps.recaptioning import recaption
from rsdata.steps.receipts import Outcome, failure
from rsdata.steps.repacking import choose_patches, repack_shards
from rsdata.steps.report import write_report
from rsdata.steps.rewording import read_batch, read_text_report, run_batch, write_batch
from rsdata.steps.scene import assess_scene, cut_scene, label_scene, register_scene, s1_processing
from rsdata.steps.scoring import score_predictions, score_retrieval
from rsdata.steps.series import make_series
from rsdata.steps.space import check_space
from rsdata.steps.subsets import make_clients, make_few_shot, make_nested, make_noise, make_strata, prune_patches
from rsdata.steps.training import predict, read_results, read_training, train_baseline, train_on_shard, training_rows, writes_results
from rsdata.steps.uploading import Uploaded, upload_dataset
from rsdata.steps.verifying import unvouched_files, verify_dataset
from rsdata.workspace import Workspace

__all__ = [
    "CORRECTION_BYTES",
    "EXPORT_FORMS",
    "TEXT_FORMS",
    "TILE_PX",
    "AuditFinding",
    "CompressedCube",
    "Conversion",
    "Download",
    "Failure",
    "FindingExample",
    "Found",
    "Inputs",
    "LocalWorkers",
    "Outcome",
    "Point",
    "ProbeReport",
    "RemoteProduct",
    "SplitAudit",
    "SplitInfo",
    "SplitPair",
    "SubsetInfo",
    "TextReport",
    "Uploaded",
    "Workspace",
    "archive_folder",
    "assess_scene",
    "assign_splits",
    "assign_table",
    "audit_table",
    "bench_shard",
    "builder_of",
    "building",
    "caption_patches",
    "changing",
    "check_sen2cor",
    "check_space",
    "choose_patches",
    "compare_datasets",
    "compress_cubes",
    "compress_patches",
    "conditions_met",
    "convert_dataset",
    "correct_scene",
    "correction_of",
    "corrections_at_once",
    "cut_scene",
    "differences_in_words",
    "download_product",
    "download_products",
    "embed_patches",
    "event_of",
    "event_of_failure",
    "export_dataset",
    "export_texts",
    "failure",
    "fetch_inputs",
    "fetch_products",
    "find_scenes",
    "inspect_scene",
    "is_shard",
    "known_datasets",
    "label_scene",
    "largest_scene_bytes",
    "locate_inputs",
    "log_line",
    "make_clients",
    "make_few_shot",
    "make_inputs",
    "make_nested",
    "make_noise",
    "make_sen2cor_options",
    "make_series",
    "make_strata",
    "measure_cubes",
    "open_workspace",
    "pack_shards",
    "parse_conditions",
    "plot_points",
    "predict",
    "probe_embeddings",
    "product_query",
    "prune_patches",
    "public_product",
    "rate_distortion",
    "read_batch",
    "read_results",
    "read_state",
    "read_text_report",
    "read_training",
    "reading",
    "recaption",
    "receipts_by_stage",
    "register_scene",
    "repack_shards",
    "run_batch",
    "s1_processing",
    "scenes_at_once",
    "score_predictions",
    "score_retrieval",
    "search_products",
    "sen2cor_options",
    "shard_info",
    "stop_corrections",
    "summarize_scene",
    "train_baseline",
    "train_on_shard",
    "training_rows",
    "uncorrected_products",
    "unpack_archive",
    "unvouched_files",
    "upload_dataset",
    "verify_dataset",
    "verify_shard",
    "video_settings",
    "write_batch",
    "write_manifest",
    "write_report",
    "writes_results",
]
