"""How files of a training run get to the disk: whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsdata.errors import WorkspaceError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Hand out a path to write aside; on success sync it and give it its final name, else remove it.

    Raises: WorkspaceError if the system refuses to write.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError as error:
        if isinstance(error, WorkspaceError):
            raise
        raise WorkspaceError(f"{path} cannot be written: {error}; free space or name another folder", path=str(path)) from error
    finally:
        aside.unlink(missing_ok=True) if aside.parent.is_dir() else None
