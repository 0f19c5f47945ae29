"""Baselines on shards: a torch dataset over any shard, models by name, scores, and the loop that trains.

This is the only room that needs torch, so it is imported only when training is asked for.
"""

from rsdata.training.checkpoint import Checkpoint, ModelCard, load_checkpoint
from rsdata.training.cubes import SAMPLINGS, CubeBatch, CubeDataset
from rsdata.training.dataset import Normalisation, PatchDataset, ShardReader
from rsdata.training.inference import Predictions, predict, score
from rsdata.training.loading import BufferPool, PatchLoader
from rsdata.training.metrics import score_multilabel
from rsdata.training.models import MODELS, Model, ModelBuilder, build_model
from rsdata.training.models.published import weights_file
from rsdata.training.progress import ConsoleProgress, SilentProgress, TrainingProgress
from rsdata.training.protocol import CHECKPOINT_NAME, RUN_NAME, run_folder, train, train_shard
from rsdata.training.tasks import TASKS, Task
from rsdata.training.transforms import RandomTurn, Turned

__all__ = [
    "CHECKPOINT_NAME",
    "MODELS",
    "RUN_NAME",
    "SAMPLINGS",
    "TASKS",
    "BufferPool",
    "Checkpoint",
    "ConsoleProgress",
    "CubeBatch",
    "CubeDataset",
    "Model",
    "ModelBuilder",
    "ModelCard",
    "Normalisation",
    "PatchDataset",
    "PatchLoader",
    "Predictions",
    "RandomTurn",
    "ShardReader",
    "SilentProgress",
    "Task",
    "TrainingProgress",
    "Turned",
    "build_model",
    "load_checkpoint",
    "predict",
    "run_folder",
    "score",
    "score_multilabel",
    "train",
    "train_shard",
    "weights_file",
]
