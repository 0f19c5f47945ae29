"""What tests share: where the real data lies, small scenes made once, and a build without a server."""

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from torchvision_aside import make_loadable

from rsdata import steps
from rsdata.grid import Tile
from rsdata.recipe import load_recipe
from rsdata.sensors import SENTINEL2
from rsdata.testing import write_l2a_safe
from rsdata.workspace import Workspace

TILE = Tile.from_name("33UUP")
SENSING = datetime(2023, 6, 12, 10, 10, 31, tzinfo=UTC)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that need it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data is not here: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def torchvision() -> None:
    """For tests of networks from other libraries, which import torchvision; they are skipped where one of them is absent."""
    pytest.importorskip("torch")
    make_loadable()
    for name in ("torchvision", "timm", "segmentation_models_pytorch"):
        pytest.importorskip(name, reason=f"{name} is not installed; see the extra `models`")


def comes(condition: Callable[[], object], seconds: float = 240) -> bool:
    """Whether something comes to hold within some time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def random_bands(side_px: int = 240, seed: int = 0) -> dict[str, np.ndarray]:
    """Counts for the twelve bands over a square of ``side_px`` pixels at 10 m."""
    rng = np.random.default_rng(seed)
    return {band.name: rng.integers(900, 6_000, (side_px * 10 // band.gsd_m,) * 2, dtype=np.uint16) for band in SENTINEL2.bands}


def write_scene(folder: Path, bands: dict[str, np.ndarray], **changes: object) -> Path:
    """A Level-2A product with clear sky over the upper-left corner of tile 33UUP."""
    side_20m = bands["B05"].shape
    options: dict[str, object] = {
        "tile": TILE,
        "sensing": SENSING,
        "bands": bands,
        "scl": np.full(side_20m, 4, np.uint8),
        "cloud_probability": np.zeros(side_20m, np.uint8),
        "snow_probability": np.zeros(side_20m, np.uint8),
    }
    return write_l2a_safe(folder, **(options | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def made_safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small product, for reading only."""
    return write_scene(tmp_path_factory.mktemp("made"), random_bands())


@pytest.fixture
def safe(made_safe: Path, tmp_path: Path) -> Path:
    """A copy of the small product that a test may damage."""
    return Path(shutil.copytree(made_safe, tmp_path / made_safe.name))


SMALL = {
    "name": "small",
    "synthetic": {
        "tiles": ["33UUP", "32UMC"],
        "dates": ["2023-04-18T10:00:31Z"],
        "raster_px": [360, 2160],
        "offset_px": [4800, 960],
        "cell_m": 700,
        "clouds": 1,
        "seed": 3,
    },
    "training": {"epochs": 1, "batch_size": 16, "input_px": 60, "bands": ["B02", "B03", "B04", "B08", "VV"]},
}


def write_recipe(folder: Path, content: dict[str, object]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def run_steps(recipe_path: Path, root: Path, stages: Sequence[str] = ("catalog",)) -> tuple[Workspace, list[steps.Outcome]]:
    """Every step in order, in this process, without Prefect."""
    recipe, workspace = load_recipe(recipe_path), Workspace.create(root)
    made = steps.make_inputs(recipe, workspace)
    outcomes = [made] if made else []
    found = steps.find_scenes(recipe, workspace)
    for pair in found.pairs:
        outcomes.append(steps.register_scene(pair, recipe, workspace))
        outcomes += [step(pair.unit, recipe, workspace) for step in (steps.cut_scene, steps.label_scene, steps.assess_scene)]
    units = [pair.unit for pair in found.pairs]
    outcomes.append(steps.assign_splits(units, recipe, workspace))
    outcomes.append(steps.caption_patches(recipe, workspace))
    outcomes.append(steps.pack_shards(units, recipe, workspace))
    outcomes.append(steps.write_manifest(units, found.failures, recipe, workspace))
    return workspace, outcomes


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), SMALL)


@pytest.fixture(scope="session")
def built(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small dataset of two scenes, built once, for reading only."""
    return run_steps(small_recipe, tmp_path_factory.mktemp("built") / "dataset")[0]
