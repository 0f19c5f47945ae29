"""Kept patches into shards: one for the whole dataset, or one for each scene."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from rsdata import catalog, shards
from rsdata.errors import RecipeError, SceneError
from rsdata.recipe import Recipe
from rsdata.records import PatchId, ScenePair, s1_patch_id, s1_scene_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2, Sensor
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.receipts import Outcome, once, outputs_digest, read_pair
from rsdata.workspace import Workspace, writing_folder


def pack_shards(units: Sequence[str], recipe: Recipe, workspace: Workspace, advance: Callable[[int], None] = lambda n: None) -> Outcome:
    """Merge the pixels of all scenes into one shard with its manifest and statistics, or make one of each scene."""
    folder = workspace.shards(recipe.shards.format)

    def work() -> tuple[list[Path], dict[str, int]]:
        table = catalog.read_patches(workspace.patches)
        table = table[table["kept"]].reset_index(drop=True)
        pairs = {unit: read_pair(unit, workspace) for unit in units}
        with writing_folder(folder) as aside:
            if not recipe.shards.per_scene:
                made = [_pack(aside, table, list(pairs.values()), recipe.name, recipe, workspace, advance)]
            else:
                scene = pd.Series([PatchId.parse(patch_id).scene for patch_id in table["patch_id"]], index=table.index, dtype=object)
                made = [
                    _pack(aside / unit, rows.reset_index(drop=True), [pairs[unit]], f"{recipe.name}-{unit}", recipe, workspace, advance)
                    for unit, rows in table.groupby(scene)
                ]
            files = [path.relative_to(aside) for path in sorted(aside.rglob("*")) if path.is_file()]
        counts = pd.DataFrame(made).sum().astype(int).to_dict()
        return [folder / path for path in files], {str(name): int(count) for name, count in counts.items()}

    key = {f"pixels {unit}": outputs_digest("quality", unit, workspace) for unit in units}
    key |= {"patches": outputs_digest("splits", "all", workspace), "labels": nomenclature_of(recipe).digest}
    key |= {"recipe": recipe.dataset_digest()}
    return once("shards", recipe.shards.format, workspace, key, work)


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
    quantifications = {pair.s2.quantification for pair in pairs}
    if len(quantifications) != 1:
        raise SceneError(f"the scenes have different quantification values {sorted(quantifications)}; build them as separate datasets")
    s1_keys = [
        s1_patch_id(s1_scene_id(product), PatchId.parse(patch_id)) if product is not None else None
        for patch_id, product in table[["patch_id", "s1_product"]].itertuples(index=False)
    ]
    sensors: list[Sensor] = [SENTINEL2, *([SENTINEL1] if any(s1_keys) else []), REFERENCE_MAP]
    nomenclature = nomenclature_of(recipe)
    folder.mkdir(exist_ok=True)
    manifest = shards.pack(
        folder,
        [workspace.part("quality", pair.unit, "") for pair in pairs],
        name=name,
        index=shards.index_rows(table, s1_keys),
        sensors=sensors,
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
