"""Products behind a URL: XML and listings through obstore, pixels through GDAL, which fetches the ranges it needs.

``s3://bucket/…`` is a folder or a zip; ``https://…`` is a zip, or a folder whose ``manifest.safe`` lists its files, since
plain HTTP has no listing. This is for looking at a product; a build fetches it whole, once, see ``steps.fetching``.
Credentials and end point come from the environment, under the names GDAL knows:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_S3_ENDPOINT, AWS_HTTPS, AWS_NO_SIGN_REQUEST.
"""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote, urlsplit

from rsdata.errors import SceneError
from rsdata.foreign import drop_empty_variables
from rsdata.scenes.product import MAX_XML_BYTES, ZIP_ERRORS, ProductFiles, product_folder
from rsdata.scenes.sentinel2_metadata import MANIFEST, MARKERS, listed_files

# GDAL waits forever otherwise. They are set where the environment does not, and also for the workers that are started later.
_PATIENCE = {
    "GDAL_HTTP_CONNECTTIMEOUT": "15",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",  # seconds below the speed that follows, and the request ends
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",  # bytes per second
    "GDAL_HTTP_TIMEOUT": "600",  # seconds a request may take at all
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}
# `empty_dir`: no side files (.aux.xml, .ovr, …) are asked for, which would be some fifty requests for each band. Worse, GDAL
# sends them while rasterio holds Python's lock, so a server in a thread of the same process could never answer.
_CURL = "/vsicurl?empty_dir=yes&url="  # source: GDAL, virtual file systems, vsicurl
_URL = re.compile(r"(s3|https?):/+(.+)")
_BLOCK_BYTES = 2**20


class UrlPath(PurePosixPath):
    """A URL that reads like a path: its last part is its name."""

    def __str__(self) -> str:
        return _URL.sub(r"\1://\2", super().__str__())


def as_url(path: Path | str) -> str | None:
    """The URL in a text or in a path that lost a slash, such as ``s3:/bucket/key``; None for a local path."""
    match = _URL.fullmatch(str(path))
    return f"{match[1]}://{match[2].rstrip('/')}" if match else None


@dataclass(frozen=True)
class UrlFiles(ProductFiles):
    """Files of one product behind a URL."""

    is_zip: bool = False

    @property
    def zipped(self) -> bool:
        return self.is_zip

    @property
    def name(self) -> str:
        return PurePosixPath(self.prefix).name if self.prefix else self.path.name

    def gdal_path(self, inside: str) -> str:
        url = str(self.path)
        whole = url if self.is_zip else f"{url}/{inside}"
        whole = f"/vsis3/{whole.removeprefix('s3://')}" if url.startswith("s3://") else f"{_CURL}{quote(whole, safe=':/')}"
        return f"/vsizip/{{{whole}}}/{self.prefix}{inside}" if self.is_zip else whole

    def _read(self, inside: str) -> bytes:
        return b"".join(self._blocks(inside))

    def digest(self, inside: str, algorithm: str) -> str:
        found = hashlib.new(algorithm)
        for block in self._blocks(inside):
            found.update(block)
        return found.hexdigest()

    def signature(self) -> str:
        """A quick mark of names and sizes; unlike that of local files it does not see a file of the same size replaced."""
        listed = "\n".join(f"{inside}\0{self.sizes[inside]}" for inside in sorted(self.sizes))
        return hashlib.sha256(f"{self.path}\n{listed}".encode()).hexdigest()

    def sha256(self) -> str:
        if self.is_zip:
            found = hashlib.sha256()
            for block in _stream(str(self.path)):
                found.update(block)
            return found.hexdigest()
        listed = "".join(f"{inside}\0{self.digest(inside, 'sha256')}\n" for inside in sorted(self.sizes))
        return hashlib.sha256(listed.encode()).hexdigest()

    def _blocks(self, inside: str) -> Iterator[bytes]:
        if not self.is_zip:
            yield from _stream(f"{self.path}/{inside}")
            return
        with _opened_zip(str(self.path)) as archive, archive.open(self.prefix + inside) as entry:
            while block := entry.read(_BLOCK_BYTES):
                yield block


