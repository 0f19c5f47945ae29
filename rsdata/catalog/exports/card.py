"""The dataset card: what somebody who finds the dataset must know, in Markdown with front matter as Hugging Face reads it.

Every name in it comes from a recipe, a product or a table, so it is data: ``markdown`` escapes it wherever it stands, and the
front matter is written by a YAML library.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

from rsdata.catalog.audit_sentences import audit_sentences
from rsdata.catalog.exports.croissant import citation
from rsdata.catalog.exports.source import Advance, Source
from rsdata.catalog.exports.stac import main_files
from rsdata.catalog.sources import attributions, data_sources, licence_said, spdx, summary_of, titles_of
from rsdata.records import SPLITS
from rsdata.sensors import SENSORS, SENTINEL1

CARD_FILE = "card.md"
# Licences that Hugging Face knows by these names; any other is "other" with its own name beside it.
_HUB_LICENCES = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odbl", "odc-by", "pddl"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
_SOFTWARE_SHOWN = ("rsdata", "python", "gdal", "numpy", "rasterio")
_MARKED = re.compile(r"([\\`*_\[\]|~$])")  # marks anywhere
_MARKED_FIRST = re.compile(r"^(\d*)([-+#=]|[.)](?=\s|$))")  # marks at the beginning of a line: lists, headings, rules
_LINKED = re.compile(r"(https?|ftp|www|mailto)(?=[:.])", re.IGNORECASE)  # Source: GitHub Flavored Markdown, autolinks (extension)
# What is known of each kind of labels. Source of the CORINE figures: CLC2018 technical guidelines of the EEA.
_LABEL_NOISE = {
    "corine": (
        "CORINE maps units of at least 25 ha (lines of at least 100 m width), so smaller fields, woods and settlements carry the class "
        "that surrounds them.",
        "The map is of one reference year; images of other dates may show something else.",
        "Class borders are accurate to about 100 m, so pixels beside a border, and labels of small shares, are the least sure.",
    ),
    "worldcover": (
        "WorldCover is itself made from Sentinel-1 and Sentinel-2 by a classifier with an overall accuracy of about three in four; its "
        "errors follow the imagery, so a model may learn them.",
    ),
    "polygons": ("The labels come from the maker's own polygons; nothing is known of their accuracy here.",),
}


class Card:
    """The card alone, named as repositories show it."""

    summary = "dataset card: Markdown with front matter"

    def write(self, source: Source, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
        write_card(folder / "README.md", source)
        advance(len(source.patches))
        return {"files": 1}


def write_card(path: Path, source: Source, front_matter: Mapping[str, Any] | None = None) -> None:
    """Write the card; ``front_matter`` adds keys to its head or replaces them."""
    path.write_text(card(source, front_matter), encoding="utf-8")


def card(source: Source, front_matter: Mapping[str, Any] | None = None) -> str:
    """The card as text."""
    recipe, patches, dataset = source.recipe, source.patches, source.dataset
    sources = data_sources(recipe, patches, dataset)
    counts = {name: int((patches["split"] == name).sum()) for name in SPLITS if (patches["split"] == name).any()}
    head = {**_front_matter(source), **(front_matter or {})}
    return _template().render(
        front_matter=yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000),
        title=source.title,
        summary=summary_of(recipe, patches, source.sensors),
        attributions=attributions(recipe, sources),
        files=main_files(source),
        shards=[folder.relative_to(source.root).as_posix() for folder in source.shard_folders],
        format=source.manifest.format,
        sensors=_sensors(source),
        split_method=_split_method(source),
        counts=counts,
        kept=len(patches),
        audit=audit_sentences(source.audit) if source.audit is not None else [],
        label_source=f"Source {recipe.labels.source}, nomenclature {recipe.labels.nomenclature}. Patches per class:",
        classes=_class_counts(source, list(counts)),
        label_noise=_label_noise(source),
        sources=sources,
        licence=licence_said(recipe),
        versions=_versions(source),
        patches=dataset.counts.get("patches", len(patches)),
        scenes=dataset.counts.get("scenes", 0),
        dropped=", ".join(f"{count:,} for {reason}" for reason, count in dataset.dropped.items()),
        failures=[f"{item.unit}: {item.message}" for item in dataset.failures],
        limits=_limits(source),
        citation=citation(source),
    )


def markdown(text: object) -> str:
    """Text that reads as itself in Markdown: no markup, no HTML, no link, no new line, no end of a table's cell.

    GitHub links addresses that stand in plain text. Those of pages it finds before it reads character references, those of mail
    after, so these are parted by an empty comment as well.
    """
    plain = " ".join(str(text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _LINKED.sub(lambda found: f"{found[0][0]}&#{ord(found[0][1])};{found[0][2:]}", plain).replace("@", "&#64;<!-- -->")
    return _MARKED_FIRST.sub(r"\1\\\2", _MARKED.sub(r"\\\1", plain))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=False,  # it is Markdown; every value goes through ``md``
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown
    return environment.from_string(resources.files("rsdata.catalog").joinpath("templates/card.md.j2").read_text(encoding="utf-8"))


def _front_matter(source: Source) -> dict[str, Any]:
    licence = spdx(source.recipe.licence)
    known = licence is not None and licence.lower() in _HUB_LICENCES
    head: dict[str, Any] = {
        "pretty_name": " ".join(source.title.split()),
        "license": licence.lower() if licence is not None and known else "other",
    }
    if not known:
        head["license_name"] = re.sub(r"[^a-z0-9.-]+", "-", source.recipe.licence.lower()).strip("-") or "see-sources"
    if source.texts is not None:
        head["language"] = ["en"]
        head["task_categories"] = ["image-classification", "image-segmentation", "image-to-text", "visual-question-answering"]
    else:
        head["task_categories"] = ["image-classification", "image-segmentation"]
    imagery = [title.lower() for title in reversed(titles_of(source.sensors))]
    head["size_categories"] = [next((name for most, name in _SIZES if len(source.patches) < most), "n>10M")]
    head["tags"] = ["remote-sensing", "earth-observation", "land-cover", *imagery]
    return head


def _sensors(source: Source) -> list[dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for band in source.manifest.bands:
        title = SENSORS[band.sensor].title if band.sensor in SENSORS else band.sensor
        row = rows.setdefault(band.sensor, {"title": title, "bands": "", "stored": f"{band.dtype}, {band.unit}"})
        row["bands"] += f"{', ' if row['bands'] else ''}{band.name}"
    return list(rows.values())


def _split_method(source: Source) -> str:
    info = source.dataset.split
    if info is None:
        return f"Divided by the strategy {source.recipe.split.strategy}."
    options = ", ".join(f"{name} {value}" for name, value in info.options.items() if value is not None)
    return " ".join([f"Divided by the strategy {info.strategy}{f' ({options})' if options else ''}, seed {info.seed}.", *info.notes])


def _class_counts(source: Source, splits: list[str]) -> list[dict[str, Any]]:
    shown = source.patches[["split", "labels"]].explode("labels")
    table = shown.groupby(["labels", "split"]).size()
    rows = []
    for each in source.manifest.labels:
        counts = [int(table.get((each.name, split), 0)) for split in splits]
        rows.append({"name": each.name, "counts": counts, "total": sum(counts)})
    return rows


def _label_noise(source: Source) -> list[str]:
    recipe = source.recipe
    if recipe.synthetic is not None:
        return ["Scenes and land cover were made together, so the labels are exact; nothing learned from them holds for real images."]
    lines = [*_LABEL_NOISE.get(recipe.labels.source.removesuffix("-raster"), ())]
    most = recipe.labels.max_unlabeled_fraction
    lines.append(f"A patch carries every class that is in it, however small; up to {most:.0%} of it may be without one.")
    share = float(source.patches["unlabeled_fraction"].mean())
    return [*lines, f"On average {share:.1%} of a patch is without a class."]


def _versions(source: Source) -> list[tuple[str, str]]:
    dataset = source.dataset
    scenes = [item for item in dataset.inputs if item.kind == "scene"]
    baselines = sorted({item.version for item in scenes if item.version})
    made_by = sorted({item.made_by for item in scenes if item.made_by})
    layers = sorted({item.version for item in dataset.inputs if item.kind == "labels" and item.version})
    named = [
        ("Sentinel-2 processing baseline", ", ".join(baselines)),
        ("Correction", ", ".join(made_by)),
        ("Land cover", ", ".join(layers)),
    ]
    software = [(name, dataset.software[name]) for name in _SOFTWARE_SHOWN if name in dataset.software]
    return [*((name, version) for name, version in named if version), *software, ("Recipe (SHA-256)", dataset.recipe_sha256)]


def _limits(source: Source) -> list[str]:
    patches = source.patches
    cloudy = int(patches["contains_cloud_or_shadow"].sum())
    snowy = int(patches["contains_seasonal_snow"].sum())
    tiles, seasons = sorted(set(patches["tile_id"])), sorted(set(patches["season"]))
    lines = [
        f"It covers {len(tiles)} Sentinel-2 tile{'s' if len(tiles) != 1 else ''} and {', '.join(seasons)}; elsewhere and at other times "
        "scores may differ.",
        f"{cloudy:,} kept patches contain cloud or cloud shadow and {snowy:,} snow, as the scene classification has it.",
    ]
    if source.sensors == (SENTINEL1.name,):
        return [lines[0], *_limits_of_radar(source), *_limits_of_texts(source)]
    gaps = patches["s1_time_gap_h"].dropna().abs() if SENTINEL1.name in source.sensors else patches["s1_time_gap_h"].iloc[:0]
    if len(gaps):
        lines.append(f"Sentinel-1 and Sentinel-2 of a patch were taken up to {gaps.max():.1f} hours apart.")
    if not len(gaps) or len(gaps) < len(patches):
        lines.append(f"{len(patches) - len(gaps):,} patches have no Sentinel-1.")
    return [*lines, *_limits_of_texts(source)]


def _limits_of_radar(source: Source) -> list[str]:
    """Of a dataset of Sentinel-1 alone, whose patches were cut and judged by Sentinel-2."""
    lines = [
        "It holds no pixel of Sentinel-2, whose scenes say where patches lie and which are kept; ids, dates and shares of cloud and "
        "snow in the tables are of those scenes.",
    ]
    gaps = source.patches["s1_time_gap_h"].abs()
    lines.append(f"Sentinel-1 was taken up to {gaps.max():.1f} hours from the date in the patch table; `s1_product` names its scene.")
    of_key = source.patches["split"].groupby(np.array(source.keys[SENTINEL1.name], object))
    if repeated := len(source.patches) - of_key.ngroups:
        verb = "patch repeats" if repeated == 1 else "patches repeat"
        lines.append(f"{repeated:,} {verb} the Sentinel-1 pixels of another, as two dates of Sentinel-2 shared one scene.")
    if across := int((of_key.nunique() > 1).sum()):
        verb = "picture lies" if across == 1 else "pictures lie"
        lines.append(f"{across:,} Sentinel-1 {verb} in several splits, so scores there flatter a model.")
    return lines


def _limits_of_texts(source: Source) -> list[str]:
    if source.texts is None or source.recipe.captions.engine != "llm":
        return []
    return ["Captions were written by a language model and checked against the facts; wording may be odd where facts are right."]
