"""A shard of time series as its readers see it: any dates and bands of any place, and nothing else is decoded."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from rsdata.errors import ShardError
from rsdata.records import CubeFrame, CubeRow
from rsdata.sensors import REFERENCE_MAP
from rsdata.shards.lmdb import LmdbStore
from rsdata.shards.manifest import INDEX_FILE, SERIES_FORMAT, read_manifest, read_rows
from rsdata.shards.shard import Shard, open_shard
from rsdata.shards.video.cubes import CODEC, FRAMES_FILE, Cube, cube_key
from rsdata.shards.video.decoding import Clip
from rsdata.shards.zarr import Group, groups_of


class CubeShard:
    """Time series with their manifest, index and frames; pickles, and opens again in another process."""

    def __init__(self, path: Path) -> None:
        """Raises: ShardError if the manifest, index or frames are missing, or it is a shard of patches."""
        self.path = path
        self.manifest = read_manifest(path)
        if self.manifest.format != SERIES_FORMAT:
            raise ShardError(f"{path} is a {self.manifest.format} shard of patches; open it with rsdata.shards.open_shard", path=str(path))
        if self.manifest.codec != CODEC:
            raise ShardError(f"{path} is coded as {self.manifest.codec}; this version reads {CODEC}", path=str(path))
        self.index = read_rows(path / INDEX_FILE, CubeRow)
        self.frames = read_rows(path / FRAMES_FILE, CubeFrame)
        self.groups: dict[str, Group] = {each.name: each for each in groups_of(self.manifest.bands) if each.sensor != REFERENCE_MAP.name}
        self._store = LmdbStore(path)

    def __enter__(self) -> "CubeShard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._store.close()

    def __len__(self) -> int:
        """Entries in the database."""
        return len(self._store)

    def keys(self) -> Iterator[str]:
        return self._store.keys()

    def read_bytes(self, key: str) -> bytes:
        """What lies under a key: a blob, or a reference map as a safetensors dictionary."""
        return self._store.read_bytes(key)

    def clip(self, place_id: str, group: str) -> Clip:
        """One group of one place, to read several parts of.

        Raises: ShardError if it is not there or damaged.
        """
        return Clip(self._store.read_bytes(cube_key(place_id, self._known(group).name)))

    def read(
        self, place_id: str, group: str, frames: Sequence[int] | slice | None = None, bands: Sequence[str] | None = None
    ) -> np.ndarray:
        """Decode (time, band, y, x) of one group, in its stored type.

        Args: frames: numbers from 0 in the order of time, a slice, or all; bands: names in any order, or all of the group.

        Raises: ShardError if there is no such place, group, frame or band, or the blob is damaged.
        """
        return self.clip(place_id, group).read(frames, bands)

    def read_bands(self, place_id: str, bands: Sequence[str], frames: Sequence[int] | slice | None = None) -> dict[str, np.ndarray]:
        """Decode bands by name, (time, y, x) each at its native resolution; frames are those of the bands' own sensor.

        Raises: ShardError as ``read``.
        """
        found: dict[str, np.ndarray] = {}
        for group, own in self.groups_with(bands).items():
            found |= zip(own, np.moveaxis(self.read(place_id, group, frames, own), 1, 0), strict=True)
        return {band: found[band] for band in bands}

    def valid(self, place_id: str, group: str, frames: Sequence[int] | slice | None = None) -> np.ndarray:
        """Which pixels of a group are valid, (time, y, x) bool."""
        return self.clip(place_id, group).valid(frames)

    def cube(self, place_id: str) -> Cube:
        """All of one place.

        Raises: ShardError as ``read``.
        """
        row = self.row(place_id)
        clips = {name: self.clip(place_id, name) for name, group in self.groups.items() if row[f"{group.sensor}_frames"]}
        return Cube(
            place_id,
            {name: clip.read() for name, clip in clips.items()},
            {name: clip.valid() for name, clip in clips.items()},
            self.reference_map(place_id),
        )

    def row(self, place_id: str) -> pd.Series:
        """The place's row of the index. Raises: ShardError if there is no such place."""
        if place_id not in self._rows:
            raise ShardError(f"{self.path} has no place {place_id}; see its {INDEX_FILE} for those it has", key=place_id)
        return self.index.iloc[self._rows[place_id]]

    def times(self, place_id: str, sensor: str = "s2") -> np.ndarray:
        """When each frame was acquired, UTC, (time,) datetime64[us]; empty if the sensor never saw the place."""
        rows = self._frames_of.get((place_id, sensor), np.empty(0, np.intp))
        return np.asarray(self._times[rows])

    def reference_map(self, place_id: str) -> np.ndarray | None:
        """Classes (y, x) of the place, None if it has no map."""
        key = self.row(place_id)["reference_map_key"]
        return None if not isinstance(key, str) else next(iter(self._store.read(key).values()))

    def groups_with(self, bands: Sequence[str]) -> dict[str, list[str]]:
        """Group to those of the bands that lie in it, in the order asked for.

        Raises: ShardError if no group has a band.
        """
        of = {band.name: group.name for group in self.groups.values() for band in group.bands}
        if unknown := [band for band in bands if band not in of]:
            raise ShardError(f"{self.path} has no band {unknown[0]}; it has {', '.join(of)}", bands=unknown)
        return {group: [band for band in bands if of[band] == group] for group in dict.fromkeys(of[band] for band in bands)}

    def _known(self, group: str) -> Group:
        if group not in self.groups:
            raise ShardError(f"{self.path} has no group {group}; it has {', '.join(self.groups)}", group=group)
        return self.groups[group]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {place_id: row for row, place_id in enumerate(self.index["place_id"])}

    @cached_property
    def _times(self) -> np.ndarray:
        return self.frames["time"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")

    @cached_property
    def _frames_of(self) -> dict[tuple[str, str], np.ndarray]:
        """Rows of the table of frames, which lie in the order of time."""
        found = self.frames.groupby(["place_id", "sensor"], sort=False).indices
        return {(str(place_id), str(sensor)): rows for (place_id, sensor), rows in found.items()}


def open_cubes(path: Path) -> CubeShard:
    """Open a shard of time series by the manifest that lies in its folder.

    Raises: ShardError if it cannot be opened.
    """
    return CubeShard(path)


def open_any(path: Path) -> Shard | CubeShard:
    """Open a shard of patches or of time series, as its manifest says.

    Raises: ShardError if it cannot be opened.
    """
    return CubeShard(path) if read_manifest(path).format == SERIES_FORMAT else open_shard(path)
