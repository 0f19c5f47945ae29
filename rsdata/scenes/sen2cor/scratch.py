"""Folders for one run alone, and products that one run at a time works on, told by locks that end with their holder."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsdata.errors import CorrectionError
from rsdata.scenes.sen2cor.process import stopped, stops


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder for one run alone, gone afterwards; folders of runs that were killed are removed first.

    A run holds a lock on its folder for as long as it lives, so what nobody holds a lock on is a leftover.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / "lock"):
        for old in sorted(parent.iterdir()):
            if old.is_dir() and not _is_held(old / "lock"):
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
        holding = _locked(folder / "lock")
        holding.__enter__()
    try:
        yield folder
    finally:
        holding.__exit__(None, None, None)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(parent: Path, name: str) -> Iterator[None]:
    """Wait until nobody else works on this product below this folder, in this process or another, and keep others waiting.

    Raises: CorrectionError if all runs there were stopped meanwhile.
    """
    began = stops()
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / f"{name}.lock"):
        if stopped(parent, began):
            raise CorrectionError(f"{name} was not begun, as all that ran was stopped; the same command begins it")
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _is_held(path: Path) -> bool:
    try:
        with path.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
