"""Verbs of models: train and predict."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rsdata import steps
from rsdata.commands.console import AsJson, bar, err, new_table, out
from rsdata.errors import RecipeError
from rsdata.recipe import Training, load_recipe, named_values

app = typer.Typer()
_BANDS = "Separated by commas."


@app.command()
def train(
    directory: Annotated[Path, typer.Argument(help="A built dataset, or a shard.")],
    model: Annotated[str | None, typer.Option(help="Short name of the model.")] = None,
    task: Annotated[str | None, typer.Option(help="multilabel, segmentation, retrieval or regression.")] = None,
    preset: Annotated[str | None, typer.Option(help="Options of a published benchmark, such as reben; flags come first.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", "--seed", help="One run each, separated by commas, such as 0,1,2.")] = None,
    sensors: Annotated[str | None, typer.Option(help=f"Whose bands, such as s1,s2; all if absent. {_BANDS}")] = None,
    bands: Annotated[str | None, typer.Option(help=f"Band names; all of the sensors if absent. {_BANDS}")] = None,
    target: Annotated[str | None, typer.Option(help="Of regression: a band, or a column of --table.")] = None,
    pair: Annotated[str | None, typer.Option(help="Of retrieval: s1,s2 or text,s2 or embedding,s2.")] = None,
    table: Annotated[Path | None, typer.Option(help="Parquet file with patch_id and a target, texts or embeddings.")] = None,
    init: Annotated[str | None, typer.Option(help="Weights to begin with: safetensors, or hub:OWNER/NAME to fetch them.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Other labels for train patches, as `rsdata subset noise` writes.")] = None,
    subset: Annotated[Path | None, typer.Option(help="The only train patches to learn from, as `rsdata subset` writes.")] = None,
    subset_part: Annotated[str | None, typer.Option(help="Which of its sizes or clients, such as 0.1 or client-0.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the folder of results; made of the other options if absent.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0)] = None,
    input_px: Annotated[int | None, typer.Option(min=1, help="Side that all bands are brought to.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Any other option of a recipe's `training`, as name=value.")] = None,
    baselines: Annotated[bool | None, typer.Option("--baselines/--no-baselines", help="Score what needs no network too.")] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder of the results, for a shard that is in no dataset.")] = None,
    save_minutes: Annotated[float, typer.Option(min=0, help="Time after which a run's state is saved, to go on from.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Train a model, once for each seed, and print its scores beside those of all models of this task, and of baselines.

    A stopped run goes on where it was. Several processes: torchrun --nproc-per-node N -m rsdata train ...
    """
    flags = {
        "model": model, "task": task, "preset": preset, "seeds": _whole(seeds), "sensors": _listed(sensors), "bands": _listed(bands),
        "target": target, "pair": _listed(pair), "table": str(table.resolve()) if table else None,
        "init": str(Path(init).resolve()) if init and not init.startswith("hub:") else init,
        "labels": str(labels.resolve()) if labels else None, "subset": str(subset.resolve()) if subset else None,
        "subset_part": subset_part, "name": name, "epochs": epochs, "batch_size": batch_size,
        "learning_rate": learning_rate, "input_px": input_px, "precision": precision, "baselines": baselines,
    }  # fmt: skip
    given = named_values(option or (), "dropout=0.1") | {key: value for key, value in flags.items() if value is not None}
    if (directory / "recipe.yaml").is_file():
        if out_dir is not None:
            raise RecipeError(f"{directory} is a dataset, whose results lie in it; leave --out out", path=str(directory))
        workspace = steps.open_workspace(directory)
        recipe = load_recipe(workspace.recipe)
        of_recipe = recipe.training.model_dump(exclude_unset=True) if recipe.training is not None and preset is None else {}
        if sensors is not None:
            of_recipe.pop("bands", None)  # which may be of others
        options = Training.parse(of_recipe | given)
        with steps.reading(workspace):
            steps.train_baseline(recipe, workspace, options, save_minutes * 60)
            if steps.writes_results():
                steps.write_report(recipe.model_copy(update={"training": options}), workspace)
    else:
        if out_dir is None:
            raise RecipeError(f"{directory} is no dataset; for a shard name a folder for the results with --out", path=str(directory))
        options = Training.parse(given)
        steps.train_on_shard(directory, out_dir, options, save_minutes * 60)
        workspace = steps.Workspace(out_dir)
    if steps.writes_results():
        print_training(workspace, options.label, as_json)


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="model.safetensors of a trained model.")],
    directory: Annotated[Path, typer.Argument(help="A built dataset, or a shard.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    split: Annotated[str, typer.Option(help="train, validation, test or all.")] = "test",
    table: Annotated[Path | None, typer.Option(help="Texts or embeddings, for models that are shown them.")] = None,
    maps: Annotated[bool, typer.Option("--maps/--no-maps", help="Write GeoTIFFs where answers are maps.")] = True,
    as_json: AsJson = False,
) -> None:
    """Ask a trained model about patches: a Parquet table, and GeoTIFFs where its answers are maps."""
    with bar("predict") as advance:
        patches, pictures = steps.predict(
            checkpoint, directory, out_dir, split=None if split == "all" else split, table=table, maps=maps, advance=advance
        )
    if as_json:
        out.print_json(json.dumps({"patches": patches, "maps": pictures, "out": str(out_dir)}))
    else:
        out.print(f"{patches:,} patches in {out_dir}" + (f", with {pictures:,} maps" if pictures else ""), soft_wrap=True)


def print_training(workspace: steps.Workspace, name: str, as_json: bool) -> None:
    """The figures of one model on the test split, beside those of all others of its task and of baselines."""
    report = steps.read_training(workspace, name)
    if as_json:
        out.print_json(report.model_dump_json())
        return
    if not report.test:
        out.print(f"{name}: no test patches, so no scores.")
        return
    table = new_table(f"{report.task}, test split", "seeds", *report.test)
    rows = steps.training_rows(workspace, report)
    for row in rows:
        table.add_row(row.name, str(row.seeds or "–"), *(row.figures.get(figure, "–") for figure in report.test))
    out.print(table)
    if any(row.seeds > 1 for row in rows):
        err.print("Mean ± sample standard deviation over the seeds.")


def _listed(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text is not None else None


def _whole(text: str | None) -> list[int] | None:
    try:
        return [int(part) for part in text.replace(",", " ").split()] if text is not None else None
    except ValueError as error:
        raise RecipeError(f"{text!r} are no seeds; expected whole numbers such as 0,1,2", seeds=text) from error
