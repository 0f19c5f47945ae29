"""LMDB shards, as rico-hdl publishes them: key = patch id in UTF-8, value = one safetensors dictionary.

Keys are appended in sorted order and committed in portions of fixed size, so the same content gives the same
file, whoever made it and however often the work was interrupted. What describes the database lies beside it, never inside.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import lmdb
import numpy as np

from rsdata.errors import ShardError
from rsdata.shards.compression import MAX_VALUE_BYTES, Compression, Name, stated_bytes
from rsdata.shards.reading import Headers, Piece, pieces_of_values
from rsdata.shards.values import decode

DATA_FILE = "data.mdb"
_PORTION_BYTES = 16 * 2**20  # values written per transaction; LMDB holds them in memory until then
_FIRST_MAP_BYTES = 64 * 2**20  # doubled whenever it is full; the file is only as large as what it holds


class LmdbWriter:
    """Appends portions of items to one database, each in a transaction of its own.

    The database is opened for each portion, and what was appended outlives the process: a writer that takes over later
    makes the same file as one that was never interrupted. It outlives the machine only once the file has been synced,
    which is left to whoever gives the folder its name; a crash of the machine before that may leave a damaged file.
    """

    def __init__(self, folder: Path, map_bytes: int = _FIRST_MAP_BYTES) -> None:
        """Args: map_bytes: address space to begin with, doubled whenever the values exceed it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._map_bytes = map_bytes

    def written(self) -> tuple[int, str]:
        """How many items the database holds, and its last key; (0, "") if there is none yet.

        Raises: ShardError if what lies there is no database.
        """
        if not (self.folder / DATA_FILE).is_file():
            return 0, ""
        try:
            with self._open() as env, env.begin() as transaction:
                cursor = transaction.cursor()
                return env.stat()["entries"], bytes(cursor.key()).decode() if cursor.last() else ""
        except lmdb.Error as error:
            raise ShardError(f"{self.folder / DATA_FILE} is not an LMDB database ({error}); remove {self.folder}") from error

    def append(self, items: Sequence[tuple[str, bytes | memoryview]]) -> None:
        """Write items whose keys rise and come after those written.

        Raises: ShardError if a key comes twice or out of order, or is longer than LMDB allows; OSError from the system.
        """
        while True:
            try:
                with self._open() as env, env.begin(write=True) as transaction:
                    for key, value in items:
                        if not transaction.put(key.encode(), value, append=True, overwrite=False):
                            raise ShardError(f"the key {key} comes twice or out of order", key=key)
                return
            except lmdb.MapFullError:
                self._map_bytes *= 2
            except lmdb.KeyExistsError as error:
                raise ShardError(f"the key {key} comes twice or out of order", key=key) from error
            except lmdb.BadValsizeError as error:
                raise ShardError(f"the key {key} is longer than the 511 bytes LMDB allows", key=key) from error
            except lmdb.Error as error:
                raise OSError(error.args[0] if error.args else str(error)) from error

    def _open(self) -> lmdb.Environment:
        return lmdb.open(str(self.folder), map_size=self._map_bytes, lock=False, sync=False, metasync=False)


def write_lmdb(folder: Path, items: Iterable[tuple[str, bytes]]) -> Path:
    """Write a new database from items in rising order of their keys' bytes; return its data file.

    Args:
        items: (key, value).

    Raises: ShardError if a key comes twice or out of order; OSError from the system.
    """
    writer = LmdbWriter(folder)
    portion: list[tuple[str, bytes | memoryview]] = []
    size = 0
    for key, value in items:
        portion.append((key, value))
        size += len(value)
        if size >= _PORTION_BYTES:
            writer.append(portion)
            portion, size = [], 0
    writer.append(portion)
    return folder / DATA_FILE


# LMDB forbids opening one database twice in a process, so stores of the same database share it.
_ENVIRONMENTS: dict[tuple[int, Path], tuple[lmdb.Environment, int]] = {}
_LOCK = threading.RLock()
_LOOKING_UP = threading.RLock()
# A child that is forked while another thread holds a lock must not find it held for ever; nor may that thread be in the
# midst of a database, which could then never be closed.
for _each in (_LOCK, _LOOKING_UP):
    os.register_at_fork(before=_each.acquire, after_in_parent=_each.release, after_in_child=_each.release)


def _acquire(path: Path) -> lmdb.Environment:
    """Args: path: resolved."""
    place = (os.getpid(), path)
    with _LOCK:
        for inherited in [other for other in _ENVIRONMENTS if other[1] == place[1] and other[0] != place[0]]:
            _ENVIRONMENTS.pop(inherited)[0].close()  # came through a fork, where LMDB must not use it
        if place in _ENVIRONMENTS:
            env, users = _ENVIRONMENTS[place]
        else:
            env, users = lmdb.open(str(path), readonly=True, lock=False, readahead=True, meminit=False), 0
        _ENVIRONMENTS[place] = (env, users + 1)
        return env


