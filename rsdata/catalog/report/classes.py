"""The report's tables of classes, places and dates: who has how much of what, counted from the patch table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rsdata.catalog.colors import class_colors, ink_on
from rsdata.catalog.pages import NO_COLOR
from rsdata.records import LabelClass

MOST_IN_MATRIX = 44  # classes of the co-occurrence matrix; the commonest are shown
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_MONTHS = 60  # of the chart of dates; a longer time is shown by years


def class_names(kept: pd.DataFrame, classes: Sequence[LabelClass]) -> list[str]:
    """The label table's classes in its order, then names that only the patches have."""
    names = [each.name for each in classes]
    return names + sorted({name for labels in kept["labels"] for name in labels} - set(names))


def class_keys(names: Sequence[str], classes: Sequence[LabelClass]) -> dict[str, dict[str, Any]]:
    """How each class is drawn: its number from 1, its colour, and the ink that can be read on it."""
    colors = class_colors(classes)
    return {
        name: {"name": name, "number": index, "color": colors.get(name, NO_COLOR), "ink": ink_on(colors.get(name, NO_COLOR))}
        for index, name in enumerate(names, start=1)
    }


def class_rows(kept: pd.DataFrame, names: Sequence[str], splits: Sequence[str]) -> list[dict[str, Any]]:
    """Patches that show each class, per split, with their share of the split, and how its share of a patch is distributed.

    ``spread`` holds the 5, 25, 50, 75 and 95 % quantiles of the share over the patches that show it; none without shares.
    """
    totals = Counter(name for labels in kept["labels"] for name in set(labels))
    seen = Counter((split, name) for split, labels in zip(kept["split"], kept["labels"], strict=True) for name in set(labels))
    sizes = Counter(kept["split"].dropna())
    area: dict[str, list[float]] = {name: [] for name in names}
    for shares in kept["label_fractions"]:
        for name, share in shares.items():
            if share > 0:
                area.setdefault(name, []).append(share)
    return [
        {
            "name": name,
            "total": totals[name],
            "area": sum(area[name]) / len(kept) if len(kept) else 0.0,
            "mean": float(np.mean(area[name])) if area[name] else None,
            "spread": [float(value) for value in np.quantile(area[name], _QUANTILES)] if area[name] else None,
            "counts": {split: seen[split, name] for split in splits},
            "shares": {split: seen[split, name] / sizes[split] if sizes[split] else 0.0 for split in splits},
        }
        for name in names
    ]


def co_occurrence(kept: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """How often two classes are shown by one patch.

    Returns: ``names``, the commonest if there are too many; ``left_out``; ``rows``, a row per class with ``total`` and, per
        class of the columns, ``count`` of the patches that show both and their ``share`` of those that show the row's class.
    """
    place = {name: index for index, name in enumerate(names)}
    shows = np.zeros((len(kept), len(names)), np.float32)
    for row, labels in enumerate(kept["labels"]):
        shows[row, [place[name] for name in labels]] = 1
    both = np.rint(shows.T.astype(np.float64) @ shows).astype(int) if len(kept) else np.zeros((len(names),) * 2, int)
    chosen = sorted(sorted(range(len(names)), key=lambda index: (-both[index, index], index))[:MOST_IN_MATRIX])
    chosen = [index for index in chosen if both[index, index]]
    return {
        "names": [names[index] for index in chosen],
        "left_out": int((both.diagonal() > 0).sum()) - len(chosen),
        "rows": [
            {
                "name": names[index],
                "total": int(both[index, index]),
                "cells": [
                    {"name": names[other], "count": int(both[index, other]), "share": both[index, other] / both[index, index]}
                    for other in chosen
                ],
            }
            for index in chosen
        ],
    }


def labels_per_patch(kept: pd.DataFrame) -> list[tuple[int, int]]:
    """How many kept patches show how many classes."""
    return sorted(Counter(len(set(labels)) for labels in kept["labels"]).items())


def breakdown(kept: pd.DataFrame, column: str, splits: Sequence[str], order: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Kept patches per value of a column and split; the fullest first unless an order is given."""
    values = kept[column].where(kept[column].notna(), "not known").astype(object)
    totals = values.value_counts()
    names = [name for name in order if name in totals.index]
    names += sorted((name for name in totals.index if name not in names), key=lambda name: (-totals[name], str(name)))
    seen = Counter(zip(values, kept["split"], strict=True))
    return [{"name": name, "total": int(totals[name]), "counts": {split: seen[name, split] for split in splits}} for name in names]


def by_month(kept: pd.DataFrame, groups: Mapping[str | None, str]) -> list[tuple[str, dict[str, int]]]:
    """Kept patches per month (or year, over a long time) and split, without gaps between the first and the last.

    Args:
        groups: split, or none, to the name it is shown by.
    """
    if not len(kept):
        return []
    days = kept["datetime"].dt.tz_convert("UTC").dt.tz_localize(None)
    freq = "M" if (days.max().year - days.min().year) * 12 + days.max().month - days.min().month < _MOST_MONTHS else "Y"
    periods = days.dt.to_period(freq)
    seen = Counter(zip(periods, kept["split"], strict=True))
    every = pd.period_range(periods.min(), periods.max(), freq=freq)
    return [(str(each), {name: seen[each, split] for split, name in groups.items()}) for each in every]
