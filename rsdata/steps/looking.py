"""What a product, a shard or a dataset is, for somebody who looks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rsdata import scenes, shards
from rsdata.errors import SceneError
from rsdata.records import (
    Sentinel1Scene,
    Sentinel2Scene,
    ShardManifest,
)
from rsdata.workspace import (
    Workspace,
)


def open_workspace(root: Path) -> Workspace:
    """A dataset that was built before, by its folder."""
    return Workspace(root.resolve())


def verify_shard(path: Path, advance: Callable[[int], None] = lambda n: None) -> tuple[ShardManifest, list[str]]:
    """A shard's manifest, and one sentence for each way the shard differs from it."""
    with shards.open_any(path) as shard:
        manifest = shard.manifest
    return manifest, shards.verify_shard(path, advance)


def shard_info(path: Path) -> ShardManifest:
    with shards.open_any(path) as shard:
        return shard.manifest


def inspect_scene(path: Path, tile: str | None = None) -> tuple[Any, str | None]:
    """What a product says of itself, and why it could not become part of a dataset, if so.

    ``tile`` picks one where a Sentinel-2 product from before December 2016 holds several.
    """
    if scenes.is_sentinel1(path):
        return scenes.describe_sentinel1(path)
    if path.suffix.lower() == ".json":
        return scenes.open_stac_item(path).scene, f"{path} is a STAC item; a dataset is built from SAFE products"
    product = scenes.open_sentinel2(path, tile)
    try:
        scenes.check_complete(product)
    except SceneError as error:
        return product.scene, str(error)
    return product.scene, scenes.quality_problem(product.scene)


def summarize_scene(scene: Any, problem: str | None) -> list[tuple[str, str]]:
    """What matters of a scene as lines of name and text."""
    if isinstance(scene, Sentinel2Scene):
        return scenes.summarize(scene, problem)
    if isinstance(scene, Sentinel1Scene):
        return scenes.summarize_sentinel1(scene, problem)
    stated = ((name, ", ".join(value) if isinstance(value, dict) else value) for name, value in scene.model_dump(mode="json").items())
    return [(name, "not stated" if value is None else str(value)) for name, value in stated]
