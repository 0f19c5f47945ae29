"""Verbs on batches of questions for a language model: write, run, read."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, out, print_counts
from rsdata.recipe import LanguageModel

app = typer.Typer(no_args_is_help=True, help="Ask a language model in batches: write the questions, run them, read the answers.")

BaseUrl = Annotated[str | None, typer.Option(help="Server that speaks the OpenAI chat protocol, such as http://127.0.0.1:8000/v1.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Model, as the server calls it.")]
KeyVariable = Annotated[str | None, typer.Option("--api-key-env", help="Name of the environment variable that holds the key.")]


def model_changes(base_url: str | None, model: str | None, api_key_env: str | None) -> dict[str, Any]:
    """What the command line says of a model, as a change to the recipe's part on captions."""
    said = {"base_url": base_url, "model": model, "api_key_env": api_key_env}
    given = {name: value for name, value in said.items() if value is not None}
    return {"llm": given} if given else {}


@app.command("write")
def batch_write(
    directory: Annotated[Path, typer.Argument(help="A built dataset.")],
    out_path: Annotated[Path, typer.Option("--out", help="JSONL file to write.")],
    base_url: BaseUrl = None,
    model: ModelName = None,
    as_json: AsJson = False,
) -> None:
    """Write the next question about every patch that has no supported caption yet, as the OpenAI batch API takes it."""
    changes = model_changes(base_url, model, None)
    with bar("questions") as advance:
        count = steps.write_batch(steps.open_workspace(directory), changes, out_path, advance)
    _print(f"Wrote {out_path}", {"questions": count}, as_json)


@app.command("run")
def batch_run(
    source: Annotated[Path, typer.Argument(help="JSONL file of questions.")],
    out_path: Annotated[Path, typer.Option("--out", help="JSONL file of answers; what it holds is not asked again.")],
    base_url: Annotated[str, typer.Option(help="Server that speaks the OpenAI chat protocol, such as http://127.0.0.1:8000/v1.")],
    api_key_env: KeyVariable = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at a time.")] = 4,
    retries: Annotated[int, typer.Option(min=0, help="Of a request that was not answered.")] = 5,
    timeout_s: Annotated[float, typer.Option(help="Longest silence of the server, seconds.")] = 60,
    max_total_tokens: Annotated[int | None, typer.Option(min=1, help="Stop before more would be used, all runs together.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send a batch to any server, which needs no batch API; may be stopped and run again."""
    said = {"base_url": base_url, "model": "as the batch says", "api_key_env": api_key_env, "concurrency": concurrency, "retries": retries}
    options = LanguageModel.checked({**said, "timeout_s": timeout_s, "budget": {"tokens": max_total_tokens}})
    with bar("answers") as advance:
        counts = steps.run_batch(source, out_path, options, advance)
    _print(f"Wrote {out_path}", counts, as_json)
    if counts["failed"]:
        raise typer.Exit(1)


@app.command("read")
def batch_read(
    directory: Annotated[Path, typer.Argument(help="The dataset that the batch was written for.")],
    results: Annotated[Path, typer.Argument(help="JSONL file of answers.")],
    as_json: AsJson = False,
) -> None:
    """Keep the answers of a batch; `rsdata caption DIR --engine llm --offline` then writes captions from them."""
    counts = steps.read_batch(steps.open_workspace(directory), results)
    _print("Answers", counts, as_json)
    if counts["failed"]:
        raise typer.Exit(1)


def _print(title: str, counts: dict[str, int], as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(counts))
    else:
        print_counts(title, counts)
