"""The report's gallery: which patches are shown, and each of them as pictures with their key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from rsdata.catalog import pictures
from rsdata.catalog.colors import map_colors
from rsdata.catalog.pages import day
from rsdata.errors import CatalogError
from rsdata.records import SPLITS, LabelClass
from rsdata.sensors.reference_map import NO_POLYGON

MAX_SAMPLES = 120


@dataclass(frozen=True)
class Sample:
    """One patch as pictures; all of them cover the same ground."""

    patch_id: str
    rgb: np.ndarray | None  # (y, x, 3) uint8, stretched for display; None without Sentinel-2
    s1: np.ndarray | None  # (y, x) or (y, x, 3) uint8, backscatter
    reference_map: np.ndarray  # (y, x) uint16 codes
    false_color: np.ndarray | None = None  # (y, x, 3) uint8, infrared shown as red
    polarizations: Mapping[str, np.ndarray] = field(default_factory=dict)  # band to (y, x) uint8, where there is room for each alone


def choose_samples(patches: pd.DataFrame, per_split: int) -> list[str]:
    """Kept patches to show: of each split some that lie evenly over the table, and for each class that none of them shows
    the one that has most of it.

    Returns: patch ids, in the table's order within a split.
    """
    kept = patches[patches["kept"].astype(bool)].reset_index(drop=True)
    found = {str(name) for name in kept["split"].dropna()}
    rows: list[int] = []
    for split in [name for name in SPLITS if name in found] + sorted(found - set(SPLITS)):
        of_split = np.flatnonzero((kept["split"] == split).to_numpy())
        rows += of_split[np.unique(np.linspace(0, len(of_split) - 1, min(per_split, len(of_split))).astype(int))].tolist()
    shown = {name for row in rows for name in kept["labels"].iat[row]}
    best: dict[str, tuple[float, int]] = {}
    for row, (labels, shares) in enumerate(zip(kept["labels"], kept["label_fractions"], strict=True)):
        for name in labels:
            if name not in shown:
                best[name] = max(best.get(name, (-1.0, 0)), (shares.get(name, 0.0), -row))
    rows += [-row for _, row in best.values()]
    return [str(kept["patch_id"].iat[row]) for row in dict.fromkeys(rows)]


def cards(
    samples: Sequence[Sample],
    patches: pd.DataFrame,
    classes: Sequence[LabelClass],
    keys: Mapping[str, Mapping[str, Any]],
    captions: Mapping[str, str],
    code_names: Mapping[int, str],
    group_of: Mapping[str, str],
) -> list[dict[str, Any]]:
    """What the template needs of each sample.

    Args:
        keys: class to its number and colour.
        group_of: the split of each sample, or what is said where it has none.

    Raises: CatalogError if a sample is not in the table or its images are of another shape or type.
    """
    rows = patches[patches["patch_id"].isin([sample.patch_id for sample in samples])].drop_duplicates("patch_id").set_index("patch_id")
    made = []
    for sample in samples:
        _check(sample, rows.index)
        patch = rows.loc[sample.patch_id]
        codes, pixels = np.unique(sample.reference_map, return_counts=True)
        colors = map_colors(codes.tolist(), classes, {name: key["color"] for name, key in keys.items()})
        order = sorted(
            zip(codes.tolist(), (pixels / sample.reference_map.size).tolist(), strict=True), key=lambda each: (-each[1], each[0])
        )
        made.append(
            {
                "id": sample.patch_id,
                "day": day(patch["datetime"]),
                "country": patch["country"] if isinstance(patch["country"], str) else None,
                "season": patch["season"],
                "split": group_of[sample.patch_id],
                "labels": list(patch["labels"]),
                "caption": captions.get(sample.patch_id),
                "rgb": _picture(sample.rgb),
                "false_color": _picture(sample.false_color),
                "s1": _picture(sample.s1),
                "polarizations": {band: _picture(pixels) for band, pixels in sample.polarizations.items()},
                "map": pictures.code_png(pictures.thinned(sample.reference_map), colors),
                "codes": [
                    {"code": code, "name": code_names.get(code) or _code_name(code), "color": colors[code], "share": share}
                    for code, share in order
                ],
            }
        )
    return made


def _picture(pixels: np.ndarray | None) -> str | None:
    return None if pixels is None else pictures.jpeg(pictures.thinned(pixels))


def filter_choices(shown: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What the gallery can be filtered by: values that some card has."""
    return {
        "split": list(dict.fromkeys(card["split"] for card in shown)),
        "class": sorted({name for card in shown for name in card["labels"]}),
        "season": list(dict.fromkeys(card["season"] for card in shown)),
        "country": sorted({card["country"] for card in shown if card["country"]}),
    }


def _check(sample: Sample, known: pd.Index) -> None:
    if sample.patch_id not in known:
        raise CatalogError(
            f"the sample {sample.patch_id} is not in the patch table; show patches of this dataset", patch_id=sample.patch_id
        )
    if sample.rgb is not None:
        _check_image(sample.patch_id, "rgb", sample.rgb, "uint8", (3,))
    _check_image(sample.patch_id, "reference map", sample.reference_map, "uint16", (2,))
    if sample.s1 is not None:
        _check_image(sample.patch_id, "Sentinel-1 image", sample.s1, "uint8", (2, 3))
    if sample.false_color is not None:
        _check_image(sample.patch_id, "false-colour image", sample.false_color, "uint8", (3,))
    for band, pixels in sample.polarizations.items():
        _check_image(sample.patch_id, f"{band} image", pixels, "uint8", (2,))


def _check_image(patch_id: str, name: str, pixels: np.ndarray, dtype: str, dimensions: tuple[int, ...]) -> None:
    if pixels.dtype != dtype or pixels.ndim not in dimensions or not pixels.size or (pixels.ndim == 3 and pixels.shape[2] != 3):
        wanted = " or ".join({2: "(y, x)", 3: "(y, x, 3)"}[each] for each in dimensions)
        raise CatalogError(
            f"the {name} of sample {patch_id} is {pixels.dtype} with shape {pixels.shape}; expected {dtype} with shape {wanted}",
            patch_id=patch_id,
        )


def _code_name(code: int) -> str:
    return "no polygon" if code == NO_POLYGON else "no name"
