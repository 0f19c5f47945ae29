"""The verbs ``export`` and ``unpack``: what leaves rsdata for other programs, and what comes back."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, out, print_counts
from rsdata.errors import WorkspaceError

ARCHIVE = "archive"
PART_MB = 2_000  # a part of usual size

app = typer.Typer()
_Threads = Annotated[int | None, typer.Option("--workers", min=1, help="Threads that read and write.", show_default="one per core")]
_PartSize = Annotated[int | None, typer.Option("--part-size", min=1, help="Of an archive: MB a part may have.", show_default=f"{PART_MB}")]
_LeaveOut = Annotated[list[str] | None, typer.Option(help="Of an archive: a folder not to take, such as parts; may be repeated.")]


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="A built dataset; for an archive any folder.")],
    form: Annotated[str, typer.Option("--as", help=f"{', '.join(sorted([*steps.EXPORT_FORMS, ARCHIVE]))}.")],
    target: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist yet.")],
    workers: _Threads = None,
    part_mb: _PartSize = None,
    leave_out: _LeaveOut = None,
    as_json: AsJson = False,
) -> None:
    """Write a built dataset in a form that other programs read; texts alone leave with `caption export`."""
    threads = workers or os.cpu_count() or 1
    if form != ARCHIVE and (part_mb is not None or leave_out):
        raise WorkspaceError(f"--part-size and --leave-out are for --as {ARCHIVE}; leave them out for {form}", form=form)
    with bar("export") as advance:
        if form == ARCHIVE:
            part_bytes = (part_mb or PART_MB) * 1_000_000
            counts = steps.archive_folder(
                directory, target, part_bytes=part_bytes, leave_out=leave_out or (), workers=threads, advance=advance
            )
        else:
            counts = steps.export_dataset(steps.open_workspace(directory), form, target, workers=threads, advance=advance)
    _print(target, counts, as_json)


@app.command()
def unpack(
    archive: Annotated[Path, typer.Argument(help="Folder with the parts, index.jsonl and SHA256SUMS.")],
    target: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist yet.")],
    workers: _Threads = None,
    as_json: AsJson = False,
) -> None:
    """Unpack an archive and check every byte of it; the folder appears once all is as stated."""
    with bar("unpack") as advance:
        counts = steps.unpack_archive(archive, target, workers=workers or os.cpu_count() or 1, advance=advance)
    _print(target, counts, as_json)


def _print(target: Path, counts: dict[str, int], as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps({"out": str(target), "counts": counts}))
        return
    print_counts(f"Wrote {target}", counts)
