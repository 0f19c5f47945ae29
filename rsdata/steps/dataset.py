"""The stages of the whole dataset: splits and manifest; and checks of what they left."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import yaml

from rsdata import __version__, catalog, patches, shards, splits
from rsdata.errors import RecipeError
from rsdata.recipe import Recipe, SplitPart
from rsdata.records import (
    Coregistration,
    Coregistrations,
    Failure,
    InputDigest,
    Manifest,
    PatchFacts,
    PatchMeasures,
    SplitInfo,
    TextRow,
)
from rsdata.shards.manifest import SERIES_FORMAT
from rsdata.steps import measuring
from rsdata.steps.caption_portions import climate_files
from rsdata.steps.inputs import locate_inputs
from rsdata.steps.label_inputs import label_files, nomenclature_of, with_own_tables
from rsdata.steps.receipts import Outcome, once, outputs_digest, read_pair, read_receipt, read_rows, scene_digest
from rsdata.steps.series import check_series
from rsdata.workspace import (
    Workspace,
    combined_sha256,
    file_sha256,
    read_record,
    write_record,
    writing,
)


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


def write_manifest(units: Sequence[str], failures: Sequence[Failure], recipe: Recipe, workspace: Workspace) -> Outcome:
    """Say what the dataset was made from and what it holds."""
    inputs = locate_inputs(recipe, workspace)

    def work() -> tuple[list[Path], dict[str, int]]:
        table = catalog.read_patches(workspace.patches)
        outputs = [workspace.patches, workspace.quality, workspace.facts, workspace.texts, workspace.audit]
        outputs += [workspace.root / item.path for item in read_receipt("shards", recipe.shards.format, workspace).outputs]
        counts = {"scenes": len(units), "patches": len(table), "kept": int(table["kept"].sum())}
        if recipe.series is not None:
            made = read_receipt("series", SERIES_FORMAT, workspace)
            outputs += [workspace.root / item.path for item in made.outputs]
            counts["series"] = made.counts["places"]
        land_cover = dict.fromkeys(file for unit in units for file in label_files(unit, recipe, workspace))
        layers = [*land_cover, *([Path(inputs.countries.path)] if inputs.countries and inputs.countries.path else [])]
        layers += climate_files(recipe, workspace)
        said, tables = with_own_tables(recipe)
        for name, content in tables.items():
            with writing(workspace.root / name) as aside:
                aside.write_bytes(content)
        with writing(workspace.recipe) as aside:
            aside.write_text(yaml.safe_dump(said.model_dump(mode="json", exclude_none=True), sort_keys=False), encoding="utf-8")
        manifest = Manifest(
            name=recipe.name,
            title=recipe.title,
            rsdata_version=__version__,
            recipe_sha256=recipe.dataset_digest(),
            inputs=[
                *(InputDigest(name=unit, sha256=read_pair(unit, workspace).inputs_sha256 or "") for unit in units),
                *(InputDigest(name=layer.name, sha256=file_sha256(layer)) for layer in layers),
            ],
            counts=counts,
            dropped={str(k): int(v) for k, v in table["drop_reason"].value_counts().sort_index().items()},
            splits={str(k): int(v) for k, v in table["split"].value_counts().sort_index().items()},
            split=catalog.read_split_info(workspace.patches),
            coregistration=_shifts(units, workspace),
            failures=list(failures),
            outputs=[workspace.artifact(path) for path in outputs],
        )
        write_record(workspace.manifest, manifest)
        return [workspace.manifest, workspace.recipe], {"failures": len(failures)}

    key = {
        "shards": outputs_digest("shards", recipe.shards.format, workspace),
        **({"series": outputs_digest("series", SERIES_FORMAT, workspace)} if recipe.series is not None else {}),
        "captions": outputs_digest("captions", "all", workspace),
        "scenes": combined_sha256({unit: scene_digest(unit, workspace) for unit in units}),
        "failures": combined_sha256({f"{item.stage} {item.unit}": item.message for item in failures}),
        "recipe": recipe.digest(),
    }
    return once("catalog", "all", workspace, key, work)


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


def verify_dataset(workspace: Workspace, advance: Callable[[int], None] = lambda n: None) -> tuple[Manifest, list[str]]:
    """A dataset's manifest, and one sentence for each way the files differ from it."""
    manifest = read_record(workspace.manifest, Manifest)
    findings = []
    for stated in manifest.outputs:
        path = workspace.root / stated.path
        if not path.is_file():
            findings.append(f"{stated.path} is missing")
        elif workspace.artifact(path) != stated:
            findings.append(f"{stated.path} differs from its digest in manifest.json")
    if findings:
        return manifest, findings
    table = catalog.read_patches(workspace.patches)
    kept = set(table.loc[table["kept"], "patch_id"])
    for path, model in ((workspace.facts, PatchFacts), (workspace.texts, TextRow)):
        if set(catalog.read_table(path, model, ["patch_id"])["patch_id"]) != kept:
            findings.append(f"{path.name} does not describe exactly the kept patches")
    if catalog.read_table(workspace.quality, PatchMeasures)["patch_id"].tolist() != table["patch_id"].tolist():
        findings.append(f"{workspace.quality.name} does not describe exactly the patches of {workspace.patches.name}")
    made = [workspace.root / item.path for item in manifest.outputs if item.path.startswith("shards/")]
    held: list[str] = []
    series = workspace.shards(SERIES_FORMAT)
    if series / shards.MANIFEST_FILE in made:
        findings += [*shards.verify_shard(series, advance), *check_series(table, workspace)]
    for folder in sorted(path.parent for path in made if path.name == shards.MANIFEST_FILE and path.parent != series):
        with shards.open_shard(folder) as shard:
            held += shard.index["patch_id"].tolist()
        findings += shards.verify_shard(folder, advance)
    if made and (len(held) != len(kept) or set(held) != kept):
        findings.append("the shards do not hold exactly the kept patches")
    return manifest, findings


def _scene_table(unit: str, workspace: Workspace) -> pd.DataFrame:
    table = read_rows("patches", unit, workspace)
    for stage in ("labels", "quality"):
        table = table.merge(read_rows(stage, unit, workspace), on="patch_id", validate="one_to_one")
    return table


def _shifts(units: Sequence[str], workspace: Workspace) -> list[Coregistration]:
    return [shift for unit in units for shift in read_record(workspace.part("quality", unit, ".json"), Coregistrations).scenes]
