"""Published datasets: golden bytes of rico-hdl, and keys, types and sizes as its contract lists them."""

import json
import shutil
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from safetensors.numpy import load
from test_convert_tiff import random_pixels, write_tiff
from typer.testing import CliRunner

from rsdata import steps
from rsdata.commands import app
from rsdata.errors import LabelError, RecipeError, ShardError
from rsdata.shards import open_shard, verify_shard
from rsdata.shards.convert import known_datasets, load_spec, plan

S2_SHAPES = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 120),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 60),
    **dict.fromkeys(("B01", "B09"), 20),
}


def contents(shard: Path) -> dict[str, bytes]:
    """Keys and value bytes as somebody without rsdata reads them."""
    with lmdb.open(str(shard), readonly=True, lock=False) as env, env.begin() as transaction:
        return {key.decode(): value for key, value in transaction.cursor()}


def layout(value: bytes) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (str(pixels.dtype), pixels.shape) for name, pixels in load(value).items()}


def squares(sides: dict[str, int], dtype: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (dtype, (side, side)) for name, side in sides.items()}


def test_real_bigearthnet_gives_the_bytes_of_the_golden_database(shared_data, tmp_path):
    folder = shared_data / "bigearthnet_v2"
    tiffs = folder / "tiffs"
    options = {"s1-dir": tiffs / "BigEarthNet-S1", "s2-dir": tiffs / "BigEarthNet-S2"}
    steps.convert_dataset("bigearthnet", options, tmp_path / "out")
    golden = contents(folder / "rico_hdl_golden_lmdb")
    assert len(golden) == 2
    assert contents(tmp_path / "out") == golden


def test_real_bigearthnet_with_reference_maps_and_metadata(shared_data, tmp_path):
    tiffs = shared_data / "bigearthnet_v2" / "tiffs"
    options = {"s1-dir": tiffs / "BigEarthNet-S1", "s2-dir": tiffs / "BigEarthNet-S2", "reference-maps-dir": tiffs / "Reference_Maps"}
    metadata = shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet"
    done = steps.convert_dataset("bigearthnet", options, tmp_path / "out", metadata=metadata)
    values = contents(tmp_path / "out")
    map_key = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57_reference_map"
    assert {key: layout(value) for key, value in values.items()} == {
        "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48": squares({"VH": 120, "VV": 120}, "float32"),
        "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43": squares(S2_SHAPES, "uint16"),
        map_key: squares({"Data": 120}, "uint16"),
    }
    (path,) = (tiffs / "Reference_Maps").glob("*/*/*.tif")
    with rasterio.open(path) as raster:
        assert np.array_equal(load(values[map_key])["Data"], raster.read(1))
    assert done.by_rasterio == {}
    published = pd.read_parquet(metadata).set_index("patch_id").loc["S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43"]
    with open_shard(tmp_path / "out") as shard:
        row = shard.index.set_index("patch_id").loc["S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43"]
        manifest = shard.manifest
    assert (row["sensor"], row["split"], row["s1_key"]) == ("s2", published["split"], None)
    assert list(row["labels"]) == sorted(published["labels"])
    assert sum(manifest.counts.values()) == 1
    assert manifest.counts[published["split"]] == 1
    assert manifest.statistics_over == "train split"
    assert len(manifest.labels) == 19
    assert verify_shard(tmp_path / "out") == []


def test_real_bigearthnet_v1_pairs(shared_data, tmp_path):
    folder = shared_data / "bigearthnet_v1_pairs"
    options = {"s1-dir": folder / "BigEarthNet-S1-Example", "s2-dir": folder / "BigEarthNet-S2-Example"}
    done = steps.convert_dataset("bigearthnet-v1", options, tmp_path / "out")
    values = contents(tmp_path / "out")
    assert done.by_rasterio == {}
    assert len(values) == 12
    assert sorted(values) == sorted(path.name for each in options.values() for path in each.iterdir())
    for key, value in values.items():
        expected = squares(S2_SHAPES, "uint16") if key.startswith("S2") else squares({"VH": 120, "VV": 120}, "float32")
        assert layout(value) == expected
        for name, pixels in load(value).items():
            (path,) = folder.glob(f"*/{key}/{key}_{name}.tif")
            with rasterio.open(path) as raster:
                assert np.array_equal(pixels, raster.read(1))
    assert verify_shard(tmp_path / "out") == []


