"""Time series in a build: values of the sources, the recipe's choices, done once, the same bytes, and checked afterwards."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from conftest import write_recipe

from rsdata import scenes, shards, steps
from rsdata.catalog import read_patches, read_table
from rsdata.catalog.report import percent
from rsdata.errors import RecipeError, WorkspaceError
from rsdata.recipe import load_recipe
from rsdata.records import CubeFrame, CubeRow, PatchId
from rsdata.sensors.sentinel2 import SCL_CLOUD, SCL_SHADOW
from rsdata.series import GROUPS, Seen, Slot
from rsdata.shards.video.cubes import Cube
from rsdata.shards.video.shard import CubeShard
from rsdata.steps.frames import Frames, common_offsets
from rsdata.steps.series import check_series
from rsdata.workspace import Workspace

OFFSET_PX = (4800, 0)  # down and right; six places of the outer frame, which is train
SERIES = {
    "name": "tiny",
    "synthetic": {
        "tiles": ["33UUP"],
        "dates": ["2023-04-18T10:00:31Z", "2023-05-03T10:00:31Z", "2023-05-18T10:00:31Z", "2023-06-12T10:00:31Z"],
        "raster_px": [240, 360],
        "offset_px": list(OFFSET_PX),
        "cell_m": 700,
        "clouds": 1,
        "nodata_strip": False,
        "seed": 3,
    },
    "quality": {"max_cloud_or_shadow_fraction": 0.1},
    "series": {"mask_clouds": True, "filters": {"max_cloud": 0.9}},
}
DAYS = ["2023-04-18", "2023-05-03", "2023-05-18", "2023-06-12"]
CLOUDED = "33UUP_02_41"  # its patch of 12 June is dropped for clouds


def scene_units(recipe_path: Path, workspace: Workspace) -> list[str]:
    """Everything up to the splits; the names of the scenes."""
    recipe = load_recipe(recipe_path)
    steps.make_inputs(recipe, workspace)
    pairs = steps.find_scenes(recipe, workspace).pairs
    for pair in pairs:
        steps.register_scene(pair, recipe, workspace)
        for step in (steps.cut_scene, steps.label_scene, steps.assess_scene):
            step(pair.unit, recipe, workspace)
    units = [pair.unit for pair in pairs]
    steps.assign_splits(units, recipe, workspace)
    return units


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), SERIES)


@pytest.fixture(scope="module")
def made(recipe_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Four dates of six places as series, coded in this process; for reading only."""
    workspace = Workspace.create(tmp_path_factory.mktemp("series") / "dataset")
    steps.make_series(scene_units(recipe_path, workspace), load_recipe(recipe_path), workspace, workers=0)
    return workspace


def units_of(workspace: Workspace) -> list[str]:
    return sorted(path.stem for path in (workspace.root / "receipts" / "quality").glob("*.json"))


def remade(made: Workspace, folder: Path, workers: int = 0, **series: object) -> tuple[Workspace, steps.Outcome]:
    """The same dataset with another ``series`` part."""
    workspace = Workspace(Path(shutil.copytree(made.root, folder / "copy", copy_function=shutil.copy2)))
    recipe = load_recipe(write_recipe(folder, SERIES | {"series": series}))
    return workspace, steps.make_series(units_of(workspace), recipe, workspace, workers)


def cubes(workspace: Workspace) -> dict[str, Cube]:
    with CubeShard(workspace.shards("video")) as shard:
        return {place: shard.cube(place) for place in shard.index["place_id"]}


def frames_of(workspace: Workspace) -> pd.DataFrame:
    return read_table(workspace.shards("video") / "frames.parquet", CubeFrame)


def digests(workspace: Workspace) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(workspace.shards("video").iterdir())}


def window(place: str, gsd_m: int) -> tuple[slice, slice]:
    """Counted by hand: places start every 1200 m from the tile's corner, the raster a stated number of pixels into it."""
    col, row = (int(each) for each in place.split("_")[1:])
    side, top, left = 1200 // gsd_m, (row * 120 - OFFSET_PX[0]) * 10 // gsd_m, (col * 120 - OFFSET_PX[1]) * 10 // gsd_m
    return slice(top, top + side), slice(left, left + side)


