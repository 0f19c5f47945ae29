"""Verbs on splits: assign, audit."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, out, print_counts, warn_of_leak
from rsdata.commands.split_audit import audit_splits
from rsdata.recipe import SplitPart

app = typer.Typer(no_args_is_help=True, help="Assign and audit splits of any table with patch ids.")


@app.command("assign")
def split_assign(
    table: Annotated[Path, typer.Argument(help="Parquet file with a patch_id column.")],
    out_path: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    strategy: Annotated[str, typer.Option(help="balanced, blocks, frame, import, kfold, random, regions or time.")] = "frame",
    option: Annotated[list[str] | None, typer.Option(help="An option of the strategy, such as buffer_m=5000; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    ratio: Annotated[str | None, typer.Option(help="Shares of train, validation and test.", show_default="0.5,0.25,0.25")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a table with its patches divided into train, validation and test, or into folds."""
    part = SplitPart.parse(strategy, option or [], seed, ratio)
    counts, info = steps.assign_table(table, part, out_path)
    if as_json:
        out.print_json(json.dumps({"counts": counts, "split": info.model_dump(mode="json")}))
        return
    print_counts("patches per split", counts)
    for note in info.notes:
        out.print(f"{note[0].upper()}{note[1:]}.", soft_wrap=True)
    warn_of_leak(info)


@app.command("audit")
def split_audit(
    table: Annotated[Path, typer.Argument(help="Parquet file with a split column, and patch ids or footprints.")],
    out_path: Annotated[Path | None, typer.Option("--out", help="Folder for audit.json and a page with a map, index.html.")] = None,
    against: Annotated[Path | None, typer.Option(help="Another dataset's table: what do the two share?")] = None,
    distance: Annotated[
        list[float] | None, typer.Option(help="Count patches this near, metres; repeat it.", show_default="0 1200 1750 5000")
    ] = None,
    fail_on: Annotated[str, typer.Option(help="Conditions that end in exit code 1, such as touching,ratio>1.5,gap[train/test]<1750.")] = "",
    as_json: AsJson = False,
) -> None:
    """How far splits lie apart, which patches touch, how evenly classes are spread, and what leaks."""
    audit_splits(table, out_path, against, distance, fail_on, as_json)
