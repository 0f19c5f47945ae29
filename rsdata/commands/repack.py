"""Verbs that write shards from shards: convert, merge, subset."""

from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, out, print_counts
from rsdata.commands.shards import app

_Target = Annotated[Path, typer.Option("--out", help="Folder for the new shard; must not exist yet.")]
_Format = Annotated[str | None, typer.Option("--format", help="lmdb or zarr.", show_default="that of the shard")]
_Compression = Annotated[str | None, typer.Option(help="none, zstd or blosc.", show_default="that of the shard")]


@app.command("convert")
def shards_convert(
    path: Annotated[Path, typer.Argument(help="A shard's folder.")],
    target: _Target,
    format: _Format = None,
    compression: _Compression = None,
    as_json: AsJson = False,
) -> None:
    """Write a shard in another format or compression; every value stays the same to the bit."""
    _write([path], target, format, compression, as_json)


@app.command("merge")
def shards_merge(
    paths: Annotated[list[Path], typer.Argument(help="Folders of shards with the same bands and labels.")],
    target: _Target,
    name: Annotated[str | None, typer.Option(help="Of the new shard.", show_default="that of the first")] = None,
    format: _Format = None,
    compression: _Compression = None,
    as_json: AsJson = False,
) -> None:
    """Write several shards as one, with the statistics of all."""
    _write(paths, target, format, compression, as_json, name=name)


@app.command("subset")
def shards_subset(
    path: Annotated[Path, typer.Argument(help="A shard's folder.")],
    target: _Target,
    splits: Annotated[list[str] | None, typer.Option("--split", help="Only patches of this split; may be repeated.")] = None,
    ids: Annotated[Path | None, typer.Option(help="Text file with the ids to take, one per line.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the new shard.", show_default="that of the shard")] = None,
    format: _Format = None,
    compression: _Compression = None,
    as_json: AsJson = False,
) -> None:
    """Write only some patches of a shard."""
    _write([path], target, format, compression, as_json, name=name, keep=steps.choose_patches(path, splits or (), ids))


def _write(
    paths: list[Path],
    target: Path,
    format: str | None,
    compression: str | None,
    as_json: bool,
    name: str | None = None,
    keep: list[str] | None = None,
) -> None:
    with bar("write") as advance:
        manifest = steps.repack_shards(paths, target, format=format, compression=compression, name=name, keep=keep, advance=advance)
    if as_json:
        out.print_json(manifest.model_dump_json())
        return
    print_counts(f"{manifest.name}, {manifest.format} ({manifest.codec}), {manifest.keys:,} keys", manifest.counts)
