"""The verb that turns a published dataset into a shard."""

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, new_table, out
from rsdata.errors import ShardError

app = typer.Typer()


def _folder(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, show_default=False)


@app.command()
def convert(
    dataset: Annotated[str, typer.Argument(help=f"{', '.join(steps.known_datasets())}, or a YAML file that describes one.")],
    target: Annotated[Path, typer.Option("--target", "--target-dir", help="Folder for the shard; must not exist yet.")],
    dataset_dir: Annotated[Path | None, _folder("The dataset's folder.", "--dataset-dir")] = None,
    s1_dir: Annotated[Path | None, _folder("Folder of Sentinel-1 patches.", "--s1-dir", "--bigearthnet-s1-dir")] = None,
    s2_dir: Annotated[Path | None, _folder("Folder of Sentinel-2 patches.", "--s2-dir", "--bigearthnet-s2-dir")] = None,
    s2_l1c_dir: Annotated[Path | None, _folder("Folder of Sentinel-2 Level-1C patches.", "--s2-l1c-dir")] = None,
    s2_l2a_dir: Annotated[Path | None, _folder("Folder of Sentinel-2 Level-2A patches.", "--s2-l2a-dir")] = None,
    reference_maps_dir: Annotated[
        Path | None, _folder("Folder of reference maps.", "--reference-maps-dir", "--bigearthnet-reference-maps-dir")
    ] = None,
    metadata: Annotated[Path | None, typer.Option(help="metadata.parquet of BigEarthNet v2, for splits and labels.")] = None,
    nomenclature: Annotated[
        str | None,
        typer.Option(help="Classes to group those stated beside the patches into, such as bigearthnet-19.", show_default="as stated"),
    ] = None,
    format: Annotated[str, typer.Option(help="Format of the shard.")] = "lmdb",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that read.", show_default="one per core")] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave patches with damaged files out; still exits 1 if there are any.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a published dataset of GeoTIFFs as one shard; an interrupted conversion goes on where it stopped."""
    given = {
        "dataset-dir": dataset_dir,
        "s1-dir": s1_dir,
        "s2-dir": s2_dir,
        "s2-l1c-dir": s2_l1c_dir,
        "s2-l2a-dir": s2_l2a_dir,
        "reference-maps-dir": reference_maps_dir,
    }
    folders = cast(dict[Any, Path], {option: path for option, path in given.items() if path is not None})
    try:
        with bar("convert") as advance:
            done = steps.convert_dataset(
                dataset,
                folders,
                target,
                format=format,
                workers=workers,
                metadata=metadata,
                nomenclature=nomenclature,
                skip_damaged=skip_damaged,
                advance=advance,
            )
    except ShardError as error:
        if as_json and "damaged" in error.context:
            damaged = [each.model_dump() for each in cast(list[Any], error.context["damaged"])]
            out.print_json(json.dumps({"damaged": damaged}))
            raise typer.Exit(1) from error
        raise
    manifest = done.manifest
    if as_json:
        report = {
            "manifest": manifest.model_dump(mode="json"),
            "files": done.files,
            "by_rasterio": dict(sorted(done.by_rasterio.items())),
            "resumed_after": done.resumed_after,
            "labelled": done.labelled,
        }
        out.print_json(json.dumps(report))
    else:
        _print(done, target)
    if manifest.left_out:
        raise typer.Exit(1)


def _print(done: steps.Conversion, target: Path) -> None:
    manifest = done.manifest
    if done.resumed_after:
        already = "Everything was" if done.resumed_after == manifest.keys else f"{done.resumed_after:,} values were"
        out.print(f"{already} written before.")
    table = new_table(f"{manifest.name} in {target}", "")
    table.add_row("values", f"{manifest.keys:,}")
    table.add_row("files read", f"{done.files:,}")
    for reason, count in sorted(done.by_rasterio.items()):
        table.add_row(f"of these through rasterio: {reason}", f"{count:,}")
    if manifest.labels:
        table.add_row("patches with labels", f"{done.labelled:,}")
    for split, count in manifest.counts.items():
        table.add_row(split, f"{count:,}")
    out.print(table)
    if manifest.left_out:
        damaged = new_table("left out", "why")
        for each in manifest.left_out:
            damaged.add_row(each.key, each.reason)
        out.print(damaged)
