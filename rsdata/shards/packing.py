"""Shards written: from the parts that scenes contributed, or from other shards, in any format.

Whatever the format, values are taken by key, each is looked at once for the statistics, and the manifest comes last.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from rsdata.errors import ShardError
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import SPLITS, BandInfo, LabelClass, ShardManifest, SplitInfo, keys_of, reference_map_id, sensors_of
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2, Sensor
from rsdata.shards.compression import Compression, compression_in
from rsdata.shards.formats import Source, Store, format_of
from rsdata.shards.lmdb import LmdbStore, write_lmdb
from rsdata.shards.manifest import INDEX_FILE, MANIFEST_FILE, artifact, write_index, write_manifest
from rsdata.shards.shard import Shard, open_shard
from rsdata.shards.statistics import BandAccumulator
from rsdata.shards.values import decode, encode

Advance = Callable[[int], None]


def write_part(folder: Path, patches: Mapping[str, Mapping[str, np.ndarray]]) -> Path:
    """Write what one scene contributes: key to bands. Values are encoded one at a time.

    Raises: ShardError as ``write_lmdb``.
    """
    return write_lmdb(folder, ((key, encode(patches[key])) for key in sorted(patches, key=str.encode)))


def index_rows(patches: pd.DataFrame, s1_keys: Iterable[str | None], sensor: Sensor = SENTINEL2) -> pd.DataFrame:
    """Rows of ``ShardIndexRow`` for kept patches, sorted by patch id.

    Args: sensor: whose patches they are; of Sentinel-1, every patch has a key.
    """
    return pd.DataFrame(
        {
            "patch_id": patches["patch_id"].to_list(),
            "sensor": sensor.name,
            "s1_key": pd.Series(list(s1_keys), dtype=object),
            "reference_map_key": [reference_map_id(patch_id) for patch_id in patches["patch_id"]],
            "split": patches["split"].to_list(),
            "labels": [list(names) for names in patches["labels"]],
        }
    ).sort_values("patch_id", ignore_index=True)


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
    format: str = "lmdb",
    compression: Compression | None = None,
    advance: Advance = lambda n: None,
) -> ShardManifest:
    """Merge scene parts into one shard with manifest, index and the train split's statistics.

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
    radar_alone = len(index) > 0 and bool(((index["sensor"] == SENTINEL1.name) & index["s1_key"].notna()).all())
    manifest = ShardManifest(
        name=name,
        format=format,
        codec="",
        recipe_sha256=recipe_sha256,
        key_rule=f"{'' if radar_alone else 'patch_id; '}s1_key; patch_id + '_reference_map', in UTF-8",
        patch_side_m=PATCH_SIDE_M,
        grid="MGRS tile, patches of 1200 m from its upper-left corner, UTM",
        bands=band_infos(sensors, offsets, quantification),
        labels=list(labels),
        unlabeled_codes=list(unlabeled_codes),
        counts=dict.fromkeys(SPLITS, 0),
        split=split,
        keys=0,
        files=[],
    )
    gathered = [(sensor.name, band.name) for sensor in sensors if sensor is not REFERENCE_MAP for band in sensor.bands]
    with ExitStack() as stack:
        stores = [stack.enter_context(LmdbStore(part)) for part in parts]
        return _write(folder, _Merged(stores, index), index, manifest, gathered, compression, advance)


