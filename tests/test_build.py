"""Builds: done once, redone only where something changed, the same bytes every time, bad scenes set aside."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from conftest import SMALL, TILE, random_bands, run_steps, write_recipe, write_scene
from typer.testing import CliRunner

from rsdata import labels, scenes, steps
from rsdata.catalog import read_patches, read_table
from rsdata.commands import app
from rsdata.errors import BuildFailed, RecipeError, SceneError, WorkspaceError
from rsdata.recipe import load_recipe
from rsdata.records import Manifest, PatchFacts, TextRow
from rsdata.shards import open_shard
from rsdata.workspace import Workspace, read_record
from rsdata.writing import writing

RESULTS = ("patches.parquet", "quality.parquet", "facts.parquet", "texts.parquet", "manifest.json", "shards/lmdb/data.mdb",
           "shards/lmdb/index.parquet", "shards/lmdb/manifest.json", "catalog/split-audit.json")  # fmt: skip


def digests(root: Path) -> dict[str, str]:
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in RESULTS}


def test_what_a_build_leaves_agrees_with_itself(built):
    table = read_patches(built.patches)
    kept = table[table["kept"]]
    manifest = read_record(built.manifest, Manifest)
    assert manifest.counts == {"scenes": 2, "patches": 2 * 3 * 18, "kept": len(kept)}
    assert set(kept["split"]) == {"train", "validation", "test"}
    assert table.loc[~table["kept"], "split"].isna().all()
    assert (table["kept"] == table["drop_reason"].isna()).all()
    assert manifest.dropped == table["drop_reason"].value_counts().to_dict()
    assert read_table(built.facts, PatchFacts)["patch_id"].tolist() == kept["patch_id"].tolist()
    assert read_table(built.texts, TextRow)["patch_id"].unique().tolist() == kept["patch_id"].tolist()
    with open_shard(built.shards("lmdb")) as shard:
        assert shard.index["patch_id"].tolist() == kept["patch_id"].tolist()
        assert len(shard) == 3 * len(kept)
    assert steps.verify_dataset(built) == (manifest, [])


def test_every_pixel_in_the_shard_is_that_of_its_scene(built):
    """Counted by hand from the raster: patch (col, row) starts 120 pixels further for each column and row."""
    table = read_patches(built.patches)
    offset_down, offset_right = SMALL["synthetic"]["offset_px"]
    with open_shard(built.shards("lmdb")) as shard:
        for scene, rows in table[table["kept"]].groupby("s2_product"):
            product = next((built.inputs / "sentinel2").glob(f"{scene}.SAFE"))
            bands = scenes.open_sentinel2(product).read_all(["B03", "B11", "B09"])
            for row in rows.itertuples():
                left, top = row.col * 120 - offset_right, row.row * 120 - offset_down
                stored = shard.read(row.patch_id)
                for name, side in (("B03", 120), ("B11", 60), ("B09", 20)):
                    y, x = top * side // 120, left * side // 120
                    assert np.array_equal(stored[name], bands[name][y : y + side, x : x + side])


def test_labels_follow_from_the_stored_reference_map(built):
    nomenclature = labels.load_nomenclature("bigearthnet-19")
    table = read_patches(built.patches)
    with open_shard(built.shards("lmdb")) as shard:
        for row in table[table["kept"]].itertuples():
            codes = shard.read(f"{row.patch_id}_reference_map")["Data"]
            classes = {nomenclature.class_of_code[code] for code in np.unique(codes) if code in nomenclature.class_of_code}
            assert row.labels == sorted(classes)
            assert row.unlabeled_fraction == pytest.approx(np.isin(codes, nomenclature.unlabeled_codes).mean())
            assert sum(row.label_fractions.values()) + row.unlabeled_fraction == pytest.approx(1)


def test_a_second_build_does_nothing(built, small_recipe):
    before = {path: path.stat().st_mtime_ns for path in built.root.rglob("*") if path.is_file()}
    _, outcomes = run_steps(small_recipe, built.root)
    assert all(outcome.skipped for outcome in outcomes)
    assert {path: path.stat().st_mtime_ns for path in built.root.rglob("*") if path.is_file()} == before


def test_only_the_scene_without_receipts_is_redone_and_the_result_is_the_same(built, small_recipe, tmp_path):
    copy = Workspace(Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2)))
    receipts = sorted((copy.root / "receipts").rglob("*_T33UUP.json"))
    assert {path.parent.name for path in receipts} == {"scenes", "patches", "labels", "quality"}
    for path in receipts:
        path.unlink()
    _, outcomes = run_steps(small_recipe, copy.root)
    redone = {(outcome.receipt.stage, outcome.receipt.unit[-5:]) for outcome in outcomes if not outcome.skipped}
    assert redone == {(stage, "33UUP") for stage in ("scenes", "patches", "labels", "quality")}
    assert digests(copy.root) == digests(built.root)


def test_a_changed_part_of_the_recipe_redoes_what_depends_on_it(built, small_recipe, tmp_path):
    copy = Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2))
    changed = write_recipe(tmp_path, SMALL | {"captions": {"seed": 5}, "training": None})
    _, outcomes = run_steps(changed, copy)
    assert {outcome.receipt.stage for outcome in outcomes if not outcome.skipped} == {"captions", "shards", "catalog"}


def test_a_file_that_went_missing_is_made_again(built, small_recipe, tmp_path):
    copy = Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2))
    (copy / "texts.parquet").unlink()
    _, outcomes = run_steps(small_recipe, copy)
    assert {outcome.receipt.stage for outcome in outcomes if not outcome.skipped} == {"captions"}
    assert digests(copy) == digests(built.root)


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run ``rsdata`` in a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "CI": "true"}
        command = [sys.executable, "-m", "rsdata", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)

    (tmp_path / "prefect").mkdir()
    return run


def test_the_flow_gives_the_same_bytes_on_two_workers_trains_and_then_has_nothing_to_do(built, small_recipe, tmp_path, command_line):
    root = tmp_path / "flow"
    first = command_line("build", small_recipe, "--out", root, "--workers", 2)
    assert first.returncode == 0, first.stderr
    assert digests(root) == digests(built.root)
    metrics = json.loads((root / "training" / "resnet18-B02B03B04B08VV" / "metrics.json").read_text())
    assert metrics["bands"] == ["B02", "B03", "B04", "B08", "VV"]
    assert (root / "report" / "index.html").stat().st_size > 100_000
    second = command_line("build", small_recipe, "--out", root, "--workers", 2)
    assert second.returncode == 0, second.stderr
    assert "Everything was finished before; nothing was done." in second.stdout
    assert "done in" not in second.stderr


def test_a_build_that_is_killed_goes_on_and_ends_the_same(built, small_recipe, tmp_path):
    """Killed at two moments, drawn with a seed, between the first receipt and the last."""
    root = tmp_path / "killed"
    environment = os.environ | {"PREFECT_HOME": str(tmp_path), "CI": "true"}
    command = [sys.executable, "-m", "rsdata", "build", str(small_recipe), "--out", str(root), "--workers", "2", *_up_to_catalog()]
    rng = np.random.default_rng(4)
    for _ in range(2):
        before = len(list(root.glob("receipts/*/*.json")))
        goal = before + int(rng.integers(1, 5))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True)
        while process.poll() is None and len(list(root.glob("receipts/*/*.json"))) < goal:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (root / "manifest.json").exists()
    assert subprocess.run(command, capture_output=True, env=environment, timeout=300, check=False).returncode == 0
    assert digests(root) == digests(built.root)
    # What was written aside by the killed processes carries no final name.
    assert all(".part" in path.name for path in root.rglob(".*") if path.is_file())


def _up_to_catalog() -> list[str]:
    stages = ("scenes", "patches", "labels", "quality", "splits", "captions", "shards", "catalog")
    return [part for stage in stages for part in ("--only", stage)]


def test_a_dask_cluster_gives_the_same_bytes(built, small_recipe, tmp_path, command_line):
    distributed = pytest.importorskip("distributed")
    root = tmp_path / "dask"
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
        result = command_line("build", small_recipe, "--out", root, "--dask", cluster.scheduler_address, *_up_to_catalog())
    assert result.returncode == 0, result.stderr
    assert digests(root) == digests(built.root)


def zip_product(safe: Path) -> None:
    """Put a zip in the place of a product's folder."""
    shutil.make_archive(str(safe.with_suffix("")), "zip", safe.parent, safe.name)
    shutil.rmtree(safe)


