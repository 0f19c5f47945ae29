"""The report's facts on how a dataset was made and how it lies on disk: shards, times, and the chain from inputs to outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsdata.records import Manifest

MOST_ROWS = 200  # of inputs or files; the rest is summed up


@dataclass(frozen=True)
class ShardFacts:
    """One shard as it lies on disk."""

    name: str
    format: str
    codec: str
    patches: int
    keys: int
    bytes: int  # of all its files
    raw_bytes: int  # of its arrays as they are read, before any compression; 0 if not known
    read_patches: int = 0  # read to measure the speed; 0 if it was not measured
    read_bytes: int = 0  # of their arrays
    read_seconds: float = 0.0
    sensors: tuple[str, ...] = ()  # whose pixels it holds; none if not known


@dataclass(frozen=True)
class StageTime:
    """How long a stage of the build took."""

    stage: str
    units: int  # of work, such as scenes
    seconds: float  # summed over its units, which may have run side by side


def shard_rows(shards: Sequence[ShardFacts]) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "format": each.format,
            "codec": each.codec,
            "patches": each.patches,
            "keys": each.keys,
            "bytes": each.bytes,
            "per_patch": each.bytes / each.patches if each.patches else None,
            "ratio": each.raw_bytes / each.bytes if each.raw_bytes and each.bytes else None,
            "patches_per_s": each.read_patches / each.read_seconds if each.read_seconds else None,
            "bytes_per_s": each.read_bytes / each.read_seconds if each.read_seconds else None,
        }
        for each in shards
    ]


def provenance(manifest: Manifest | None, more: Mapping[str, str]) -> dict[str, Any]:
    """What a dataset was made from and with.

    Args:
        manifest: of the dataset; none where there is no build.
        more: further facts, as name and value.
    """
    if manifest is None:
        return {"facts": dict(more), "inputs": [], "inputs_left_out": 0, "outputs": [], "outputs_left_out": 0}
    facts = {
        "Recipe": f"{manifest.name}, SHA-256 {manifest.recipe_sha256}",
        "Made with": ", ".join(f"{name} {version}" for name, version in ({"rsdata": manifest.rsdata_version} | manifest.software).items()),
    }
    if manifest.split is not None:
        options = ", ".join(f"{name} {value}" for name, value in manifest.split.options.items())
        facts["Split"] = f"{manifest.split.strategy}, seed {manifest.split.seed}" + (f" ({options})" if options else "")
    return {
        "facts": {**facts, **more},
        "inputs": manifest.inputs[:MOST_ROWS],
        "inputs_left_out": max(0, len(manifest.inputs) - MOST_ROWS),
        "outputs": manifest.outputs[:MOST_ROWS],
        "outputs_left_out": max(0, len(manifest.outputs) - MOST_ROWS),
    }
