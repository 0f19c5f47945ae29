"""The report's words on quality: what was dropped and why, what the pixels of the rest are like, and which scenes there are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rsdata.catalog import pictures
from rsdata.catalog.pages import patches as patches_in_words
from rsdata.catalog.pages import percent
from rsdata.records import DROP_REASONS, Coregistration

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


def reason_rows(dropped: pd.DataFrame, examples: Mapping[str, Sequence[tuple[str, np.ndarray]]]) -> list[dict[str, Any]]:
    counts = dropped["drop_reason"].where(dropped["drop_reason"].notna(), "").astype(object).value_counts()
    order = [*DROP_REASONS, *sorted(set(counts.index) - set(DROP_REASONS))]
    return [
        {
            "reason": reason or "not stated",
            "count": int(counts[reason]),
            "share": counts[reason] / len(dropped),
            "words": _REASONS.get(reason, "The table gives no further explanation."),
            "examples": [(patch_id, pictures.jpeg(pictures.thinned(picture))) for patch_id, picture in examples.get(reason, ())],
        }
        for reason in order
        if reason in counts.index
    ]


def scene_rows(patches: pd.DataFrame, coregistration: Sequence[Coregistration]) -> list[dict[str, Any]]:
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


def quality_findings(patches: pd.DataFrame, measures: pd.DataFrame) -> list[str]:
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
            findings.append(f"{patches_in_words(count, 'kept')} {verb} pixels {words}, at most {percent(known.max())} of a patch.")
        else:
            findings.append(f"No pixel of the kept patches is {words.replace('some', 'any')}.")
        if 0 < len(known) < len(kept):
            findings.append(f"For {patches_in_words(len(kept) - len(known), 'kept')} no masks were there to tell {kind} pixels.")
    for kind, words in (("pixels", "have the same pixels as another patch"), ("ground", "show the same ground in the same data take")):
        repeats = measures[measures["duplicate_kind"] == kind]
        if len(repeats):
            still = int(repeats["patch_id"].isin(kept["patch_id"]).sum())
            findings.append(f"{patches_in_words(len(repeats))} {words}; {still:,} of them {'is' if still == 1 else 'are'} kept.")
    if measures["duplicate_kind"].isna().all():
        findings.append("No patch repeats another's picture.")
    return [finding for finding in findings if finding]


def cover_rows(kept: pd.DataFrame) -> list[dict[str, Any]]:
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
