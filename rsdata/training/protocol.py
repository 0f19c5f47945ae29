"""A model on a shard, as results are published: several seeds, their mean and spread, and what it has to beat.

A seed whose run has ended is not trained again; one that was stopped goes on.
"""

import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import ValidationError

from rsdata.errors import TrainingError
from rsdata.recipe import Training
from rsdata.records import Scores, ShardManifest, Spread, TrainingReport, TrainingRun
from rsdata.shards import open_shard
from rsdata.training.baselines import score_baselines
from rsdata.training.checkpoint import ModelCard, begin_with, build_network, write_checkpoint
from rsdata.training.choosing import read_labels, read_subset
from rsdata.training.dataset import Normalisation, PatchDataset, ShardReader, input_bands
from rsdata.training.inference import score_dataset
from rsdata.training.logs import RunLog
from rsdata.training.loop import Run, Standing
from rsdata.training.models import count_parameters
from rsdata.training.models.published import weights_file
from rsdata.training.progress import ConsoleProgress, SilentProgress, TrainingProgress
from rsdata.training.ranks import Ranks, ranks
from rsdata.training.tasks import Task, task_named
from rsdata.writing import writing

CHECKPOINT_NAME = "model.safetensors"
RUN_NAME = "run.json"
SAVE_EVERY_S = 300.0
_DECIDE_NOTHING = {"name", "seeds", "baselines"}  # options that change no run


def run_folder(out: Path, seed: int) -> Path:
    """Where the checkpoint, log and result of one seed lie."""
    return out / f"seed-{seed}"


def train(
    shard_path: Path,
    options: Training,
    out: Path,
    progress: TrainingProgress | None = None,
    *,
    table: Path | None = None,
    save_every_s: float = SAVE_EVERY_S,
) -> TrainingReport:
    """Train a model on a shard, once for each seed, and report its scores.

    Every seed leaves ``out/seed-N`` with the best weights, ``model.safetensors``, and a log of epochs, ``log.csv``. Uses a GPU if
    there is one, and all processes that ``torchrun`` started. The same shard, options and machine give the same weights and scores.

    Args:
        shard_path: a shard with a manifest, such as ``shards/lmdb`` of a workspace.
        options: the recipe's training part.
        out: folder for the runs; the report is returned, and written by whoever keeps it.
        progress: told of every step and epoch; the terminal if absent.
        table: what ``options.table`` names, with its folder.
        save_every_s: seconds after which a run's state is saved, so that it goes on from there if it is stopped.

    Raises: TrainingError if the shard cannot serve the options, or the loss stops being a number.
    """
    with open_shard(shard_path) as shard:
        return train_shard(shard, options, out, progress, table=table, save_every_s=save_every_s)


def train_shard(
    shard: ShardReader,
    options: Training,
    out: Path,
    progress: TrainingProgress | None = None,
    *,
    table: Path | None = None,
    save_every_s: float = SAVE_EVERY_S,
) -> TrainingReport:
    """Like ``train``, on a shard that is open already."""
    table = Path(options.table) if table is None and options.table is not None else table
    if options.init is not None:
        options = options.model_copy(update={"init": str(weights_file(options.init))})
    with ranks() as group:
        progress = (progress or ConsoleProgress()) if group.first else SilentProgress()
        study = Study(shard, options, table, group)
        for part, consequence in ((study.validation, "the last epoch's weights are kept"), (study.test, "there will be no test scores")):
            if len(part) == 0:
                progress.note(f"the {part.split} split is empty: {consequence}")
        runs = [study.run(seed, run_folder(out, seed), progress, save_every_s) for seed in options.seeds]
        baselines = score_baselines(study.task, study.training, study.test) if options.baselines and group.first and len(study.test) else []
    return TrainingReport(
        name=options.label,
        model=options.model,
        task=options.task,
        preset=options.preset,
        bands=list(study.normalisation.bands),
        classes=list(study.task.classes),
        options=options.model_dump(mode="json", exclude={"name", "table", "init", "labels", "subset"})
        | {name: Path(path).name for name, path in (("labels", options.labels), ("subset", options.subset)) if path is not None},
        parameters=study.parameters,
        shard_manifest_sha256=manifest_sha256(shard.manifest),
        runs=runs,
        test=spread([run.test for run in runs if run.test is not None]),
        baselines=baselines,
    )


