"""Inputs that a recipe names by URL: brought into the workspace once, and again only if the server has others.

Whole files are fetched rather than ranges: a scene is read twice in full (its digest, its pixels), so ranges would
transfer more, and every later stage, worker and rerun finds ordinary files. The server is asked on every build
whether it still has the same files; RSDATA_OFFLINE=1 takes what is there without asking.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rsdata.errors import DownloadError, RsdataError, WorkspaceError
from rsdata.recipe import Recipe
from rsdata.records import Download, FetchedFile, RemoteCopy, RemoteInput
from rsdata.scenes import download, remote, remote_inputs
from rsdata.scenes.sentinel2_url import as_url
from rsdata.steps.downloading import fetch_files
from rsdata.steps.receipts import Outcome, once
from rsdata.workspace import Workspace, read_record, write_record

Note = Callable[[str], None]


def fetch_inputs(
    recipe: Recipe, workspace: Workspace, note: Note = lambda line: None, session: remote.Session | None = None
) -> list[Outcome]:
    """Fetch what a recipe names by URL, save its elevation model, of which only the tiles under a scene are needed.

    A product that does not come is remembered with the reason, and ``find_scenes`` reports it; others go on.

    Raises: DownloadError if land cover, countries, geoid or climate zones do not come, or a pattern names nothing.
    """
    said = recipe.scenes
    if said is None:
        return []
    products = [each for each in (*said.sentinel2, *said.sentinel1) if as_url(each)]
    climate = recipe.captions.climate
    layers = [
        recipe.labels.path, recipe.countries.path if recipe.countries else None, said.geoid, climate.raster if climate else None
    ]  # fmt: skip
    wanted = [*products, *(each for each in layers if each and as_url(each))]
    if not wanted or is_offline():
        return []
    outcomes = []
    with session or remote.Session() as opened:
        for named in dict.fromkeys(wanted):
            copies = []
            for url in remote_inputs.expand_url(named, opened) if named in products else [named]:
                shown = remote.public_href(url)
                try:
                    outcome = fetch_url(url, workspace, opened, note)
                except DownloadError as error:
                    if named not in products:
                        raise
                    copies.append(RemoteCopy(url=shown, path=None, reason=str(error)))
                    continue
                outcomes.append(outcome)
                copies.append(RemoteCopy(url=shown, path=_copy_path(url, workspace).relative_to(workspace.root).as_posix()))
            write_record(workspace.remote_input(named), RemoteInput(named=remote.public_href(named), copies=copies))
    return outcomes


def is_offline() -> bool:
    return os.environ.get("RSDATA_OFFLINE", "").lower() in ("1", "yes", "on", "true")


def copies_of(named: str, workspace: Workspace) -> list[RemoteCopy]:
    """What a URL or a pattern of URLs in the recipe led to.

    Raises: DownloadError if it was never fetched.
    """
    place = workspace.remote_input(named)
    if not place.exists():
        why = "and RSDATA_OFFLINE forbids asking for it" if is_offline() else "so run `rsdata build` where its server can be reached"
        raise DownloadError(f"{remote.public_href(named)} has not been fetched into {workspace.inputs} yet, {why}")
    return read_record(place, RemoteInput).copies


def copy_of(url: str, workspace: Workspace) -> Path | None:
    """The finished copy of one URL; None if there is none."""
    unit, path = _unit(url, workspace), _copy_path(url, workspace)
    return path if workspace.receipt_path("inputs", unit).exists() and path.exists() else None


def forget(url: str, workspace: Workspace) -> None:
    """Drop the copy of a URL that is no longer there."""
    workspace.forget_receipt("inputs", _unit(url, workspace))
    shutil.rmtree(workspace.remote_copies(url).root, ignore_errors=True)


def fetch_url(url: str, workspace: Workspace, session: remote.Session, note: Note = lambda line: None) -> Outcome:
    """Fetch what lies behind one URL, from where an earlier run left it; what is here already is left alone.

    Raises: DownloadError in one sentence; what has come is kept.
    """
    listing = remote_inputs.list_input(url, session)
    copies, unit = Workspace.create(workspace.remote_copies(url).root), _unit(url, workspace)
    place, part, target = copies.download_state(listing.name), copies.download_part(listing.name), _copy_path(url, workspace)
    shown = remote.public_href(url)

    def work() -> tuple[list[Path], dict[str, int]]:
        begun: Download | None = None
        with suppress(WorkspaceError):  # none yet, or of another version
            begun = read_record(place, Download)
        if begun is None or not _same(begun.files, listing):
            begun = None
            _remove(part)
        _remove(target) if begun is None or begun.state != "done" else None
        if begun is None or begun.state != "done" or not _is_whole(begun, target):
            _remove(target)
            note(f"fetching {shown}, {listing.bytes / 1e6:,.1f} MB")
            _fetch(listing, begun.files if begun is not None and part.exists() else [], copies, session, shown)
            part.replace(target)
        files = sorted(item for item in target.rglob("*") if item.is_file()) if listing.folder else [target]
        return files, {"files": len(files), "bytes": sum(item.stat().st_size for item in files)}

    return once("inputs", unit, workspace, {"url": shown, **listing.marks()}, work)


def _fetch(listing: remote_inputs.Listing, begun: list[FetchedFile], copies: Workspace, session: remote.Session, shown: str) -> None:
    place = copies.download_state(listing.name)
    source = "folder" if listing.folder else "archive"
    record = Download(product=listing.name, state="partial" if begun else "wanted", source=source, files=begun)
    download.check_space(copies.root, max(0, listing.bytes - sum(file.offset for file in begun)), shown)
    write_record(place, record)
    # Sizes are left out: a file that changes now is to be told by its mark, in the sentence below.
    wanted = [file.model_copy(update={"bytes": None}) for file in listing.files]
    try:
        record = fetch_files(wanted, record, copies, session, lambda n: None)
        stated = {file.path: file.mark for file in listing.files}
        if changed := [file.path for file in record.files if stated[file.path] not in (None, file.mark)]:
            raise DownloadError(f"{shown} changed while it was fetched ({changed[0]}); run the same command again", url=shown)
    except RsdataError as error:
        known = read_record(place, Download)
        with suppress(WorkspaceError):  # a full disk takes no reason either
            write_record(place, known.model_copy(update={"reason": str(error)}))
        raise
    write_record(place, record.model_copy(update={"state": "done", "path": listing.name, "reason": None}))


def _same(files: list[FetchedFile], listing: remote_inputs.Listing) -> bool:
    """Whether a beginning is of the files that the server has now."""
    known = {file.path: file for file in listing.files}
    return all(
        file.path in known
        and known[file.path].mark in (None, file.mark)
        and (None in (file.bytes, known[file.path].bytes) or file.bytes == known[file.path].bytes)
        for file in files
    )


def _is_whole(record: Download, target: Path) -> bool:
    if record.source == "archive":
        return target.is_file() and target.stat().st_size == record.bytes
    return bool(record.files) and all(
        (target / file.path).is_file() and (target / file.path).stat().st_size == file.offset for file in record.files
    )


def _unit(url: str, workspace: Workspace) -> str:
    return workspace.remote_copies(url).root.name


def _copy_path(url: str, workspace: Workspace) -> Path:
    name = remote_inputs.name_of(url)
    return workspace.remote_copies(url).root / name


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
