"""A shard as its readers see it, and the check that it is as its manifest says."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from rsdata.errors import ShardError
from rsdata.records import keys_of, sensors_of
from rsdata.shards.formats import open_store
from rsdata.shards.manifest import SERIES_FORMAT, file_findings, read_index, read_manifest
from rsdata.shards.objects import is_url
from rsdata.shards.reading import Piece, pieces_of


class Shard:
    """A shard with its manifest and index; pickles, and opens again in another process."""

    def __init__(self, path: Path) -> None:
        """Raises: ShardError if the manifest or index is missing or says what this version does not know."""
        self.path = path
        self.manifest = read_manifest(path)
        self._store = open_store(path, self.manifest)
        self.index = read_index(path)

    def __enter__(self) -> "Shard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._store.close()

    def __len__(self) -> int:
        return len(self._store)

    def keys(self) -> Iterator[str]:
        return self._store.keys()

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        """Bands (y, x) of one key at native resolution, as stored."""
        return self._store.read(key)

    def read_bytes(self, key: str) -> bytes:
        """The same as a safetensors dictionary, which is what LMDB holds."""
        return self._store.read_bytes(key)

    def pieces(self, keys: Sequence[str], bands: Sequence[str]) -> AbstractContextManager[Iterable[Piece]]:
        """Where the pixels of many keys lie, without copies if the format allows; see ``PieceStore``."""
        return pieces_of(self._store, keys, bands)


def open_shard(path: Path | str) -> Shard:
    """Open a shard of patches by the manifest that lies in its folder; ``open_cubes`` opens one of time series.

    Args:
        path: a folder; or the URL of a Zarr shard in an object store, such as ``s3://bucket/dataset/shards/zarr``.

    Raises: ShardError if it cannot be opened.
    """
    if is_url(path):
        from rsdata.shards.remote import RemoteShard  # which is made of what stands here

        return RemoteShard(str(path))
    path = Path(path)
    return Shard(path)


def verify_shard(path: Path, advance: Callable[[int], None] = lambda n: None) -> list[str]:
    """Compare a shard with its manifest: files, digests, keys, bands, types, shapes, counts.

    Returns: one sentence per difference, none if all is as stated.
    Raises: ShardError if the manifest or index cannot be read at all.
    """
    manifest = read_manifest(path)
    if manifest.format == SERIES_FORMAT:
        from rsdata.shards.video.checking import verify_cubes

        return verify_cubes(path, advance)
    findings = file_findings(path, manifest)
    if any(not (path / file.path).is_file() for file in manifest.files):
        return findings
    try:
        opened = Shard(path)
    except ShardError as error:
        if findings:
            return [*findings, str(error)]
        raise
    with opened as shard:
        if len(shard) != manifest.keys:
            findings.append(f"the database has {len(shard)} keys; the manifest says {manifest.keys}")
        counted = shard.index["split"].value_counts().to_dict()
        findings += [
            f"the index lists {counted.get(split, 0)} patches of {split}; the manifest says {stated}"
            for split, stated in manifest.counts.items()
            if counted.get(split, 0) != stated
        ]
        layouts: dict[str, dict[str, tuple[object, ...]]] = {}
        varying = {band.sensor for band in manifest.bands if band.sizes_vary}
        for band in manifest.bands:
            layouts.setdefault(band.sensor, {})[band.name] = (band.dtype, None if band.sensor in varying else tuple(band.shape))
        sensors = sensors_of(shard.index)
        for keys in zip(*(keys_of(shard.index, sensor) for sensor in sensors), strict=True):
            for sensor, key in zip(sensors, keys, strict=True):
                if key is None:
                    continue
                try:
                    held = {name: (str(pixels.dtype), pixels.shape) for name, pixels in shard.read(key).items()}
                except ShardError as error:
                    findings.append(str(error))
                    continue
                if {name: (dtype, None if sensor in varying else shape) for name, (dtype, shape) in held.items()} != layouts.get(sensor):
                    findings.append(f"{key} holds {json.dumps({k: str(v) for k, v in held.items()})}, not the bands the manifest states")
            advance(1)
    return findings
