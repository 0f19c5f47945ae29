"""Baselines on shards: a torch dataset over any shard, models by name, scores, and the loop that trains.

This is the only room that needs torch, so it is imported only when training is asked for.
"""

from rsdata.training.checkpoint import Checkpoint, ModelCard, load_checkpoint
from rsdata.training.dataset import Normalisation, PatchDataset, ShardReader
from rsdata.training.inference import Predictions, predict, score
from rsdata.training.loading import BufferPool, PatchLoader
from rsdata.training.loop import CHECKPOINT_NAME, train, train_shard
from rsdata.training.metrics import score_multilabel
from rsdata.training.models import MODELS, ModelBuilder, build_model
from rsdata.training.progress import ConsoleProgress, SilentProgress, TrainingProgress

__all__ = [
    "CHECKPOINT_NAME",
    "MODELS",
    "BufferPool",
    "Checkpoint",
    "ConsoleProgress",
    "ModelBuilder",
    "ModelCard",
    "Normalisation",
    "PatchDataset",
    "PatchLoader",
    "Predictions",
    "ShardReader",
    "SilentProgress",
    "TrainingProgress",
    "build_model",
    "load_checkpoint",
    "predict",
    "score",
    "score_multilabel",
    "train",
    "train_shard",
]
