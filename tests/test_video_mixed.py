"""Dates coded as mixtures: taken where nothing moves but noise, and read back by the rule of docs/video.md."""

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

pytest.importorskip("av")
pytest.importorskip("imagecodecs")

from rsdata.commands import app
from rsdata.errors import ShardError
from rsdata.recipe import Series
from rsdata.shards.video import Clip, VideoSettings, encode, temporal, transform
from rsdata.shards.video.container import write
from rsdata.shards.video.export import export_mkv
from rsdata.steps.series import video_settings_of


def still_life(frames: int = 24, bands: int = 4, side: int = 48, contrast: float = 200, noise: float = 20) -> np.ndarray:
    """One rough ground per band on all dates under fresh noise."""
    rng = np.random.default_rng(3)
    cube = 9000 + rng.normal(0, contrast, (bands, side, side)) + rng.normal(0, noise, (frames, bands, side, side))
    return np.clip(np.rint(cube), 1, 20_000).astype(np.uint16)


def mixed(blob: bytes) -> bool:
    return Clip(blob).header.groups[0].mixed


def test_dates_under_fresh_noise_are_mixed_which_takes_half_the_bytes():
    cube = still_life()
    blob, plain = (encode(cube, VideoSettings("lossy", step=60.0, mix_dates=choice)) for choice in (True, False))
    assert mixed(blob)
    assert not mixed(plain)
    assert len(blob) < 0.5 * len(plain)
    assert Clip(blob).header.measured.rmse < 1.05 * Clip(plain).header.measured.rmse


def test_dates_that_have_nothing_in_common_are_not_mixed():
    rng = np.random.default_rng(0)
    grounds = np.cumsum(np.cumsum(rng.normal(0, 8, (6, 3, 40, 40)), axis=-1), axis=-2)
    assert not mixed(encode(np.rint(4000 + grounds).astype(np.uint16), VideoSettings("lossy", step=60.0)))


@pytest.mark.parametrize(("contrast", "has_still"), [(200, False), (2500, True)])
def test_a_part_of_mixed_dates_equals_the_same_part_of_the_whole(contrast, has_still):
    cube = still_life(frames=22, contrast=contrast)
    cube[3, :, 5:9, 5:9] = 0
    clip = Clip(encode(cube, VideoSettings("lossy", step=20.0, keyint=11, nodata=0)))
    (group,) = clip.header.groups
    assert group.mixed
    assert all(bool(stream.lead) == has_still for stream in group.streams)
    whole = clip.read()
    assert np.array_equal(whole == 0, cube == 0)
    assert clip.header.measured.max_abs_error == np.abs(whole.astype(int) - cube).max()
    for frame in range(22):
        assert np.array_equal(clip.read([frame]), whole[[frame]])
    assert np.array_equal(clip.read([19, 2, 19], ["3", "0"]), whole[[19, 2, 19]][:, [3, 0]])


def test_mixtures_come_apart_by_whole_numbers():
    codes = np.random.default_rng(1).integers(0, 65_536, (24, 5, 7)).astype(np.uint16)
    weights = np.random.default_rng(2).integers(-16_384, 16_385, (3, 24)).astype(np.int16)
    seen = temporal.unmix(codes, weights, first=(20.0, -700.0), others=(2.5, -31.0))
    for row, plane in zip(weights.tolist(), seen, strict=True):
        others = sum(weight * code.astype(np.int64) for weight, code in zip(row[1:], codes[1:], strict=True))
        constant = (row[0] * -700.0 + sum(row[1:]) * -31.0) / 16_384
        true = others * (2.5 / 16_384) + (row[0] * codes[0].astype(np.int64)) * (20.0 / 16_384) + constant
        assert np.array_equal(plane, true.astype(np.float32))


def test_mixing_and_its_way_back_lose_hardly_a_count():
    components = still_life(frames=20, bands=2).astype(np.float32)
    weights = temporal.fit(components, 10, step=60.0)
    assert [each.shape for each in weights] == [(10, 10), (10, 10)]
    mixtures = temporal.mix(components, weights)
    for segment, own in enumerate(weights):
        back = np.einsum("ts,scyx->tcyx", own / temporal.SCALE, mixtures[segment * 10 : segment * 10 + 10].astype(np.float64))
        assert np.abs(back - components[segment * 10 : segment * 10 + 10]).max() < 5e-3


def test_a_still_where_none_belongs_is_refused():
    clip = Clip(encode(still_life(), VideoSettings("lossy", step=60.0, mix_dates=False)))
    (group,) = clip.header.groups
    streams = [stream.model_copy(update={"lead": [0.0] * stream.planes}) for stream in group.streams]
    header = clip.header.model_copy(update={"groups": [group.model_copy(update={"streams": streams})]})
    with pytest.raises(ShardError, match="a still before the video of a stream that has no place for it"):
        Clip(write(header, clip.head.tables, []))


@pytest.mark.parametrize(("words", "is_mixed"), [([], True), (["--no-mix-dates"], False)])
def test_the_command_line_mixes_dates_unless_it_is_told_not_to(words, is_mixed, tmp_path):
    pytest.importorskip("h5netcdf")
    source, target = tmp_path / "cube.nc", tmp_path / "cube.zarr"
    xr.Dataset({"ground": (("time", "band", "y", "x"), still_life())}).to_netcdf(source, engine="h5netcdf")
    given = ["--variable", "ground", "--mode", "lossy", "--step", "60", "--workers", "1", *words]
    run = CliRunner().invoke(app, ["shards", "compress", str(source), "--out", str(target), *given])
    assert run.exit_code == 0, run.output
    chunks = [path.read_bytes() for path in (target / "ground" / "c").rglob("*") if path.is_file()]
    assert [mixed(blob) for blob in chunks] == [is_mixed]


def test_a_recipe_may_forbid_to_mix_the_dates_of_one_sensor():
    part = Series.model_validate({"video": {"s2": {"mode": "lossy", "mix_dates": False}, "s1": {"mode": "lossy"}}})
    found = {name: settings.mix_dates for name, settings in video_settings_of(part).items()}
    assert found == {"s2_10m": False, "s2_20m": False, "s2_60m": False, "s1": True}


@pytest.mark.parametrize(("rows", "columns"), [(1, 70_000), (5, 40_001), (24, 5_000)])
def test_products_some_columns_at_a_time_are_those_of_all_at_once(rows, columns):
    rng = np.random.default_rng(4)
    left, right = rng.normal(0, 30, (2, rows, columns))
    assert np.allclose(transform.inner(left, right), np.einsum("ik,jk->ij", left, right), rtol=0, atol=1e-6)
    matrix, mean, out = rng.normal(0, 1, (3, rows)), rng.normal(0, 9, (rows, 1)), np.full((3, columns), np.nan)
    transform.product(matrix, right, out, less=mean)
    assert np.allclose(out, np.einsum("ij,jk->ik", matrix, right - mean), rtol=0, atol=1e-9)


def test_mixtures_are_not_exported_as_if_they_were_dates(tmp_path):
    blob = encode(still_life(), VideoSettings("lossy", step=60.0))
    with pytest.raises(ShardError, match="mixtures of dates"):
        export_mkv(Clip(blob), blob, tmp_path / "clip.mkv")
    assert not list(tmp_path.iterdir())
