"""Files and folders that are whole or not there: written aside, synced and renamed; and what processes that are no more left aside."""

import errno
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NoReturn

from rsdata.errors import DiskFull, RsdataError, WorkspaceError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Hand out a path to write aside; on success sync it and give it its final name, else remove it.

    Raises: DiskFull if the disk is; WorkspaceError if the system refuses to write for another reason.
    """
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        sync(aside)
        aside.replace(path)
        sync(path.parent)
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
        sync(path.parent)
    except Exception as error:
        _refuse(error, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
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
        sync(path)


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
