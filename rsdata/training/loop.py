"""Train a baseline on a shard: the plain recipe, held still by one seed.

AdamW on binary cross-entropy, a short linear warm-up and a cosine down to zero; the weights of the epoch with the
best validation macro average precision are kept and meet the test split once, at the end.
"""

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from rsdata.errors import TrainingError
from rsdata.recipe import Training
from rsdata.records import EpochLog, Scores, ShardManifest, TrainingReport
from rsdata.shards import open_shard
from rsdata.training.checkpoint import ModelCard, write_checkpoint
from rsdata.training.dataset import Normalisation, PatchDataset, ShardReader, class_names
from rsdata.training.inference import loader_workers, score_dataset
from rsdata.training.loading import PatchLoader
from rsdata.training.models import build_model, count_parameters
from rsdata.training.progress import ConsoleProgress, TrainingProgress

CHECKPOINT_NAME = "model.safetensors"
_WARM_UP = 0.1  # share of all steps over which the learning rate rises


def train(shard_path: Path, options: Training, out: Path, progress: TrainingProgress | None = None) -> TrainingReport:
    """Train a model on a shard, write its best weights to ``out/model.safetensors``, and report its scores.

    Uses a GPU if there is one. The same shard, options and machine give the same weights and scores.

    Args:
        shard_path: a shard with a manifest, such as ``shards/lmdb`` of a workspace.
        options: the recipe's training part.
        out: folder for the checkpoint; the report is returned, and written by whoever keeps it.
        progress: told of every batch and epoch; the terminal if absent.

    Raises: TrainingError if the shard cannot serve the options, or the loss stops being a number.
    """
    with open_shard(shard_path) as shard:
        return train_shard(shard, options, out, progress)


def train_shard(shard: ShardReader, options: Training, out: Path, progress: TrainingProgress | None = None) -> TrainingReport:
    """Like ``train``, on a shard that is open already."""
    progress = progress or ConsoleProgress()
    manifest = shard.manifest
    normalisation = Normalisation.from_manifest(manifest, options.bands)
    training, validation, test = (
        PatchDataset(shard, split, normalisation, options.input_px, augment=split == "train", seed=options.seed)
        for split in ("train", "validation", "test")
    )
    _check_patches(manifest, training, validation, test)
    for part, consequence in ((validation, "the last epoch's weights are kept"), (test, "there will be no test scores")):
        if len(part) == 0:
            progress.note(f"the {part.split} split is empty: {consequence}")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.backends.cudnn.flags(benchmark=False, deterministic=True),
    ):
        torch.manual_seed(options.seed)
        network = build_model(options.model, len(normalisation.bands), len(training.classes)).to(device)
        progress.note(
            f"{options.model} on {device.type}: {count_parameters(network):,} parameters, {len(normalisation.bands)} bands at "
            f"{options.input_px} px, {len(training)} train, {len(validation)} validation and {len(test)} test patches"
        )
        epochs, best_epoch, weights = _run_epochs(network, training, validation, options, progress)
        network.load_state_dict(weights)
        scores = score_dataset(network, test) if len(test) else None

    card = ModelCard(options.model, options.task, normalisation, options.input_px, tuple(training.classes))
    write_checkpoint(out / CHECKPOINT_NAME, card, weights)
    if scores is not None:
        progress.note(_summary(best_epoch, scores))
    return TrainingReport(
        model=options.model,
        task=options.task,
        bands=list(normalisation.bands),
        classes=class_names(manifest),
        seed=options.seed,
        parameters=count_parameters(network),
        shard_manifest_sha256=manifest_sha256(manifest),
        epochs=epochs,
        best_epoch=best_epoch,
        test=scores,
    )


