"""A build of ten scenes, three of them damaged: seven are built, three are listed with what to do about them."""

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from conftest import SENSING, TILE, random_bands, write_recipe, write_scene

from rsdata.catalog import read_patches
from rsdata.commands.console import reason_and_remedy
from rsdata.records import Manifest
from rsdata.shards import open_shard
from rsdata.workspace import read_record

STAGES = ("scenes", "patches", "labels", "quality", "splits", "captions", "shards", "catalog")
LEFT, TOP = TILE.ul_x_m + 9600, TILE.ul_y_m - 48_000


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """A recipe over ten small scenes: one cut short, one that claims another size, one that is no zip."""
    folder = tmp_path / "scenes"
    bands = random_bands(side_px=120)
    for day in range(10):
        write_scene(folder, bands, sensing=SENSING - timedelta(days=day), ul_x_m=LEFT, ul_y_m=TOP, threads=1)
    first, second, third, *_ = sorted(folder.glob("*.SAFE"))
    (jp2,) = first.rglob("*_B05_20m.jp2")
    jp2.write_bytes(jp2.read_bytes()[:100])
    (xml,) = second.rglob("MTD_TL.xml")
    xml.write_text(xml.read_text().replace("<NROWS>120</NROWS>", "<NROWS>1200000000</NROWS>", 1))
    shutil.rmtree(third)
    third.with_suffix(".zip").write_bytes(b"PK\x03\x04 and then nothing")
    box = shapely.box(LEFT - 500, TOP - 5000, LEFT + 5000, TOP + 500)
    gpd.GeoDataFrame({"Code_18": ["211"], "NAME": ["Austria"]}, geometry=[box], crs=TILE.epsg).to_file(tmp_path / "ground.gpkg")
    content = {
        "name": "ten",
        "scenes": {"sentinel2": ["scenes/S2*"], "require_s1": False},
        "labels": {"path": "ground.gpkg"},
        "countries": {"path": "ground.gpkg"},
        "split": {"strategy": "random", "ratios": {"train": 0.6, "validation": 0.2, "test": 0.2}},
    }
    return write_recipe(tmp_path, content)


def test_a_build_of_ten_scenes_with_three_damaged_does_the_seven_and_lists_the_three(ten, tmp_path):
    root = tmp_path / "out"
    (tmp_path / "prefect").mkdir()
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "CI": "true", "COLUMNS": "140"}
    stages = [part for stage in STAGES for part in ("--only", stage)]
    command = [sys.executable, "-m", "rsdata", "build", str(ten), "--out", str(root), "--workers", "1", *stages]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr

    manifest = read_record(root / "manifest.json", Manifest)
    assert manifest.counts["scenes"] == 7
    listed = {item.unit: item.message for item in manifest.failures}
    assert len(listed) == 3
    said = " ".join(listed.values())
    for words in ("the file is cut short, fetch", "states a tile of 1200000000 x 120 pixels", "is a damaged zip or none at all"):
        assert words in said

    table = " ".join(done.stderr.partition("Not done")[2].replace("│", " ").split())
    for heading in ("stage", "what", "why", "what to do"):
        assert heading in table
    assert all(unit[:40] in table for unit in listed)
    assert all(reason_and_remedy(message)[1].endswith("fetch the product again") for message in listed.values())
    patches = read_patches(root / "patches.parquet")
    assert patches["s2_product"].nunique() == 7
    with open_shard(root / "shards" / "lmdb") as shard:
        assert len(shard.index) == patches["kept"].sum() > 0
        assert np.ptp(shard.read(shard.index["patch_id"].iloc[0])["B02"]) > 0
