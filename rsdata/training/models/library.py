"""Loading the libraries that the larger networks come from; each is an extra, and nothing else here needs them."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import torch

from rsdata.errors import TrainingError


def library(name: str, model: str) -> ModuleType:
    """Import a library of networks.

    Raises: TrainingError if it is not installed, or its torchvision was built for another torch.
    """
    try:
        return import_module(name)
    except ImportError as error:
        where = f" --extra-index-url {_index()}" if torch.version.cuda is None else ""
        raise TrainingError(
            f"{model} needs {name}, which cannot be loaded ({error}); install it with: pip install 'rsdata[models]'{where}",
            model=model,
            library=name,
        ) from error
    except RuntimeError as error:
        raise unfit_torchvision(f"{model} needs {name}, which needs torchvision", error) from error


def unfit_torchvision(need: str, error: Exception) -> TrainingError:
    """The error for a torchvision that cannot be imported, as happens where it was built for another torch.

    Builds for GPUs and for CPUs have the same version, so pip puts the one beside the other without a word.
    """
    try:
        found = f"torchvision {version('torchvision')}"
    except PackageNotFoundError:
        found = "torchvision"
    return TrainingError(
        f"{need}, and the installed {found} does not fit torch {torch.__version__} ({error}); install the one that was built with it: "
        f"pip install --force-reinstall --no-deps --index-url {_index()} torchvision, "
        "or, for the models that are written in plain torch, remove it: pip uninstall torchvision",
        torch=torch.__version__,
    )


def _index() -> str:
    """Where builds of the kind of the installed torch are."""
    build = "cpu" if torch.version.cuda is None else f"cu{torch.version.cuda.replace('.', '')}"
    return f"https://download.pytorch.org/whl/{build}"
