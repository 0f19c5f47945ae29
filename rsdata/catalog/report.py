"""The report of a dataset: one HTML page that opens from disk, with everything it shows inside it.

Python counts, the template ``report.html.j2`` only lays out; every text passes through its escaping, and a
colour that is not #rrggbb is replaced, so that what a recipe or a polygon layer says cannot become markup.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import geopandas as gpd
import jinja2
import numpy as np
import pandas as pd

from rsdata.catalog import plots
from rsdata.catalog.series import SeriesSummary, series_page
from rsdata.catalog.training import training_page
from rsdata.errors import CatalogError
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import (
    DROP_REASONS,
    SEASONS,
    SPLITS,
    Coregistration,
    Failure,
    LabelClass,
    SplitAudit,
    SplitPair,
    TextReport,
    TrainingReport,
)
from rsdata.sensors.reference_map import NO_POLYGON

MAX_SAMPLES = 24
MAX_ROWS = 60  # of a table that grows with the dataset; the rest is summed up
_MAX_IMAGE_PX = 240  # side of a sample image; a larger one is thinned

# Okabe and Ito, "Color Universal Design": told apart with every common kind of colour vision.
_SPLIT_COLORS = {"train": "#0072b2", "validation": "#e69f00", "test": "#009e73"}
_MORE_COLORS = ("#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
_DROPPED, _NO_SPLIT = "dropped", "no split"
_GREY, _DARK_GREY = "#c4cad1", "#5c6670"
_NO_COLOR = "#8c8c8c"

_REASONS = {
    "product_quality": "A quality check of the Sentinel-2 product did not read PASSED, so its patches carry no labels.",
    "nodata": "At least one pixel of a spectral band has no data.",
    "defective": "More pixels of a band were lost, degraded or defective than the recipe allows, as the product's masks say.",
    "saturated": "More pixels of a band were too bright for the sensor than the recipe allows.",
    "unlabeled": "Too much of the area has no class: no polygon lies there, or its code means none of the classes.",
    "cloud_or_shadow": "Clouds and their shadows cover more than the recipe allows.",
    "snow": "Snow covers more than the recipe allows.",
    "no_s1": "No Sentinel-1 scene was acquired near enough in time, and the recipe asks for one.",
    "s1_nodata": "At least one pixel of Sentinel-1 has no data.",
    "coregistration": "Sentinel-1 lies further off the optical image than the recipe allows.",
    "duplicate": "It repeats the picture of a patch that is kept: the same pixels, or the same ground in the same data take.",
    "split_buffer": "It lies between two splits, nearer to one of them than the recipe allows, and would join them.",
    "not_in_split": "The split was taken from a published table, which does not list it.",
}
_COVER_BINS = (  # upper edge, included
    (0.0, "none"),
    (0.01, "up to 1\u00a0%"),
    (0.1, "1 to 10\u00a0%"),
    (0.5, "10 to 50\u00a0%"),
    (math.inf, "more than 50\u00a0%"),
)


@dataclass(frozen=True)
class Sample:
    """One patch as pictures; all three cover the same ground."""

    patch_id: str
    rgb: np.ndarray  # (y, x, 3) uint8, stretched for display
    s1: np.ndarray | None  # (y, x) uint8, backscatter as grey
    reference_map: np.ndarray  # (y, x) uint16 codes


def write_report(
    path: Path,
    *,
    title: str,
    attribution: list[str],
    patches: gpd.GeoDataFrame,
    classes: list[LabelClass],
    audit: SplitAudit,
    captions: Mapping[str, str],
    samples: Sequence[Sample],
    code_colors: Mapping[int, str],
    code_names: Mapping[int, str],
    failures: Sequence[Failure],
    training: TrainingReport | None,
    provenance: Mapping[str, str],
    coregistration: Sequence[Coregistration] = (),
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
        classes: the label table.
        audit: leakage and balance of the splits.
        captions: patch id to its text.
        samples: patches to show, at most ``MAX_SAMPLES`` of them are.
        code_colors: code of the reference map to #rrggbb.
        code_names: code of the reference map to its name.
        failures: what could not be done.
        training: results of the recipe's model, if one was trained.
        results: those of all models of its task, to stand beside them.
        provenance: what the dataset was made from and with, as name and value.
        coregistration: how far Sentinel-1 lies off each Sentinel-2 scene.
        measures: rows of ``PatchMeasures``, to sum up saturated and defective pixels and duplicates.
        dropped_examples: reason to a few of the patches it dropped, as patch id and picture (y, x, 3) uint8.
        series: the time series, if there are any.
        texts: what a language model's captions came to, if one was asked.

    Raises: CatalogError if a sample is not in the table or its images are of another shape or type.
    """
    kept = patches[patches["kept"].astype(bool)]
    dropped = patches[~patches["kept"].astype(bool)]
    splits = _splits(kept)
    colors = split_colors(splits)
    group = patches["split"].where(patches["split"].notna(), _NO_SPLIT).where(patches["kept"].astype(bool), _DROPPED).astype(object)
    group_colors = {**colors, _NO_SPLIT: _DARK_GREY, _DROPPED: _GREY}
    panels, undrawn = plots.map_panels(patches, group, group_colors)
    counts = {split: int((kept["split"] == split).sum()) for split in splits}
    page = _template().render(
        title=title or "Dataset",
        attribution=attribution,
        provenance=provenance,
        patch_km=PATCH_SIDE_M / 1000,
        kept=len(kept),
        dropped=len(dropped),
        s2_scenes=int(patches["s2_product"].nunique()),
        s1_scenes=int(patches["s1_product"].nunique()),
        tiles=sorted(patches["tile_id"].unique()),
        first_day=_day(patches["datetime"].min()),
        last_day=_day(patches["datetime"].max()),
        splits=splits,
        colors=colors,
        counts=counts,
        without_split=len(kept) - sum(counts.values()),
        panels=panels,
        undrawn=undrawn,
        legend=[(name, group_colors[name]) for name in group_colors if any(name in panel.counts for panel in panels)],
        group_counts={name: int((group == name).sum()) for name in group_colors},
        classes=_class_rows(kept, classes, splits),
        unlabeled=float(kept["unlabeled_fraction"].mean()) if len(kept) else None,
        samples=[_card(sample, patches, classes, captions, code_colors, code_names) for sample in samples[:MAX_SAMPLES]],
        samples_left_out=max(0, len(samples) - MAX_SAMPLES),
        series=series_page(series) if series is not None else None,
        texts=texts,
        audit=audit,
        audit_findings=audit_sentences(audit),
        reasons=_reason_rows(dropped, dropped_examples or {}),
        quality_findings=_quality_findings(patches, measures) if measures is not None else [],
        failures=failures[:MAX_ROWS],
        failures_left_out=max(0, len(failures) - MAX_ROWS),
        scenes=_scene_rows(patches, coregistration)[:MAX_ROWS],
        scenes_left_out=max(0, int(patches["s2_product"].nunique()) - MAX_ROWS),
        seasons=_breakdown(kept, "season", splits, order=SEASONS),
        countries=_breakdown(kept, "country", splits),
        cover=_cover_rows(kept),
        training=training,
        trained=_trained(training, results, classes, kept) if training is not None else None,
    )
    path.write_text(page, encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "percent": percent, "distance": distance, "score": _score}
    return environment.from_string(resources.files("rsdata.catalog").joinpath("report.html.j2").read_text(encoding="utf-8"))


