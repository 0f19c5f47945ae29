"""From a plan to a shard: values in the order of their keys, statistics, index and manifest.

What was written stays written: a run that finds what another left goes on where that one stopped and ends with the same
files, unless the machine itself was started anew in between; then it begins again, as nothing is synced before the end.
Nothing but the plan decides where portions end, and statistics are gathered from what was written, in the order of keys,
while the digest of the same file is taken: so the number of workers changes no byte.
"""

import ctypes
import hashlib
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from rsdata.errors import ShardError
from rsdata.foreign import load_json
from rsdata.records import Artifact, LabelClass, LeftOut, ShardIndexRow, ShardManifest, reference_map_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1
from rsdata.shards.convert.planning import Plan
from rsdata.shards.convert.reading import Filled, Portion, Reader, portions
from rsdata.shards.lmdb import DATA_FILE, LmdbStore, LmdbWriter
from rsdata.shards.manifest import INDEX_FILE, MANIFEST_FILE, artifact, write_index, write_manifest
from rsdata.shards.statistics import BandAccumulator

JOURNAL_FILE = "journal.json"  # while a conversion is under way
_NAMED = 20  # damaged values that a message names
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT_BYTES = 32 * 2**20  # the most that glibc takes for either
_REST_BYTES = 2**20


Items = Sequence[tuple[str, bytes | memoryview]]


@dataclass(frozen=True)
class Labelling:
    """What is known of patches beyond their pixels."""

    table: pd.DataFrame  # columns patch_id, split (None for all if there are no splits), labels, s1_name
    classes: Sequence[LabelClass]
    unlabeled_codes: Sequence[int]
    digest: str  # of the file it came from

    @property
    def has_splits(self) -> bool:
        return bool(self.table["split"].notna().any())


def digest_of(plan: Plan, labelling: Labelling | None) -> str:
    """What the manifest states as the digest of what was asked."""
    return hashlib.sha256(f"{plan.digest} {labelling.digest if labelling else None}".encode()).hexdigest()


@dataclass
class Conversion:
    """What a run did."""

    manifest: ShardManifest
    files: int = 0  # files of the values that this run read
    by_rasterio: Counter[str] = field(default_factory=Counter)  # why rasterio had to read a file, and how many
    resumed_after: int = 0  # values that an earlier run had written
    labelled: int = 0  # rows of the index that have labels


def convert(
    plan: Plan,
    folder: Path,
    *,
    workers: int = 1,
    skip_damaged: bool = False,
    labelling: Labelling | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Conversion:
    """Write the values of a plan as a shard into a folder, or go on where an earlier run stopped.

    Args:
        folder: holds nothing, or what an interrupted run with the same plan left. Not a shard before this returns.
        workers: threads that read; one reads in the caller's own.
        skip_damaged: leave values with damaged files out and say so in the manifest, instead of failing.
        labelling: splits and labels; statistics are then those of the train split.
        advance: called with the number of values just written.

    Raises: ShardError that lists what is damaged, after everything was looked at; OSError from the system.
    """
    parts = list(portions(plan))
    left_out = _take_over(plan, folder, skip_damaged)
    writer = LmdbWriter(folder)
    written, last_key = writer.written()
    first = next((place for place, part in enumerate(parts) if part.values[0][0] > last_key), len(parts))
    done = sum(len(part.values) for part in parts[:first])
    left_out = [each for each in left_out if first and each.key <= parts[first - 1].values[-1][0]]
    if written + len(left_out) != done:
        raise ShardError(f"{folder} holds {written} values, expected {done - len(left_out)}; remove it and convert again", path=str(folder))
    if done:
        advance(done)

    broken: list[LeftOut] = []
    files, by_rasterio = 0, Counter[str]()
    for filled, write in _read(plan, parts[first:], workers):
        damaged = filled.left_out()
        if damaged and skip_damaged:
            left_out += damaged
            _write_journal(plan, folder, left_out)
        elif damaged:
            broken += damaged
        if not broken:
            write(writer.append, _items(filled, plan))
        by_rasterio += filled.by_rasterio
        files += sum(plan.sources[value[1]].files_per_value for value in filled.portion.values)
        advance(len(filled.portion.values))
    if broken:
        raise _damaged(broken, len(plan.values))
    if len(left_out) == len(plan.values):
        raise _damaged(left_out, len(plan.values))
    index = _index(plan, {each.key for each in left_out}, labelling)
    manifest = _finish(plan, folder, parts, left_out, labelling, index)
    return Conversion(manifest, files, by_rasterio, written, labelled_rows(index))


def labelled_rows(index: pd.DataFrame) -> int:
    """How many rows of an index have labels."""
    return int(index["labels"].map(len).gt(0).sum())


def _damaged(broken: list[LeftOut], total: int) -> ShardError:
    shown = "\n".join(f"  {each.key}: {each.reason}" for each in broken[:_NAMED])
    more = f"\n  and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    return ShardError(
        f"{len(broken)} of {total} values have damaged files; mend them and run the same command again, or leave them out with "
        f"--skip-damaged:\n{shown}{more}",
        damaged=broken,
    )