def _release(path: Path, pid: int) -> None:
    place = (pid, path)
    with _LOCK:
        if pid != os.getpid() or place not in _ENVIRONMENTS:
            return
        env, users = _ENVIRONMENTS.pop(place)
        if users > 1:
            _ENVIRONMENTS[place] = (env, users - 1)
        else:
            env.close()


class LmdbStore:
    """Read access to one database; opened on first use, again in every process that inherits it."""

    def __init__(self, path: Path, compression: Compression | None = None, most_bytes: int = MAX_VALUE_BYTES) -> None:
        """Args:
            path: the folder that holds ``data.mdb``.
            compression: of its values.
            most_bytes: that a value may unpack to.

        Raises: ShardError if there is none.
        """
        if not (path / DATA_FILE).is_file():
            raise ShardError(f"{path} holds no {DATA_FILE}; name the folder of an LMDB shard", path=str(path))
        self.path = path
        self._resolved = path.resolve()
        self._env: lmdb.Environment | None = None
        self._pid = -1
        self._headers = Headers()
        self._codec = compression.codec() if compression else None
        self._name: Name = compression.name if compression else "zstd"
        self._most_bytes = most_bytes

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_env": None, "_pid": -1, "_headers": Headers()}

    def __enter__(self) -> "LmdbStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._env is not None:
            _release(self._resolved, self._pid)
        self._env = None

    @property
    def _open(self) -> lmdb.Environment:
        with _LOCK:
            if self._env is None or self._pid != os.getpid():
                try:
                    self._env = _acquire(self._resolved)
                except lmdb.Error as error:
                    raise ShardError(
                        f"{self.path / DATA_FILE} is not an LMDB database ({error}); make the shard again", path=str(self.path)
                    ) from error
                self._pid = os.getpid()
            return self._env

    def __len__(self) -> int:
        return int(self._open.stat()["entries"])

    def items(self) -> Iterator[tuple[str, bytes]]:
        """All (key, value) in the order of the keys."""
        with self._open.begin(buffers=False) as transaction:
            for key, value in transaction.cursor():
                yield bytes(key).decode(), bytes(value)

    def keys(self) -> Iterator[str]:
        with self._open.begin() as transaction:
            for key in transaction.cursor().iternext(keys=True, values=False):
                yield bytes(key).decode()

    def read_bytes(self, key: str) -> bytes:
        """The safetensors dictionary of a key; fork no process while another thread is in here, it could not open the database.

        Raises: ShardError if the key is not there or its value is damaged.
        """
        with self._open.begin(buffers=False) as transaction:
            value = transaction.get(key.encode())
        if value is None:
            raise self._absent(key)
        return self._unpacked(bytes(value), key)

    def _unpacked(self, value: bytes, key: str) -> bytes:
        if self._codec is None:
            return value
        if (stated := stated_bytes(value, self._name)) > self._most_bytes:
            raise ShardError(
                f"the value of {key} claims to unpack to {stated:,} bytes; the bands need at most {self._most_bytes:,}, so the shard is "
                "damaged, make it again",
                key=key,
            )
        try:
            return bytes(self._codec.decode(value))
        except (RuntimeError, ValueError) as error:
            raise ShardError(f"the value of {key} cannot be decompressed ({error}); make the shard again", key=key) from error

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        """Bands (y, x) of one key.

        Raises: ShardError if the key is not there or its value is damaged.
        """
        return decode(self.read_bytes(key), key)

    @contextmanager
    def pieces(self, keys: Sequence[str], bands: Sequence[str]) -> Iterator[list[Piece]]:
        """Memory of the keys' values as they lie in the map, within one transaction; see ``PieceStore``."""
        _ = self._open  # says in words if it cannot be opened
        env, pid = _acquire(self._resolved), os.getpid()  # held, so that nobody closes the map while its addresses are in use
        try:
            with env.begin(buffers=True) as transaction:
                values: list[memoryview] = []
                with _LOOKING_UP:
                    for key in keys:
                        value = transaction.get(key.encode())
                        if value is None:
                            raise self._absent(key)
                        values.append(value)
                if self._codec is not None:
                    values = [memoryview(self._unpacked(bytes(value), key)) for key, value in zip(keys, values, strict=True)]
                yield pieces_of_values(values, keys, self._headers)
        finally:
            _release(self._resolved, pid)

    def _absent(self, key: str) -> ShardError:
        return ShardError(f"{self.path} has no key {key}; see its index.parquet for those it has", key=key)
