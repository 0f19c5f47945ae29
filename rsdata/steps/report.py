"""The page that shows a dataset."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import geopandas as gpd
import numpy as np
import pandas as pd

from rsdata import catalog, shards
from rsdata.catalog.sources import attributions, data_sources
from rsdata.recipe import Recipe
from rsdata.records import (
    Manifest,
    PatchId,
    PatchMeasures,
    SplitAudit,
    Stage,
    TextReport,
    TextRow,
    TrainingReport,
    keys_of,
    sensors_of,
)
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.splits.audit import examine
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.measuring import dropped_examples
from rsdata.steps.packing import shard_of_scene
from rsdata.steps.pictures import false_colours, natural_colours, radar_colours, radar_greys
from rsdata.steps.receipts import Outcome, once, read_pair, read_receipt
from rsdata.steps.strips import series_summary
from rsdata.steps.training import read_results, result_files
from rsdata.workspace import Workspace, file_sha256, read_record
from rsdata.writing import writing

SAMPLES_PER_SPLIT = 24  # patches shown in the report, beside those that show the rest of the classes


def write_report(recipe: Recipe, workspace: Workspace) -> Outcome:
    """Draw the dataset on one page: map, balance, samples, audit, drops, shards, and the scores of the recipe's model."""
    metrics = workspace.metrics(recipe.training.label if recipe.training else "")
    manifest = read_record(workspace.manifest, Manifest)

    def work() -> tuple[list[Path], dict[str, int]]:
        table = catalog.read_patches(workspace.patches)
        nomenclature = nomenclature_of(recipe)
        samples, facts = _samples(catalog.choose_samples(table, SAMPLES_PER_SPLIT), recipe, workspace)
        training = read_record(metrics, TrainingReport) if metrics.exists() else None
        with writing(workspace.report) as aside:
            catalog.write_report(
                aside,
                title=recipe.title or recipe.name,
                attribution=attributions(recipe, data_sources(recipe, table[table["kept"].astype(bool)], manifest)),
                patches=table,
                label_classes=list(nomenclature.classes),
                audit=_audit(table, [each.name for each in nomenclature.classes], workspace),
                captions=_captions([sample.patch_id for sample in samples], workspace),
                samples=samples,
                code_names=nomenclature.code_names,
                training=training,
                manifest=manifest,
                failures=manifest.failures,
                provenance={"Licence": recipe.licence} if recipe.licence else {},
                recipe_text=workspace.recipe.read_text(encoding="utf-8") if workspace.recipe.exists() else "",
                shards=facts,
                times=_times(workspace),
                measures=catalog.read_table(workspace.quality, PatchMeasures),
                dropped_examples=dropped_examples(table, workspace),
                series=series_summary(recipe, workspace),
                texts=read_record(workspace.text_report, TextReport) if workspace.text_report.exists() else None,
                results=read_results(workspace, training) if training is not None else [],
            )
        return [workspace.report], {"samples": len(samples)}

    key = {"manifest": file_sha256(workspace.manifest), "metrics": file_sha256(metrics) if metrics.exists() else ""}
    key |= {"text report": file_sha256(workspace.text_report)} if workspace.text_report.exists() else {}
    key |= {f"results {path.parent.name}": file_sha256(path) for path in result_files(workspace)}
    return once("report", "all", workspace, key, work)


def _audit(table: gpd.GeoDataFrame, classes: Sequence[str], workspace: Workspace) -> SplitAudit:
    """The audit with all that a build's own leaves out: examples of findings, and how far the likeness of labels reaches."""
    kept = table[table["kept"].astype(bool)]
    if not kept["split"].notna().any():
        return read_record(workspace.audit, SplitAudit)
    audit, _ = examine(kept, classes)
    return audit.model_copy(update={"split": read_record(workspace.audit, SplitAudit).split})


