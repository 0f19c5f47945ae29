"""Shards of time series: what comes back, what a manifest says, what is refused, and what a crash costs."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from test_shards_formats import packed
from typer.testing import CliRunner

from rsdata import steps
from rsdata.commands import app
from rsdata.errors import ShardError
from rsdata.labels import load_nomenclature
from rsdata.records import ShardManifest, reference_map_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.shards import (
    Cube,
    band_infos,
    open_cubes,
    open_shard,
    pack,
    repack,
    repack_cubes,
    usual_settings,
    verify_shard,
    write_cubes,
    write_part,
)
from rsdata.shards.manifest import read_manifest, write_manifest
from rsdata.shards.packing import index_rows
from rsdata.shards.video import Clip, VideoSettings, encode, encode_any
from rsdata.shards.video.export import export_mkv

BANDS = band_infos([SENTINEL2, SENTINEL1, REFERENCE_MAP], {name: [-1000.0] for name in SENTINEL2.band_names}, 10_000)
GROUPS = {"s2_10m": (4, 120), "s2_20m": (6, 60), "s2_60m": (2, 20), "s1": (2, 120)}
PLACES = ["33UUP_03_07", "33UUP_03_08", "33UUP_04_07", "33UUP_10_10"]
S2_DATES, S1_DATES = 4, 3
WITHOUT_S1 = "33UUP_04_07"
START = datetime(2023, 4, 1, 10, 0, 31, tzinfo=UTC)


def made_cube(place_id: str, s2_dates: int = S2_DATES, s1_dates: int = S1_DATES) -> Cube:
    """Ground with a season and a little noise; a no-data corner in the second date, cloud over a third of the last."""
    rng = np.random.default_rng(int(place_id[-5:].replace("_", "")))
    groups, valid = {}, {}
    for name, (bands, side) in GROUPS.items():
        dates = s1_dates if name == "s1" else s2_dates
        if name == "s1" and place_id == WITHOUT_S1:
            continue
        y, x = np.mgrid[:side, :side] / side
        ground = 2000 + 900 * np.sin(5 * x + np.arange(bands)[:, None, None]) * np.cos(4 * y)
        season = 1 + 0.1 * np.arange(dates)[:, None, None, None]
        counts = ground * season + rng.normal(0, 12, (dates, bands, side, side))
        here = np.ones((dates, side, side), bool)
        if name == "s1":
            groups[name] = (counts / 200 - 25).astype(np.float32)
            groups[name][0, :, : side // 4] = np.nan
            here[0, : side // 4] = False
        else:
            pixels = np.rint(counts).astype(np.uint16)
            if dates > 1:
                pixels[1, :, : side // 5, : side // 5] = 0
                here[1, : side // 5, : side // 5] = False
            pixels[-1, :, side // 3 : side // 3 * 2] = rng.integers(6000, 12000, (bands, side // 3, side))
            here[-1, side // 3 : side // 3 * 2] = False
            groups[name] = pixels
        valid[name] = here
    return Cube(place_id, groups, valid, rng.choice(np.array([211, 312, 999], np.uint16), (120, 120)))


def tables(cubes: Sequence[Cube]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and frames that fit cubes; the third place is for testing, the others for training."""
    rows, frames = [], []
    for number, cube in enumerate(cubes):
        dates = {"s2": len(cube.groups["s2_10m"]), "s1": len(cube.groups.get("s1", ()))}
        rows.append(
            {
                "place_id": cube.place_id,
                "tile_id": "33UUP",
                "col": int(cube.place_id[6:8]),
                "row": int(cube.place_id[9:]),
                "epsg": 32633,
                "ul_x_m": 300_000.0,
                "ul_y_m": 5_400_000.0,
                "country": None if number else "Austria",
                "split": "test" if number == 2 else "train",
                "labels": ["Arable land", "Pastures"][: 1 + number % 2],
                "s2_frames": dates["s2"],
                "s1_frames": dates["s1"],
                "reference_map_key": reference_map_id(cube.place_id),
            }
        )
        for sensor, count in dates.items():
            for frame in range(count):
                acquired = START + timedelta(days=(10 if sensor == "s2" else 12) * frame, hours=0 if sensor == "s2" else 6)
                cloud = frame / count if sensor == "s2" else None
                frames.append([cube.place_id, sensor, frame, acquired, [f"{sensor}_{frame}"], None, cloud, None])
    columns = ["place_id", "sensor", "frame", "time", "products", "nodata_fraction", "cloud_fraction", "snow_fraction"]
    return pd.DataFrame(rows), pd.DataFrame(frames, columns=columns)