# --- numbers as people read them --------------------------------------------------------------------------


def number(value: int) -> str:
    return f"{value:,}"


def percent(value: float | None) -> str:
    """A share between 0 and 1 as percent; one that is small but not zero does not read as zero."""
    if value is None or not math.isfinite(value):
        return "–"
    return "<\u00a00.1\u00a0%" if 0 < value < 0.0005 else f"{value * 100:.1f}\u00a0%"


def distance(metres: float | None) -> str:
    if metres is None or not math.isfinite(metres):
        return "–"
    return f"{metres:,.0f}\u00a0m" if metres < 1000 else f"{metres / 1000:,.1f}\u00a0km"


def _score(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _day(time: Any) -> str:
    return "" if pd.isna(time) else f"{time.day} {time:%B %Y}"


def _patches(count: int, kind: str = "") -> str:
    return f"{count:,} {kind + ' ' if kind else ''}{'patch' if count == 1 else 'patches'}"


# --- splits -----------------------------------------------------------------------------------------------


def _splits(kept: pd.DataFrame) -> list[str]:
    """The three usual splits, then any others by name."""
    found = {str(name) for name in kept["split"].dropna()}
    return [*SPLITS, *sorted(found - set(SPLITS))]


def split_colors(splits: Sequence[str]) -> dict[str, str]:
    others = [name for name in splits if name not in _SPLIT_COLORS]
    return {**_SPLIT_COLORS, **{name: _MORE_COLORS[index % len(_MORE_COLORS)] for index, name in enumerate(others)}}


def audit_sentences(audit: SplitAudit) -> list[tuple[str, str]]:
    """What the audit means, as (severity, sentence); severity is "good", "note" or "bad"."""
    findings = []
    if audit.split is not None and audit.split.leaks is not None:
        findings.append(("bad", f"The split leaks by the way it was made ({audit.split.strategy}): {audit.split.leaks}."))
    findings += [finding for pair in audit.pairs for finding in _pair_findings(pair)]
    empty = [split for split, count in audit.counts.items() if not count]
    if empty:
        findings.append(("bad", f"No patch is in {' or '.join(empty)}, so nothing can be measured there."))
    name, ratio = audit.largest_ratio_class, audit.largest_ratio
    if name is not None and ratio is not None:
        shares = sorted((shares[name], split) for split, shares in audit.class_shares.items() if name in shares)
        named = f" ({', '.join(f'{percent(share)} of {split}' for share, split in reversed(shares))})" if shares else ""
        spread = f"its share in one split is {ratio:.1f} times that in another" if math.isfinite(ratio) else "one split has none of it"
        findings.append(("note" if ratio >= 2 else "good", f"The least balanced class is {name}: {spread}{named}."))
    elif name is not None:
        findings.append(("note", f"The class {name} is missing from a split altogether."))
    return findings


def _pair_findings(pair: SplitPair) -> list[tuple[str, str]]:
    findings = []
    if pair.shared_places:
        places = "place lies" if pair.shared_places == 1 else "places lie"
        findings.append(("bad", f"{pair.shared_places:,} {places} in both {pair.a} and {pair.b}: a model is tested on ground it has seen."))
    if pair.touching_a or pair.touching_b:
        findings.append(
            (
                "bad" if {pair.a, pair.b} == {"train", "test"} else "note",
                f"{pair.a.capitalize()} and {pair.b} touch: {_patches(pair.touching_a, pair.a)} and {_patches(pair.touching_b, pair.b)} "
                "have a direct neighbour on the other side. Neighbours look alike, so scores across this border are somewhat too good.",
            )
        )
    elif pair.min_gap_m is None:
        findings.append(("note", f"No distance between {pair.a} and {pair.b} could be measured."))
    elif pair.min_gap_m <= 0:
        findings.append(("note", f"Footprints of {pair.a} and {pair.b} meet or overlap where their tiles do."))
    else:
        findings.append(("good", f"No {pair.a} patch lies within {distance(pair.min_gap_m)} of a {pair.b} patch."))
    return findings


# --- tables -----------------------------------------------------------------------------------------------


def _class_rows(kept: pd.DataFrame, classes: Sequence[LabelClass], splits: Sequence[str]) -> list[dict[str, Any]]:
    """Patches that show each class, per split, with their share of the split; names outside the label table come last."""
    totals = Counter(name for labels in kept["labels"] for name in set(labels))
    seen = Counter((split, name) for split, labels in zip(kept["split"], kept["labels"], strict=True) for name in set(labels))
    sizes = Counter(kept["split"].dropna())
    area: dict[str, float] = {}
    for shares in kept["label_fractions"]:
        for name, share in shares.items():
            area[name] = area.get(name, 0.0) + share
    names = [each.name for each in classes]
    names += sorted(set(totals) - set(names))
    color_of = {each.name: each.color for each in classes}
    return [
        {
            "name": name,
            "color": _color(color_of.get(name)),
            "total": totals[name],
            "area": area.get(name, 0.0) / len(kept) if len(kept) else 0.0,
            "counts": {split: seen[split, name] for split in splits},
            "shares": {split: seen[split, name] / sizes[split] if sizes[split] else 0.0 for split in splits},
        }
        for name in names
    ]


def _reason_rows(dropped: pd.DataFrame, examples: Mapping[str, Sequence[tuple[str, np.ndarray]]]) -> list[dict[str, Any]]:
    counts = dropped["drop_reason"].where(dropped["drop_reason"].notna(), "").astype(object).value_counts()
    order = [*DROP_REASONS, *sorted(set(counts.index) - set(DROP_REASONS))]
    return [
        {
            "reason": reason or "not stated",
            "count": int(counts[reason]),
            "share": counts[reason] / len(dropped),
            "words": _REASONS.get(reason, "The table gives no further explanation."),
            "examples": [(patch_id, plots.jpeg(_thinned(picture))) for patch_id, picture in examples.get(reason, ())],
        }
        for reason in order
        if reason in counts.index
    ]


def _scene_rows(patches: pd.DataFrame, coregistration: Sequence[Coregistration]) -> list[dict[str, Any]]:
    rows = []
    shifts: dict[str, list[str]] = {}
    for each in coregistration:
        shifts.setdefault(each.s2_product, []).append(f"{math.hypot(each.south_px, each.east_px):.1f} ± {each.spread_px:.1f} px")
    for product, scene in patches.groupby("s2_product", sort=True):
        kept = scene[scene["kept"].astype(bool)]
        gaps = scene["s1_time_gap_h"].dropna()
        rows.append(
            {
                "product": product,
                "time": f"{scene['datetime'].min():%Y-%m-%d %H:%M}",
                "patches": len(scene),
                "kept": len(kept),
                "cloud": float(scene["cloud_fraction"].mean()),
                "gap": f"{gaps.median():+.1f} h" if len(gaps) else "no Sentinel-1",
                "shift": ", ".join(shifts.get(product, [])) or "not known",
            }
        )
    return sorted(rows, key=lambda row: (row["time"], row["product"]))


def _quality_findings(patches: pd.DataFrame, measures: pd.DataFrame) -> list[str]:
    """What the pixels of kept patches are like, and which patches repeat another's picture, in sentences."""
    kept = measures[measures["patch_id"].isin(patches.loc[patches["kept"].astype(bool), "patch_id"])]
    findings = []
    for kind, words in (("saturated", "saturated in some band"), ("defective", "flagged as lost, degraded or defective")):
        known = kept[f"{kind}_fraction"].dropna()
        if known.empty:
            findings.append(f"No product had masks to tell {kind} pixels." if len(kept) else "")
        elif (known > 0).any():
            count = int((known > 0).sum())
            verb = "has" if count == 1 else "have"
            findings.append(f"{_patches(count, 'kept')} {verb} pixels {words}, at most {percent(known.max())} of a patch.")
        else:
            findings.append(f"No pixel of the kept patches is {words.replace('some', 'any')}.")
        if 0 < len(known) < len(kept):
            findings.append(f"For {_patches(len(kept) - len(known), 'kept')} no masks were there to tell {kind} pixels.")
    for kind, words in (("pixels", "have the same pixels as another patch"), ("ground", "show the same ground in the same data take")):
        repeats = measures[measures["duplicate_kind"] == kind]
        if len(repeats):
            still = int(repeats["patch_id"].isin(kept["patch_id"]).sum())
            findings.append(f"{_patches(len(repeats))} {words}; {still:,} of them {'is' if still == 1 else 'are'} kept.")
    if measures["duplicate_kind"].isna().all():
        findings.append("No patch repeats another's picture.")
    return [finding for finding in findings if finding]


def _breakdown(kept: pd.DataFrame, column: str, splits: Sequence[str], order: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Kept patches per value of a column and split; the fullest first unless an order is given."""
    values = kept[column].where(kept[column].notna(), "not known").astype(object)
    totals = values.value_counts()
    names = [name for name in order if name in totals.index]
    names += sorted((name for name in totals.index if name not in names), key=lambda name: (-totals[name], str(name)))
    return [
        {
            "name": name,
            "total": int(totals[name]),
            "counts": {split: int(((values == name) & (kept["split"] == split)).sum()) for split in splits},
        }
        for name in names
    ]


def _cover_rows(kept: pd.DataFrame) -> list[dict[str, Any]]:
    """How many kept patches have how much cloud, shadow and snow."""
    rows, above = [], -math.inf
    for upper, name in _COVER_BINS:
        counts = {
            kind: int(((kept[f"{kind}_fraction"] > above) & (kept[f"{kind}_fraction"] <= upper)).sum())
            for kind in ("cloud", "shadow", "snow")
        }
        rows.append({"name": name, **counts})
        above = upper
    return rows


# --- samples ----------------------------------------------------------------------------------------------


def _card(
    sample: Sample,
    patches: pd.DataFrame,
    classes: Sequence[LabelClass],
    captions: Mapping[str, str],
    code_colors: Mapping[int, str],
    code_names: Mapping[int, str],
) -> dict[str, Any]:
    rows = patches[patches["patch_id"] == sample.patch_id]
    if not len(rows):
        raise CatalogError(
            f"the sample {sample.patch_id} is not in the patch table; show patches of this dataset", patch_id=sample.patch_id
        )
    _check_image(sample.patch_id, "rgb", sample.rgb, "uint8", 3)
    _check_image(sample.patch_id, "reference map", sample.reference_map, "uint16", 2)
    if sample.s1 is not None:
        _check_image(sample.patch_id, "Sentinel-1 image", sample.s1, "uint8", 2)
    patch = rows.iloc[0]
    color_of = {each.name: each.color for each in classes}
    codes, pixels = np.unique(sample.reference_map, return_counts=True)
    shares = sorted(
        ((pixel / sample.reference_map.size, int(code)) for code, pixel in zip(codes, pixels, strict=True)), key=lambda x: (-x[0], x[1])
    )
    map_colors = {int(code): _color(code_colors.get(int(code))) for code in codes}
    return {
        "id": sample.patch_id,
        "day": _day(patch["datetime"]),
        "country": patch["country"] if isinstance(patch["country"], str) else None,
        "season": patch["season"],
        "split": patch["split"] if isinstance(patch["split"], str) else (_NO_SPLIT if patch["kept"] else _DROPPED),
        "labels": [(name, _color(color_of.get(name))) for name in patch["labels"]],
        "caption": captions.get(sample.patch_id),
        "rgb": plots.png(_thinned(sample.rgb)),
        "s1": None if sample.s1 is None else plots.png(_thinned(sample.s1)),
        "map": plots.code_png(_thinned(sample.reference_map), map_colors),
        "codes": [
            {"code": code, "name": code_names.get(code) or _code_name(code), "color": map_colors[code], "share": share}
            for share, code in shares
        ],
    }


def _check_image(patch_id: str, name: str, pixels: np.ndarray, dtype: str, dimensions: int) -> None:
    if pixels.dtype != dtype or pixels.ndim != dimensions or not pixels.size or (dimensions == 3 and pixels.shape[2] != 3):
        wanted = "(y, x, 3)" if dimensions == 3 else "(y, x)"
        raise CatalogError(
            f"the {name} of sample {patch_id} is {pixels.dtype} with shape {pixels.shape}; expected {dtype} with shape {wanted}",
            patch_id=patch_id,
        )


def _thinned(pixels: np.ndarray) -> np.ndarray:
    step = max(1, math.ceil(max(pixels.shape[:2]) / _MAX_IMAGE_PX))
    return pixels[::step, ::step]


def _code_name(code: int) -> str:
    return "no polygon" if code == NO_POLYGON else "no name"


def _color(text: str | None) -> str:
    """A colour that is safe to stand in a style, grey if it is none."""
    return text if text is not None and re.fullmatch(r"#[0-9a-fA-F]{6}", text) else _NO_COLOR


# --- training ---------------------------------------------------------------------------------------------


def _trained(
    training: TrainingReport, results: Sequence[TrainingReport], classes: Sequence[LabelClass], kept: pd.DataFrame
) -> dict[str, Any]:
    in_train = kept.loc[kept["split"] == "train", "labels"].explode().value_counts().to_dict()
    return training_page(training, results, {each.name: _color(each.color) for each in classes}, in_train, _SPLIT_COLORS)