class Study:
    """One shard, one task and one model; what all seeds share."""

    def __init__(self, shard: ShardReader, options: Training, table: Path | None, group: Ranks) -> None:
        """Raises: TrainingError if the shard or the table cannot serve the options."""
        self.options, self._group = options, group
        self._sensor = options.sensors[0] if options.sensors and len(options.sensors) == 1 else None
        bands = chosen_bands(shard.manifest, options)
        self.task: Task = task_named(options.task).of(shard, options, bands, table)
        self.normalisation = Normalisation.from_manifest(shard.manifest, bands, self._sensor)
        keep = None if options.subset is None else read_subset(Path(options.subset), options.subset_part)
        labels = None if options.labels is None else read_labels(Path(options.labels))
        self.training, self.validation, self.test = (
            PatchDataset(
                shard,
                split,
                self.normalisation,
                options.input_px,
                augment=split == "train" and options.augment and self.task.turns_images,
                resampling=options.resampling,
                sensor=self._sensor,
                keep=keep if split == "train" else None,
                labels=labels if split == "train" else None,
            )
            for split in ("train", "validation", "test")
        )
        if len(self.training) < 2:
            raise TrainingError(
                f"the train split of shard {shard.manifest.name!r} has {len(self.training)} patches"
                f"{'' if options.subset is None else f' that {options.subset} names'}; training needs at least two. "
                "See with `rsdata split audit` where the patches went",
                patches=len(self.training),
            )
        for dataset in (self.training, self.validation, self.test):
            dataset.target_reader = self.task.reader(shard, dataset, table, dataset is self.training)
        self.key = run_key(options, shard.manifest, table)
        with torch.device("meta"):  # costs no memory and draws no random number
            self.parameters = count_parameters(build_network(options.model, self.task, self.normalisation.bands, input_px=options.input_px))

    def run(self, seed: int, folder: Path, progress: TrainingProgress, save_every_s: float) -> TrainingRun:
        """Train with one seed, or read what came of it before."""
        key = hashlib.sha256(f"{self.key} {seed}".encode()).hexdigest()
        done = self._group.from_first(_finished(folder, key))
        if done is not None:
            progress.note(f"seed {seed} has been trained before: epoch {done.best_epoch} was best")
            return done
        device, options = self._group.device, self.options
        self.training.seed = seed
        self.training.forget_turns()
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            torch.backends.cudnn.flags(benchmark=False, deterministic=True),
        ):
            torch.manual_seed(seed)
            bands = self.normalisation.bands
            network = build_network(options.model, self.task, bands, options.dropout, options.drop_path, options.input_px).to(device)
            progress.note(self._about(seed))
            if options.init is not None:
                words = begin_with(network, options.model, bands, Path(options.init), self.task.classes, options.init_version)
                progress.note(words)
            if not self._group.first:
                torch.manual_seed(seed + 1_000_003 * self._group.rank)  # what is dropped out differs from process to process
            run = Run(self.task, network, self.training, self.validation, options, seed, self._group, folder, key, save_every_s)
            if (resumed := run.resume()) is not None:
                progress.note(resumed)
            with RunLog(folder, run.at.logs) if self._group.first else _NoLog() as log:
                standing = run.fit(log, progress)
            network.load_state_dict(standing.best_weights)
            scores = score_dataset(self.task, network, self.test) if len(self.test) else None
        return self._finish(seed, key, folder, standing, scores, progress, run)

    def _finish(
        self, seed: int, key: str, folder: Path, standing: Standing, scores: Scores | None, progress: TrainingProgress, run: Run
    ) -> TrainingRun:
        done = TrainingRun(
            seed=seed,
            key=key,
            epochs=standing.logs,
            best_epoch=standing.best_epoch,
            stopped_early=len(standing.logs) < self.options.epochs,
            test=scores,
        )
        done = self._group.from_first(done)
        if self._group.first:
            options, task = self.options, self.task
            card = ModelCard(options.model, task.name, task.card(), self.normalisation, options.input_px, options.resampling, self._sensor)
            write_checkpoint(folder / CHECKPOINT_NAME, card, standing.best_weights)
            with writing(folder / RUN_NAME) as aside:
                aside.write_text(done.model_dump_json(indent=1) + "\n", encoding="utf-8")
            run.state_path.unlink(missing_ok=True)
        if scores is not None:
            figures = ", ".join(f"{name} {value:.3f}" for name, value in scores.figures().items())
            progress.note(f"test split with the weights of epoch {standing.best_epoch}: {figures}")
        return done

    def _about(self, seed: int) -> str:
        together = f", {self._group.size} processes" if self._group.size > 1 else ""
        return (
            f"{self.options.model} on {self._group.device.type}{together}, {self.task.name}, seed {seed}: {self.parameters:,} parameters, "
            f"{len(self.normalisation.bands)} bands at {self.options.input_px} px, {len(self.training)} train, {len(self.validation)} "
            f"validation and {len(self.test)} test patches"
        )


