"""Files behind a URL of an object store (``s3://``, ``gs://``, ``az://``), read and written whole or by ranges.

obstore does the work: it takes keys, endpoint and region from the environment as the store's own tools do
(``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_SKIP_SIGNATURE=true`` for public buckets, ...), repeats
a request that failed in passing, and cuts large files into parts. A variable that is set to nothing counts as not set. No
message holds what a server said.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from rsdata.errors import ShardError
from rsdata.foreign import drop_empty_variables

SCHEMES = ("s3", "gs", "az")
DIGEST = "sha256"  # attribute of an object: what its content has, as it was stored
TRIES = 4  # of a whole file, beyond the requests that obstore repeats by itself
_BACKOFF_S = 0.5
_PART_BYTES = 16 * 2**20
_MOST_PARTS = 9_000  # of the 10,000 that S3 allows

T = TypeVar("T")
_asking: int | None = None  # the process that asked first: the threads of obstore do not come along into one that is forked off


def is_url(path: object) -> bool:
    """Whether something names a place in an object store."""
    return isinstance(path, str) and path.split("://", 1)[0] in SCHEMES and "://" in path


class Objects:
    """What lies below one URL; pickles, and connects again in another process."""

    def __init__(self, url: str) -> None:
        """Raises: ShardError if the URL is not of a known store, or obstore is not installed."""
        if not is_url(url) or not url.split("://", 1)[1].strip("/"):
            raise ShardError(f"{url} is no URL of an object store; expected {' or '.join(f'{each}://BUCKET/PREFIX' for each in SCHEMES)}")
        if "@" in url or "?" in url:
            raise ShardError("a URL is given with keys or a query in it; put keys into the environment, such as AWS_ACCESS_KEY_ID")
        try:
            from obstore.store import from_url
        except ImportError:
            raise ShardError("reading and writing object stores needs obstore; run `pip install rsdata[download]`") from None
        self.url = url.rstrip("/")
        drop_empty_variables("AWS_", "AZURE_", "GOOGLE_")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        with self._told("", "opened"):
            self._store: Any = from_url(
                self.url,
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "connect_timeout": timedelta(seconds=15),
                    "read_timeout": timedelta(seconds=60),
                    "timeout": timedelta(hours=1),
                },
                retry_config={"max_retries": 8, "retry_timeout": timedelta(minutes=5)},
            )

    def __reduce__(self) -> tuple[type["Objects"], tuple[str]]:
        return Objects, (self.url,)

    def check_process(self) -> None:
        """Raises: ShardError in a process that was forked off one that asked an object store, where a request would never end."""
        global _asking
        _asking = _asking or os.getpid()
        if _asking != os.getpid():
            raise ShardError(
                f"{self.url} cannot be used in a process that was forked off one that had asked an object store before; "
                "use threads, or processes that are started by spawn or forkserver",
                url=self.url,
            )

    def read(self, name: str, most_bytes: int) -> bytes:
        """A whole file. Raises: ShardError if it is not there, cannot be read, or has more than ``most_bytes``."""
        import obstore

        def ask() -> tuple[int, bytes]:
            found = obstore.get(self._store, name)
            size = int(found.meta["size"])
            return size, bytes(found.bytes()) if size <= most_bytes else b""

        size, content = self._patiently(name, "read", ask)
        if size > most_bytes:
            raise ShardError(f"{self.url}/{name} has {size:,} bytes; expected at most {most_bytes:,}, so store it again", url=self.url)
        return content

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of a file. Raises: ShardError if they are not there."""
        import obstore

        return self._patiently(name, "read", lambda: bytes(obstore.get_range(self._store, name, start=start, length=length)))

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole file, piece by piece."""
        import obstore

        self.check_process()
        with self._told(name, "read"):
            for chunk in obstore.get(self._store, name).stream(min_chunk_size=8 * 2**20):
                yield bytes(chunk)

    def digest_of(self, name: str) -> tuple[int, str | None] | None:
        """Size of a file, and the digest that was set down with it; None if there is no such file."""
        import obstore

        def ask() -> tuple[int, str | None] | None:
            try:
                found = obstore.get(self._store, name, options={"head": True})
            except (FileNotFoundError, obstore.exceptions.NotFoundError):
                return None
            said = found.attributes.get(DIGEST)
            return int(found.meta["size"]), None if said is None else str(said)

        return self._patiently(name, "read", ask)

    def write(self, name: str, source: Path, sha256: str) -> None:
        """Store a file with its digest beside it; it appears whole or not at all."""
        import obstore

        size = source.stat().st_size
        part = max(_PART_BYTES, size // _MOST_PARTS)
        self._patiently(
            name,
            "written",
            lambda: obstore.put(
                self._store, name, source, attributes={DIGEST: sha256}, use_multipart=size > part, chunk_size=part, max_concurrency=4
            ),
        )

    def delete(self, name: str) -> None:
        import obstore

        self._patiently(name, "deleted", lambda: obstore.delete(self._store, name))

    def _patiently(self, name: str, what: str, act: Callable[[], T]) -> T:
        self.check_process()
        for left in reversed(range(TRIES)):
            try:
                with self._told(name, what):
                    return act()
            except ShardError as error:
                if not left or not error.context.get("passing"):
                    raise
            time.sleep(_BACKOFF_S * 2 ** (TRIES - 1 - left))
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _told(self, name: str, what: str) -> Iterator[None]:
        """Errors of the library as one sentence of ours."""
        from obstore import exceptions

        place = f"{self.url}/{name}" if name else self.url
        try:
            yield
        except (FileNotFoundError, exceptions.NotFoundError):
            raise ShardError(f"{place} is not there; look at its spelling, and at AWS_ENDPOINT_URL", url=place) from None
        except (PermissionError, exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
            raise ShardError(
                f"{place} may not be {what} with the keys of the environment; look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set "
                "AWS_SKIP_SIGNATURE=true for a public bucket",
                url=place,
            ) from None
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise ShardError(
                f"{place} could not be {what} ({type(error).__name__}); see whether its server can be reached, then repeat the command",
                url=place,
                passing=True,
            ) from None
