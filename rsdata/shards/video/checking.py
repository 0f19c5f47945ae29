"""Whether a shard of time series is as its manifest, index and frames say."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rsdata.errors import ShardError
from rsdata.sensors import REFERENCE_MAP
from rsdata.shards.manifest import file_findings, read_manifest
from rsdata.shards.video.cubes import cube_key
from rsdata.shards.video.shard import CubeShard


def verify_cubes(path: Path, advance: Callable[[int], None] = lambda n: None) -> list[str]:
    """Compare a shard of time series with its manifest: files, digests, keys, counts, dates, every blob's header and packets.

    Every blob's frame index is read and every packet held against its checksum; no picture is decoded, as the writer
    decoded them all before they got here.

    Returns: one sentence per difference, none if all is as stated.
    Raises: ShardError if the manifest or a table cannot be read at all.
    """
    manifest = read_manifest(path)
    findings = file_findings(path, manifest)
    if any(not (path / file.path).is_file() for file in manifest.files):
        return findings
    try:
        opened = CubeShard(path)
    except ShardError as error:
        if findings:
            return [*findings, str(error)]
        raise
    with opened as shard:
        findings += _counts(shard)
        totals = {group.name: [0, 0, 0] for group in manifest.video}
        expected: set[str] = set()
        for row in shard.index.to_dict("records"):
            try:
                for key, finding in _place(shard, row, totals):
                    if key:
                        expected.add(key)
                    if finding:
                        findings.append(finding)
            except ShardError as error:
                findings.append(f"{row['place_id']}: {error}")
            advance(1)
        try:
            findings += [f"{key} stands in no row of the index" for key in sorted(set(shard.keys()) - expected)]
        except ShardError as error:
            findings.append(str(error))
        for group in manifest.video:
            stated = [group.cubes, group.frames, group.coded_bytes]
            if totals.get(group.name, stated) != stated:
                findings.append(
                    "{} has {} cubes, {} frames and {} bytes; the manifest says {}, {} and {}".format(
                        group.name, *totals[group.name], *stated
                    )
                )
    return findings


def _counts(shard: CubeShard) -> Iterator[str]:
    manifest = shard.manifest
    if len(shard) != manifest.keys:
        yield f"the database has {len(shard)} keys; the manifest says {manifest.keys}"
    counted = shard.index["split"].value_counts().to_dict()
    for split, stated in manifest.counts.items():
        if counted.get(split, 0) != stated:
            yield f"the index lists {counted.get(split, 0)} places of {split}; the manifest says {stated}"
    if set(shard.groups) != {group.name for group in manifest.video}:
        yield f"the bands make the groups {', '.join(shard.groups)}; the manifest speaks of others as video"
    if unknown := sorted(set(shard.frames["place_id"]) - set(shard.index["place_id"])):
        yield f"{unknown[0]} has frames and no row in the index"


def _place(shard: CubeShard, row: dict[Any, Any], totals: dict[str, list[int]]) -> Iterator[tuple[str | None, str | None]]:
    """Each key that a place should have, and what is wrong with it, if anything is."""
    place_id = row["place_id"]
    for sensor in dict.fromkeys(group.sensor for group in shard.groups.values()):
        times = shard.times(place_id, sensor)
        if len(times) != row[f"{sensor}_frames"]:
            yield None, f"{place_id} has {len(times)} dates of {sensor}; its row says {row[f'{sensor}_frames']}"
        elif (times[1:] < times[:-1]).any():
            yield None, f"the dates of {sensor} at {place_id} are not in order"
    for group in shard.groups.values():
        count = row[f"{group.sensor}_frames"]
        if not count:
            continue
        key, clip = cube_key(place_id, group.name), None
        try:
            clip = shard.clip(place_id, group.name)
            if group.name in totals:
                for at, amount in enumerate((1, clip.header.shape[0], clip.head.blob_size)):
                    totals[group.name][at] += amount
            clip.check()
        except ShardError as error:
            if clip is None:
                totals.pop(group.name, None)  # what cannot be read cannot be counted
            yield key, f"{key}: {error}"
            continue
        header, wanted = clip.header, (count, *group.chunk_shape)
        names = [band.name for band in group.bands]
        wrong = None
        if tuple(header.shape) != wanted or header.dtype != group.dtype.name or header.bands != names:
            held = f"{header.dtype} {header.shape} of {', '.join(header.bands)}"
            wrong = f"{key} holds {held}; expected {group.dtype} {wanted} of {', '.join(names)}"
        yield key, wrong
    if isinstance(row["reference_map_key"], str):
        key = row["reference_map_key"]
        stated = [(band.dtype, tuple(band.shape)) for band in shard.manifest.bands if band.sensor == REFERENCE_MAP.name]
        try:
            found = shard.reference_map(place_id)
        except ShardError as error:
            yield key, str(error)
            return
        there = [] if found is None else [(found.dtype.name, found.shape)]
        yield key, None if there == stated else f"{key} holds {there}, not the {stated} that the manifest states"
