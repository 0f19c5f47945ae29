"""The networks a baseline can be, by short name; none is downloaded, and any number of input bands is an argument."""

from torch import Tensor, nn

from rsdata.errors import TrainingError
from rsdata.training.models.base import Answers, Model, ModelBuilder, Wanted
from rsdata.training.models.instances import INSTANCES
from rsdata.training.models.plain import PLAIN, DropPath
from rsdata.training.models.smp import SMP
from rsdata.training.models.timm import TIMM

MODELS: dict[str, Model] = {**PLAIN, **INSTANCES, **TIMM, **SMP}


def model_named(name: str) -> Model:
    """Raises: TrainingError if no model has that name."""
    model = MODELS.get(name)
    if model is None:
        raise TrainingError(f"there is no model {name!r}; known are {', '.join(sorted(MODELS))}", model=name)
    return model


def build_model(name: str, in_channels: int, outputs: int, dropout: float = 0.0, drop_path: float = 0.0, side_px: int = 120) -> nn.Module:
    """Make an untrained network by its short name.

    Args: side_px: of the squares that it will see.

    Raises: TrainingError if no model has that name or its library cannot be loaded, if there is no band or no class, or if squares
        are too small for it.
    """
    model = model_named(name)
    if in_channels < 1 or outputs < 1:
        raise TrainingError(
            f"{name} was asked for {in_channels} bands and {outputs} classes; it needs at least one of each",
            in_channels=in_channels,
            classes=outputs,
        )
    if side_px < model.least_px:
        raise TrainingError(
            f"{name} needs squares of at least {model.least_px} pixels a side and was asked for {side_px}; enlarge input_px",
            side_px=side_px,
        )
    return model.build(Wanted(in_channels, outputs, dropout, drop_path, side_px))


def features(name: str, network: nn.Module, pixels: Tensor) -> Tensor:
    """What a network of that name knows of patches before its last layer: (patch, band, y, x) to (patch, feature) float32."""
    return model_named(name).features(network, pixels)


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


__all__ = [
    "MODELS",
    "Answers",
    "DropPath",
    "Model",
    "ModelBuilder",
    "Wanted",
    "build_model",
    "count_parameters",
    "features",
    "model_named",
]
