"""Products opened and paired: the units of work a recipe asks for, and how many fit into memory."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from rsdata import scenes, splits
from rsdata.errors import RsdataError, SceneError
from rsdata.recipe import Recipe, Scenes
from rsdata.records import (
    Failure,
    ScenePair,
    Sentinel1Match,
)
from rsdata.scenes import remote
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.steps.captioning import check_climate
from rsdata.steps.correction import corrected_product
from rsdata.steps.heights import fetch_heights, names_remote_heights, with_heights
from rsdata.steps.inputs import locate_inputs
from rsdata.steps.receipts import failure
from rsdata.steps.scene import s1_processing
from rsdata.steps.series import video_settings_of
from rsdata.workspace import (
    Workspace,
    combined_sha256,
)

_PROCESS_BYTES = 480 * 2**20  # of a worker without the rasters of a scene, libraries and their caches
_TERRAIN_BYTES = 2**30  # strips of an image and cells of terrain while Sentinel-1 GRD is corrected


@dataclass(frozen=True)
class Found:
    """The units of work a recipe asks for, and the products that cannot be one."""

    pairs: list[ScenePair]
    failures: list[Failure] = field(default_factory=list)


def find_scenes(recipe: Recipe, workspace: Workspace) -> Found:
    """Open every product's metadata and pair the two sensors; what cannot be opened is a failure, not the end.

    Raises: SceneError if not one usable Sentinel-2 product is left and none failed; SplitError if the recipe's split cannot be;
        CaptionError if its climate zones cannot be read.
    """
    splits.strategy_of(recipe.split)  # a wrong option is told before hours of work, not after
    if recipe.series is not None:
        video_settings_of(recipe.series)
    check_climate(recipe, workspace)
    inputs = locate_inputs(recipe, workspace)
    limits = recipe.scenes or Scenes.model_construct(sentinel2=[])  # of synthetic scenes, what a recipe that says nothing more asks for
    within = limits.max_s1_gap_h, limits.prefer_s1_orbit
    failures: list[Failure] = list(inputs.failures)

    def opened(paths: Iterable[Path], open_product: Callable[[Path], Any]) -> dict[str, Any]:
        products: dict[str, Any] = {}
        for path in paths:
            try:
                product = open_product(path)
            except RsdataError as error:
                set_down = failure("scenes", path.name, error)
                if url := inputs.urls.get(str(path)):
                    set_down = set_down.model_copy(update={"message": f"{set_down.message} (it is the copy of {url})"})
                failures.append(set_down)
                continue
            if product.scene.product in products:
                known = products[product.scene.product].files.path
                duplicate = SceneError(f"{path} is the same product as {known}; name each product once")
                failures.append(failure("scenes", path.name, duplicate))
                continue
            products[product.scene.product] = product
        return products

    s1 = opened(scenes.expand(inputs.sentinel1), lambda path: scenes.open_sentinel1(path, s1_processing(recipe)))
    s2 = opened(scenes.expand(inputs.sentinel2), lambda path: corrected_product(scenes.open_sentinel2(path), recipe, workspace))
    pairs = []
    units: set[str] = set()
    for _, product in sorted(s2.items()):
        if product.scene.scene_id in units:
            twin = SceneError(f"{product.files.path} is another processing of {product.scene.scene_id}; keep one of the two")
            failures.append(failure("scenes", product.scene.product, twin))
            continue
        units.add(product.scene.scene_id)
        candidates = [each.scene for each in s1.values()]
        matches = scenes.matches_in_time(product.scene, candidates, *within, limits.resample_sentinel1)
        if not matches and (elsewhere := scenes.matches_in_time(product.scene, candidates, *within, resample=True)):
            other = elsewhere[0][0]
            refused = SceneError(
                f"{product.scene.product} has no Sentinel-1 but {other.product}, which lies on another grid ({other.grid}); "
                f"terrain correct it onto the tile's grid in EPSG:{product.scene.epsg}, or say `resample_sentinel1: true` in the recipe"
            )
            failures.append(failure("scenes", product.scene.product, refused))
        signatures = {match.product: s1[match.product].files.signature() for match, _ in matches}
        pairs.append(
            ScenePair(
                s2_path=str(product.files.path),
                s2=product.scene,
                s1=[Sentinel1Match(path=str(s1[match.product].files.path), scene=match, time_gap_h=gap_h) for match, gap_h in matches],
                signature=combined_sha256({product.scene.product: product.files.signature(), **signatures}),
            )
        )
    return Found(_with_heights(pairs, failures, recipe, workspace), failures)


def _with_heights(pairs: list[ScenePair], failures: list[Failure], recipe: Recipe, workspace: Workspace) -> list[ScenePair]:
    """The pairs under which there are heights, where they need any; the others join the failures."""
    complete = []
    with remote.Session() if names_remote_heights(recipe) else nullcontext() as session:
        for pair in pairs:
            try:
                if session is not None:
                    fetch_heights([pair], recipe, workspace, session)
                with_heights(s1_processing(recipe), pair, recipe, workspace)
            except RsdataError as error:
                failures.append(failure("scenes", pair.s2.product, error))
            else:
                complete.append(pair)
    return complete


def scenes_at_once(pairs: Sequence[ScenePair], workers: int) -> int:
    """How many scenes may be worked on at a time, by cores asked for, scenes there are, and memory that is free."""
    return max(1, min(workers, len(pairs), psutil.virtual_memory().available // largest_scene_bytes(pairs)))


def largest_scene_bytes(pairs: Sequence[ScenePair]) -> int:
    """Memory that one scene takes at most."""
    return max((_scene_bytes(pair) for pair in pairs), default=1)


def _scene_bytes(pair: ScenePair) -> int:
    """Memory one scene takes while it is assessed: its decoded rasters, and half as much for decoders and copies."""
    sensors = [SENTINEL2, REFERENCE_MAP, *([SENTINEL1] if pair.s1 else [])]
    per_m2 = sum(np.dtype(band.dtype).itemsize / band.gsd_m**2 for sensor in sensors for band in sensor.bands)
    per_m2 += sum(1 / gsd_m**2 for gsd_m in scenes.LAYERS.values())
    correction = _TERRAIN_BYTES if any(match.scene.in_radar_geometry for match in pair.s1) else 0
    return int(pair.s2.width_m * pair.s2.height_m * per_m2 * 3 / 2) + _PROCESS_BYTES + correction
