"""Folders as archives that are the same wherever they are made, and back."""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from rsdata.catalog.exports import pack, unpack
from rsdata.errors import ArchiveError, WorkspaceError
from rsdata.records import Manifest
from rsdata.steps.publishing import check_outputs
from rsdata.workspace import Workspace, read_record
from rsdata.writing import is_leftover, writing_folder

Advance = Callable[[int], None]


def archive_folder(
    root: Path,
    out: Path,
    *,
    part_bytes: int,
    leave_out: Collection[str] = (),
    workers: int = 1,
    advance: Advance = lambda n: None,
) -> dict[str, int]:
    """Write a finished dataset, or a folder that an export made, as an archive; it appears once it is whole.

    Of a dataset the state of its build (``build/``) is left out, and of any folder what a killed process left half written.

    Args:
        out: folder for the parts; must not exist yet, nor lie in ``root``.
        part_bytes: the most a part may have.
        leave_out: names of files and folders directly below ``root``; a slash at the end is allowed.
        advance: told how many files were packed.

    Raises: ArchiveError if something cannot be archived; WorkspaceError if ``root`` is no folder or no finished dataset.
    """
    root, out = root.resolve(), out.absolute()
    if not root.is_dir():
        raise WorkspaceError(f"{root} is no folder; name a finished dataset, or what an export wrote", path=str(root))
    if out.exists() or root in out.resolve().parents:
        reason = "exists" if out.exists() else "lies in the folder to be archived"
        raise WorkspaceError(f"{out} {reason}; name another with --out", path=str(out))
    left_out = {name.rstrip("/") for name in leave_out}
    if absent := sorted(name for name in left_out if name in ("", ".", "..") or "/" in name or not (root / name).exists()):
        named = ", ".join(absent) or "/"
        raise ArchiveError(f"{root} has no {named} to leave out; name what lies directly in it, such as parts", path=str(root))
    if _is_dataset(root):
        workspace = Workspace(root)
        check_outputs(workspace, read_record(workspace.manifest, Manifest))
        left_out.add(workspace.build.name)
    files = list(_files(root, left_out))
    if not files:
        raise ArchiveError(f"{root} holds no files to archive", path=str(root))
    with writing_folder(out) as folder:
        return pack(root, folder, files, part_bytes=part_bytes, workers=workers, advance=advance)


def unpack_archive(archive: Path, out: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
    """Write the files of an archive into a folder, which appears once every digest was seen to be right.

    Raises: ArchiveError if the archive is damaged, incomplete or not to be trusted; WorkspaceError if ``out`` exists.
    """
    if out.exists():
        raise WorkspaceError(f"{out} exists; name another with --out", path=str(out))
    with writing_folder(out.absolute()) as folder:
        return unpack(archive, folder, workers=workers, advance=advance)


def _is_dataset(root: Path) -> bool:
    """Raises: WorkspaceError if it is one that is not finished."""
    workspace = Workspace(root)
    if not workspace.receipts.is_dir():
        return False
    if not workspace.manifest.is_file():
        raise WorkspaceError(f"{root} is a dataset that is not finished; run its build to the end first", path=str(root))
    return True


def _files(root: Path, left_out: Collection[str]) -> Iterator[str]:
    """Regular files below a folder, with slashes. Raises: ArchiveError at anything else."""
    for place, folders, names in os.walk(root, onerror=_raise):
        here = Path(place)
        if here == root:
            folders[:] = [name for name in folders if name not in left_out]
            names = [name for name in names if name not in left_out]
        folders[:] = [name for name in folders if not is_leftover(name)]
        for name in [*folders, *names]:
            path = here / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ArchiveError(f"{path} is a link or no regular file; archives hold files alone, put a copy there", path=str(path))
        yield from ((here / name).relative_to(root).as_posix() for name in names if not is_leftover(name))


def _raise(error: OSError) -> None:
    raise WorkspaceError(f"{error.filename} cannot be listed: {error.strerror}; see its permissions", path=str(error.filename)) from error
