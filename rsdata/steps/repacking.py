"""Shards made of other shards: in another format, merged, or only some of their patches."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from rsdata import shards
from rsdata.errors import ShardError
from rsdata.records import ShardManifest
from rsdata.shards.manifest import SERIES_FORMAT
from rsdata.writing import writing_folder


def repack_shards(
    paths: Sequence[Path],
    target: Path,
    *,
    format: str | None = None,
    compression: str | None = None,
    name: str | None = None,
    keep: Collection[str] | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> ShardManifest:
    """Write one shard from one or several; the target appears once it is whole.

    Args:
        format: ``lmdb`` or ``zarr``; that of the first shard if absent. Time series stay time series.
        compression: ``none``, ``zstd`` or ``blosc``; that of the first shard if absent.
        keep: ids of the patches to take; all if absent.

    Raises: ShardError if the target exists, or as ``shards.repack``.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ShardError(f"{target} holds something already; name a folder that does not exist yet", path=str(target))
    if shard_format(paths[0]) == SERIES_FORMAT:
        if format not in (None, SERIES_FORMAT) or compression not in (None, "none"):
            raise ShardError(
                f"{paths[0]} holds time series, which have neither another format nor another compression; leave both out",
                path=str(paths[0]),
            )
        with writing_folder(target) as aside:
            return shards.repack_cubes(paths, aside, name=name, keep=keep, advance=advance)
    chosen = shards.compression_of_shard(paths[0]) if compression is None else shards.compression_of(compression)
    with writing_folder(target) as aside:
        return shards.repack(
            paths, aside, format=format or shard_format(paths[0]), compression=chosen, name=name, keep=keep, advance=advance
        )


def choose_patches(path: Path, splits: Collection[str] = (), ids: Path | None = None) -> list[str]:
    """Ids of a shard's patches, or of the places of time series, that lie in some splits, are listed in a text file line by line, or both.

    Raises: ShardError if the list cannot be read, or a split does not occur.
    """
    with shards.open_any(path) as shard:
        index = shard.index.rename(columns={"place_id": "patch_id"})
    if absent := sorted(set(splits) - set(index["split"].dropna())):
        known = ", ".join(sorted(set(index["split"].dropna()))) or "none"
        raise ShardError(f"{path} has no patches of {', '.join(absent)}; its splits are {known}", splits=absent)
    if splits:
        index = index[index["split"].isin(list(splits))]
    if ids is None:
        return list(index["patch_id"])
    try:
        listed = ids.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ShardError(
            f"{ids} cannot be read as a list of patch ids ({error}); give a text file with one id per line", path=str(ids)
        ) from error
    chosen = set(index["patch_id"])
    return [patch_id for patch_id in listed if patch_id in chosen or not splits]


def shard_format(path: Path) -> str:
    return shards.read_manifest(path).format
