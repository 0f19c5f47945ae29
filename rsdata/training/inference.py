"""A model's answers on one split of a shard, and their scores.

Training scores itself through the same function, so a reloaded checkpoint gives the same numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rsdata.errors import TrainingError
from rsdata.records import Scores
from rsdata.training.checkpoint import Checkpoint
from rsdata.training.dataset import PatchDataset, ShardReader
from rsdata.training.loading import PatchLoader
from rsdata.training.tasks import Answer, Task

_BATCH = 64  # patches at once; fixed, because results of different batch sizes differ in the last bits


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of each patch."""

    patch_ids: list[str]
    classes: list[str]
    probabilities: npt.NDArray[np.float64]  # (patch, class), 0 to 1


def predict(checkpoint: Checkpoint, shard: ShardReader, split: str | None) -> Predictions:
    """Ask a multi-label model about every patch of a split.

    Raises: TrainingError if the shard does not fit the model, the split is empty, or the model's task is another.
    """
    if checkpoint.task.name != "multilabel":
        raise TrainingError(f"the model's task is {checkpoint.task.name}; only multilabel has probabilities of patches")
    dataset = dataset_for(checkpoint, shard, split)
    classes = list(checkpoint.task.classes)
    parts = [checkpoint.task.columns(answer) for answer, _ in answers(checkpoint.task, checkpoint.network, dataset)]
    probabilities = np.concatenate([np.stack([part[name] for name in classes], axis=1) for part in parts])
    return Predictions(dataset.patch_ids, classes, probabilities)


def score(checkpoint: Checkpoint, shard: ShardReader, split: str, table: Path | None = None) -> Scores:
    """Score a trained model on a split.

    Raises: TrainingError as ``predict``, and if there is nothing to score.
    """
    dataset = dataset_for(checkpoint, shard, split)
    dataset.target_reader = checkpoint.task.reader(shard, dataset, table, False)
    return score_dataset(checkpoint.task, checkpoint.network, dataset)


def score_dataset(task: Task, network: nn.Module, dataset: PatchDataset) -> Scores:
    """Score a network, on the device where it is, on every patch of a dataset."""
    scorer = task.scorer()
    for answer, targets in answers(task, network, dataset):
        scorer.add(answer, targets)
    return scorer.scores()


def answers(task: Task, network: nn.Module, dataset: PatchDataset, batch_size: int = _BATCH) -> Iterator[tuple[Answer, Tensor]]:
    """What a network answers, batch by batch in the order of the dataset, in float32 on its own device; and the targets."""
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    loader = PatchLoader(dataset, batch_size, workers=loader_workers(device), rank=0, world_size=1)
    with loader:
        for pixels, targets in loader:
            with torch.inference_mode():
                on_device = targets.to(device)
                yield task.answer(network, pixels.to(device, memory_format=torch.channels_last), on_device), on_device


def dataset_for(checkpoint: Checkpoint, shard: ShardReader, split: str | None) -> PatchDataset:
    """The patches of a split as a model must be fed; all patches without one.

    Raises: TrainingError if the shard does not fit the model, or there are no patches.
    """
    checkpoint.check_fits(shard.manifest)
    card = checkpoint.card
    dataset = PatchDataset(shard, split, card.normalisation, card.input_px, resampling=card.resampling, sensor=card.sensor)
    if len(dataset) == 0:
        raise TrainingError(f"the {split} split of shard {shard.manifest.name!r} is empty, so there is nothing to predict", split=split)
    return dataset


def loader_workers(device: torch.device) -> int:
    """Threads that read patches: none beside a network that computes on the same cores, some to feed a GPU."""
    return min(8, torch.get_num_threads()) if device.type == "cuda" else 0