def test_bigearthnet_v1_states_labels_and_twins_beside_its_patches(shared_data, tmp_path):
    folder = shared_data / "bigearthnet_v1_pairs"
    options = {"s1-dir": folder / "BigEarthNet-S1-Example", "s2-dir": folder / "BigEarthNet-S2-Example"}
    done = steps.convert_dataset("bigearthnet-v1", options, tmp_path / "out")
    stated = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/*/*.json")}
    with open_shard(tmp_path / "out") as shard:
        index, names = shard.index, [each.name for each in shard.manifest.labels]
    assert (done.labelled, len(index), len(names)) == (6, 6, 43)
    assert done.manifest.statistics_over == "all patches"
    assert done.manifest.counts == {}
    for row in index.itertuples():
        assert sorted(row.labels) == sorted(stated[row.patch_id]["labels"])
        assert stated[row.s1_key]["corresponding_s2_patch"] == row.patch_id


def test_labels_stated_by_name_can_be_grouped(shared_data, tmp_path):
    folder = shared_data / "bigearthnet_v1_pairs" / "BigEarthNet-S2-Example"
    steps.convert_dataset("bigearthnet-v1", {"s2-dir": folder}, tmp_path / "out", nomenclature="bigearthnet-19")
    with open_shard(tmp_path / "out") as shard:
        labels = shard.index.set_index("patch_id")["labels"]
    # stated: Non-irrigated arable land; Land principally occupied by agriculture, with significant areas of natural vegetation
    assert list(labels["S2A_MSIL2A_20170613T101031_87_48"]) == [
        "Arable land", "Land principally occupied by agriculture, with significant areas of natural vegetation"
    ]  # fmt: skip


def test_a_patch_without_its_label_file_has_no_labels_and_a_damaged_one_is_refused(shared_data, tmp_path):
    shutil.copytree(shared_data / "bigearthnet_v1_pairs" / "BigEarthNet-S2-Example", tmp_path / "in")
    first, second, *_ = sorted((tmp_path / "in").glob("*/*.json"))
    first.unlink()
    assert steps.convert_dataset("bigearthnet-v1", {"s2-dir": tmp_path / "in"}, tmp_path / "out").labelled == 5
    second.write_text('{"labels": ["Lava"]}')
    with pytest.raises(LabelError, match="has the class 'Lava', which bigearthnet-43 does not know"):
        steps.convert_dataset("bigearthnet-v1", {"s2-dir": tmp_path / "in"}, tmp_path / "other")
    second.write_text("[1]")
    with pytest.raises(ShardError, match="does not state the classes of .* expected a JSON object with `labels`"):
        steps.convert_dataset("bigearthnet-v1", {"s2-dir": tmp_path / "in"}, tmp_path / "other")


def test_real_eurosat(shared_data, tmp_path):
    steps.convert_dataset("eurosat-multi-spectral", {"dataset-dir": shared_data / "eurosat_ms"}, tmp_path / "out")
    values = contents(tmp_path / "out")
    assert sorted(values) == ["AnnualCrop_1", "Pasture_300", "SeaLake_3000"]
    with open_shard(tmp_path / "out") as shard:
        assert [list(labels) for labels in shard.index["labels"]] == [["AnnualCrop"], ["Pasture"], ["SeaLake"]]
        assert [each.name for each in shard.manifest.labels] == ["AnnualCrop", "Pasture", "SeaLake"]
    names = [f"B{number:02d}" for number in range(1, 13)] + ["B08A"]
    assert layout(values["Pasture_300"]) == squares(dict.fromkeys(names, 64), "uint16")
    with rasterio.open(shared_data / "eurosat_ms" / "Pasture" / "Pasture_300.tif") as raster:
        expected = raster.read()
    held = load(values["Pasture_300"])
    assert all(np.array_equal(held[name], expected[place]) for place, name in enumerate(names))
    with open_shard(tmp_path / "out") as shard:
        assert [band.canonical_name for band in shard.manifest.bands][-3:] == ["B11", "B12", "B8A"]


def test_real_ssl4eo_s12(shared_data, tmp_path):
    folder = shared_data / "ssl4eo_s12"
    options = {"s1-dir": folder / "s1", "s2-l1c-dir": folder / "s2c", "s2-l2a-dir": folder / "s2a"}
    done = steps.convert_dataset("ssl4eo-s12", options, tmp_path / "out")
    values = contents(tmp_path / "out")
    l1c, l2a = "s2c_0000200_20200604T054639_20200604T054831_T43RCP", "s2a_0000200_20200604T054639_20200604T054831_T43RCP"
    assert sorted(values) == [
        "s1_0000200_S1A_IW_GRDH_1SDV_20200607T010800_20200607T010825_032904_03CFBA_D457",
        "s1_0000200_S1A_IW_GRDH_1SDV_20200903T131212_20200903T131237_034195_03F8F5_AC1C",
        l2a,
        "s2a_0000200_20200813T054639_20200813T054952_T43RCP",
        l1c,
    ]
    sides = {
        **dict.fromkeys(("B2", "B3", "B4", "B8"), 264),
        **dict.fromkeys(("B5", "B6", "B7", "B8A", "B11", "B12"), 132),
        **dict.fromkeys(("B1", "B9"), 44),
    }
    assert layout(values[l2a]) == squares(sides, "uint16")
    assert layout(values[l1c]) == squares({**sides, "B10": 44}, "uint16")
    assert done.by_rasterio == {"predictor 3": 4}
    with open_shard(tmp_path / "out") as shard:
        sensors = dict(zip(shard.index["patch_id"], shard.index["sensor"], strict=True))
        canonical = {band.canonical_name for band in shard.manifest.bands}
    assert {sensors[l1c], sensors[l2a]} == {"s2_l1c", "s2"}
    assert {"B01", "B8A", "B10", "VH"} <= canonical
    assert verify_shard(tmp_path / "out") == []


