"""Shards: the published LMDB contract, exact statistics, and findings where a shard is not as its manifest says."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from rsdata.errors import ShardError
from rsdata.labels import load_nomenclature
from rsdata.records import reference_map_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.shards import LmdbStore, index_rows, open_shard, pack, verify_shard, write_part
from rsdata.shards.lmdb import write_lmdb
from rsdata.shards.statistics import BandAccumulator
from rsdata.shards.values import encode

SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
S1_SCENE = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP"


def patch_pixels(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {band.name: rng.integers(1, 12_000, (band.pixels(1200), band.pixels(1200)), dtype=np.uint16) for band in SENTINEL2.bands}


def backscatter(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {band.name: rng.normal(-12, 5, (120, 120)).astype(np.float32) for band in SENTINEL1.bands}


def scene_values(cells: list[tuple[int, int]]) -> dict[str, dict[str, np.ndarray]]:
    values: dict[str, dict[str, np.ndarray]] = {}
    for col, row in cells:
        patch_id = f"{SCENE}_{col:02d}_{row:02d}"
        values[patch_id] = patch_pixels(col * 100 + row)
        values[f"{S1_SCENE}_{col:02d}_{row:02d}"] = backscatter(col * 100 + row)
        values[reference_map_id(patch_id)] = {"Data": np.full((120, 120), 211, np.uint16)}
    return values


def packed(folder: Path, parts: list[Path], cells: list[tuple[int, int]]) -> Path:
    table = pd.DataFrame(
        {
            "patch_id": [f"{SCENE}_{col:02d}_{row:02d}" for col, row in cells],
            "split": ["train" if col < 30 else "test" for col, _ in cells],
            "labels": [["Arable land"]] * len(cells),
        }
    )
    pack(
        folder,
        parts,
        name="made",
        index=index_rows(table, [f"{S1_SCENE}_{col:02d}_{row:02d}" for col, row in cells]),
        sensors=[SENTINEL2, SENTINEL1, REFERENCE_MAP],
        offsets={band: [-1000.0] for band in SENTINEL2.band_names},
        quantification=10_000,
        labels=load_nomenclature("bigearthnet-19").classes,
        unlabeled_codes=[999],
        recipe_sha256="0" * 64,
    )
    return folder


CELLS = [(26, 57), (27, 57), (40, 40)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    write_part(tmp_path / "a", scene_values(CELLS[:2]))
    write_part(tmp_path / "b", scene_values(CELLS[2:]))
    return packed(tmp_path / "shard", [tmp_path / "a", tmp_path / "b"], CELLS)


def test_every_value_comes_back_to_the_bit(shard):
    with open_shard(shard) as opened:
        for key, bands in scene_values(CELLS).items():
            read = opened.read(key)
            assert read.keys() == bands.keys()
            for name, pixels in bands.items():
                assert read[name].dtype == pixels.dtype
                assert np.array_equal(read[name], pixels)


def test_the_database_does_not_depend_on_how_scenes_were_divided(tmp_path, shard):
    write_part(tmp_path / "all", scene_values(CELLS))
    other = packed(tmp_path / "other", [tmp_path / "all"], CELLS)
    digests = [
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in (shard, other) for name in ("data.mdb", "index.parquet")
    ]
    assert digests[1] == digests[3]
    with LmdbStore(shard) as a, LmdbStore(other) as b:
        assert list(a.items()) == list(b.items())


def test_the_same_parts_give_the_same_bytes(tmp_path, shard):
    again = packed(tmp_path / "again", [tmp_path / "b", tmp_path / "a"], CELLS)
    for name in ("data.mdb", "index.parquet", "manifest.json"):
        assert (shard / name).read_bytes() == (again / name).read_bytes()


def test_statistics_are_those_of_numpy_over_the_train_split(shard):
    with open_shard(shard) as opened:
        statistics = {band.name: band.statistics for band in opened.manifest.bands if band.statistics}
    train = {**{band: [] for band in SENTINEL2.band_names}, **{band: [] for band in SENTINEL1.band_names}}
    for col, row in CELLS[:2]:
        for name, pixels in {**patch_pixels(col * 100 + row), **backscatter(col * 100 + row)}.items():
            train[name].append(pixels.astype(np.float64))
    for name, pieces in train.items():
        pixels = np.concatenate([piece.ravel() for piece in pieces])
        assert statistics[name].count == pixels.size
        assert statistics[name].mean == pytest.approx(pixels.mean(), rel=1e-9)
        assert statistics[name].std == pytest.approx(pixels.std(), rel=1e-9)
        assert (statistics[name].min, statistics[name].max) == (pixels.min(), pixels.max())
        assert sum(statistics[name].histogram) == pixels.size
    counts, _ = np.histogram(np.concatenate([p.ravel() for p in train["B02"]]), bins=1024, range=(0, 65536))
    assert statistics["B02"].histogram == counts.tolist()


def test_missing_pixels_are_left_out_of_statistics():
    band = BandAccumulator(SENTINEL2["B02"])
    band.add(np.array([[0, 10], [20, 0]], np.uint16))
    assert (band.result().count, band.result().mean, band.result().std) == (2, 15, 5)
    empty = BandAccumulator(SENTINEL1["VV"])
    empty.add(np.full((2, 2), np.nan, np.float32))
    assert (empty.result().count, empty.result().mean) == (0, None)


def test_the_manifest_says_what_lies_there(shard):
    with open_shard(shard) as opened:
        manifest = opened.manifest
    b02 = next(band for band in manifest.bands if band.name == "B02")
    assert [band.name for band in manifest.bands if band.sensor == "s2"] == list(SENTINEL2.band_names)
    assert (b02.shape, b02.dtype, b02.scale, b02.offset, b02.offset_applied) == ([120, 120], "uint16", 1e-4, [-1000.0], False)
    assert manifest.counts == {"train": 2, "validation": 0, "test": 1}
    assert manifest.keys == 9
    assert verify_shard(shard) == []


def test_a_shard_opened_before_it_is_sent_to_another_process_reads_there(shard):
    with open_shard(shard) as opened:
        before = opened.read(f"{SCENE}_26_57")
        again = pickle.loads(pickle.dumps(opened))
        assert np.array_equal(again.read(f"{SCENE}_26_57")["B02"], before["B02"])


def test_a_flipped_byte_is_found(shard):
    data = bytearray((shard / "data.mdb").read_bytes())
    data[len(data) // 2] ^= 1
    (shard / "data.mdb").write_bytes(data)
    assert any("data.mdb has" in finding and "digest" in finding for finding in verify_shard(shard))


def test_a_value_of_another_layout_is_found(tmp_path):
    values = scene_values(CELLS)
    values[f"{SCENE}_26_57"]["B02"] = values[f"{SCENE}_26_57"]["B02"][:60]
    write_part(tmp_path / "part", values)
    findings = verify_shard(packed(tmp_path / "shard", [tmp_path / "part"], CELLS))
    assert len(findings) == 1
    assert f"{SCENE}_26_57 holds" in findings[0]


def test_a_missing_patch_and_scenes_that_disagree_are_refused(tmp_path):
    write_part(tmp_path / "part", scene_values(CELLS[:2]))
    with pytest.raises(ShardError, match="3 patches have no pixels"):
        packed(tmp_path / "shard", [tmp_path / "part"], CELLS)
    values = scene_values(CELLS[:1])
    values[f"{S1_SCENE}_26_57"]["VV"] = values[f"{S1_SCENE}_26_57"]["VV"] + 1
    write_part(tmp_path / "other", values)
    with pytest.raises(ShardError, match="two scenes disagree on S1A"):
        packed(tmp_path / "clash", [tmp_path / "part", tmp_path / "other"], CELLS[:2])


def test_keys_out_of_order_are_refused(tmp_path):
    with pytest.raises(ShardError, match=r"keys must rise|twice or out of order"):
        write_lmdb(tmp_path / "db", [("b", b"1"), ("a", b"2")])


def test_what_is_no_shard_is_refused_in_words(tmp_path, shard):
    with pytest.raises(ShardError, match=r"has no manifest.json; name a shard's folder"):
        open_shard(tmp_path)
    with pytest.raises(ShardError, match=r"holds no data\.mdb"):
        LmdbStore(tmp_path)
    with open_shard(shard) as opened, pytest.raises(ShardError, match="has no key nowhere"):
        opened.read("nowhere")
    (shard / "manifest.json").write_text('{"format": "lmdb"}')
    with pytest.raises(ShardError, match="is not a shard's manifest"):
        open_shard(shard)


def test_the_golden_lmdb_of_the_field_reads_and_our_values_have_its_bytes(shared_data):
    folder = shared_data / "bigearthnet_v2" / "tiffs"
    with LmdbStore(shared_data / "bigearthnet_v2" / "rico_hdl_golden_lmdb") as golden:
        keys = list(golden.keys())
        values = {key: golden.read_bytes(key) for key in keys}
        bands_of = {key: golden.read(key) for key in keys}
    assert keys == ["S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48", f"{SCENE}_75_43"]
    for key, bands in bands_of.items():
        assert len(bands) == (2 if key.startswith("S1") else 12)
        for name, pixels in bands.items():
            (tiff,) = folder.glob(f"*/*/{key}/{key}_{name}.tif")
            with rasterio.open(tiff) as raster:
                source = raster.read(1)
            assert source.dtype == pixels.dtype
            assert np.array_equal(source, pixels)
        assert encode(bands) == values[key]