class _NoLog(RunLog):
    """For processes that write nothing."""

    def __init__(self) -> None:
        self._board = None


def chosen_bands(manifest: ShardManifest, options: Training) -> list[str]:
    """The bands a model is fed: those named, or all of the sensors named, or all of the shard but the target.

    Raises: TrainingError if the shard has no band of a sensor, or a named band is not one of the sensors'.
    """
    known = input_bands(manifest)
    if options.sensors is not None:
        having = sorted({band.sensor for band in known})
        if unknown := sorted(set(options.sensors) - set(having)):
            raise TrainingError(
                f"shard {manifest.name!r} has no bands of {', '.join(unknown)}; it has those of {', '.join(having)}, so name these",
                sensors=unknown,
            )
        known = [band for band in known if band.sensor in options.sensors]
    names = [band.name for band in known]
    if options.bands is None:
        return [name for name in names if name != options.target]
    if foreign := [name for name in options.bands if name not in names and options.sensors is not None]:
        raise TrainingError(
            f"no band {', '.join(foreign)} is of {', '.join(options.sensors or [])}; known are {', '.join(names)}", bands=foreign
        )
    return list(options.bands)


def manifest_sha256(manifest: ShardManifest) -> str:
    """Digest of a shard's manifest as records are written: that of its file, if this version wrote it."""
    return hashlib.sha256((manifest.model_dump_json(indent=1) + "\n").encode()).hexdigest()


def run_key(options: Training, manifest: ShardManifest, table: Path | None) -> str:
    """Digest of what decides a run, its seed aside."""
    said = options.model_dump(mode="json", exclude=_DECIDE_NOTHING)
    for name, path in (("table", table), ("init", options.init), ("labels", options.labels), ("subset", options.subset)):
        if path is not None:
            try:
                with Path(path).open("rb") as stream:
                    said[name] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise TrainingError(f"the {name} {path} cannot be read: {error.strerror}; name an existing file", path=str(path)) from error
    return hashlib.sha256((json.dumps(said, sort_keys=True) + manifest_sha256(manifest)).encode()).hexdigest()


def spread(scores: Sequence[Scores]) -> dict[str, Spread]:
    """Mean and sample standard deviation (n - 1) of each figure; none where one run has no such figure."""
    figures = [each.figures() for each in scores]
    return {
        name: Spread(
            mean=statistics.fmean(values := [each[name] for each in figures]),
            sd=statistics.stdev(values) if len(values) > 1 else None,
        )
        for name in (figures[0] if figures else {})
        if all(math.isfinite(each[name]) for each in figures)
    }


def _finished(folder: Path, key: str) -> TrainingRun | None:
    """What came of a run, if it has ended with these options and its checkpoint is there."""
    try:
        run = TrainingRun.model_validate_json((folder / RUN_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return run if run.key == key and (folder / CHECKPOINT_NAME).is_file() else None