def written(folder: Path, cubes: Sequence[Cube], per_sensor: dict | None = None, **given: object) -> ShardManifest:
    rows, frames = tables(cubes)
    folder.mkdir()
    arguments = {
        "name": "series",
        "rows": rows,
        "frames": frames,
        "settings": usual_settings(BANDS, per_sensor or {}),
        "bands": BANDS,
        "labels": load_nomenclature("bigearthnet-19").classes,
        "unlabeled_codes": [999],
        "recipe_sha256": "0" * 64,
        "workers": 0,
    }
    return write_cubes(folder, cubes, **(arguments | given))  # type: ignore[arg-type]


LOSSY = {"s2": {"mode": "lossy", "step": 60.0, "preset": "fast"}, "s1": {"mode": "maxerr", "max_error": 0.25}}


@pytest.fixture(scope="module")
def cubes() -> list[Cube]:
    return [made_cube(place_id) for place_id in PLACES]


@pytest.fixture(scope="module")
def exact(cubes: list[Cube], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series") / "exact"
    written(folder, cubes)
    return folder


@pytest.fixture(scope="module")
def lossy(cubes: list[Cube], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series") / "lossy"
    written(folder, cubes, LOSSY)
    return folder


# --- validity in the codec -------------------------------------------------------------------------------------


@given(data=st.data(), mode=st.sampled_from(["lossless", "maxerr", "lossy"]), nodata=st.booleans(), keyint=st.sampled_from([None, 2]))
@examples(max_examples=25, deadline=None)
def test_validity_comes_back_to_the_bit_and_promises_hold_where_it_does(data, mode, nodata, keyint):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    cube = (rng.integers(0, 60, (5, 3, 17, 20)) + 1000).astype(np.uint16)
    if nodata:
        cube[rng.random(cube.shape) < 0.1] = 0
    valid = rng.random((5, 17, 20)) < data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    cube[~np.broadcast_to(valid[:, None], cube.shape)] += 7000  # clouds, which must not count
    figures = {"lossless": {}, "maxerr": {"max_error": 4}, "lossy": {"step": 30.0, "preset": "ultrafast"}}[mode]
    clip = Clip(encode(cube, VideoSettings(mode, **figures, keyint=keyint, nodata=0 if nodata else None), valid=valid))
    assert np.array_equal(clip.valid(), valid)
    assert np.array_equal(clip.valid([4, 0, 4]), valid[[4, 0, 4]])
    decoded, counts = clip.read(), np.broadcast_to(valid[:, None], cube.shape) & ((cube != 0) | (not nodata))
    worst = np.abs(decoded.astype(int) - cube)[counts].max(initial=0)
    assert clip.header.measured.max_abs_error == worst
    assert worst <= {"lossless": 0, "maxerr": 4, "lossy": 10_000}[mode]
    if nodata:
        assert np.array_equal(decoded[cube == 0], cube[cube == 0])


def test_without_a_word_valid_means_measured_in_every_band():
    cube = np.full((3, 2, 16, 16), 500, np.uint16)
    cube[1, 0, :4] = 0
    expected = np.ones((3, 16, 16), bool)
    expected[1, :4] = False
    for settings in (VideoSettings(nodata=0), VideoSettings("maxerr", max_error=3, nodata=0)):
        assert np.array_equal(Clip(encode(cube, settings)).valid(), expected)


def test_clouds_that_are_not_valid_cost_next_to_nothing():
    cube = made_cube(PLACES[0]).groups["s2_10m"][:, :, :64, :64]
    cloudy = cube.copy()
    cloudy[2:, :, 8:40, 8:40] = np.random.default_rng(0).integers(5000, 12000, (2, 4, 32, 32))
    valid = np.ones((4, 64, 64), bool)
    valid[2:, 8:40, 8:40] = False
    settings = VideoSettings("maxerr", max_error=10, nodata=0)
    masked, kept = len(encode_any(cloudy, settings, valid=valid)), len(encode_any(cloudy, settings))
    assert masked < 0.8 * kept


def test_validity_of_another_shape_is_refused():
    with pytest.raises(ShardError, match=r"validity is bool \(3, 16, 15\)"):
        encode(np.zeros((3, 1, 16, 16), np.uint16), VideoSettings(), valid=np.ones((3, 16, 15), bool))


# --- what comes back -------------------------------------------------------------------------------------------


def test_exact_cubes_come_back_whole(exact, cubes):
    with open_cubes(exact) as shard:
        for cube in cubes:
            found = shard.cube(cube.place_id)
            assert list(found.groups) == list(cube.groups)
            for name in cube.groups:
                assert found.groups[name].tobytes() == cube.groups[name].tobytes()
                assert np.array_equal(found.valid[name], cube.valid[name])
            assert np.array_equal(found.reference_map, cube.reference_map)
        assert len(shard) == sum(len(cube.groups) + 1 for cube in cubes) == 19


def test_dates_and_rows_come_back(exact):
    with open_cubes(exact) as shard:
        assert shard.times(PLACES[0], "s1").tolist() == [datetime(2023, 4, day, 16, 0, 31) for day in (1, 13, 25)]
        assert shard.times(WITHOUT_S1, "s1").tolist() == []
        assert shard.row(PLACES[0])["country"] == "Austria"
        assert shard.row(PLACES[1])["country"] is None
        assert shard.row(PLACES[1])["labels"] == ["Arable land", "Pastures"]


def test_any_dates_and_bands_are_those_of_the_whole(exact, cubes):
    cube = cubes[1]
    with open_cubes(exact) as shard:
        part = shard.read(cube.place_id, "s2_20m", [3, 0, 3], ["B11", "B05"])
        assert np.array_equal(part, cube.groups["s2_20m"][[3, 0, 3]][:, [4, 0]])
        found = shard.read_bands(cube.place_id, ["B09", "B04", "B12", "B02"], slice(1, 3))
        assert {band: pixels.shape[2] for band, pixels in found.items()} == {"B09": 20, "B04": 120, "B12": 60, "B02": 120}
        assert list(found) == ["B09", "B04", "B12", "B02"]
        assert np.array_equal(found["B02"], cube.groups["s2_10m"][1:3, 0])
        assert np.array_equal(found["B12"], cube.groups["s2_20m"][1:3, 5])


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda shard: shard.read("33UUP_99_99", "s1"), "no key 33UUP_99_99/s1"),
        (lambda shard: shard.cube("33UUP_99_99"), "no place 33UUP_99_99"),
        (lambda shard: shard.read(PLACES[0], "s3"), "no group s3; it has s2_10m"),
        (lambda shard: shard.read(WITHOUT_S1, "s1"), f"no key {WITHOUT_S1}/s1"),
        (lambda shard: shard.read(PLACES[0], "s2_10m", [4]), "no frame 4; it has 4"),
        (lambda shard: shard.read(PLACES[0], "s2_10m", None, ["B11"]), "no band B11"),
        (lambda shard: shard.read_bands(PLACES[0], ["B10"]), "no band B10"),
    ],
)
def test_what_is_not_there_is_named(exact, ask, said):
    with open_cubes(exact) as shard, pytest.raises(ShardError, match=said):
        ask(shard)


