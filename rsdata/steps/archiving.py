"""Folders as archives that are the same wherever they are made, and back."""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from rsdata.catalog.exports import pack, unpack
from rsdata.errors import ArchiveError, WorkspaceError
from rsdata.records import Manifest
from rsdata.steps.publishing import check_outputs
from rsdata.workspace import Workspace, read_record, writing_folder

Advance = Callable[[int], None]

ARCHIVE_SUMMARY = "parts of bounded size, tar.zst, with an index and checksums; of any folder"


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
        leave_out: names of files and folders directly below ``root``.
        advance: told how many files were packed.

    Raises: ArchiveError if something cannot be archived; WorkspaceError if ``root`` is no folder or no finished dataset.
    """
    root, out = root.resolve(), out.absolute()
    if not root.is_dir():
        raise WorkspaceError(f"{root} is no folder; name a finished dataset, or what an export wrote", path=str(root))
    if out.exists() or root in out.resolve().parents:
        reason = "exists" if out.exists() else "lies in the folder to be archived"
        raise WorkspaceError(f"{out} {reason}; name another with --out", path=str(out))
    if absent := sorted(name for name in leave_out if not (root / name).exists()):
        raise ArchiveError(f"{root} has no {', '.join(absent)} to leave out; leave out what lies directly in it", path=str(root))
    left_out = set(leave_out)
    if _is_dataset(root):
        workspace = Workspace(root)
        check_outputs(workspace, read_record(workspace.manifest, Manifest))
        left_out.add(workspace.build_lock.parent.name)
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
    if not (root / "receipts").is_dir():
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
        folders[:] = [name for name in folders if not _half_written(name)]
        for name in [*folders, *names]:
            path = here / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ArchiveError(f"{path} is a link or no regular file; archives hold files alone, put a copy there", path=str(path))
        yield from ((here / name).relative_to(root).as_posix() for name in names if not _half_written(name))


def _half_written(name: str) -> bool:
    return name.startswith(".") and name.endswith((".part", ".old"))


def _raise(error: OSError) -> None:
    raise WorkspaceError(f"{error.filename} cannot be listed: {error.strerror}; see its permissions", path=str(error.filename)) from error
