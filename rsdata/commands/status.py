"""How far a build is: who is at it, stage by stage, at what rate, with what memory."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, end, in_bytes, new_table, out

app = typer.Typer()


@app.command()
def status(directory: Annotated[Path, typer.Argument(help="A folder that is being built, or was.")], as_json: AsJson = False) -> None:
    """Tell how far a build is, while it runs and after; 0 if it runs or is done, else 1."""
    workspace = steps.Workspace(directory.resolve())
    receipts, state, builder = steps.receipts_by_stage(workspace), steps.read_state(workspace), steps.builder_of(workspace)
    outcome: str = "unknown" if state is None else state.outcome
    if outcome == "running" and builder is None:
        outcome = "cut off"
    if as_json:
        said: dict[str, Any] = {
            "outcome": outcome,
            "builder": builder.model_dump(mode="json") if builder else None,
            "receipts": receipts,
            "state": state.model_dump(mode="json") if state else None,
        }
        out.print_json(json.dumps(said))
        raise typer.Exit(outcome not in ("running", "done"))
    out.print(_sentence(outcome, builder, state), soft_wrap=True)
    table = new_table("stage", "done", "finished before", "failed", "of", "per minute", "made", "peak memory", "last")
    for stage in state.stages if state else []:
        ended = stage.done + stage.skipped + stage.failed
        table.add_row(
            stage.stage,
            f"{stage.done:,}",
            f"{stage.skipped:,}",
            f"{stage.failed:,}",
            f"{max(stage.total, ended):,}",
            f"{60 * stage.done / stage.wall_s:,.1f}" if stage.done and stage.wall_s else "",
            in_bytes(stage.bytes) if stage.bytes else "",
            in_bytes(stage.peak_bytes) if stage.peak_bytes else "",
            stage.note,
        )
    out.print(table) if state else None
    if state and state.processes:
        largest = max(state.processes, key=lambda each: each.peak_bytes)
        out.print(f"{len(state.processes)} processes worked; {largest.process} held the most memory, {in_bytes(largest.peak_bytes)}.")
    out.print("Receipts: " + (", ".join(f"{count:,} of {stage}" for stage, count in receipts.items()) or "none"), soft_wrap=True)
    end(list(state.failures) if state else [])
    raise typer.Exit(outcome not in ("running", "done"))


def _sentence(outcome: str, builder: Any, state: Any) -> str:
    if state is None:
        return "No build has kept a journal here."
    who = f"process {state.builder.pid} on {state.builder.host}, {state.workers} at a time, since {state.builder.since:%Y-%m-%d %H:%M} UTC"
    seconds = (datetime.now(UTC) - state.updated).total_seconds()
    if outcome == "running":
        return f"{state.name} is being built by {who}; it last told something {seconds:.0f} s ago."
    if outcome == "cut off":
        return f"{state.name}: the build of {who} was cut off at {state.updated:%H:%M:%S} UTC; the same command goes on from there."
    why = f": {state.reason}" if state.reason else ""
    return f"{state.name}: {outcome} at {state.updated:%Y-%m-%d %H:%M} UTC{why}. It was built by {who}."
