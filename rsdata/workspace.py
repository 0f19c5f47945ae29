"""Where everything lies under one root, and how it gets there whole.

A file is written aside, synced and renamed, so what carries its final name is complete. A receipt is written
after the files it vouches for; a unit of work is done if its receipt names the same inputs, the same part of
the recipe and files that still have the same size. Only this module knows what files are called.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from rsdata.errors import DiskFull, RsdataError, WorkspaceError
from rsdata.records import Artifact, Receipt, Stage

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
        _sync(path.parent)
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


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Hand out a path to write aside; on success sync it and give it its final name, else remove it.

    Raises: DiskFull if the disk is; WorkspaceError if the system refuses to write for another reason.
    """
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)
    except Exception as error:
        _refuse(error, path)
    finally:
        aside.unlink(missing_ok=True) if aside.parent.exists() else None


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Like ``writing`` for a folder and all that is put into it: what was there is replaced only once the new one is whole."""
    aside = _aside(path)
    try:
        aside.mkdir(parents=True)
        yield aside
        _sync_below(aside)
        if path.exists():
            old = _aside(path)
            path.replace(old)
            aside.replace(path)
            shutil.rmtree(old)
        else:
            aside.replace(path)
        _sync(path.parent)
    except Exception as error:
        _refuse(error, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    """See that a file's content, or a folder's list of names, outlives the machine."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


_MANY_FILES = 1_000


def _sync_below(folder: Path) -> None:
    """The same for a folder and all in it; many files at once, as 9,400 small ones take half a minute one by one and half a second so."""
    inside = [folder, *folder.rglob("*")]
    if len(inside) > _MANY_FILES and hasattr(os, "sync"):
        os.sync()
        return
    for path in inside:
        _sync(path)


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Say in one sentence what goes wrong while a file is written in place.

    Raises: DiskFull if the disk is; WorkspaceError if the system refuses to write for another reason.
    """
    try:
        yield
    except Exception as error:
        _refuse(error, path)


def _refuse(error: Exception, path: Path) -> NoReturn:
    """Raise an error of writing as one sentence; any other as it is."""
    without_room = isinstance(error, OSError) and not isinstance(error, RsdataError) and _free_bytes(path) < _ROOM_BYTES
    if (is_full(error) or without_room) and not isinstance(error, DiskFull):
        raise disk_full(path) from error
    if isinstance(error, OSError) and not isinstance(error, RsdataError):
        raise WorkspaceError(
            f"{path} cannot be written: {error.strerror or error}; free space or name another folder", path=str(path)
        ) from error
    raise error


_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAID_FULL = (*(os.strerror(number) for number in _FULL), "database or disk is full")


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, says that the disk or a quota is full; libraries say so in words only."""
    while error is not None:
        if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        if any(said in str(error) for said in _SAID_FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full(path: Path) -> DiskFull:
    """The sentence for a disk that has no room for a file."""
    return DiskFull(
        f"{path} cannot be written: the disk is full, {_free_bytes(path) / 1e6:,.0f} MB are free; make room and run the same "
        "command again, what is finished is not done again",
        path=str(path),
    )


_ROOM_BYTES = 2**20  # with less free, an error of writing is put down to it: LMDB calls a write that was cut short an input/output error


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free


@cache
def _this_machine() -> str:
    """A mark of this machine since it was started, and of the namespace that its process numbers count in."""
    boot, numbers = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    marks = [socket.gethostname(), boot.read_text() if boot.exists() else "", str(numbers.readlink()) if numbers.is_symlink() else ""]
    return hashlib.sha256(" ".join(marks).encode()).hexdigest()[:8]


def _aside(path: Path) -> Path:
    """A name beside the final one that tells which process writes there."""
    return path.with_name(f".{path.name}.{_this_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part")


_LEFTOVER = re.compile(r"\..+\.(?:(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-)?[0-9a-f]{8}\.part")
_FOREIGN_S = 86_400.0  # after which what a process of another machine wrote aside is taken for left over


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is written aside: under way, or left so by a process that is no more."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(root: Path, own: bool = False) -> int:
    """Remove what processes that are no more wrote aside below a folder; how many files and folders it was.

    Of processes on other machines, or before this one was started, it is what nobody has changed for a day.

    Args: own: take what this process wrote aside for left over too, as it is about to end.
    """
    count = 0
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            found = _LEFTOVER.fullmatch(name)
            path = Path(folder, name)
            if found is None or _is_at_work(path, found["machine"], found["pid"], own):
                continue
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            count += 1
        names[:] = [name for name in names if not is_leftover(name)]
    return count


def _is_at_work(path: Path, machine: str | None, pid: str | None, own: bool) -> bool:
    if machine == _this_machine() and pid is not None:
        return is_alive(int(pid)) and not (own and int(pid) == os.getpid())
    changed = 0.0
    with suppress(OSError):
        changed = max(item.lstat().st_mtime for item in (path, *(path.rglob("*") if path.is_dir() else ())))
    return time.time() - changed < _FOREIGN_S


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


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
