"""One changed byte anywhere in a dataset is found, and the file is named."""

import json
import random
import shutil
from pathlib import Path

import pytest
from conftest import SMALL, run_steps, write_recipe

from rsdata import steps
from rsdata.errors import WorkspaceError
from rsdata.recipe import load_recipe
from rsdata.records import Manifest, Receipt
from rsdata.workspace import Workspace, read_record


@pytest.fixture(scope="module")
def copy(built, tmp_path_factory) -> Workspace:
    """A copy of the small dataset whose files are changed and put right again, one by one."""
    return Workspace(Path(shutil.copytree(built.root, tmp_path_factory.mktemp("verify") / "dataset")))


def findings(workspace: Workspace) -> list[str]:
    try:
        return steps.verify_dataset(workspace)[1]
    except WorkspaceError as error:  # the manifest cannot be read at all
        return [str(error)]


def test_an_untouched_dataset_has_no_findings_and_no_file_that_nobody_vouches_for(built):
    assert steps.verify_dataset(built)[1] == []
    assert steps.unvouched_files(built) == []


def test_a_flipped_byte_is_found_in_every_file_and_the_file_is_named(copy):
    rng, missed = random.Random(0), []
    files = sorted(path for path in copy.root.rglob("*") if path.is_file())
    names = {path.relative_to(copy.root).as_posix() for path in files}
    assert {"manifest.json", "recipe.yaml", "catalog/items.parquet", "receipts/catalog/all.json", "shards/lmdb/data.mdb"} <= names
    for path in files:
        content = path.read_bytes()
        at = rng.randrange(len(content))
        with path.open("r+b") as stream:  # in place: the largest file has 26 MB
            stream.seek(at)
            stream.write(bytes([content[at] ^ (1 << rng.randrange(8))]))
        name = path.relative_to(copy.root).as_posix()
        if not any(name in each for each in findings(copy)):
            missed.append((name, at))
        with path.open("r+b") as stream:
            stream.seek(at)
            stream.write(content[at : at + 1])
    assert missed == []
    assert findings(copy) == []


@pytest.mark.parametrize("name", ["manifest.json", "receipts/catalog/all.json", "receipts/shards/lmdb.json"])
def test_every_value_of_a_receipt_and_of_the_manifest_is_sealed(copy, name):
    path = copy.root / name
    content = path.read_bytes()
    rng = random.Random(name)
    for at in rng.sample(range(len(content)), 12):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert any(name in each for each in findings(copy)), at
    path.write_bytes(content)


def test_a_receipt_with_other_seconds_is_found_though_its_files_are_whole(copy):
    path = copy.receipt_path("splits", "all")
    content = path.read_text(encoding="utf-8")
    receipt = read_record(path, Receipt)
    changed = receipt.model_copy(update={"seconds": receipt.seconds + 1})
    path.write_text(changed.model_dump_json(indent=1) + "\n", encoding="utf-8")
    assert findings(copy) == ["receipts/splits/all.json was changed since it was written: its seal does not fit"]
    path.write_text(content, encoding="utf-8")


def test_a_whole_receipt_of_another_build_breaks_the_chain(copy):
    path = copy.receipt_path("captions", "all")
    content = path.read_text(encoding="utf-8")
    receipt = read_record(path, Receipt)
    path.write_text(receipt.model_copy(update={"outputs": receipt.outputs[:1]}).sealed().model_dump_json(indent=1) + "\n", encoding="utf-8")
    assert findings(copy) == ["receipts/captions/all.json vouches for other files than those manifest.json was made from; build again"]
    path.unlink()
    assert findings(copy) == ["receipts/captions/all.json is missing; manifest.json counts on it"]
    path.write_text(content, encoding="utf-8")


def test_a_manifest_that_no_receipt_vouches_for_is_told(copy):
    path = copy.receipt_path("catalog", "all")
    content = path.read_bytes()
    path.unlink()
    assert findings(copy)[0].startswith("no receipt vouches for manifest.json")
    path.write_bytes(content)


def test_a_receipt_without_a_seal_is_of_an_earlier_version(copy):
    path = copy.receipt_path("splits", "all")
    content = path.read_bytes()
    said = json.loads(content)
    del said["seal"]
    path.write_text(json.dumps(said), encoding="utf-8")
    assert findings(copy) == ["receipts/splits/all.json carries no seal, as an earlier version wrote it; build again"]
    path.write_bytes(content)


def test_a_note_beside_the_dataset_is_no_fault_but_is_listed(copy):
    (copy.root / "NOTES.txt").write_text("mine", encoding="utf-8")
    assert (findings(copy), steps.unvouched_files(copy)) == ([], ["NOTES.txt"])
    (copy.root / "NOTES.txt").unlink()


def test_the_manifest_chains_products_software_and_work(built):
    manifest = read_record(built.manifest, Manifest)
    scenes = [item for item in manifest.inputs if item.kind == "scene"]
    assert all(item.version == "05.09" and item.products[0].startswith(item.name) and item.products[1].startswith("S1") for item in scenes)
    assert {item.kind for item in manifest.inputs} == {"scene", "labels", "countries"}
    assert {"rsdata", "python", "gdal", "proj", "numpy", "lmdb"} <= set(manifest.software)
    made = [(link.stage, link.unit) for link in manifest.receipts]
    assert made[-3:] == [("splits", "all"), ("captions", "all"), ("shards", "lmdb")] and len(made) == 3 * len(scenes) + 3


def test_two_builds_of_one_recipe_have_the_same_manifest_and_catalogue(small_recipe, built, tmp_path):
    again, _ = run_steps(small_recipe, tmp_path / "elsewhere" / "again")
    assert again.manifest.read_bytes() == built.manifest.read_bytes()
    for name in ("items.parquet", "collection.json", "croissant.json", "card.md"):
        assert again.catalogue(name).read_bytes() == built.catalogue(name).read_bytes(), name


def test_shards_of_scenes_that_were_merged_or_whose_scene_left_are_not_missed(built, tmp_path):
    root = Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2))
    merged = SMALL | {"training": None}
    per_scene = write_recipe(tmp_path, merged | {"shards": {"per_scene": True}})
    workspace, _ = run_steps(per_scene, root)
    units = [name.removeprefix("lmdb-") for name in workspace.receipted("shards") if name != "lmdb"]
    assert len(units) == 2
    assert findings(workspace) == []

    recipe = load_recipe(per_scene)
    steps.assign_splits(units[:1], recipe, workspace)
    steps.caption_patches(recipe, workspace)
    steps.pack_shards(units[:1], recipe, workspace)
    steps.write_manifest(units[:1], [], recipe, workspace)
    assert workspace.receipted("shards") == ["lmdb", f"lmdb-{units[0]}"]
    assert findings(workspace) == []

    run_steps(write_recipe(tmp_path, merged), root)
    assert workspace.receipted("shards") == ["lmdb"]
    assert findings(workspace) == []
    assert workspace.manifest.read_bytes() == built.manifest.read_bytes()
