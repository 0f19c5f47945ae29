"""The command line: every verb prints a short table, or JSON with ``--json``, and exits 0 only if all was done."""

from typing import Annotated

import typer

from rsdata import __version__
from rsdata.commands import caption, convert, dataset, diff, export, repack, scenes, split, status, subset, train, upload
from rsdata.commands.console import out

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Datasets for deep learning from Sentinel-1 and Sentinel-2.",
)
app.add_typer(dataset.app)
app.add_typer(status.app)
app.add_typer(train.app)
app.add_typer(convert.app)
app.add_typer(export.app)
app.add_typer(diff.app)
app.add_typer(upload.app)
app.add_typer(scenes.app, name="scenes")
app.add_typer(split.app, name="split")
app.add_typer(subset.app, name="subset")
app.add_typer(caption.app, name="caption")
app.add_typer(repack.app, name="shards")  # the app of ``shards``, with verbs that write added


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit
