"""What the pages show of an audit: curves over distance, shares, and findings with examples."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsdata.catalog import plots
from rsdata.catalog.map_data import Mark
from rsdata.records import AuditFinding, Autocorrelation, ShareBalance, SplitAudit, SplitPair

Line = tuple[str, Sequence[tuple[float, float]]]  # colour, and the points as kilometres and value

_KM_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_MOST_CLASS_CURVES = 6
_CURVE_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_KINDS = {
    "shared_place": "The same place in two splits",
    "overlap": "Overlapping patches in two splits",
    "duplicate": "Duplicate rows",
    "mismatch": "Id and footprint do not match",
    "flipped": "Swapped coordinates",
}
_UNITS = {"shared_place": "place", "overlap": "pair of places", "duplicate": "row", "mismatch": "row", "flipped": "row"}


def audit_values(audit: SplitAudit, colors: Mapping[str, str]) -> dict[str, Any]:
    """What the templates need of an audit.

    Args:
        colors: split to #rrggbb.
    """
    splits = list(audit.counts)
    return {
        "gap_charts": [_gap_chart(pair, colors) for pair in audit.pairs if pair.gaps_a is not None],
        "autocorrelation_charts": _autocorrelation_charts(audit.autocorrelation) if audit.autocorrelation is not None else [],
        "balance": [_balance_rows(each, splits) for each in audit.balance],
        "findings": [_finding(each) for each in audit.findings or []],
        "against_findings": [_finding(each) for each in audit.against.findings] if audit.against is not None else [],
    }


def marks(audit: SplitAudit) -> list[Mark]:
    """Examples of findings as places to ring on a map."""
    return [
        {"lon": example.lon, "lat": example.lat, "text": f"{_KINDS[each.kind]}: {', '.join(example.patch_ids[:2])}"}
        for each in audit.findings or []
        for example in each.examples
        if example.lon is not None
    ]


# --- curves -----------------------------------------------------------------------------------------------


def _chart(title: str, lines: Mapping[str, Line], level: tuple[float, str] | None = None) -> plots.Chart:
    """Lines over distance in kilometres, whose axis shrinks what is far (log(1 + km)); values from below 0 to 1 at least."""
    frame = plots.Frame.around(376.0, 194.0, left=46.0, top=14.0, right=18.0, bottom=42.0)
    points = [point for _, run in lines.values() for point in run]
    far_km = max([km for km, _ in points] + [1.0])
    low = min([value for _, value in points] + [0.0])
    steps = plots.ticks(low, 1.0, 5, outward=True)
    low, high = steps[0], max(1.0, steps[-1])

    def x_of(km: float) -> float:
        return float(np.log1p(km) / np.log1p(far_km)) * frame.plot_width

    def y_of(value: float) -> float:
        return frame.plot_height - (value - low) / (high - low) * frame.plot_height

    curves = [
        plots.Curve(name, color, [" ".join(f"{x_of(km):.1f},{y_of(value):.1f}" for km, value in run)] if len(run) > 1 else [], [])
        for name, (color, run) in lines.items()
    ]
    x_ticks: list[plots.Tick] = []
    for km in _KM_TICKS:
        if km <= far_km and (not x_ticks or x_of(km) - x_ticks[-1].px >= 26):
            x_ticks.append(plots.Tick(x_of(km), f"{km:g}"))
    said = "; ".join(
        f"{name} from {run[0][1]:.2f} at {run[0][0]:.1f} km to {run[-1][1]:.2f} at {run[-1][0]:.1f} km"
        for name, (_, run) in lines.items()
        if run
    )
    return plots.Chart(
        title=title,
        frame=frame,
        curves=curves,
        x_ticks=x_ticks,
        y_ticks=[plots.Tick(y_of(step), f"{step:g}") for step in steps],
        level=None if level is None else plots.Tick(y_of(level[0]), level[1]),
        summary=f"{title}: {said or 'no values'}.",
    )


def _gap_chart(pair: SplitPair, colors: Mapping[str, str]) -> plots.Chart:
    lines = {}
    for name, other, gaps in ((pair.a, pair.b, pair.gaps_a), (pair.b, pair.a, pair.gaps_b)):
        if gaps is not None:
            shares = np.linspace(0, 1, len(gaps.quantiles_m)).tolist()
            run = [(gap_m / 1000, share) for gap_m, share in zip(gaps.quantiles_m, shares, strict=True)]
            lines[f"{name} to {other}"] = (colors[name], run)
    return _chart(f"{pair.a} and {pair.b}", lines)


def _autocorrelation_charts(found: Autocorrelation) -> list[plots.Chart]:
    """The mean over classes, and the classes whose likeness reaches farthest and least."""
    if not found.bins:
        return []
    mean = [(each.distance_m / 1000, each.mean) for each in found.bins]
    same = [(each.distance_m / 1000, each.same_label) for each in found.bins]
    middle = found.bins[len(found.bins) // 2].classes
    ranked = sorted(middle, key=lambda name: (-middle[name], name))
    half = _MOST_CLASS_CURVES // 2
    chosen = ranked if len(ranked) <= _MOST_CLASS_CURVES else ranked[:half] + ranked[-half:]
    classes = {
        name: (color, [(each.distance_m / 1000, each.classes[name]) for each in found.bins])
        for name, color in zip(chosen, itertools.cycle(_CURVE_COLORS), strict=False)
    }
    return [
        _chart("Mean over classes (Moran's I)", {"mean": ("#0072b2", mean)}, (found.threshold, f"threshold {found.threshold:g}")),
        _chart("Pairs that have a label in common", {"share of pairs": ("#009e73", same)}, (found.chance_same_label, "chance")),
        _chart("Classes that reach farthest and least (Moran's I)" if chosen is not ranked else "Classes (Moran's I)", classes),
    ]


# --- tables -----------------------------------------------------------------------------------------------


def _balance_rows(balance: ShareBalance, splits: Sequence[str]) -> dict[str, Any]:
    """Shares of one kind: a row per name, the least even first; ``most`` is the largest share, to scale bars by."""
    held = [name for name in splits if name in balance.shares]
    names = list(next(iter(balance.shares.values()), {}))
    rows: list[dict[str, Any]] = []
    for name in names:
        shares = {split: balance.shares[split][name] for split in held}
        low, high = min(shares.values()), max(shares.values())
        rows.append({"name": name, "shares": shares, "ratio": high / low if low else None, "absent": not low and high > 0})
    rows.sort(key=lambda row: (not row["absent"], -(row["ratio"] or 0), row["name"]))
    most = max([share for shares in balance.shares.values() for share in shares.values()] + [1e-9])
    return {"balance": balance, "splits": held, "rows": rows, "most": most}


def _finding(finding: AuditFinding) -> dict[str, Any]:
    unit = _UNITS[finding.kind]
    units = {"pair of places": "pairs of places"}.get(unit, unit + "s")
    return {
        "kind": finding.kind,
        "title": _KINDS[finding.kind] + (f" ({' and '.join(finding.splits)})" if finding.splits else ""),
        "count": f"{finding.count:,} {unit if finding.count == 1 else units}",
        "examples": finding.examples,
        "left_out": finding.count - len(finding.examples),
    }
