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
