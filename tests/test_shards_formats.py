"""Formats of shards: the suite over each of them, what only Zarr has, and shards made of other shards."""

import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from conftest import SMALL, run_steps, write_recipe
from suites import ShardFormatTests
from typer.testing import CliRunner

from rsdata import steps
from rsdata.commands import app
from rsdata.errors import RecipeError, ShardError
from rsdata.labels import load_nomenclature
from rsdata.recipe import Training, load_recipe
from rsdata.records import reference_map_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.shards import Compression, compression_of, index_rows, open_shard, pack, repack, verify_shard, write_part
from rsdata.shards.zarr import ZarrStore
from rsdata.workspace import Workspace

SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
S1_SCENE = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP"
CELLS = [(col, 57) for col in range(20, 27)]
WITHOUT_S1 = (22, 57)
EMPTY = (24, 57)  # all no-data: a value like any other


def values_of(col: int, row: int) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(col)
    side = {band.name: band.pixels(1200) for sensor in (SENTINEL2, SENTINEL1) for band in sensor.bands}
    patch_id = f"{SCENE}_{col}_{row}"
    low, high = (0, 1) if (col, row) == EMPTY else (1, 9000)
    found = {
        patch_id: {band: rng.integers(low, high, (side[band], side[band]), np.uint16) for band in SENTINEL2.band_names},
        reference_map_id(patch_id): {"Data": rng.choice(np.array([211, 312, 999], np.uint16), (120, 120))},
    }
    if (col, row) != WITHOUT_S1:
        found[f"{S1_SCENE}_{col}_{row}"] = {band: rng.normal(-12, 5, (120, 120)).astype(np.float32) for band in SENTINEL1.band_names}
    return found


def packed(folder: Path, cells: list[tuple[int, int]], offset: float = -1000.0, **given: object) -> Path:
    table = pd.DataFrame(
        {
            "patch_id": [f"{SCENE}_{col}_{row}" for col, row in cells],
            "split": ["train" if col % 2 else "test" for col, _ in cells],
            "labels": [["Arable land"]] * len(cells),
        }
    )
    part = folder.with_name(f"{folder.name}-part")
    write_part(part, {key: bands for cell in cells for key, bands in values_of(*cell).items()})
    folder.mkdir()
    pack(
        folder,
        [part],
        name="made",
        index=index_rows(table, [None if cell == WITHOUT_S1 else f"{S1_SCENE}_{cell[0]}_{cell[1]}" for cell in cells]),
        sensors=[SENTINEL2, SENTINEL1, REFERENCE_MAP],
        offsets={band: [offset] for band in SENTINEL2.band_names},
        quantification=10_000,
        labels=load_nomenclature("bigearthnet-19").classes,
        unlabeled_codes=[999],
        recipe_sha256="0" * 64,
        **given,  # type: ignore[arg-type]
    )
    return folder


@pytest.fixture(scope="module")
def lmdb_shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("formats") / "lmdb", CELLS)


class TestLmdb(ShardFormatTests):
    format = "lmdb"


class TestLmdbZstd(ShardFormatTests):
    format = "lmdb"
    compression = "zstd"


class TestLmdbBlosc(ShardFormatTests):
    format = "lmdb"
    compression = "blosc"


class TestZarr(ShardFormatTests):
    format = "zarr"


class TestZarrZstd(ShardFormatTests):
    format = "zarr"
    compression = "zstd"


class TestZarrBlosc(ShardFormatTests):
    format = "zarr"
    compression = "blosc"


# --- Zarr, as others see it --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zarr_shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("formats") / "zarr", CELLS, format="zarr")


def test_packing_and_repacking_give_the_same_files(zarr_shard, lmdb_shard, tmp_path):
    (tmp_path / "again").mkdir()
    repack([lmdb_shard], tmp_path / "again", format="zarr")
    for path in (path for path in zarr_shard.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path.relative_to(zarr_shard)).read_bytes() == path.read_bytes()


