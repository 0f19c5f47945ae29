"""Compression of values, off by default: it halves the disk and costs a reader a good part of its speed.

The manifest names it: ``safetensors+zstd`` in LMDB, ``bytes+blosc`` in Zarr, where Blosc shuffles bits before it
compresses with zstd.
"""

from dataclasses import dataclass
from typing import Literal

from numcodecs import Blosc, Zstd
from numcodecs.abc import Codec

from rsdata.errors import ShardError

Name = Literal["zstd", "blosc"]
NAMES: tuple[Name, ...] = ("zstd", "blosc")
_BLOSC_HEADER_BYTES, _BLOSC_COPIED = 16, 2  # the flag of a chunk whose bytes are stored as they are
MAX_VALUE_BYTES = 2**28  # of one patch, unpacked; the largest published ones, some 1068 x 1068 pixels in 13 bands, take 30 MB


@dataclass(frozen=True)
class Compression:
    """How each value is compressed."""

    name: Name
    level: int = 3

    def codec(self, item_bytes: int = 2) -> Codec:
        """Args: item_bytes: size of a pixel, whose bits Blosc groups by significance."""
        if self.name == "zstd":
            return Zstd(level=self.level)
        return Blosc(cname="zstd", clevel=self.level, shuffle=Blosc.BITSHUFFLE, typesize=item_bytes)


def stated_bytes(packed: bytes | memoryview, name: Name) -> int:
    """Bytes that a compressed value says it unpacks to, read off its header; unpacking allocates so many and no more.

    Source: RFC 8878, section 3.1.1.1; Blosc 1 chunk format, README_CHUNK_FORMAT.

    Raises: ShardError if it is no such value or does not say.
    """
    head = bytes(packed[:18])
    if name == "blosc" and len(head) >= _BLOSC_HEADER_BYTES:
        stated = int.from_bytes(head[4:8], "little")
        _check_blosc(packed, stated)
        return stated
    if name == "zstd" and head[:4] == b"\x28\xb5\x2f\xfd" and len(head) > 5:
        flag, single, keyed = head[4] >> 6, head[4] >> 5 & 1, (0, 1, 2, 4)[head[4] & 3]
        width = (single, 2, 4, 8)[flag]
        first = 5 + (1 - single) + keyed
        if width and len(head) >= first + width:
            return int.from_bytes(head[first : first + width], "little") + (256 if width == 2 else 0)
    raise ShardError(f"a value does not begin as one compressed by {name}, or does not say how many bytes it holds; make the shard again")


def _check_blosc(packed: bytes | memoryview, stated: int) -> None:
    """Refuse a chunk whose blocks would be looked for beyond its end: the library is not told where that is."""
    header = bytes(packed[:_BLOSC_HEADER_BYTES])
    block, end = (int.from_bytes(header[at : at + 4], "little") for at in (8, 12))
    blocks = -(-stated // block) if block else 0
    starts = bytes(packed[_BLOSC_HEADER_BYTES : _BLOSC_HEADER_BYTES + 4 * blocks])
    whole = end == len(packed) and (stated == 0 or 0 < block <= max(stated, header[3]))
    if whole and stated and not header[2] & _BLOSC_COPIED:
        first = _BLOSC_HEADER_BYTES + 4 * blocks
        places = [int.from_bytes(starts[at : at + 4], "little") for at in range(0, len(starts), 4)]
        whole = len(places) == blocks and all(first <= place <= end - 4 for place in places)
    if not whole:
        raise ShardError("a value compressed by blosc is cut off, or names blocks beyond its end; make the shard again")


def compression_of(name: str) -> Compression | None:
    """The compression of that name, None for ``none``.

    Raises: ShardError if there is none of that name.
    """
    for known in NAMES:
        if name == known:
            return Compression(known)
    if name != "none":
        raise ShardError(f"there is no compression {name!r}; known are none, {', '.join(NAMES)}", compression=name)
    return None


def compression_in(codec: str) -> Compression | None:
    """The compression a manifest's ``codec`` names after its ``+``.

    Raises: ShardError if this version does not know it.
    """
    return compression_of(codec.partition("+")[2] or "none")