# --- what the manifest says ------------------------------------------------------------------------------------


def test_statistics_are_those_of_what_a_reader_gets(lossy):
    manifest = read_manifest(lossy)
    assert manifest.statistics_over == "train split"
    with open_cubes(lossy) as shard:
        train = [place for place in PLACES if shard.row(place)["split"] == "train"]
        for group in shard.groups.values():
            for number, band in enumerate(group.bands):
                values = np.concatenate(
                    [
                        shard.read(place, group.name)[:, number][shard.valid(place, group.name)].astype(np.float64)
                        for place in train
                        if shard.row(place)[f"{group.sensor}_frames"]
                    ]
                )
                found = next(each for each in manifest.bands if each.name == band.name).statistics
                assert found.count == values.size
                assert (found.min, found.max) == (values.min(), values.max())
                assert found.mean == pytest.approx(values.mean(), rel=1e-12)
                assert found.std == pytest.approx(values.std(), rel=1e-9)
                assert sum(found.histogram) == found.count


def test_errors_in_the_manifest_are_those_of_decoding(lossy, cubes):
    with open_cubes(lossy) as shard:
        for group in shard.manifest.video:
            errors, values = [], []
            for cube in cubes:
                if group.name in cube.groups:
                    here = np.broadcast_to(cube.valid[group.name][:, None], cube.groups[group.name].shape)
                    decoded = shard.read(cube.place_id, group.name)
                    errors.append((decoded.astype(np.float64) - cube.groups[group.name])[here])
                    values.append(decoded[here])
            error, value = np.concatenate(errors), np.concatenate(values)
            assert group.samples == error.size
            assert group.max_abs_error == np.abs(error).max() > 0
            assert group.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
            span = float(value.max()) - float(value.min())
            assert group.psnr_db == pytest.approx(20 * np.log10(span / np.sqrt((error**2).mean())), abs=0.02)
    assert [(group.settings["mode"], group.cubes, group.frames) for group in shard.manifest.video] == [("lossy", 4, 16)] * 3 + [
        ("maxerr", 3, 9)
    ]
    assert shard.manifest.video[3].max_abs_error <= 0.25


