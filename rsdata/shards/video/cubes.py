"""A shard of time series: one blob per place and group of bands in LMDB, with an index of places and a table of frames.

Values are coded in processes of their own and written in the order of their places, so the same cubes give the same
file however many workers there are, and a codec that crashes costs one place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsdata.errors import ShardError
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import (
    SPLITS,
    BandInfo,
    CubeFrame,
    CubeRow,
    LabelClass,
    LeftOut,
    ShardManifest,
    SplitInfo,
    reference_map_id,
)
from rsdata.sensors import REFERENCE_MAP
from rsdata.shards.lmdb import write_lmdb
from rsdata.shards.manifest import INDEX_FILE, MANIFEST_FILE, SERIES_FORMAT, artifact, write_manifest, write_rows
from rsdata.shards.values import encode as encode_map
from rsdata.shards.video.groups import Coded, GroupTotals, code_group, with_nodata
from rsdata.shards.video.isolation import run_isolated
from rsdata.shards.video.settings import VideoSettings
from rsdata.shards.zarr import groups_of

CODEC = "rsdata.video 1"  # the blob and its version
FRAMES_FILE = "frames.parquet"


@dataclass(frozen=True)
class Cube:
    """All that is known of one place over time, at native resolutions."""

    place_id: str
    groups: Mapping[str, np.ndarray]  # "s2_10m", "s2_20m", "s2_60m", "s1" -> (time, band, y, x) in the stored dtype
    valid: Mapping[str, np.ndarray]  # same names -> (time, y, x) bool
    reference_map: np.ndarray | None  # (120, 120) uint16


def write_cubes(
    folder: Path,
    cubes: Iterable[Cube],
    *,
    name: str,
    rows: pd.DataFrame,
    frames: pd.DataFrame,
    settings: Mapping[str, VideoSettings],
    bands: Sequence[BandInfo],
    labels: Sequence[LabelClass],
    unlabeled_codes: Sequence[int],
    recipe_sha256: str,
    split: SplitInfo | None = None,
    left_out: Sequence[LeftOut] = (),
    workers: int = 1,
    advance: Callable[[int], None] = lambda n: None,
) -> ShardManifest:
    """Code cubes and write them with index, frames and manifest; return the manifest.

    A place of which one group cannot be coded, or whose codec crashes, is left out whole: it is missing from index and
    frames, and the manifest's ``left_out`` says why. Statistics in the manifest are those of the decoded values of the
    train split, or of all places where none has a split, no-data and pixels that are not valid left out: what a reader gets.

    Args:
        folder: exists and holds no shard yet; the caller makes it appear whole (``writing_folder``).
        cubes: in the order of their place ids' bytes, one at a time; read as workers become free.
        rows: one per cube, columns of ``CubeRow``, in any order.
        frames: columns of ``CubeFrame``, in any order; per place and sensor as many as its cube has frames. A
            ``nodata_fraction`` that is None is filled in from validity.
        settings: per group; their no-data value is that of the bands where they name none.
        bands: what the groups hold, as ``shards.band_infos`` makes them; group names follow from sensor and resolution,
            bands of a group lie in the order they have here. The reference map is among them if there are any.
        left_out: places that were left out before; they stand in the manifest before those that could not be coded.
        workers: processes that code; 0 codes in this one, where a crash of a codec ends it.
        advance: called with the number of places just written.

    Raises: ShardError if a cube does not fit rows, frames or bands, or none could be coded.
    """
    groups = {group.name: group for group in groups_of(bands) if group.sensor != REFERENCE_MAP.name}
    if missing := [group for group in groups if group not in settings]:
        raise ShardError(f"there are no video settings for {', '.join(missing)}; give them for each group", groups=missing)
    totals = {group.name: GroupTotals(group, with_nodata(settings[group.name], group)) for group in groups.values()}
    source = _Source(cubes, rows, frames, bands, totals)
    failed: list[LeftOut] = []
    key_count = 0

    def items() -> Iterator[tuple[str, bytes]]:
        nonlocal key_count
        for place_id, found in source.coded(workers):
            wrong = next(((group, each) for group, each in found.items() if isinstance(each, ShardError)), None)
            if wrong is not None:
                failed.append(LeftOut(key=place_id, reason=f"{wrong[0]}: {wrong[1]}"))
                source.reference_maps.pop(place_id, None)
                advance(1)
                continue
            values = {cube_key(place_id, group): each.blob for group, each in found.items() if isinstance(each, Coded)}
            for group, each in found.items():
                if isinstance(each, Coded):
                    totals[group].add(each)
            if (reference_map := source.reference_maps.pop(place_id, None)) is not None:
                values[reference_map_id(place_id)] = reference_map
            key_count += len(values)
            yield from sorted(values.items(), key=lambda item: item[0].encode())
            advance(1)

    data = write_lmdb(folder, items())
    source.check_complete()
    kept = rows[~rows["place_id"].isin([each.key for each in failed])]
    if kept.empty:
        raise ShardError(
            f"none of the {len(rows)} places could be coded; {failed[0].key}: {failed[0].reason}"
            if failed
            else "there are no places to write; give at least one",
            left_out=[each.key for each in failed],
        )
    return finish(
        folder,
        ShardManifest(
            name=name,
            format=SERIES_FORMAT,
            codec=CODEC,
            recipe_sha256=recipe_sha256,
            key_rule="place_id + '/' + group; place_id + '_reference_map', in UTF-8",
            patch_side_m=PATCH_SIDE_M,
            grid="MGRS tile, patches of 1200 m from its upper-left corner, UTM",
            bands=list(bands),
            statistics_over=statistics_over(rows),
            labels=list(labels),
            unlabeled_codes=list(unlabeled_codes),
            counts={},
            split=split,
            keys=key_count,
            left_out=[*left_out, *failed],
            files=[],
        ),
        kept,
        source.with_shares(frames),
        totals,
        data,
    )


def finish(
    folder: Path, manifest: ShardManifest, rows: pd.DataFrame, frames: pd.DataFrame, totals: Mapping[str, GroupTotals], data: Path
) -> ShardManifest:
    """Write index, frames and manifest of a shard whose values are written; counts, statistics and files are filled in."""
    write_rows(folder / INDEX_FILE, rows.sort_values("place_id", key=lambda ids: ids.map(str.encode)), CubeRow)
    own = frames[frames["place_id"].isin(set(rows["place_id"]))]
    write_rows(folder / FRAMES_FILE, own.sort_values(["place_id", "sensor", "frame"]), CubeFrame)
    statistics = {
        (each.group.sensor, accumulator.band.name): accumulator.result() for each in totals.values() for accumulator in each.accumulators
    }
    splits = rows["split"].dropna()
    done = manifest.model_copy(
        update={
            "bands": [band.model_copy(update={"statistics": statistics.get((band.sensor, band.name))}) for band in manifest.bands],
            "counts": {split: int((splits == split).sum()) for split in (*SPLITS, *sorted(set(splits) - set(SPLITS)))},
            "video": [each.result() for each in totals.values()],
            "files": [artifact(folder, path.relative_to(folder).as_posix()) for path in (data, folder / INDEX_FILE, folder / FRAMES_FILE)],
        }
    )
    write_manifest(folder / MANIFEST_FILE, done)
    return done


def cube_key(place_id: str, group: str) -> str:
    return f"{place_id}/{group}"


def statistics_over(rows: pd.DataFrame) -> Any:
    return "train split" if rows["split"].notna().any() else "all patches"


def counted(rows: pd.DataFrame) -> set[str]:
    """Places whose pixels go into the statistics."""
    return set(rows["place_id"] if statistics_over(rows) == "all patches" else rows["place_id"][rows["split"] == "train"])


class _Source:
    """Cubes as they are coded, each held against rows, frames and bands first."""

    def __init__(
        self, cubes: Iterable[Cube], rows: pd.DataFrame, frames: pd.DataFrame, bands: Sequence[BandInfo], totals: Mapping[str, GroupTotals]
    ) -> None:
        """Raises: ShardError if rows and frames contradict each other."""
        if unknown := sorted({group.group.sensor for group in totals.values()} - {"s1", "s2"}):
            raise ShardError(f"time series are of s2 and s1; these bands are of {', '.join(unknown)}", sensors=unknown)
        if rows["place_id"].duplicated().any():
            twice = rows["place_id"][rows["place_id"].duplicated()].iloc[0]
            raise ShardError(f"{twice} has two rows; give one per place", place_id=twice)
        self._cubes, self._totals = cubes, totals
        self._rows = {row["place_id"]: row for row in rows.to_dict("records")}
        self._counted = counted(rows)
        self._map = next((band for band in bands if band.sensor == REFERENCE_MAP.name), None)
        self._last = ""
        self._seen = 0
        self._waiting: dict[str, int] = {}  # groups of a place that are not coded yet
        self.reference_maps: dict[str, bytes] = {}
        self._invalid: dict[tuple[str, str], np.ndarray] = {}  # place and sensor to the share of each frame
        _check_frames(self._rows, frames)

    def coded(self, workers: int) -> Iterator[tuple[str, dict[str, Coded | ShardError]]]:
        """Places in order, each with all its groups."""
        found: dict[str, Coded | ShardError] = {}
        results = run_isolated(code_group, self._jobs(), workers=workers, ordered=True) if workers else self._here()
        for (place_id, group), result in results:
            found[group] = result
            if len(found) == self._waiting[place_id]:
                del self._waiting[place_id]
                yield place_id, found
                found = {}

    def with_shares(self, frames: pd.DataFrame) -> pd.DataFrame:
        """The table of frames with no share of no-data left open."""
        shares = frames["nodata_fraction"].astype(float).to_numpy().copy()
        places = zip(frames["place_id"], frames["sensor"], frames["frame"], strict=True)
        for at, (place_id, sensor, frame) in enumerate(places):
            if np.isnan(shares[at]):
                shares[at] = self._invalid[place_id, sensor][frame]
        return frames.assign(nodata_fraction=shares)

    def check_complete(self) -> None:
        """Raises: ShardError if rows speak of places that no cube came for."""
        if self._seen != len(self._rows):
            raise ShardError(f"{len(self._rows)} rows speak of places and {self._seen} cubes came; give one for each", cubes=self._seen)

    def _here(self) -> Iterator[tuple[tuple[str, str], Coded | ShardError]]:
        for key, arguments in self._jobs():
            try:
                yield key, code_group(*arguments)
            except ShardError as error:
                yield key, error

    def _jobs(self) -> Iterator[tuple[tuple[str, str], tuple[Any, ...]]]:
        for cube in self._cubes:
            names = self._check(cube)
            self._waiting[cube.place_id] = len(names)
            if cube.reference_map is not None and self._map is not None:
                self.reference_maps[cube.place_id] = encode_map({self._map.name: cube.reference_map})
            for name in names:
                total = self._totals[name]
                wanted = [accumulator.band for accumulator in total.accumulators] if cube.place_id in self._counted else []
                bands = [band.name for band in total.group.bands]
                yield (cube.place_id, name), (cube.groups[name], cube.valid[name], total.settings, bands, wanted)

    def _check(self, cube: Cube) -> list[str]:
        """The groups that a place has. Raises: ShardError if it is not as its row and the bands say."""
        place_id, row = cube.place_id, self._rows.get(cube.place_id)
        if row is None or place_id.encode() <= self._last.encode():
            what = "has no row" if row is None else f"comes after {self._last}"
            raise ShardError(f"the cube {place_id} {what}; give cubes in the order of their place ids, with a row for each", key=place_id)
        self._last, self._seen = place_id, self._seen + 1
        names = [name for name, total in self._totals.items() if row[f"{total.group.sensor}_frames"]]
        if set(cube.groups) != set(names) or set(cube.valid) != set(names):
            raise ShardError(
                f"{place_id} has {', '.join(cube.groups) or 'no groups'}, with validity for {', '.join(cube.valid) or 'none'}; its row "
                f"asks for {', '.join(names) or 'none'}",
                key=place_id,
            )
        for name in names:
            group, pixels, valid = self._totals[name].group, cube.groups[name], cube.valid[name]
            shape = (int(row[f"{group.sensor}_frames"]), *group.chunk_shape)
            if pixels.shape != shape or pixels.dtype != group.dtype or valid.shape != (shape[0], *shape[2:]) or valid.dtype != bool:
                raise ShardError(
                    f"{cube_key(place_id, name)} is {pixels.dtype} {pixels.shape} with validity {valid.dtype} {valid.shape}; expected "
                    f"{group.dtype} {shape} with bool {(shape[0], *shape[2:])}",
                    key=place_id,
                )
            share = 1 - valid.mean(axis=(1, 2))
            known = self._invalid.get((place_id, group.sensor))
            self._invalid[place_id, group.sensor] = share if known is None else np.maximum(known, share)
        stated, found = row["reference_map_key"], cube.reference_map
        if (found is not None) != isinstance(stated, str) or (isinstance(stated, str) and stated != reference_map_id(place_id)):
            raise ShardError(
                f"the row of {place_id} speaks of the reference map {stated}; its cube has {'one' if found is not None else 'none'}"
            )
        if found is not None and (self._map is None or found.shape != tuple(self._map.shape) or found.dtype != np.dtype(self._map.dtype)):
            raise ShardError(f"the reference map of {place_id} is {found.dtype} {found.shape}, not as the bands say", key=place_id)
        return names


def _check_frames(rows: Mapping[str, Mapping[Any, Any]], frames: pd.DataFrame) -> None:
    """Raises: ShardError if a place has other frames than its row says, or they are not numbered in the order of time."""
    found: dict[tuple[str, str], int] = {}
    for (place_id, sensor), own in frames.groupby(["place_id", "sensor"]):
        ordered = own.sort_values("frame")
        if list(ordered["frame"]) != list(range(len(own))) or not ordered["time"].is_monotonic_increasing:
            raise ShardError(f"the frames of {sensor} at {place_id} are not numbered from 0 in the order of time", key=place_id)
        found[str(place_id), str(sensor)] = len(own)
    stated = {(place_id, sensor): int(row[f"{sensor}_frames"]) for place_id, row in rows.items() for sensor in ("s2", "s1")}
    stated = {key: count for key, count in stated.items() if count}
    if differing := sorted(key for key in stated.keys() | found.keys() if stated.get(key) != found.get(key)):
        place_id, sensor = differing[0]
        raise ShardError(
            f"{place_id} has {found.get(differing[0], 0)} frames of {sensor} in the table of frames and {stated.get(differing[0], 0)} in "
            "its row; make both from the same dates",
            key=place_id,
        )