def repack(
    shards: Sequence[Path],
    folder: Path,
    *,
    format: str,
    compression: Compression | None = None,
    name: str | None = None,
    keep: Collection[str] | None = None,
    advance: Advance = lambda n: None,
) -> ShardManifest:
    """Write other shards anew as one: in another format or compression, several merged, or only some of their patches.

    Args:
        shards: shards whose manifests agree on bands, labels and grid. A patch may be in two only with equal values.
        folder: where to write; must not hold a shard yet.
        name: of the new shard; that of the first if absent.
        keep: ids of the patches to take; all if absent.

    Raises: ShardError if the shards do not go together, no patch is left, or a patch to keep is in none of them.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(open_shard(path)) for path in shards]
        first = opened[0].manifest
        for other in opened[1:]:
            check_alike(opened[0], other)
        index = _joined(opened)
        if keep is not None:
            if absent := sorted(set(keep) - set(index["patch_id"])):
                raise ShardError(
                    f"{len(absent)} of the patches to keep are in no shard, {absent[0]} first; look at the list", keys=absent[:10]
                )
            index = index[index["patch_id"].isin(set(keep))].reset_index(drop=True)
        if index.empty:
            raise ShardError(f"no patch is left of {', '.join(path.name for path in shards)}; keep at least one")
        whole = len(opened) == 1 and keep is None
        manifest = first.model_copy(
            update={
                "name": name or first.name,
                "format": format,
                "recipe_sha256": first.recipe_sha256 if whole else digest_of(opened, keep),
                "bands": with_offsets(opened),
                "split": first.split if all(each.manifest.split == first.split for each in opened) else None,
                "left_out": [item for each in opened for item in each.manifest.left_out],
            }
        )
        gathered = [(band.sensor, band.name) for band in first.bands if band.statistics is not None]
        return _write(folder, _Merged(opened, index), index, manifest, gathered, compression, advance)


def compression_of_shard(path: Path) -> Compression | None:
    """How the values of a shard are compressed."""
    with open_shard(path) as shard:
        return compression_in(shard.manifest.codec)


# --- what goes in -----------------------------------------------------------------------------------------


class _Merged:
    """Values of several stores under the keys of one index."""

    def __init__(self, stores: Sequence[Store | Shard], index: pd.DataFrame) -> None:
        """Raises: ShardError if a key is in no store."""
        wanted = {key for sensor in sensors_of(index) for key in keys_of(index, sensor) if key is not None}
        self._stores: dict[str, list[Store | Shard]] = {}
        for store in stores:
            for key in store.keys():  # noqa: SIM118, as a store is no mapping
                if key in wanted:
                    self._stores.setdefault(key, []).append(store)
        if missing := sorted(wanted - self._stores.keys()):
            raise ShardError(f"{len(missing)} patches have no pixels, {missing[0]} first; make their scenes again", keys=missing[:10])
        self._keys = sorted(wanted, key=str.encode)

    def keys(self) -> Sequence[str]:
        return self._keys

    def read_bytes(self, key: str) -> bytes:
        """Raises: ShardError if two stores disagree."""
        first, *others = self._stores[key]
        value = first.read_bytes(key)
        if any(other.read_bytes(key) != value for other in others):
            raise ShardError(f"two scenes disagree on {key}; make both again", key=key)
        return value

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        if len(self._stores[key]) > 1:
            return decode(self.read_bytes(key), key)
        return self._stores[key][0].read(key)


class MeasuredBand(NamedTuple):
    """What a band's statistics depend on."""

    name: str
    dtype: str
    unit: str
    nodata: float | None


class _Watched:
    """A source whose values are counted as they pass, each key once."""

    def __init__(self, source: Source, index: pd.DataFrame, manifest: ShardManifest, gathered: Sequence[tuple[str, str]], advance: Advance):
        self._source, self._advance = source, advance
        bands = {(band.sensor, band.name): band for band in manifest.bands}
        self.accumulators = {place: BandAccumulator(measured(bands[place])) for place in gathered}
        train = [split == "train" or manifest.statistics_over == "all patches" for split in index["split"]]
        counted = dict.fromkeys(sensor for sensor, _ in gathered)
        self._of: dict[str, list[tuple[str, BandAccumulator]]] = {}
        for sensor in counted:
            mine = [(name, accumulator) for (of, name), accumulator in self.accumulators.items() if of == sensor]
            self._of |= {key: mine for key, counts in zip(keys_of(index, sensor), train, strict=True) if counts and key is not None}
        self._seen: set[str] = set()

    def keys(self) -> Sequence[str]:
        return self._source.keys()

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        bands = self._source.read(key)
        self._look(key, lambda: bands)
        return bands

    def read_bytes(self, key: str) -> bytes:
        value = self._source.read_bytes(key)
        self._look(key, lambda: decode(value, key))
        return value

    def _look(self, key: str, bands: Callable[[], Mapping[str, np.ndarray]]) -> None:
        if key in self._seen:
            return
        self._seen.add(key)
        self._advance(1)
        if key in self._of:
            pixels = bands()
            for name, accumulator in self._of[key]:
                if name not in pixels:
                    raise ShardError(f"{key} holds {', '.join(pixels)} but not band {name}; make it again", key=key, band=name)
                accumulator.add(pixels[name])


def measured(band: BandInfo) -> MeasuredBand:
    """What statistics need to know of a band."""
    return MeasuredBand(band.name, band.dtype, band.unit, None if band.nodata is None else float(band.nodata))


# --- what comes out ---------------------------------------------------------------------------------------


