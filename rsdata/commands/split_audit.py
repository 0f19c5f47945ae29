"""What `rsdata split audit` prints: short tables, findings with their first examples, and the conditions met."""

from collections.abc import Sequence
from pathlib import Path

import typer

from rsdata import steps
from rsdata.commands.console import err, new_table, out, print_counts, warn_of_leak

_EXAMPLES = 2  # printed per finding; JSON and the page hold more


def audit_splits(
    table: Path, out_path: Path | None, against: Path | None, distances_m: Sequence[float] | None, fail_on: str, as_json: bool
) -> None:
    """Audit a table, print what was found, and exit 1 if a condition is met."""
    conditions = steps.parse_conditions(fail_on) if fail_on else []
    options = {} if distances_m is None else {"distances_m": distances_m}
    audit = steps.audit_table(table, against=against, out=out_path, **options)
    if as_json:
        out.print_json(audit.model_dump_json())
    else:
        _print(audit)
        if out_path is not None:
            out.print(f"The page is {out_path / 'index.html'}.", soft_wrap=True)
    met = steps.conditions_met(audit, conditions)
    for line in met:
        err.print(line, soft_wrap=True)
    if met:
        raise typer.Exit(1)


def _print(audit: steps.SplitAudit) -> None:
    warn_of_leak(audit.split)
    print_counts("patches per split", audit.counts)
    _print_pairs(audit.pairs)
    _print_balance(audit)
    likeness = audit.autocorrelation
    if likeness is not None and likeness.below_threshold_m is not None:
        out.print(
            f"Labels stay alike (Moran's I of {likeness.threshold:g} and more) up to {likeness.below_threshold_m / 1000:,.1f} km between "
            f"centres: a buffer of {likeness.buffer_m or 0:,.0f} m.",
            soft_wrap=True,
        )
    elif likeness is not None:
        out.print(f"Labels stay alike (Moran's I of {likeness.threshold:g} and more) as far as was measured.", soft_wrap=True)
    _print_findings(audit.findings or [])
    if audit.against is not None:
        print_counts(f"patches of {audit.against.name}", audit.against.counts)
        _print_pairs(audit.against.pairs)
        _print_findings(audit.against.findings)


def _print_pairs(pairs: Sequence[steps.SplitPair]) -> None:
    within = [near.distance_m for near in pairs[0].near if near.distance_m] if pairs else []
    headers = ["splits", "gap min", "5 %", "median (m)", "places in both", "overlap", "touch"]
    table = new_table(*headers, *(f"≤ {distance_m:,.0f} m" for distance_m in within))
    for pair in pairs:
        for name, other, gaps, overlapping, touching, side in (
            (pair.a, pair.b, pair.gaps_a, pair.overlapping_a, pair.touching_a, "patches_a"),
            (pair.b, pair.a, pair.gaps_b, pair.overlapping_b, pair.touching_b, "patches_b"),
        ):
            if gaps is None:
                table.add_row(f"{name} → {other}", "none")
                continue
            near = [f"{getattr(each, side):,}" for each in pair.near if each.distance_m]
            far = [f"{each:,.0f}" for each in (gaps.min_m, gaps.p5_m, gaps.median_m)]
            table.add_row(f"{name} → {other}", *far, f"{pair.shared_places:,}", f"{overlapping:,}", f"{touching:,}", *near)
    out.print(table)


def _print_balance(audit: steps.SplitAudit) -> None:
    if not audit.balance:
        return
    table = new_table("shares of", "largest ratio", "of", "total variation", "between")
    for each in audit.balance:
        absent = "missing from a split" if each.largest_ratio_name else "–"
        ratio = absent if each.largest_ratio is None else f"{each.largest_ratio:.2f}"
        distance = "–" if each.total_variation is None else f"{each.total_variation:.3f}"
        table.add_row(each.of, ratio, each.largest_ratio_name or "–", distance, " and ".join(each.total_variation_pair))
    out.print(table)


def _print_findings(findings: Sequence[steps.AuditFinding]) -> None:
    if not findings:
        out.print("No place lies in two splits, no row occurs twice, and ids, columns and footprints agree.")
        return
    table = new_table("finding", "count", "first examples")
    for finding in findings:
        kind = finding.kind.replace("_", " ") + (f" ({' and '.join(finding.splits)})" if finding.splits else "")
        shown = [f"{_first_of_each(example)}: {example.note}" for example in finding.examples[:_EXAMPLES]]
        table.add_row(kind, f"{finding.count:,}", "\n".join(shown))
    out.print(table)


def _first_of_each(example: steps.FindingExample) -> str:
    """One patch of every split that an example names; the first two where all are of one."""
    if len(set(example.splits)) < 2:
        return " and ".join(example.patch_ids[:2])
    return " and ".join(example.patch_ids[example.splits.index(split)] for split in dict.fromkeys(example.splits))
