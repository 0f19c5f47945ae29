"""The verb ``diff``: what changed between two builds."""

from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, err, new_table, out
from rsdata.errors import RsdataError

SAME, DIFFERENT, TROUBLE = 0, 1, 2  # exit codes, as diff(1) has them
app = typer.Typer()


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A built dataset.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another build.")],
    as_json: AsJson = False,
) -> None:
    """Say what changed from build A to build B; exit 0 if nothing did, 1 if something did, 2 in case of trouble."""
    try:
        found = steps.compare_datasets(steps.open_workspace(first), steps.open_workspace(second))
    except RsdataError as error:
        err.print(f"rsdata: {error}", style="red", soft_wrap=True)
        raise typer.Exit(TROUBLE) from error
    rows = steps.differences_in_words(found)
    if as_json:
        out.print_json(found.model_dump_json())
    elif not rows:
        out.print(f"{first} and {second} are the same build.", soft_wrap=True)
    else:
        table = new_table("what", "difference")
        for what, line in rows:
            table.add_row(what, line)
        out.print(table)
    raise typer.Exit(DIFFERENT if rows else SAME)
