"""Models on the shard of a dataset, or on any other: training, results side by side, and predictions."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from rsdata import __version__, shards
from rsdata.errors import TrainingError
from rsdata.recipe import Recipe, Training, load_recipe
from rsdata.records import ResultRow, TrainingReport, result_rows
from rsdata.steps.packing import merged_shard
from rsdata.steps.receipts import Outcome, once, outputs_digest
from rsdata.workspace import Workspace, combined_sha256, file_sha256, read_record, write_record

SAVE_EVERY_S = 300.0


def train_baseline(recipe: Recipe, workspace: Workspace, options: Training, save_every_s: float = SAVE_EVERY_S) -> Outcome | None:
    """Train what a recipe or a flag asks for on the dataset's shard; retrieval by text learns from the dataset's own captions.

    Args: save_every_s: seconds after which the state of a run is saved, so that it goes on from there if it is stopped.

    Returns: none in processes of ``torchrun`` other than the first, which alone writes results.
    """
    if options.init is not None and not options.init.startswith("hub:"):
        options = options.model_copy(update={"init": recipe.absolute(options.init)})
    given = {name: recipe.absolute(path) for name in ("labels", "subset") if (path := getattr(options, name)) is not None}
    options = options.model_copy(update=given)
    table = Path(recipe.absolute(options.table)) if options.table is not None else None
    if table is None and options.task == "retrieval" and options.pair[0] == "text":
        table = workspace.texts
    key = {"shards": outputs_digest("shards", recipe.shards.format, workspace)}
    return _train(merged_shard(recipe, workspace), workspace, options, table, key, save_every_s)


def train_on_shard(shard: Path, out: Path, options: Training, save_every_s: float = SAVE_EVERY_S) -> Outcome | None:
    """Train on a shard that is not part of a dataset; results lie below ``out`` as they would in a dataset's folder.

    Returns: as ``train_baseline``.
    """
    table = Path(options.table) if options.table is not None else None
    with shards.open_shard(shard):  # or it is said what is wrong with it, before anything is made
        key = {"shards": file_sha256(shard / shards.MANIFEST_FILE)}
    return _train(shard, Workspace.create(out), options, table, key, save_every_s)


def _train(
    shard: Path, workspace: Workspace, options: Training, table: Path | None, key: Mapping[str, str], save_every_s: float
) -> Outcome | None:
    from rsdata.training import CHECKPOINT_NAME, run_folder, train, weights_file

    name = options.label
    folder, metrics = workspace.training(name), workspace.metrics(name)

    def work() -> tuple[list[Path], dict[str, int]]:
        report = train(shard, options, folder, table=table, save_every_s=save_every_s)
        if not writes_results():
            return [], {}
        write_record(metrics, report)
        weights = [run_folder(folder, seed) / CHECKPOINT_NAME for seed in options.seeds]
        beside = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in (metrics, *weights)]  # logs and states
        return [metrics, *weights, *beside], {"runs": len(report.runs), "epochs": sum(len(run.epochs) for run in report.runs)}

    key = {**key, "recipe": options.digest()} | ({"table": file_sha256(table)} if table is not None and table.is_file() else {})
    if options.init is not None and (init := weights_file(options.init)).is_file():
        key["init"] = file_sha256(init)
    for each, path in (("labels", options.labels), ("subset", options.subset)):
        if path is not None and Path(path).is_file():
            key[each] = file_sha256(Path(path))
    if writes_results():
        return once("training", name, workspace, key, work)
    # of the processes that torchrun started the first writes, and the others compute with it
    if workspace.finished("training", name, combined_sha256({**key, "stage": "training", "unit": name, "rsdata": __version__})) is None:
        work()
    return None


def writes_results() -> bool:
    """Whether this process keeps the results: the first of those that torchrun started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def read_training(workspace: Workspace, name: str) -> TrainingReport:
    """Scores of a model that was trained on this dataset."""
    return read_record(workspace.metrics(name), TrainingReport)


def read_results(workspace: Workspace, like: TrainingReport) -> list[TrainingReport]:
    """All models that were trained for the same task on the same shard, by name."""
    found = [read_record(path, TrainingReport) for path in result_files(workspace)]
    return [each for each in found if (each.task, each.shard_manifest_sha256) == (like.task, like.shard_manifest_sha256)]


def training_rows(workspace: Workspace, report: TrainingReport) -> list[ResultRow]:
    """Baselines and all models of the same task on the same shard, as lines of a table."""
    return result_rows(read_results(workspace, report))


def result_files(workspace: Workspace) -> list[Path]:
    """Of all models that were trained."""
    return sorted(workspace.training("").glob(f"*/{workspace.metrics('').name}"))


def shard_of(folder: Path) -> Path:
    """The shard that a folder is, or that the dataset in it has."""
    if (folder / "recipe.yaml").is_file():
        return merged_shard(load_recipe(folder / "recipe.yaml"), Workspace(folder))
    return folder


def predict(
    checkpoint: Path,
    folder: Path,
    out: Path,
    *,
    split: str | None,
    table: Path | None = None,
    maps: bool = True,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[int, int]:
    """Ask a trained model about the patches of a shard or a dataset; see ``rsdata.training.writing``.

    Returns: how many patches, and how many maps.
    """
    from rsdata.training import load_checkpoint
    from rsdata.training.writing import write_predictions

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(f"{out} holds something already; name a folder that does not exist yet", path=str(out))
    with shards.open_shard(shard_of(folder)) as shard:
        return write_predictions(load_checkpoint(checkpoint), shard, split, out, table=table, maps=maps, advance=advance)
