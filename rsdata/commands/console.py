"""What people see: short tables on stdout, progress and failures on stderr."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from rsdata import steps

_WIDTH = None if sys.stdout.isatty() else 140  # a log has no width of its own
out = Console(markup=False, highlight=False, width=_WIDTH)
err = Console(stderr=True, markup=False, highlight=False, width=_WIDTH)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Scenes worked on at a time.", show_default="one per core")]


def new_table(*headers: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def print_counts(title: str, counts: dict[str, int]) -> None:
    table = new_table(title, "count")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    out.print(table)


def warn_of_leak(split: steps.SplitInfo | None) -> None:
    """Say that a split leaks by the way it was made."""
    if split is not None and split.leaks is not None:
        err.print(f"Warning: the split {split.strategy!r} leaks: {split.leaks}. Scores on it flatter a model.", soft_wrap=True)


def print_findings(all_well: str, findings: list[str], as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps({"findings": findings}))
    elif not findings:
        out.print(f"All is well: {all_well}.")
    else:
        table = new_table("finding")
        for finding in findings:
            table.add_row(finding)
        out.print(table)
    if findings:
        raise typer.Exit(1)


def end(failures: list[steps.Failure]) -> None:
    """List what failed and why; exit 1 if anything did."""
    if not failures:
        return
    table = new_table("stage", "what", "why", "what to do", title="Not done")
    for item in failures:
        table.add_row(item.stage, item.unit, *reason_and_remedy(item.message))
    err.print(table)
    raise typer.Exit(1)


def reason_and_remedy(message: str) -> tuple[str, str]:
    """What a message of rsdata says was found, and what it says to do: it comes last, after a semicolon.

    Some say there only what was expected, and that is no advice.
    """
    reason, found, remedy = message.rpartition("; ")
    advises = found and (", so " in remedy or not remedy.startswith("expected "))
    return (reason, remedy) if advises else (message, "repeat the command; if it ends the same way, leave this one out")


@contextmanager
def bar(title: str) -> Iterator[Any]:
    with Progress(TextColumn("{task.description}"), SpinnerColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=err) as progress:
        row = progress.add_task(title, total=None)
        yield lambda n: progress.advance(row, n)


def in_bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
