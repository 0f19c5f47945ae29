"""TACO: containers that tacoreader opens and asks by SQL, and whose files rasterio reads in place."""

import json
import os
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from suites import ExportTests

from rsdata import steps
from rsdata.catalog.exports import taco
from rsdata.errors import CatalogError
from rsdata.steps.publishing import open_source

pytest.importorskip("tacotoolbox", reason="tacotoolbox is not installed; see the extra `taco`")
tacoreader = pytest.importorskip("tacoreader", reason="tacoreader is not installed; see the extra `taco`")

BANDS = {
    "s2_10m": ["B02", "B03", "B04", "B08"],
    "s2_20m": ["B05", "B06", "B07", "B8A", "B11", "B12"],
    "s2_60m": ["B01", "B09"],
    "s1": ["VH", "VV"],
    "reference_map": ["Data"],
}


class TestTaco(ExportTests):
    form = "taco"

    def pixels(self, folder):
        found: dict[str, dict[str, np.ndarray]] = {}
        with tacoreader.load(folder / "small.tacozip") as dataset:
            for row in dataset.flatten().to_pylist():
                patch_id, stack = row["l0:id"], row["l1:id"].removesuffix(".tif")
                key = {"s1": row["l0:s1_name"], "reference_map": f"{patch_id}_reference_map"}.get(stack, patch_id)
                with rasterio.open(row["gdal_vsi"]) as file:
                    assert list(file.descriptions) == row["l1:bands"] == BANDS[stack]
                    found.setdefault(key, {}).update(zip(file.descriptions, file.read(), strict=True))
        return found


@pytest.fixture(scope="module")
def container(built, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("taco") / "out"
    steps.export_dataset(built, "taco", folder)
    assert [path.name for path in folder.iterdir()] == ["small.tacozip"]
    return folder / "small.tacozip"


def written(source, folder: Path) -> dict[str, int]:
    folder.mkdir()
    return taco.Taco().write(source, folder)


def ids_of(dataset) -> set[str]:
    return {row["l0:id"] for row in dataset.sql('select "l0:id" from l0').to_pylist()}


def test_sql_finds_the_patches_of_a_split_with_their_classes_and_times(built, container):
    with open_source(built) as source, tacoreader.load(container) as dataset:
        found = {row["l0:id"]: row for row in dataset.sql("select * from l0").to_pylist()}
        assert len(found) == len(source.patches)
        for row in source.patches.to_dict("records"):
            said = found[row["patch_id"]]
            assert (said["l0:split"], said["l0:labels"], said["l0:country"]) == (row["split"], row["labels"], row["country"])
            assert said["l0:stac:time_start"] == row["datetime"].tz_localize(None)
            assert shapely.from_wkb(said["l0:stac:centroid"]).within(row["geometry"])
        (counted,) = dataset.sql("""select count(*) n from l0 where "l0:split" = 'test'""").to_pylist()
        assert counted["n"] == (source.patches["split"] == "test").sum() > 0


def test_a_patch_opened_by_its_id_lies_where_its_row_says(built, container):
    with open_source(built) as source, tacoreader.load(container) as dataset:
        row = source.patches.iloc[17]
        folder = dataset.read(row["patch_id"])
        for stack in BANDS:
            with rasterio.open(folder.read(f"{stack}.tif")) as file:
                assert (file.transform.c, file.transform.f) == (row["ul_x_m"], row["ul_y_m"])
                assert file.crs.to_epsg() == row["epsg"] and file.transform.a * file.width == 1200
        with rasterio.open(folder.read("s2_20m.tif")) as file:
            assert file.nodata == 0 and np.array_equal(file.read(4), source.read(row["patch_id"])["B8A"])


def test_the_collection_says_what_the_recipe_says(built, container):
    with zipfile.ZipFile(container) as archive:
        said = json.loads(archive.read("COLLECTION.json"))
    with open_source(built) as source:
        assert (said["id"], said["taco_version"], said["licenses"]) == (source.name, "0.5.0", ["CC0-1.0"])
        assert said["dataset_version"].endswith(source.dataset.recipe_sha256[:12])
    assert said["tasks"] == ["scene-classification", "semantic-segmentation"]


def test_members_of_a_container_have_neither_times_nor_rights_of_their_own(container):
    with zipfile.ZipFile(container) as archive:
        assert archive.testzip() is None
        assert {(member.date_time, member.external_attr) for member in archive.infolist()} == {((1980, 1, 1, 0, 0, 0), 0o100644 << 16)}


def test_the_same_patches_are_the_same_bytes_at_another_time_and_under_another_mask(built, container, tmp_path):
    time.sleep(max(0.0, 2.1 - (time.time() - container.stat().st_mtime)))  # the zip format counts in steps of two seconds
    before = os.umask(0o077)
    try:
        with open_source(built) as source:
            written(source, tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out" / "small.tacozip").read_bytes() == container.read_bytes()


def test_patches_without_sentinel1_have_a_container_of_their_own(built, tmp_path):
    with open_source(built) as source:
        lacking = set(source.patches["patch_id"].iloc[[2, 40]])
        index = source.index.assign(s1_key=source.index["s1_key"].where(~source.index["patch_id"].isin(lacking), None))
        counts = written(replace(source, index=index), tmp_path / "out")
        assert counts == {"patches": len(source.patches), "containers": 2}
        with tacoreader.load(tmp_path / "out" / "small.tacozip") as dataset:
            assert ids_of(dataset) == set(source.patches["patch_id"]) - lacking
        with tacoreader.load(tmp_path / "out" / "without-s1" / "small-without-s1.tacozip") as dataset:
            assert ids_of(dataset) == lacking
            assert "Sentinel-1" not in dataset.description and dataset.description.startswith("2 Sentinel-2 patches")
            files = dataset.flatten().to_pylist()
        assert {row["l1:id"] for row in files} == {f"{stack}.tif" for stack in BANDS} - {"s1.tif"}
        for row in files:
            if row["l1:id"] == "s2_60m.tif":
                with rasterio.open(row["gdal_vsi"]) as file:
                    assert np.array_equal(file.read(1), source.read(row["l0:id"])["B01"])


@pytest.mark.parametrize(("name", "found"), [("my.set-1", "my-set-1"), ("2024", "dataset-2024"), ("small", "small")])
def test_a_name_becomes_one_that_taco_takes(name, found):
    assert taco.dataset_id(name) == found


def test_what_the_toolbox_refuses_is_said_in_one_sentence(built, tmp_path, monkeypatch):
    monkeypatch.setattr(taco, "dataset_id", lambda name: "Not Lowercase")
    with open_source(built) as source, pytest.raises(CatalogError, match="tacotoolbox cannot write Not Lowercase.tacozip: .*lowercase"):
        written(source, tmp_path / "out")


def test_without_the_toolbox_the_export_says_what_to_install(built, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tacotoolbox", None)
    with open_source(built) as source, pytest.raises(CatalogError, match="pip install 'rsdata\\[taco\\]'"):
        written(source, tmp_path / "out")
