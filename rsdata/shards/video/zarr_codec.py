"""The blob as a chunk of a Zarr v3 array: plain zarr and xarray read it, and decode only what they ask for.

Registered under the entry point ``zarr.codecs``, so any program in whose environment rsdata is installed can open such a
store. The last dimensions of a chunk are (time, band, y, x), or (time, y, x); those before them have length 1.
"""

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin
from zarr.abc.store import ByteGetter, RangeByteRequest
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration
from zarr.registry import register_codec

from rsdata.errors import ShardError
from rsdata.shards.video.choosing import encode_any
from rsdata.shards.video.container import PREFIX_BYTES, Head, Place, head_bytes, parse
from rsdata.shards.video.decoding import Clip, decode, needed
from rsdata.shards.video.settings import VideoSettings, check_shape

NAME = "rsdata.video"
_FIRST_BYTES = 2_048  # of a chunk, read before its head's length is known; most heads fit


@dataclass(frozen=True)
class VideoCodec(ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin):
    """Chunk (…, time, band, y, x) or (…, time, y, x) to blob, and any part of it back."""

    settings: VideoSettings
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        _, configuration = parse_named_configuration(data, NAME, require_configuration=False)
        known = {field.name for field in fields(VideoSettings)}
        if unknown := sorted(set(configuration or {}) - known):
            raise ShardError(f"the codec {NAME} knows no {unknown[0]}; it knows {', '.join(sorted(known))}", unknown=unknown)
        return cls(VideoSettings(**(configuration or {})))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, JSON]:
        given = {field.name: getattr(self.settings, field.name) for field in fields(VideoSettings)}
        plain = VideoSettings.__dataclass_fields__
        return {"name": NAME, "configuration": {name: value for name, value in given.items() if value != plain[name].default}}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        check_shape(cube_shape(chunk_grid.chunk_shape), dtype.to_native_dtype().itemsize)

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("the size of a video chunk is known only once it is coded")

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        cube = np.ascontiguousarray(chunk_array.as_numpy_array()).reshape(cube_shape(chunk_spec.shape))
        if cube.dtype.byteorder == ">":
            cube = cube.astype(cube.dtype.newbyteorder("="))
        blob = await asyncio.to_thread(encode_any, cube, self.settings)
        return chunk_spec.prototype.buffer.from_bytes(blob)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        cube = await asyncio.to_thread(lambda: Clip(chunk_bytes.to_bytes()).read())
        _fits(cube.shape, chunk_spec)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(cube.reshape(chunk_spec.shape))

    async def _decode_partial_single(self, byte_getter: ByteGetter, selection: Any, chunk_spec: ArraySpec) -> NDBuffer | None:
        first = await _get(byte_getter, chunk_spec, 0, _FIRST_BYTES)
        if first is None:
            return None
        if len(first) >= PREFIX_BYTES and head_bytes(first) > len(first):
            rest = await _get(byte_getter, chunk_spec, len(first), head_bytes(first))
            first += rest or b""
        head = parse(first)
        _fits(head.header.shape, chunk_spec)
        selections = list(selection) if isinstance(selection, tuple) else [selection]
        axes = [_axis(each, length) for each, length in zip(selections, chunk_spec.shape, strict=True)]
        time_axis = len(axes) - (4 if len(axes) > 3 else 3)
        frames = axes[time_axis][0]
        bands = axes[time_axis + 1][0] if len(axes) > 3 else [0]
        spans = list(_spans(needed(head, frames, bands)))
        pieces = dict(zip(spans, await asyncio.gather(*(_get(byte_getter, chunk_spec, *span) for span in spans)), strict=True))
        cube = await asyncio.to_thread(_decode, head, frames, bands, pieces)
        # Time and band are down to what was asked for; the other axes are whole.
        kept = [
            place if at == time_axis or (at == time_axis + 1 and len(axes) > 3) else selections[at] for at, (_, place) in enumerate(axes)
        ]
        shape = (*chunk_spec.shape[:time_axis], *cube.shape) if len(axes) > 3 else (len(frames), *cube.shape[2:])
        return chunk_spec.prototype.nd_buffer.from_numpy_array(np.asarray(cube.reshape(shape)[tuple(kept)]))


def cube_shape(chunk: Sequence[int]) -> tuple[int, int, int, int]:
    """(time, band, y, x) of a chunk.

    Raises: ShardError if it has fewer than three dimensions, or longer ones before the last four.
    """
    if len(chunk) < 3 or (len(chunk) > 4 and math.prod(chunk[:-4]) != 1):
        raise ShardError(
            f"a video chunk is (time, y, x) or (time, band, y, x), with lengths of 1 before; got {tuple(chunk)}", shape=tuple(chunk)
        )
    return (chunk[0], 1, chunk[1], chunk[2]) if len(chunk) == 3 else tuple(chunk[-4:])  # type: ignore[return-value]


def _fits(shape: Sequence[int], spec: ArraySpec) -> None:
    if tuple(shape) != cube_shape(spec.shape):
        raise ShardError(f"a video chunk holds {tuple(shape)} and its array asks for {spec.shape}; the store is damaged")


def _axis(selection: Any, length: int) -> tuple[list[int], Any]:
    """What one dimension's selection touches, sorted, and the same selection among those."""
    if isinstance(selection, slice):
        numbers = list(range(*selection.indices(length)))
        return sorted(numbers), slice(None) if numbers == sorted(numbers) else slice(None, None, -1)
    picked = np.arange(length)[selection]
    unique, places = np.unique(picked, return_inverse=True)
    return [int(number) for number in unique], int(places.item()) if np.ndim(picked) == 0 else places.reshape(np.shape(picked))


async def _get(getter: ByteGetter, spec: ArraySpec, start: int, stop: int) -> bytes | None:
    part = await getter.get(spec.prototype, RangeByteRequest(start, stop))
    return None if part is None else part.to_bytes()


def _spans(places: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """Runs of packets that lie beside each other, so that each run is one request."""
    if not places:
        return
    start = places[0].start
    for place, following in pairwise([*places, None]):
        if place is not None and (following is None or following.start != place.stop):
            yield start, place.stop
            start = following.start if following is not None else 0


def _decode(head: Head, frames: Sequence[int], bands: Sequence[int], pieces: dict[tuple[int, int], bytes | None]) -> np.ndarray:
    def fetch(start: int, stop: int) -> bytes:
        for (first, last), data in pieces.items():
            if first <= start and stop <= last and data is not None:
                return data[start - first : stop - first]
        return b""

    return decode(head, frames, bands, fetch)


register_codec(NAME, VideoCodec)
__all__ = ["NAME", "VideoCodec", "cube_shape"]