def _take_over(plan: Plan, folder: Path, skip_damaged: bool) -> list[LeftOut]:
    """Make the folder ready; return what an earlier run left out. What cannot be gone on with is removed."""
    journal = folder / JOURNAL_FILE
    ours = {JOURNAL_FILE, f"{JOURNAL_FILE}.part", INDEX_FILE, MANIFEST_FILE, DATA_FILE}
    try:
        found = load_json(journal.read_text(encoding="utf-8"))
        left_out = [LeftOut.model_validate(each) for each in found["left_out"]]
        same = found["plan"] == plan.digest and found["boot"] == _boot() and (skip_damaged or not left_out)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        left_out, same = [], False
    if not same:
        if folder.is_dir() and any(entry.name not in ours for entry in folder.iterdir()):
            raise ShardError(f"{folder} holds something else; name a folder that does not exist yet", path=str(folder))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        left_out = []
        _write_journal(plan, folder, left_out)
    return left_out


def _boot() -> str:
    """What tells this run of the machine from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return f"{psutil.boot_time():.0f}"


def _write_journal(plan: Plan, folder: Path, left_out: list[LeftOut]) -> None:
    aside = folder / f"{JOURNAL_FILE}.part"
    with aside.open("w", encoding="utf-8") as stream:
        json.dump({"plan": plan.digest, "boot": _boot(), "left_out": [each.model_dump() for each in left_out]}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(folder / JOURNAL_FILE)


Write = Callable[[Callable[[Items], None], Items], None]


def _read(plan: Plan, parts: Sequence[Portion], workers: int) -> Iterator[tuple[Filled, Write]]:
    """Portions in order, each with a way to have it written.

    Beside the threads that read, one writes; it is done with a portion before the next one is handed to it. A buffer is
    used again once its portion is written.
    """
    if not parts:
        return
    _keep_freed_memory()
    reader = Reader(plan)
    size = max(part.bytes for part in parts)
    free = deque(np.empty(size, np.uint8) for _ in range(workers + (1 if workers == 1 else 2)))
    waiting = deque(parts)
    running: deque[Future[Filled]] = deque()
    under_way: Future[None] | None = None
    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(1) as pen:

        def write(append: Callable[[Items], None], items: Items) -> None:
            nonlocal under_way
            under_way = pen.submit(append, items) if items else None

        try:
            before: Filled | None = None
            while waiting or running:
                if workers == 1:  # in the caller's thread
                    filled = reader.read(waiting.popleft(), free.popleft())
                else:
                    while waiting and free:
                        running.append(pool.submit(reader.read, waiting.popleft(), free.popleft()))
                    filled = running.popleft().result()
                if under_way is not None:
                    under_way.result()
                    under_way = None
                if before is not None:
                    free.append(before.buffer)
                yield filled, write
                before = filled
            if under_way is not None:
                under_way.result()
        finally:
            for each in running:
                each.cancel()


def _keep_freed_memory() -> None:
    """Let the C library keep memory that was freed instead of giving it back to the system each time.

    LMDB takes fresh memory for every value until a portion is written, and having the system hand it out again costs
    more than filling it. Only glibc can be told.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)


def _items(filled: Filled, plan: Plan) -> Items:
    view = memoryview(filled.buffer)  # type: ignore[arg-type]  # arrays are buffers
    items: list[tuple[str, bytes | memoryview]] = []
    for place, (value, at) in enumerate(zip(filled.portion.values, filled.portion.at, strict=True)):
        if place in filled.odd:
            items.append((value[0], filled.odd[place]))
        elif place not in filled.damaged:
            items.append((value[0], view[at : at + plan.sources[value[1]].layout.bytes]))
    return items


class _Statistics:
    """Statistics of every band of every source: of the train split if there are splits, else of all patches."""

    def __init__(self, plan: Plan, labelling: Labelling | None) -> None:
        self._plan = plan
        self._bands = [
            {name: BandAccumulator(source.input.band(name)) for name in source.input.band_names} if source.input.statistics else {}
            for source in plan.sources
        ]
        self._counted: set[str] | None = None
        if labelling is not None and labelling.has_splits:
            train = labelling.table[labelling.table["split"] == "train"]
            self._counted = set(train["patch_id"]) | set(train["s1_name"])

    def add(self, store: LmdbStore, part: Portion, missing: Collection[str]) -> None:
        """Take in the values of a portion that were written."""
        counted: dict[int, list[str]] = {}  # source to keys
        for value in part.values:
            if self._bands[value[1]] and value[0] not in missing and (self._counted is None or value[0] in self._counted):
                counted.setdefault(value[1], []).append(value[0])
        for source, keys in counted.items():
            with store.pieces(keys, list(self._bands[source])) as pieces:
                for piece in pieces:
                    for name, accumulator in self._bands[source].items():
                        accumulator.add_piece(piece, name)

    def result(self, source: int, name: str) -> BandAccumulator | None:
        return self._bands[source].get(name)


