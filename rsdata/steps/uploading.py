"""A built dataset into an object store: every file with its digest, the manifest last, so that a manifest there vouches for all.

A build writes and renames files, which an object store cannot; so it works in a folder, and what is finished is
stored. An object that carries the digest of its file is there already, which makes an upload that was cut off go on.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rsdata.errors import WorkspaceError
from rsdata.recipe import load_recipe
from rsdata.records import Manifest
from rsdata.shards.manifest import MANIFEST_FILE
from rsdata.shards.objects import Objects
from rsdata.steps.label_inputs import with_own_tables
from rsdata.workspace import Workspace, file_sha256, read_record

AT_ONCE = 4  # files

T = TypeVar("T")


@dataclass(frozen=True)
class Uploaded:
    """What an upload did."""

    url: str
    files: int
    bytes: int
    skipped: int  # files that were there already
    findings: tuple[str, ...] = ()  # what was read back and differs


def upload_dataset(workspace: Workspace, url: str, *, read_back: bool = False, advance: Callable[[int], None] = lambda n: None) -> Uploaded:
    """Store a built dataset below a URL; what is there already is left alone.

    Args:
        url: such as ``s3://bucket/prefix``.
        read_back: read every object again and compare its digest.
        advance: told how many bytes were stored, or found to be there.

    Raises: WorkspaceError if the dataset is not built, or a file is not as its manifest says; ShardError if the store refuses.
    """
    objects = Objects(url)
    digests = {item.path: item.sha256 for item in read_record(workspace.manifest, Manifest).outputs}
    names = list(dict.fromkeys([*digests, *(path.relative_to(workspace.root).as_posix() for path in _beside(workspace))]))
    last = workspace.manifest.relative_to(workspace.root).as_posix()
    manifest_sha256 = file_sha256(workspace.manifest)
    there = objects.digest_of(last)
    if there is not None and there[1] != manifest_sha256:
        objects.delete(last)  # until all of the new one is there, nothing vouches for what is

    def store(name: str) -> tuple[int, bool]:
        path = workspace.root / name
        if not path.is_file():
            raise WorkspaceError(f"{path} is missing; run `rsdata build` again", path=str(path))
        size, sha256 = path.stat().st_size, file_sha256(path)
        if digests.get(name, sha256) != sha256:
            raise WorkspaceError(f"{path} is not as the dataset's manifest says; run `rsdata build` again", path=str(path))
        if objects.digest_of(name) == (size, sha256):
            advance(size)
            return size, True
        objects.write(name, path, sha256)
        advance(size)
        return size, False

    manifests = [name for name in names if name.endswith(f"/{MANIFEST_FILE}")]
    done: list[tuple[int, bool]] = []
    for group in ([name for name in names if name not in manifests], manifests, [last]):
        done += _all(store, group)
    findings: Sequence[str | None] = _all(lambda name: _difference(objects, name, workspace), [*names, last]) if read_back else ()
    return Uploaded(
        url=objects.url,
        files=len(done),
        bytes=sum(size for size, _ in done),
        skipped=sum(skipped for _, skipped in done),
        findings=tuple(each for each in findings if each is not None),
    )


def _beside(workspace: Workspace) -> list[Path]:
    """What the manifest does not vouch for and belongs to a dataset: its recipe with the tables that it names, and its reports."""
    _, tables = with_own_tables(load_recipe(workspace.recipe))
    reports = [path for path in (workspace.report, workspace.text_report) if path.is_file()]
    return [workspace.recipe, *(workspace.root / name for name in tables), *reports]


def _all(act: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Do something with every file, several at a time; the first error ends it."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(act, name) for name in names]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _difference(objects: Objects, name: str, workspace: Workspace) -> str | None:
    found = hashlib.sha256()
    for chunk in objects.chunks(name):
        found.update(chunk)
    if found.hexdigest() == file_sha256(workspace.root / name):
        return None
    return f"{objects.url}/{name} differs from {workspace.root / name}"
