"""Where everything lies under one root.

What carries its final name is complete (``rsdata.writing``). A receipt is written after the files it vouches for; a unit of
work is done if its receipt names the same inputs, the same part of the recipe and files that still have the same
size. Only this module knows what files are called.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rsdata.errors import WorkspaceError
from rsdata.records import Artifact, Receipt, Stage
from rsdata.writing import sync, writing

AnyModel = TypeVar("AnyModel", bound=BaseModel)


@dataclass(frozen=True)
class Workspace:
    """One dataset's folder."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> "Workspace":
        """Make the folder, and see that it can be written.

        Raises: WorkspaceError if it cannot.
        """
        if re.fullmatch("[a-z0-9]{2,}:", root.parts[0] if root.parts else ""):
            raise WorkspaceError(
                f"{root} looks like a URL; a build works in a folder, and `rsdata upload FOLDER URL` stores what it made", path=str(root)
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe = root / f".write-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise WorkspaceError(
                f"{root} cannot be written: {error.strerror}; name a folder you may write with --out", path=str(root)
            ) from error
        return cls(root.resolve())

    # Files of the contract
    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def patches(self) -> Path:
        return self.root / "patches.parquet"

    @property
    def quality(self) -> Path:
        return self.root / "quality.parquet"

    @property
    def facts(self) -> Path:
        return self.root / "facts.parquet"

    @property
    def texts(self) -> Path:
        return self.root / "texts.parquet"

    # What a language model answered, what became of each of its captions, and of all of them
    @property
    def answers(self) -> Path:
        return self.root / "captions" / "answers.sqlite"

    @property
    def model_captions(self) -> Path:
        return self.root / "captions" / "outcomes.parquet"

    @property
    def text_report(self) -> Path:
        return self.root / "catalog" / "text-report.json"

    @property
    def report(self) -> Path:
        return self.root / "report" / "index.html"

    @property
    def audit(self) -> Path:
        return self.root / "catalog" / "split-audit.json"

    def catalogue(self, name: str) -> Path:
        """A file for other programs' catalogues; its format says what it is called."""
        return self.root / "catalog" / name

    @property
    def all_shards(self) -> Path:
        return self.root / "shards"

    def shards(self, format: str) -> Path:
        return self.all_shards / format

    def training(self, model: str) -> Path:
        return self.root / "training" / model

    def metrics(self, model: str) -> Path:
        return self.training(model) / "metrics.json"

    # Products fetched from a catalogue
    def download_state(self, product: str) -> Path:
        return self.root / "downloads" / f"{product}.json"

    def download_part(self, product: str) -> Path:
        """Where a product lies until it is whole: a file for a zip, else a folder."""
        return self.root / "downloads" / f"{product}.part"

    def download_rejected(self, name: str) -> Path:
        return self.root / "downloads" / "rejected" / name

    # Inputs that a recipe names by URL
    def remote_input(self, named: str) -> Path:
        """What is known of a URL, or of a pattern of URLs, as the recipe says it."""
        return self.inputs / "remote" / f"{_short(named)}.json"

    def remote_copies(self, url: str) -> "Workspace":
        """Where the copy of what lies behind one URL is: a folder of its own, like that of a download."""
        return Workspace(self.inputs / "remote" / _short(url))

    # Products corrected by sen2cor: a folder like a workspace of its own, so that `rsdata scenes correct` makes the same
    @property
    def corrected(self) -> "Workspace":
        return Workspace(self.root / "corrected")

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    def quarantine(self, unit: str) -> Path:
        return self.root / "quarantine" / unit

    def log(self, stage: Stage, unit: str) -> Path:
        return self.receipts / stage / f"{unit}.log"

    # Of a build itself: who is at it, how far it is, and what happened; none of it belongs to the dataset
    @property
    def build(self) -> Path:
        return self.root / "build"

    @property
    def build_lock(self) -> Path:
        return self.build / "lock"

    @property
    def build_state(self) -> Path:
        return self.build / "state.json"

    @property
    def build_log(self) -> Path:
        return self.build / "log.jsonl"

    # Inputs that were made here, and the parts one scene contributes
    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    def part(self, stage: Stage, unit: str, suffix: str) -> Path:
        return self.root / "parts" / stage / f"{unit}{suffix}"

    @property
    def receipts(self) -> Path:
        return self.root / "receipts"

    def receipt_path(self, stage: Stage, unit: str) -> Path:
        return self.receipts / stage / f"{unit}.json"

    def receipted(self, stage: Stage) -> list[str]:
        """Units of a stage that have a receipt, by name."""
        return sorted(path.stem for path in (self.receipts / stage).glob("*.json"))

    def artifact(self, path: Path) -> Artifact:
        """Describe a finished file; its path is given relative to the root."""
        return Artifact(path=path.relative_to(self.root).as_posix(), bytes=path.stat().st_size, sha256=file_sha256(path))

    def finished(self, stage: Stage, unit: str, key: str) -> Receipt | None:
        """The receipt of a unit, if it is done with exactly these inputs and its files are all there."""
        path = self.receipt_path(stage, unit)
        if not path.exists():
            return None
        try:
            receipt = Receipt.model_validate_json(path.read_bytes())
        except ValidationError:
            return None  # of another version, so the work is done again
        whole = all(_size(self.root / output.path) == output.bytes for output in receipt.outputs)
        return receipt if receipt.key == key and whole and receipt.sealed() == receipt else None

    def forget_receipt(self, stage: Stage, unit: str) -> Receipt | None:
        """Let nothing vouch for a unit any more, even if the machine fails now; comes before its files change."""
        path = self.receipt_path(stage, unit)
        if not path.exists():
            return None
        try:
            receipt = Receipt.model_validate_json(path.read_bytes())
        except ValidationError:
            receipt = None
        path.unlink(missing_ok=True)
        sync(path.parent)
        return receipt

    def remember_receipt(self, receipt: Receipt) -> None:
        """Let a forgotten receipt vouch again, if all its files are still what it says."""
        paths = [self.root / output.path for output in receipt.outputs]
        if all(path.is_file() for path in paths) and [self.artifact(path) for path in paths] == receipt.outputs:
            write_record(self.receipt_path(receipt.stage, receipt.unit), receipt)

    def write_receipt(
        self,
        stage: Stage,
        unit: str,
        key: str,
        inputs: Mapping[str, str],
        outputs: Iterable[Path],
        counts: Mapping[str, int],
        seconds: float,
    ) -> Receipt:
        """Vouch for a unit whose files are written; the last thing a step does."""
        receipt = Receipt(
            stage=stage,
            unit=unit,
            key=key,
            inputs=dict(inputs),
            outputs=[self.artifact(path) for path in outputs],
            counts=dict(counts),
            seconds=round(seconds, 3),
        ).sealed()
        write_record(self.receipt_path(stage, unit), receipt)
        return receipt


def _short(text: str) -> str:
    """A folder's name for a text of any length; long enough that no two meet."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def combined_sha256(parts: Mapping[str, str]) -> str:
    """One digest over named values, independent of their order."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as JSON, whole or not at all."""
    with writing(path) as aside:
        aside.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_record(path: Path, model: type[AnyModel]) -> AnyModel:
    """Read a record back.

    Raises: WorkspaceError if the file is missing or is not such a record.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} is missing; run `rsdata build` first", path=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise WorkspaceError(f"{path} is not a {model.__name__}: `{place}` {first['msg']}", path=str(path)) from error
