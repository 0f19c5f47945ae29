"""The gallery of recipes: each is read as it stands, and each makes a dataset of small scenes put where it looks for them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from affine import Affine
from conftest import run_steps, write_recipe
from docs_places import RECIPE
from typer.testing import CliRunner

from rsdata import steps
from rsdata.catalog import read_patches
from rsdata.commands import app
from rsdata.recipe import load_recipe
from rsdata.shards import open_shard, verify_shard
from rsdata.workspace import Workspace

GALLERY = Path(__file__).parents[1] / "catalogs" / "recipes"
CONVERTED = {"hyperspectral.yaml"}  # descriptions for `rsdata convert`
NAMES = sorted(path.name for path in GALLERY.glob("*.yaml"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of Sentinel-2 and two of Sentinel-1 over one strip, with CORINE polygons, countries and a tile of WorldCover."""
    folder = tmp_path_factory.mktemp("gallery")
    workspace = Workspace.create(folder / "made")
    steps.make_inputs(load_recipe(write_recipe(folder, RECIPE)), workspace)
    made = workspace.root / "inputs"
    beside = folder / "beside"
    (beside / "worldcover").mkdir(parents=True)
    sources = {"products": "sentinel2", "backscatter": "sentinel1", "clc2018.gpkg": "corine.gpkg", "countries.gpkg": "countries.gpkg"}
    for name, source in sources.items():
        (beside / name).symlink_to(made / source)
    classes = np.array([10, 30, 40, 80], np.uint8)  # stripes from north to south
    about = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:4326", "nodata": 0, "width": 900, "height": 900}
    tile = beside / "worldcover" / "ESA_WorldCover_10m_2021_v200_N48E012_Map.tif"
    south = beside / "worldcover" / "ESA_WorldCover_10m_2021_v200_N45E012_Map.tif"
    for path, top in ((tile, 51), (south, 48)):
        with rasterio.open(path, "w", transform=Affine(3 / 900, 0, 12, 0, -3 / 900, top), **about) as raster:
            raster.write(np.repeat(classes[np.arange(900) // 2 % 4][:, None], 900, axis=1), 1)
    return beside


def beside(inputs: Path, name: str, folder: Path) -> Path:
    """The recipe where its files lie; with all the made-up countries, and a split that a strip can have."""
    said = yaml.safe_load((GALLERY / name).read_text(encoding="utf-8"))
    if said["split"]["strategy"] == "balanced":
        said["split"] = {"strategy": "frame"}
    if "countries" in said:
        said["countries"].pop("names", None)
    said.pop("series", None)  # a stage of its own, which tests/test_series_build.py runs
    for path in inputs.iterdir():
        (folder / path.name).symlink_to(path)
    return write_recipe(folder, said)


@pytest.mark.parametrize("path", sorted(GALLERY.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_is_read_as_it_stands_and_says_first_what_it_is_for(path):
    assert path.read_text(encoding="utf-8").startswith("# ")
    if path.name not in CONVERTED:
        assert load_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("name", "classes", "texts"),
    [
        ("reben.yaml", 19, {"caption"}),
        ("bigearthnet-txt.yaml", 19, {"caption", "binary", "multiple_choice", "referring_phrase"}),
        ("radar.yaml", 19, {"caption"}),
        ("worldcover.yaml", 11, {"caption"}),
    ],
)
def test_a_recipe_makes_a_dataset_of_the_files_beside_it(name, classes, texts, inputs, tmp_path):
    recipe = beside(inputs, name, tmp_path)
    asked = load_recipe(recipe)
    workspace = run_steps(recipe, tmp_path / "out")[0]
    shard_path = workspace.shards(asked.shards.format)
    assert verify_shard(shard_path) == []
    with open_shard(shard_path) as shard:
        assert len(shard.manifest.labels) == classes
        assert sum(shard.manifest.counts.values()) == len(shard.index) > 20
        sensors = {band.sensor for band in shard.manifest.bands}
    assert sensors - {"reference_map"} == {name for name in asked.shards.sensors if name == "s2" or asked.scenes.sentinel1}
    table = read_patches(workspace.patches)
    assert table["kept"].sum() == sum(shard.manifest.counts.values())
    assert texts <= set(pd.read_parquet(workspace.texts)["category"])


def test_the_gallery_is_what_the_documentation_lists():
    text = (GALLERY.parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert {path.name for path in GALLERY.glob("*.yaml")} == {name for name in NAMES if f"`{name}`" in text}


def test_hyperspectral_patches_become_a_shard_with_every_band_in_order(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 9000, (2, 224, 128, 128), dtype=np.int16)
    for number, name in enumerate(("scene_1", "scene_2")):
        (tmp_path / "patches" / name).mkdir(parents=True)
        about = {"driver": "GTiff", "width": 128, "height": 128, "count": 224, "dtype": "int16", "nodata": -32768}
        with rasterio.open(tmp_path / "patches" / name / f"{name}-SPECTRAL_IMAGE.TIF", "w", **about) as raster:
            raster.write(pixels[number])
    said = ["convert", str(GALLERY / "hyperspectral.yaml"), "--dataset-dir", str(tmp_path / "patches"), "--target", str(tmp_path / "shard")]
    done = CliRunner().invoke(app, said)
    assert done.exit_code == 0, done.output
    assert verify_shard(tmp_path / "shard") == []
    with open_shard(tmp_path / "shard") as shard:
        assert [band.name for band in shard.manifest.bands] == [f"B{number}" for number in range(1, 225)]
        found = shard.read("scene_2")
    assert np.array_equal(np.stack([found[f"B{number}"] for number in range(1, 225)]), pixels[1])
