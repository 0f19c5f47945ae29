"""What lies behind the URLs that a recipe names: one file, or a product's folder, with the marks that tell a changed one.

Nothing is transferred here but listings, headers and manifests. A folder on plain HTTP has no listing, so its
``manifest.safe`` stands for one. Patterns with ``*`` work in buckets alone, for the same reason.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from rsdata.errors import DownloadError
from rsdata.records import RemoteFile
from rsdata.scenes.product import MAX_XML_BYTES, ProductFiles
from rsdata.scenes.remote import (
    CDSE_S3,
    MAX_OBJECTS,
    Body,
    PassingError,
    Session,
    check_inside,
    object_errors,
    pause,
    public_href,
    source_of,
    split_s3,
)
from rsdata.scenes.sentinel2_metadata import MANIFEST, listed_files
from rsdata.scenes.sentinel2_url import as_url

# Buckets at Amazon that anybody may read. Source: registry.opendata.aws/copernicus-dem.
_PUBLIC_BUCKETS = {name: f"https://{name}.s3.amazonaws.com" for name in ("copernicus-dem-30m", "copernicus-dem-90m")}
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Listing:
    """What one URL names."""

    name: str  # its last part
    files: list[RemoteFile]  # with marks, where the server gives any
    folder: bool

    @property
    def bytes(self) -> int:
        return sum(file.bytes or 0 for file in self.files)

    def marks(self) -> dict[str, str]:
        """What changes when a file is replaced: size and ETag, or the date where there is no ETag."""
        return {file.path: f"{file.bytes} {file.mark or ''}" for file in self.files}


def check_address(url: str) -> str:
    """See that a URL of a recipe is an address rsdata fetches from, and holds no key; returned without a slash at its end.

    Raises: DownloadError if it does not.
    """
    address = as_url(url)
    if address is None:
        raise DownloadError(f"{url[:120]!r} is no address that inputs are fetched from; name s3://bucket/… or https://…")
    if "@" in urlsplit(address).netloc:
        raise DownloadError(f"{public_href(address)} is written with a user name or password; put keys into the environment instead")
    return address


def name_of(url: str) -> str:
    """The last part of a URL, which its copy is named after.

    Raises: DownloadError if there is none.
    """
    name = unquote(PurePosixPath(urlsplit(check_address(url)).path).name)
    if not name:
        raise DownloadError(f"{public_href(url)} names a whole server or bucket; name a product or a file in it")
    check_inside(name)
    return name


def list_input(url: str, session: Session) -> Listing:
    """The files behind a URL.

    Raises: DownloadError if there is nothing, it may not be read, or the server cannot be reached.
    """
    name = name_of(url)
    address = _public(check_address(url), session)
    if address.startswith("s3://"):
        objects = _objects(address, session)
        if objects:
            return Listing(name, objects, folder=True)
    elif name.endswith(".SAFE"):
        return Listing(name, _files_of_manifest(address, session), folder=True)
    size, mark = _ask(url, session, lambda: _head(address, name, session))
    return Listing(name, [RemoteFile(path=name, href=address, bytes=size, mark=mark)], folder=False)


def expand_url(pattern: str, session: Session) -> list[str]:
    """The URLs that a pattern names, sorted; a URL without ``*`` is taken as it is. ``*`` stays within one folder.

    Raises: DownloadError if nothing matches, or the server has no listing.
    """
    address = check_address(pattern)
    if not address.startswith("s3://"):
        if "*" in urlsplit(address).path:
            raise DownloadError(f"{public_href(pattern)} has a `*`, but a server has no listing over HTTP; name each product, or use s3://")
        return [address]
    bucket, key = split_s3(address)
    if not _is_pattern(key):
        return [address]
    found = [""]
    for part in PurePosixPath(key).parts:
        if _is_pattern(part):
            found = [path for folder in found for path in _names(bucket, folder, pattern, session) if fnmatchcase(_last(path), part)]
        else:
            found = [f"{folder}/{part}" if folder else part for folder in found]
        if len(found) > MAX_OBJECTS:
            raise DownloadError(f"{pattern} names more than {MAX_OBJECTS:,} objects; name fewer")
    if not found:
        raise DownloadError(f"{pattern} matches nothing; look at the address, and at the endpoint that the environment names")
    return [f"s3://{bucket}/{path}" for path in sorted(found)]


def _is_pattern(text: str) -> bool:
    return re.search(r"[*\[]", text) is not None


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _public(address: str, session: Session) -> str:
    """Public buckets at Amazon are read there, unless the environment names an endpoint of its own."""
    if address.startswith("s3://") and session.keys.s3_endpoint == CDSE_S3:
        bucket, key = split_s3(address)
        if bucket in _PUBLIC_BUCKETS:
            return f"{_PUBLIC_BUCKETS[bucket]}/{key}"
    return address


def _head(address: str, name: str, session: Session) -> tuple[int | None, str | None]:
    """Size and mark of a file. The answer to a whole request is left unread: not every server answers HEAD as it does GET."""
    with source_of(address, name, session).body(0, None) as body:
        return body.size, body.mark


def _objects(folder: str, session: Session) -> list[RemoteFile]:
    """Every object below a folder, by path; empty if there is none."""
    bucket, prefix = split_s3(folder)
    store = session.store(bucket)  # says so where obstore is missing
    import obstore

    def ask() -> list[RemoteFile]:
        files = []
        with object_errors(_host(folder, session), folder):
            for page in obstore.list(store, prefix=prefix):
                for meta in page:
                    inside = meta["path"].removeprefix(f"{prefix}/")
                    if meta["path"] != prefix and inside and not inside.endswith("/"):
                        mark = meta["e_tag"] or meta["last_modified"].isoformat()
                        files.append(RemoteFile(path=inside, href=f"s3://{bucket}/{meta['path']}", bytes=meta["size"], mark=mark))
                if len(files) > MAX_OBJECTS:
                    raise DownloadError(f"{folder} holds more than {MAX_OBJECTS:,} objects; no product does, so look at its address")
        return files

    files = _ask(folder, session, ask)
    for file in files:
        check_inside(file.path)
    return sorted(files, key=lambda file: file.path)


def _names(bucket: str, folder: str, pattern: str, session: Session) -> list[str]:
    """Folders and objects right inside a folder of a bucket."""
    store = session.store(bucket)
    import obstore

    def ask() -> list[str]:
        with object_errors(_host(pattern, session), pattern):
            listed = obstore.list_with_delimiter(store, f"{folder}/" if folder else None)
        return [*listed["common_prefixes"], *(meta["path"] for meta in listed["objects"])]

    return [path.rstrip("/") for path in _ask(pattern, session, ask)]


def _files_of_manifest(address: str, session: Session) -> list[RemoteFile]:
    """The files of a product's folder on plain HTTP, as its manifest lists them; only the manifest itself has a mark."""
    url = f"{address}/{MANIFEST}"

    def ask() -> tuple[bytes, Body]:
        with source_of(url, MANIFEST, session).body(0, None) as body:
            content = bytearray()
            for chunk in body.chunks:
                content += chunk
                if len(content) > MAX_XML_BYTES:
                    raise DownloadError(f"{public_href(url)} has more than {MAX_XML_BYTES:,} bytes, more than any real one")
            return bytes(content), body

    content, body = _ask(url, session, ask)
    listed = listed_files(_Manifest(Path(public_href(address)), "", {MANIFEST: len(content)}, content=content))
    for path in listed:
        check_inside(path)
    files = [RemoteFile(path=MANIFEST, href=url, bytes=len(content), mark=body.mark)]
    return files + [
        RemoteFile(path=path, href=f"{address}/{path}", bytes=size) for path, size in sorted(listed.items()) if path != MANIFEST
    ]


@dataclass(frozen=True)
class _Manifest(ProductFiles):
    """A product of which only the manifest is at hand."""

    content: bytes = b""

    def _read(self, inside: str) -> bytes:
        return self.content


def _host(url: str, session: Session) -> str:
    return urlsplit(session.keys.s3_endpoint if url.startswith("s3://") else url).netloc


def _ask(url: str, session: Session, question: Callable[[], _Answer]) -> _Answer:
    """Ask a server as patiently as files are fetched, and name the URL where it says no.

    Raises: DownloadError.
    """
    host, tries = _host(url, session), 0
    while True:
        try:
            with session.connection(host):
                return question()
        except PassingError as error:
            tries += 1
            pause(session, host, error, tries)
        except DownloadError as error:
            if error.context.get("status") in (404, 410):
                raise DownloadError(
                    f"{public_href(url)} is not there ({host} answers {error.context['status']}); look at the address in the recipe",
                    **error.context,
                ) from None
            raise
