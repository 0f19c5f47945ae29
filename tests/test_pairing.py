"""Pairing: which Sentinel-1 scene goes with a Sentinel-2 scene, and with each of its patches."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import SENSING, TILE, random_bands, run_steps, write_recipe, write_scene
from scipy.ndimage import shift

from rsdata import steps
from rsdata.catalog import read_patches
from rsdata.quality import register
from rsdata.recipe import load_recipe
from rsdata.records import Manifest, PatchId, Sentinel1Scene, s1_patch_id
from rsdata.scenes import matches_in_time, open_sentinel1, open_sentinel2
from rsdata.shards import open_shard
from rsdata.testing import write_s1_pair
from rsdata.workspace import Workspace, read_record


def twin(start: datetime, *, ul_x_m: float = TILE.ul_x_m, direction: str | None = None) -> Sentinel1Scene:
    name = f"S1A_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}"
    return Sentinel1Scene(
        product=name, scene_id=name, mission="S1A", datetime=start, epsg=32633, ul_x_m=ul_x_m, ul_y_m=TILE.ul_y_m,
        width_m=2400, height_m=2400, orbit_direction=direction, bands={},
    )  # fmt: skip


def test_scenes_over_the_same_ground_come_by_their_time_gap(made_safe):
    scene = open_sentinel2(made_safe).scene
    early, late = twin(SENSING - timedelta(days=1)), twin(SENSING + timedelta(days=2))
    beside = twin(SENSING, ul_x_m=TILE.ul_x_m + 2400)
    found = matches_in_time(scene, [late, early, beside], 72)
    assert [match for match, _ in found] == [early, late]
    assert [gap_h for _, gap_h in found] == pytest.approx([-24, 48], abs=0.02)
    assert matches_in_time(scene, [late, early, beside], 10) == []


def test_the_preferred_orbit_direction_comes_first_and_the_order_of_candidates_does_not_matter(made_safe):
    scene = open_sentinel2(made_safe).scene
    near, far = twin(SENSING + timedelta(hours=1), direction="DESCENDING"), twin(SENSING + timedelta(hours=9), direction="ASCENDING")
    for candidates in ([near, far], [far, near]):
        assert [match for match, _ in matches_in_time(scene, candidates, 72)] == [near, far]
        assert [match for match, _ in matches_in_time(scene, candidates, 72, "ASCENDING")] == [far, near]


@pytest.fixture
def two_halves(tmp_path: Path, built) -> tuple[Path, dict[str, np.ndarray]]:
    """One Sentinel-2 scene of four by two patches; a near Sentinel-1 scene that covers its left part, a far one that covers all."""
    corner = {"ul_x_m": TILE.ul_x_m + 9600, "ul_y_m": TILE.ul_y_m - 48_000}
    bands = {name: np.concatenate([pixels, pixels], axis=1) for name, pixels in random_bands(240).items()}
    write_scene(tmp_path / "scenes", bands, **corner)
    rng = np.random.default_rng(0)
    names = {
        "near": "S1A_IW_GRDH_1SDV_20230612T051234_20230612T051259_048951_05E2F1_A1B2",
        "far": "S1A_IW_GRDH_1SDV_20230610T051234_20230610T051259_048951_05E2F1_A1B2",
    }
    pixels = {name: rng.normal(-12, 3, (2, 240, 480)).astype(np.float32) for name in names}
    pixels["near"][:, :, 130:] = np.nan  # covers the first column of patches, and a strip of the second
    for name, product in names.items():
        write_s1_pair(tmp_path / "s1", product_name=product, tile=TILE, vv=pixels[name][0], vh=pixels[name][1], **corner)
    content = {
        "name": "halves",
        "scenes": {"sentinel2": ["scenes/*.SAFE"], "sentinel1": ["s1/*"]},
        "labels": {"path": str(built.inputs / "corine.gpkg"), "max_unlabeled_fraction": 1.0},
    }
    return write_recipe(tmp_path, content), pixels


def test_each_patch_takes_the_nearest_scene_that_covers_it_wholly(two_halves, tmp_path):
    recipe, pixels = two_halves
    workspace, _ = run_steps(recipe, tmp_path / "out")
    table = read_patches(workspace.patches)
    assert table["kept"].sum() > 4
    sources = {}
    with open_shard(workspace.shards("lmdb")) as shard:
        for row in table[table["kept"]].itertuples():
            source = "near" if row.col == 8 else "far"
            sources.setdefault(source, 0)
            sources[source] += 1
            day = {"near": 12, "far": 10}[source]
            assert row.s1_product[17:25] == f"202306{day}"
            start = datetime(2023, 6, day, 5, 12, 34, tzinfo=UTC)
            assert row.s1_time_gap_h == pytest.approx((start - row.datetime).total_seconds() / 3600)
            y, x = (row.row - 40) * 120, (row.col - 8) * 120
            stored = shard.read(s1_patch_id(row.s1_product[:32], PatchId.parse(row.patch_id)))
            assert np.array_equal(stored["VV"], pixels[source][0, y : y + 120, x : x + 120])
            assert np.array_equal(stored["VH"], pixels[source][1, y : y + 120, x : x + 120])
    assert set(sources) == {"near", "far"}


def test_a_planted_shift_is_found_to_a_quarter_pixel(built):
    product = open_sentinel2(next((built.inputs / "sentinel2").glob("*_T33UUP_*.SAFE")))
    optical = product.read("B08")  # 360 x 2160 pixels
    (scene,) = [path for path in (built.inputs / "sentinel1").iterdir() if open_sentinel1(path).scene.epsg == 32633]
    s2 = product.scene
    echoes = open_sentinel1(scene).read("VV", epsg=32633, ul_x_m=s2.ul_x_m, ul_y_m=s2.ul_y_m, width_m=s2.width_m, height_m=s2.height_m)
    for south, east in ((0, 0), (2, -3), (0.5, 1)):
        found = register(optical, shift(echoes, (south, east), order=1, mode="nearest"))
        assert found is not None
        assert found[:2] == pytest.approx((south, east), abs=0.25)
        assert found[3] >= 7


def test_a_pair_with_no_whole_block_has_no_shift():
    optical, echoes = np.ones((300, 300), np.uint16), np.full((300, 300), np.nan, np.float32)
    assert register(optical, echoes) is None
    assert register(optical[:200], np.zeros((200, 300), np.float32)) is None


def test_a_real_pair_of_another_dataset_agrees_to_a_pixel_or_two(shared_data):
    """SSL4EO-S12 brings both sensors to one grid (264 x 264, 10 m); contains modified Copernicus Sentinel data 2020."""
    folder = shared_data / "ssl4eo_s12"
    with rasterio.open(folder / "s2a" / "0000200" / "20200604T054639_20200604T054831_T43RCP" / "B8.tif") as raster:
        optical = raster.read(1)
    (product,) = (folder / "s1" / "0000200").glob("S1A_IW_GRDH_1SDV_20200607*")
    with rasterio.open(product / "VV.tif") as raster:
        echoes = raster.read(1).astype(np.float32)
    found = register(optical.astype(np.uint16), echoes)
    assert found is not None
    assert abs(found[0]) <= 2 and abs(found[1]) <= 2


def test_the_shift_of_every_scene_reaches_manifest_and_report(built, small_recipe, tmp_path):
    workspace = Workspace(Path(shutil.copytree(built.root, tmp_path / "copy")))
    steps.write_report(load_recipe(small_recipe), workspace)
    manifest = read_record(workspace.manifest, Manifest)
    assert [each.s2_product[38:44] for each in manifest.coregistration] == ["T33UUP", "T32UMC"]
    page = workspace.report.read_text(encoding="utf-8")
    for each in manifest.coregistration:
        assert f"{np.hypot(each.south_px, each.east_px):.1f} ± {each.spread_px:.1f} px" in page
