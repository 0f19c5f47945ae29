"""Every defect of xarrayvideo that was found, under its name: none of them is here."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("imagecodecs")

from rsdata.shards.video import Clip, VideoSettings, encode

MODES = [VideoSettings(), VideoSettings("maxerr", max_error=10), VideoSettings("lossy", step=40.0)]
every_mode = pytest.mark.parametrize("settings", MODES, ids=lambda settings: settings.mode)


def bands(count: int, frames: int = 5, side: int = 32) -> np.ndarray:
    """Bands that can be told apart: each lies 700 counts above the one before."""
    rng = np.random.default_rng(1)
    ground = np.cumsum(rng.normal(0, 10, (side, side)), axis=0)
    return np.rint(2000 + 700 * np.arange(count)[:, None, None] + ground + rng.normal(0, 8, (frames, count, side, side))).astype(np.uint16)


@every_mode
def test_silent_band_scrambling(settings):
    """Nine bands in three files came back permuted when the folder listed them in another order."""
    cube, names = bands(9), ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12"]
    clip = Clip(encode(cube, settings, names))
    for at, name in enumerate(names):
        assert np.abs(clip.read(bands=[name])[:, 0].astype(int) - cube[:, at]).max() < 350


@every_mode
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integer_cubes_cannot_be_read_under_numpy_2(settings, dtype):
    cube = (bands(2) // 20).astype(dtype)
    decoded = Clip(encode(cube, settings)).read()
    assert int(np.__version__.split(".")[0]) >= 2
    assert np.abs(decoded.astype(int) - cube).max() < 100


@pytest.mark.parametrize("count", [1, 2, 4, 5, 13])
def test_pca_with_a_band_count_not_divisible_by_three_crashes_on_read(count):
    cube = bands(count)
    decoded = Clip(encode(cube, VideoSettings("lossy", step=40.0, transform="klt"))).read()
    assert np.sqrt(((decoded.astype(float) - cube) ** 2).mean()) < 20


@every_mode
def test_four_dimensional_variables_cannot_be_read_back(settings):
    cube = bands(4)
    assert Clip(encode(cube, settings)).read().shape == cube.shape == (5, 4, 32, 32)


def test_no_16_bit_lossless_path():
    cube = np.random.default_rng(0).integers(0, 65_536, (4, 3, 31, 33)).astype(np.uint16)
    assert np.array_equal(Clip(encode(cube, VideoSettings())).read(), cube)


def test_lossless_is_not_lossless_because_of_a_colour_conversion():
    """Planes are never converted: one band and three bands of the same counts come back exactly."""
    cube = bands(3)
    assert np.array_equal(Clip(encode(cube, VideoSettings())).read(), cube)
    # And at the video encoder's finest quantiser no more is lost than that quantiser explains: 12 dB are 2 bits.
    clip = Clip(encode(cube, VideoSettings("lossy", step=10.0, transform="none")))
    assert clip.header.measured.rmse < 10 / np.sqrt(12) * 1.5


@every_mode
def test_every_nan_is_lost(settings):
    cube = (bands(3) / 1000).astype(np.float32)
    cube[1, :, 4:9] = np.nan
    cube[2, 0, 0, 0] = np.nan
    fine = (
        settings
        if settings.mode == "lossless"
        else VideoSettings(settings.mode, **{"max_error": 0.01} if settings.max_error else {"step": 0.1})
    )
    decoded = Clip(encode(cube, fine)).read()
    assert np.array_equal(np.isnan(decoded), np.isnan(cube))
    assert np.nanmax(np.abs(decoded - cube)) < 0.3


@every_mode
def test_all_zero_float_frames_are_taken_for_nan(settings):
    cube = np.zeros((3, 2, 20, 20), np.float32)
    cube[0] = 1.5
    decoded = Clip(encode(cube, settings)).read()
    assert not np.isnan(decoded).any()
    assert np.abs(decoded - cube).max() <= (0 if settings.mode == "lossless" else 1.5)


@every_mode
def test_a_no_data_sentinel_no_longer_comes_back(settings):
    cube = bands(3).astype(np.int16)
    cube[:, :, 10:20, 3:8] = -1
    nodata = VideoSettings(settings.mode, max_error=settings.max_error, step=settings.step, nodata=-1)
    assert np.array_equal(Clip(encode(cube, nodata)).read() == -1, cube == -1)


@every_mode
def test_integers_come_back_as_floats(settings):
    assert Clip(encode(bands(2), settings)).read().dtype == np.uint16


def test_files_are_mostly_overhead():
    """3.65 kB a file there, of which 64 % at a low rate. Here the head of four bands, index, transform and all."""
    clip = Clip(encode(bands(4), VideoSettings("lossy", step=200.0)))
    assert clip.head.size < 600


def test_compression_of_the_same_codec_is_called_lossy_whatever_it_is():
    assert [Clip(encode(bands(2), settings)).header.mode for settings in MODES] == ["lossless", "maxerr", "lossy"]


@every_mode
def test_cannot_decode_one_frame_or_band_group(settings):
    cube = bands(6, frames=24, side=64)
    clip = Clip(encode(cube, replace(settings, keyint=6)))
    whole = clip.read()
    tracemalloc.start()
    frame = clip.read([20], ["0"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(frame, whole[20:21, :1])
    assert peak < whole.nbytes / 2


def test_the_error_cannot_be_bounded():
    for bound in (1, 10, 100):
        cube = bands(3)
        assert np.abs(Clip(encode(cube, VideoSettings("maxerr", max_error=bound))).read().astype(int) - cube).max() <= bound


def test_a_second_file_is_needed_to_read():
    blob = encode(bands(2), MODES[2], ["VV", "VH"])
    assert Clip(bytes(blob)).bands == ["VV", "VH"]  # the blob alone says it


def test_one_variable_is_coded_with_what_the_one_before_asked_for():
    first = encode(bands(2), MODES[2])
    encode(bands(3), MODES[1])
    assert encode(bands(2), MODES[2]) == first
