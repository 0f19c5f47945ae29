"""How evenly classes, countries and seasons are spread over the splits."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from rsdata.errors import SplitError
from rsdata.records import SEASON_OF_MONTH, SEASONS, ShareBalance


@dataclass(frozen=True)
class Labels:
    """Which patch shows which class, once each."""

    names: list[str]  # sorted
    patch: np.ndarray  # (k,) row of the table
    code: np.ndarray  # (k,) index in names


def labels_of(table: pd.DataFrame) -> Labels | None:
    """The classes of every patch, from lists or arrays of names in ``labels``; None without that column.

    Raises: SplitError if a value is no list of names.
    """
    if "labels" not in table:
        return None
    values = table["labels"] if isinstance(table["labels"].dtype, pd.ArrowDtype) else table["labels"].to_numpy(object)
    try:
        lists = pa.array(values, type=pa.list_(pa.string()), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SplitError(f"`labels` holds something else than lists of class names ({error}); give each patch a list") from error
    lists = pa.chunked_array([lists] if isinstance(lists, pa.Array) else lists.chunks, type=pa.list_(pa.string())).combine_chunks()
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    encoded = lists.flatten().dictionary_encode()
    codes, found = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=lambda index: found[index])
    rank = np.empty(len(found), np.int64)
    rank[order] = np.arange(len(found))
    known = codes >= 0
    shown = np.unique(np.repeat(np.arange(len(counts)), counts)[known] * max(1, len(found)) + rank[codes[known]])
    patch, code = np.divmod(shown, max(1, len(found)))
    return Labels([found[index] for index in order], patch, code)


def class_balance(labels: Labels, split: np.ndarray, names: Sequence[str], classes: Sequence[str] | None) -> ShareBalance:
    """Share of each split's patches that show a class; ``split`` is (n,) indices in ``names``, -1 for none."""
    wanted = labels.names if classes is None else list(classes)
    row = {name: index for index, name in enumerate(wanted)}
    column = np.array([row.get(name, -1) for name in labels.names], np.int64)[labels.code] if labels.names else labels.code
    return _balance("class", wanted, column, split[labels.patch], split, names)


def country_balance(table: pd.DataFrame, split: np.ndarray, names: Sequence[str]) -> ShareBalance | None:
    """Share of each split's patches in a country, from the column ``country``; None without it."""
    return _value_balance("country", table["country"], split, names) if "country" in table and table["country"].notna().any() else None


def season_balance(table: pd.DataFrame, moment: np.ndarray | None, split: np.ndarray, names: Sequence[str]) -> ShareBalance | None:
    """Share of each split's patches in a season: the column ``season``, or the month of the acquisition; None without both."""
    if "season" in table and table["season"].notna().any():
        return _value_balance("season", table["season"], split, names)
    if moment is None:
        return None
    codes, moments = pd.factorize(moment)
    seasons = np.array([SEASON_OF_MONTH[int(each[4:6]) - 1] for each in moments] + [None], object)
    return _value_balance("season", pd.Series(seasons[codes]), split, names)


def _value_balance(of: Literal["country", "season"], values: pd.Series, split: np.ndarray, names: Sequence[str]) -> ShareBalance:
    codes, found = pd.factorize(values.astype(object), sort=True)
    order = [name for name in SEASONS if name in set(found)] if of == "season" and set(found) <= set(SEASONS) else list(found)
    rank = np.array([order.index(name) for name in found] + [-1], np.int64)
    return _balance(of, [str(name) for name in order], rank[codes], split, split, names)


def _balance(
    of: Literal["class", "country", "season"],
    columns: Sequence[str],
    column: np.ndarray,
    split_of_item: np.ndarray,
    split: np.ndarray,
    names: Sequence[str],
) -> ShareBalance:
    sizes = np.bincount(split[split >= 0], minlength=len(names))
    counted = (column >= 0) & (split_of_item >= 0)
    cells = np.bincount(split_of_item[counted] * len(columns) + column[counted], minlength=len(names) * len(columns))
    counts = cells.reshape(len(names), len(columns))
    full = [index for index in range(len(names)) if sizes[index]]
    shares = {names[index]: {name: float(counts[index, at] / sizes[index]) for at, name in enumerate(columns)} for index in full}
    ratio, ratio_name = _largest_ratio(shares)
    distance, pair = _total_variation(counts, full)
    return ShareBalance(
        of=of,
        shares=shares,
        largest_ratio=ratio,
        largest_ratio_name=ratio_name,
        total_variation=distance,
        total_variation_pair=[names[index] for index in pair],
    )


def _largest_ratio(shares: dict[str, dict[str, float]]) -> tuple[float | None, str | None]:
    """Largest over smallest share of one class between splits, and that class; a class missing from a split comes first."""
    if len(shares) < 2:
        return None, None
    extremes = {
        name: (min(each[name] for each in shares.values()), max(each[name] for each in shares.values()))
        for name in next(iter(shares.values()))
    }
    extremes = {name: (low, high) for name, (low, high) in extremes.items() if high > 0}
    absent = {name: high for name, (low, high) in extremes.items() if low == 0}
    if absent:
        return None, max(absent, key=lambda name: absent[name])
    if not extremes:
        return None, None
    worst = max(extremes, key=lambda name: extremes[name][1] / extremes[name][0])
    return extremes[worst][1] / extremes[worst][0], worst


def _total_variation(counts: np.ndarray, full: Sequence[int]) -> tuple[float | None, tuple[int, ...]]:
    """Half the summed difference of two splits' distributions, and the two splits where it is largest."""
    spread = {index: counts[index] / counts[index].sum() for index in full if counts[index].sum()}
    distances = {(a, b): float(np.abs(spread[a] - spread[b]).sum() / 2) for a, b in itertools.combinations(spread, 2)}
    worst = max(distances, key=lambda pair: distances[pair], default=())
    return (distances[worst], worst) if worst else (None, ())
