"""One file to the disk: ranged, resumed in its middle, verified; and what products must be to be fetched.

Bytes are written, synced, and only then remembered, so what an earlier run remembered is there. A beginning is used
again only if the server still has the same file; whether it came right is judged on what lies on the disk in the end.
"""

import errno
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rsdata.errors import DownloadError, RsdataError
from rsdata.records import FetchedFile, RemoteFile, RemoteProduct
from rsdata.scenes.remote import CHUNK_BYTES, Body, ChangedError, Keys, PassingError, Session, Source, pause, source_of

PROGRESS_BYTES = 8 * 2**20  # so much since the last cut, and the count of tries starts again
SPARE_BYTES = 64 * 2**20  # left free on the disk
MAX_BYTES = 64 * 2**30  # no product is nearly as large
# Multihash code to algorithm. Source: github.com/multiformats/multicodec, table.csv.
_MULTIHASH = {0x11: "sha1", 0x12: "sha256", 0x13: "sha512", 0x14: "sha3_512", 0x16: "sha3_256", 0x1E: "blake3", 0xD5: "md5"}

_log = logging.getLogger(__name__)


# --- one file ---------------------------------------------------------------------------------------------


def fetch_file(
    wanted: RemoteFile,
    begun: FetchedFile | None,
    target: Path,
    session: Session,
    remember: Callable[[FetchedFile], None],
    advance: Callable[[int], None] = lambda n: None,
) -> FetchedFile:
    """Bring one file to ``target``, from where an earlier run left it.

    Bytes are written, synced, then told to ``remember``, so what was remembered is on the disk. An earlier beginning
    is used only if the server still has the same file by its ETag (else its date) and size; otherwise the file is
    fetched from its start.

    Args:
        begun: what was remembered of it, if anything.
        advance: told bytes as they come; a negative number where a beginning is thrown away.

    Returns: the finished file's record with its SHA-256.
    Raises: DownloadError, in one sentence; what has come stays at ``target``, unless its checksum is wrong.
    """
    source = source_of(wanted.href, wanted.path, session)
    transfer = _Transfer(wanted, begun or FetchedFile(path=wanted.path, bytes=wanted.bytes), target, session, remember, advance)
    tries, reached = 0, transfer.file.offset
    while True:
        try:
            with session.connection(source.host):
                session.check_stopped()
                transfer.attempt(source)
            break
        except ChangedError:
            _log.info("%s changed at %s; it is fetched from its start", wanted.path, source.host)
            transfer.start_over()
            tries += 1
            if tries >= session.tries:
                raise DownloadError(f"{wanted.path} keeps changing at {source.host}; try later", file=wanted.path) from None
        except PassingError as error:
            if transfer.file.offset - reached >= PROGRESS_BYTES:
                tries = 0
            reached = transfer.file.offset
            tries += 1
            pause(session, source.host, error, tries)
    return transfer.finish()


