"""The verb that stores a built dataset in an object store."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, in_bytes, out, print_findings

app = typer.Typer()


@app.command()
def upload(
    directory: Annotated[Path, typer.Argument(help="A built dataset.")],
    url: Annotated[str, typer.Argument(help="Where to store it, such as s3://bucket/prefix.")],
    check: Annotated[bool, typer.Option("--check", help="Read everything back and compare digests.")] = False,
    as_json: AsJson = False,
) -> None:
    """Store a built dataset in an object store, its manifest last; the same command goes on after a break."""
    with bar("bytes") as advance:
        done = steps.upload_dataset(steps.open_workspace(directory), url, read_back=check, advance=advance)
    if as_json:
        out.print_json(json.dumps(asdict(done)))
        if done.findings:
            raise typer.Exit(1)
        return
    out.print(f"{done.files} files, {in_bytes(done.bytes)}, at {done.url}; {done.skipped} of them were there before.", soft_wrap=True)
    if check:
        print_findings(f"{done.files} files are there as they are here", list(done.findings), as_json)
