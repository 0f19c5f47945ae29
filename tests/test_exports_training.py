"""Exports that training code streams: tars by webdataset and tarfile, Parquet by datasets, pyarrow and duckdb."""

import io
import json
import tarfile
from dataclasses import replace
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from suites import ExportTests

from rsdata import steps
from rsdata.catalog.exports.huggingface import _nested
from rsdata.catalog.exports.stacks import Stack, pixels_of, samples_of, stacks_of
from rsdata.recipe import load_recipe
from rsdata.records import PatchId
from rsdata.steps.publishing import open_source

BANDS = {
    "s2_10m": ["B02", "B03", "B04", "B08"],
    "s2_20m": ["B05", "B06", "B07", "B8A", "B11", "B12"],
    "s2_60m": ["B01", "B09"],
    "s1": ["VH", "VV"],
    "reference_map": ["Data"],
}
KEY = {"s1": "s1_name", "reference_map": "map"}


def by_key(samples):
    """Pixels of samples by the keys and bands of a shard; ``samples`` are dicts of a row and its stacks."""
    found = {}
    for row, stacks in samples:
        keys = {"s1": row["s1_name"], "reference_map": f"{row['patch_id']}_reference_map"}
        for name, values in stacks.items():
            bands = dict(zip(BANDS[name], values, strict=True))
            found.setdefault(keys.get(name, row["patch_id"]), {}).update(bands)
    return found


class TestWebDataset(ExportTests):
    form = "webdataset"

    def pixels(self, folder):
        samples = []
        for path in sorted(folder.glob("*.tar")):
            with tarfile.open(path) as tar:
                members = {member.name: tar.extractfile(member).read() for member in tar}
            for name in [name for name in members if name.endswith(".json")]:
                row, patch_id = json.loads(members[name]), name.removesuffix(".json")
                assert path.name.startswith(f"{row['split']}-") and row["patch_id"] == patch_id
                there = [stack for stack in BANDS if f"{patch_id}.{stack}.npy" in members]
                stacks = {stack: np.load(io.BytesIO(members[f"{patch_id}.{stack}.npy"])) for stack in there}
                samples.append((row, stacks))
        return by_key(samples)


class TestHuggingFace(ExportTests):
    form = "huggingface"

    def pixels(self, folder):
        samples = []
        for path in folder.glob("data/*.parquet"):
            for row in pq.read_table(path).to_pylist():
                types = {"s1": np.float32}
                samples.append((row, {name: np.array(row[name], types.get(name, np.uint16)) for name in BANDS if name in row}))
        return by_key(samples)


@pytest.fixture(scope="module")
def rows(built):
    with open_source(built) as source:
        return source.patches.set_index("patch_id")


