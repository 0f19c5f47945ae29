"""The page of a split audit: a map to zoom into, curves, shares and findings, all inside one HTML file.

The map's squares travel as a few bytes each and are drawn by a short script on a canvas, so that half a million
patches make a page of a few megabytes. The page's policy allows that one script, by its digest, and no network.
"""

import base64
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from rsdata.catalog import plots
from rsdata.catalog.report import audit_sentences, distance, number, percent, split_colors
from rsdata.records import AuditFinding, Autocorrelation, ShareBalance, SplitAudit, SplitPair

Line = tuple[str, Sequence[tuple[float, float]]]  # colour, and the points as kilometres and value

MOST_SQUARES = 1_000_000  # of the map; more are merged
_RADIUS_M = 6_378_137.0  # of the sphere of Web Mercator
_BLOCK_M = 131_072  # squares are told by 16-bit steps of 2 m inside a block
_STEP_M = 2
_TURN_STEP_DEG = 0.05
_MOST_SIDES = 255
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


def write_audit_page(path: Path, audit: SplitAudit, where: pd.DataFrame, title: str) -> None:
    """Write an audit as one HTML page that opens from disk.

    Args:
        path: the page; its folder exists.
        audit: what was measured.
        where: one row per place and split: ``lon``, ``lat``, ``side_m``, ``turn_deg``, ``split``, ``patches``.
        title: the table's name.
    """
    splits = list(audit.counts)
    colors = split_colors(splits)
    script = resources.files("rsdata.catalog").joinpath("audit.js").read_text(encoding="utf-8")
    data, merged = _map_data(where, splits, colors, audit)
    page = _template().render(
        title=title,
        audit=audit,
        total=sum(audit.counts.values()),
        splits=splits,
        colors=colors,
        sentences=audit_sentences(audit),
        merged=merged,
        map_data=data,
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        gap_charts=[_gap_chart(pair, colors) for pair in audit.pairs if pair.gaps_a is not None],
        autocorrelation=audit.autocorrelation,
        autocorrelation_charts=_autocorrelation_charts(audit.autocorrelation) if audit.autocorrelation is not None else [],
        balance=[_balance_rows(each, splits) for each in audit.balance],
        findings=[_finding(each) for each in audit.findings or []],
        against=audit.against,
        against_findings=[_finding(each) for each in audit.against.findings] if audit.against is not None else [],
    )
    path.write_text(page, encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "percent": percent, "distance": distance, "metres": _metres}
    return environment.from_string(resources.files("rsdata.catalog").joinpath("audit.html.j2").read_text(encoding="utf-8"))


def _metres(distance_m: float) -> str:
    """A stated distance, not rounded to kilometres."""
    return f"{distance_m:,g}\u00a0m" if distance_m < 1e6 else f"{distance_m:,.0f}\u00a0m"


# --- map --------------------------------------------------------------------------------------------------


def _map_data(where: pd.DataFrame, splits: Sequence[str], colors: Mapping[str, str], audit: SplitAudit) -> tuple[str, int]:
    """What the script draws, as JSON that may stand in a page, and how many patch sides a merged square spans (1: none are)."""
    x_m, y_m = _mercator(where["lon"].to_numpy(), where["lat"].to_numpy())
    code = where["split"].map({name: index for index, name in enumerate(splits)}).to_numpy(np.int64)
    side_m, turn_deg = where["side_m"].to_numpy(float), where["turn_deg"].to_numpy(float)
    merged = 1
    while len(x_m) > MOST_SQUARES:
        merged *= 2
        cell_m = float(np.median(where["side_m"])) * merged * 1.5  # ground metres grow with latitude
        cells = pd.DataFrame({"x": np.floor(x_m / cell_m), "y": np.floor(y_m / cell_m), "split": code})
        first = cells.drop_duplicates().index.to_numpy()
        x_m, y_m, code, turn_deg = x_m[first], y_m[first], code[first], turn_deg[first]
        side_m = side_m[first] * 2
    block_x, block_y = np.floor(x_m / _BLOCK_M).astype(np.int64), np.floor(y_m / _BLOCK_M).astype(np.int64)
    order = np.lexsort((x_m, y_m, code, block_x, block_y))
    block_x, block_y = block_x[order], block_y[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(block_x) != 0) | (np.diff(block_y) != 0)]) if len(order) else np.empty(0, np.int64)
    sides, side = _sides(side_m[order])
    marks = [
        {"lon": example.lon, "lat": example.lat, "text": f"{_KINDS[each.kind]}: {', '.join(example.patch_ids[:2])}"}
        for each in audit.findings or []
        for example in each.examples
        if example.lon is not None
    ]
    content = {
        "block": _BLOCK_M,
        "step": _STEP_M,
        "turnStep": _TURN_STEP_DEG,
        "splits": [{"name": name, "color": colors[name]} for name in splits],
        "sides": sides,
        "blocks": [[int(block_x[start]), int(block_y[start]), int(start)] for start in starts],
        "count": len(order),
        "x": _packed((x_m[order] - block_x * _BLOCK_M) / _STEP_M, "<u2"),
        "y": _packed((y_m[order] - block_y * _BLOCK_M) / _STEP_M, "<u2"),
        "split": _packed(code[order], "u1"),
        "side": _packed(side, "u1"),
        "turn": _packed(np.clip(turn_deg[order] / _TURN_STEP_DEG, -127, 127), "i1"),
        "marks": marks,
    }
    # Inside a script element only "<" could end it.
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"), merged


def _mercator(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _RADIUS_M * np.radians(lon), _RADIUS_M * np.arcsinh(np.tan(np.radians(np.clip(lat, -85, 85))))


def _sides(side_m: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Distinct sides and the number of each square's; where there are too many they are rounded to a few."""
    rounded = np.round(side_m, 1)
    if len(np.unique(rounded)) > _MOST_SIDES:
        levels = np.quantile(rounded, np.linspace(0, 1, _MOST_SIDES))
        rounded = levels[np.clip(np.searchsorted(levels, rounded), 0, _MOST_SIDES - 1)]
    distinct, number_of = np.unique(rounded, return_inverse=True)
    return [float(each) for each in distinct], number_of


def _packed(values: np.ndarray, dtype: str) -> str:
    limits = np.iinfo(dtype)
    return base64.b64encode(np.clip(np.round(values), limits.min, limits.max).astype(dtype).tobytes()).decode("ascii")


# --- curves -----------------------------------------------------------------------------------------------


def _chart(title: str, lines: Mapping[str, Line], level: tuple[float, str] | None = None) -> plots.Chart:
    """Lines over distance in kilometres, whose axis shrinks what is far (log(1 + km)); values from below 0 to 1 at least."""
    width, height, left, top, right, bottom = 440.0, 250.0, 46.0, 14.0, 18.0, 42.0
    plot_width, plot_height = width - left - right, height - top - bottom
    points = [point for _, run in lines.values() for point in run]
    far_km = max([km for km, _ in points] + [1.0])
    low = min([value for _, value in points] + [0.0])
    steps = plots.ticks(low, 1.0, 5, outward=True)
    low, high = steps[0], max(1.0, steps[-1])

    def x_of(km: float) -> float:
        return float(np.log1p(km) / np.log1p(far_km)) * plot_width

    def y_of(value: float) -> float:
        return plot_height - (value - low) / (high - low) * plot_height

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
        width=width,
        height=height,
        left=left,
        top=top,
        plot_width=plot_width,
        plot_height=plot_height,
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