@pytest.fixture
def mixed(made_safe, built, tmp_path) -> Path:
    """A recipe over two good scenes, one of them a zip, and one for each way a scene can be bad."""
    folder = tmp_path / "scenes"
    for index, day in enumerate((1, 2)):
        write_scene(folder, random_bands(seed=index), sensing=_day(day), ul_x_m=TILE.ul_x_m + 9600, ul_y_m=TILE.ul_y_m - 48000)
    zip_product(next(folder.glob("*20230602T*.SAFE")))
    truncated = write_scene(folder, random_bands(seed=5), sensing=_day(3), ul_x_m=TILE.ul_x_m + 9600, ul_y_m=TILE.ul_y_m - 48000)
    (file,) = truncated.rglob("*_B05_20m.jp2")
    file.write_bytes(file.read_bytes()[:1000])
    (folder / f"{truncated.name[:11]}20230604T101031_N0509_R022_T33UUP_20230604T141248.SAFE").mkdir()
    (folder / "S2A_broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    elsewhere = write_scene(folder, random_bands(seed=6), sensing=_day(5))
    assert elsewhere.exists()
    content = {
        "name": "mixed",
        "scenes": {"sentinel2": ["scenes/S2*"], "require_s1": False},
        "labels": {"path": str(built.inputs / "corine.gpkg")},
        "countries": {"path": str(built.inputs / "countries.gpkg")},
    }
    return write_recipe(tmp_path, content)


def _day(day: int):
    from conftest import SENSING

    return SENSING.replace(day=day)


def test_bad_scenes_are_listed_with_their_reason_and_the_rest_is_built(mixed, tmp_path, command_line):
    root = tmp_path / "out"
    result = command_line("build", mixed, "--out", root, "--workers", 1)
    assert result.returncode == 1
    failures = {item.unit: item.message for item in read_record(root / "manifest.json", Manifest).failures}
    assert len(failures) == 4
    by_text = " | ".join(failures.values())
    for message in ("is an empty folder", "is a damaged zip", "the file is cut short", "touches the scene, which covers"):
        assert message in by_text
        assert message.split()[-1] in result.stderr
    assert set(read_patches(root / "patches.parquet")["s2_product"].str[11:19]) == {"20230601", "20230602"}
    assert "Traceback" not in result.stderr


def test_the_same_product_twice_is_set_aside_not_built_twice(made_safe, built, tmp_path):
    shutil.copytree(made_safe, tmp_path / "a" / made_safe.name)
    shutil.copytree(made_safe, tmp_path / "b" / made_safe.name)
    content = {"name": "twice", "scenes": {"sentinel2": ["a/*.SAFE", "b/*.SAFE"]}, "labels": {"path": str(built.inputs / "corine.gpkg")}}
    found = steps.find_scenes(load_recipe(write_recipe(tmp_path, content)), Workspace(tmp_path))
    assert len(found.pairs) == 1
    assert "is the same product as" in found.failures[0].message


def test_an_output_that_cannot_be_written_is_refused(tmp_path, small_recipe, command_line):
    (tmp_path / "file").write_text("in the way")
    result = command_line("build", small_recipe, "--out", tmp_path / "file" / "out")
    assert result.returncode == 1
    assert "cannot be written: Not a directory; name a folder you may write with --out" in result.stderr
    assert "Traceback" not in result.stderr
    with pytest.raises(WorkspaceError, match="cannot be written"):
        Workspace.create(Path("/proc/rsdata"))


def test_an_unknown_recipe_key_is_refused_with_those_that_are_known(tmp_path, command_line):
    recipe = write_recipe(tmp_path, SMALL | {"label": {"path": "clc.gpkg"}})
    result = command_line("build", recipe, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert "unknown key `label`; known here are" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_keeps_nothing_says_why(built, tmp_path):
    content = {
        "name": "nothing",
        "scenes": {"sentinel2": [str(built.inputs / "sentinel2" / "*.SAFE")]},
        "labels": {"path": str(built.inputs / "corine.gpkg")},
    }
    with pytest.raises(RecipeError, match=r"not one of 108 patches was kept: .*\d+ for no_s1.*; loosen the recipe"):
        run_steps(write_recipe(tmp_path, content), tmp_path / "out")


def test_a_step_that_fails_leaves_nothing_under_a_final_name(tmp_path):
    with pytest.raises(RuntimeError), writing(tmp_path / "table.parquet") as aside:
        aside.write_bytes(b"half")
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []


def test_scenes_of_different_quantification_are_not_mixed(built, tmp_path, small_recipe):
    copy = Workspace(Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2)))
    scene = next((copy.root / "parts" / "scenes").glob("*_T33UUP.json"))
    scene.write_text(
        scene.read_text()
        .replace('"quantification":10000.0', '"quantification":1000.0')
        .replace('"quantification": 10000.0', '"quantification": 1000.0')
    )
    shutil.rmtree(copy.root / "receipts" / "shards")
    loaded = load_recipe(small_recipe)
    units = [pair.unit for pair in steps.find_scenes(loaded, copy).pairs]
    with pytest.raises(SceneError, match=r"different quantification values \[1000.0, 10000.0\]"):
        steps.pack_shards(units, loaded, copy)


