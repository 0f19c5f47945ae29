"""The report of a dataset: one HTML page that opens from disk, with everything it shows inside it.

Python counts, the templates only lay out. Without its scripts the page says the same: the map is drawn once per
region as well, and the gallery shows every sample.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from rsdata.catalog import plots
from rsdata.catalog.audit_sentences import audit_sentences
from rsdata.catalog.audit_values import audit_values, marks
from rsdata.catalog.colors import DARK_GREY, GREY, SPLIT_COLORS, split_colors
from rsdata.catalog.pages import day, render
from rsdata.catalog.report import building, classes, gallery, maps, quality
from rsdata.catalog.series import SeriesSummary, series_page
from rsdata.catalog.training import training_page
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import SEASONS, SPLITS, Failure, LabelClass, Manifest, SplitAudit, TextReport, TrainingReport
from rsdata.sensors import SENTINEL1, SENTINEL2

MAX_ROWS = 60  # of a table that grows with the dataset; the rest is summed up
_DROPPED, _NO_SPLIT = "dropped", "no split"


def write_report(
    path: Path,
    *,
    title: str,
    attribution: list[str],
    patches: gpd.GeoDataFrame,
    label_classes: list[LabelClass],
    audit: SplitAudit,
    captions: Mapping[str, str],
    samples: Sequence[gallery.Sample],
    code_names: Mapping[int, str],
    training: TrainingReport | None,
    manifest: Manifest | None = None,
    failures: Sequence[Failure] = (),
    provenance: Mapping[str, str] | None = None,
    recipe_text: str = "",
    shards: Sequence[building.ShardFacts] = (),
    times: Sequence[building.StageTime] = (),
    measures: pd.DataFrame | None = None,
    dropped_examples: Mapping[str, Sequence[tuple[str, np.ndarray]]] | None = None,
    series: SeriesSummary | None = None,
    texts: TextReport | None = None,
    results: Sequence[TrainingReport] = (),
) -> None:
    """Write the report of a dataset as one HTML page.

    Args:
        path: the page; its folder exists.
        title: of the dataset.
        attribution: what the sources of the data ask to be said.
        patches: every patch, kept and dropped, as ``read_patches`` returns it.
        label_classes: the label table.
        audit: leakage and balance of the splits.
        captions: patch id to its text; those of samples are enough.
        samples: patches to show, at most ``MAX_SAMPLES`` of them are.
        code_names: code of the reference map to its name.
        training: results of the recipe's model, if one was trained.
        manifest: what was made and from which inputs.
        failures: what could not be done.
        provenance: more facts on what the dataset was made from and with, as name and value.
        recipe_text: the recipe as it was written.
        shards: the dataset's shards as they lie on disk.
        times: how long the stages took.
        measures: rows of ``PatchMeasures``, to sum up saturated and defective pixels and duplicates.
        dropped_examples: reason to a few of the patches it dropped, as patch id and picture (y, x, 3) uint8.
        series: the time series, if there are any.
        texts: what a language model's captions came to, if one was asked.
        results: those of all models of its task, to stand beside them.

    Raises: CatalogError if a sample is not in the table or its images are of another shape or type.
    """
    is_kept = patches["kept"].astype(bool)
    kept, dropped = patches[is_kept], patches[~is_kept]
    splits = [*SPLITS, *sorted({str(name) for name in kept["split"].dropna()} - set(SPLITS))]
    colors = split_colors(splits)
    group = patches["split"].where(patches["split"].notna(), _NO_SPLIT).where(is_kept, _DROPPED).astype(object)
    sizes = group.value_counts()
    group_colors = {**colors, _NO_SPLIT: DARK_GREY, _DROPPED: GREY}
    names = classes.class_names(kept, label_classes)
    keys = classes.class_keys(names, label_classes)
    panels, undrawn = plots.map_panels(patches, group, group_colors)
    map_data, merged = maps.squares(patches, group, group_colors, marks(audit))
    counts = {split: int((kept["split"] == split).sum()) for split in splits}
    shown = samples[: gallery.MAX_SAMPLES]
    cards = gallery.cards(
        shown, patches, label_classes, keys, captions, code_names, dict(zip(patches["patch_id"], group, strict=True)) if shown else {}
    )
    shown_as: dict[str | None, str] = {**{name: name for name in splits}, None: _NO_SPLIT}
    months = classes.by_month(kept, shown_as)
    coregistration = manifest.coregistration if manifest is not None else ()
    page = render(
        "report.html.j2",
        ["map.js", "report.js", "paper.js"],
        title=title or "Dataset",
        attribution=attribution,
        patch_km=PATCH_SIDE_M / 1000,
        kept=len(kept),
        dropped=len(dropped),
        s2_scenes=int(patches["s2_product"].nunique()),
        s1_scenes=int(patches["s1_product"].nunique()),
        tiles=sorted(patches["tile_id"].unique()),
        first_day=day(patches["datetime"].min()),
        last_day=day(patches["datetime"].max()),
        splits=splits,
        colors=colors,
        counts=counts,
        without_split=len(kept) - sum(counts.values()),
        legend=_legend(group_colors, sizes),
        panels=panels,
        undrawn=undrawn,
        regions=maps.regions(patches)[:MAX_ROWS],
        map_data=map_data,
        merged=merged,
        keys=keys,
        classes=classes.class_rows(kept, names, splits),
        matrix=classes.co_occurrence(kept, names),
        labels_per_patch=classes.labels_per_patch(kept),
        unlabeled=float(kept["unlabeled_fraction"].mean()) if len(kept) else None,
        cards=cards,
        views={"s2": any(card["rgb"] for card in cards), "s1": any(card["s1"] for card in cards)},
        without=_without(shards, patches),
        radar_repeats=int(kept.duplicated(["s1_product", "tile_id", "col", "row"]).sum()),
        choices=gallery.filter_choices(cards),
        card_colors=group_colors,
        samples_left_out=len(samples) - len(shown),
        series=series_page(series) if series is not None else None,
        texts=texts,
        audit=audit,
        audit_findings=audit_sentences(audit),
        audit_values=audit_values(audit, colors),
        reasons=quality.reason_rows(dropped, dropped_examples or {}),
        quality_findings=quality.quality_findings(patches, measures) if measures is not None else [],
        failures=failures[:MAX_ROWS],
        failures_left_out=max(0, len(failures) - MAX_ROWS),
        scenes=quality.scene_rows(patches, coregistration)[:MAX_ROWS],
        scenes_left_out=max(0, int(patches["s2_product"].nunique()) - MAX_ROWS),
        months=months,
        month_chart=plots.stacked_bars("Kept patches by the date of their Sentinel-2 scene", months, {**colors, _NO_SPLIT: DARK_GREY}),
        seasons=classes.breakdown(kept, "season", splits, order=SEASONS),
        countries=classes.breakdown(kept, "country", splits),
        cover=quality.cover_rows(kept),
        shards=building.shard_rows(shards),
        times=times,
        training=training,
        trained=_trained(training, results, kept) if training is not None else None,
        made=building.provenance(manifest, provenance or {}),
        recipe_text=recipe_text,
    )
    path.write_text(page, encoding="utf-8")


def _without(shards: Sequence[building.ShardFacts], patches: pd.DataFrame) -> str | None:
    """The sensor whose scenes had a part in the dataset and whose pixels are in none of its shards."""
    held = {sensor for each in shards for sensor in each.sensors}
    had = {SENTINEL2.name} | ({SENTINEL1.name} if patches["s1_product"].notna().any() else set())
    return next(iter(sorted(had - held)), None) if held else None


def _legend(colors: Mapping[str, str], sizes: pd.Series) -> list[dict[str, Any]]:
    """The groups that occur, in the order of ``colors``; ``layer`` is their place on the map, which draws the last one first."""
    names = list(colors)
    return [
        {"name": name, "color": colors[name], "count": int(sizes[name]), "layer": len(names) - 1 - index}
        for index, name in enumerate(names)
        if name in sizes.index
    ]


def _trained(training: TrainingReport, results: Sequence[TrainingReport], kept: pd.DataFrame) -> dict[str, Any]:
    in_train = kept.loc[kept["split"] == "train", "labels"].explode().value_counts().to_dict()
    return training_page(training, results, in_train, SPLIT_COLORS)
