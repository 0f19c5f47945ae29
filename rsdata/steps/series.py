"""Time series: all dates of one place as one cube, coded block by block, and the shard they make.

Which frames there are is settled first (``places``), so the pixels are read twice and memory holds one place at a time.
Places are coded in blocks with a receipt each, as coding takes longest; then the blocks become one shard.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsdata import catalog, series, shards
from rsdata.errors import RecipeError, SceneError, ShardError
from rsdata.recipe import Recipe, Series
from rsdata.records import CubeFrame, CubeRow, PatchId, ShardManifest, place_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2, Sensor
from rsdata.shards.manifest import INDEX_FILE, MANIFEST_FILE, SERIES_FORMAT, write_manifest
from rsdata.shards.video import VideoSettings
from rsdata.shards.video.cubes import FRAMES_FILE
from rsdata.steps.frames import common_offsets
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.places import TilePlaces, series_part
from rsdata.steps.receipts import Outcome, once, outputs_digest, read_pair, read_receipt
from rsdata.workspace import Workspace, combined_sha256
from rsdata.writing import writing_folder

BLOCK_PLACES = 128  # coded at a time, at most: some minutes of work


def make_series(
    units: Sequence[str], recipe: Recipe, workspace: Workspace, workers: int = 1, advance: Callable[[int], None] = lambda n: None
) -> Outcome:
    """Make the shard of time series that a recipe asks for; the time of the outcome is that of all its parts.

    Args:
        workers: processes that code; 0 codes in this one.
        advance: called with the number of places just coded.

    Raises: RecipeError if it asks for none, or not one place has a series; ShardError if none of a block can be coded.
    """
    start = time.monotonic()
    part, offsets = series_part(recipe), common_offsets(units, workspace)
    of_tile: dict[str, list[str]] = {}
    for unit in sorted(units):
        of_tile.setdefault(PatchId.parse(f"{unit}_00_00").tile, []).append(unit)
    tiles = [TilePlaces(tile, mine, offsets, recipe, workspace) for tile, mine in sorted(of_tile.items())]
    reasons = Counter[str]()
    for tile in tiles:
        counts = tile.settle().receipt.counts
        reasons.update({name: counts[name] for name in series.LEFT_OUT_REASONS if name in counts})
    blocks = [block for tile in tiles for block in _code_blocks(tile, workers, advance)]
    if not blocks:
        said = ", ".join(f"{count} for {reason}" for reason, count in reasons.items())
        raise RecipeError(f"not one of {sum(reasons.values())} places has a time series: {said}; loosen `series`, or name more scenes")
    folder = workspace.shards(SERIES_FORMAT)

    def work() -> tuple[list[Path], dict[str, int]]:
        with writing_folder(folder) as aside:
            merged = shards.repack_cubes([_block_path(block, workspace) for block in blocks], aside, name=f"{recipe.name}-series")
            digest = combined_sha256({"dataset": recipe.dataset_digest(), "series": part.digest()})
            write_manifest(aside / MANIFEST_FILE, merged.model_copy(update={"recipe_sha256": digest}))
            files = [path.relative_to(aside) for path in sorted(aside.rglob("*")) if path.is_file()]
        return [folder / path for path in files], {"places": sum(merged.counts.values()), "not_coded": len(merged.left_out), **reasons}

    key = {f"block {block}": outputs_digest("series", block, workspace) for block in blocks}
    outcome = once("series", SERIES_FORMAT, workspace, key | {"dataset": recipe.dataset_digest(), "recipe": part.digest()}, work)
    return replace(outcome, receipt=outcome.receipt.model_copy(update={"seconds": round(time.monotonic() - start, 3)}))


def _code_blocks(tile: TilePlaces, workers: int, advance: Callable[[int], None]) -> list[str]:
    """Code a tile's places, in blocks of nearly the same size; the names of the blocks."""
    rows, frames = catalog.read_table(tile.rows_path, CubeRow), catalog.read_table(tile.frames_path, CubeFrame)
    blocks = np.array_split(rows["place_id"].to_numpy(object), -(-len(rows) // BLOCK_PLACES)) if len(rows) else []
    names = [f"{tile.tile}-{number:03d}" for number in range(len(blocks))]
    for name, wanted in zip(names, blocks, strict=True):
        _code_block(name, rows[rows["place_id"].isin(wanted)], frames[frames["place_id"].isin(wanted)], tile, workers, advance)
    return names


def _code_block(
    name: str, rows: pd.DataFrame, frames: pd.DataFrame, tile: TilePlaces, workers: int, advance: Callable[[int], None]
) -> Outcome:
    """Code some places of a tile into a shard of their own."""
    recipe, workspace = tile.recipe, tile.workspace
    part, nomenclature, folder = series_part(recipe), nomenclature_of(recipe), _block_path(name, workspace)

    def work() -> tuple[list[Path], dict[str, int]]:
        with writing_folder(folder) as aside:
            manifest: ShardManifest = shards.write_cubes(
                aside,
                tile.cubes(rows["place_id"]),
                name=name,
                rows=rows,
                frames=frames,
                settings=video_settings_of(part),
                bands=shards.band_infos(
                    _sensors(part), {band: [value] for band, value in tile.offsets.items()}, _quantification(tile.units, workspace)
                ),
                labels=nomenclature.classes,
                unlabeled_codes=nomenclature.unlabeled_codes,
                recipe_sha256=part.digest(),
                split=catalog.read_split_info(workspace.patches),
                workers=workers,
                advance=advance,
            )
            files = [path.relative_to(aside) for path in sorted(aside.rglob("*")) if path.is_file()]
        return [folder / path for path in files], {"places": len(rows) - len(manifest.left_out), "not_coded": len(manifest.left_out)}

    key = tile.pixels_key() | {
        "frames": outputs_digest("series", tile.tile, workspace),
        "splits": outputs_digest("splits", "all", workspace),
        "places": combined_sha256({"of": " ".join(rows["place_id"])}),
        "labels": nomenclature.digest,
        "recipe": part.digest(),
    }
    return once("series", name, workspace, key, work)


def video_settings_of(part: Series) -> dict[str, VideoSettings]:
    """How each group of bands is coded.

    Raises: RecipeError if the recipe says something a video shard cannot do.
    """
    said: dict[str, dict[str, Any]] = {sensor: getattr(part.video, sensor).model_dump() for sensor in part.sensors}
    try:
        return shards.usual_settings(shards.band_infos(_sensors(part), {}, 1.0), said)
    except ShardError as error:
        raise RecipeError(f"`series.video`: {error}", **error.context) from error


def check_series(table: pd.DataFrame, workspace: Workspace) -> list[str]:
    """One sentence for each way in which the series differ from the patch table: places, splits, and what frames are made from."""
    folder = workspace.shards(SERIES_FORMAT)
    rows, frames = catalog.read_table(folder / INDEX_FILE, CubeRow), catalog.read_table(folder / FRAMES_FILE, CubeFrame)
    places = [place_id(*place) for place in table[["tile_id", "col", "row"]].itertuples(index=False, name=None)]
    known: dict[str, set[str]] = {}
    named: dict[str, set[str]] = {}
    for place, split, *products in zip(places, table["split"], table["s2_product"], table["s1_product"], strict=True):
        known.setdefault(place, set()).update(product for product in products if isinstance(product, str))
        named.setdefault(place, set()).update([split] if isinstance(split, str) else [])
    findings = [
        f"the series of {place} is in the split {split}, and its patches are in {', '.join(sorted(named.get(place, ()))) or 'none'}"
        for place, split in zip(rows["place_id"], rows["split"], strict=True)
        if named.get(place) != {split}
    ]
    findings += [
        f"a frame of {place} is made from {', '.join(sorted(unknown))}, of which there is no patch there"
        for place, products in zip(frames["place_id"], frames["products"], strict=True)
        if (unknown := set(products) - known.get(place, set()))
    ]
    return findings


def left_out_places(workspace: Workspace) -> dict[str, int]:
    """Places without a series, by reason."""
    counts = read_receipt("series", SERIES_FORMAT, workspace).counts
    return {name: count for name, count in counts.items() if name != "places"}


def _block_path(name: str, workspace: Workspace) -> Path:
    return workspace.part("series", name, "")


def _sensors(part: Series) -> list[Sensor]:
    return [*(sensor for sensor in (SENTINEL2, SENTINEL1) if sensor.name in part.sensors), REFERENCE_MAP]


def _quantification(units: Sequence[str], workspace: Workspace) -> float:
    """Raises: SceneError if the scenes state several."""
    found = {read_pair(unit, workspace).s2.quantification for unit in units}
    if len(found) != 1:
        raise SceneError(f"the scenes have different quantification values {sorted(found)}; build them as separate datasets")
    return found.pop()
