"""Video chunks in Zarr, datasets compressed by a step, and workers that may crash."""

import ctypes
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner

pytest.importorskip("av")
pytest.importorskip("imagecodecs")
pytest.importorskip("h5netcdf")

from rsdata import steps
from rsdata.commands import app
from rsdata.errors import ShardError
from rsdata.shards.video import Clip, VideoSettings, encode, hevc, quality
from rsdata.shards.video.isolation import run_isolated
from rsdata.shards.video.zarr_codec import NAME, VideoCodec


def cube(frames: int = 12, bands: int = 4, side: int = 24) -> np.ndarray:
    rng = np.random.default_rng(5)
    ground = np.cumsum(rng.normal(0, 20, (side, side + 2)), axis=1) + 3000
    return np.rint(ground * np.linspace(0.7, 1.2, bands)[:, None, None] + rng.normal(0, 10, (frames, bands, side, side + 2))).astype(
        np.uint16
    )


def store(path: Path, values: np.ndarray, settings: VideoSettings, **given: object) -> zarr.Array:
    array = zarr.create_array(
        path,
        shape=values.shape,
        dtype=values.dtype,
        serializer=VideoCodec(settings),
        filters=None,
        compressors=None,
        **{"chunks": values.shape, **given},
    )
    array[:] = values
    return zarr.open_array(path, mode="r")


@pytest.mark.parametrize("settings", [VideoSettings(), VideoSettings("lossy", step=50.0, keyint=4)], ids=lambda settings: settings.mode)
@pytest.mark.parametrize("sharded", [False, True])
def test_any_selection_equals_that_of_the_whole(settings, sharded, tmp_path):
    values = np.stack([cube(), cube()[::-1]])
    layout = {"chunks": (1, 12, 4, 24, 26)} | ({"shards": (2, 12, 4, 24, 26)} if sharded else {})
    array = store(tmp_path / "a.zarr", values, settings, **layout)
    whole = array[:]
    assert np.abs(whole.astype(int) - values).max() <= (0 if settings.mode == "lossless" else 200)
    assert np.array_equal(array[0, 3], whole[0, 3])
    assert np.array_equal(array[1, 2:11:3, 1:3, 5:9, ::2], whole[1, 2:11:3, 1:3, 5:9, ::2])
    assert np.array_equal(array.oindex[[0, 1], [7, 3], [2]], whole[np.ix_([0, 1], [7, 3], [2])])
    assert np.array_equal(array.vindex[[0, 1], [3, 7], [2, 0], [1, 1], [4, 4]], whole[[0, 1], [3, 7], [2, 0], [1, 1], [4, 4]])
    assert array[1, 11, 3, 23, 25] == whole[1, 11, 3, 23, 25]


def test_a_cube_without_bands_and_chunks_at_the_edge_come_back(tmp_path):
    values = cube()[:, 0]
    assert np.array_equal(store(tmp_path / "a.zarr", values, VideoSettings(), chunks=(5, 16, 20))[:], values)


def test_one_date_is_decoded_from_its_own_packets_alone(tmp_path, monkeypatch):
    array = store(tmp_path / "a.zarr", cube(), VideoSettings("lossy", step=50.0, keyint=4))
    whole = array[:]
    fed: list[int] = []
    real = hevc.decode
    monkeypatch.setattr(hevc, "decode", lambda sets, packets, *rest: (fed.append(len(packets)), real(sets, packets, *rest))[1])
    assert np.array_equal(array[6], whole[6])
    assert fed == [4, 4]  # one segment of four frames, in two streams; the cube has three


def test_only_the_bytes_that_a_date_needs_are_fetched(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 9999, (12, 3, 64, 64)).astype(np.uint16)
    array = store(tmp_path / "a.zarr", values, VideoSettings(keyint=1))
    size = (tmp_path / "a.zarr" / "c" / "0" / "0" / "0" / "0").stat().st_size
    read: list[int] = []
    real = zarr.storage.LocalStore.get

    async def get(self, key, prototype, byte_range=None):
        found = await real(self, key, prototype, byte_range)
        read.append(0 if found is None else len(found))
        return found

    monkeypatch.setattr(zarr.storage.LocalStore, "get", get)
    assert np.array_equal(array[7], values[7])
    assert sum(read) < 0.2 * size


