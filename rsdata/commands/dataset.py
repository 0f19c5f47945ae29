"""Verbs of a whole dataset: demo, build, report, verify."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, Workers, bar, end, err, in_bytes, new_table, out, print_findings, reason_and_remedy
from rsdata.commands.progress import print_line, stages
from rsdata.commands.stopped import ending_when_stopped
from rsdata.commands.train import print_training
from rsdata.errors import BuildFailed, RsdataError
from rsdata.recipe import load_recipe

app = typer.Typer()


LogJson = Annotated[bool, typer.Option("--log-json", help="Say what happens in lines of JSON instead of text.")]


@app.command()
def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to build in.")] = Path("demo-out"),
    workers: Workers = None,
    log_json: LogJson = False,
) -> None:
    """Synthetic scenes to trained baseline to report, in a few minutes."""
    with resources.as_file(resources.files("rsdata.catalogs") / "recipes" / "demo.yaml") as recipe:
        _build(recipe, out_dir, workers, None, (), log_json=log_json)
    out.print(f"\nOpen the report: {steps.open_workspace(out_dir).report}", soft_wrap=True)


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(help="YAML file that describes the dataset.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to build in.")],
    workers: Workers = None,
    dask: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler to work on.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Do only these stages; may be repeated.")] = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
) -> None:
    """Build the dataset a recipe describes; what is finished is not done again."""
    _build(recipe, out_dir, workers, dask, only or (), as_json, log_json)


@app.command()
def report(directory: Annotated[Path, typer.Argument(help="A built dataset.")]) -> None:
    """Draw the report of a built dataset again."""
    workspace = steps.open_workspace(directory)
    with steps.reading(workspace):
        outcome = steps.write_report(load_recipe(workspace.recipe), workspace)
    out.print(f"{'Nothing has changed since' if outcome.skipped else 'Wrote'} {workspace.report}", soft_wrap=True)


@app.command()
def verify(directory: Annotated[Path, typer.Argument(help="A built dataset.")], as_json: AsJson = False) -> None:
    """Check every digest, count and cross-reference of a built dataset."""
    workspace = steps.open_workspace(directory)
    with bar("verify") as advance:
        manifest, findings = steps.verify_dataset(workspace, advance)
    if not as_json and (others := steps.unvouched_files(workspace)):
        several = f"{len(others)} files lie" if len(others) > 1 else "1 file lies"
        err.print(f"{several} there that no receipt speaks of, and cannot be checked: {', '.join(others[:5])}", soft_wrap=True)
    print_findings(
        f"{manifest.name}: {len(manifest.outputs)} files and {manifest.counts['kept']:,} patches as its manifest says", findings, as_json
    )


def _build(
    recipe: Path,
    out_dir: Path,
    workers: int | None,
    dask: str | None,
    only: tuple[str, ...] | list[str],
    as_json: bool = False,
    log_json: bool = False,
) -> None:
    """Build and tell about it."""
    in_lines = (lambda line: print_line({"event": "stopped", "message": line}),) if log_json else ()
    try:
        with ending_when_stopped(*in_lines):
            _build_and_tell(recipe, out_dir, workers, dask, only, as_json, log_json)
    except RsdataError as error:
        if not log_json:
            raise
        print_line({"event": "error", "error": type(error).__name__, "message": str(error)})
        raise typer.Exit(1) from error


def _build_and_tell(
    recipe: Path, out_dir: Path, workers: int | None, dask: str | None, only: tuple[str, ...] | list[str], as_json: bool, log_json: bool
) -> None:
    from rsdata.flows.build_dataset import Event, build, on_event

    asked = load_recipe(recipe)
    if not as_json and not log_json:
        err.print(f"Building {asked.name} in {out_dir} ...", soft_wrap=True)
    done: dict[str, dict[str, float]] = {}
    with stages(quiet=as_json, as_lines=log_json) as show:

        def tell(event: Event) -> None:
            tally = done.setdefault(event.stage, {"done": 0, "skipped": 0, "failed": 0, "seconds": 0.0, "bytes": 0, "peak_bytes": 0})
            if event.unit is not None:
                tally["failed" if event.failed else "skipped" if event.skipped else "done"] += 1
                tally["seconds"] += 0.0 if event.skipped else event.seconds
                tally["bytes"] += event.bytes
                tally["peak_bytes"] = max(tally["peak_bytes"], event.peak_bytes)
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
    done = {stage: tally for stage, tally in done.items() if tally["done"] or tally["skipped"] or tally["failed"]}
    if as_json:
        out.print_json(json.dumps({"stages": done, "failures": [item.model_dump() for item in failures]}))
        raise typer.Exit(1 if failures else 0)
    _print_build(done)
    if all(not tally["done"] and not tally["failed"] for tally in done.values()):
        out.print("Everything was finished before; nothing was done.")
    if asked.training is not None and workspace.metrics(asked.training.label).exists():
        print_training(workspace, asked.training.label, as_json=False)
    if log_json and failures:
        for item in failures:
            reason, remedy = reason_and_remedy(item.message)
            print_line({"event": "not done", "stage": item.stage, "unit": item.unit, "reason": reason, "remedy": remedy})
        raise typer.Exit(1)
    end(failures)


def _print_build(done: dict[str, dict[str, float]]) -> None:
    table = new_table("stage", "done", "finished before", "failed", "seconds", "made", "peak memory")
    for stage, tally in done.items():
        counts = (f"{tally[name]:.0f}" for name in ("done", "skipped", "failed"))
        sizes = (in_bytes(int(tally[name])) if tally["done"] else "" for name in ("bytes", "peak_bytes"))
        table.add_row(stage, *counts, f"{tally['seconds']:.1f}", *sizes)
    out.print(table)