def list_url(url: str) -> UrlFiles:
    """List the files of a product behind a URL.

    Raises: SceneError if it cannot be reached, is no product, or obstore is not installed.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    drop_empty_variables("AWS_")
    path = cast(Path, UrlPath(url))
    if url.lower().endswith(".zip"):
        with _opened_zip(url) as archive:
            entries = {info.filename: info.file_size for info in archive.infolist() if not info.filename.endswith("/")}
        prefix = product_folder(entries, MARKERS, url)
        sizes = {name.removeprefix(prefix): size for name, size in entries.items() if name.startswith(prefix)}
        return UrlFiles(path, prefix, sizes, is_zip=True)
    if url.startswith("s3://"):
        sizes = _list_objects(url)
        if not sizes:
            raise SceneError(f"{url} holds nothing; name the folder or the zip of a product", path=url)
        return UrlFiles(path, "", sizes)
    size = _size(f"{url}/{MANIFEST}")
    if size > MAX_XML_BYTES:
        raise SceneError(f"{url}/{MANIFEST} has {size} bytes, more than any real one; name a product's folder", path=url)
    files = UrlFiles(path, "", {MANIFEST: size})
    listed = listed_files(files)
    return replace(files, sizes={MANIFEST: size} | {name: stated or 0 for name, stated in listed.items()})


def _store(url: str) -> tuple[Any, Any, str]:
    """obstore, its store for a URL's server, and the object's key there."""
    try:
        import obstore
        from obstore.store import HTTPStore, S3Store
    except ImportError:
        raise SceneError(f"{url} needs the package obstore; install it with `pip install rsdata[download]`", path=url) from None
    parts = urlsplit(url)
    if parts.scheme != "s3":
        client: Any = {"allow_http": parts.scheme == "http"}
        return obstore, HTTPStore.from_url(f"{parts.scheme}://{parts.netloc}", client_options=client), parts.path.lstrip("/")
    env = os.environ
    options: dict[str, Any] = {"region": env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"}
    endpoint = env.get("AWS_S3_ENDPOINT")
    if endpoint:
        secure = env.get("AWS_HTTPS", "YES").upper() not in ("NO", "OFF", "FALSE", "0")
        options["endpoint"] = endpoint if "://" in endpoint else f"http{'s' if secure else ''}://{endpoint}"
        options["client_options"] = {"allow_http": options["endpoint"].startswith("http://")}
    if env.get("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "ON", "TRUE", "1"):
        options["skip_signature"] = True
    return obstore, S3Store(parts.netloc, **options), parts.path.lstrip("/")


class _Reader(io.RawIOBase):
    """An object as the byte stream that zipfile wants; obstore hands out buffers of its own kind."""

    def __init__(self, remote: Any) -> None:
        self._remote = remote

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._remote.seek(offset, whence))

    def tell(self) -> int:
        return int(self._remote.tell())

    def readinto(self, buffer: Any) -> int:
        block = bytes(self._remote.read(len(buffer)))
        buffer[: len(block)] = block
        return len(block)


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Say of every failure on the way which URL it was."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, *ZIP_ERRORS) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise SceneError(f"{url} cannot be read ({reason}); look at the address, the credentials and the network", path=url) from error


@contextmanager
def _opened_zip(url: str) -> Iterator[zipfile.ZipFile]:
    obstore, store, key = _store(url)
    with _reaching(url), zipfile.ZipFile(io.BufferedReader(_Reader(obstore.open_reader(store, key)))) as archive:
        yield archive


def _stream(url: str) -> Iterator[bytes]:
    obstore, store, key = _store(url)
    with _reaching(url):
        for block in obstore.get(store, key).stream(min_chunk_size=_BLOCK_BYTES):
            yield bytes(block)


def _size(url: str) -> int:
    obstore, store, key = _store(url)
    with _reaching(url):
        return int(obstore.head(store, key)["size"])


def _list_objects(url: str) -> dict[str, int]:
    obstore, store, key = _store(url)
    with _reaching(url):
        found = [item for page in obstore.list(store, prefix=key) for item in page]
    return {item["path"].removeprefix(f"{key}/"): item["size"] for item in found if item["path"].startswith(f"{key}/") and item["size"]}