def test_the_codec_is_found_by_its_registered_name(tmp_path):
    store(tmp_path / "a.zarr", cube(), VideoSettings("maxerr", max_error=3, nodata=0))
    codec = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["codecs"][0]
    assert codec == {"name": NAME, "configuration": {"mode": "maxerr", "max_error": 3, "nodata": 0}}
    assert zarr.registry.get_codec_class(NAME) is VideoCodec
    with pytest.raises(ShardError, match="knows no colour"):
        VideoCodec.from_dict({"name": NAME, "configuration": {"colour": "red"}})


def test_a_damaged_chunk_ends_in_one_sentence(tmp_path):
    array = store(tmp_path / "a.zarr", cube(), VideoSettings())
    chunk = tmp_path / "a.zarr" / "c" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-40])
    with pytest.raises(ShardError, match=r"cut short|ends at byte"):
        array[:]


# --- workers ----------------------------------------------------------------------------------------------


def crash_on_two(number: int) -> int:
    if number == 2:
        ctypes.string_at(0)
    if number == 3:
        raise ShardError("cube three cannot be coded")
    return number * 10


def test_a_crash_of_a_codec_costs_one_cube_and_is_reported():
    found = dict(run_isolated(crash_on_two, ((number, (number,)) for number in range(6)), workers=2))
    assert {number: found[number] for number in (0, 1, 4, 5)} == {0: 0, 1: 10, 4: 40, 5: 50}
    assert "codec crashed" in str(found[2]) and isinstance(found[2], ShardError)
    assert str(found[3]) == "cube three cannot be coded"


def sleep_forever() -> None:
    import time

    time.sleep(600)


def test_a_cube_that_takes_too_long_is_ended():
    ((_, result),) = run_isolated(sleep_forever, [("a", ())], timeout_s=3.0)
    assert "took more than 3 s" in str(result)


# --- whole datasets ---------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    values = cube()
    values[:, :, :5, :5] = 0
    grid = {
        "t": np.arange("2023-01-01", "2023-01-13", dtype="datetime64[D]").astype("datetime64[ns]"),
        "y": np.arange(24.0),
        "x": np.arange(26.0),
    }
    bands = {f"S2-L2A-{name}": (("t", "y", "x"), values[:, at]) for at, name in enumerate(("B02", "B03", "B04", "B08"))}
    classes = {"S2-L2A-SCL": (("t", "y", "x"), (values[:, 0] % 12).astype(np.uint8))}
    data = xr.Dataset(bands | classes | {"cloud": ("t", np.linspace(0, 1, 12))}, coords=grid, attrs={"title": "made"})
    data.to_netcdf(tmp_path / "source.nc", engine="h5netcdf")
    return tmp_path / "source.nc"


def test_a_compressed_dataset_opens_with_plain_xarray(source, tmp_path):
    target = tmp_path / "out.zarr"
    settings = VideoSettings("maxerr", max_error=5, nodata=0)
    cubes = steps.compress_cubes(source, target, settings, tile_px=16, workers=1)
    assert [(each.name, each.mode, each.bands) for each in cubes] == [("S2-L2A-SCL", "lossless", 1), ("S2-L2A", "maxerr", 4)]
    with xr.open_dataset(source) as true, xr.open_zarr(target) as found:
        assert found.attrs["title"] == "made"
        assert np.array_equal(found["S2-L2A-SCL"], true["S2-L2A-SCL"])  # classes are never coded with loss
        assert np.array_equal(found["cloud"], true["cloud"]) and np.array_equal(found["t"], true["t"])
        for name in ("B02", "B03", "B04", "B08"):
            decoded = found["S2-L2A"].sel(band=name).fillna(0).values.astype(int)
            assert np.abs(decoded - true[f"S2-L2A-{name}"].values).max() == 5
            assert np.array_equal(decoded == 0, true[f"S2-L2A-{name}"] == 0)
    (classes, bands) = steps.measure_cubes(source, target, nodata=0)
    assert (classes.quality.max_abs_error, bands.quality.max_abs_error) == (0, 5)
    with pytest.raises(ShardError, match="there already"):
        steps.compress_cubes(source, target, settings)


def test_a_store_that_was_not_finished_does_not_get_its_name(source, tmp_path):
    with pytest.raises(ShardError, match="3 of 3 cubes could not be coded|1 of 2 cubes could not be coded"):
        steps.compress_cubes(source, tmp_path / "out.zarr", VideoSettings("lossy", step=0.001, nodata=0), workers=1)
    assert not (tmp_path / "out.zarr").exists()