def test_plain_xarray_opens_each_group_without_a_warning(zarr_shard):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = {name: xr.open_zarr(zarr_shard, group=name) for name in ("s2_10m", "s2_20m", "s2_60m", "s1", "reference_map")}
    assert {name: dict(group.sizes) for name, group in groups.items()} == {
        "s2_10m": {"patch": 7, "band": 4, "y": 120, "x": 120},
        "s2_20m": {"patch": 7, "band": 6, "y": 60, "x": 60},
        "s2_60m": {"patch": 7, "band": 2, "y": 20, "x": 20},
        "s1": {"patch": 7, "band": 2, "y": 120, "x": 120},
        "reference_map": {"patch": 7, "band": 1, "y": 120, "x": 120},
    }
    ten = groups["s2_10m"]
    assert ten["pixels"].dtype == np.uint16
    assert ten["pixels"].dims == ("patch", "band", "y", "x")
    assert [str(band) for band in ten["band"].values] == ["B02", "B03", "B04", "B08"]
    assert [str(patch_id) for patch_id in ten["patch_id"].values] == [f"{SCENE}_{col}_{row}" for col, row in CELLS]
    # Tile 33UUP begins at 300000, 5400000; patch 20, 57 lies 20 * 1200 m east and 57 * 1200 m south of that.
    assert (float(ten["ul_x"][0]), float(ten["ul_y"][0]), int(ten["epsg"][0])) == (324_000, 5_331_600, 32633)
    assert (float(ten["x"][0]), float(ten["y"][-1])) == (5, -1195)
    assert set(ten["offset"].values) == {-1000.0}
    for number, (col, row) in enumerate(CELLS):
        expected = values_of(col, row)
        np.testing.assert_array_equal(
            ten["pixels"][number], np.stack([expected[f"{SCENE}_{col}_{row}"][b] for b in ("B02", "B03", "B04", "B08")])
        )
    assert np.isnan(groups["s1"]["pixels"][CELLS.index(WITHOUT_S1)]).all()


def test_an_independent_implementation_reads_the_same(zarr_shard):
    tensorstore = pytest.importorskip("tensorstore")
    for group in ("s2_10m", "s2_20m", "s2_60m", "s1", "reference_map"):
        path = zarr_shard / group / "pixels"
        opened = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}, read=True).result()
        np.testing.assert_array_equal(opened.read().result(), zarr.open_array(path, mode="r")[:])


def test_patches_of_many_files_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr("rsdata.shards.zarr._FILE_BYTES", 2 * 4 * 120 * 120 * 2)  # two patches of 10 m in each
    folder = packed(tmp_path / "small", CELLS, format="zarr")
    assert len(list((folder / "s2_10m" / "pixels" / "c").iterdir())) == 4
    with open_shard(folder) as shard:
        for col, row in CELLS:
            for key, bands in values_of(col, row).items():
                assert {name: pixels.tolist() for name, pixels in shard.read(key).items()} == {n: p.tolist() for n, p in bands.items()}


def test_threads_read_a_shard_of_more_files_than_are_held_open(monkeypatch, tmp_path):
    monkeypatch.setattr("rsdata.shards.zarr._FILE_BYTES", 2 * 4 * 120 * 120 * 2)
    folder = packed(tmp_path / "small", CELLS, format="zarr")
    monkeypatch.setattr("rsdata.shards.zarr._MOST_MAPPED", 2)
    keys = [f"{SCENE}_{col}_{row}" for col, row in CELLS]
    before = sys.getswitchinterval()
    with ZarrStore(folder) as store, ThreadPoolExecutor(4) as threads:
        expected = {key: store.read(key)["B02"].sum() for key in keys}
        sys.setswitchinterval(1e-6)
        try:
            found = list(threads.map(lambda key: store.read(key)["B02"].sum(), keys * 200))
        finally:
            sys.setswitchinterval(before)
    assert found == [expected[key] for key in keys] * 200


