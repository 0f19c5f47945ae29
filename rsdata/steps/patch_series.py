"""Patches of a shard, sorted by place and date, into a shard of time series."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rsdata import shards
from rsdata.errors import ShardError
from rsdata.records import LeftOut, ShardManifest
from rsdata.shards.video.patches import series_of_patches
from rsdata.writing import writing_folder


def is_shard(path: Path) -> bool:
    """Whether a folder says that it is a shard."""
    return (path / shards.MANIFEST_FILE).is_file()


def compress_patches(
    source: Path,
    target: Path,
    per_sensor: Mapping[str, Mapping[str, Any]],
    *,
    name: str | None = None,
    min_frames: int = 1,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[ShardManifest, list[LeftOut]]:
    """Write the patches of a shard as time series, coded as video; the target appears once it is whole.

    Args:
        per_sensor: options of ``VideoSettings`` by sensor; see ``shards.usual_settings``.
        name: of the new shard; that of the source if absent.
        min_frames: a place with fewer dates is left out.
        workers: cubes coded at a time, each in a process of its own; one per core if absent, 0 for none but this.

    Returns: the manifest, and those of its ``left_out`` that could not be coded.
    Raises: ShardError if the target exists, the source is no shard of patches, or a setting is wrong.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ShardError(f"{target} holds something already; name a folder that does not exist yet", path=str(target))
    with shards.open_shard(source) as shard:
        series = series_of_patches(shard, min_frames)
        settings = shards.usual_settings(series.bands, per_sensor)
        with writing_folder(target) as aside:
            manifest = shards.write_cubes(
                aside,
                series.cubes(shard),
                name=name or shard.manifest.name,
                rows=series.rows,
                frames=series.frames,
                settings=settings,
                bands=series.bands,
                labels=shard.manifest.labels,
                unlabeled_codes=shard.manifest.unlabeled_codes,
                recipe_sha256=shard.manifest.recipe_sha256,
                split=shard.manifest.split,
                left_out=series.left_out,
                workers=(os.cpu_count() or 1) if workers is None else workers,
                advance=advance,
            )
    return manifest, manifest.left_out[len(series.left_out) :]
