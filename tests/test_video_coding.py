"""Cubes as video: what each mode promises, held for every sample, and any part read alone."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("av")
pytest.importorskip("imagecodecs")

from rsdata.errors import ShardError
from rsdata.shards.video import Clip, VideoSettings, encode, hevc, transform
from rsdata.shards.video.choosing import encode_any


def scene(frames: int = 9, bands: int = 4, rows: int = 33, columns: int = 41, seed: int = 0) -> np.ndarray:
    """Smooth counts whose bands resemble each other, with noise and a bright corner that comes and goes."""
    rng = np.random.default_rng(seed)
    ground = np.cumsum(np.cumsum(rng.normal(0, 6, (rows, columns)), axis=0), axis=1)
    cube = 2500 + ground * np.linspace(0.5, 1.5, bands)[:, None, None] + 40 * np.arange(frames)[:, None, None, None]
    cube = cube + rng.normal(0, 12, (frames, bands, rows, columns))
    cube[::3, :, :8, :8] += 4000
    return np.clip(np.rint(cube), 1, 20_000).astype(np.uint16)


def roundtrip(cube: np.ndarray, **given: object) -> tuple[np.ndarray, Clip]:
    clip = Clip(encode(cube, VideoSettings(**given)))  # type: ignore[arg-type]
    return clip.read(), clip


def bounds_of(dtype: np.dtype) -> st.SearchStrategy:
    if dtype.kind == "f":
        return st.floats(width=32, allow_subnormal=True)
    info = np.iinfo(dtype)
    return st.integers(info.min, info.max)


@st.composite
def cubes(draw: st.DrawFn, dtypes: tuple[str, ...] = ("uint8", "uint16", "int16", "float32")) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(16, 35)), draw(st.integers(16, 35)))
    # A few drawn values spread over a drawn ground: constant frames, extremes and NaN all come up.
    cube = np.full(shape, draw(bounds_of(dtype)), dtype)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    style = draw(st.sampled_from(["constant", "noise", "spikes"]))
    if style == "noise":
        cube = (rng.normal(-12, 4, shape) if dtype.kind == "f" else rng.integers(np.iinfo(dtype).max, size=shape)).astype(dtype)
    values = draw(hnp.arrays(dtype, st.integers(1, 12), elements=bounds_of(dtype)))
    if style != "constant":
        cube.flat[rng.integers(cube.size, size=cube.size // 7)] = rng.choice(values, cube.size // 7)
    return cube


slow = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@slow
@given(cubes())
def test_lossless_gives_back_every_bit(cube):
    decoded, clip = roundtrip(cube)
    assert decoded.dtype == cube.dtype
    assert decoded.tobytes() == cube.tobytes()
    assert clip.header.measured.max_abs_error == 0


@slow
@given(cubes(), st.sampled_from([0.01, 0.5, 1, 2.5, 10, 1000]), st.sampled_from([None, 0]))
def test_no_sample_is_off_by_more_than_the_bound_and_no_data_stays_what_it_was(cube, bound, nodata):
    decoded, clip = roundtrip(cube, mode="maxerr", max_error=bound, nodata=nodata)
    gone = ~np.isfinite(cube) if cube.dtype.kind == "f" else np.zeros(cube.shape, bool)
    gone |= cube == nodata if nodata is not None else False
    assert np.array_equal(decoded[gone], cube[gone], equal_nan=cube.dtype.kind == "f")
    errors = np.abs(decoded[~gone].astype(np.float64) - cube[~gone])
    assert errors.max(initial=0) <= bound
    assert nodata is None or not (decoded[~gone] == nodata).any()
    assert clip.header.measured.max_abs_error == errors.max(initial=0)


@settings(parent=slow, max_examples=25)
@given(cubes(dtypes=("uint8", "uint16", "int16")), st.sampled_from([3.0, 100.0]))
def test_lossy_coding_of_anything_ends_in_a_cube_or_a_sentence(cube, step):
    try:
        decoded, clip = roundtrip(cube, mode="lossy", step=step, nodata=0)
    except ShardError as error:
        assert "step" in str(error)
    else:
        assert np.array_equal(decoded == 0, cube == 0)
        assert clip.header.measured.max_abs_error == np.abs(decoded.astype(int) - cube).max()


@pytest.mark.parametrize("bits", [0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001, 0x7F800000])
def test_lossless_keeps_the_very_bits_of_odd_floats(bits):
    cube = np.full((2, 1, 16, 16), np.array(bits, np.uint32).view(np.float32))
    assert roundtrip(cube)[0].view(np.uint32)[0, 0, 0, 0] == bits


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 13, 20])
@pytest.mark.parametrize("given", [{}, {"mode": "maxerr", "max_error": 3}, {"mode": "lossy", "step": 60.0}], ids=str)
def test_any_number_of_bands_comes_back_in_order(bands, given):
    cube = scene(3, bands, 20, 24) + (np.arange(bands, dtype=np.uint16) * 500)[:, None, None]
    decoded, _ = roundtrip(cube, **given)
    for band in range(bands):
        distance = [np.abs(decoded[:, band].astype(int) - cube[:, other]).mean() for other in range(bands)]
        assert int(np.argmin(distance)) == band


def test_a_cube_of_224_bands_and_one_of_1000_frames_can_be_coded():
    wide = scene(1, 224, 16, 16)
    assert np.array_equal(roundtrip(wide)[0], wide)
    assert roundtrip(wide, mode="lossy", step=50.0)[1].header.measured.max_abs_error < 500
    long = np.repeat(scene(1, 1, 16, 16), 1000, axis=0)
    assert np.array_equal(roundtrip(long)[0], long)
    assert len(encode(long, VideoSettings(mode="lossy", step=50.0))) * 8 < long.size


MODES = [
    {},
    {"mode": "maxerr", "max_error": 4},
    {"mode": "lossy", "step": 40.0, "keyint": 4},
    {"mode": "lossy", "step": 40.0, "transform": "none"},
]


@pytest.mark.parametrize("given", MODES, ids=str)
def test_a_part_read_alone_equals_the_same_part_of_the_whole(given):
    cube = scene(11, 5)
    cube[4:6, :, 3:9, 3:9] = 0
    names = ["B02", "B03", "B04", "B08", "B11"]
    clip = Clip(encode(cube, VideoSettings(nodata=0, **given), names))
    whole = clip.read()
    for frame in range(11):
        assert np.array_equal(clip.read([frame]), whole[frame : frame + 1])
    assert np.array_equal(clip.read(slice(3, 9)), whole[3:9])
    assert np.array_equal(clip.read([7, 0, 7]), whole[[7, 0, 7]])
    assert np.array_equal(clip.read(bands=["B11", "B03"]), whole[:, [4, 1]])
    assert np.array_equal(clip.read([5], ["B08"]), whole[5:6, 3:4])
    with pytest.raises(ShardError, match="no frame 11; it has 11"):
        clip.read([11])
    with pytest.raises(ShardError, match="no band B99; it has B02, B03"):
        clip.read(bands=["B99"])


def test_reading_one_frame_does_not_decode_the_other_segments(monkeypatch):
    cube = scene(12, 3)
    blob = encode(cube, VideoSettings(mode="lossy", step=60.0, keyint=4))
    fed = []
    real = hevc.decode
    monkeypatch.setattr(hevc, "decode", lambda sets, packets, *rest: real(sets, fed.extend(packets) or packets, *rest))
    Clip(blob).read([9])
    assert sorted(packet.frame for packet in fed) == [0, 1, 2, 3]  # of the third segment, and of no other


def test_one_step_means_the_same_error_in_every_band():
    cube = scene(8, 4, 64, 64)
    decoded, clip = roundtrip(cube, mode="lossy", step=30.0)
    errors = np.sqrt(((decoded.astype(float) - cube) ** 2).mean(axis=(0, 2, 3)))
    assert errors.max() < 1.5 * errors.min()
    assert errors.max() < 30.0  # a uniform quantiser of that step has 8.7; its dead zone and lost noise cost more
    assert clip.header.measured.rmse == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-3)


def test_a_finer_step_costs_more_and_errs_less():
    cube = scene(8, 4, 64, 64)
    sizes, errors = zip(
        *(
            (len(blob), Clip(blob).header.measured.rmse)
            for step in (10.0, 30.0, 90.0)
            for blob in [encode(cube, VideoSettings("lossy", step=step))]
        ),
        strict=True,
    )
    assert list(sizes) == sorted(sizes, reverse=True) and list(errors) == sorted(errors)


def test_the_same_cube_gives_the_same_bytes():
    cube = scene()
    for mode in MODES:
        assert encode(cube, VideoSettings(**mode)) == encode(cube.copy(), VideoSettings(**mode))


def test_the_transform_back_undoes_the_one_forward():
    cube = scene(4, 4).astype(np.float64)
    forward = transform.fit_forward(cube, np.ones(cube.shape, bool), 1e-6, klt=True)
    components = forward.apply(cube)
    matrix, bias = transform.fit_back(components, cube, np.ones(cube.shape, bool), forward)
    assert np.abs(transform.back(components, matrix, bias) - cube).max() < 0.02
    assert forward.matrix.T @ forward.matrix == pytest.approx(np.eye(4))
    changes = np.concatenate([np.moveaxis(np.diff(components, axis=axis), 1, 0).reshape(4, -1) for axis in (2, 3)], axis=1).astype(float)
    spread = (changes**2).mean(axis=1)
    assert (np.diff(spread) <= 0).all()  # the most active first
    assert changes @ changes.T / changes.shape[1] == pytest.approx(np.diag(spread), abs=1e-3 * spread[0])  # and none resembles another


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mode": "best"}, "no mode"),
        ({"mode": "lossy"}, "needs step"),
        ({"mode": "lossless", "step": 3.0}, "takes no figure"),
        ({"mode": "auto", "target_bpppb": 1.0, "target_psnr_db": 50.0}, "needs target_bpppb or target_psnr_db"),
        ({"mode": "lossy", "step": -1.0}, "must be a number above 0"),
        ({"mode": "lossy", "step": float("nan")}, "must be a number above 0"),
        ({"mode": "maxerr", "max_error": 0}, "must be a number above 0"),
        ({"keyint": 0}, "whole number from 1 to 250"),
        ({"preset": "placebo:qp=-1"}, "no preset"),
        ({"mode": "maxerr", "max_error": 1, "verify": "sample"}, "only lossless"),
    ],
)
def test_settings_are_refused_before_an_encoder_sees_them(given, said):
    with pytest.raises(ShardError, match=said):
        VideoSettings(**given)


@pytest.mark.parametrize(
    ("cube", "said"),
    [
        (np.zeros((2, 3, 16)), "four dimensions"),
        (np.zeros((1, 1, 15, 16), np.uint16), "15 rows"),
        (np.zeros((1, 1, 16, 16), np.int64), "samples are int64"),
        (np.zeros((0, 1, 16, 16), np.uint16), "0 frames"),
        (np.zeros((1, 225, 16, 16), np.uint8), "225 bands"),
        (np.broadcast_to(np.uint16(0), (1000, 224, 2000, 2000)), "larger than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_cubes_that_cannot_be_coded_are_refused(cube, said):
    with pytest.raises(ShardError, match=said):
        encode(cube, VideoSettings())


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", -1), ("uint8", 0.5), ("int16", 65_535), ("float32", 1e39)])
def test_a_no_data_value_that_the_samples_cannot_have_is_refused(dtype, nodata):
    with pytest.raises(ShardError, match="cannot hold the no-data value"):
        encode(np.zeros((1, 1, 16, 16), dtype), VideoSettings(nodata=nodata))


@pytest.mark.parametrize("qp", [-24, -1, 52])
def test_a_quantiser_that_kills_the_encoder_never_reaches_it(qp):
    with pytest.raises(ShardError, match="quantiser of 0 to 51"):
        hevc.encode(np.zeros((1, 1, 16, 16), np.uint16), qp=qp, keyint=1, preset="medium")


@pytest.mark.parametrize("side", [16, 17, 20, 31, 48, 50, 63])
def test_small_frames_go_through_the_video_encoder_unharmed(side):
    _, clip = roundtrip(scene(5, 3, side, side + 1), mode="lossy", step=50.0)
    assert clip.header.groups[0].codec == "hevc"
    assert clip.header.measured.rmse < 50


def test_a_component_too_wide_for_its_step_goes_to_the_second_plane():
    cube = scene(6, 3, 40, 40)
    cube[2, :, 10:30, 10:30] = 19_000  # a cloud: the first component now spans far more than the others
    decoded, clip = roundtrip(cube, mode="lossy", step=60.0)
    stream = clip.header.groups[0].streams[0]
    assert stream.order == [1, 0, 2]
    assert stream.scales[0] > 2 * stream.scales[1]
    assert np.sqrt(((decoded.astype(float) - cube) ** 2).mean()) < 40


def test_a_step_too_fine_for_video_takes_stills_and_says_so():
    _, clip = roundtrip(scene(3, 4), mode="lossy", step=2.0)
    assert clip.header.groups[0].codec == "jxl"
    assert clip.header.measured.rmse < 1.5


@pytest.mark.parametrize(
    "target", [{"target_bpppb": 1.5}, {"target_bpppb": 5.0}, {"target_psnr_db": 45.0}, {"target_psnr_db": 70.0}], ids=str
)
def test_auto_meets_its_target_without_wasting_much(target):
    cube = scene(9, 4, 64, 64)
    blob = encode_any(cube, VideoSettings(mode="auto", **target))
    measured = Clip(blob).header.measured
    if "target_bpppb" in target:
        assert 0.8 * target["target_bpppb"] < len(blob) * 8 / cube.size <= 1.03 * target["target_bpppb"]
    else:
        assert target["target_psnr_db"] - 0.2 < measured.psnr_db < target["target_psnr_db"] + 2
