"""A trained model on disk: one safetensors file that says what it must be fed and what it answers.

The description lies in the file's own metadata, so weights and the bands, means and classes that belong to them
cannot be parted.
"""

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rsdata.errors import TrainingError, WorkspaceError
from rsdata.records import ShardManifest
from rsdata.training.dataset import Normalisation, check_bands, class_names
from rsdata.training.models import build_model

# One metadata key holds everything as JSON: safetensors writes several keys in random order, one is the same bytes each time.
_METADATA_KEY = "rsdata"


@dataclass(frozen=True)
class ModelCard:
    """What a model must be fed and what its outputs mean."""

    model: str  # short name in MODELS
    task: str
    normalisation: Normalisation  # bands in order, with mean and std in the stored unit
    input_px: int  # side of the square all bands are brought to
    classes: tuple[str, ...]  # one per output, in order


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model with its weights, ready to predict, and its card."""

    card: ModelCard
    network: nn.Module

    def check_fits(self, manifest: ShardManifest) -> None:
        """Raises: TrainingError if the shard lacks a band the model needs, or has other classes."""
        check_bands(manifest, self.card.normalisation.bands)
        classes = class_names(manifest)
        if classes != list(self.card.classes):
            raise TrainingError(
                f"the model answers {', '.join(self.card.classes)}; shard {manifest.name!r} has the classes {', '.join(classes)}; "
                "use a shard with the same label table",
                model=self.card.classes,
                shard=classes,
            )


def write_checkpoint(path: Path, card: ModelCard, weights: dict[str, Tensor]) -> None:
    """Write weights and card, whole or not at all.

    Raises: WorkspaceError if the system refuses to write.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.cpu().contiguous() for name, value in weights.items()}, aside, {_METADATA_KEY: json.dumps(asdict(card))})
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        raise WorkspaceError(f"{path} cannot be written: {error}; free space or name another folder", path=str(path)) from error
    finally:
        aside.unlink(missing_ok=True) if aside.parent.is_dir() else None


def load_checkpoint(path: Path) -> Checkpoint:
    """Rebuild a trained model on the CPU, in evaluation mode.

    Raises: TrainingError if the file is missing, damaged, or was not written by ``write_checkpoint``.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict, and not iterable in every version
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path} cannot be read as a checkpoint: {error}; train the model again", path=str(path)) from error
    try:
        content = json.loads(metadata[_METADATA_KEY])
        bands, mean, std = (tuple(content["normalisation"][key]) for key in ("bands", "mean", "std"))
        card = ModelCard(content["model"], content["task"], Normalisation(bands, mean, std), content["input_px"], tuple(content["classes"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise TrainingError(
            f"{path} holds weights but not what they must be fed; expected a file that `rsdata train` wrote", path=str(path)
        ) from error
    network = build_model(card.model, len(card.normalisation.bands), len(card.classes))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(f"the weights in {path} are not those of a {card.model}: {error}", path=str(path)) from error
    return Checkpoint(card, network.eval())