def test_verify_finds_a_changed_file(built, tmp_path):
    copy = Workspace(Path(shutil.copytree(built.root, tmp_path / "copy")))
    with copy.texts.open("r+b") as stream:
        stream.seek(100)
        byte = stream.read(1)
        stream.seek(100)
        stream.write(bytes([byte[0] ^ 1]))
    result = CliRunner().invoke(app, ["verify", str(copy.root), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["findings"] == ["texts.parquet differs from its digest in manifest.json"]


def test_split_verbs_work_on_the_published_metadata_as_it_is(shared_data, tmp_path):
    published = shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet"
    out = tmp_path / "assigned.parquet"
    assert CliRunner().invoke(app, ["split", "assign", str(published), "--out", str(out)]).exit_code == 0
    before, after = pd.read_parquet(published), pd.read_parquet(out)
    assert after["split"].tolist() == before["split"].tolist()
    audit = CliRunner().invoke(app, ["split", "audit", str(out), "--json"])
    counts = json.loads(audit.stdout)["counts"]
    assert counts == before["split"].value_counts().to_dict()


def test_inspect_prints_what_a_product_is(made_safe):
    result = CliRunner().invoke(app, ["scenes", "inspect", str(made_safe), "--json"])
    assert result.exit_code == 0
    (record,) = json.loads(result.stdout)
    assert (record["baseline"], record["offsets"]["B02"], record["problem"]) == ("05.09", -1000.0, None)
    assert CliRunner().invoke(app, ["scenes", "inspect", str(made_safe / "nothing")]).exit_code == 1


def test_the_demo_recipe_is_valid_and_installed_with_the_package():
    from importlib import resources

    path = resources.files("rsdata.catalogs") / "recipes" / "demo.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert load_recipe(Path(str(path))).name == content["name"] == "demo"


def test_an_unknown_stage_is_refused_with_those_there_are(small_recipe, tmp_path, command_line):
    result = command_line("build", small_recipe, "--out", tmp_path / "out", "--only", "label")
    assert result.returncode == 1
    assert "there is no stage label; stages are scenes, patches, labels" in result.stderr


def test_scenes_at_once_are_bounded_by_cores_scenes_and_memory(built, small_recipe, monkeypatch):
    pairs = steps.find_scenes(load_recipe(small_recipe), built).pairs
    assert steps.scenes_at_once(pairs, 8) == 2
    assert steps.scenes_at_once(pairs, 1) == 1
    whole = pairs[0].model_copy(update={"s2": pairs[0].s2.model_copy(update={"width_m": 109_800, "height_m": 109_800})})

    class Memory:
        available = 10 * 2**30

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert steps.scenes_at_once([whole] * 8, 8) == 2  # a whole tile takes about 4.2 GiB


def test_a_model_trained_later_is_scored_in_the_report(built, tmp_path):
    copy = Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2))
    result = CliRunner().invoke(app, ["train", str(copy), "--bands", "B04,VH", "--epochs", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["bands"] == ["B04", "VH"]
    assert "(B04, VH), task multilabel" in (copy / "report" / "index.html").read_text()
    refused = CliRunner().invoke(app, ["train", str(copy), "--bands", "B4"])
    assert "B4" in str(refused.exception)


def test_build_failed_is_raised_if_no_scene_can_be_used(tmp_path, built, command_line):
    (tmp_path / "S2A.SAFE").mkdir()
    content = {"name": "none", "scenes": {"sentinel2": ["*.SAFE"]}, "labels": {"path": str(built.inputs / "corine.gpkg")}}
    result = command_line("build", write_recipe(tmp_path, content), "--out", tmp_path / "out")
    assert result.returncode == 1
    assert "is an empty folder" in result.stderr
    assert "Traceback" not in result.stderr
    assert issubclass(BuildFailed, RuntimeError)
