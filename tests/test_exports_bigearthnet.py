"""BigEarthNet v2's folders, read by rasterio, torchgeo, `rsdata convert`, pyarrow, geopandas and duckdb."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml
from suites import ExportTests
from typer.testing import CliRunner

from rsdata import steps
from rsdata.catalog.exports import EXPORTS
from rsdata.catalog.exports.geotiff import deflated_geotiff, geotiff
from rsdata.commands import app
from rsdata.errors import CatalogError, WorkspaceError
from rsdata.recipe import load_recipe
from rsdata.shards import open_shard
from rsdata.steps.publishing import open_source
from rsdata.workspace import Workspace

COLUMNS = ["patch_id", "labels", "split", "country", "s1_name", "s2v1_name", "contains_seasonal_snow", "contains_cloud_or_shadow"]
TORCHGEO_ASIDE = Path(sys.prefix) / "torchgeo-aside"  # see the target `check-exports` of the Makefile


class TestBigEarthNet(ExportTests):
    form = "bigearthnet"

    def pixels(self, folder):
        found = {}
        for path in folder.rglob("*.tif"):
            with rasterio.open(path) as file:
                if path.parts[-4] == "Reference_Maps":
                    found[path.stem] = {"Data": file.read(1)}
                else:
                    key, band = path.stem.rsplit("_", 1)
                    found.setdefault(key, {})[band] = file.read(1)
        return found


@pytest.fixture(scope="module")
def exported(built, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bigearthnet") / "out"
    counts = steps.export_dataset(built, "bigearthnet", folder, workers=2)
    assert counts["files"] == 15 * counts["patches"] + 2
    return folder


def test_files_lie_where_the_published_ones_do(exported, built):
    with open_source(built) as source:
        patch_id, s1_key, _ = source.index.loc[0, ["patch_id", "s1_key", "reference_map_key"]]
    s2_scene, s1_scene = "_".join(patch_id.split("_")[:-2]), "_".join(s1_key.split("_")[:-3])
    folders = {"BigEarthNet-S1", "BigEarthNet-S2", "Reference_Maps"}
    assert {path.name for path in exported.iterdir()} == folders | {"metadata.parquet", "ATTRIBUTION.txt"}
    assert (exported / "BigEarthNet-S2" / s2_scene / patch_id / f"{patch_id}_B8A.tif").is_file()
    assert (exported / "BigEarthNet-S1" / s1_scene / s1_key / f"{s1_key}_VV.tif").is_file()
    assert (exported / "Reference_Maps" / s2_scene / patch_id / f"{patch_id}_reference_map.tif").is_file()


@pytest.mark.parametrize(
    ("folder", "band", "dtype", "nodata", "compress"),
    [
        ("BigEarthNet-S2", "B02", "uint16", 0, None),
        ("BigEarthNet-S2", "B11", "uint16", 0, None),
        ("BigEarthNet-S2", "B01", "uint16", 0, None),
        ("BigEarthNet-S1", "VV", "float32", None, None),
        ("Reference_Maps", "map", "uint16", 0, "deflate"),
    ],
)
def test_a_file_says_what_the_published_one_says(exported, shared_data, folder, band, dtype, nodata, compress):
    published = next((shared_data / "bigearthnet_v2" / "tiffs" / folder).rglob(f"*_{band}.tif"))
    ours = next((exported / folder).rglob(f"*_{band}.tif"))
    with rasterio.open(published) as theirs, rasterio.open(ours) as file:
        same = ("driver", "dtype", "nodata", "width", "height", "count", "blockxsize", "blockysize", "tiled", "interleave")
        assert {name: file.profile[name] for name in same} == {name: theirs.profile[name] for name in same}
        assert (file.profile["dtype"], file.nodata, file.profile.get("compress")) == (dtype, nodata, compress)
        assert (file.tags(), file.colorinterp) == (theirs.tags(), theirs.colorinterp)
        assert file.tags(ns="IMAGE_STRUCTURE") == theirs.tags(ns="IMAGE_STRUCTURE")
        assert theirs.crs.to_epsg() == 32633 and file.crs.to_epsg() in (32633, 32632)


TILES = {"33UUP": (32633, 300_000, 5_400_000), "32UMC": (32632, 399_960, 5_800_020)}  # zone and upper-left corner, by hand


def test_every_file_lies_at_its_patch_in_the_zone_of_its_tile(exported):
    for path in exported.rglob("*.tif"):
        tile, col, row = re.search(r"_T?(\d{2}[A-Z]{3})_(\d+)_(\d+)$", path.parent.name).groups()
        epsg, ul_x_m, ul_y_m = TILES[tile]
        with rasterio.open(path) as file:
            assert file.crs.to_epsg() == epsg
            assert file.bounds[0::3] == (ul_x_m + 1200 * int(col), ul_y_m - 1200 * int(row))
            assert (file.bounds.right - file.bounds.left, file.bounds.top - file.bounds.bottom) == (1200, 1200)


@pytest.mark.parametrize("band", ["B02", "B05", "B01", "map"])
def test_a_published_file_comes_out_byte_for_byte(shared_data, band):
    path = next((shared_data / "bigearthnet_v2" / "tiffs").rglob(f"*_{band}.tif"))
    with rasterio.open(path) as file:
        place = {"epsg": file.crs.to_epsg(), "corner_m": (file.transform.c, file.transform.f), "gsd_m": file.res[0], "nodata": file.nodata}
        pixels = file.read(1)
    assert (deflated_geotiff if band == "map" else geotiff)(pixels, **place) == path.read_bytes()


def test_every_head_made_of_the_first_is_what_gdal_writes(tmp_path):
    rng = np.random.default_rng(3)
    for place in ((600_000.0, 5_700_000.0), (300_000.0, 4_999_980.0)):
        pixels = rng.normal(-12, 3, (120, 120)).astype(np.float32)
        transform = rasterio.Affine(10, 0, place[0], 0, -10, place[1])
        profile = {"driver": "GTiff", "width": 120, "height": 120, "count": 1, "dtype": "float32", "crs": "EPSG:32631"}
        with rasterio.open(tmp_path / "x.tif", "w", **profile, transform=transform) as file:
            file.write(pixels, 1)
        assert geotiff(pixels, epsg=32631, corner_m=place, gsd_m=10, nodata=None) == (tmp_path / "x.tif").read_bytes()


def test_the_files_of_a_sentinel1_patch_that_two_patches_share_lie_there_once(built, tmp_path):
    with open_source(built) as source:
        index = source.index[:6].copy()
        index.loc[:1, "s1_key"] = index.loc[0, "s1_key"]
        counts = EXPORTS["bigearthnet"].write(replace(source, index=index, patches=source.patches[:6]), tmp_path, workers=2)
    assert counts == {"patches": 6, "files": 6 * 15 - len(["VH", "VV"]) + 2}
    twins = [path.name for path in tmp_path.glob("BigEarthNet-S1/*/*")]
    assert len(twins) == 5 and set(twins) == set(index["s1_key"])


def test_licence_and_attributions_lie_beside_the_pixels(exported):
    assert (exported / "ATTRIBUTION.txt").read_text(encoding="utf-8").splitlines() == [
        "small",
        "Licence of this dataset: not stated in its recipe; the terms of its sources hold.",
        "Synthetic scenes made by rsdata; no satellite data.",
    ]


def test_our_own_conversion_gives_back_the_same_value_bytes(exported, built, tmp_path):
    folders = {"s1-dir": "BigEarthNet-S1", "s2-dir": "BigEarthNet-S2", "reference-maps-dir": "Reference_Maps"}
    made = tmp_path / "shard"
    steps.convert_dataset(
        "bigearthnet", {option: exported / name for option, name in folders.items()}, made, metadata=exported / "metadata.parquet"
    )
    with open_shard(made) as again, open_shard(built.shards("lmdb")) as shard:
        assert list(again.keys()) == list(shard.keys())
        assert all(again.read_bytes(key) == shard.read_bytes(key) for key in shard.keys())  # noqa: SIM118, a shard is no mapping
        columns = ["patch_id", "s1_key", "split", "labels"]
        assert again.index[columns].to_dict("list") == shard.index[columns].to_dict("list")


def test_the_table_has_the_eight_columns_and_types_of_the_published_one(exported, shared_data):
    ours = pq.read_schema(exported / "metadata.parquet")
    published = pq.read_schema(shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet")
    assert ours.names == COLUMNS
    assert sorted(ours.names) == sorted(published.names)
    for name in COLUMNS:
        assert str(ours.field(name).type).replace("large_", "") == str(published.field(name).type).replace("large_", "")


def test_pyarrow_geopandas_and_duckdb_read_the_same_rows(exported, built):
    rows = pq.read_table(exported / "metadata.parquet").to_pylist()
    table = gpd.read_parquet(built.patches)
    kept = table[table["kept"]].set_index("patch_id")
    assert {row["patch_id"] for row in rows} == set(kept.index) and len(rows) == len(kept)
    for row in rows:
        expected = kept.loc[row["patch_id"]]
        assert (row["split"], row["country"], row["labels"]) == (expected["split"], expected["country"], list(expected["labels"]))
        assert row["contains_seasonal_snow"] == expected["contains_seasonal_snow"]
    with duckdb.connect() as database:
        counted = database.execute(
            "SELECT split, count(*), count(DISTINCT s1_name), list_sort(list_distinct(flatten(list(labels)))) "
            f"FROM '{exported}/metadata.parquet' GROUP BY split"
        ).fetchall()
        for split, count, twins, labels in counted:
            of_split = [row for row in rows if row["split"] == split]
            assert (count, twins) == (len(of_split), len({row["s1_name"] for row in of_split}))
            assert labels == sorted({label for row in of_split for label in row["labels"]})
    assert sum(count for _, count, _, _ in counted) == len(rows)


def test_torchgeo_reads_pixels_maps_and_labels(exported, built, torchvision):
    if TORCHGEO_ASIDE.is_dir() and str(TORCHGEO_ASIDE) not in sys.path:
        sys.path.append(str(TORCHGEO_ASIDE))
    datasets = pytest.importorskip("torchgeo.datasets", reason="torchgeo is not installed; see `make check-exports`")
    counted = 0
    with open_source(built) as source:
        labels = source.patches.set_index("patch_id")["labels"]
        for split in ("train", "val", "test"):
            data = datasets.BigEarthNetV2(root=str(exported), split=split, bands="all")
            counted += len(data)
            for number in range(0, len(data), 4):
                sample, row = data[number], data.metadata_df.loc[number]
                stored, s1 = source.read(row["patch_id"]), source.read(row["s1_name"])
                order = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
                for place, name in enumerate(order):
                    if stored[name].shape == (120, 120):  # it resamples the others
                        assert np.array_equal(sample["image_s2"][place].numpy(), stored[name])
                for place, name in enumerate(["VH", "VV"]):  # it reads them as whole numbers
                    assert np.abs(sample["image_s1"][place].numpy() - s1[name]).max() <= 1
                codes = source.read(f"{row['patch_id']}_reference_map")["Data"]
                assert sample["mask"].shape[-2:] == codes.shape
                named = {data.class_set[place] for place in np.flatnonzero(sample["label"].numpy())}
                assert named == set(labels[row["patch_id"]])
        assert counted == len(source.patches)


# --- what it refuses, and the command -----------------------------------------------------------------------


def test_the_command_says_what_it_wrote(built, tmp_path):
    result = CliRunner().invoke(app, ["export", str(built.root), "--as", "bigearthnet", "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["counts"] == {"patches": 84, "files": 1_262}


def test_a_folder_that_exists_and_an_unknown_form_are_refused(built, tmp_path):
    with pytest.raises(WorkspaceError, match="exists; name another"):
        steps.export_dataset(built, "bigearthnet", tmp_path)
    with pytest.raises(WorkspaceError, match="there is no form 'tiff' of a dataset; known are .*bigearthnet"):
        steps.export_dataset(built, "tiff", tmp_path / "out")


def test_nothing_is_left_where_writing_fails(built, tmp_path, monkeypatch):
    calls = iter(range(100))

    def fails(*args: object, **options: object) -> bytes:
        if next(calls) == 20:
            raise CatalogError("no more")
        return geotiff(*args, **options)

    monkeypatch.setattr("rsdata.catalog.exports.bigearthnet.geotiff", fails)
    with pytest.raises(CatalogError, match="no more"):
        steps.export_dataset(built, "bigearthnet", tmp_path / "out", workers=2)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(built, tmp_path) -> Workspace:
    return Workspace(Path(shutil.copytree(built.root, tmp_path / "copy")))


def test_a_damaged_shard_is_not_published(copy, tmp_path):
    with (copy.shards("lmdb") / "data.mdb").open("r+b") as file:
        file.seek(100_000)
        byte = file.read(1)
        file.seek(100_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(WorkspaceError, match=r"data.mdb differs from its digest in manifest.json; run the build again"):
        steps.export_dataset(copy, "bigearthnet", tmp_path / "out")


def test_shards_of_single_scenes_in_another_format_give_the_same_files(copy, exported, tmp_path):
    said = yaml.safe_load(copy.recipe.read_text())
    del said["training"]  # reads one shard
    said["shards"] = {"format": "zarr", "per_scene": True}
    copy.recipe.write_text(yaml.safe_dump(said))
    recipe = load_recipe(copy.recipe)
    units = [path.stem for path in sorted((copy.root / "receipts" / "quality").glob("*.json"))]
    assert len(units) == 2
    steps.pack_shards(units, recipe, copy)
    steps.write_manifest(units, [], recipe, copy)
    steps.export_dataset(copy, "bigearthnet", tmp_path / "out")
    ours = {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert ours == {path.relative_to(exported): path.read_bytes() for path in exported.rglob("*.*")}
    with open_source(copy) as source:
        assert source.manifest.keys == 252 and sum(source.manifest.counts.values()) == 84
        assert len(source.shard_folders) == 2 and source.manifest.files == []