def _captions(patch_ids: Sequence[str], workspace: Workspace) -> dict[str, str]:
    """The first caption of each of some patches; the table of texts is read a portion at a time, as it may be long."""
    found: dict[str, str] = {}
    for portion in catalog.read_portions(workspace.texts, TextRow):
        rows = portion.select(["patch_id", "category", "output"]).to_pandas()
        rows = rows[(rows["category"] == "caption") & rows["patch_id"].isin(patch_ids)]
        for patch_id, text in zip(rows["patch_id"], rows["output"], strict=True):
            found.setdefault(patch_id, text)
    return found


def _times(workspace: Workspace) -> list[catalog.StageTime]:
    """How long each stage of the build took, by the receipts of its units."""
    times = []
    for stage in get_args(Stage):
        receipts = [read_receipt(stage, unit, workspace) for unit in workspace.receipted(stage)]
        if receipts and stage != "report":
            times.append(catalog.StageTime(stage, len(receipts), sum(receipt.seconds for receipt in receipts)))
    return times


def _samples(patch_ids: Sequence[str], recipe: Recipe, workspace: Workspace) -> tuple[list[catalog.Sample], list[catalog.ShardFacts]]:
    """Pictures of patches out of the dataset's shards, and what these shards are like, with the speed of this reading."""
    offsets: dict[str, dict[str, float]] = {}
    samples = []
    opened: dict[Path, _Opened] = {}
    with ExitStack() as stack:
        for patch_id in patch_ids:
            scene = PatchId.parse(patch_id).scene
            offsets.setdefault(scene, read_pair(scene, workspace).s2.offsets)
            folder = shard_of_scene(scene, recipe, workspace)
            if folder not in opened:
                opened[folder] = _Opened(stack.enter_context(shards.open_shard(folder)), recipe.name)
            bands = opened[folder].read(patch_id)
            s2, s1 = bands.get(SENTINEL2.name), bands.get(SENTINEL1.name)
            samples.append(
                catalog.Sample(
                    patch_id=patch_id,
                    rgb=None if s2 is None else natural_colours(s2, offsets[scene]),
                    s1=None if s1 is None else radar_colours(s1),
                    reference_map=bands[REFERENCE_MAP.name][REFERENCE_MAP.band_names[0]],
                    false_color=None if s2 is None else false_colours(s2, offsets[scene]),
                    polarizations=radar_greys(s1) if s1 is not None and s2 is None else {},
                )
            )
        return samples, [each.facts() for each in opened.values()]


class _Opened:
    """A shard, with a stopwatch on what is read of it."""

    def __init__(self, shard: shards.Shard, name: str) -> None:
        self._shard, self._name = shard, name
        index = shard.index
        self._keys = pd.DataFrame({sensor: keys_of(index, sensor) for sensor in sensors_of(index)}, index=index["patch_id"], dtype=object)
        self._patches, self._bytes, self._seconds = 0, 0, 0.0

    def read(self, patch_id: str) -> dict[str, dict[str, np.ndarray]]:
        """Sensor to bands (y, x) of a patch, those it has."""
        keys = self._keys.loc[patch_id].dropna()
        start = time.perf_counter()
        found = {str(sensor): dict(self._shard.read(key)) for sensor, key in keys.items()}
        self._seconds += time.perf_counter() - start
        self._patches += 1
        self._bytes += sum(band.nbytes for bands in found.values() for band in bands.values())
        return found

    def facts(self) -> catalog.ShardFacts:
        manifest = self._shard.manifest
        size = sum(file.bytes for file in manifest.files)
        raw = self._bytes / self._patches * len(self._keys)  # patches without Sentinel-1 are few
        return catalog.ShardFacts(
            manifest.name or self._name, manifest.format, manifest.codec, len(self._keys), manifest.keys, size, round(raw),
            self._patches, self._bytes, self._seconds, tuple(sensor for sensor in self._keys if sensor != REFERENCE_MAP.name),
        )  # fmt: skip
