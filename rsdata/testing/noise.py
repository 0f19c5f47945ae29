"""Random numbers that belong to a place: asked again, in any order and any portion, the same place gives the same value.

Each value is a hash of a key and of lattice coordinates, so a raster can be made strip by strip or whole.
"""

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# Standard deviation of cubic B-spline interpolation of unit-variance lattice values, in two dimensions: 151/315.
_SPLINE_STD = 151 / 315


def key(*parts: object) -> int:
    """A 64-bit key from any values that print the same every time."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big")


def generator(*parts: object) -> np.random.Generator:
    """A generator of its own for whatever the parts name."""
    return np.random.Generator(np.random.SFC64(key(*parts)))


def _mix(bits: np.ndarray) -> np.ndarray:
    """Finalizer of SplitMix64 (Steele, Lea and Flood, 2014), in place."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def hashed(seed: int, *coordinates: np.ndarray) -> np.ndarray:
    """64 random bits per place; coordinates are integers that broadcast against each other."""
    shape = np.broadcast_shapes(*(np.shape(c) for c in coordinates))
    bits = np.full(shape, seed, np.uint64)
    for coordinate in coordinates:
        bits ^= np.asarray(coordinate, np.int64).astype(np.uint64) * _GOLDEN
        bits = _mix(bits + _GOLDEN)
    return bits


def uniform(seed: int, *coordinates: np.ndarray) -> np.ndarray:
    """One float64 in [0, 1) per place."""
    return (hashed(seed, *coordinates) >> np.uint64(11)) * 2.0**-53


def _lattice(seed: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values of mean 0 and variance 1 at lattice points."""
    return ((uniform(seed, y, x) * 2 - 1) * (np.sqrt(3) / _SPLINE_STD)).astype(np.float32)


def _spline(phase: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the four lattice points around a place, ``phase`` in [0, 1) between the middle two."""
    rest = 1 - phase
    return (
        rest**3 / 6,
        (3 * phase**3 - 6 * phase**2 + 4) / 6,
        (3 * rest**3 - 6 * rest**2 + 4) / 6,
        phase**3 / 6,
    )


def smooth_at(seed: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise at scattered places, mean 0 and variance about 1; its grain is one unit wide. Float64."""
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    total = np.zeros(np.shape(x))
    for i, weight_y in enumerate(_spline(y - top)):
        for j, weight_x in enumerate(_spline(x - left)):
            total += weight_y * weight_x * _lattice(seed, top + (i - 1), left + (j - 1))
    return total


def smooth_block(seed: int, step_px: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Smooth noise on a block of pixels, mean 0 and variance about 1.

    Args:
        step_px: width of the grain, pixels.
        top: row of the block's first pixel, counted from a fixed origin; may be negative.
        left: the same for columns.

    Returns: (height, width) float32.
    """
    rows, cols = (np.arange(top, top + height) + 0.5) / step_px, (np.arange(left, left + width) + 0.5) / step_px
    row_points, col_points = np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64)
    y0, x0 = row_points[0] - 1, col_points[0] - 1
    lattice = _lattice(seed, np.arange(y0, row_points[-1] + 3)[:, None], np.arange(x0, col_points[-1] + 3)[None, :])
    across = np.zeros((lattice.shape[0], width), np.float32)
    for i, weight in enumerate(_spline((cols - col_points).astype(np.float32))):
        across += lattice[:, col_points - x0 - 1 + i] * weight
    block = np.zeros((height, width), np.float32)
    for i, weight in enumerate(_spline((rows - row_points).astype(np.float32))):
        block += across[row_points - y0 - 1 + i] * weight[:, None]
    return block