def test_shares_of_no_data_follow_from_validity(exact):
    with open_cubes(exact) as shard:
        table = shard.frames[shard.frames["place_id"] == PLACES[0]].set_index(["sensor", "frame"])["nodata_fraction"]
    assert table["s2", 0] == 0
    assert table["s2", 1] == pytest.approx((24 / 120) ** 2)
    assert table["s1", 0] == pytest.approx(1 / 4)


def test_usual_settings_follow_the_unit():
    found = usual_settings(BANDS, {"s2": {"mode": "lossy"}, "s1": {"mode": "lossy"}})
    assert (found["s2_60m"].step, found["s1"].step) == (100, 1)
    assert usual_settings(BANDS, {"s1": {"mode": "maxerr"}})["s1"].max_error == 0.1
    assert usual_settings(BANDS, {"s1": {"mode": "maxerr"}})["s2_10m"].mode == "lossless"


# --- crashes, failures, refusals -------------------------------------------------------------------------------


class Deadly(np.ndarray):
    """Pixels that end the process that unpacks them, as a codec that crashes does."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[int]]:
        return os._exit, (3,)


def test_a_crash_costs_one_place_and_the_rest_is_as_if_it_had_never_been(cubes, tmp_path):
    deadly = replace(cubes[1], groups=cubes[1].groups | {"s2_20m": cubes[1].groups["s2_20m"].view(Deadly)})
    manifest = written(tmp_path / "crashed", [cubes[0], deadly, cubes[3]], workers=2)
    rest = written(tmp_path / "rest", [cubes[0], cubes[3]])
    assert [item.key for item in manifest.left_out] == [PLACES[1]]
    assert "s2_20m: the process that coded this cube died" in manifest.left_out[0].reason
    assert (tmp_path / "crashed" / "data.mdb").read_bytes() == (tmp_path / "rest" / "data.mdb").read_bytes()
    assert manifest.keys == rest.keys == 10
    assert verify_shard(tmp_path / "crashed") == []
    with open_cubes(tmp_path / "crashed") as shard:
        assert list(shard.index["place_id"]) == [PLACES[0], PLACES[3]]
        assert set(shard.frames["place_id"]) == {PLACES[0], PLACES[3]}


def test_a_group_that_cannot_be_coded_costs_its_place(cubes, tmp_path):
    wild = cubes[0].groups["s1"].copy()
    wild[1, 0, 0, 0] = 1e7
    bad = replace(cubes[0], groups=cubes[0].groups | {"s1": wild})
    manifest = written(tmp_path / "made", [bad, cubes[1]], {"s1": {"mode": "lossy", "step": 1.0}})
    assert [item.key for item in manifest.left_out] == [PLACES[0]]
    assert "s1: a step of 1 is too fine" in manifest.left_out[0].reason
    with pytest.raises(ShardError, match="none of the 1 places could be coded; 33UUP_03_07: s1: a step"):
        written(tmp_path / "none", [bad], {"s1": {"mode": "lossy", "step": 1.0}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cubes, given: cubes.reverse(), "comes after 33UUP_10_10"),
        (lambda cubes, given: given.update(rows=given["rows"].iloc[1:]), "33UUP_03_07 has 3 frames of s1 in the table of frames and 0"),
        (lambda cubes, given: cubes.pop(), "4 rows speak of places and 3 cubes came"),
        (lambda cubes, given: given.update(rows=pd.concat([given["rows"], given["rows"][:1]])), "33UUP_03_07 has two rows"),
        (lambda cubes, given: given.update(frames=given["frames"].iloc[1:]), "are not numbered from 0"),
        (lambda cubes, given: given.update(frames=given["frames"][given["frames"]["sensor"] == "s2"]), "has 0 frames of s1 in the table"),
        (lambda cubes, given: given["frames"].__setitem__("time", given["frames"]["time"].to_numpy()[::-1]), "in the order of time"),
        (lambda cubes, given: given["settings"].pop("s2_60m"), "no video settings for s2_60m"),
        (lambda cubes, given: given["rows"].__setitem__("reference_map_key", None), "speaks of the reference map None; its cube has one"),
        (lambda cubes, given: cubes[0].valid.pop("s1"), "with validity for s2_10m, s2_20m, s2_60m; its row asks for"),
        (lambda cubes, given: cubes[0].groups.update(s1=cubes[0].groups["s1"][:2]), r"33UUP_03_07/s1 is float32 \(2, 2, 120, 120\)"),
        (lambda cubes, given: cubes[0].groups.update(s1=cubes[0].groups["s1"].astype(float)), r"is float64 .* expected float32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(cubes, tmp_path, change, said):
    rows, frames = tables(cubes)
    given = {"rows": rows, "frames": frames, "settings": usual_settings(BANDS, {})}
    own = [replace(cube, groups=dict(cube.groups), valid=dict(cube.valid)) for cube in cubes]
    change(own, given)
    with pytest.raises(ShardError, match=said):
        written_with = {"name": "series", "bands": BANDS, "labels": [], "unlabeled_codes": [], "recipe_sha256": "", "workers": 0}
        write_cubes(tmp_path, own, **(written_with | given))


def test_series_and_patches_are_not_taken_for_each_other(exact, tmp_path):
    with pytest.raises(ShardError, match="holds time series and no single patches; open it with rsdata.shards.open_cubes"):
        open_shard(exact)
    patches = packed(tmp_path / "patches", [(3, 7)])
    with pytest.raises(ShardError, match="is a lmdb shard of patches; open it with rsdata.shards.open_shard"):
        open_cubes(patches)
    with pytest.raises(ShardError, match="a video shard holds time series; `rsdata shards compress` makes one"):
        repack([patches], tmp_path / "made", format="video")


# --- verify ----------------------------------------------------------------------------------------------------


def test_a_shard_is_as_its_manifest_says(exact, lossy):
    seen: list[int] = []
    assert verify_shard(exact, seen.append) == []
    assert sum(seen) == len(PLACES)
    assert verify_shard(lossy) == []


def test_a_flipped_byte_is_found_with_its_key(exact, tmp_path):
    folder = Path(shutil.copytree(exact, tmp_path / "damaged"))
    with open_cubes(folder) as shard:
        blob = shard.read_bytes(f"{PLACES[1]}/s2_10m")
    data = bytearray((folder / "data.mdb").read_bytes())
    at = data.index(blob[:64])
    data[at + len(blob) - 40] ^= 255
    (folder / "data.mdb").write_bytes(data)
    found = verify_shard(folder)
    assert len(found) == 2
    assert "data.mdb has" in found[0]
    assert f"{PLACES[1]}/s2_10m: packets at byte" in found[1]
    with open_cubes(folder) as shard:
        assert shard.read(PLACES[0], "s2_10m").shape == (4, 4, 120, 120)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keys": 20}, "the database has 19 keys; the manifest says 20"),
        ({"counts": {"train": 2}}, "the index lists 3 places of train; the manifest says 2"),
        ({"video": "frames"}, "s2_10m has 4 cubes, 16 frames and"),
    ],
)
def test_a_manifest_that_lies_is_found(exact, tmp_path, change, said):
    folder = Path(shutil.copytree(exact, tmp_path / "lies"))
    manifest = read_manifest(folder)
    if change.get("video"):
        change = {"video": [manifest.video[0].model_copy(update={"frames": 17}), *manifest.video[1:]]}
    write_manifest(folder / "manifest.json", manifest.model_copy(update=change))
    assert [each for each in verify_shard(folder) if said in each]


def test_a_missing_file_or_table_is_found(exact, tmp_path):
    folder = Path(shutil.copytree(exact, tmp_path / "short"))
    (folder / "frames.parquet").unlink()
    assert verify_shard(folder) == ["frames.parquet is missing; the shard is incomplete"]


def test_dates_that_were_changed_are_found(exact, tmp_path):
    folder = Path(shutil.copytree(exact, tmp_path / "dates"))
    table = pd.read_parquet(folder / "frames.parquet")
    table.iloc[1:].to_parquet(folder / "frames.parquet")
    found = verify_shard(folder)
    assert f"{PLACES[0]} has 2 dates of s1; its row says 3" in found


# --- shards of shards ------------------------------------------------------------------------------------------


def test_two_halves_merged_are_the_whole(exact, tmp_path):
    halves = []
    for name, part in (("a", [0, 3]), ("b", [1, 2])):
        (tmp_path / f"{name}-out").mkdir()
        halves.append(tmp_path / f"{name}-out")
        repack_cubes([exact], halves[-1], keep=[PLACES[at] for at in part])
        assert verify_shard(halves[-1]) == []
    (tmp_path / "whole").mkdir()
    merged, first = repack_cubes(halves, tmp_path / "whole"), read_manifest(exact)
    assert merged.files == first.files
    assert merged.bands == first.bands
    assert merged.video == first.video
    assert verify_shard(tmp_path / "whole") == []


def test_shards_that_do_not_go_together_are_refused(exact, lossy, tmp_path):
    with pytest.raises(ShardError, match="coded with different settings"):
        repack_cubes([exact, lossy], tmp_path / "a")
    with pytest.raises(ShardError, match=f"{PLACES[0]} lies in two of the shards"):
        repack_cubes([exact, exact], tmp_path / "b")
    with pytest.raises(ShardError, match="1 of the places to keep are in no shard, 33UUP_99_99 first"):
        repack_cubes([exact], tmp_path / "c", keep=["33UUP_99_99"])


# --- out of patches --------------------------------------------------------------------------------------------

DATES = ["20170613T101031", "20170802T101031", "20170603T101031"]
TWINS = {DATES[0]: "20170613T165043", DATES[1]: "20170801T165045", DATES[2]: "20170613T165043"}


def patch_id(date: str, row: int) -> str:
    return f"S2A_MSIL2A_{date}_N9999_R022_T33UUP_26_{row}"


def twin_id(date: str, row: int) -> str:
    return f"S1A_IW_GRDH_1SDV_{TWINS[date]}_33UUP_26_{row}"


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three places: one with three dates, one with two of which one is in another split, one with a single date."""
    folder = tmp_path_factory.mktemp("patches") / "lmdb"
    rng = np.random.default_rng(5)
    values, table = {}, []
    for row, dates in ((50, DATES), (51, DATES[:2]), (52, DATES[:1])):
        for number, date in enumerate(dates):
            values[patch_id(date, row)] = {
                band.name: rng.integers(900, 1000, (band.pixels(1200),) * 2, np.uint16) for band in SENTINEL2.bands
            }
            values[patch_id(date, row)]["B02"][:3] = 0
            values[twin_id(date, row)] = {name: np.full((120, 120), -10.5 - int(TWINS[date][5]), np.float32) for name in ("VH", "VV")}
            values[reference_map_id(patch_id(date, row))] = {"Data": np.full((120, 120), 211, np.uint16)}
            split = "test" if row == 51 and number else "train"
            table.append((patch_id(date, row), split, ["Pastures"] if number else ["Arable land"], twin_id(date, row)))
    part = folder.with_name("part")
    write_part(part, values)
    frame = pd.DataFrame(table, columns=["patch_id", "split", "labels", "s1"])
    folder.mkdir()
    pack(
        folder,
        [part],
        name="patches",
        index=index_rows(frame.drop(columns="s1"), frame["s1"]),
        sensors=[SENTINEL2, SENTINEL1, REFERENCE_MAP],
        offsets={band: [-1000.0] for band in SENTINEL2.band_names},
        quantification=10_000,
        labels=load_nomenclature("bigearthnet-19").classes,
        unlabeled_codes=[999],
        recipe_sha256="1" * 64,
    )
    return folder


