"""Bars on a terminal, one line per finished unit elsewhere."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from rsdata import steps
from rsdata.commands.console import err


@contextmanager
def bytes_bar(products: list[steps.RemoteProduct], quiet: bool) -> Iterator[Any]:
    """One bar over all bytes on a terminal, one line per product elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    sizes = [product.archive.bytes if product.archive is not None else None for product in products]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal) as progress:
        row = progress.add_task("download", total=total)

        def tell(product: steps.RemoteProduct, count: int, outcome: object) -> None:
            progress.advance(row, count)
            if outcome is not None and not quiet:
                state = f"failed: {outcome.message}" if isinstance(outcome, steps.Failure) else "is there"
                progress.console.print(f"{product.product} {state}", soft_wrap=True)

        yield tell


@contextmanager
def stages(quiet: bool, as_lines: bool = False) -> Iterator[Any]:
    """Show one bar per stage on a terminal, one line per finished unit elsewhere, or one line of JSON for everything."""
    if as_lines:
        yield lambda event: print_line(steps.log_line(event))
        return
    if quiet:
        yield lambda event: None
        return
    if not err.is_terminal:
        yield print_event
        return
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=err) as progress:
        rows: dict[str, Any] = {}
        totals: Counter[str] = Counter()

        def show(event: Any) -> None:
            if event.stage == "training":
                progress.stop()  # training draws its own bar
            if "training" in rows:
                print_event(event)
            if event.stage not in rows:
                rows[event.stage] = progress.add_task(event.stage, total=1, last="")
            totals[event.stage] += event.total
            progress.update(rows[event.stage], total=max(1, totals[event.stage]))
            if event.note:
                progress.update(rows[event.stage], last=event.note)
            if event.unit is not None:
                note = f"{event.unit} failed" if event.failed else f"{event.unit} finished before" if event.skipped else event.unit
                progress.update(rows[event.stage], advance=1, last=note)

        yield show


def print_line(said: dict[str, Any]) -> None:
    """One object of JSON on a line of its own, with the time."""
    stamped = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **said}
    err.file.write(json.dumps(stamped) + "\n")
    err.file.flush()


def print_event(event: Any) -> None:
    if event.note:
        err.print(f"{event.stage:<9} {event.note}", soft_wrap=True)
    if event.unit is None:
        return
    state = f"failed: {event.failed}" if event.failed else "finished before" if event.skipped else f"done in {event.seconds:.1f} s"
    err.print(f"{event.stage:<9} {event.unit}: {state}", soft_wrap=True)
