"""The captions stage of a build: facts of the maps that lie in the parts, in bounded portions, with climate zones if asked for."""

import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import SMALL, write_recipe
from servers import FileServer, Served

from rsdata import catalog, steps
from rsdata.errors import CaptionError
from rsdata.labels import load_nomenclature
from rsdata.recipe import load_recipe
from rsdata.records import Manifest, PatchFacts, TextRow, reference_map_id
from rsdata.shards import open_shard
from rsdata.steps import caption_portions, captioning
from rsdata.testing.slow_facts import differences, slow_facts
from rsdata.workspace import Workspace, file_sha256, read_record


@pytest.fixture
def copy(built: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2)))


def facts_in(workspace: Workspace) -> list[PatchFacts]:
    return [PatchFacts.model_validate(row) for row in catalog.read_table(workspace.facts, PatchFacts).to_dict("records")]


def captioned(workspace: Workspace, folder: Path, captions: dict[str, object]) -> steps.Outcome:
    return steps.caption_patches(load_recipe(write_recipe(folder, SMALL | {"captions": captions})), workspace)


def test_facts_on_disk_are_those_of_the_maps_in_the_shard(built):
    table = catalog.read_patches(built.patches)
    rows = table[table["kept"]].astype({"s1_product": object}).to_dict("records")
    facts = facts_in(built)
    assert [each.patch_id for each in facts] == [row["patch_id"] for row in rows]
    class_of_code = load_nomenclature("bigearthnet-19").class_of_code
    with open_shard(built.shards("lmdb")) as shard:
        for row, said in list(zip(rows, facts, strict=True))[::7]:
            codes = shard.read(reference_map_id(row["patch_id"]))["Data"]
            assert differences(said.model_dump(), slow_facts(row, codes, class_of_code, 10)) == []


def test_shares_are_the_counted_ones_of_the_patch_table(built):
    table = catalog.read_patches(built.patches)
    counted = dict(zip(table["patch_id"], table["label_fractions"], strict=True))
    assert all({fact.name: fact.share for fact in each.classes} == counted[each.patch_id] for each in facts_in(built))


def test_facts_are_hashed_in_the_manifest(built):
    assert built.artifact(built.facts) in read_record(built.manifest, Manifest).outputs


def test_every_text_names_the_digest_of_its_facts(built):
    from rsdata.captions import facts_digest

    digests = {each.patch_id: facts_digest(each) for each in facts_in(built)}
    texts = catalog.read_table(built.texts, TextRow, ["patch_id", "facts_digest"])
    assert set(texts["patch_id"]) == set(digests)
    assert [digests[patch_id] for patch_id in texts["patch_id"]] == texts["facts_digest"].tolist()


def test_portions_of_any_size_give_the_same_bytes(built, copy, small_recipe, monkeypatch):
    monkeypatch.setattr(captioning, "_PORTION", 7)
    copy.receipt_path("captions", "all").unlink()
    assert not steps.caption_patches(load_recipe(small_recipe), copy).skipped
    assert copy.facts.read_bytes() == built.facts.read_bytes()
    assert copy.texts.read_bytes() == built.texts.read_bytes()


# --- worker processes -------------------------------------------------------------------------------------


@pytest.fixture
def shared_out(monkeypatch):
    """Portions are small, and a few patches are enough for workers."""
    monkeypatch.setattr(captioning, "_SHARED_OUT", 7)
    monkeypatch.setattr(captioning, "WORTH_SHARING", 1)


def test_two_workers_give_the_same_bytes_as_one_process(built, copy, small_recipe, shared_out):
    copy.receipt_path("captions", "all").unlink()
    told = []
    outcome = steps.caption_patches(load_recipe(small_recipe), copy, told.append, workers=2)
    assert not outcome.skipped
    assert file_sha256(copy.facts) == file_sha256(built.facts)
    assert file_sha256(copy.texts) == file_sha256(built.texts)
    assert max(told) == 7  # so it was workers that wrote them
    assert sum(told) == outcome.receipt.counts["patches"] == len(facts_in(built))