def test_patches_of_one_place_become_its_series(patches, tmp_path):
    manifest, failed = steps.compress_patches(patches, tmp_path / "video", {}, workers=0)
    assert failed == []
    assert [(item.key, item.reason) for item in manifest.left_out] == [("33UUP_26_51", "its dates lie in test, train")]
    assert verify_shard(tmp_path / "video") == []
    with open_shard(patches) as source, open_cubes(tmp_path / "video") as shard:
        days = shard.times("33UUP_26_50").astype("datetime64[D]").astype(str)
        assert days.tolist() == ["2017-06-03", "2017-06-13", "2017-08-02"]
        assert shard.times("33UUP_26_50", "s1").astype(str).tolist() == ["2017-06-13T16:50:43.000000", "2017-08-01T16:50:45.000000"]
        found = shard.read_bands("33UUP_26_50", ["B02", "B11", "B09"])
        for frame, date in enumerate(sorted(DATES)):
            stored = source.read(patch_id(date, 50))
            assert all(np.array_equal(found[band][frame], stored[band]) for band in found)
        assert not shard.valid("33UUP_26_50", "s2_10m")[:, :3].any()
        assert shard.valid("33UUP_26_50", "s2_10m")[:, 3:].all()
        assert shard.row("33UUP_26_50")["labels"] == ["Arable land", "Pastures"]
        corner = shard.row("33UUP_26_50")[["ul_x_m", "ul_y_m"]].tolist()
        assert corner == [300_000 + 26 * 1_200, 5_400_000 - 50 * 1_200]  # the tile's corner is 300000, 5400000
        assert (shard.reference_map("33UUP_26_50") == 211).all()


