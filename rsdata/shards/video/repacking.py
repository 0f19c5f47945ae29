"""Shards of time series made of others: merged, or only some of their places. Blobs go over as they are, never coded again."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from rsdata.errors import ShardError
from rsdata.records import ShardManifest
from rsdata.shards.lmdb import write_lmdb
from rsdata.shards.packing import check_alike, digest_of, with_offsets
from rsdata.shards.video.cubes import counted, cube_key, finish, statistics_over
from rsdata.shards.video.groups import GroupTotals, look, stated_settings
from rsdata.shards.video.shard import CubeShard


def repack_cubes(
    shards: Sequence[Path],
    folder: Path,
    *,
    name: str | None = None,
    keep: Collection[str] | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> ShardManifest:
    """Write several shards of time series as one, or only some of their places; each blob is decoded for the statistics.

    Args:
        shards: alike in bands, labels and settings of their codecs; no place in two of them.
        folder: where to write; must not hold a shard yet.
        keep: ids of the places to take; all if absent.

    Raises: ShardError if the shards do not go together, a place is in two, no place is left, or one to keep is in none.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(CubeShard(path)) for path in shards]
        first = opened[0]
        for other in opened[1:]:
            check_alike(first, other)
            if [group.settings for group in first.manifest.video] != [group.settings for group in other.manifest.video]:
                raise ShardError(f"{first.path} and {other.path} cannot be merged: they were coded with different settings")
        index = pd.concat([shard.index for shard in opened], ignore_index=True)
        if index["place_id"].duplicated().any():
            twice = index["place_id"][index["place_id"].duplicated()].iloc[0]
            raise ShardError(f"{twice} lies in two of the shards, and series are not joined; make them anew as one", key=twice)
        if keep is not None:
            if absent := sorted(set(keep) - set(index["place_id"])):
                raise ShardError(
                    f"{len(absent)} of the places to keep are in no shard, {absent[0]} first; look at the list", keys=absent[:10]
                )
            index = index[index["place_id"].isin(set(keep))].reset_index(drop=True)
        if index.empty:
            raise ShardError(f"no place is left of {', '.join(path.name for path in shards)}; keep at least one")
        settings = {group.name: stated_settings(group) for group in first.manifest.video}
        totals = {name: GroupTotals(group, settings[name]) for name, group in first.groups.items()}
        where = {place_id: shard for shard in opened for place_id in shard.index["place_id"]}
        measured_places = counted(index)
        keys = 0

        def items() -> Iterator[tuple[str, bytes]]:
            nonlocal keys
            for row in sorted(index.to_dict("records"), key=lambda row: row["place_id"].encode()):
                place_id = row["place_id"]
                values = {}
                for total in totals.values():
                    if not row[f"{total.group.sensor}_frames"]:
                        continue
                    key = cube_key(place_id, total.group.name)
                    values[key] = where[place_id].read_bytes(key)
                    wanted = total.accumulators if place_id in measured_places else []
                    total.add(look(values[key], [accumulator.band for accumulator in wanted]))
                if isinstance(row["reference_map_key"], str):
                    values[row["reference_map_key"]] = where[place_id].read_bytes(row["reference_map_key"])
                keys += len(values)
                yield from sorted(values.items(), key=lambda item: item[0].encode())
                advance(1)

        data = write_lmdb(folder, items())
        whole = len(opened) == 1 and keep is None
        manifest = first.manifest.model_copy(
            update={
                "name": name or first.manifest.name,
                "recipe_sha256": first.manifest.recipe_sha256 if whole else digest_of(opened, keep),
                "split": first.manifest.split if all(each.manifest.split == first.manifest.split for each in opened) else None,
                "bands": with_offsets(opened),
                "statistics_over": statistics_over(index),
                "left_out": [item for each in opened for item in each.manifest.left_out],
                "keys": keys,
            }
        )
        return finish(folder, manifest, index, pd.concat([shard.frames for shard in opened], ignore_index=True), totals, data)
