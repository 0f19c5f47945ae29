"""Verbs on splits: assign, audit."""

from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, new_table, out, print_counts
from rsdata.recipe import SplitPart

app = typer.Typer(no_args_is_help=True, help="Assign and audit splits of any table with patch ids.")


@app.command("assign")
def split_assign(
    table: Annotated[Path, typer.Argument(help="Parquet file with a patch_id column.")],
    out_path: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    strategy: Annotated[str, typer.Option(help="Short name of the strategy.")] = "frame",
) -> None:
    """Write a table with its patches divided into train, validation and test."""
    counts = steps.assign_table(table, SplitPart(strategy=strategy), out_path)
    print_counts("patches per split", counts)


@app.command("audit")
def split_audit(
    table: Annotated[Path, typer.Argument(help="Parquet file with patch_id and split columns.")], as_json: AsJson = False
) -> None:
    """How far splits lie apart, which patches touch, and how evenly classes are spread."""
    audit = steps.audit_table(table)
    if as_json:
        out.print_json(audit.model_dump_json())
        return
    print_counts("patches per split", audit.counts)
    pairs = new_table("splits", "smallest gap (m)", "touching", "shared places")
    for pair in audit.pairs:
        gap = "none" if pair.min_gap_m is None else f"{pair.min_gap_m:,.0f}"
        pairs.add_row(f"{pair.a} / {pair.b}", gap, f"{pair.touching_a:,} / {pair.touching_b:,}", f"{pair.shared_places:,}")
    out.print(pairs)
    if audit.largest_ratio is None and audit.largest_ratio_class is not None:
        out.print(f"{audit.largest_ratio_class} is missing from a split altogether.")
    if audit.largest_ratio is not None:
        out.print(f"Class shares differ by up to {audit.largest_ratio:.2f} times ({audit.largest_ratio_class}).")