def test_places_with_too_few_dates_are_left_out_with_the_reason(patches, tmp_path):
    manifest, _ = steps.compress_patches(patches, tmp_path / "video", {}, min_frames=2, workers=0)
    assert {item.key: item.reason for item in manifest.left_out}["33UUP_26_52"] == "it has 1 dates, fewer than 2"
    with pytest.raises(ShardError, match="no place of .* makes a time series; 33UUP_26_50 first: it has 3 dates, fewer than 4"):
        steps.compress_patches(patches, tmp_path / "none", {}, min_frames=4)
    assert not (tmp_path / "none").exists()


def test_the_command_line_makes_shows_checks_and_divides_a_video_shard(patches, tmp_path):
    def run(*words: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["shards", *map(str, words)])
        assert result.exit_code == code, result.output
        return result.output

    made = tmp_path / "video"
    text = run("compress", patches, "--out", made, "--mode", "maxerr", "--max-error", 5, "--workers", 1)
    assert "its dates lie in test, train" in text
    text = run("info", made)
    assert "video" in text and "s2_60m" in text and "maxerr" in text
    assert "All is well" in run("verify", made)
    run("subset", made, "--split", "train", "--out", tmp_path / "part")
    run("merge", tmp_path / "part", "--out", tmp_path / "merged")
    assert read_manifest(tmp_path / "merged").files == read_manifest(made).files
    result = CliRunner().invoke(app, ["shards", "convert", str(made), "--format", "zarr", "--out", str(tmp_path / "zarr")])
    assert isinstance(result.exception, ShardError)
    assert "neither another format nor another compression" in str(result.exception)
    assert not (tmp_path / "zarr").exists()


def test_stills_have_no_export_for_players(exact, tmp_path):
    with open_cubes(exact) as shard:
        blob = shard.read_bytes(f"{PLACES[0]}/s2_60m")
    with pytest.raises(ShardError, match="JPEG XL stills and no video, so there is nothing a player could show; code it with mode lossy"):
        export_mkv(Clip(blob), blob, tmp_path / "cube.mkv")
    assert not (tmp_path / "cube.mkv").exists()


def test_a_clip_of_which_some_bands_are_stills_is_not_exported_in_part(tmp_path):
    rng = np.random.default_rng(1)
    cube = np.concatenate([rng.integers(500, 600, (3, 1, 32, 32)), rng.integers(0, 65_000, (3, 1, 32, 32))], axis=1).astype(np.uint16)
    blob = encode(cube, VideoSettings("lossy", step=5.0, group_bands=1), ["calm", "wild"])
    assert [group.codec for group in Clip(blob).header.groups] == ["hevc", "jxl"]
    with pytest.raises(ShardError, match="wild of this clip are JPEG XL stills, which .mkv cannot hold"):
        export_mkv(Clip(blob), blob, tmp_path / "cube.mkv")
    assert not (tmp_path / "cube.mkv").exists()
