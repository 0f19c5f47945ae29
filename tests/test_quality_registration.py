"""Co-registration: a shift that was planted is found to a tenth of a pixel, and what cannot tell says so."""

import numpy as np
import pytest
from scipy.ndimage import fourier_shift, gaussian_filter
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_info, threadpool_limits

from rsdata.quality import RELIABLE_SPREAD_PX, register, registration

SIDE_PX = 2048  # 64 blocks
LOOKS = 4.9  # of a GRD product in IW mode: speckle of 2 dB
NOISE_COUNTS = 35  # of the optical band


@pytest.fixture(scope="module")
def fields() -> tuple[np.ndarray, np.ndarray]:
    """Optical counts and backscatter (dB) of fields of 400 m that share their borders and nothing else, both without noise."""
    draw = np.random.default_rng(7)
    number = (SIDE_PX // 40) ** 2
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    _, cells = cKDTree(draw.uniform(0, SIDE_PX, (number, 2))).query(np.stack([y.ravel(), x.ravel()], axis=1))
    cells = cells.reshape(SIDE_PX, SIDE_PX)
    blurred = (gaussian_filter(values[cells], 0.7) for values in (draw.uniform(800, 3500, number), draw.normal(-12, 3, number)))
    optical, backscatter = blurred
    return optical + draw.normal(0, NOISE_COUNTS, optical.shape), backscatter


def speckled(decibel: np.ndarray, seed: int) -> np.ndarray:
    power = np.random.default_rng(seed).gamma(LOOKS, 1 / LOOKS, decibel.shape)
    return (decibel + 10 * np.log10(power)).astype(np.float32)


@pytest.mark.parametrize("planted", [(0.0, 0.0), (0.35, -0.6), (-3.7, 4.25)])
def test_a_planted_shift_is_found_to_a_tenth_of_a_pixel(fields, planted):
    optical, backscatter = fields
    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(backscatter), planted)).real
    found = register(optical.clip(1).astype(np.uint16), speckled(moved, seed=1))
    assert found is not None
    south, east, spread, blocks = found
    assert (south, east) == pytest.approx(planted, abs=0.1)
    assert spread < 0.5
    assert blocks == 64


def test_blocks_of_noise_alone_disagree_by_more_than_a_pixel():
    draw = np.random.default_rng(2)
    found = register(draw.integers(900, 1100, (1024, 1024), np.uint16), speckled(np.full((1024, 1024), -12.0), seed=3))
    assert found is not None
    assert found[2] > RELIABLE_SPREAD_PX


def test_blocks_with_missing_pixels_are_left_out(fields):
    optical, backscatter = fields
    counts, decibel = optical[:512, :512].clip(1).astype(np.uint16), speckled(backscatter[:512, :512], seed=4)
    counts[:30, :30] = 0  # 1.4 % of the first block
    decibel[300:330, :30] = np.nan  # of the third
    found = register(counts, decibel)
    assert found is not None and found[3] == 2
    assert register(np.zeros((512, 512), np.uint16), decibel) is None


def test_one_thread_of_linear_algebra_is_at_work_and_afterwards_as_many_as_before(monkeypatch):
    seen: list[int] = []

    def counted(*arguments, **options):
        seen.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        return np.zeros(2), 0.0, 0.0

    monkeypatch.setattr(registration, "phase_cross_correlation", counted)
    draw = np.random.default_rng(5)
    with threadpool_limits(2, "blas"):
        register(draw.integers(900, 1100, (256, 256), np.uint16), draw.normal(-12, 1, (256, 256)).astype(np.float32))
        after = {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
    assert seen and set(seen) == {1}
    assert after == {2}