@pytest.fixture(scope="module")
def sources(made: Workspace) -> list[dict[str, np.ndarray]]:
    """Bands and classification of each date, read from the products."""
    names = [band.name for name, group in GROUPS.items() if name != "s1" for band in group.bands]
    products = sorted((made.inputs / "sentinel2").glob("*.SAFE"))
    return [dict(scenes.open_sentinel2(path).read_all([*names, "SCL"])) for path in products]


def optical(sources: list[dict[str, np.ndarray]], place: str, group: str) -> np.ndarray:
    """(time, band, y, x) of one place, from the products."""
    where = window(place, GROUPS[group].gsd_m)
    return np.stack([np.stack([source[band.name][where] for band in GROUPS[group].bands]) for source in sources])


def clouded(sources: list[dict[str, np.ndarray]], place: str) -> np.ndarray:
    """(time, y, x) bool at 20 m, from the products."""
    return np.stack([np.isin(source["SCL"][window(place, 20)], [*SCL_CLOUD, *SCL_SHADOW]) for source in sources])


# --- what is in a series ----------------------------------------------------------------------------------


def test_every_frame_of_every_place_holds_the_values_of_its_product(made, sources):
    found = cubes(made)
    assert len(found) == 6
    for place, cube in found.items():
        for group in ("s2_10m", "s2_20m", "s2_60m"):
            assert np.array_equal(cube.groups[group], optical(sources, place, group))


def test_sentinel1_holds_the_values_of_the_products_its_frames_name(made):
    frames = frames_of(made)
    for place, cube in cubes(made).items():
        rows = frames[(frames["place_id"] == place) & (frames["sensor"] == "s1")]
        assert len(rows) == len(cube.groups["s1"]) == 4
        for row in rows.itertuples():
            (product,) = row.products
            for index, band in enumerate(("VH", "VV")):
                with rasterio.open(made.inputs / "sentinel1" / product / f"{product}_{band}.tif") as raster:
                    assert np.array_equal(cube.groups["s1"][row.frame, index], raster.read(1)[window(place, 10)])


