"""A model's answers on one split of a shard, and their scores.

Training scores itself through the same function, so a reloaded checkpoint gives the same numbers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from rsdata.errors import TrainingError
from rsdata.records import Scores
from rsdata.training.checkpoint import Checkpoint
from rsdata.training.dataset import PatchDataset, ShardReader
from rsdata.training.loading import PatchLoader
from rsdata.training.metrics import score_multilabel

_BATCH = 64  # patches at once; fixed, because results of different batch sizes differ in the last bits


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of each patch."""

    patch_ids: list[str]
    classes: list[str]
    probabilities: npt.NDArray[np.float64]  # (patch, class), 0 to 1


def predict(checkpoint: Checkpoint, shard: ShardReader, split: str) -> Predictions:
    """Ask a trained model about every patch of a split.

    Raises: TrainingError if the shard does not fit the model, or the split is empty.
    """
    dataset = _dataset_for(checkpoint, shard, split)
    logits = _logits(checkpoint.network, dataset)
    return Predictions(dataset.patch_ids, dataset.classes, logits.sigmoid().numpy())


def score(checkpoint: Checkpoint, shard: ShardReader, split: str) -> Scores:
    """Score a trained model on a split.

    Raises: TrainingError as ``predict``, and if no patch of the split carries a label.
    """
    return score_dataset(checkpoint.network, _dataset_for(checkpoint, shard, split))


def score_dataset(network: nn.Module, dataset: PatchDataset) -> Scores:
    """Score a network, on the device where it is, on every patch of a dataset."""
    logits, targets = _logits(network, dataset), torch.from_numpy(dataset.targets)
    loss = float(binary_cross_entropy_with_logits(logits, targets.double()))
    return score_multilabel(logits.sigmoid(), targets, dataset.classes, loss)


def _dataset_for(checkpoint: Checkpoint, shard: ShardReader, split: str) -> PatchDataset:
    checkpoint.check_fits(shard.manifest)
    dataset = PatchDataset(shard, split, checkpoint.card.normalisation, checkpoint.card.input_px)
    if len(dataset) == 0:
        raise TrainingError(f"the {split} split of shard {shard.manifest.name!r} is empty, so there is nothing to predict", split=split)
    return dataset


def _logits(network: nn.Module, dataset: PatchDataset) -> Tensor:
    """(patch, class) float64 on the CPU; in double precision a sigmoid keeps the ranking of confident answers."""
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    batches = []
    loader = PatchLoader(dataset, _BATCH, workers=loader_workers(device), rank=0, world_size=1)
    with loader, torch.inference_mode():
        for pixels, _ in loader:
            batches.append(network(pixels.to(device, memory_format=torch.channels_last)).double().cpu())
    return torch.cat(batches)


def loader_workers(device: torch.device) -> int:
    """Threads that read patches: none beside a network that computes on the same cores, some to feed a GPU."""
    return min(8, torch.get_num_threads()) if device.type == "cuda" else 0
