"""Verbs on texts: write them anew, export them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rsdata import steps
from rsdata.commands import caption_batch, caption_score
from rsdata.commands.caption_batch import BaseUrl, KeyVariable, ModelName, model_changes
from rsdata.commands.console import AsJson, bar, new_table, out, print_counts


class _WriteByDefault(TyperGroup):
    """``caption DIR`` writes; a dataset that is called like a verb needs a path, as in ``./export``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["write", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    no_args_is_help=True, cls=_WriteByDefault, help="Texts of a built dataset: `caption DIR` writes them anew, other verbs use them."
)
app.add_typer(caption_batch.app, name="batch")


@app.command("write")
def caption_write(
    directory: Annotated[Path, typer.Argument(help="A built dataset.")],
    engine: Annotated[str | None, typer.Option(help="Who words the captions.", show_default="as the recipe says")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all draws.", show_default="as the recipe says")] = None,
    base_url: BaseUrl = None,
    model: ModelName = None,
    api_key_env: KeyVariable = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server: take a model's answers from those that are kept.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write facts, captions and questions of a built dataset anew; what has not changed is not done again."""
    given: dict[str, Any] = {"engine": engine, "seed": seed}
    changes = {name: value for name, value in given.items() if value is not None} | model_changes(base_url, model, api_key_env)
    workspace = steps.open_workspace(directory)
    with bar("captions") as advance, steps.changing(workspace):
        outcome = steps.recaption(workspace, changes, ask=not offline, advance=advance)
    report = steps.read_text_report(workspace)
    if as_json:
        said = {"done": not outcome.skipped, "counts": outcome.receipt.counts}
        out.print_json(json.dumps(said | ({"model": report.model_dump()} if report is not None else {})))
        return
    print_counts("Nothing has changed" if outcome.skipped else "Written", outcome.receipt.counts)
    if report is not None:
        _print_report(report)


@app.command("export")
def caption_export(
    directory: Annotated[Path, typer.Argument(help="A built dataset.")],
    form: Annotated[str, typer.Option("--as", help=f"{', '.join(steps.TEXT_FORMS)}.")],
    target: Annotated[Path, typer.Option("--out", help="A Parquet file for bigearthnet-txt, else a folder; must not exist yet.")],
    images: Annotated[bool, typer.Option(help="Put pictures beside the texts, where the form has a place for them.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write the texts of a built dataset in a form that others read."""
    with bar("export") as advance:
        counts = steps.export_texts(steps.open_workspace(directory), form, target, pictures=images, advance=advance)
    if as_json:
        out.print_json(json.dumps({"out": str(target), "counts": counts}))
        return
    print_counts(f"Wrote {target}", counts)


def _print_report(report: steps.TextReport) -> None:
    """What a language model's captions came to."""
    table = new_table(f"captions by {report.model}", "count", "share")
    for name, count in {
        "accepted at first": report.accepted_at_first,
        "accepted after repair": report.accepted_after_repair,
        "fallen back to the template": report.fallen_back,
    }.items():
        table.add_row(name, f"{count:,}", f"{count / max(1, report.captions):.1%}")
    out.print(table)
    if report.findings:
        print_counts("answers sent back for", report.findings)
    cost = f", at a cost of {report.cost:.4g}" if report.cost else ""
    out.print(f"{report.input_tokens + report.output_tokens:,} tokens used in all{cost}.")


app.command("score")(caption_score.caption_score)
app.command("recall")(caption_score.caption_recall)