def test_frames_have_the_times_in_the_names_of_their_products(made):
    frames = frames_of(made)
    for row in frames.itertuples():
        (product,) = row.products
        stamp = product.split("_")[2 if row.sensor == "s2" else 4]
        assert row.time == datetime.strptime(stamp, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    for (_, sensor), rows in frames.groupby(["place_id", "sensor"]):
        assert rows["frame"].tolist() == list(range(4))
        assert rows["time"].is_monotonic_increasing
        if sensor == "s2":
            assert rows["time"].dt.strftime("%Y-%m-%d").tolist() == DAYS


def test_a_patch_that_was_dropped_for_clouds_is_a_frame_if_the_filters_of_the_series_let_it(made, tmp_path):
    table = read_patches(made.patches)
    row = table[(table["tile_id"] + "_" + table["patch_id"].str[-5:] == CLOUDED) & (table["datetime"].dt.month == 6)].iloc[0]
    assert (row["kept"], row["drop_reason"]) == (False, "cloud_or_shadow")
    share = row["cloud_fraction"] + row["shadow_fraction"]
    frames = frames_of(made).query("place_id == @CLOUDED and sensor == 's2'")
    assert frames["cloud_fraction"].iloc[3] == share > 0.1  # and its pixels are those of the product, as is tested above
    strict, _ = remade(made, tmp_path, filters={"max_cloud": 0.1})
    frames = frames_of(strict).query("place_id == @CLOUDED and sensor == 's2'")
    assert frames["time"].dt.strftime("%Y-%m-%d").tolist() == DAYS[:3]
    index = read_table(strict.shards("video") / "index.parquet", CubeRow).set_index("place_id")
    assert (index.loc[CLOUDED, "s2_frames"], index.loc[CLOUDED, "s1_frames"]) == (3, 4)  # Sentinel-1 of that date stays


def test_masks_leave_out_what_the_classification_calls_cloud_or_shadow(made, sources):
    frames = frames_of(made).query("sensor == 's2'").set_index(["place_id", "frame"])
    some = 0
    for place, cube in cubes(made).items():
        clear = ~clouded(sources, place)
        assert np.array_equal(cube.valid["s2_20m"], clear)
        assert np.array_equal(cube.valid["s2_10m"], clear.repeat(2, 1).repeat(2, 2))
        assert np.array_equal(cube.valid["s2_60m"], clear[:, 1::3, 1::3])
        assert cube.valid["s1"].all()
        for frame in range(4):
            masked = max(1 - cube.valid[name][frame].mean() for name in ("s2_10m", "s2_20m", "s2_60m"))
            assert frames.loc[(place, frame), "nodata_fraction"] == pytest.approx(masked)
            some += bool(masked)
    assert some > 3


def test_rows_of_places_repeat_the_patch_table(made):
    table = read_patches(made.patches)
    for row in read_table(made.shards("video") / "index.parquet", CubeRow).itertuples():
        patches = table[(table["col"] == row.col) & (table["row"] == row.row) & table["kept"]]
        assert row.place_id == f"33UUP_{row.col:02d}_{row.row:02d}"
        assert {(row.split, row.country, row.ul_x_m, row.ul_y_m, tuple(row.labels))} == {
            (each.split, each.country, each.ul_x_m, each.ul_y_m, tuple(each.labels)) for each in patches.itertuples()
        }


# --- composites and pairs ---------------------------------------------------------------------------------


def test_monthly_medians_are_those_of_xarray_over_clear_pixels_of_the_products(made, sources, tmp_path):
    workspace, _ = remade(made, tmp_path, sensors=["s2"], composite="median", filters={"max_cloud": 1})
    months = np.array([4, 5, 5, 6])
    for place, cube in cubes(workspace).items():
        for group in ("s2_10m", "s2_20m", "s2_60m"):
            mask = clouded(sources, place)
            mask = {"s2_10m": mask.repeat(2, 1).repeat(2, 2), "s2_20m": mask, "s2_60m": mask[:, 1::3, 1::3]}[group]
            values = xr.DataArray(optical(sources, place, group).astype(np.float64), {"time": months}, ("time", "band", "y", "x"))
            medians = values.where(~xr.DataArray(mask, dims=("time", "y", "x"))).groupby("time").median("time").round()
            assert np.array_equal(cube.groups[group], medians.fillna(0).transpose("time", "band", "y", "x"))
            assert np.array_equal(cube.valid[group], medians.notnull().all("band"))
    may = frames_of(workspace).query("place_id == @CLOUDED and frame == 1").iloc[0]
    assert may["time"] == datetime(2023, 5, 10, 22, 0, 31, tzinfo=UTC)  # between 3 and 18 May, 10:00:31
    assert [product[11:19] for product in may["products"]] == ["20230503", "20230518"]


def test_a_pair_is_a_cube_of_two_dates(made, sources, tmp_path):
    workspace, outcome = remade(made, tmp_path, pair={"before": "2023-04-30", "after": "2023-06-01"}, filters={"max_cloud": 0.05})
    frames = frames_of(workspace).query("sensor == 's2'")
    for place, cube in cubes(workspace).items():
        days = frames[frames["place_id"] == place]["time"].dt.strftime("%Y-%m-%d").tolist()
        clouds = read_patches(workspace.patches).set_index("patch_id")
        shares = [
            clouds.loc[f"{unit}_{place[6:]}", "cloud_fraction"] + clouds.loc[f"{unit}_{place[6:]}", "shadow_fraction"]
            for unit in units_of(workspace)
        ]
        clear = [day for day, share in zip(DAYS, shares, strict=True) if share <= 0.05]
        apart = (
            {day: abs(pd.Timestamp(day) - pd.Timestamp("2023-04-30")) for day in clear},
            {day: abs(pd.Timestamp(day) - pd.Timestamp("2023-06-01")) for day in clear},
        )
        assert days == [min(each, key=each.get) for each in apart]
        assert np.array_equal(cube.groups["s2_20m"], optical(sources, place, "s2_20m")[[DAYS.index(day) for day in days]])
    assert outcome.receipt.counts["places"] + outcome.receipt.counts.get("no_pair", 0) == 6


def test_dates_of_an_older_baseline_get_the_offset_of_the_newer(made, tmp_path):
    """A scene whose offset is 0 among others of -1000: 1000 counts more have the same reflectance."""
    workspace = Workspace(Path(shutil.copytree(made.root, tmp_path / "copy")))
    first, second, *_ = units = units_of(workspace)
    path = workspace.part("scenes", first, ".json")
    pair = json.loads(path.read_text())
    assert set(pair["s2"]["offsets"].values()) == {-1000}
    pair["s2"]["offsets"] = dict.fromkeys(pair["s2"]["offsets"], 0.0)
    path.write_text(json.dumps(pair))
    place = "33UUP_00_40"
    slots = {"s2": [Slot((Seen(str(PatchId(unit, 0, 40)), unit, datetime.now(UTC)),)) for unit in (first, second)]}
    offsets = common_offsets(units, workspace)
    assert set(offsets.values()) == {-1000}
    with Frames(units, offsets, workspace) as frames:
        read = frames.read(slots).pixels["s2_10m"]
    stored = cubes(made)[place].groups["s2_10m"]
    assert np.array_equal(read[0], stored[0] + 1000)
    assert np.array_equal(read[1], stored[1])


# --- splits -----------------------------------------------------------------------------------------------


def test_places_whose_dates_lie_in_several_splits_have_no_series(made, tmp_path):
    workspace = Workspace(Path(shutil.copytree(made.root, tmp_path / "copy", copy_function=shutil.copy2)))
    path = write_recipe(tmp_path, SERIES | {"split": {"strategy": "time", "options": {"by": "month", "test": [4]}}})
    recipe = load_recipe(path)
    steps.assign_splits(units_of(workspace), recipe, workspace)
    with pytest.raises(RecipeError, match="not one of 6 places has a time series: 6 for several_splits"):
        steps.make_series(units_of(workspace), recipe, workspace, workers=0)


def test_where_the_split_divides_dates_those_that_were_dropped_stay_out(made, tmp_path):
    """June is test. One place's June was dropped for clouds, so its kept dates all train, and June must not join them."""
    workspace = Workspace(Path(shutil.copytree(made.root, tmp_path / "copy", copy_function=shutil.copy2)))
    recipe = load_recipe(write_recipe(tmp_path, SERIES | {"split": {"strategy": "time", "options": {"by": "month", "test": [6]}}}))
    steps.assign_splits(units_of(workspace), recipe, workspace)
    outcome = steps.make_series(units_of(workspace), recipe, workspace, workers=0)
    assert outcome.receipt.counts == {"places": 1, "not_coded": 0, "several_splits": 5}
    frames = frames_of(workspace).query("place_id == @CLOUDED and sensor == 's2'")
    assert frames["time"].dt.strftime("%Y-%m-%d").tolist() == DAYS[:3]


# --- done once --------------------------------------------------------------------------------------------


def test_a_second_run_does_nothing(made, recipe_path):
    before = {path: path.stat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()}
    assert steps.make_series(units_of(made), load_recipe(recipe_path), made, workers=0).skipped
    assert {path: path.stat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()} == before


def uncoded(made: Workspace, folder: Path) -> Workspace:
    """A copy in which the frames are settled and nothing is coded."""
    copy = Workspace(Path(shutil.copytree(made.root, folder / "copy", copy_function=shutil.copy2)))
    shutil.rmtree(copy.shards("video"))
    for name in ("video", "33UUP-000"):
        copy.receipt_path("series", name).unlink()
    return copy


def test_an_interrupted_stage_leaves_no_shard_and_goes_on_where_it_was(made, recipe_path, tmp_path, monkeypatch):
    """Coded in blocks of two places: the third finds the disk full."""
    copy, recipe = uncoded(made, tmp_path), load_recipe(recipe_path)
    monkeypatch.setattr("rsdata.steps.series.BLOCK_PLACES", 2)
    write, begun = shards.write_cubes, []

    def until_the_disk_is_full(folder, given, **named):
        begun.append(named["name"])
        if len(begun) == 3:
            next(iter(given))
            (folder / "data.mdb").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return write(folder, given, **named)

    monkeypatch.setattr("rsdata.shards.write_cubes", until_the_disk_is_full)
    with pytest.raises(WorkspaceError, match="the disk is full"):
        steps.make_series(units_of(copy), recipe, copy, workers=0)
    assert not copy.shards("video").exists()
    assert not copy.part("series", "33UUP-002", "").exists()
    steps.make_series(units_of(copy), recipe, copy, workers=0)
    assert begun == ["33UUP-000", "33UUP-001", "33UUP-002", "33UUP-002"]
    assert digests(copy) == digests(made)


def test_another_coding_leaves_the_choice_of_frames_as_it_was(made, tmp_path):
    series = SERIES["series"] | {"video": {"s1": {"mode": "maxerr", "max_error": 0.5}}}
    workspace, outcome = remade(made, tmp_path, **series)
    assert not outcome.skipped
    assert workspace.receipt_path("series", "33UUP").read_bytes() == made.receipt_path("series", "33UUP").read_bytes()
    (place, cube), *_ = cubes(workspace).items()
    exact = cubes(made)[place]
    assert np.array_equal(cube.groups["s2_10m"], exact.groups["s2_10m"])
    assert 0 < np.abs(cube.groups["s1"] - exact.groups["s1"]).max() <= 0.5


def test_a_coding_that_cannot_be_is_told_before_any_scene_is_read(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path, SERIES | {"series": {"video": {"s2": {"mode": "auto"}}}}))
    with pytest.raises(RecipeError, match="`series.video`: mode auto needs target_bpppb or target_psnr_db"):
        steps.find_scenes(recipe, Workspace.create(tmp_path / "empty"))


