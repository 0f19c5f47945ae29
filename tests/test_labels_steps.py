"""The labels stage as a recipe asks for it: its own table, exact areas, and when it is done anew."""

import numpy as np
import pytest
import yaml

from rsdata import steps
from rsdata.labels import load_nomenclature
from rsdata.recipe import load_recipe
from rsdata.steps.label_inputs import nomenclature_of, with_own_tables
from rsdata.steps.receipts import read_rows
from rsdata.workspace import Workspace

SYNTHETIC = {"tiles": ["33UUP"], "dates": ["2023-04-18T10:00:31Z"], "raster_px": [240, 360], "cell_m": 500, "clouds": 0, "seed": 2}


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A workspace with one small scene cut into patches, and its unit."""
    folder = tmp_path_factory.mktemp("labels")
    recipe = recipe_in(folder, {})
    workspace = Workspace.create(folder / "dataset")
    steps.make_inputs(recipe, workspace)
    (pair,) = steps.find_scenes(recipe, workspace).pairs
    steps.register_scene(pair, recipe, workspace)
    steps.cut_scene(pair.unit, recipe, workspace)
    return workspace, pair.unit


def recipe_in(folder, said):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "synthetic": SYNTHETIC, "labels": said}))
    return load_recipe(path)


def test_exact_areas_stay_near_counted_pixels_and_sum_to_one(cut, tmp_path):
    workspace, unit = cut
    tables = {}
    for fractions in ("pixel", "exact"):
        outcome = steps.label_scene(unit, recipe_in(tmp_path, {"fractions": fractions}), workspace)
        assert not outcome.skipped
        assert set(outcome.receipt.counts) == {"polygons", "repaired"}
        tables[fractions] = read_rows("labels", unit, workspace)
    differences = []
    for (_, one), (_, other) in zip(tables["pixel"].iterrows(), tables["exact"].iterrows(), strict=True):
        assert one["patch_id"] == other["patch_id"]
        counted, exact = dict(one["label_fractions"]), dict(other["label_fractions"])
        assert sorted(exact) == list(other["labels"])
        assert sum(exact.values()) + other["unlabeled_fraction"] == pytest.approx(1, abs=1e-9)
        differences += [abs(counted.get(name, 0) - exact.get(name, 0)) for name in counted.keys() | exact.keys()]
    assert 0 < max(differences) < 0.005


def test_a_table_of_ones_own_is_used_and_a_change_in_it_is_noticed(cut, tmp_path):
    workspace, unit = cut
    codes = load_nomenclature("clc-3").code_names
    rows = [f"{code},{number if code < 500 else ''},Class {code},#00a600" for number, code in enumerate(codes)]  # water is no class
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["code,index,name,color", *rows]))
    said = {"source": "polygons", "code_column": "Code_18", "nomenclature": "mine.csv"}
    recipe = recipe_in(tmp_path, said)
    assert not steps.label_scene(unit, recipe, workspace).skipped
    first = read_rows("labels", unit, workspace)
    raster = np.load(workspace.part("labels", unit, ".npy"))
    assert {label for labels in first["labels"] for label in labels} == {f"Class {code}" for code in np.unique(raster) if code < 500}
    assert steps.label_scene(unit, recipe, workspace).skipped
    table.write_text(table.read_text().replace("Class ", "Kind "))
    assert not steps.label_scene(unit, recipe, workspace).skipped
    assert {label.split()[0] for labels in read_rows("labels", unit, workspace)["labels"] for label in labels} == {"Kind"}


def test_a_dataset_keeps_the_tables_its_recipe_names(tmp_path):
    (tmp_path / "tables").mkdir()
    text = "code,index,name,color\n1,0,Forest,#00a600\n"
    (tmp_path / "tables" / "mine.csv").write_text(text)
    recipe = recipe_in(tmp_path, {"source": "polygons", "code_column": "c", "nomenclature": "tables/mine.csv"})
    kept, tables = with_own_tables(recipe)
    assert tables == {"mine.csv": text.encode()}
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "mine.csv").write_bytes(tables["mine.csv"])
    (dataset / "recipe.yaml").write_text(yaml.safe_dump(kept.model_dump(mode="json", exclude_none=True)))
    assert nomenclature_of(load_recipe(dataset / "recipe.yaml")).digest == nomenclature_of(recipe).digest
    assert with_own_tables(recipe_in(tmp_path, {}))[1] == {}