def test_a_cut_file_or_a_lying_index_is_refused(zarr_shard, tmp_path):
    folder = Path(shutil.copytree(zarr_shard, tmp_path / "damaged"))
    key = f"{SCENE}_20_57"
    file = next((folder / "s2_10m" / "pixels" / "c").rglob("0/0/0/0"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(ShardError, match="so it is cut short, make the shard again"):
        open_shard(folder)
    import google_crc32c

    index = np.frombuffer(whole[-7 * 16 - 4 : -4], "<u8").copy()
    index[0] = len(whole) * 2
    file.write_bytes(whole[: -7 * 16 - 4] + index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little"))
    with open_shard(folder) as shard, pytest.raises(ShardError, match="its chunk lies beyond the end of the file"):
        shard.read(key)
    file.unlink()
    with open_shard(folder) as shard, pytest.raises(ShardError, match="cannot be read"):
        shard.read(key)


@pytest.mark.parametrize("change", [{"shape": [3, 4, 120, 120]}, {"data_type": "float32", "shape": [7, 4, 120]}, {"codecs": []}])
def test_metadata_that_lie_are_refused(zarr_shard, tmp_path, change):
    import json

    folder = Path(shutil.copytree(zarr_shard, tmp_path / "lying"))
    path = folder / "s2_10m" / "pixels" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ShardError):
        ZarrStore(folder)


def test_patches_of_unlike_size_are_refused_for_zarr(lmdb_shard, tmp_path):
    manifest = lmdb_shard / "manifest.json"
    folder = Path(shutil.copytree(lmdb_shard, tmp_path / "varying"))
    text = manifest.read_text()
    (folder / "manifest.json").write_text(text.replace('"sizes_vary": false', '"sizes_vary": true', 1))
    (tmp_path / "out").mkdir()
    with pytest.raises(ShardError, match="patches of s2 differ in size, which Zarr cannot hold; use lmdb"):
        repack([folder], tmp_path / "out", format="zarr")


# --- shards made of shards ---------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["lmdb", "zarr"])
def test_two_halves_merged_are_the_whole(tmp_path, lmdb_shard, format):
    halves = [packed(tmp_path / "a", CELLS[:4], format=format), packed(tmp_path / "b", CELLS[4:])]
    (tmp_path / "whole").mkdir()
    merged = repack(halves, tmp_path / "whole", format="lmdb")
    assert (tmp_path / "whole" / "data.mdb").read_bytes() == (lmdb_shard / "data.mdb").read_bytes()
    with open_shard(lmdb_shard) as whole:
        assert merged.bands == whole.manifest.bands  # statistics of all train patches, to the last digit
        assert merged.counts == whole.manifest.counts
        assert merged.recipe_sha256 != whole.manifest.recipe_sha256


def test_offsets_of_merged_shards_stand_side_by_side(tmp_path):
    halves = [packed(tmp_path / "a", CELLS[:4], offset=0.0), packed(tmp_path / "b", CELLS[4:], offset=-1000.0)]
    (tmp_path / "whole").mkdir()
    merged = repack(halves, tmp_path / "whole", format="zarr")
    assert {tuple(band.offset) for band in merged.bands if band.sensor == "s2"} == {(-1000.0, 0.0)}
    assert "offset" not in zarr.open_group(tmp_path / "whole" / "s2_10m", mode="r")  # no single one holds for a band


def test_shards_that_do_not_go_together_are_refused(tmp_path, lmdb_shard):
    other = Path(shutil.copytree(lmdb_shard, tmp_path / "other"))
    text = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(text.replace('"gsd_m": 20', '"gsd_m": 25', 1))
    with pytest.raises(ShardError, match="cannot be merged: their bands differ"):
        repack([lmdb_shard, other], tmp_path / "out", format="lmdb")
    moved = packed(tmp_path / "moved", CELLS[:1])
    rows = pd.read_parquet(moved / "index.parquet").assign(split="validation")
    rows.to_parquet(moved / "index.parquet")
    with pytest.raises(ShardError, match=rf"two shards say different things of {SCENE}_20_57, such as its split"):
        repack([lmdb_shard, moved], tmp_path / "out", format="lmdb")


def test_a_subset_holds_only_what_was_asked_for(tmp_path, lmdb_shard):
    runner = CliRunner()
    done = runner.invoke(app, ["shards", "subset", str(lmdb_shard), "--out", str(tmp_path / "train"), "--split", "train", "--json"])
    assert done.exit_code == 0, done.output
    with open_shard(tmp_path / "train") as shard, open_shard(lmdb_shard) as whole:
        assert list(shard.index["patch_id"]) == [f"{SCENE}_{col}_{row}" for col, row in CELLS if col % 2]
        assert shard.manifest.counts == {"train": 3, "validation": 0, "test": 0}
        assert shard.manifest.bands == whole.manifest.bands  # the same train patches, so the same statistics
        assert len(shard) == 9
    assert verify_shard(tmp_path / "train") == []
    (tmp_path / "ids.txt").write_text(f"{SCENE}_20_57\nS2A_nowhere\n")
    done = runner.invoke(app, ["shards", "subset", str(lmdb_shard), "--out", str(tmp_path / "two"), "--ids", str(tmp_path / "ids.txt")])
    assert isinstance(done.exception, ShardError)
    assert str(done.exception) == "1 of the patches to keep are in no shard, S2A_nowhere first; look at the list"
    assert not (tmp_path / "two").exists()


def test_the_command_line_converts_and_merges(tmp_path, lmdb_shard):
    runner = CliRunner()
    made = runner.invoke(
        app, ["shards", "convert", str(lmdb_shard), "--out", str(tmp_path / "z"), "--format", "zarr", "--compression", "zstd"]
    )
    assert made.exit_code == 0, made.output
    assert "zarr (bytes+zstd), 20 keys" in made.output
    merged = runner.invoke(app, ["shards", "merge", str(lmdb_shard), str(tmp_path / "z"), "--out", str(tmp_path / "m"), "--name", "both"])
    assert merged.exit_code == 0, merged.output
    assert (tmp_path / "m" / "data.mdb").read_bytes() == (lmdb_shard / "data.mdb").read_bytes()
    again = runner.invoke(app, ["shards", "convert", str(lmdb_shard), "--out", str(tmp_path / "z")])
    assert isinstance(again.exception, ShardError)
    assert "holds something already" in str(again.exception)


def test_names_that_are_not_known_are_refused():
    with pytest.raises(ShardError, match="there is no compression 'lz77'; known are none, zstd, blosc"):
        compression_of("lz77")
    assert compression_of("blosc") == Compression("blosc")


# --- what a recipe asks for --------------------------------------------------------------------------------


def built_with(tmp_path: Path, **shards: object) -> Workspace:
    recipe = write_recipe(tmp_path, {key: value for key, value in SMALL.items() if key != "training"} | {"shards": shards})
    return run_steps(recipe, tmp_path / "out")[0]


def test_a_recipe_may_ask_for_compressed_zarr(tmp_path, built):
    workspace = built_with(tmp_path, format="zarr", compression="zstd")
    with open_shard(workspace.shards("zarr")) as here, open_shard(built.shards("lmdb")) as there:
        assert here.manifest.codec == "bytes+zstd"
        assert [band.statistics for band in here.manifest.bands] == [band.statistics for band in there.manifest.bands]
        assert {key: here.read_bytes(key) for key in here.keys()} == {key: there.read_bytes(key) for key in there.keys()}  # noqa: SIM118
    assert steps.verify_dataset(workspace)[1] == []


def test_a_recipe_may_ask_for_one_shard_per_scene(tmp_path, built):
    workspace = built_with(tmp_path, per_scene=True)
    folders = sorted(path for path in workspace.shards("lmdb").iterdir() if path.is_dir())
    with open_shard(built.shards("lmdb")) as whole:
        assert [folder.name for folder in folders] == sorted({patch_id[:-6] for patch_id in whole.index["patch_id"]})
    assert len(folders) == 2
    assert steps.verify_dataset(workspace)[1] == []
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert not steps.write_report(recipe.model_copy(update={"licence": "CC-BY-4.0 <here>"}), workspace).skipped
    assert "CC-BY-4.0 &lt;here&gt;" in workspace.report.read_text()
    with pytest.raises(RecipeError, match="has one shard per scene, and training reads one; merge them with `rsdata shards merge"):
        steps.train_baseline(recipe, workspace, Training())
    steps.repack_shards(folders, tmp_path / "merged")
    assert (tmp_path / "merged" / "data.mdb").read_bytes() == (built.shards("lmdb") / "data.mdb").read_bytes()


def test_training_on_shards_per_scene_is_refused_before_any_work(tmp_path):
    recipe = write_recipe(tmp_path, SMALL | {"shards": {"per_scene": True}, "training": {"epochs": 1}})
    with pytest.raises(RecipeError, match="`training` reads one shard for all scenes; leave it or `shards.per_scene` out"):
        load_recipe(recipe)


def test_a_published_dataset_converts_to_zarr(shared_data, tmp_path):
    runner = CliRunner()
    folder = ["--dataset-dir", str(shared_data / "eurosat_ms")]
    for kind in ("lmdb", "zarr"):
        done = runner.invoke(app, ["convert", "eurosat-multi-spectral", *folder, "--target", str(tmp_path / kind), "--format", kind])
        assert done.exit_code == 0, done.output
    with open_shard(tmp_path / "lmdb") as there, open_shard(tmp_path / "zarr") as here:
        assert list(here.keys()) == ["AnnualCrop_1", "Pasture_300", "SeaLake_3000"]
        assert {key: here.read_bytes(key) for key in here.keys()} == {key: there.read_bytes(key) for key in there.keys()}  # noqa: SIM118
        assert here.manifest.recipe_sha256 == there.manifest.recipe_sha256
    again = runner.invoke(app, ["convert", "eurosat-multi-spectral", *folder, "--target", str(tmp_path / "zarr"), "--format", "zarr"])
    assert again.exit_code == 0
    assert "Everything was written before" in again.output
