"""Croissant: mlcroissant finds no fault with the description and reads from it what the tables hold."""

import json
from pathlib import Path

import mlcroissant
import pandas as pd
import pytest
from suites import ExportTests

from rsdata import catalog, steps
from rsdata.catalog.exports.croissant import croissant
from rsdata.errors import CatalogError
from rsdata.records import TextRow
from rsdata.steps.publishing import open_source
from rsdata.workspace import file_sha256


class TestCroissant(ExportTests):
    form = "croissant"
    has_pixels = False


@pytest.fixture(scope="module")
def description(built) -> Path:
    return built.root / "catalog" / "croissant.json"


@pytest.fixture(scope="module")
def dataset(description) -> mlcroissant.Dataset:
    """Opening validates: an error would be raised here."""
    return mlcroissant.Dataset(str(description))


def plain(value: object) -> object:
    """What mlcroissant yields, without its bytes for text."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(each) for each in value]
    return None if not isinstance(value, str) and pd.isna(value) else value


def read(dataset: mlcroissant.Dataset, name: str) -> list[dict[str, object]]:
    """All records of a record set, fields by their short names."""
    return [{key.removeprefix(f"{name}/"): plain(value) for key, value in each.items()} for each in dataset.records(name)]


def test_mlcroissant_finds_no_error_and_only_misses_the_day_of_publication(dataset):
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert [each for each in issues.warnings if "datePublished" not in each] == []


def test_it_says_that_it_is_croissant_1_0(description, dataset):
    assert json.loads(description.read_text(encoding="utf-8"))["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert {each.name for each in dataset.metadata.record_sets} == {"patches", "texts", "splits", "labels"}


def test_records_of_patches_are_the_rows_of_the_table(built, dataset):
    table = catalog.read_patches(built.patches)
    found = read(dataset, "patches")
    assert len(found) == len(table)
    left_out = {"label_fractions", "geometry"}
    assert set(found[0]) == set(table.columns) - left_out
    for record, row in zip(found, table.drop(columns=list(left_out)).to_dict("records"), strict=True):
        assert record == {key: plain(value) for key, value in row.items()}


def test_records_of_texts_are_the_rows_of_the_table(built, dataset):
    table = catalog.read_table(built.texts, TextRow)
    found = read(dataset, "texts")
    assert [each["row_id"] for each in found] == list(table["row_id"])
    assert [each["output"] for each in found] == list(table["output"])
    assert [each["options"] for each in found] == list(table["options"])


def test_classes_and_splits_are_listed_with_their_names(built, dataset):
    with open_source(built) as source:
        assert [each["name"] for each in read(dataset, "labels")] == [each.name for each in source.manifest.labels]
    assert [each["name"] for each in read(dataset, "splits")] == ["train", "validation", "test"]


def test_digests_are_those_of_the_files(description):
    files = {each["@id"]: each for each in json.loads(description.read_text(encoding="utf-8"))["distribution"]}
    assert {"patches.parquet", "texts.parquet", "shards/lmdb/data.mdb"} <= set(files)
    for each in files.values():
        file = description.parent / each["contentUrl"]
        assert each["sha256"] == file_sha256(file)
        assert each["contentSize"] == f"{file.stat().st_size} B"


def test_an_export_can_be_moved_and_still_be_read(built, tmp_path):
    steps.export_dataset(built, "croissant", tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere" / "moved")
    found = read(mlcroissant.Dataset(str(moved / "croissant.json")), "patches")
    assert [each["patch_id"] for each in found] == list(catalog.read_patches(built.patches)["patch_id"])


def test_a_dataset_without_its_patch_table_is_refused(built):
    with open_source(built) as source, pytest.raises(CatalogError, match="does not list patches.parquet"):
        croissant(source, [], "..")