class _Transfer:
    """One file on its way to the disk."""

    def __init__(
        self,
        wanted: RemoteFile,
        begun: FetchedFile,
        target: Path,
        session: Session,
        remember: Callable[[FetchedFile], None],
        advance: Callable[[int], None],
    ) -> None:
        self.wanted, self.target, self.session = wanted, target, session
        self.remember, self.advance = remember, advance
        self.file = begun
        size = target.stat().st_size if target.is_file() else 0
        if begun.offset > size or (begun.offset and begun.mark is None and begun.sha256 is None):
            self.file = FetchedFile(path=wanted.path, bytes=wanted.bytes)
        advance(self.file.offset)

    def start_over(self) -> None:
        self.advance(-self.file.offset)
        self.file = FetchedFile(path=self.wanted.path, bytes=self.wanted.bytes)

    def attempt(self, source: Source) -> None:
        """Fetch what is missing.

        Raises: PassingError if the connection was cut, ChangedError if the file is another one, DownloadError else.
        """
        if self.file.offset and self.file.offset == self.file.bytes:
            return
        if self.file.sha256 is not None:
            return
        with self._opened() as handle, source.body(self.file.offset, self.file.mark) as body:
            same = body.start == self.file.offset and body.mark == self.file.mark and self.file.bytes in (None, body.size)
            if self.file.offset and not same:
                if body.start:
                    raise ChangedError
                self.start_over()  # the server sends the whole file, so this answer will do
            elif body.start != self.file.offset:
                raise ChangedError
            else:
                self.file = self.file.model_copy(update={"bytes": body.size})
            if not self.file.offset:
                self._begin(body)
            os.ftruncate(handle, self.file.offset)
            os.lseek(handle, self.file.offset, os.SEEK_SET)
            self._receive(handle, body)
        if self.file.bytes is None:
            self.file = self.file.model_copy(update={"bytes": self.file.offset})
        if self.file.offset < self.file.bytes:  # type: ignore[operator]
            raise PassingError(f"{source.host} ended {self.wanted.path} after {self.file.offset:,} of {self.file.bytes:,} bytes")

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The file, for this process alone."""
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._disk_trouble(error, 0) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DownloadError(f"another process is fetching {self.wanted.path}; let it finish", file=self.wanted.path) from None
            yield handle
        finally:
            os.close(handle)

    def _begin(self, body: Body) -> None:
        """Look at what the server is about to send, before any byte of it is kept."""
        promised = self.wanted.bytes
        if promised is not None and body.size is not None and promised != body.size and not self._verifiable:
            raise DownloadError(
                f"{self.wanted.path} has {body.size:,} bytes at the server, but the catalogue says {promised:,}; search again, "
                "and if it stays so report it to the catalogue",
                file=self.wanted.path,
            )
        size = body.size if body.size is not None else promised
        if size is not None and size > MAX_BYTES:
            raise DownloadError(f"{self.wanted.path} has {size:,} bytes; no product has more than {MAX_BYTES:,}", file=self.wanted.path)
        check_space(self.target.parent, size or 0, self.wanted.path)
        self.file = FetchedFile(path=self.wanted.path, bytes=body.size, mark=body.mark)
        self.remember(self.file)

    def _receive(self, handle: int, body: Body) -> None:
        offset = synced = self.file.offset
        limit = self.file.bytes if self.file.bytes is not None else MAX_BYTES
        full: OSError | None = None
        try:
            for chunk in body.chunks:
                view = memoryview(chunk)
                if offset + len(view) > limit:
                    raise DownloadError(
                        f"the server sends more than the {limit:,} bytes of {self.wanted.path}; search again", file=self.wanted.path
                    )
                while view:
                    written = os.write(handle, view)
                    offset += written
                    view = view[written:]
                    self.advance(written)
                if offset - synced >= self.session.sync_bytes:
                    os.fsync(handle)
                    synced = offset
                    self._note(offset)
                self.session.check_stopped()
        except RsdataError:
            raise
        except OSError as error:
            full = error
        finally:
            with suppress(OSError):
                os.fsync(handle)
                synced = offset
            self.file = self.file.model_copy(update={"offset": synced})
            with suppress(OSError):  # a full disk has no room for the note either; the one before it still holds
                self.remember(self.file)
        if full is not None:
            raise self._disk_trouble(full, offset) from full

    def _note(self, offset: int) -> None:
        self.file = self.file.model_copy(update={"offset": offset})
        self.remember(self.file)

    def _disk_trouble(self, error: OSError, offset: int) -> DownloadError:
        whole = f" of {self.file.bytes:,}" if self.file.bytes is not None else ""
        kept = f"{offset:,}{whole} bytes of {self.wanted.path} are kept"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            missing = f" at least {self.file.bytes - offset:,} bytes" if self.file.bytes is not None else " space"
            return DownloadError(
                f"the disk of {self.target.parent} is full; {kept}, so free{missing} and run the same command", file=self.wanted.path
            )
        return DownloadError(f"{self.target} cannot be written ({error.strerror}); {kept}", file=self.wanted.path)

    @property
    def _verifiable(self) -> bool:
        return self.wanted.checksum is not None and _hasher(parse_checksum(self.wanted.checksum)[0]) is not None

    def finish(self) -> FetchedFile:
        """Read the file once more from the disk: its SHA-256, and the catalogue's checksum if it has one."""
        if self.file.sha256 is not None:
            return self.file
        size = self.target.stat().st_size
        if self.wanted.bytes not in (None, size) and not self._verifiable:
            raise WrongContent(
                f"{self.wanted.path} came with {size:,} bytes, but the catalogue says {self.wanted.bytes:,}", file=self.wanted.path
            )
        sha256 = hashlib.sha256()
        name, expected = parse_checksum(self.wanted.checksum) if self.wanted.checksum else (None, None)
        other = _hasher(name) if name else None
        with self.target.open("rb") as stream:
            while block := stream.read(CHUNK_BYTES):
                sha256.update(block)
                if other is not None:
                    other.update(block)
                self.session.check_stopped()
        verified = "size" if self.file.bytes == size == self.wanted.bytes else None
        if other is not None:
            if other.hexdigest() != expected:
                raise WrongContent(
                    f"{self.wanted.path} came with the {name} {other.hexdigest()}, but the catalogue says {expected}",
                    file=self.wanted.path,
                )
            verified = f"{verified} and {name}" if verified else name
        self.file = self.file.model_copy(update={"bytes": size, "offset": size, "sha256": sha256.hexdigest(), "verified": verified})
        self.remember(self.file)
        return self.file