def test_quality_is_counted_as_by_hand():
    true = np.full((1, 2, 16, 16), 100, np.uint16)
    true[0, 1] = 200
    true[0, 0, 0, 0] = 0  # no data
    decoded = true.copy()
    decoded[0, 1] += 3
    found = quality.measure(true, decoded, ["a", "b"], 64, nodata=0, span=1000)
    assert found.bpppb == 64 * 8 / 512 == 1.0
    assert found.ratio == 16.0
    assert found.rmse == pytest.approx(np.sqrt(9 * 256 / 511))
    assert found.psnr_db == pytest.approx(20 * np.log10(1000 / found.rmse))
    assert [(band.psnr_db, band.max_abs_error) for band in found.bands] == [(None, 0), (pytest.approx(20 * np.log10(1000 / 3)), 3)]
    angle = np.arccos((100 * 100 + 200 * 203) / np.hypot(100, 200) / np.hypot(100, 203))
    assert found.spectral_angle_rad == pytest.approx(angle)
    assert found.bands[0].ssim is None and found.bands[1].ssim == pytest.approx(1, abs=0.01)


def test_the_command_line_compresses_and_reports(source, tmp_path):
    run = CliRunner().invoke(
        app,
        [
            "shards",
            "compress",
            str(source),
            "--out",
            str(tmp_path / "o.zarr"),
            "--mode",
            "lossy",
            "--step",
            "50",
            "--nodata",
            "0",
            "--json",
        ],
    )
    assert run.exit_code == 0, run.output
    (_, bands) = json.loads(run.stdout[run.stdout.index("[") : run.stdout.rindex("]") + 1])
    assert bands["written_bytes"] < bands["raw_bytes"] / 3
    folder = tmp_path / "report"
    run = CliRunner().invoke(
        app, ["shards", "quality", str(source), "--step", "50", "--max-error", "10", "--nodata", "0", "--out", str(folder)]
    )
    assert run.exit_code == 0, run.output
    points = json.loads((folder / "quality.json").read_text())
    assert [point["settings"] for point in points] == ["step 50", "max error 10", "lossless"]
    assert [point["quality"]["max_abs_error"] for point in points][1:] == [10, 0]
    assert points[0]["quality"]["bpppb"] < points[1]["quality"]["bpppb"] < points[2]["quality"]["bpppb"]
    assert (folder / "quality.png").read_bytes().startswith(b"\x89PNG")
    run = CliRunner().invoke(app, ["shards", "quality", str(source), "--against", str(tmp_path / "o.zarr"), "--nodata", "0", "--json"])
    assert run.exit_code == 0, run.output


def test_a_file_that_holds_no_series_is_refused(tmp_path):
    xr.Dataset({"a": ("x", np.arange(3))}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(ShardError, match="holds no series of images"):
        steps.compress_cubes(tmp_path / "a.nc", tmp_path / "b.zarr", VideoSettings())
    (tmp_path / "c.nc").write_bytes(b"nothing")
    with pytest.raises(ShardError, match="no NetCDF file"):
        steps.compress_cubes(tmp_path / "c.nc", tmp_path / "b.zarr", VideoSettings())


def test_real_series_come_back_within_their_bound(shared_data, tmp_path):
    source = shared_data / "timeseries" / "gfmap_belgium_s2_l2a_19x52x46_10m.nc"
    steps.compress_cubes(source, tmp_path / "o.zarr", VideoSettings("maxerr", max_error=10), workers=1)
    points = {point.name: point.quality for point in steps.measure_cubes(source, tmp_path / "o.zarr")}
    assert points["S2-L2A"].max_abs_error == 10
    assert points["S2-L2A"].bpppb < 4.0
    assert points["S2-L2A-SCL"].max_abs_error == 0


def test_blobs_lie_in_lmdb_as_they_are(tmp_path):
    import lmdb

    blob = encode(cube(), VideoSettings("lossy", step=50.0))
    with lmdb.open(str(tmp_path / "db"), map_size=2**24) as database:
        with database.begin(write=True) as writing:
            writing.put(b"patch", blob)
        with database.begin(buffers=True) as reading:
            assert np.array_equal(Clip(bytes(reading.get(b"patch"))).read([3]), Clip(blob).read([3]))
