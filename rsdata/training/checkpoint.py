"""A trained model on disk: one safetensors file that says what it must be fed and what it answers.

The description lies in the file's own metadata, so weights and the bands, means and classes that belong to them
cannot be parted.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rsdata.errors import TrainingError, WorkspaceError
from rsdata.foreign import load_json
from rsdata.records import ShardManifest
from rsdata.shards.reading import Resampling
from rsdata.training.dataset import Normalisation, check_bands
from rsdata.training.models import build_model, model_named
from rsdata.training.models.published import is_published, matched
from rsdata.training.tasks import Task, task_named
from rsdata.writing import writing

# One metadata key holds everything as JSON: safetensors writes several keys in random order, one is the same bytes each time.
_METADATA_KEY = "rsdata"


@dataclass(frozen=True)
class ModelCard:
    """What a model must be fed and what its outputs mean."""

    model: str  # short name in MODELS
    task: str  # short name in TASKS
    about: dict[str, Any]  # the task's own fields, such as its classes
    normalisation: Normalisation  # bands in order, with mean and std in the stored unit
    input_px: int  # side of the square all bands are brought to
    resampling: Resampling = "nearest"
    sensor: str | None = None  # whose bands, where a shard has several that spell theirs alike

    def made_task(self) -> Task:
        return task_named(self.task).from_card(self.about)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model with its weights, ready to predict, and its card."""

    card: ModelCard
    task: Task
    network: nn.Module

    def check_fits(self, manifest: ShardManifest) -> None:
        """Raises: TrainingError if the shard lacks a band the model needs, or has other classes."""
        check_bands(manifest, self.card.normalisation.bands)
        self.task.check_fits(manifest)


def build_network(
    model: str, task: Task, bands: tuple[str, ...], dropout: float = 0.0, drop_path: float = 0.0, input_px: int = 120
) -> nn.Module:
    """An untrained network for a task, to see squares of ``input_px``.

    Raises: TrainingError if no model has that name, or it answers for patches where the task asks for pixels, or the other way round.
    """
    found = model_named(model)
    if found.answers != task.answers:
        raise TrainingError(
            f"{model} gives one answer per {found.answers}, and {task.name} needs one per {task.answers}; choose another model",
            model=model,
            task=task.name,
        )
    return task.network(lambda channels, outputs: build_model(model, channels, outputs, dropout, drop_path, input_px), bands)


def write_checkpoint(path: Path, card: ModelCard, weights: dict[str, Tensor]) -> None:
    """Write weights and card, whole or not at all.

    Raises: WorkspaceError if the system refuses to write.
    """
    try:
        with writing(path) as aside:
            save_file({name: value.cpu().contiguous() for name, value in weights.items()}, aside, {_METADATA_KEY: json.dumps(asdict(card))})
    except SafetensorError as error:
        raise WorkspaceError(f"{path} cannot be written: {error}; free space or name another folder", path=str(path)) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Rebuild a trained model on the CPU, in evaluation mode.

    Raises: TrainingError if the file is missing, damaged, or was not written by ``write_checkpoint``.
    """
    weights, card = _read(path)
    if card is None:
        raise TrainingError(
            f"{path} holds weights but not what they must be fed; expected a file that `rsdata train` wrote", path=str(path)
        )
    task = card.made_task()
    network = build_network(card.model, task, card.normalisation.bands, input_px=card.input_px)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(f"the weights in {path} are not those of a {card.model}: {error}", path=str(path)) from error
    return Checkpoint(card, task, network.eval())


def begin_with(
    network: nn.Module, model: str, bands: tuple[str, ...], path: Path, classes: tuple[str, ...] = (), version: str | None = None
) -> str:
    """Take weights over from a file, save for a last layer of another size; return what was done, in words.

    Args:
        classes: what the network answers, in order.
        version: of a published reBEN checkpoint, if its name does not say it.

    Raises: TrainingError if the file cannot be read, is of a model fed with other bands, or does not fit this network.
    """
    weights, card = _read(path)
    about = "" if card is not None else f", taken to be fed with {', '.join(bands)}: the file does not say"
    if is_published(weights):
        weights, words = matched(weights, path, version, model_named(model), bands, classes)
        about = f", {words}"
    if card is not None and card.normalisation.bands != bands:
        raise TrainingError(
            f"{path} is of a model fed with {', '.join(card.normalisation.bands)}; this one is fed with {', '.join(bands)}; "
            "name the same bands in the same order",
            path=str(path),
        )
    own = network.state_dict()
    head = model_named(model).head
    kept = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    left = sorted(name for name in own.keys() - kept.keys() if not _in_head(name, head))
    if left:
        found = f"{tuple(weights[left[0]].shape)}" if left[0] in weights else "nothing"
        raise TrainingError(
            f"{path} does not fit {model}: {len(left)} of {len(own)} tensors are missing or of another size, such as {left[0]}, for which "
            f"it holds {found} where {tuple(own[left[0]].shape)} is needed; give weights of the same model for as many bands",
            path=str(path),
            missing=left,
        )
    network.load_state_dict(kept, strict=False)
    new = len(own) - len(kept)
    return f"begins with {len(kept)} tensors of {path.name}{about}" + (f"; {new} of the last layer are new" if new else "")


def _in_head(name: str, head: str) -> bool:
    """Whether a parameter is one of the last layer, in a network or in one of two encoders."""
    return f".{name}".removeprefix(".first").removeprefix(".second").startswith(f".{head}.")


def _read(path: Path) -> tuple[dict[str, Tensor], ModelCard | None]:
    """Weights, and the card if the file has one.

    Raises: TrainingError if it is missing or damaged, or its card is of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict, and not iterable in every version
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path} cannot be read as a checkpoint: {error}; train the model again", path=str(path)) from error
    if _METADATA_KEY not in metadata:
        return weights, None
    try:
        content = load_json(metadata[_METADATA_KEY])
        bands, mean, std = (tuple(content["normalisation"][key]) for key in ("bands", "mean", "std"))
        return weights, ModelCard(**content | {"normalisation": Normalisation(bands, mean, std)})
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"the description in {path} is of another version of rsdata; train the model again", path=str(path)) from error
