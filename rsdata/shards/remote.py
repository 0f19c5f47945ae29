"""Zarr shards that stay in an object store: what describes them is fetched once, pixels are read by ranges.

A patch takes one request for each group of bands, after one for the index of its file; the chunks of a batch are asked
for together. LMDB maps its file into memory and cannot be read so: fetch it whole.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import google_crc32c
import numpy as np

from rsdata.errors import ShardError
from rsdata.foreign import MAX_JSON_BYTES
from rsdata.shards.compression import MAX_VALUE_BYTES
from rsdata.shards.formats import most_bytes_of
from rsdata.shards.manifest import INDEX_FILE, MANIFEST_FILE, read_index, read_manifest
from rsdata.shards.objects import Objects
from rsdata.shards.reading import Piece
from rsdata.shards.shard import Shard
from rsdata.shards.zarr import CRC_BYTES, METADATA_FILE, NO_CHUNK, Pixels, ZarrStore

REQUESTS = 16  # at a time
_MOST_BYTES = MAX_JSON_BYTES  # of one file that describes a shard


class RemotePixels(Pixels):
    """The array of one group, its files behind a URL."""

    def __init__(self, folder: Path, most_bytes: int, objects: Objects, name: str, file_bytes: dict[str, int]) -> None:
        super().__init__(folder, {}, most_bytes)  # type: ignore[arg-type]
        self._objects, self._name, self._file_bytes = objects, name, file_bytes
        self._places: dict[int, np.ndarray] = {}
        self._ahead: dict[int, bytes | None] = {}  # chunks that were asked for together
        self._lock = threading.Lock()

    def fetch(self, row: int) -> None:
        """Keep the chunk of a patch for the next that reads it."""
        self._ahead[row] = self._chunk(row)

    def forget(self, row: int, _: Future[None]) -> None:
        """Keep nothing of a patch that nobody came to read; for when ``fetch`` is done."""
        self._ahead.pop(row, None)

    def stored(self, row: int) -> memoryview | None:
        try:
            chunk = self._ahead.pop(row)
        except KeyError:  # not asked for before, or read by another thread in the meantime
            chunk = self._chunk(row)
        return None if chunk is None else memoryview(chunk)

    def _chunk(self, row: int) -> bytes | None:
        file, slot = divmod(row, self.per_file)
        name = f"{self._name}/c/{file}/0/0/0"
        if name not in self._file_bytes:
            return None  # a file whose patches are all fill value is not stored
        first, length = (int(each) for each in self._index(file, name)[slot])
        if first == length == NO_CHUNK:
            return None
        if first + length > self._file_bytes[name]:
            raise self._damaged(row, "its chunk lies beyond the end of the file")
        return self._objects.read_range(name, first, length)

    def _index(self, file: int, name: str) -> np.ndarray:
        with self._lock:
            if file not in self._places:
                length = self.per_file * 16
                tail = self._objects.read_range(name, max(0, self._file_bytes[name] - length - CRC_BYTES), length + CRC_BYTES)
                if google_crc32c.value(tail[:length]) != int.from_bytes(tail[length:], "little"):
                    raise ShardError(
                        f"{self._objects.url}/{name} is cut short or damaged: its index does not fit its checksum; store it again"
                    )
                self._places[file] = np.frombuffer(tail, "<u8", self.per_file * 2).reshape(-1, 2)
            return self._places[file]


class RemoteZarrStore(ZarrStore):
    """Read access by key to a Zarr shard behind a URL."""

    def __init__(self, path: Path, objects: Objects, file_bytes: dict[str, int], most_bytes: int = MAX_VALUE_BYTES) -> None:
        """Args:
        path: a folder with the shard's metadata and index, without its pixels.
        file_bytes: size of each file of the shard, as its manifest states it.
        most_bytes: that one patch of a group may have.
        """
        self._objects, self._file_bytes = objects, file_bytes
        self._requests = ThreadPoolExecutor(REQUESTS, thread_name_prefix="rsdata-objects")
        super().__init__(path, most_bytes)

    def __getstate__(self) -> dict[str, object]:
        return super().__getstate__() | {"objects": self._objects, "file_bytes": self._file_bytes}

    def _open_pixels(self, folder: Path) -> Pixels:
        name = folder.relative_to(self.path).as_posix()
        return RemotePixels(folder, self._most_bytes, self._objects, name, self._file_bytes)

    @contextmanager
    def pieces(self, keys: Sequence[str], bands: Sequence[str]) -> Iterator[list[Piece]]:
        """Ask for all chunks of a batch together; then as for a shard on the disk."""
        self._objects.check_process()  # in which the threads that ask are not either
        wanted = set(bands)
        chunks = [
            (pixels, row)
            for sensor, row in map(self._place_of, dict.fromkeys(keys))
            for names, pixels in self._groups[sensor]
            if wanted.intersection(names) and isinstance(pixels, RemotePixels)
        ]
        asked = [self._requests.submit(pixels.fetch, row) for pixels, row in chunks]
        try:
            for each in asked:
                each.result()
            with super().pieces(keys, bands) as found:
                yield found
        finally:
            for each, (pixels, row) in zip(asked, chunks, strict=True):
                each.cancel()
                each.add_done_callback(partial(pixels.forget, row))

    def close(self) -> None:
        super().close()
        self._requests.shutdown(wait=False, cancel_futures=True)


class RemoteShard(Shard):
    """A Zarr shard behind a URL; pickles, and opens again in another process."""

    def __init__(self, url: str) -> None:
        """Raises: ShardError if there is no such shard, it is no Zarr shard, or its description is not as its manifest says."""
        self.url = url.rstrip("/")
        objects = Objects(self.url)
        self._folder = TemporaryDirectory(prefix="rsdata-shard-")  # with what describes the pixels
        self.path = Path(self._folder.name)
        (self.path / MANIFEST_FILE).write_bytes(objects.read(MANIFEST_FILE, _MOST_BYTES))
        self.manifest = read_manifest(self.path)
        if self.manifest.format != "zarr":
            raise ShardError(
                f"{self.url} is a shard of format {self.manifest.format}, which is read from a disk; fetch the folder, or make a Zarr "
                "shard of it with `rsdata shards convert --format zarr`",
                url=self.url,
            )
        for file in self.manifest.files:
            name = PurePosixPath(file.path)
            if name.is_absolute() or ".." in name.parts:
                raise ShardError(f"the manifest of {self.url} names {file.path}, which is not below it", url=self.url)
            if name.name not in (METADATA_FILE, INDEX_FILE):
                continue
            content = objects.read(file.path, min(file.bytes, _MOST_BYTES))
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise ShardError(f"{self.url}/{file.path} is not as the shard's manifest says; store it again", url=self.url)
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(content)
        if not (self.path / INDEX_FILE).exists():
            (self.path / INDEX_FILE).write_bytes(objects.read(INDEX_FILE, _MOST_BYTES))
        sizes = {file.path: file.bytes for file in self.manifest.files}
        self._store: Any = RemoteZarrStore(self.path, objects, sizes, most_bytes_of(self.manifest))
        self.index = read_index(self.path)

    def __reduce__(self) -> tuple[type["RemoteShard"], tuple[str]]:
        return RemoteShard, (self.url,)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()
