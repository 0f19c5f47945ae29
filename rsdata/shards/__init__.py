"""Packed patches: one database, a manifest beside it that describes it, and an index of what is in it.

``pack`` merges the parts that scenes contributed, in the order of their keys; ``open_shard`` reads any format by
its manifest; ``verify_shard`` compares what lies there with what the manifest says.
"""

import hashlib
import heapq
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from rsdata.errors import ShardError
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import (
    Artifact,
    BandInfo,
    BandStatistics,
    LabelClass,
    ShardIndexRow,
    ShardManifest,
    SplitInfo,
    arrow_schema,
    reference_map_id,
)
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2, Band, Sensor
from rsdata.shards.lmdb import DATA_FILE, LmdbStore, write_lmdb
from rsdata.shards.reading import Piece, pieces_of
from rsdata.shards.statistics import BandAccumulator
from rsdata.shards.values import decode, encode

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.parquet"


class Store(Protocol):
    """Read access to a shard's values by key, whatever its format."""

    def __len__(self) -> int: ...
    def keys(self) -> Iterator[str]: ...
    def read(self, key: str) -> Mapping[str, np.ndarray]: ...
    def close(self) -> None: ...


FORMATS: dict[str, Callable[[Path], Store]] = {"lmdb": LmdbStore}


class Shard:
    """A shard with its manifest and index; pickles, and opens again in another process."""

    def __init__(self, path: Path) -> None:
        """Raises: ShardError if the manifest or index is missing or says what this version does not know."""
        self.path = path
        self.manifest = _read_manifest(path)
        self.index = _read_index(path)
        self._store = FORMATS[self.manifest.format](path)

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

    def pieces(self, keys: Sequence[str], bands: Sequence[str]) -> AbstractContextManager[Iterable[Piece]]:
        """Where the pixels of many keys lie, without copies if the format allows; see ``PieceStore``."""
        return pieces_of(self._store, keys, bands)


def open_shard(path: Path) -> Shard:
    """Open a shard by the manifest that lies in its folder.

    Raises: ShardError if it cannot be opened.
    """
    return Shard(path)


def write_part(folder: Path, patches: Mapping[str, Mapping[str, np.ndarray]]) -> Path:
    """Write what one scene contributes: key to bands. Values are encoded one at a time.

    Raises: ShardError as ``write_lmdb``.
    """
    keys = sorted(patches, key=str.encode)
    return write_lmdb(folder, ((key, encode(patches[key])) for key in keys))


