"""The command line: every verb prints a short table, or JSON with ``--json``, and exits 0 only if all was done."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from rsdata import __version__, steps
from rsdata.errors import BuildFailed, RsdataError
from rsdata.recipe import SplitPart, Training, load_recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Datasets for deep learning from Sentinel-1 and Sentinel-2.",
)
scenes_app = typer.Typer(no_args_is_help=True, help="Look at products and correct them.")
split_app = typer.Typer(no_args_is_help=True, help="Assign and audit splits of any table with patch ids.")
shards_app = typer.Typer(no_args_is_help=True, help="Look at shards and check them.")
app.add_typer(scenes_app, name="scenes")
app.add_typer(split_app, name="split")
app.add_typer(shards_app, name="shards")

_WIDTH = None if sys.stdout.isatty() else 140  # a log has no width of its own
out = Console(markup=False, highlight=False, width=_WIDTH)
err = Console(stderr=True, markup=False, highlight=False, width=_WIDTH)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Scenes worked on at a time.", show_default="one per core")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


@app.command()
def demo(out_dir: Annotated[Path, typer.Option("--out", help="Folder to build in.")] = Path("demo-out"), workers: Workers = None) -> None:
    """Synthetic scenes to trained baseline to report, in a few minutes."""
    with resources.as_file(resources.files("rsdata.catalogs") / "recipes" / "demo.yaml") as recipe:
        _build(recipe, out_dir, workers, None, ())
    out.print(f"\nOpen the report: {steps.open_workspace(out_dir).report}", soft_wrap=True)


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(help="YAML file that describes the dataset.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to build in.")],
    workers: Workers = None,
    dask: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler to work on.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Do only these stages; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build the dataset a recipe describes; what is finished is not done again."""
    _build(recipe, out_dir, workers, dask, only or (), as_json)


@app.command()
def report(directory: Annotated[Path, typer.Argument(help="A built dataset.")]) -> None:
    """Draw the report of a built dataset again."""
    workspace = steps.open_workspace(directory)
    outcome = steps.write_report(load_recipe(workspace.recipe), workspace)
    out.print(f"{'Nothing has changed since' if outcome.skipped else 'Wrote'} {workspace.report}", soft_wrap=True)


