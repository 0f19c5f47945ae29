"""LMDB shards, as rico-hdl publishes them: key = patch id in UTF-8, value = one safetensors dictionary.

Keys are appended in sorted order and committed in portions of fixed size, so the same content gives the same
file, whoever made it. What describes the database lies beside it, never inside.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import lmdb
import numpy as np

from rsdata.errors import ShardError
from rsdata.shards.values import decode

DATA_FILE = "data.mdb"
_PAGE_BYTES = 4096
_COMMIT_BYTES = 64 * 2**20  # values written per transaction; LMDB holds them in memory until then


def write_lmdb(folder: Path, items: Iterable[tuple[str, bytes]], *, count: int, value_bytes: int) -> Path:
    """Write a new database from items in rising order of their keys' bytes; return its data file.

    Args:
        items: (key, value).
        count, value_bytes: how many items there are at most and the sum of their sizes; they fix the size of the map.

    Raises: ShardError if a key comes twice or out of order, or the items exceed what was announced; OSError from the system.
    """
    folder.mkdir(parents=True, exist_ok=True)
    map_bytes = (value_bytes + count * 4 * _PAGE_BYTES) // _PAGE_BYTES * _PAGE_BYTES + 2**20
    last = ""
    try:
        with lmdb.open(str(folder), map_size=map_bytes, subdir=True, lock=False, sync=False, metasync=False, writemap=False) as env:
            transaction, pending = env.begin(write=True), 0
            try:
                for key, value in items:
                    if not transaction.put(key.encode(), value, append=True, overwrite=False):
                        raise ShardError(f"the key {key} comes after {last}; keys must rise and none may come twice", key=key)
                    last, pending = key, pending + len(value)
                    if pending >= _COMMIT_BYTES:
                        transaction.commit()
                        transaction, pending = env.begin(write=True), 0
                transaction.commit()
            except BaseException:
                transaction.abort()
                raise
            env.sync(True)
    except lmdb.KeyExistsError as error:
        raise ShardError(f"a key comes twice or out of order after {last}", key=last) from error
    except lmdb.MapFullError as error:
        raise ShardError(f"{folder}: the values exceed the {value_bytes} bytes announced", path=str(folder)) from error
    except lmdb.Error as error:
        raise OSError(error.args[0] if error.args else str(error)) from error
    return folder / DATA_FILE


# LMDB forbids opening one database twice in a process, so stores of the same database share it.
_ENVIRONMENTS: dict[tuple[int, Path], tuple[lmdb.Environment, int]] = {}
_LOCK = threading.Lock()


def _acquire(path: Path) -> lmdb.Environment:
    place = (os.getpid(), path.resolve())
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
    place = (pid, path.resolve())
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

    def __init__(self, path: Path) -> None:
        """Args: path: the folder that holds ``data.mdb``.

        Raises: ShardError if there is none.
        """
        if not (path / DATA_FILE).is_file():
            raise ShardError(f"{path} holds no {DATA_FILE}; name the folder of an LMDB shard", path=str(path))
        self.path = path
        self._env: lmdb.Environment | None = None
        self._pid = -1

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_env": None, "_pid": -1}

    def __enter__(self) -> "LmdbStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._env is not None:
            _release(self.path, self._pid)
        self._env = None

    @property
    def _open(self) -> lmdb.Environment:
        if self._env is None or self._pid != os.getpid():
            try:
                self._env = _acquire(self.path)
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
        """Raises: ShardError if the key is not there."""
        with self._open.begin(buffers=False) as transaction:
            value = transaction.get(key.encode())
        if value is None:
            raise ShardError(f"{self.path} has no key {key}; see its index.parquet for those it has", key=key)
        return bytes(value)

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        """Bands (y, x) of one key.

        Raises: ShardError if the key is not there or its value is damaged.
        """
        return decode(self.read_bytes(key), key)
