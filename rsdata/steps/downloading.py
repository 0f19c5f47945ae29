"""Products from a catalogue: searched, fetched, checked, remembered."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from rsdata import scenes
from rsdata.errors import DownloadError, RsdataError, SceneError, WorkspaceError
from rsdata.grid import Tile
from rsdata.records import (
    Download,
    Failure,
    FetchedFile,
    RemoteFile,
    RemoteProduct,
)
from rsdata.scenes import catalogue, download, remote
from rsdata.scenes.product import list_files
from rsdata.steps.receipts import failure
from rsdata.workspace import (
    Workspace,
    read_record,
    write_record,
)


def search_products(query: catalogue.ProductQuery, url: str | None = None) -> catalogue.SearchResult:
    """The products that a STAC catalogue offers; ``RSDATA_STAC`` names one, and so does ``url``, which goes first."""
    return catalogue.search_catalogue(query, url or os.environ.get("RSDATA_STAC") or catalogue.CDSE_STAC)


def product_query(
    tile: str,
    period: str,
    product_type: str = "S2MSI2A",
    max_cloud: float | None = None,
    limit: int | None = None,
    every_baseline: bool = False,
) -> catalogue.ProductQuery:
    """A query from what people type.

    Raises: GridError, or DownloadError if the dates or the type make no sense.
    """
    known = [name for name in catalogue.COLLECTIONS if name == product_type]
    if not known:
        raise DownloadError(f"{product_type!r} is not a product type; choose one of {', '.join(catalogue.COLLECTIONS)}")
    start, end = catalogue.parse_period(period)
    return catalogue.ProductQuery(Tile.from_name(tile.removeprefix("T")), start, end, known[0], max_cloud, limit, every_baseline)


def public_product(product: RemoteProduct) -> dict[str, Any]:
    """A product as JSON, its addresses without anything that could be a key."""
    clean = json.loads(product.model_dump_json())
    for file in [*clean["files"], *([clean["archive"]] if clean["archive"] else [])]:
        file["href"] = remote.public_href(file["href"])
    return dict(clean)


def fetch_products(
    products: Sequence[RemoteProduct],
    out: Path,
    connections: int = remote.CONNECTIONS,
    via: str = "auto",
    tell: Callable[[RemoteProduct, int, Download | Failure | None], None] = lambda product, n, outcome: None,
) -> tuple[list[Download], list[Failure]]:
    """Fetch products into a folder, with keys from the environment."""
    if not products:
        return [], []
    with remote.Session(connections=connections) as session:
        return download_products(products, Workspace.create(out), session, via, tell)


def download_product(
    product: RemoteProduct,
    workspace: Workspace,
    session: remote.Session,
    via: str = "auto",
    advance: Callable[[int], None] = lambda n: None,
) -> Download:
    """Fetch one product into the workspace, from where an earlier run left it; one that is there is left alone.

    Its record lies in ``downloads/`` and says at any time how far it is. The product itself gets its name only when
    it is whole, verified, and could be opened.

    Args:
        via: https for one zip, s3 for a folder of objects, auto for what the keys in the environment allow.
        advance: told bytes as they come; a negative number where a beginning is thrown away.

    Raises: DownloadError or SceneError, with the reason in the record as well.
    """
    place = workspace.download_state(product.product)
    before: Download | None = None
    with suppress(WorkspaceError):  # none yet, or of another version
        before = read_record(place, Download)
    if before is not None and before.state == "done" and _is_whole(before, workspace):
        return before
    source = download.choose_source(product, session.keys, via)
    suffix = ".zip" if source == "archive" else ".SAFE"
    target, part = workspace.root / f"{product.product}{suffix}", workspace.download_part(product.product)
    if before is not None and before.source != source:
        _remove(part)
        before = None
    record = Download(
        product=product.product,
        state="partial" if before is not None and before.files else "wanted",
        source="archive" if source == "archive" else "folder",
        files=before.files if before is not None else [],
    )
    if target.exists() and not (record.files and all(file.sha256 for file in record.files)):
        raise DownloadError(
            f"{target} is there, but was not fetched by this command; move it away or name another folder", path=str(target)
        )
    write_record(place, record)
    try:
        if not target.exists():
            if product.archive is not None and record.source == "archive":
                wanted = [product.archive]
            else:
                wanted = download.with_checksums(remote.list_folder(str(product.folder), session), product)
            record = fetch_files(wanted, record, workspace, session, advance)
            part.replace(target)
        _open_fetched(product, target, workspace)
        done = record.model_copy(update={"state": "done", "path": target.name})
        write_record(place, done)
        return done
    except (RsdataError, OSError) as error:
        known = read_record(place, Download)
        files = [] if isinstance(error, SceneError) else known.files
        state = "partial" if any(file.offset for file in files) else "failed"
        with suppress(WorkspaceError):  # a full disk takes no reason either
            write_record(place, known.model_copy(update={"state": state, "reason": str(error), "files": files}))
        if isinstance(error, RsdataError):
            raise
        raise DownloadError(
            f"{target} cannot be put in place ({error.strerror}); look at its folder, then repeat", path=str(target)
        ) from error


def download_products(
    products: Sequence[RemoteProduct],
    workspace: Workspace,
    session: remote.Session,
    via: str = "auto",
    tell: Callable[[RemoteProduct, int, Download | Failure | None], None] = lambda product, n, outcome: None,
) -> tuple[list[Download], list[Failure]]:
    """Fetch products, several at a time but never over more connections than the session has; one that fails stops no other.

    Args:
        tell: told of every product as bytes come, and once with its outcome.
    """

    def fetch(product: RemoteProduct) -> Download | Failure:
        outcome: Download | Failure
        try:
            outcome = download_product(product, workspace, session, via, lambda n: tell(product, n, None))
        except RsdataError as error:
            outcome = failure("download", product.product, error)
        tell(product, 0, outcome)
        return outcome

    with ThreadPoolExecutor(max_workers=session.connections, thread_name_prefix="download") as pool:
        waiting = [pool.submit(fetch, product) for product in products]
        try:
            outcomes = [future.result() for future in waiting]
        except BaseException:
            session.stop()
            pool.shutdown(cancel_futures=True)
            raise
    done = [outcome for outcome in outcomes if isinstance(outcome, Download)]
    return done, [outcome for outcome in outcomes if isinstance(outcome, Failure)]


def fetch_files(
    wanted: Sequence[RemoteFile], record: Download, workspace: Workspace, session: remote.Session, advance: Callable[[int], None]
) -> Download:
    """Bring every file of a product to the place where it waits to be whole; the record on disk follows."""
    place, part = workspace.download_state(record.product), workspace.download_part(record.product)
    files = {file.path: file for file in record.files}
    notes, lock, given_up = download.unverified(list(wanted)), threading.Lock(), threading.Event()

    def snapshot() -> Download:
        here = [files[each.path] for each in wanted if each.path in files]
        return record.model_copy(update={"state": "partial", "files": here, "notes": notes, "reason": None})

    def remember(file: FetchedFile) -> None:
        with lock:
            files[file.path] = file
            write_record(place, snapshot())

    def fetch(file: RemoteFile) -> None:
        if given_up.is_set():
            return
        target = part if record.source == "archive" else part / file.path
        try:
            download.fetch_file(file, files.get(file.path), target, session, remember, advance)
        except download.WrongContent as error:
            given_up.set()
            rejected = workspace.download_rejected(target.name if record.source == "folder" else file.path)
            rejected.parent.mkdir(exist_ok=True)
            target.replace(rejected)
            with lock:
                files.pop(file.path, None)
                write_record(place, snapshot())
            raise download.WrongContent(f"{error}; it lies in {rejected}, and the same command fetches it anew", **error.context) from None
        except BaseException:
            given_up.set()
            raise

    part.parent.mkdir(parents=True, exist_ok=True)
    missing = sum((file.bytes or 0) for file in wanted) - sum(file.offset for file in record.files)
    download.check_space(part.parent, max(0, missing), record.product)
    with ThreadPoolExecutor(max_workers=min(session.connections, len(wanted))) as pool:
        waiting = [pool.submit(fetch, file) for file in wanted]
        problems = [error for future in waiting if (error := future.exception()) is not None]
    if problems:
        raise problems[0]
    return snapshot()


def _open_fetched(product: RemoteProduct, path: Path, workspace: Workspace) -> None:
    """See that a finished product is one.

    Raises: SceneError if it is not; it is moved aside first.
    """
    try:
        if product.product_type == "S1GRD":
            list_files(path, marker="manifest.safe").read_xml("manifest.safe")
            return
        found = scenes.open_sentinel2(path).scene.product
        if found != product.product:
            raise SceneError(f"{path.name} holds the product {found}; search again", path=str(path))
    except SceneError as error:
        rejected = workspace.download_rejected(path.name)
        rejected.parent.mkdir(exist_ok=True)
        _remove(rejected)
        path.replace(rejected)
        raise SceneError(f"what came is not the product: {error}; it lies in {rejected}", path=str(rejected)) from error


def _is_whole(record: Download, workspace: Workspace) -> bool:
    """Whether a finished product still lies where it was put, with files of the same sizes."""
    if record.path is None:
        return False
    path = workspace.root / record.path
    if record.source == "archive":
        return path.is_file() and path.stat().st_size == record.bytes
    return all((path / file.path).is_file() and (path / file.path).stat().st_size == file.offset for file in record.files)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
