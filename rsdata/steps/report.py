"""The page that shows a dataset."""

from contextlib import ExitStack
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from rsdata import catalog, shards
from rsdata.recipe import Recipe
from rsdata.records import (
    Manifest,
    PatchId,
    PatchMeasures,
    SplitAudit,
    TextReport,
    TextRow,
    TrainingReport,
)
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.measuring import dropped_examples
from rsdata.steps.packing import shard_of_scene
from rsdata.steps.pictures import RGB, S1_DB, as_picture, natural_colours
from rsdata.steps.receipts import Outcome, once, read_pair
from rsdata.steps.strips import series_summary
from rsdata.steps.training import read_results, result_files
from rsdata.workspace import (
    Workspace,
    file_sha256,
    read_record,
    writing,
)

SAMPLES_PER_SPLIT = 8  # patches shown in the report


def write_report(recipe: Recipe, workspace: Workspace) -> Outcome:
    """Draw the dataset on one page: map, balance, samples, audit, drops, and the scores of the recipe's model."""
    metrics = workspace.metrics(recipe.training.label if recipe.training else "")
    manifest = read_record(workspace.manifest, Manifest)

    def work() -> tuple[list[Path], dict[str, int]]:
        table = catalog.read_patches(workspace.patches)
        texts = catalog.read_table(workspace.texts, TextRow, ["patch_id", "category", "output"])
        texts = texts[texts["category"] == "caption"]
        nomenclature = nomenclature_of(recipe)
        with writing(workspace.report) as aside:
            catalog.write_report(
                aside,
                title=recipe.title or recipe.name,
                attribution=recipe.attribution,
                patches=table,
                classes=list(nomenclature.classes),
                audit=read_record(workspace.audit, SplitAudit),
                captions=dict(zip(texts["patch_id"], texts["output"], strict=True)),
                samples=_samples(table, recipe, workspace),
                measures=catalog.read_table(workspace.quality, PatchMeasures),
                dropped_examples=dropped_examples(table, workspace),
                series=series_summary(recipe, workspace),
                code_colors=nomenclature.code_colors,
                code_names=nomenclature.code_names,
                coregistration=manifest.coregistration,
                texts=read_record(workspace.text_report, TextReport) if workspace.text_report.exists() else None,
                failures=manifest.failures,
                training=(training := read_record(metrics, TrainingReport) if metrics.exists() else None),
                results=read_results(workspace, training) if training is not None else [],
                provenance={
                    "Recipe": f"{manifest.name} ({manifest.recipe_sha256[:12]})",
                    "Made with": f"rsdata {manifest.rsdata_version}",
                    "Inputs": ", ".join(item.name for item in manifest.inputs),
                    **({"Licence": recipe.licence} if recipe.licence else {}),
                },
            )
        return [workspace.report], {"samples": SAMPLES_PER_SPLIT * 3}

    key = {"manifest": file_sha256(workspace.manifest), "metrics": file_sha256(metrics) if metrics.exists() else ""}
    key |= {"text report": file_sha256(workspace.text_report)} if workspace.text_report.exists() else {}
    key |= {f"results {path.parent.name}": file_sha256(path) for path in result_files(workspace)}
    return once("report", "all", workspace, key, work)


def _samples(table: gpd.GeoDataFrame, recipe: Recipe, workspace: Workspace) -> list[catalog.Sample]:
    """Pictures of patches from each split, spread evenly over the table."""
    offsets: dict[str, dict[str, float]] = {}
    chosen = []
    for split in ("train", "validation", "test"):
        rows = table[table["split"] == split]
        chosen += (
            [rows.iloc[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(SAMPLES_PER_SPLIT, len(rows))).astype(int))]
            if len(rows)
            else []
        )
    samples = []
    opened: dict[Path, tuple[shards.Shard, pd.DataFrame]] = {}
    with ExitStack() as stack:
        for row in chosen:
            scene = PatchId.parse(row["patch_id"]).scene
            offsets.setdefault(scene, read_pair(scene, workspace).s2.offsets)
            folder = shard_of_scene(scene, recipe, workspace)
            if folder not in opened:
                shard = stack.enter_context(shards.open_shard(folder))
                opened[folder] = shard, shard.index.set_index("patch_id")
            shard, keys = opened[folder]
            bands = shard.read(row["patch_id"])
            s1_key = keys.loc[row["patch_id"], "s1_key"]
            samples.append(
                catalog.Sample(
                    patch_id=row["patch_id"],
                    rgb=natural_colours({name: bands[name] for name in RGB}, offsets[scene]),
                    s1=as_picture(shard.read(s1_key)["VV"], *S1_DB) if s1_key is not None else None,
                    reference_map=shard.read(keys.loc[row["patch_id"], "reference_map_key"])["Data"],
                )
            )
    return samples