def test_without_the_part_nothing_is_set_aside(built):
    assert not list((built.root / "parts" / "quality").glob("*-frames"))
    assert not built.shards("video").exists()


# --- the whole build --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(made: Workspace, recipe_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same dataset, coded again and finished by the command line on two workers; for reading only."""
    workspace = uncoded(made, tmp_path_factory.mktemp("whole"))
    environment = os.environ | {"PREFECT_HOME": str(workspace.root.parent), "CI": "true"}
    stages = [part for stage in ("captions", "shards", "series", "catalog", "report") for part in ("--only", stage)]
    command = [sys.executable, "-m", "rsdata", "build", str(recipe_path), "--out", str(workspace.root), "--workers", "2", *stages]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return workspace


def test_the_flow_makes_the_same_bytes_in_worker_processes_and_lists_them_in_the_manifest(made, whole):
    assert digests(whole) == digests(made)
    manifest, findings = steps.verify_dataset(whole)
    assert findings == []
    assert manifest.counts["series"] == 6
    listed = {item.path for item in manifest.outputs}
    assert {f"shards/video/{name}" for name in digests(made)} < listed


def test_verify_finds_a_damaged_series_and_one_that_contradicts_the_patch_table(whole, tmp_path):
    copy = Workspace(Path(shutil.copytree(whole.root, tmp_path / "copy", copy_function=shutil.copy2)))
    data = copy.shards("video") / "data.mdb"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert steps.verify_dataset(copy)[1] == ["shards/video/data.mdb differs from its digest in manifest.json"]
    table = read_patches(whole.patches)
    here = (table["col"] == 2) & (table["row"] == 41)
    moved = table.assign(split=table["split"].where(~here, "test"), s2_product=table["s2_product"].where(~here, "another"))
    findings = check_series(moved, whole)
    assert findings[0] == f"the series of {CLOUDED} is in the split train, and its patches are in test"
    assert len(findings) == 1 + 4  # and each of its four frames of Sentinel-2
    assert all(each.startswith(f"a frame of {CLOUDED} is made from S2A_") for each in findings[1:])


def test_the_report_shows_the_frames_of_one_place_with_their_dates_and_clouds(whole):
    page = whole.report.read_text()
    section = page[page.index('<section id="series">') : page.index('<section id="audit">')]
    assert "6 places with 24 frames of Sentinel-2 and 24 frames of Sentinel-1." in section
    assert f'Place <span class="mono">{CLOUDED}</span> (train)' in section  # it has the thickest cloud of all with four dates
    assert [section.count(f'alt="{sensor} on {day}"') for sensor in ("Sentinel-2", "Sentinel-1") for day in DAYS] == [1] * 8
    shares = frames_of(whole).query("place_id == @CLOUDED and sensor == 's2'")["cloud_fraction"]
    assert [f"cloud {percent(share)}" in section for share in shares] == [True] * 4
