"""How much a split leaks and how well it is balanced, from patch ids or footprints alone.

``audit`` is what a build keeps beside its table: gaps, touching patches, class shares. ``examine`` looks at
everything: patches within stated distances, the balance of countries and seasons, how far the likeness of labels
reaches, planted or accidental leaks with examples, and what the table shares with another.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsdata.errors import SplitError
from rsdata.records import SPLITS, AuditAgainst, ShareBalance, SplitAudit
from rsdata.splits import audit_findings as findings
from rsdata.splits.audit_autocorrelation import THRESHOLD, autocorrelation
from rsdata.splits.audit_distances import Nearness, measure
from rsdata.splits.audit_places import Located, Places, gather, locate
from rsdata.splits.audit_shares import class_balance, country_balance, labels_of, season_balance

DISTANCES_M = (0.0, 1200.0, 1750.0, 5000.0)
WHOLE = "all"  # the split of another table that has none


@dataclass(frozen=True)
class _Divided:
    """A table's rows that have a split."""

    table: pd.DataFrame
    located: Located
    names: list[str]
    split: np.ndarray  # (n,) index in names


def audit(table: pd.DataFrame, classes: Sequence[str] | None = None) -> SplitAudit:
    """Measure leakage between the splits of a patch table, and how evenly they share the classes.

    For each pair of splits: ``min_gap_m`` is the smallest distance between a footprint of one and a footprint
    of the other; a patch counts as ``touching`` if its footprint shares an edge, a corner or any area with one
    of the other split (so the eight neighbours on its grid, the same cell on another date, and patches of an
    overlapping tile); ``shared_places`` are the distinct grid cells whose ground lies in both splits, wholly
    (the same cell, counted once) or in part (cells of overlapping tiles, each counted).

    Args:
        table: one row per patch with ``split`` and what says where it lies (see ``audit_places.locate``), and ``labels``
            (lists of class names) if shares are wanted. Rows without a split are left out.
        classes: the class names to compare; every name that occurs if absent.

    Returns: the audit. Splits are train, validation and test, empty ones too, or whatever other names the
        column holds. ``largest_ratio`` is the largest share of a class in one split over its smallest in another;
        it is None if ``largest_ratio_class`` is missing from a split altogether, and both are None without labels.
    Raises: SplitError if a column is missing; CatalogError or GridError if an id does not name a patch.
    """
    divided = _divide(table)
    places, (place,) = gather(divided.located)
    labels = labels_of(divided.table)
    balance = class_balance(labels, divided.split, divided.names, classes) if labels is not None else None
    return _record(divided, places, _pairs(places, divided, place, (0.0,)), balance)


def examine(
    table: pd.DataFrame,
    classes: Sequence[str] | None = None,
    *,
    distances_m: Sequence[float] = DISTANCES_M,
    threshold: float = THRESHOLD,
    against: pd.DataFrame | None = None,
    against_name: str = "the other table",
) -> tuple[SplitAudit, pd.DataFrame]:
    """Measure everything that ``audit`` does, and look for leaks, duplicates and contradictions.

    Args:
        table: as for ``audit``; also ``country``, ``season`` or ``datetime`` where their shares are wanted.
        classes: as for ``audit``.
        distances_m: count patches and pairs this near, 0 or more; 0 is always counted.
        threshold: of Moran's I, below which labels are called unlike.
        against: another dataset's table; without a column ``split`` it is one split called "all".
        against_name: what the audit calls it.

    Returns: the audit, and where the patches lie, for a map: one row per place and split with ``lon``, ``lat`` of the
        centre, degrees; ``side_m``; ``turn_deg``, how far the square's upward side points east of north; ``split``; ``patches``.
    Raises: as ``audit``, and SplitError if a distance is negative.
    """
    if any(not np.isfinite(each) or each < 0 for each in distances_m):
        stated = ", ".join(f"{each:g}" for each in distances_m)
        raise SplitError(f"the distances asked for are {stated} m; expected 0 or more", distances_m=list(distances_m))
    distances = tuple(sorted({0.0, *map(float, distances_m)}))
    divided = _divide(table)
    places, (place,) = gather(divided.located)
    labels = labels_of(divided.table)
    own = findings.Rows(divided.located, place, divided.split, divided.names)
    near = _pairs(places, divided, place, distances)
    found = findings.leaks(near, places, own, own) + findings.duplicates(own, places) + findings.contradictions(own, places)
    audit = _record(divided, places, near, class_balance(labels, divided.split, divided.names, classes) if labels is not None else None)
    more = (
        country_balance(divided.table, divided.split, divided.names),
        season_balance(divided.table, divided.located.moment, divided.split, divided.names),
    )
    audit = audit.model_copy(
        update={
            "balance": [*audit.balance, *(each for each in more if each is not None)],
            "autocorrelation": autocorrelation(places, place, labels, threshold) if labels is not None else None,
            "findings": findings.in_order(found),
            "against": None if against is None else _against(divided, against, against_name, distances),
        }
    )
    return audit, _for_map(divided, places, place)


