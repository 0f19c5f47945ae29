"""Whether a dataset is still what was built: every file against the receipt that vouches for it, every receipt against its seal,
the manifest's chain from inputs to outputs, and the tables and shards against each other.

A file is named by the first finding that concerns it, so one flipped byte is one sentence.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from rsdata import catalog, shards
from rsdata.records import STAGES, Artifact, Manifest, PatchFacts, PatchMeasures, Receipt, TextRow
from rsdata.shards.manifest import SERIES_FORMAT
from rsdata.steps.series import check_series
from rsdata.workspace import Workspace, combined_sha256, read_record


@dataclass
class _Files:
    """The files below a workspace and what is said of them."""

    workspace: Workspace
    vouched: dict[str, tuple[Artifact, str]] = field(default_factory=dict)  # path below the root to what is stated, and by whom
    findings: list[str] = field(default_factory=list)

    def state(self, stated: Artifact, by: str) -> None:
        self.vouched.setdefault(stated.path, (stated, by))

    def check(self, advance: Callable[[int], None]) -> None:
        """Read every file that somebody vouches for."""
        for path, (stated, by) in sorted(self.vouched.items()):
            file = self.workspace.root / path
            if not file.is_file():
                self.findings.append(f"{path} is missing")
            elif self.workspace.artifact(file) != stated:
                self.findings.append(f"{path} differs from its digest in {by}")
            advance(1)


def verify_dataset(workspace: Workspace, advance: Callable[[int], None] = lambda n: None) -> tuple[Manifest, list[str]]:
    """A dataset's manifest, and one sentence for each way in which the folder differs from what was built.

    Args: advance: told how many files, and entries of shards, were checked.
    Raises: WorkspaceError if there is no manifest, or it cannot be read.
    """
    files = _Files(workspace)
    receipts = _read_receipts(workspace, files)
    manifest = _read_manifest(workspace, files)
    for stated in manifest.outputs:
        files.vouched[stated.path] = (stated, workspace.manifest.name)
    files.check(advance)
    if files.findings:
        return manifest, files.findings
    return manifest, [*_chain_findings(manifest, receipts, workspace), *_content_findings(manifest, workspace, advance)]


def unvouched_files(workspace: Workspace) -> list[str]:
    """Files below a dataset that no receipt speaks of, so that a change of them would not be seen: notes, logs, answers of a model."""
    files = _Files(workspace)
    receipts = _read_receipts(workspace, files)
    known = {*files.vouched, *(path.relative_to(workspace.root).as_posix() for path in receipts)}
    found = (path.relative_to(workspace.root) for path in sorted(workspace.root.rglob("*")) if path.is_file())
    of_the_build = workspace.build.name  # its lock, its state, its log: no part of the dataset
    return [path.as_posix() for path in found if path.as_posix() not in known and path.parts[0] != of_the_build]


def _receipt_paths(workspace: Workspace) -> Iterator[Path]:
    """Receipts of the dataset, and of workspaces inside it such as that of corrected products."""
    for path in sorted(workspace.root.rglob(f"{workspace.receipts.name}/*/*.json")):
        if path.parent.name in STAGES:
            yield path


def _read_receipts(workspace: Workspace, files: _Files) -> dict[Path, Receipt]:
    """Every receipt that is as it was written; what it vouches for joins ``files``, and what is wrong with others the findings."""
    receipts = {}
    for path in _receipt_paths(workspace):
        name = path.relative_to(workspace.root).as_posix()
        content = path.read_bytes()
        try:
            receipt = Receipt.model_validate_json(content)
        except ValidationError:
            files.findings.append(f"{name} is no receipt of this version, or was changed since it was written; build again")
            continue
        if not receipt.seal:
            files.findings.append(f"{name} carries no seal, as an earlier version wrote it; build again")
            continue
        if receipt.sealed() != receipt or (receipt.model_dump_json(indent=1) + "\n").encode() != content:
            files.findings.append(f"{name} was changed since it was written: its seal does not fit")
            continue
        receipts[path] = receipt
        inside = path.parents[2].relative_to(workspace.root)
        for stated in receipt.outputs:
            files.state(stated.model_copy(update={"path": (inside / stated.path).as_posix()}), name)
    return receipts


def _read_manifest(workspace: Workspace, files: _Files) -> Manifest:
    """The manifest; raises WorkspaceError, which names it, if it is no manifest any more."""
    name = workspace.manifest.name
    if name not in files.vouched and workspace.manifest.is_file() and not files.findings:
        files.findings.append(f"no receipt vouches for {name}; build again")
    return read_record(workspace.manifest, Manifest)


def _chain_findings(manifest: Manifest, receipts: dict[Path, Receipt], workspace: Workspace) -> list[str]:
    """Where the work that the manifest names is not the work that the receipts show."""
    findings = []
    for link in manifest.receipts:
        path = workspace.receipt_path(link.stage, link.unit)
        receipt, name = receipts.get(path), path.relative_to(workspace.root).as_posix()
        if receipt is None:
            findings.append(f"{name} is missing; manifest.json counts on it")
        elif combined_sha256({item.path: item.sha256 for item in receipt.outputs}) != link.outputs_sha256:
            findings.append(f"{name} vouches for other files than those manifest.json was made from; build again")
    return findings


def _content_findings(manifest: Manifest, workspace: Workspace, advance: Callable[[int], None]) -> list[str]:
    """Where tables and shards do not speak of the same patches."""
    findings = []
    table = catalog.read_patches(workspace.patches)
    kept = set(table.loc[table["kept"], "patch_id"])
    for path, model in ((workspace.facts, PatchFacts), (workspace.texts, TextRow)):
        if set(catalog.read_table(path, model, ["patch_id"])["patch_id"]) != kept:
            findings.append(f"{path.name} does not describe exactly the kept patches")
    if catalog.read_table(workspace.quality, PatchMeasures)["patch_id"].tolist() != table["patch_id"].tolist():
        findings.append(f"{workspace.quality.name} does not describe exactly the patches of {workspace.patches.name}")
    made = [path for item in manifest.outputs if (path := workspace.root / item.path).is_relative_to(workspace.all_shards)]
    held: list[str] = []
    series = workspace.shards(SERIES_FORMAT)
    if series / shards.MANIFEST_FILE in made:
        findings += [*shards.verify_shard(series, advance), *check_series(table, workspace)]
    for folder in sorted(path.parent for path in made if path.name == shards.MANIFEST_FILE and path.parent != series):
        with shards.open_shard(folder) as shard:
            held += shard.index["patch_id"].tolist()
        findings += shards.verify_shard(folder, advance)
    if made and (len(held) != len(kept) or set(held) != kept):
        findings.append("the shards do not hold exactly the kept patches")
    return findings
