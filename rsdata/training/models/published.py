"""Weights from elsewhere: where they lie, and the published reBEN checkpoints, whose bands and classes are matched by name.

Those come in two band orders, and neither the file nor its config says which: the version does, which is part of the name that
they are published under, BIFOLD-BigEarthNetv2-0/<model>-<s1|s2|all>-v<version>. Weights are safetensors only: a pickle
can run code when it is opened.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from rsdata.errors import TrainingError
from rsdata.foreign import load_json
from rsdata.training.models.base import Model

HUB = "hub:"  # begins the id of a repository on the Hugging Face hub; nothing is fetched unless it is said so
WEIGHTS_NAME = "model.safetensors"
PREFIX = "model.vision_encoder."  # of a published network's parameters
_VERSION_IN_NAME = re.compile(r"-(?:s1|s2|all)-v(\d+\.\d+\.\d+)(?!\.?\d)")
_PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".tar"}

# Bands in the order that a published network was fed with, by version. Source: the model cards, "band order".
ORDERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "0.1.1": (
        ("VH", "VV"),
        ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B11", "B12", "B8A"),
        ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B11", "B12", "B8A", "VH", "VV"),
    ),
    "0.2.0": (
        ("VV", "VH"),
        ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
        ("VV", "VH", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    ),
}

# Classes in the order of a published network's answers, which is that of the alphabet.
CLASSES = (
    "Agro-forestry areas",
    "Arable land",
    "Beaches, dunes, sands",
    "Broad-leaved forest",
    "Coastal wetlands",
    "Complex cultivation patterns",
    "Coniferous forest",
    "Industrial or commercial units",
    "Inland waters",
    "Inland wetlands",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Marine waters",
    "Mixed forest",
    "Moors, heathland and sclerophyllous vegetation",
    "Natural grassland and sparsely vegetated areas",
    "Pastures",
    "Permanent crops",
    "Transitional woodland, shrub",
    "Urban fabric",
)


def weights_file(said: str) -> Path:
    """Where weights lie: a file, a folder with ``model.safetensors``, or ``hub:OWNER/NAME``, which is fetched unless it was before.

    Raises: TrainingError if they cannot be fetched, or are a pickle.
    """
    path = _fetched(said.removeprefix(HUB)) if said.startswith(HUB) else Path(said)
    if path.is_dir():
        path = path / WEIGHTS_NAME
    if path.suffix in _PICKLES or _begins_as_pickle(path):
        raise TrainingError(
            f"{path} is a pickle, which can run any code when it is opened; give the same weights as safetensors", path=str(path)
        )
    return path


def is_published(weights: dict[str, Tensor]) -> bool:
    """Whether weights are laid out as the published reBEN checkpoints are."""
    return any(name.startswith(PREFIX) for name in weights)


def matched(
    weights: dict[str, Tensor], path: Path, version: str | None, model: Model, bands: Sequence[str], classes: Sequence[str]
) -> tuple[dict[str, Tensor], str]:
    """Weights of a published checkpoint for a network fed with ``bands`` that answers ``classes``, and in words what was done.

    The stem's channels are put into the order of the bands. The last layer's rows are put into the order of the classes, if those are
    the 19 that it was trained on, and left out if not.

    Args: version: whose band order; read from the names of file and folders, or the config beside the file, if absent.

    Raises: TrainingError if the version is unknown, or the bands are others than it was trained on.
    """
    version = version or _version(path)
    known = " and ".join(ORDERS)
    if version is None:
        raise TrainingError(
            f"{path} is a published reBEN checkpoint of unknown version, and so of unknown band order; keep the name that it was "
            f"published under, such as resnet50-s2-v0.2.0, or say the version as init_version ({known} are known)",
            path=str(path),
        )
    if version not in ORDERS:
        raise TrainingError(
            f"the band order of published reBEN checkpoints of version {version} is not known; {known} are", path=str(path), version=version
        )
    own = {name.removeprefix(PREFIX): value for name, value in weights.items() if name.startswith(PREFIX)}
    if model.stem not in own:
        raise TrainingError(f"{path} is of another model: it has no {model.stem}, which takes in the bands", path=str(path))
    stem = own[model.stem]
    order = next((order for order in ORDERS[version] if len(order) == stem.shape[1]), None)
    if order is None:
        counts = ", ".join(str(len(order)) for order in ORDERS[version])
        raise TrainingError(f"{path} takes in {stem.shape[1]} bands; version {version} was published for {counts}", path=str(path))
    if set(order) != set(bands) or len(order) != len(bands):
        raise TrainingError(
            f"{path} was trained on {', '.join(order)}; this model is fed with {', '.join(bands)}; name those same bands, in any order",
            path=str(path),
            trained=order,
            bands=tuple(bands),
        )
    own[model.stem] = stem[:, [order.index(band) for band in bands]]
    head = [name for name in own if name.startswith(f"{model.head}.")]
    done = f"a reBEN checkpoint of version {version}, whose {len(order)} bands are matched by name"
    if sorted(classes) == list(CLASSES):
        rows = [CLASSES.index(name) for name in classes]
        own |= {name: own[name][rows] for name in head if len(own[name]) == len(CLASSES)}
        return own, f"{done}, as are its {len(CLASSES)} classes"
    return {name: value for name, value in own.items() if name not in head}, done


def _version(path: Path) -> str | None:
    """What the names of file and folders say, the innermost first, or the ``config.json`` beside it."""
    for part in reversed(path.absolute().parts):
        if found := _VERSION_IN_NAME.search(part):
            return found[1]
    try:
        said = load_json((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    version = said.get("version") if isinstance(said, dict) else None
    return version.removeprefix("v") if isinstance(version, str) else None


def _begins_as_pickle(path: Path) -> bool:
    """Whether a file begins as those of ``torch.save`` do, a zip or a bare pickle; safetensors with a length and a brace."""
    try:
        with path.open("rb") as stream:
            begin = stream.read(9)
    except OSError:
        return False  # whoever reads it will say so
    return begin[8:] != b"{" and begin.startswith((b"PK\x03\x04", b"\x80"))


def _fetched(name: str) -> Path:
    """Raises: TrainingError if the hub's library is missing, or does not give the file."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise TrainingError(f"{HUB}{name} names no repository of the hub; expected {HUB}OWNER/NAME", name=name)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise TrainingError(
            f"{HUB}{name} needs huggingface-hub; install it with pip install 'rsdata[models]', or give a path", name=name
        ) from error
    try:
        return Path(hf_hub_download(name, WEIGHTS_NAME))
    except Exception as error:  # the library's errors have no common kind, and those of its transport come through
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise TrainingError(f"{WEIGHTS_NAME} of {name} cannot be fetched from the hub: {reason}; give a path instead", name=name) from error