def manifest_sha256(manifest: ShardManifest) -> str:
    """Digest of a shard's manifest as records are written: that of its file, if this version wrote it."""
    return hashlib.sha256((manifest.model_dump_json(indent=1) + "\n").encode()).hexdigest()


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the learning rate at a step: rises linearly over the first tenth, then falls to zero as a cosine."""
    warm_up = max(1, round(steps * _WARM_UP))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _check_patches(manifest: ShardManifest, training: PatchDataset, *scored: PatchDataset) -> None:
    class_names(manifest)  # refuses an empty label table
    if len(training) < 2:
        raise TrainingError(
            f"the train split of shard {manifest.name!r} has {len(training)} patches; training needs at least two. "
            "See with `rsdata split audit` where the patches went",
            patches=len(training),
        )
    for dataset in (training, *scored):
        if len(dataset) and not dataset.targets.any():
            raise TrainingError(
                f"none of the {len(dataset)} patches in the {dataset.split} split of shard {manifest.name!r} carries a label; "
                "check the labels stage",
                split=dataset.split,
            )


def _run_epochs(
    network: nn.Module, training: PatchDataset, validation: PatchDataset, options: Training, progress: TrainingProgress
) -> tuple[list[EpochLog], int, dict[str, Tensor]]:
    """Train; return the log, the epoch whose weights are kept (from 1), and those weights on the CPU."""
    device = next(network.parameters()).device
    loader = PatchLoader(
        training,
        options.batch_size,
        shuffle=True,
        seed=options.seed,
        workers=loader_workers(device),
        rank=0,
        world_size=1,
        # a last batch of one patch has no spread for batch normalisation; another order drops another patch
        drop_last=len(training) > options.batch_size and len(training) % options.batch_size == 1,
    )
    optimizer = AdamW(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * len(loader)
    schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))

    logs: list[EpochLog] = []
    best_epoch, best_rank, best_weights = 0, (-math.inf, -math.inf), dict[str, Tensor]()
    with loader, progress.running(options.epochs, len(loader)):
        for epoch in range(1, options.epochs + 1):
            started_s = time.perf_counter()
            loader.epoch = epoch

            def tell(batch: int, loss: float, epoch: int = epoch) -> None:
                progress.batch(epoch, batch, loss)

            train_loss = _run_epoch(network, loader, optimizer, schedule, tell)
            scores = score_dataset(network, validation) if len(validation) else None
            # without validation patches there is nothing to choose by, so the last epoch wins; equal rankings go by loss
            rank = (float(epoch), 0.0) if scores is None else (scores.average_precision_macro, -scores.loss)
            if rank > best_rank:
                best_epoch, best_rank = epoch, rank
                best_weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
            log = EpochLog(epoch=epoch, train_loss=train_loss, validation=scores, seconds=round(time.perf_counter() - started_s, 3))
            logs.append(log)
            progress.epoch(log)
    return logs, best_epoch, best_weights


def _run_epoch(
    network: nn.Module,
    loader: PatchLoader,
    optimizer: AdamW,
    schedule: LambdaLR,
    tell: Callable[[int, float], None],
) -> float:
    """One pass over the train split; returns the mean loss per patch."""
    device = next(network.parameters()).device
    # a quarter faster on a CPU than the default order
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    criterion = nn.BCEWithLogitsLoss()
    total, patches = 0.0, 0
    for batch, (pixels, targets) in enumerate(loader, start=1):
        loss = criterion(network(pixels.to(device, memory_format=torch.channels_last)), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(f"the loss became {value} in batch {batch}; choose a smaller learning_rate", batch=batch, loss=value)
        total, patches = total + value * len(pixels), patches + len(pixels)
        tell(batch, value)
    return total / patches


def _summary(best_epoch: int, scores: Scores) -> str:
    return (
        f"test split with the weights of epoch {best_epoch}: AP macro {scores.average_precision_macro:.3f} "
        f"(chance {scores.chance_average_precision_macro:.3f}), micro {scores.average_precision_micro:.3f}; "
        f"F1 macro {scores.f1_macro:.3f}, micro {scores.f1_micro:.3f}"
    )
