"""The splits of the whole dataset, and of any other table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rsdata import catalog, patches, splits
from rsdata.errors import RecipeError
from rsdata.recipe import Recipe, SplitPart
from rsdata.records import (
    SplitInfo,
)
from rsdata.steps import measuring
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.receipts import Outcome, once, outputs_digest, read_rows
from rsdata.workspace import Workspace, file_sha256, write_record
from rsdata.writing import writing


def assign_splits(units: Sequence[str], recipe: Recipe, workspace: Workspace) -> Outcome:
    """Put the patch table together, divide the kept patches, and audit the division."""
    files: list[Path] = []

    def found(path: str) -> str:
        files.append(Path(recipe.absolute(path)))
        return str(files[-1])

    part = splits.with_paths(recipe.split, found)

    def work() -> tuple[list[Path], dict[str, int]]:
        table = pd.concat([_scene_table(unit, workspace) for unit in units]).sort_values("patch_id", ignore_index=True)
        table, measures = measuring.gather_measures(units, table, recipe.quality, workspace)
        kept = table[table["kept"]]
        if kept.empty:
            reasons = ", ".join(f"{count} for {reason}" for reason, count in table["drop_reason"].value_counts().items())
            raise RecipeError(f"not one of {len(table)} patches was kept: {reasons}; loosen the recipe or give it other scenes")
        divided = splits.divide(kept, part)
        if "train" not in set(divided.split):
            raise RecipeError(f"split strategy {part.strategy!r} leaves no patch to train on; name a `test_fold`, or other options")
        table["split"] = divided.split.reindex(table.index).astype(object).where(table["kept"], None)
        table.loc[table["kept"] & table["split"].isna(), ["kept", "drop_reason"]] = [False, divided.drop_reason]
        audit = splits.audit(table[table["kept"]], [each.name for each in nomenclature_of(recipe).classes])
        audit = audit.model_copy(update={"split": divided.info})
        with writing(workspace.patches) as aside:
            catalog.write_patches(aside, patches.with_footprints(table), divided.info)
        with writing(workspace.quality) as aside:
            measuring.write_measures(aside, measures)
        write_record(workspace.audit, audit)
        return [workspace.patches, workspace.quality, workspace.audit], {"patches": len(table), **audit.counts}

    key = {f"{stage} {unit}": outputs_digest(stage, unit, workspace) for unit in units for stage in ("patches", "labels", "quality")}
    key |= {f"split {path.name}": file_sha256(path) for path in files if path.is_file()}
    return once("splits", "all", workspace, {**key, "recipe": recipe.split.digest(), "duplicates": recipe.quality.duplicates}, work)


def assign_table(table_path: Path, part: SplitPart, out: Path) -> tuple[dict[str, int], SplitInfo]:
    """Divide any table that has patch ids and keep its other columns; the patches per split, and how it was done.

    In the table of a build, what the strategy drops is no longer kept, and what the build dropped gets no split.
    """
    table = catalog.read_patch_ids(table_path)
    kept = table["kept"].astype(bool) if "kept" in table else pd.Series(True, index=table.index)
    divided = splits.divide(table[kept], part)
    table["split"] = divided.split.reindex(table.index).astype(object).where(kept, None)
    dropped = kept & table["split"].isna()
    if {"kept", "drop_reason"} <= set(table.columns):
        table.loc[dropped, ["kept", "drop_reason"]] = [False, divided.drop_reason]
    with writing(out) as aside:
        catalog.write_patch_ids(aside, table, divided.info)
    counts = {str(name): int(count) for name, count in table["split"].value_counts().items()}
    return counts | ({"dropped": int(dropped.sum())} if dropped.any() else {}), divided.info


def _scene_table(unit: str, workspace: Workspace) -> pd.DataFrame:
    table = read_rows("patches", unit, workspace)
    for stage in ("labels", "quality"):
        table = table.merge(read_rows(stage, unit, workspace), on="patch_id", validate="one_to_one")
    return table
