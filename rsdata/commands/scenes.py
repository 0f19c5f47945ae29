"""Verbs on products: inspect, download, correct."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, end, in_bytes, new_table, out
from rsdata.commands.progress import bytes_bar, stages
from rsdata.commands.stopped import ending_when_stopped
from rsdata.errors import BuildFailed, RsdataError

app = typer.Typer(no_args_is_help=True, help="Look at products and correct them.")


@app.command("inspect")
def scenes_inspect(
    paths: Annotated[list[Path], typer.Argument(help="Folders or zips of products, or STAC items.")],
    tile: Annotated[str | None, typer.Option(help="Tile to look at, where a product holds several.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a product is: level, baseline, offsets, flags, bands, and whether a dataset can be made from it."""
    failures, records = [], []
    for path in paths:
        try:
            scene, problem = steps.inspect_scene(path, tile)
        except RsdataError as error:
            failures.append(steps.failure("scenes", str(path), error))
            continue
        records.append(scene.model_dump(mode="json") | {"problem": problem})
        if not as_json:
            table = new_table("", str(scene.product))
            for line in steps.summarize_scene(scene, problem):
                table.add_row(*line)
            out.print(table)
    if as_json:
        out.print_json(json.dumps(records))
    end(failures)


@app.command("download")
def scenes_download(
    tile: Annotated[str, typer.Option(help="MGRS name of a tile, such as 33UUP.")],
    date: Annotated[str, typer.Option(help="First and last day, such as 2023-06-01/2023-06-30, or one day.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to fetch into.")],
    cloud: Annotated[float | None, typer.Option(min=0, max=100, help="Largest cloud cover, percent.")] = None,
    product_type: Annotated[str, typer.Option("--type", help="S2MSI2A, S2MSI1C, or S1GRD for IW GRD with VV and VH.")] = "S2MSI2A",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many, by time.")] = None,
    catalogue: Annotated[str | None, typer.Option(help="Address of a STAC API; else RSDATA_STAC.", show_default="Copernicus")] = None,
    via: Annotated[str, typer.Option(help="https for zips, s3 for folders of objects, auto for what the keys allow.")] = "auto",
    connections: Annotated[int, typer.Option(min=1, max=16, help="Connections at a time; Copernicus allows 4.")] = 4,
    every_baseline: Annotated[bool, typer.Option("--every-baseline", help="Older processings of the same acquisition too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be fetched.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search a catalogue and fetch products; what has come before is not fetched again."""
    found = steps.search_products(steps.product_query(tile, date, product_type, cloud, limit, every_baseline), catalogue)
    failures = [steps.Failure(stage="search", unit=item, error="DownloadError", message=why) for item, why in found.refused.items()]
    if not as_json:
        _print_products(found.products)
        if found.older:
            out.print(f"{len(found.older)} older processings of these are left out; --every-baseline takes them too.")
    if dry_run:
        if as_json:
            out.print_json(json.dumps({"products": [steps.public_product(product) for product in found.products]}))
        end(failures)
        return
    with bytes_bar(found.products, quiet=as_json) as tell:
        done, missed = steps.fetch_products(found.products, out_dir, connections, via, tell)
    failures += missed
    if as_json:
        result = {"downloads": [each.model_dump(mode="json") for each in done], "failures": [item.model_dump() for item in failures]}
        out.print_json(json.dumps(result))
        raise typer.Exit(1 if failures else 0)
    _print_downloads(done)
    end(failures)


@app.command("correct")
def scenes_correct(
    paths: Annotated[list[Path], typer.Argument(help="Folders or zips of Level-1C products.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the Level-2A products, their receipts and logs.")],
    program: Annotated[str | None, typer.Option(help="L2A_Process; from RSDATA_SEN2COR or PATH if absent.")] = None,
    resolution: Annotated[int, typer.Option(help="10, 20 or 60 m; only 10 gives all bands.")] = 10,
    gipp: Annotated[Path | None, typer.Option(help="L2A_GIPP.xml; sen2cor's own if absent.")] = None,
    dem: Annotated[Path | None, typer.Option(help="Folder of the DEM's tiles; flat ground if absent.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Longest run of one attempt, seconds.")] = 3 * 3600,
    retries: Annotated[int, typer.Option(min=0, help="Attempts after the first.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Scenes at a time.", show_default="one per 8 GiB of free memory")] = None,
    as_json: AsJson = False,
) -> None:
    """Run sen2cor on Level-1C products; what was corrected before is not done again."""
    from rsdata.flows.build_dataset import on_event
    from rsdata.flows.correct_scenes import correct

    given = {"program": program, "resolution": resolution, "timeout_s": timeout, "retries": retries, "at_once": workers}
    files = {name: str(path.absolute()) for name, path in {"gipp": gipp, "dem": dem}.items() if path}
    options = steps.make_sen2cor_options({**given, **files})
    rows: list[dict[str, Any]] = []
    with ending_when_stopped(), stages(quiet=as_json) as show:

        def tell(event: Any) -> None:
            if event.unit is not None:
                state = "failed" if event.failed else "finished before" if event.skipped else "corrected"
                rows.append({"product": event.unit, "state": state, "seconds": round(event.seconds, 1)})
            show(event)

        token = on_event.set(tell)
        failures: list[steps.Failure] = []
        made: list[Path] = []
        try:
            made = correct([path.absolute() for path in paths], out_dir, options, workers or os.cpu_count() or 1)
        except BuildFailed as error:
            failures = list(error.context["failures"])  # type: ignore[call-overload]
        finally:
            on_event.reset(token)
    if as_json:
        products = [str(path) for path in made]
        out.print_json(json.dumps({"scenes": rows, "products": products, "failures": [item.model_dump() for item in failures]}))
        raise typer.Exit(1 if failures else 0)
    table = new_table("product", "state", "seconds")
    for row in rows:
        table.add_row(row["product"], row["state"], f"{row['seconds']:.1f}")
    out.print(table)
    end(failures)


def _print_products(products: list[steps.RemoteProduct]) -> None:
    table = new_table("product", "time (UTC)", "cloud (%)", "size")
    for each in products:
        size = each.archive.bytes if each.archive is not None else None
        cloud = "" if each.cloud_cover is None else f"{each.cloud_cover:.1f}"
        table.add_row(each.product, f"{each.datetime:%Y-%m-%d %H:%M}", cloud, "" if size is None else in_bytes(size))
    out.print(table if products else "The catalogue has no such product.")


def _print_downloads(done: list[steps.Download]) -> None:
    table = new_table("product", "size", "verified", "note")
    for each in done:
        verified = sorted({file.verified or "nothing" for file in each.files})
        table.add_row(str(each.path), in_bytes(each.bytes), ", ".join(verified), "; ".join(each.notes))
    if done:
        out.print(table)