def _for_map(divided: _Divided, places: Places, place: np.ndarray) -> pd.DataFrame:
    """Where the patches lie, in an order that does not depend on the table's; see ``examine``."""
    placed = place >= 0
    seen = pd.DataFrame({"place": place[placed], "split": divided.split[placed]}).value_counts(sort=False).reset_index()
    at = seen["place"].to_numpy()
    middle_deg = np.where(places.zone[at] > 0, 6.0 * places.zone[at] - 183, places.lon[at])
    away_deg = (places.lon[at] - middle_deg + 180) % 360 - 180
    side_m = np.where(places.zone[at] > 0, places.side_m[at], places.radius_m[at] * np.sqrt(2))
    turn_deg = np.degrees(np.arctan(np.tan(np.radians(away_deg)) * np.sin(np.radians(places.lat[at]))))
    columns = {"lon": places.lon[at], "lat": places.lat[at], "side_m": side_m, "turn_deg": turn_deg}
    return pd.DataFrame({**columns, "split": np.array(divided.names, object)[seen["split"]], "patches": seen["count"]})


def _divide(table: pd.DataFrame, what: str = "the table", *, whole: bool = False) -> _Divided:
    if "split" not in table:
        if not whole:
            columns = ", ".join(map(str, table.columns))
            raise SplitError(f"{what} has no column `split`, only {columns}; name or assign one first", missing=["split"])
        table = table.assign(split=WHOLE)
    table = table[table["split"].notna().to_numpy()].reset_index(drop=True)
    codes, found = pd.factorize(table["split"].astype(object))
    texts = [str(name) for name in found]
    names: list[str] = list(SPLITS) if set(texts) <= set(SPLITS) else sorted(set(texts), key=lambda name: (name not in SPLITS, name))
    split = np.array([names.index(name) for name in texts], np.int64)[codes] if len(codes) else codes.astype(np.int64)
    return _Divided(table, locate(table, what), names, split)


def _pairs(places: Places, divided: _Divided, place: np.ndarray, distances_m: Sequence[float]) -> list[Nearness]:
    patches = _patches(divided, place, len(places))
    return [
        measure(places, a, b, patches[i], patches[j], distances_m) for (i, a), (j, b) in itertools.combinations(enumerate(divided.names), 2)
    ]


def _patches(divided: _Divided, place: np.ndarray, count: int) -> list[np.ndarray]:
    """Patches per place, (n,) for every split."""
    return [np.bincount(place[(divided.split == index) & (place >= 0)], minlength=count) for index in range(len(divided.names))]


def _record(divided: _Divided, places: Places, near: Sequence[Nearness], classes: ShareBalance | None) -> SplitAudit:
    sizes = np.bincount(divided.split, minlength=len(divided.names)).tolist()
    return SplitAudit(
        counts=dict(zip(divided.names, sizes, strict=True)),
        pairs=[each.pair for each in near],
        class_shares=classes.shares if classes is not None else {},
        largest_ratio=classes.largest_ratio if classes is not None else None,
        largest_ratio_class=classes.largest_ratio_name if classes is not None else None,
        places=len(places),
        balance=[] if classes is None else [classes],
    )


def _against(divided: _Divided, table: pd.DataFrame, name: str, distances_m: Sequence[float]) -> AuditAgainst:
    other = _divide(table, name, whole=True)
    places, (place, other_place) = gather(divided.located, other.located)
    patches, other_patches = _patches(divided, place, len(places)), _patches(other, other_place, len(places))
    near = [
        measure(places, a, b, patches[i], other_patches[j], distances_m)
        for (i, a), (j, b) in itertools.product(enumerate(divided.names), enumerate(other.names))
    ]
    own_rows = findings.Rows(divided.located, place, divided.split, divided.names)
    other_rows = findings.Rows(other.located, other_place, other.split, other.names)
    counts = np.bincount(other.split, minlength=len(other.names)).tolist()
    return AuditAgainst(
        name=name,
        counts=dict(zip(other.names, counts, strict=True)),
        pairs=[each.pair for each in near],
        findings=findings.in_order(findings.leaks(near, places, own_rows, other_rows)),
    )