def _finish(
    plan: Plan,
    folder: Path,
    parts: Sequence[Portion],
    left_out: Sequence[LeftOut],
    labelling: Labelling | None,
    index: pd.DataFrame,
) -> ShardManifest:
    """Look at what was written, write index and manifest, and take the journal away."""
    write_index(folder / INDEX_FILE, index)
    statistics = _Statistics(plan, labelling)
    with ThreadPoolExecutor(1) as pool:  # the disk writes meanwhile
        synced = pool.submit(_sync, folder / DATA_FILE)
        sha256 = _pass_over(folder, parts, {each.key for each in left_out}, statistics)
        synced.result()
    data = Artifact(path=DATA_FILE, bytes=(folder / DATA_FILE).stat().st_size, sha256=sha256)
    bands = []
    for place, source in enumerate(plan.sources):
        for name in source.input.band_names:
            gathered = statistics.result(place, name)
            bands.append(source.input.info(name, gathered.result() if gathered else None))
    has_splits = labelling is not None and labelling.has_splits
    splits = index["split"].value_counts().to_dict() if has_splits else {}
    manifest = ShardManifest(
        name=plan.spec.name,
        format="lmdb",
        codec="safetensors",
        recipe_sha256=digest_of(plan, labelling),
        key_rule="; ".join(f"{source.input.sensor}: {source.input.key}" for source in plan.sources) + ", in UTF-8",
        patch_side_m=plan.spec.patch_side_m,
        grid=plan.spec.grid,
        bands=bands,
        statistics_over="train split" if has_splits else "all patches",
        labels=list(labelling.classes) if labelling else [],
        unlabeled_codes=list(labelling.unlabeled_codes) if labelling else [],
        counts={split: int(splits.get(split, 0)) for split in ("train", "validation", "test")} if has_splits else {},
        keys=len(plan.values) - len(left_out),
        left_out=list(left_out),
        files=[data, artifact(folder, INDEX_FILE)],
    )
    write_manifest(folder / MANIFEST_FILE, manifest)
    (folder / JOURNAL_FILE).unlink()
    return manifest


def _pass_over(folder: Path, parts: Sequence[Portion], missing: Collection[str], statistics: _Statistics) -> str:
    """Gather statistics and the SHA-256 of the data file side by side, portion by portion, so that it is read once."""
    hashed = hashlib.sha256()
    with (folder / DATA_FILE).open("rb") as stream, ThreadPoolExecutor(1) as beside:
        for part in parts:
            under_way = beside.submit(lambda size: hashed.update(stream.read(size)), part.bytes)
            with LmdbStore(folder) as store:  # opened for each, so that no more than a portion stays mapped
                statistics.add(store, part, missing)
            under_way.result()
        while text := stream.read(_REST_BYTES):
            hashed.update(text)
    return hashed.hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _index(plan: Plan, missing: set[str], labelling: Labelling | None) -> pd.DataFrame:
    """One row per patch; Sentinel-1 values and reference maps stand beside their patch where it is known, else alone."""
    sensor_of = {value[0]: plan.sources[value[1]].input.sensor for value in plan.values if value[0] not in missing}
    known: dict[str, tuple[str | None, str | None, list[str]]] = {}
    if labelling is not None:
        published = [labelling.table[name] for name in ("patch_id", "split", "labels", "s1_name")]
        for patch_id, split, labels, s1_name in zip(*published, strict=True):
            known[patch_id] = (split, s1_name if sensor_of.get(s1_name) == SENTINEL1.name else None, list(labels))
    beside: set[str] = set()
    columns: dict[str, list[object]] = {name: [] for name in ShardIndexRow.model_fields}

    def add(*row: object) -> None:
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)

    alone = (SENTINEL1.name, REFERENCE_MAP.name)
    nothing: list[str] = []
    for key, sensor in sensor_of.items():
        if sensor not in alone:
            split, s1_key, labels = known.get(key, (None, None, nothing))
            reference_map = reference_map_id(key) if sensor_of.get(reference_map_id(key)) == REFERENCE_MAP.name else None
            beside |= {each for each in (s1_key, reference_map) if each is not None}
            add(key, sensor, s1_key, reference_map, split, labels)
    for key, sensor in sensor_of.items():
        if sensor in alone and key not in beside:
            split, _, labels = known.get(key, (None, None, nothing))
            add(key, sensor, None, None, split, labels)
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in columns.items()})