def _write(
    folder: Path,
    source: Source,
    index: pd.DataFrame,
    manifest: ShardManifest,
    gathered: Sequence[tuple[str, str]],
    compression: Compression | None,
    advance: Advance,
) -> ShardManifest:
    """Write pixels, index and the manifest, whose codec, statistics, counts, keys and files are filled in."""
    chosen = format_of(manifest.format)
    index = index.sort_values("patch_id", ignore_index=True)
    watched = _Watched(source, index, manifest, gathered, advance)
    files = chosen.write(folder, watched, index, manifest.bands, title=manifest.name, compression=compression)
    write_index(folder / INDEX_FILE, index)
    statistics = {place: accumulator.result() for place, accumulator in watched.accumulators.items()}
    done = manifest.model_copy(
        update={
            "codec": f"{chosen.values}+{compression.name}" if compression else chosen.values,
            "bands": [band.model_copy(update={"statistics": statistics.get((band.sensor, band.name))}) for band in manifest.bands],
            "counts": {name: int((index["split"] == name).sum()) for name in _split_names(index, manifest)},
            "keys": len(source.keys()),
            "files": [artifact(folder, path.relative_to(folder).as_posix()) for path in (*files, folder / INDEX_FILE)],
        }
    )
    write_manifest(folder / MANIFEST_FILE, done)
    return done


def _split_names(index: pd.DataFrame, manifest: ShardManifest) -> list[str]:
    """The splits to count: those the manifest had, and others that occur, such as folds."""
    return [*manifest.counts, *sorted(set(index["split"].dropna()) - manifest.counts.keys())]


def band_infos(sensors: Sequence[Sensor], offsets: Mapping[str, Sequence[float]], quantification: float) -> list[BandInfo]:
    """Bands of a shard that is to be written, without statistics.

    Args: offsets: band to the distinct offsets of the source products, counts; quantification: counts per unit of reflectance.
    """
    found = []
    for sensor in sensors:
        for band in sensor.bands:
            side, counts = band.pixels(PATCH_SIDE_M), band.unit == "counts"
            found.append(
                BandInfo(
                    name=band.name,
                    sensor=sensor.name,
                    dtype=band.dtype,
                    shape=[side, side],
                    unit=band.unit,
                    nodata="nan" if band.nodata is not None and math.isnan(band.nodata) else band.nodata,
                    gsd_m=band.gsd_m,
                    wavelength_nm=band.wavelength_nm,
                    bandwidth_nm=band.bandwidth_nm,
                    scale=1 / quantification if counts else 1.0,
                    offset=sorted(set(offsets.get(band.name, [0.0]))) if counts else [0.0],
                    offset_applied=False,
                    statistics=None,
                )
            )
    return found


# --- shards that are to become one -------------------------------------------------------------------------


class Described(Protocol):
    """A shard of any format."""

    path: Path
    manifest: ShardManifest


def check_alike(first: Described, other: Described) -> None:
    """Raises: ShardError naming the first thing in which two shards differ."""
    for what, mine, theirs in _differences(first.manifest, other.manifest):
        if mine != theirs:
            raise ShardError(f"{first.path} and {other.path} cannot be merged: their {what} differ; make them from one recipe", what=what)


def _differences(first: ShardManifest, other: ShardManifest) -> Iterator[tuple[str, Any, Any]]:
    def plain(manifest: ShardManifest) -> list[dict[str, Any]]:
        return [band.model_dump(exclude={"statistics", "offset"}) for band in manifest.bands]

    yield "bands", plain(first), plain(other)
    for what in ("labels", "unlabeled_codes", "patch_side_m", "grid", "key_rule", "statistics_over"):
        yield what, getattr(first, what), getattr(other, what)


def _joined(opened: Sequence[Shard]) -> pd.DataFrame:
    """The rows of all indexes, each patch once.

    Raises: ShardError if two shards say different things of one patch.
    """
    index = pd.concat([shard.index for shard in opened], ignore_index=True)
    twice = index[index["patch_id"].duplicated(keep=False)]
    for patch_id, rows in twice.groupby("patch_id"):
        said = {json.dumps(row, sort_keys=True) for row in rows.to_dict("records")}
        if len(said) > 1:
            raise ShardError(f"two shards say different things of {patch_id}, such as its split or labels; keep one of them", key=patch_id)
    return index.drop_duplicates("patch_id", ignore_index=True)


def with_offsets(opened: Sequence[Described]) -> list[BandInfo]:
    """The bands of the first shard, with the distinct offsets of all."""
    offsets = zip(*([band.offset for band in shard.manifest.bands] for shard in opened), strict=True)
    return [
        band.model_copy(update={"offset": sorted({value for each in values for value in each})})
        for band, values in zip(opened[0].manifest.bands, offsets, strict=True)
    ]


def digest_of(opened: Sequence[Described], keep: Collection[str] | None) -> str:
    """Stands for the recipe of a shard that is made of parts of others."""
    said = {"shards": sorted(shard.manifest.recipe_sha256 for shard in opened), "keep": None if keep is None else sorted(keep)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
