"""Verbs on shards: info, verify."""

from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, new_table, out, print_counts, print_findings

app = typer.Typer(no_args_is_help=True, help="Look at shards and check them.")


@app.command("info")
def shards_info(path: Annotated[Path, typer.Argument(help="A shard's folder.")], as_json: AsJson = False) -> None:
    """What a shard holds, from its manifest."""
    manifest = steps.shard_info(path)
    if as_json:
        out.print_json(manifest.model_dump_json())
        return
    print_counts(f"{manifest.name}, {manifest.format}, {manifest.keys:,} keys", manifest.counts)
    bands = new_table("band", "sensor", "type", "pixels", "unit", "GSD (m)", "mean (train)", "std (train)")
    for band in manifest.bands:
        mean, std = (band.statistics.mean, band.statistics.std) if band.statistics else (None, None)
        shown = ("" if value is None else f"{value:.2f}" for value in (mean, std))
        bands.add_row(band.name, band.sensor, band.dtype, "x".join(map(str, band.shape)), band.unit, str(band.gsd_m), *shown)
    out.print(bands)


@app.command("verify")
def shards_verify(path: Annotated[Path, typer.Argument(help="A shard's folder.")], as_json: AsJson = False) -> None:
    """Compare every digest, key, band and count of a shard with its manifest."""
    with bar("verify") as advance:
        manifest, findings = steps.verify_shard(path, advance)
    print_findings(f"{manifest.keys:,} keys as its manifest says", findings, as_json)