@app.command()
def train(
    directory: Annotated[Path, typer.Argument(help="A built dataset.")],
    model: Annotated[str | None, typer.Option(help="Short name of the model.")] = None,
    task: Annotated[str, typer.Option(help="What is learned.")] = "multilabel",
    bands: Annotated[str | None, typer.Option(help="Band names, separated by commas; all if absent.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Train a baseline on the shards of a built dataset and print its scores."""
    workspace = steps.open_workspace(directory)
    recipe = load_recipe(workspace.recipe)
    given = {
        "model": model,
        "task": task,
        "bands": bands.split(",") if bands else None,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
    }
    base = recipe.training or Training()
    options = Training.model_validate(base.model_dump() | {name: value for name, value in given.items() if value is not None})
    steps.train_baseline(recipe, workspace, options)
    steps.write_report(recipe.model_copy(update={"training": options}), workspace)
    _print_training(workspace, options.model, as_json)


@scenes_app.command("inspect")
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
            table = _table("", str(scene.product))
            for line in steps.summarize_scene(scene, problem):
                table.add_row(*line)
            out.print(table)
    if as_json:
        out.print_json(json.dumps(records))
    _end(failures)


@scenes_app.command("download")
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
        _end(failures)
        return
    with _bytes_bar(found.products, quiet=as_json) as tell:
        done, missed = steps.fetch_products(found.products, out_dir, connections, via, tell)
    failures += missed
    if as_json:
        result = {"downloads": [each.model_dump(mode="json") for each in done], "failures": [item.model_dump() for item in failures]}
        out.print_json(json.dumps(result))
        raise typer.Exit(1 if failures else 0)
    _print_downloads(done)
    _end(failures)


@scenes_app.command("correct")
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
    with _stages(quiet=as_json) as show:

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
    table = _table("product", "state", "seconds")
    for row in rows:
        table.add_row(row["product"], row["state"], f"{row['seconds']:.1f}")
    out.print(table)
    _end(failures)


@split_app.command("assign")
def split_assign(
    table: Annotated[Path, typer.Argument(help="Parquet file with a patch_id column.")],
    out_path: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    strategy: Annotated[str, typer.Option(help="Short name of the strategy.")] = "frame",
) -> None:
    """Write a table with its patches divided into train, validation and test."""
    counts = steps.assign_table(table, SplitPart(strategy=strategy), out_path)
    _print_counts("patches per split", counts)


@split_app.command("audit")
def split_audit(
    table: Annotated[Path, typer.Argument(help="Parquet file with patch_id and split columns.")], as_json: AsJson = False
) -> None:
    """How far splits lie apart, which patches touch, and how evenly classes are spread."""
    audit = steps.audit_table(table)
    if as_json:
        out.print_json(audit.model_dump_json())
        return
    _print_counts("patches per split", audit.counts)
    pairs = _table("splits", "smallest gap (m)", "touching", "shared places")
    for pair in audit.pairs:
        gap = "none" if pair.min_gap_m is None else f"{pair.min_gap_m:,.0f}"
        pairs.add_row(f"{pair.a} / {pair.b}", gap, f"{pair.touching_a:,} / {pair.touching_b:,}", f"{pair.shared_places:,}")
    out.print(pairs)
    if audit.largest_ratio is None and audit.largest_ratio_class is not None:
        out.print(f"{audit.largest_ratio_class} is missing from a split altogether.")
    if audit.largest_ratio is not None:
        out.print(f"Class shares differ by up to {audit.largest_ratio:.2f} times ({audit.largest_ratio_class}).")


@shards_app.command("info")
def shards_info(path: Annotated[Path, typer.Argument(help="A shard's folder.")], as_json: AsJson = False) -> None:
    """What a shard holds, from its manifest."""
    manifest = steps.shard_info(path)
    if as_json:
        out.print_json(manifest.model_dump_json())
        return
    _print_counts(f"{manifest.name}, {manifest.format}, {manifest.keys:,} keys", manifest.counts)
    bands = _table("band", "sensor", "type", "pixels", "unit", "GSD (m)", "mean (train)", "std (train)")
    for band in manifest.bands:
        mean, std = (band.statistics.mean, band.statistics.std) if band.statistics else (None, None)
        shown = ("" if value is None else f"{value:.2f}" for value in (mean, std))
        bands.add_row(band.name, band.sensor, band.dtype, "x".join(map(str, band.shape)), band.unit, str(band.gsd_m), *shown)
    out.print(bands)


@shards_app.command("verify")
def shards_verify(path: Annotated[Path, typer.Argument(help="A shard's folder.")], as_json: AsJson = False) -> None:
    """Compare every digest, key, band and count of a shard with its manifest."""
    with _bar("verify") as advance:
        manifest, findings = steps.verify_shard(path, advance)
    _print_findings(f"{manifest.keys:,} keys as its manifest says", findings, as_json)


@app.command()
def verify(directory: Annotated[Path, typer.Argument(help="A built dataset.")], as_json: AsJson = False) -> None:
    """Check every digest, count and cross-reference of a built dataset."""
    with _bar("verify") as advance:
        manifest, findings = steps.verify_dataset(steps.open_workspace(directory), advance)
    _print_findings(
        f"{manifest.name}: {len(manifest.outputs)} files and {manifest.counts['kept']:,} patches as its manifest says", findings, as_json
    )


# --- what people see --------------------------------------------------------------------------------------


def _build(
    recipe: Path, out_dir: Path, workers: int | None, dask: str | None, only: tuple[str, ...] | list[str], as_json: bool = False
) -> None:
    from rsdata.flows.build_dataset import Event, build, on_event

    asked = load_recipe(recipe)
    if not as_json:
        err.print(f"Building {asked.name} in {out_dir} ...", soft_wrap=True)
    done: dict[str, dict[str, float]] = {}
    with _stages(quiet=as_json) as show:

        def tell(event: Event) -> None:
            tally = done.setdefault(event.stage, {"done": 0, "skipped": 0, "failed": 0, "seconds": 0.0})
            if event.unit is not None:
                tally["failed" if event.failed else "skipped" if event.skipped else "done"] += 1
                tally["seconds"] += 0.0 if event.skipped else event.seconds
            show(event)

        token = on_event.set(tell)
        failures: list[steps.Failure] = []
        try:
            build(recipe, out_dir, workers or os.cpu_count() or 1, dask, list(only))
        except BuildFailed as error:
            failures = list(error.context["failures"])  # type: ignore[call-overload]
            if not failures:
                raise
        finally:
            on_event.reset(token)
    workspace = steps.open_workspace(out_dir)
    if as_json:
        out.print_json(json.dumps({"stages": done, "failures": [item.model_dump() for item in failures]}))
        raise typer.Exit(1 if failures else 0)
    _print_build(done)
    if all(not tally["done"] and not tally["failed"] for tally in done.values()):
        out.print("Everything was finished before; nothing was done.")
    if asked.training is not None and workspace.metrics(asked.training.model).exists():
        _print_training(workspace, asked.training.model, as_json=False)
    _end(failures)


def _table(*headers: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _print_build(done: dict[str, dict[str, float]]) -> None:
    table = _table("stage", "done", "finished before", "failed", "seconds")
    for stage, tally in done.items():
        table.add_row(stage, *(f"{tally[name]:.0f}" for name in ("done", "skipped", "failed")), f"{tally['seconds']:.1f}")
    out.print(table)


def _print_training(workspace: steps.Workspace, model: str, as_json: bool) -> None:
    scores = steps.read_training(workspace, model)
    if as_json:
        out.print_json(scores.model_dump_json())
        return
    if scores.test is None:
        out.print(f"{scores.model}: no test patches, so no scores.")
        return
    table = _table(f"{scores.model}, test split", "macro", "micro")
    table.add_row("average precision", f"{scores.test.average_precision_macro:.3f}", f"{scores.test.average_precision_micro:.3f}")
    table.add_row("F1", f"{scores.test.f1_macro:.3f}", f"{scores.test.f1_micro:.3f}")
    table.add_row("average precision by chance", f"{scores.test.chance_average_precision_macro:.3f}", "")
    out.print(table)


def _print_products(products: list[steps.RemoteProduct]) -> None:
    table = _table("product", "time (UTC)", "cloud (%)", "size")
    for each in products:
        size = each.archive.bytes if each.archive is not None else None
        cloud = "" if each.cloud_cover is None else f"{each.cloud_cover:.1f}"
        table.add_row(each.product, f"{each.datetime:%Y-%m-%d %H:%M}", cloud, "" if size is None else _size(size))
    out.print(table if products else "The catalogue has no such product.")


def _print_downloads(done: list[steps.Download]) -> None:
    table = _table("product", "size", "verified", "note")
    for each in done:
        verified = sorted({file.verified or "nothing" for file in each.files})
        table.add_row(str(each.path), _size(each.bytes), ", ".join(verified), "; ".join(each.notes))
    if done:
        out.print(table)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _print_counts(title: str, counts: dict[str, int]) -> None:
    table = _table(title, "count")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    out.print(table)


def _print_findings(all_well: str, findings: list[str], as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps({"findings": findings}))
    elif not findings:
        out.print(f"All is well: {all_well}.")
    else:
        table = _table("finding")
        for finding in findings:
            table.add_row(finding)
        out.print(table)
    if findings:
        raise typer.Exit(1)


def _end(failures: list[steps.Failure]) -> None:
    """List what failed and why; exit 1 if anything did."""
    if not failures:
        return
    table = _table("stage", "what", "why", title="Not done")
    for item in failures:
        table.add_row(item.stage, item.unit, item.message)
    err.print(table)
    raise typer.Exit(1)


@contextmanager
def _bar(title: str) -> Iterator[Any]:
    with Progress(TextColumn("{task.description}"), SpinnerColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=err) as progress:
        row = progress.add_task(title, total=None)
        yield lambda n: progress.advance(row, n)


@contextmanager
def _bytes_bar(products: list[steps.RemoteProduct], quiet: bool) -> Iterator[Any]:
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
def _stages(quiet: bool) -> Iterator[Any]:
    """Show one bar per stage on a terminal, one line per finished unit elsewhere."""
    if quiet:
        yield lambda event: None
        return
    if not err.is_terminal:
        yield _print_event
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

        def show(event: Any) -> None:
            if event.stage == "training":
                progress.stop()  # training draws its own bar
            if "training" in rows:
                _print_event(event)
            if event.stage not in rows:
                rows[event.stage] = progress.add_task(event.stage, total=event.total or 1, last="")
            if event.note:
                progress.update(rows[event.stage], last=event.note)
            if event.unit is not None:
                note = f"{event.unit} failed" if event.failed else f"{event.unit} finished before" if event.skipped else event.unit
                progress.update(rows[event.stage], advance=1, last=note)

        yield show


def _print_event(event: Any) -> None:
    if event.note:
        err.print(f"{event.stage:<9} {event.note}", soft_wrap=True)
    if event.unit is None:
        return
    state = f"failed: {event.failed}" if event.failed else "finished before" if event.skipped else f"done in {event.seconds:.1f} s"
    err.print(f"{event.stage:<9} {event.unit}: {state}", soft_wrap=True)


def main() -> None:
    """Run the command line; errors end in one sentence, not in a traceback."""
    try:
        app()
    except RsdataError as error:
        err.print(f"rsdata: {error}", style="red", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("rsdata: stopped; the same command goes on from here")
        sys.exit(130)


if __name__ == "__main__":
    main()