def pack(
    folder: Path,
    parts: Sequence[Path],
    *,
    name: str,
    index: pd.DataFrame,
    sensors: Sequence[Sensor],
    offsets: Mapping[str, Sequence[float]],
    quantification: float,
    labels: Sequence[LabelClass],
    unlabeled_codes: Sequence[int],
    recipe_sha256: str,
    split: SplitInfo | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> ShardManifest:
    """Merge scene parts into one LMDB shard with manifest, index and the train split's statistics.

    Args:
        folder: where to write; must not hold a shard yet.
        parts: folders that ``write_part`` made. The same key may come from two parts only with equal values, as when
            two Sentinel-2 dates share one Sentinel-1 scene.
        index: rows of ``ShardIndexRow``, one per patch.
        sensors: what the values hold.
        offsets: band to the distinct offsets of the source products, counts.
        quantification: counts per unit of reflectance.
        split: how the splits were made.
        advance: called with the number of entries just written.

    Raises: ShardError if a key of the index is missing or parts disagree.
    """
    split_of_key = {row.patch_id: row.split for row in index.itertuples()}
    split_of_key |= {row.s1_key: row.split for row in index.itertuples() if row.s1_key is not None}
    wanted = set(split_of_key) | set(index["reference_map_key"])
    gathered = {
        (sensor.name, band.name): BandAccumulator(band) for sensor in sensors if sensor is not REFERENCE_MAP for band in sensor.bands
    }
    accumulators = {sensor: {band: acc for (s, band), acc in gathered.items() if s == sensor} for sensor, _ in gathered}
    seen: set[str] = set()

    with ExitStack() as stack:
        stores = [stack.enter_context(LmdbStore(part)) for part in parts]

        def entries() -> Iterator[tuple[str, bytes]]:
            last_key, last_value = "", b""
            for key, value in heapq.merge(*(store.items() for store in stores), key=lambda item: item[0].encode()):
                if key not in wanted:
                    continue
                if key == last_key:
                    if value != last_value:
                        raise ShardError(f"two scenes disagree on {key}; make both again", key=key)
                    continue
                if split_of_key.get(key) == "train":
                    for band, pixels in decode(value, key).items():
                        accumulators[SENTINEL1.name if band in SENTINEL1.band_names else SENTINEL2.name][band].add(pixels)
                last_key, last_value = key, value
                seen.add(key)
                advance(1)
                yield key, value

        write_lmdb(folder, entries())
    if missing := sorted(wanted - seen):
        raise ShardError(f"{len(missing)} patches have no pixels, {missing[0]} first; make their scenes again", keys=missing[:10])
    write_index(folder / INDEX_FILE, index)
    manifest = ShardManifest(
        name=name,
        format="lmdb",
        codec="safetensors",
        recipe_sha256=recipe_sha256,
        key_rule="patch_id; s1_key; patch_id + '_reference_map', in UTF-8",
        patch_side_m=PATCH_SIDE_M,
        grid="MGRS tile, patches of 1200 m from its upper-left corner, UTM",
        bands=[
            _band_info(
                sensor,
                band,
                offsets.get(band.name, [0.0]),
                quantification,
                gathered[sensor.name, band.name].result() if (sensor.name, band.name) in gathered else None,
            )
            for sensor in sensors
            for band in sensor.bands
        ],
        labels=list(labels),
        unlabeled_codes=list(unlabeled_codes),
        counts={name: int((index["split"] == name).sum()) for name in ("train", "validation", "test")},
        split=split,
        keys=len(seen),
        files=[artifact(folder, file) for file in (DATA_FILE, INDEX_FILE)],
    )
    write_manifest(folder / MANIFEST_FILE, manifest)
    return manifest


def _band_info(sensor: Sensor, band: Band, offsets: Sequence[float], quantification: float, statistics: BandStatistics | None) -> BandInfo:
    side = band.pixels(PATCH_SIDE_M)
    counts = band.unit == "counts"
    nodata = "nan" if band.nodata is not None and math.isnan(band.nodata) else band.nodata
    return BandInfo(
        name=band.name,
        sensor=sensor.name,
        dtype=band.dtype,
        shape=[side, side],
        unit=band.unit,
        nodata=nodata,
        gsd_m=band.gsd_m,
        wavelength_nm=band.wavelength_nm,
        bandwidth_nm=band.bandwidth_nm,
        scale=1 / quantification if counts else 1.0,
        offset=sorted(set(offsets)) if counts else [0.0],
        offset_applied=False,
        statistics=statistics,
    )


def artifact(folder: Path, name: str) -> Artifact:
    """Describe a finished file of a shard."""
    with (folder / name).open("rb") as stream:
        return Artifact(path=name, bytes=(folder / name).stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def write_manifest(path: Path, manifest: ShardManifest) -> None:
    path.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def write_index(path: Path, index: pd.DataFrame) -> None:
    """Write rows of ``ShardIndexRow``, sorted by patch id."""
    schema = arrow_schema(ShardIndexRow)
    rows = index.sort_values("patch_id")
    columns = [pa.array([_plain(v) for v in rows[field.name]], type=field.type) for field in schema]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, np.ndarray) else value


def _read_index(path: Path) -> pd.DataFrame:
    try:
        rows = pq.read_table(path / INDEX_FILE).select(list(ShardIndexRow.model_fields)).to_pylist()
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise ShardError(f"{path / INDEX_FILE} cannot be read ({error}); make the shard again", path=str(path)) from error
    nullable = dict.fromkeys(("s1_key", "reference_map_key", "split"), object)
    return pd.DataFrame(rows, columns=list(ShardIndexRow.model_fields)).astype(nullable)


def _read_manifest(path: Path) -> ShardManifest:
    try:
        text = (path / MANIFEST_FILE).read_bytes()
    except OSError as error:
        raise ShardError(f"{path} has no {MANIFEST_FILE}; name a shard's folder, such as DIR/shards/lmdb", path=str(path)) from error
    try:
        manifest = ShardManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ShardError(f"{path / MANIFEST_FILE} is not a shard's manifest: `{place}` {first['msg']}", path=str(path)) from error
    if manifest.format not in FORMATS:
        raise ShardError(f"{path} is a {manifest.format} shard; this version reads {', '.join(sorted(FORMATS))}", path=str(path))
    return manifest


def verify_shard(path: Path, advance: Callable[[int], None] = lambda n: None) -> list[str]:
    """Compare a shard with its manifest: files, digests, keys, bands, types, shapes, counts.

    Returns: one sentence per difference, none if all is as stated.
    Raises: ShardError if the manifest or index cannot be read at all.
    """
    manifest = _read_manifest(path)
    findings = []
    for file in manifest.files:
        if not (path / file.path).is_file():
            return [f"{file.path} is missing; the shard is incomplete"]
        found = artifact(path, file.path)
        if found != file:
            findings.append(
                f"{file.path} has {found.bytes} bytes and digest {found.sha256[:9]}…; the manifest says {file.bytes} and {file.sha256[:9]}…"
            )
    with Shard(path) as shard:
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
        for row in shard.index.itertuples():
            for sensor, key in ((row.sensor, row.patch_id), (SENTINEL1.name, row.s1_key), (REFERENCE_MAP.name, row.reference_map_key)):
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


def index_rows(patches: pd.DataFrame, s1_keys: Iterable[str | None]) -> pd.DataFrame:
    """Rows of ``ShardIndexRow`` for kept patches, sorted by patch id."""
    return pd.DataFrame(
        {
            "patch_id": patches["patch_id"].to_list(),
            "sensor": SENTINEL2.name,
            "s1_key": pd.Series(list(s1_keys), dtype=object),
            "reference_map_key": [reference_map_id(patch_id) for patch_id in patches["patch_id"]],
            "split": patches["split"].to_list(),
            "labels": [list(names) for names in patches["labels"]],
        }
    ).sort_values("patch_id", ignore_index=True)


__all__ = [
    "FORMATS",
    "INDEX_FILE",
    "MANIFEST_FILE",
    "LmdbStore",
    "Shard",
    "Store",
    "artifact",
    "index_rows",
    "open_shard",
    "pack",
    "verify_shard",
    "write_index",
    "write_manifest",
    "write_part",
]