class WrongContent(DownloadError):
    """A file came whole, but it is not the one that the catalogue describes."""


# --- small questions --------------------------------------------------------------------------------------


def choose_source(product: RemoteProduct, keys: Keys, via: str = "auto") -> str:
    """Whether a product is fetched as one ``archive`` or as a ``folder`` of objects.

    Raises: DownloadError if the catalogue does not offer it in the way asked for.
    """
    offered = {"https": product.archive is not None, "s3": product.folder is not None}
    if via not in ("auto", *offered):
        raise DownloadError(f"products do not come via {via!r}; choose auto, https or s3")
    if via == "auto":
        via = "s3" if offered["s3"] and (keys.for_s3 or not offered["https"]) else "https"
    if not offered[via]:
        raise DownloadError(f"the catalogue offers {product.product} only via {'s3' if via == 'https' else 'https'}; leave out --via")
    return "folder" if via == "s3" else "archive"


def with_checksums(listed: list[RemoteFile], product: RemoteProduct) -> list[RemoteFile]:
    """A folder's objects together with the checksums that the catalogue has for some of them.

    Raises: DownloadError if the folder lacks a file that the catalogue names, as a product half removed would.
    """
    known = {file.path: file for file in product.files}
    missing = sorted(set(known) - {file.path for file in listed})
    if missing:
        raise DownloadError(
            f"{product.folder} lacks {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''} that the catalogue names; "
            "the product is incomplete there, try later",
            product=product.product,
        )
    return [
        file.model_copy(update={"checksum": known[file.path].checksum, "bytes": known[file.path].bytes or file.bytes})
        if file.path in known
        else file
        for file in listed
    ]


def unverified(files: list[RemoteFile]) -> list[str]:
    """What cannot be compared with a checksum, in sentences."""
    notes = []
    without = sum(file.checksum is None for file in files)
    if without:
        notes.append(f"the catalogue has no checksum for {without} of {len(files)} files; their sizes were compared")
    unknown = {parse_checksum(file.checksum)[0] for file in files if file.checksum}
    notes += [f"checksums of kind {name} were not compared; install {name} for that" for name in sorted(unknown) if _hasher(name) is None]
    return notes


def check_space(folder: Path, needed: int, name: str) -> None:
    """See that a file fits on the disk before it is begun.

    Raises: DownloadError if it does not.
    """
    free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise DownloadError(
            f"{name} needs {needed:,} bytes, and {SPARE_BYTES:,} should stay free, but the disk of {folder} has {free:,}; "
            "free space or name another folder with --out",
            needed=needed,
            free=free,
        )


def parse_checksum(text: str) -> tuple[str, str]:
    """Algorithm and digest of a multihash in hexadecimal, or of a bare MD5; an unknown code is named by its number."""
    if len(text) == 32:
        return "md5", text
    raw = bytes.fromhex(text if len(text) % 2 == 0 else f"0{text}")
    code, used = _varint(raw)
    length, more = _varint(raw[used:])
    digest = raw[used + more :]
    if length != len(digest):
        return "unknown kind", text
    return _MULTIHASH.get(code, f"multihash 0x{code:x}"), digest.hex()


def _hasher(name: str | None) -> Any:
    if name == "blake3":
        try:
            import blake3
        except ImportError:
            return None
        return blake3.blake3()
    if name is not None and name in hashlib.algorithms_available:
        return hashlib.new(name, usedforsecurity=False)
    return None


def _varint(raw: bytes) -> tuple[int, int]:
    """An unsigned LEB128 number and the bytes it took."""
    value = 0
    for index, byte in enumerate(raw[:9]):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, index + 1
    return -1, len(raw)
