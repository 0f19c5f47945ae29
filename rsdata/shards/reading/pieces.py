"""Where the pixels of some keys lie in memory, whatever the format they come from.

All that compiled code is later given as an address passes through ``Piece``, which refuses memory that is shorter than
its layout: so nothing is ever read beyond the end of a value.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from rsdata.errors import ShardError
from rsdata.shards.values import decode

_LENGTH_BYTES = 8  # a safetensors value begins with the length of its header
_MOST_HEADERS = 1024  # remembered; real shards have a handful
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32", "U64": "uint64",
    "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip


@dataclass(frozen=True)
class Plane:
    """One band of an entry: (y, x) in C order."""

    offset: int  # bytes from the start of the entry
    dtype: str
    shape_yx: tuple[int, int]

    @property
    def end(self) -> int:
        return self.offset + math.prod(self.shape_yx) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, eq=False)
class Layout:
    """What an entry holds, and where. Layouts are told apart by identity, so stores keep them."""

    planes: Mapping[str, Plane]
    bytes: int = field(init=False)  # an entry has at least so many

    def __post_init__(self) -> None:
        for band, plane in self.planes.items():
            if plane.offset < 0 or len(plane.shape_yx) != 2 or min(plane.shape_yx) < 1:
                raise ShardError(f"band {band} has the shape {plane.shape_yx}; expected rows and columns", band=band)
        object.__setattr__(self, "bytes", max((plane.end for plane in self.planes.values()), default=0))


@dataclass(frozen=True, eq=False)
class Piece:
    """Entries of one layout: which of the keys asked for, and the memory of each, uint8.

    Raises: ShardError if an entry is shorter than its layout.
    """

    layout: Layout
    rows: npt.NDArray[np.int64]  # (entry,) places among the keys asked for
    memory: Sequence[npt.NDArray[np.uint8]]
    addresses: npt.NDArray[np.int64] = field(init=False)  # (entry,)

    def __post_init__(self) -> None:
        short = [entry for entry in self.memory if entry.nbytes < self.layout.bytes or not entry.flags.c_contiguous]
        if short or len(self.rows) != len(self.memory):
            raise ShardError(f"an entry has {short[0].nbytes if short else 0} bytes; its layout needs {self.layout.bytes}")
        found = [entry.__array_interface__["data"][0] for entry in self.memory]
        object.__setattr__(self, "addresses", np.array(found, np.int64))

    def plane(self, entry: int, band: str) -> npt.NDArray[Any]:
        """(y, x) of one band, a view."""
        plane = self.layout.planes[band]
        return np.frombuffer(self.memory[entry].data, plane.dtype, math.prod(plane.shape_yx), plane.offset).reshape(plane.shape_yx)


class Reader(Protocol):
    """The least a store can do."""

    def read(self, key: str) -> Mapping[str, npt.NDArray[Any]]: ...


@runtime_checkable
class PieceStore(Protocol):
    """A store that can say where the pixels of many keys lie, without copying them."""

    def pieces(self, keys: Sequence[str], bands: Sequence[str]) -> AbstractContextManager[Iterable[Piece]]:
        """Memory of the keys' entries, good until the context ends; each key once per layout it is spread over.

        Args:
            keys: in any order.
            bands: those that will be looked at; pieces may hold others, and lack what the shard lacks.

        Raises: ShardError if a key is not there or its entry is damaged.
        """


def pieces_of(store: Reader, keys: Sequence[str], bands: Sequence[str]) -> AbstractContextManager[Iterable[Piece]]:
    """Pieces of any store: its own where it has them, else those of the arrays that it reads key by key."""
    return store.pieces(keys, bands) if isinstance(store, PieceStore) else pieces_of_arrays(store.read, keys, bands)


@contextmanager
def pieces_of_arrays(
    read: Callable[[str], Mapping[str, npt.NDArray[Any]]], keys: Sequence[str], bands: Sequence[str]
) -> Iterator[Iterator[Piece]]:
    """Pieces of arrays (y, x), one key at a time."""
    wanted = frozenset(bands)

    def found() -> Iterator[Piece]:
        for row, key in enumerate(keys):
            for band, pixels in read(key).items():
                if band in wanted:
                    yield piece_of_array(row, band, pixels)

    yield found()


def piece_of_array(row: int, band: str, pixels: npt.NDArray[Any]) -> Piece:
    """One band (y, x) of one key."""
    layout = _single(band, pixels.dtype.newbyteorder("=").name, pixels.shape)
    memory = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    return Piece(layout, np.array([row]), [memory.reshape(-1).view(np.uint8)])


@lru_cache(_MOST_HEADERS)
def _single(band: str, dtype: str, shape_yx: tuple[int, int]) -> Layout:
    return Layout({band: Plane(0, dtype, shape_yx)})


class Headers:
    """Layouts of safetensors values, known by their headers; a header is parsed once and then only compared."""

    def __init__(self) -> None:
        self._known: dict[bytes, Layout] = {}
        self._last = b""

    def layout(self, value: memoryview, key: str) -> Layout:
        """What a value holds.

        Raises: ShardError if it is not a whole safetensors dictionary of bands (y, x).
        """
        last = self._last
        head = bytes(value[: len(last)])
        if head != last or not last:
            head = bytes(value[: _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "little")])
        layout = self._known.get(head)
        if layout is None or layout.bytes != len(value):
            layout = self._parse(value, head, key)
            if len(self._known) >= _MOST_HEADERS:
                self._known.clear()
            self._known[head] = layout
        self._last = head
        return layout

    def _parse(self, value: memoryview, head: bytes, key: str) -> Layout:
        decode(bytes(value), key)  # safetensors itself says whether the value is whole and its header true
        stated = json.loads(head[_LENGTH_BYTES:])
        planes = {}
        for band, tensor in stated.items():
            if band == "__metadata__":
                continue
            if tensor["dtype"] not in _DTYPES or len(tensor["shape"]) != 2:
                raise ShardError(f"{key}: {band} is {tensor['dtype']} {tensor['shape']}; expected bands of numbers (y, x)", key=key)
            begin, _ = tensor["data_offsets"]
            planes[band] = Plane(len(head) + int(begin), _DTYPES[tensor["dtype"]], (tensor["shape"][0], tensor["shape"][1]))
        layout = Layout(planes)
        if layout.bytes != len(value):
            raise ShardError(f"the value of {key} has {len(value)} bytes; its header needs {layout.bytes}", key=key)
        return layout


def pieces_of_values(values: Sequence[memoryview], keys: Sequence[str], headers: Headers) -> list[Piece]:
    """Pieces of safetensors values that lie in memory as they are, one for each layout among them.

    Raises: ShardError if one is not a whole safetensors dictionary of bands (y, x).
    """
    rows: dict[Layout, list[int]] = {}
    for row, (value, key) in enumerate(zip(values, keys, strict=True)):
        rows.setdefault(headers.layout(value, key), []).append(row)
    return [Piece(layout, np.array(places), [np.frombuffer(values[row], np.uint8) for row in places]) for layout, places in rows.items()]
