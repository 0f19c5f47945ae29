"""One build at a time in a folder: a lock that ends with its holder, and tells who it is."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO

from pydantic import ValidationError

from rsdata.errors import RsdataError, WorkspaceBusy, WorkspaceError
from rsdata.records import Builder
from rsdata.steps.events import Event
from rsdata.steps.journal import Journal
from rsdata.workspace import Workspace
from rsdata.writing import disk_full, is_full, refusing, remove_leftovers

_PATIENCE_S = 2.0  # for a lock whose holder is just being ended, or that somebody looks at
_STAGE = "build"  # of events that belong to no stage


@contextmanager
def building(workspace: Workspace, name: str, workers: int, tell: Callable[[Event], None]) -> Iterator[Callable[[Event], None]]:
    """Be the one that builds in a folder; hand out where to tell what happens, which is kept in the folder too.

    What a build or a worker that was killed left half written is removed.

    Args: tell: told everything as well.

    Raises: WorkspaceBusy if another build is at work there.
    """
    with _locked(workspace) as (builder, before):
        journal = Journal(workspace, name, builder, workers, tell)
        if before is not None:
            journal.tell(
                Event(
                    _STAGE,
                    note=f"the build of process {before.pid} on {before.host} since {_when(before)} was cut off; going on from there",
                )
            )
            remove_leftovers(workspace.root)
        try:
            yield journal.tell
        except KeyboardInterrupt:
            journal.end("stopped", "a signal asked for it")
            remove_leftovers(workspace.root, own=True)
            raise
        except Exception as error:
            if is_full(error) and not isinstance(error, RsdataError):
                error = disk_full(workspace.root).with_traceback(error.__traceback__)
            journal.end("failed", str(error) if isinstance(error, RsdataError) else f"{type(error).__name__}: {error}")
            raise error
        else:
            remove_leftovers(workspace.root)  # of workers that were killed
            journal.end("done")


def builder_of(workspace: Workspace) -> Builder | None:
    """Who builds in a folder at this moment; None if nobody does."""
    try:
        with workspace.build_lock.open("rb") as stream:
            try:
                fcntl.lockf(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return _holder(stream)
    except OSError:
        return None
    return None


@contextmanager
def _locked(workspace: Workspace, is_build: bool = True) -> Iterator[tuple[Builder, Builder | None]]:
    """Hold the lock; hand out who this is, and who held it before without giving it back: after anything but a build it still says so."""
    with _open(workspace) as stream:
        _take(stream, workspace, fcntl.LOCK_EX)
        before = _holder(stream)
        builder = _this_process()
        with refusing(workspace.build_lock):
            _write(stream, builder)
        try:
            yield builder, before
        finally:
            with refusing(workspace.build_lock):
                _write(stream, None if is_build else before)


@contextmanager
def changing(workspace: Workspace) -> Iterator[None]:
    """Keep all others out of a folder while a part of its dataset is made anew outside a build.

    Raises: WorkspaceBusy if somebody is at work there.
    """
    with _locked(workspace, is_build=False):
        yield


@contextmanager
def reading(workspace: Workspace) -> Iterator[None]:
    """Keep builds out of a folder while something is made from its dataset; any number may do so at a time.

    Where no lock can be had, as on a file system without them, no build can be at work either.

    Raises: WorkspaceBusy if a build is.
    """
    try:
        stream = _open(workspace)
    except WorkspaceError:
        yield
        return
    with stream:
        try:
            _take(stream, workspace, fcntl.LOCK_SH)
        except WorkspaceBusy:
            raise
        except WorkspaceError:
            pass
        yield


def _open(workspace: Workspace) -> IO[bytes]:
    """The lock's file, without a buffer, so that nothing is left to be written when it is closed."""
    with refusing(workspace.build_lock):
        workspace.build_lock.parent.mkdir(exist_ok=True)
        return workspace.build_lock.open("a+b", buffering=0)


def _this_process() -> Builder:
    return Builder(host=socket.gethostname(), pid=os.getpid(), since=datetime.now(UTC))


def _take(stream: IO[bytes], workspace: Workspace, kind: int) -> None:
    """POSIX locks: the system gives them back when the process ends, and forked children do not hold them on.

    Args: kind: ``LOCK_EX``, or ``LOCK_SH`` to hold it beside others of this kind.
    """
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.lockf(stream, kind | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError) as error:
            if time.monotonic() < end:
                time.sleep(0.1)
                continue
            holder = _holder(stream)
            who = f"process {holder.pid} on {holder.host} since {_when(holder)}" if holder else "another process"
            raise WorkspaceBusy(
                f"{workspace.root} is in use by {who}; wait for it, stop it, or work in another folder",
                path=str(workspace.root),
            ) from error
        except OSError as error:
            raise WorkspaceError(
                f"{workspace.root} lies on a file system without locks ({error.strerror}); name a folder on another one with --out, as two "
                "builds in one folder would spoil each other's work",
                path=str(workspace.root),
            ) from error


def _holder(stream: IO[bytes]) -> Builder | None:
    stream.seek(0)
    try:
        return Builder.model_validate_json(stream.read())
    except ValidationError:  # empty, as nobody builds; or cut off while it was written
        return None


def _write(stream: IO[bytes], builder: Builder | None) -> None:
    stream.seek(0)
    stream.truncate()
    stream.write((builder.model_dump_json() + "\n").encode() if builder is not None else b"")
    os.fsync(stream.fileno())


def _when(builder: Builder) -> str:
    return f"{builder.since:%Y-%m-%d %H:%M} UTC"