@pytest.fixture(scope="module")
def tars(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tars") / "out"
    steps.export_dataset(built, "webdataset", folder)
    return folder


@pytest.fixture(scope="module")
def parquet(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet") / "out"
    steps.export_dataset(built, "huggingface", folder)
    return folder


# --- WebDataset ----------------------------------------------------------------------------------------------


def test_webdataset_streams_every_sample_once(tars, built, rows):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed; see the extra `bench`")
    seen = []
    with open_source(built) as source:
        for split in ("train", "validation", "test"):
            paths = [str(path) for path in sorted(tars.glob(f"{split}-*.tar"))]
            for sample in webdataset.WebDataset(paths, shardshuffle=False).decode():
                patch_id = sample["__key__"]
                assert rows.loc[patch_id, "split"] == split
                assert sample["json"]["labels"] == rows.loc[patch_id, "labels"]
                stored = source.read(patch_id)
                for name in ("s2_10m", "s2_20m", "s2_60m"):
                    assert np.array_equal(sample[f"{name}.npy"], np.stack([stored[band] for band in BANDS[name]]))
                assert sample["s1.npy"].dtype == np.float32
                seen.append(patch_id)
    assert sorted(seen) == list(rows.index)


def share_of_neighbours(orders):
    """Of patches that follow one another, those that touch on the ground."""
    pairs = [pair for ids in orders for pair in pairwise(map(PatchId.parse, ids))]
    return np.mean([one.scene == two.scene and max(abs(one.row - two.row), abs(one.col - two.col)) <= 1 for one, two in pairs])


def test_neighbours_are_apart_and_the_order_is_always_the_same(built):
    with open_source(built) as source:
        ids = {split: [sample.id for sample in samples] for split, samples in samples_of(source).items()}
    assert [each[38:] for each in ids["validation"][:4]] == ["T32UMC_14_42", "T33UUP_17_40", "T33UUP_18_40", "T32UMC_13_42"]
    assert share_of_neighbours(map(sorted, ids.values())) > 0.6
    assert share_of_neighbours(ids.values()) < 0.25  # 0.148 of 81 pairs


def test_the_folder_says_what_bands_and_classes_are(tars, rows):
    said = json.loads((tars / "dataset.json").read_text())
    assert {name: each["bands"] for name, each in said["arrays"].items()} == BANDS
    assert said["arrays"]["s2_20m"] == {"bands": BANDS["s2_20m"], "dtype": "uint16", "shape": ["band", 60, 60]}
    assert sum(said["samples"].values()) == len(rows)
    assert sorted(said["tars"]) == sorted(path.name for path in tars.glob("*.tar"))
    with tarfile.open(tars / said["tars"][0]) as tar:
        members = [member for member in tar if member.name.endswith(".json")]
        row = json.loads(tar.extractfile(members[0]).read())
        assert all((member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "") for member in tar.getmembers())
    assert [said["classes"][number]["name"] for number in row["classes"]] == row["labels"]
    assert row["datetime"].endswith("+00:00")


def test_the_folder_says_what_the_sources_ask_for_though_the_recipe_does_not(tars, built):
    assert not load_recipe(built.recipe).attribution
    assert json.loads((tars / "dataset.json").read_text())["attribution"] == ["Synthetic scenes made by rsdata; no satellite data."]


# --- Hugging Face ----------------------------------------------------------------------------------------------


def test_load_dataset_gives_types_classes_and_pixels_back(parquet, built, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; see the extra `bench`")
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(parquet), cache_dir=str(tmp_path))
    assert {split: len(table) for split, table in loaded.items()} == rows["split"].value_counts().to_dict()
    seen = 0
    with open_source(built) as source:
        for table in loaded.values():
            assert table.features["s2_10m"] == datasets.Array3D((4, 120, 120), "uint16")
            names = table.features["labels"].feature.names
            for number, sample in enumerate(table.with_format("numpy")):
                patch_id = str(sample["patch_id"])
                assert [names[label] for label in sample["labels"]] == rows.loc[patch_id, "labels"]
                if number % 5 == 0:
                    stored, s1 = source.read(patch_id), source.read(str(sample["s1_name"]))
                    assert np.array_equal(sample["s2_10m"], np.stack([stored[band] for band in BANDS["s2_10m"]]))
                    assert np.array_equal(sample["s1"], np.stack([s1["VH"], s1["VV"]]), equal_nan=True)
                seen += 1
    assert seen == len(rows)


def test_the_card_names_the_files_of_each_split(parquet):
    text = (parquet / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    (config,) = head["configs"]
    for each in config["data_files"]:
        found = list(parquet.glob(each["path"]))
        assert found and all(path.name.startswith(f"{each['split']}-00000-of-00001") for path in found)


def test_duckdb_counts_patches_of_a_class(parquet, rows):
    with duckdb.connect() as database:
        name = rows["labels"].iloc[0][0]
        columns = yaml.safe_load((parquet / "README.md").read_text(encoding="utf-8").split("---\n")[1])["dataset_info"]["features"]
        names = next(each for each in columns if each["name"] == "labels")["list"]["class_label"]["names"]
        number = int(next(number for number, each in names.items() if each == name))
        (count,) = database.execute(f"SELECT count(*) FROM '{parquet}/data/*.parquet' WHERE list_contains(labels, {number})").fetchone()
    assert count == sum(name in labels for labels in rows["labels"])


# --- what both share ---------------------------------------------------------------------------------------------


def test_a_patch_without_sentinel1_has_no_such_array(built):
    with open_source(built) as source:
        index = source.index.copy()
        index.loc[0, "s1_key"] = None
        lacking = replace(source, index=index)
        patch_id = index.loc[0, "patch_id"]
        sample = next(each for samples in samples_of(lacking).values() for each in samples if each.id == patch_id)
        found = {stack.name: values for stack, values in pixels_of(lacking, sample, stacks_of(source.manifest))}
    assert sample.row["s1_name"] is None
    assert found["s1"] is None and found["s2_10m"].shape == (4, 120, 120)


def test_a_missing_array_is_null_between_others():
    stack = Stack("s1", "s1", ("VH", "VV"), "float32", (2, 3))
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    column = _nested([values, None, values + 100], stack)
    assert column.to_pylist() == [values.tolist(), None, (values + 100).tolist()]
    assert _nested([None], stack).to_pylist() == [None]
