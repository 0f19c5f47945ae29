"""Kept patches into shards: one for the whole dataset, or one for each scene."""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from rsdata import catalog, shards
from rsdata.errors import RecipeError, SceneError
from rsdata.recipe import Recipe
from rsdata.records import PatchId, ScenePair, s1_patch_id, s1_scene_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2, Sensor
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.receipts import Outcome, once, outputs_digest, read_pair
from rsdata.workspace import Workspace
from rsdata.writing import writing_folder


def pack_shards(units: Sequence[str], recipe: Recipe, workspace: Workspace, advance: Callable[[int], None] = lambda n: None) -> Outcome:
    """Merge the pixels of all scenes into one shard with its manifest and statistics, or make one of each scene.

    A merged shard appears whole or not at all, so a merge that is cut off is begun again; shards of scenes have a receipt each,
    and those that are finished are not made again.
    """
    folder = workspace.shards(recipe.shards.format)
    common = {
        "patches": outputs_digest("splits", "all", workspace),
        "labels": nomenclature_of(recipe).digest,
        "recipe": recipe.dataset_digest(),
    }

    def work() -> tuple[list[Path], dict[str, int]]:
        table = catalog.read_patches(workspace.patches)
        table = table[table["kept"]].reset_index(drop=True)
        pairs = {unit: read_pair(unit, workspace) for unit in units}
        if recipe.shards.per_scene:
            return _pack_scenes(folder, table, pairs, common, recipe, workspace, advance)
        with writing_folder(folder) as aside:
            counts = _pack(aside, table, list(pairs.values()), recipe.name, recipe, workspace, advance)
            files = [path.relative_to(aside) for path in _files(aside)]
            _forget_scenes(set(), recipe, workspace)
        return [folder / path for path in files], counts

    key = {f"pixels {unit}": outputs_digest("quality", unit, workspace) for unit in units}
    return once("shards", recipe.shards.format, workspace, key | common, work)


def _pack_scenes(
    folder: Path,
    table: pd.DataFrame,
    pairs: Mapping[str, ScenePair],
    common: Mapping[str, str],
    recipe: Recipe,
    workspace: Workspace,
    advance: Callable[[int], None],
) -> tuple[list[Path], dict[str, int]]:
    """Make one shard of each scene that has kept patches; what else lay there is removed."""
    scene = pd.Series([PatchId.parse(patch_id).scene for patch_id in table["patch_id"]], index=table.index, dtype=object)
    made: list[dict[str, int]] = []
    kept = {unit: rows.reset_index(drop=True) for unit, rows in table.groupby(scene)}
    _forget_scenes({str(unit) for unit in kept}, recipe, workspace)
    if folder.is_dir() and {path.name for path in folder.iterdir() if not path.name.startswith(".")} - set(kept):
        shutil.rmtree(folder)  # of another recipe: one shard of all scenes, or of scenes that are no more
    for unit, rows in kept.items():

        def work(unit: str = str(unit), rows: pd.DataFrame = rows) -> tuple[list[Path], dict[str, int]]:
            with writing_folder(folder / unit) as aside:
                counts = _pack(aside, rows, [pairs[unit]], f"{recipe.name}-{unit}", recipe, workspace, advance)
            return _files(folder / unit), counts

        key = {"pixels": outputs_digest("quality", str(unit), workspace), **common}
        made.append(once("shards", f"{recipe.shards.format}-{unit}", workspace, key, work).receipt.counts)
    counts = pd.DataFrame(made).fillna(0).sum().astype(int).to_dict()
    return _files(folder), {str(name): int(count) for name, count in counts.items()}


def _forget_scenes(kept: Collection[str], recipe: Recipe, workspace: Workspace) -> None:
    """Let nothing vouch for shards of scenes that are about to go: all in this format but those of ``kept``."""
    prefix = f"{recipe.shards.format}-"
    for name in workspace.receipted("shards"):
        if name.startswith(prefix) and name.removeprefix(prefix) not in kept:
            workspace.forget_receipt("shards", name)


def _files(folder: Path) -> list[Path]:
    """Files below a folder, without those that somebody writes aside."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def shard_of_scene(scene: str, recipe: Recipe, workspace: Workspace) -> Path:
    """The shard that holds the patches of a scene."""
    folder = workspace.shards(recipe.shards.format)
    return folder / scene if recipe.shards.per_scene else folder


def merged_shard(recipe: Recipe, workspace: Workspace) -> Path:
    """The one shard of a dataset.

    Raises: RecipeError if it has one per scene.
    """
    folder = workspace.shards(recipe.shards.format)
    if recipe.shards.per_scene:
        raise RecipeError(
            f"{recipe.name} has one shard per scene, and training reads one; merge them with "
            f"`rsdata shards merge {folder}/* --out FOLDER`, or leave `shards.per_scene` out",
            path=str(folder),
        )
    return folder


def _pack(
    folder: Path,
    table: pd.DataFrame,
    pairs: Sequence[ScenePair],
    name: str,
    recipe: Recipe,
    workspace: Workspace,
    advance: Callable[[int], None],
) -> dict[str, int]:
    """Write one shard; return how many keys it has, and patches per split."""
    packed: list[Sensor] = [sensor for sensor in (SENTINEL2, SENTINEL1) if sensor.name in recipe.shards.sensors]
    quantifications = {pair.s2.quantification for pair in pairs}
    if len(quantifications) != 1 and SENTINEL2 in packed:
        raise SceneError(f"the scenes have different quantification values {sorted(quantifications)}; build them as separate datasets")
    s1_keys = [
        s1_patch_id(s1_scene_id(product), PatchId.parse(patch_id)) if product is not None and SENTINEL1 in packed else None
        for patch_id, product in table[["patch_id", "s1_product"]].itertuples(index=False)
    ]
    held = [sensor for sensor in packed if sensor is not SENTINEL1 or any(s1_keys)]
    nomenclature = nomenclature_of(recipe)
    folder.mkdir(exist_ok=True)
    manifest = shards.pack(
        folder,
        [workspace.part("quality", pair.unit, "") for pair in pairs],
        name=name,
        index=shards.index_rows(table, s1_keys, packed[0]),
        sensors=[*held, REFERENCE_MAP],
        offsets={band: [pair.s2.offsets[band] for pair in pairs] for band in SENTINEL2.band_names},
        quantification=quantifications.pop(),
        labels=nomenclature.classes,
        unlabeled_codes=nomenclature.unlabeled_codes,
        recipe_sha256=recipe.dataset_digest(),
        split=catalog.read_split_info(workspace.patches),
        format=recipe.shards.format,
        compression=shards.compression_of(recipe.shards.compression),
        advance=advance,
    )
    return {"keys": manifest.keys, **manifest.counts}
