"""The whole way on real pixels and real polygons; skipped where the real data is not there."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from conftest import run_steps, write_recipe

from rsdata import steps
from rsdata.catalog import read_patches
from rsdata.grid import Tile
from rsdata.labels import label_patches, load_nomenclature
from rsdata.recipe import SplitPart, load_recipe
from rsdata.sensors import SENTINEL2
from rsdata.shards import open_shard
from rsdata.splits import assign, positions
from rsdata.testing import write_l2a_safe
from rsdata.workspace import Workspace

TILE = Tile.from_name("48QUE")  # the tile the piece was cut from
# The piece is written as three products of one tile, one in each frame of the split: offset in patches, date.
PLACES = {"train": (0, 0), "validation": (15, 40), "test": (40, 40)}
FIRST = datetime(2020, 2, 23, 3, 27, 39, tzinfo=UTC)


@pytest.fixture(scope="module")
def real_bands(shared_data: Path) -> dict[str, np.ndarray]:
    """The 1068 x 1068 piece 199U_1099R of Major TOM Core: clear farmland in Thailand, N9999, twelve bands.

    Contains modified Copernicus Sentinel data 2020.
    """
    folder = (
        shared_data / "major_tom_core" / "S2L2A" / "199U" / "199U_1099R" / "S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543"
    )
    bands = {}
    for name in SENTINEL2.band_names:
        with rasterio.open(folder / f"{name}.tif") as raster:
            bands[name] = raster.read(1)
    return bands


@pytest.fixture(scope="module")
def real(real_bands: dict[str, np.ndarray], shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """A dataset of real pixels with the real CLC5 polygons of Münster shifted onto them, © GeoBasis-DE / BKG (2018)."""
    folder = tmp_path_factory.mktemp("real")
    polygons = gpd.read_file(shared_data / "clc" / "clc5_2018_muenster_de.gpkg")
    left, _, _, top = polygons.total_bounds
    layers = []
    for index, (col, row) in enumerate(PLACES.values()):
        ul_x_m, ul_y_m = TILE.ul_x_m + 1200 * col, TILE.ul_y_m - 1200 * row
        write_l2a_safe(
            folder / "scenes",
            tile=TILE,
            sensing=FIRST + timedelta(days=5 * index),
            bands=real_bands,
            scl=np.full((534, 534), 4, np.uint8),
            cloud_probability=np.zeros((534, 534), np.uint8),
            snow_probability=np.zeros((534, 534), np.uint8),
            ul_x_m=ul_x_m,
            ul_y_m=ul_y_m,
            baseline="99.99",
            mission="S2B",
            relative_orbit=18,
        )
        layers.append(
            polygons.set_geometry(polygons.geometry.translate(ul_x_m - left, ul_y_m - top)).set_crs(TILE.epsg, allow_override=True)
        )
    pd.concat(layers).to_file(folder / "clc5.gpkg", driver="GPKG")
    demo = load_recipe(Path(__file__).parents[1] / "catalogs" / "recipes" / "demo.yaml")
    content = demo.model_dump(mode="json", exclude={"synthetic"}, exclude_none=True)
    content["name"] = "real"
    content["scenes"] = {"sentinel2": ["scenes/*.SAFE"], "require_s1": False}
    content["labels"] |= {"path": "clc5.gpkg"}
    content["training"] |= {"epochs": 1, "input_px": 60}
    recipe = write_recipe(folder, content)
    return run_steps(recipe, folder / "dataset")[0], recipe


def test_every_patch_in_the_shard_equals_the_source_pixels_to_the_bit(real, real_bands):
    workspace, _ = real
    table = read_patches(workspace.patches)
    compared = 0
    with open_shard(workspace.shards("lmdb")) as shard:
        for row in table[table["kept"]].itertuples():
            first_col, first_row = PLACES[row.split]
            stored = shard.read(row.patch_id)
            assert stored.keys() == real_bands.keys()
            for band in SENTINEL2.bands:
                side = 1200 // band.gsd_m
                y, x = (row.row - first_row) * side, (row.col - first_col) * side
                source = real_bands[band.name][y : y + side, x : x + side]
                assert stored[band.name].dtype == source.dtype == np.uint16
                assert np.array_equal(stored[band.name], source)
                compared += source.size
    assert len(table) == 3 * 64  # eight by eight whole patches in 1068 pixels
    assert set(table["drop_reason"].dropna()) == {"unlabeled"}  # green urban areas and the like of Münster
    assert table["kept"].sum() == 3 * 59
    assert compared == 3 * 59 * (4 * 120**2 + 6 * 60**2 + 2 * 20**2)


def test_real_offsets_are_zero_for_a_user_run_sen2cor(real):
    workspace, _ = real
    with open_shard(workspace.shards("lmdb")) as shard:
        offsets = {band.name: band.offset for band in shard.manifest.bands if band.sensor == "s2"}
    assert set(map(tuple, offsets.values())) == {(0.0,)}


def test_real_polygons_label_the_same_ground_alike_in_every_split(real):
    """The same polygons lie under all three products, so the same pixels of each must carry the same codes."""
    workspace, _ = real
    table = read_patches(workspace.patches).set_index(["col", "row"])
    nomenclature = load_nomenclature("bigearthnet-19")
    seen: set[str] = set()
    differing = 0
    with open_shard(workspace.shards("lmdb")) as shard:
        for col in range(8):
            for row in range(8):
                maps = []
                for first_col, first_row in PLACES.values():
                    place = table.loc[(first_col + col, first_row + row)]
                    if not place["kept"]:
                        continue
                    maps.append(shard.read(f"{place['patch_id']}_reference_map")["Data"])
                    assert place["labels"] == label_patches(maps[-1][None], nomenclature).labels[0]
                    seen |= set(place["labels"])
                assert len(maps) in (0, 3)
                differing += sum(int((maps[0] != other).sum()) for other in maps[1:])
    # A few edges run through pixel centres to within the rounding of a shift by hundreds of kilometres.
    assert differing <= 10
    assert {"Urban fabric", "Arable land", "Pastures"} <= seen


def test_real_pixels_and_polygons_go_through_a_training_epoch_and_a_report(real):
    pytest.importorskip("torch")
    workspace, recipe_path = real
    recipe = load_recipe(recipe_path)
    assert recipe.training is not None
    steps.train_baseline(recipe, workspace, recipe.training)
    scores = steps.read_training(workspace, recipe.training.label)
    (run,) = scores.runs
    assert len(run.epochs) == 1
    assert run.test is not None
    assert run.test.patches == 59
    assert scores.bands == list(SENTINEL2.band_names)
    steps.write_report(recipe, workspace)
    page = workspace.report.read_text(encoding="utf-8")
    assert "S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE" in page


def test_frame_reproduces_every_published_assignment_and_position(shared_data):
    """13,956 patches of three tiles, those with snow, cloud or shadow among them."""
    folder = shared_data / "bigearthnet_v2" / "metadata_sample"
    published = pd.concat(
        [pd.read_parquet(folder / f"metadata_3tiles{name}.parquet") for name in ("", "_snow_cloud_shadow")], ignore_index=True
    )
    assert len(published) == 13_956
    assert (assign(published, SplitPart(strategy="frame")) == published["split"]).all()
    bounds = pd.read_parquet(folder / "patch_bounds_3tiles.parquet")
    assert {"s2v1_name"} <= set(bounds.columns)
    joined = published.join(positions(published["patch_id"])).merge(
        bounds, on="s2v1_name", suffixes=("", "_published"), validate="one_to_one"
    )
    assert len(joined) == 13_956
    assert (joined["ul_x_m"] == joined["minx"]).all()
    assert (joined["ul_y_m"] == joined["maxy"]).all()