def test_real_major_tom_leaves_the_cloud_mask_out(shared_data, tmp_path):
    source = next((shared_data / "major_tom_core" / "S2L2A").glob("0U/0U_199R/*"))
    place = tmp_path / "S2L2A" / "0U" / "0U_199R" / source.name
    shutil.copytree(source, place)
    radar = tmp_path / "S1RTC" / "0U" / "0U_199R" / "S1B_rtc"
    for band in ("vh", "vv"):
        write_tiff(radar / f"{band}.tif", random_pixels("float32", (1, 1068, 1068)))
    steps.convert_dataset("major-tom-core", {"s1-dir": tmp_path / "S1RTC", "s2-dir": tmp_path / "S2L2A"}, tmp_path / "out")
    values = contents(tmp_path / "out")
    sides = {name: side * 89 // 10 for name, side in S2_SHAPES.items()}
    assert {key: layout(value) for key, value in values.items()} == {
        f"0U_199R_{source.name}": squares(sides, "uint16"),
        "0U_199R_S1B_rtc": squares({"vh": 1068, "vv": 1068}, "float32"),
    }


@pytest.mark.parametrize(
    ("dataset", "files", "dtype", "shape", "keys", "names"),
    [
        (
            "hyspecnet-11k",
            ["ENMAP01-X1/ENMAP01-X1-SPECTRAL_IMAGE.TIF", "ENMAP01-X2/ENMAP01-X2-SPECTRAL_IMAGE.TIF"],
            "int16",
            (224, 128, 128),
            ["ENMAP01-X1", "ENMAP01-X2"],
            [f"B{number}" for number in range(1, 225)],
        ),
        (
            "spectral-earth-enmap",
            ["12_34/0.tif", "12_35/17.tif"],
            "int16",
            (202, 128, 128),
            ["12_34_0.tif", "12_35_17.tif"],
            [f"B{number}" for number in range(1, 203)],
        ),
        (
            "uc-merced",
            ["Images/airplane/airplane00.tif", "Images/forest/forest10.tif"],
            "uint8",
            (3, 256, 256),
            ["airplane00", "forest10"],
            ["Red", "Green", "Blue"],
        ),
        (
            "hydro",
            ["patch_0.tif", "patch_10.tif"],
            "uint16",
            (12, 256, 256),
            ["patch_0", "patch_10"],
            ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"],
        ),
    ],
)
def test_a_miniature_tree_of_several_bands_per_file(tmp_path, dataset, files, dtype, shape, keys, names):
    pixels = {}
    for seed, (file, key) in enumerate(zip(files, keys, strict=True)):
        pixels[key] = random_pixels(dtype, shape, seed)
        write_tiff(tmp_path / "in" / file, pixels[key], **({"interleave": "band"} if seed else {"interleave": "pixel"}))
    (tmp_path / "in" / Path(files[0]).parent / "THUMBNAIL.jpg").write_bytes(b"not looked at")
    if dataset == "hyspecnet-11k":
        write_tiff(tmp_path / "in" / "ENMAP01-X1" / "ENMAP01-X1-QL_SWIR.TIF", random_pixels("uint8"))
    steps.convert_dataset(dataset, {"dataset-dir": tmp_path / "in"}, tmp_path / "out")
    values = contents(tmp_path / "out")
    assert list(values) == keys
    for key, value in values.items():
        held = load(value)
        assert layout(value) == dict.fromkeys(names, (dtype, shape[1:]))
        assert all(np.array_equal(held[name], pixels[key][place]) for place, name in enumerate(names))
    assert verify_shard(tmp_path / "out") == []


def test_an_image_of_another_size_is_taken_where_sizes_vary(tmp_path):
    odd, usual = random_pixels("uint8", (3, 250, 261)), random_pixels("uint8", (3, 256, 256))
    for name, pixels in (("a0", usual), ("a1", odd), ("a2", usual)):
        write_tiff(tmp_path / "in" / "Images" / "a" / f"{name}.tif", pixels, interleave="band")
    steps.convert_dataset("uc-merced", {"dataset-dir": tmp_path / "in"}, tmp_path / "out")
    with open_shard(tmp_path / "out") as shard:
        assert np.array_equal(shard.read("a1")["Green"], odd[1])
        red = shard.manifest.bands[0]
    assert (red.shape, red.sizes_vary) == ([256, 256], True)
    everything = np.concatenate([pixels[0].ravel() for pixels in (usual, odd, usual)]).astype(np.float64)
    assert red.statistics.count == everything.size
    assert red.statistics.mean == pytest.approx(everything.mean(), rel=1e-9)
    assert verify_shard(tmp_path / "out") == []


OWN = {
    "name": "own",
    "inputs": [
        {
            "sensor": "drone",
            "files": "{place}_{band}.tif",
            "key": "{place}",
            "unit": "metres",
            "nodata": -1,
            "bands": [{"names": ["top", "ground"], "dtype": "float32", "shape": [8, 9]}],
        }
    ],
}


def write_own(folder: Path, places: list[str], spec: dict[str, object] = OWN) -> Path:
    for seed, place in enumerate(places):
        for band in ("top", "ground"):
            write_tiff(folder / "in" / f"{place}_{band}.tif", random_pixels("float32", (1, 8, 9), seed + len(band)))
    (folder / "own.yaml").write_text(yaml.safe_dump(spec))
    return folder / "own.yaml"


def test_a_flat_folder_described_by_a_users_own_yaml(tmp_path):
    spec = write_own(tmp_path, ["b_1", "a", "c"])
    write_tiff(tmp_path / "in" / "a_shadow.tif", random_pixels("float32", (1, 8, 9)))  # no band of the description
    steps.convert_dataset(str(spec), {"dataset-dir": tmp_path / "in"}, tmp_path / "out")
    assert {key: layout(value) for key, value in contents(tmp_path / "out").items()} == {
        place: dict.fromkeys(("top", "ground"), ("float32", (8, 9))) for place in ("a", "b_1", "c")
    }
    with open_shard(tmp_path / "out") as shard:
        band = shard.manifest.bands[0]
    assert (band.name, band.sensor, band.canonical_name, band.nodata, band.unit) == ("top", "drone", None, -1, "metres")
    assert band.statistics.count == 3 * 72
    assert band.statistics.histogram == band.statistics.bin_edges == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "{patch}"}, r"names patch; `files` gives place"),
        ({"key": "one"}, "names no field"),
        ({"files": "{band}/{place}.tif"}, r"has \{band\} in a folder"),
        ({"files": "../{place}_{band}.tif"}, "must be a path below the folder"),
        ({"files": "{place!r}_{band}.tif"}, "a field is a word of small letters"),
        ({"bands": [{"names": ["top", "top"], "dtype": "uint8", "shape": [8, 9]}]}, "a band is named twice"),
        ({"bands": [{"names": ["top"], "dtype": "complex64", "shape": [8, 9]}]}, "dtype"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_description_that_cannot_work_is_refused(tmp_path, change, message):
    spec = write_own(tmp_path, [], {**OWN, "inputs": [{**OWN["inputs"][0], **change}]})
    with pytest.raises(RecipeError, match=message):
        load_spec(str(spec))


def test_an_unknown_dataset_and_a_folder_it_does_not_take_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="no known dataset; known are bigearthnet, bigearthnet-v1, eurosat"):
        load_spec("bigearth")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_spec(str(tmp_path / "none.yaml"))
    with pytest.raises(ShardError, match=r"hydro has no --s1-dir; it takes --dataset-dir"):
        plan(load_spec("hydro"), {"s1-dir": tmp_path})
    with pytest.raises(ShardError, match="needs at least one of --s1-dir, --s2-dir"):
        plan(load_spec("bigearthnet"), {})
    with pytest.raises(ShardError, match=r"holds nothing like patch_\{number\}\.tif"):
        plan(load_spec("hydro"), {"dataset-dir": tmp_path})
    with pytest.raises(ShardError, match="cannot be listed"):
        plan(load_spec("hydro"), {"dataset-dir": tmp_path / "none"})


def test_ricos_names_are_the_names_of_the_datasets():
    assert set(known_datasets()) == {
        "bigearthnet", "bigearthnet-v1", "eurosat-multi-spectral", "hydro", "hyspecnet-11k", "major-tom-core",
        "spectral-earth-enmap", "ssl4eo-s12", "uc-merced",
    }  # fmt: skip


def test_the_command_takes_ricos_options_and_prints_what_was_done(shared_data, tmp_path):
    tiffs = shared_data / "bigearthnet_v2" / "tiffs"
    command = ["convert", "bigearthnet", "--bigearthnet-s1-dir", str(tiffs / "BigEarthNet-S1"), "--target-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "files read" in result.output
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    assert "Everything was written before." in again.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data.mdb", "index.parquet", "manifest.json"]