def test_what_a_worker_refuses_stops_the_stage_and_leaves_the_old_files(built, copy, tmp_path, shared_out):
    write_climate(tmp_path / "climate.tif", west=80)
    recipe = load_recipe(write_recipe(tmp_path, SMALL | {"captions": {"climate": {"raster": "climate.tif"}}}))
    with pytest.raises(CaptionError, match=r"climate\.tif does not cover the patch around"):
        steps.caption_patches(recipe, copy, workers=2)
    assert copy.facts.read_bytes() == built.facts.read_bytes()
    assert copy.texts.read_bytes() == built.texts.read_bytes()
    assert not list(copy.root.glob(".*.part"))
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_stops_the_stage(built, copy, small_recipe, shared_out):
    copy.receipt_path("captions", "all").unlink()

    def kill_all(n: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(CaptionError, match="one of 2 processes that wrote captions died.*fewer workers"):
        steps.caption_patches(load_recipe(small_recipe), copy, kill_all, workers=2)
    assert copy.texts.read_bytes() == built.texts.read_bytes()
    assert not list(copy.root.glob(".*.part"))


def test_a_few_patches_start_no_workers(copy, small_recipe, monkeypatch):
    monkeypatch.setattr(captioning, "texts_in_processes", None)  # would fail if it were called
    copy.receipt_path("captions", "all").unlink()
    assert not steps.caption_patches(load_recipe(small_recipe), copy, workers=2).skipped


def test_another_smallest_region_changes_regions_and_nothing_else(built, copy, tmp_path):
    captioned(copy, tmp_path, {"min_region_pixels": 500})
    few, many = facts_in(copy), facts_in(built)
    assert all(region.pixels >= 500 for each in few for region in each.regions)
    assert sum(len(each.regions) for each in few) < sum(len(each.regions) for each in many)
    assert [each.model_copy(update={"regions": []}) for each in few] == [each.model_copy(update={"regions": []}) for each in many]


# --- climate ----------------------------------------------------------------------------------------------


def write_climate(path: Path, west: float, value: int = 15) -> Path:
    """One class over 60 degrees eastward and 30 degrees north from 35 N, but Dfb east of 11 E."""
    values = np.full((30, 60), value, np.uint8)
    values[:, int(11 - west) :] = 26
    about = {"crs": "EPSG:4326", "transform": Affine(1, 0, west, 0, -1, 65), "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", width=60, height=30, count=1, **about) as raster:
        raster.write(values, 1)
    return path


def test_without_a_raster_no_climate_is_known(built):
    assert {each.climate for each in facts_in(built)} == {None}


def test_each_patch_has_the_climate_under_its_middle(copy, tmp_path):
    write_climate(tmp_path / "climate.tif", west=0)
    outcome = captioned(copy, tmp_path, {"climate": {"raster": "climate.tif"}})
    west, east = "Cfb (temperate, no dry season, warm summer)", "Dfb (cold, no dry season, warm summer)"
    facts = facts_in(copy)
    assert [each.climate for each in facts] == [west if each.longitude < 11 else east for each in facts]
    assert {each.climate for each in facts} == {west, east}
    assert "climate 0" in outcome.receipt.inputs


def test_another_raster_under_the_same_name_makes_the_facts_anew(copy, tmp_path):
    write_climate(tmp_path / "climate.tif", west=0)
    said = {"climate": {"raster": "climate.tif"}}
    captioned(copy, tmp_path, said)
    assert captioned(copy, tmp_path, said).skipped
    write_climate(tmp_path / "climate.tif", west=0, value=8)
    assert not captioned(copy, tmp_path, said).skipped
    assert "Csa (temperate, dry summer, hot summer)" in {each.climate for each in facts_in(copy)}


def test_a_table_of_the_user_names_the_zones(copy, tmp_path):
    write_climate(tmp_path / "climate.tif", west=0)
    (tmp_path / "zones.csv").write_text("value,name\n15,mild\n26,\n", encoding="utf-8")
    captioned(copy, tmp_path, {"climate": {"raster": "climate.tif", "classes": "zones.csv"}})
    assert {each.climate for each in facts_in(copy)} == {"mild", None}


def test_a_raster_of_another_place_stops_the_stage_and_leaves_the_old_facts(built, copy, tmp_path):
    write_climate(tmp_path / "climate.tif", west=80)
    with pytest.raises(CaptionError, match=r"climate\.tif does not cover the patch around"):
        captioned(copy, tmp_path, {"climate": {"raster": "climate.tif"}})
    assert copy.facts.read_bytes() == built.facts.read_bytes()
    assert not list(copy.root.glob(".*.part"))


def test_a_raster_that_is_not_there_is_named(copy, tmp_path):
    with pytest.raises(CaptionError, match=r"climate\.tif does not exist; name the files of `captions\.climate`"):
        captioned(copy, tmp_path, {"climate": {"raster": "climate.tif"}})


def test_the_manifest_names_the_raster_and_keeps_the_table(copy, tmp_path):
    write_climate(tmp_path / "climate.tif", west=0)
    (tmp_path / "zones.csv").write_text("value,name\n15,mild\n26,cold\n", encoding="utf-8")
    captions = {"climate": {"raster": "climate.tif", "classes": "zones.csv"}}
    recipe = load_recipe(write_recipe(tmp_path, SMALL | {"captions": captions}))
    steps.caption_patches(recipe, copy)
    units = sorted(path.stem for path in (copy.root / "parts" / "scenes").glob("*.json"))
    steps.write_manifest(units, [], recipe, copy)
    inputs = {each.name: each.sha256 for each in read_record(copy.manifest, Manifest).inputs}
    assert inputs["climate.tif"] == file_sha256(tmp_path / "climate.tif")
    assert (copy.root / "zones.csv").read_bytes() == (tmp_path / "zones.csv").read_bytes()
    assert load_recipe(copy.recipe).captions.climate.classes == "zones.csv"


def test_a_climate_raster_is_looked_at_before_any_scene(built, tmp_path):
    recipe = load_recipe(write_recipe(tmp_path, SMALL | {"captions": {"climate": {"raster": "climate.tif"}}}))
    with pytest.raises(CaptionError, match="does not exist"):
        steps.find_scenes(recipe, built)
    (tmp_path / "climate.tif").write_text("Cfb")
    with pytest.raises(CaptionError, match="cannot be read as a raster"):
        steps.find_scenes(recipe, built)
    write_climate(tmp_path / "climate.tif", west=0)
    assert steps.find_scenes(recipe, built).pairs


def test_a_climate_raster_behind_a_url_is_fetched_like_other_layers(built, tmp_path):
    content = write_climate(tmp_path / "climate.tif", west=0).read_bytes()
    with FileServer() as server:
        server.files["/maps/climate.tif"] = Served(content)
        said = {"captions": {"climate": {"raster": f"{server.url}/maps/climate.tif"}}}
        said |= {"name": "far", "scenes": {"sentinel2": ["none*"]}, "labels": {"path": "land.gpkg"}}
        recipe, workspace = load_recipe(write_recipe(tmp_path, said)), Workspace.create(tmp_path / "dataset")
        (fetched,) = steps.fetch_inputs(recipe, workspace)
    (raster,) = caption_portions.climate_files(recipe, workspace)
    assert raster.read_bytes() == content
    assert raster.is_relative_to(workspace.inputs)
    assert fetched.receipt.outputs
