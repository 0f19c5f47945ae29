"""Units of work that are done once: a receipt names what went in and vouches for what came out."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rsdata import __version__, catalog
from rsdata.errors import DiskFull, RsdataError
from rsdata.records import (
    Failure,
    PatchLabeling,
    PatchPlace,
    PatchQuality,
    Receipt,
    ScenePair,
    Stage,
)
from rsdata.workspace import Workspace, combined_sha256, read_record
from rsdata.writing import disk_full, is_full


@dataclass(frozen=True)
class Outcome:
    """A finished unit of work, and whether it had been finished before."""

    receipt: Receipt
    skipped: bool


def failure(stage: str, unit: str, error: BaseException) -> Failure:
    """Record an error against the unit it stopped; one that rsdata did not foresee is named by its type too."""
    kind = type(error).__name__
    return Failure(stage=stage, unit=unit, error=kind, message=str(error) if isinstance(error, RsdataError) else f"{kind}: {error}")


def once(
    stage: Stage, unit: str, workspace: Workspace, inputs: Mapping[str, str], work: Callable[[], tuple[list[Path], dict[str, int]]]
) -> Outcome:
    """Do a unit of work unless its receipt says it is done; write the receipt last."""
    key = combined_sha256({**inputs, "stage": stage, "unit": unit, "rsdata": __version__})
    receipt = workspace.finished(stage, unit, key)
    if receipt is not None:
        return Outcome(receipt, skipped=True)
    before = workspace.forget_receipt(stage, unit)  # or it could vouch for files of the same size that are about to change
    start = time.monotonic()
    try:
        outputs, counts = work()
    except Exception as error:
        if before is not None:
            workspace.remember_receipt(before)
        if is_full(error) and not isinstance(error, DiskFull):  # as libraries say it that write by themselves
            raise disk_full(workspace.root) from error
        raise
    return Outcome(workspace.write_receipt(stage, unit, key, inputs, outputs, counts, time.monotonic() - start), skipped=False)


def read_receipt(stage: Stage, unit: str, workspace: Workspace) -> Receipt:
    return read_record(workspace.receipt_path(stage, unit), Receipt)


def outputs_digest(stage: Stage, unit: str, workspace: Workspace) -> str:
    return combined_sha256({item.path: item.sha256 for item in read_receipt(stage, unit, workspace).outputs})


def read_pair(unit: str, workspace: Workspace) -> ScenePair:
    return read_record(workspace.part("scenes", unit, ".json"), ScenePair)


def scene_digest(unit: str, workspace: Workspace) -> str:
    """What a scene was made from, wherever its files lie."""
    pair = read_pair(unit, workspace)
    return combined_sha256({"contents": pair.inputs_sha256 or "", "s2": pair.s2.product, "s1": s1_order(pair)})


def s1_order(pair: ScenePair) -> str:
    return " ".join(match.scene.product for match in pair.s1)


def file_signature(path: Path) -> str:
    """A quick mark of a file that may be large: name, size and time."""
    if not path.exists():
        return "missing"
    stat = path.stat()
    return hashlib.sha256(f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()


_PARTS = {"patches": PatchPlace, "labels": PatchLabeling, "quality": PatchQuality}


def read_rows(stage: Stage, unit: str, workspace: Workspace) -> pd.DataFrame:
    return catalog.read_table(workspace.part(stage, unit, ".parquet"), _PARTS[stage])
