"""The formats a shard may have. A format opens what lies in a folder, and writes what a source gives; adding one is two names here."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from rsdata.errors import ShardError
from rsdata.records import BandInfo, ShardManifest
from rsdata.shards.compression import MAX_VALUE_BYTES, Compression, compression_in
from rsdata.shards.lmdb import DATA_FILE, LmdbStore, write_lmdb
from rsdata.shards.manifest import SERIES_FORMAT
from rsdata.shards.zarr import ZarrStore, write_zarr

_HEADER_BYTES = 2**20  # more than the header of any value has


class Store(Protocol):
    """Read access to a shard's values by key, whatever its format."""

    def __len__(self) -> int: ...
    def keys(self) -> Iterator[str]: ...
    def read(self, key: str) -> Mapping[str, np.ndarray]: ...
    def read_bytes(self, key: str) -> bytes: ...
    def close(self) -> None: ...


class Source(Protocol):
    """Where a writer takes values from."""

    def keys(self) -> Sequence[str]:
        """All keys, in rising order of their bytes."""

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        """Bands (y, x) of a key."""

    def read_bytes(self, key: str) -> bytes:
        """The same as a safetensors dictionary."""


class Write(Protocol):
    """Writes the pixels of a shard into a folder, and nothing of what lies beside them."""

    def __call__(
        self, folder: Path, source: Source, index: pd.DataFrame, bands: Sequence[BandInfo], *, title: str, compression: Compression | None
    ) -> list[Path]: ...


@dataclass(frozen=True)
class Format:
    """One way a shard's pixels lie on disk."""

    values: str  # how one value is laid out, as the manifest names it
    open: Callable[[Path, Compression | None, int], Store]  # the last is how many bytes a value may have, unpacked
    write: Write


def _write_lmdb(
    folder: Path, source: Source, index: pd.DataFrame, bands: Sequence[BandInfo], *, title: str, compression: Compression | None
) -> list[Path]:
    codec = compression.codec() if compression else None
    values = ((key, source.read_bytes(key)) for key in source.keys())  # noqa: SIM118, as a source is no mapping
    return [write_lmdb(folder, ((key, bytes(codec.encode(value)) if codec else value) for key, value in values))]


def _write_zarr(
    folder: Path, source: Source, index: pd.DataFrame, bands: Sequence[BandInfo], *, title: str, compression: Compression | None
) -> list[Path]:
    return write_zarr(folder, index, bands, source.read, title=title, compression=compression)


FORMATS: dict[str, Format] = {
    "lmdb": Format("safetensors", LmdbStore, _write_lmdb),
    "zarr": Format("bytes", lambda path, compression, most_bytes: ZarrStore(path, most_bytes), _write_zarr),
}


def format_of(name: str) -> Format:
    """Raises: ShardError if there is no format of that name."""
    if name == SERIES_FORMAT:
        raise ShardError(f"a {name} shard holds time series; `rsdata shards compress` makes one of a shard of patches", format=name)
    if name not in FORMATS:
        raise ShardError(f"there is no shard format {name!r}; known are {', '.join(sorted(FORMATS))}", format=name)
    return FORMATS[name]


def most_bytes_of(manifest: ShardManifest) -> int:
    """What the bands of one sensor take, with room for the header of a value."""
    if any(band.sizes_vary for band in manifest.bands):
        return MAX_VALUE_BYTES
    needed: dict[str, int] = {}
    for band in manifest.bands:
        try:
            needed[band.sensor] = needed.get(band.sensor, 0) + math.prod(band.shape) * np.dtype(band.dtype).itemsize
        except TypeError as error:
            raise ShardError(f"the manifest says that {band.name} is {band.dtype}, which is no type of pixels", band=band.name) from error
    return min(MAX_VALUE_BYTES, max(needed.values(), default=0) + _HEADER_BYTES)


def open_store(folder: Path, manifest: ShardManifest) -> Store:
    """Raises: ShardError if this version does not know the format or the compression, or the pixels cannot be opened."""
    if manifest.format == SERIES_FORMAT:
        raise ShardError(f"{folder} holds time series and no single patches; open it with rsdata.shards.open_cubes", path=str(folder))
    if manifest.format not in FORMATS:
        raise ShardError(f"{folder} is a {manifest.format} shard; this version reads {', '.join(sorted(FORMATS))}", path=str(folder))
    for file in manifest.files:
        try:
            found = (folder / file.path).stat().st_size
        except OSError:
            continue  # what reads it says so
        if found < file.bytes:  # read by way of a memory map, its end would be that of the process
            raise ShardError(
                f"{folder / file.path} has {found:,} bytes; the manifest says {file.bytes:,}, so it is cut short, make the shard again",
                path=str(folder),
            )
    return FORMATS[manifest.format].open(folder, compression_in(manifest.codec), most_bytes_of(manifest))


__all__ = ["DATA_FILE", "FORMATS", "Format", "Source", "Store", "format_of", "most_bytes_of", "open_store"]
