"""Between bands: components that no longer resemble each other, and the way back.

Forward, a Karhunen-Loève transform: orthonormal, so one quantiser step means the same error in every band. Back, not
its transpose but the matrix that fits what the decoder will really see best: it costs no byte more.
"""

from dataclasses import dataclass

import numpy as np

# Share of the quantiser step below which a component's spread is not worth a packet: by reverse water-filling a
# component whose variance is below the noise (step squared over 12) earns no bits; half of that leaves room for structure.
_NEGLIGIBLE = 0.1
_PIXELS = 2**16  # that a transform is fitted on, about
_AT_ONCE = 2**17  # pixels that one call works on, about
# Multiplications that one call to the linear algebra library does, at most. Products so small stay in the cache, and the library
# does not spread them over threads, whose waiting for each other cost a tenth of the time of coding small cubes.
_MULTIPLICATIONS = 2**17


@dataclass(frozen=True)
class Forward:
    """Bands to components."""

    mean: np.ndarray  # (band,) float64
    matrix: np.ndarray  # (band, component) float64, orthonormal columns, the most active first

    def apply(self, cube: np.ndarray) -> np.ndarray:
        """Components (time, component, y, x) float32 of a cube (time, band, y, x)."""
        frames, bands, *sides = cube.shape
        mean, matrix = self.mean.astype(np.float32)[:, None], np.ascontiguousarray(self.matrix.T, np.float32)
        out = np.empty((frames, len(matrix), *sides), np.float32)
        for pixels, components in zip(cube.reshape(frames, bands, -1), out.reshape(frames, len(matrix), -1), strict=True):
            product(matrix, pixels, components, less=mean)
        return out


def columns_at_once(multiplications: int) -> int:
    """How many columns, each with so many multiplications, make a product that stays in the cache and on one thread."""
    return max(64, _MULTIPLICATIONS // multiplications)


def product(matrix: np.ndarray, columns: np.ndarray, out: np.ndarray, less: np.ndarray | None = None) -> None:
    """``matrix @ (columns - less)`` into ``out``, some columns at a time, on this thread alone; less (row, 1) has the matrix's type."""
    at_once = columns_at_once(matrix.size)
    for first in range(0, columns.shape[1], at_once):
        part = columns[:, first : first + at_once]
        np.matmul(matrix, part if less is None else part - less, out=out[:, first : first + at_once])


def inner(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right.T`` of a few long rows, some columns at a time, on this thread alone."""
    at_once = columns_at_once(len(left) * len(right))
    out = np.zeros((len(left), len(right)))
    for first in range(0, left.shape[1], at_once):
        out += left[:, first : first + at_once] @ right[:, first : first + at_once].T
    return out


def fit_forward(cube: np.ndarray, measured: np.ndarray, step: float, *, klt: bool) -> Forward:
    """The transform of a cube.

    Args:
        cube: (time, band, y, x), filled where nothing was measured.
        measured: same shape, True where a sample counts.
    """
    bands = cube.shape[1]
    cube, measured = _thinned(cube, measured)
    samples = _rows(cube, measured, 4 * bands)
    mean = samples.mean(axis=0)
    if not klt or bands == 1:
        return Forward(mean, np.eye(bands))
    # Directions are those in which neighbouring pixels differ, as these differences are what a video encoder spends bits on;
    # directions of the values themselves would follow clouds and seasons, which cost it little. 0.1 dB better.
    spread = np.zeros((bands, bands))
    for pixels in cube:
        for axis in (1, 2):
            changes = np.diff(pixels.astype(np.float64), axis=axis).reshape(bands, -1)
            spread += inner(changes, changes)
    _, vectors = np.linalg.eigh(spread)
    vectors = vectors[:, ::-1]
    variances = np.einsum("bc,bd,dc->c", vectors, np.cov(samples, rowvar=False), vectors)
    # Signs are free; fix them, so that the same cube always gives the same bytes.
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(bands)] < 0, -1.0, 1.0)
    kept = np.sqrt(variances) > _NEGLIGIBLE * step
    kept[0] = True
    return Forward(mean, vectors[:, kept])


def _thinned(cube: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every so many rows of a cube (time, band, y, x) and of what was measured: enough for a few coefficients."""
    every = max(1, cube[:, 0].size // _PIXELS)
    return cube[:, :, ::every], measured[:, :, ::every]


def _rows(cube: np.ndarray, measured: np.ndarray, least: int) -> np.ndarray:
    """(pixel, band) float64 of the pixels measured in every band; of all, if those are fewer than ``least``."""
    samples = np.moveaxis(cube.astype(np.float64), 1, -1).reshape(-1, cube.shape[1])
    rows = measured.all(axis=1).reshape(-1)
    return samples if rows.all() or np.count_nonzero(rows) < least else samples[rows]


def fit_back(components: np.ndarray, cube: np.ndarray, measured: np.ndarray, forward: Forward) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (component, band) and bias (band,) float32 that turn decoded components into bands with least squares.

    Wiener's reason: a component that the quantiser blurred carries less than it shows, and the fit takes it back.
    """
    count = components.shape[1]
    components, _ = _thinned(components, measured)
    cube, measured = _thinned(cube, measured)
    if np.count_nonzero(measured.all(axis=1)) < 4 * (count + 1):
        return forward.matrix.T.astype(np.float32), forward.mean.astype(np.float32)
    coded = _rows(components, measured, 0)
    true = _rows(cube, measured, 0) - forward.mean
    coded_mean, true_mean = coded.mean(axis=0), true.mean(axis=0)
    centred = coded - coded_mean
    normal = inner(centred.T, centred.T)
    spread = np.trace(normal) / count
    # Pulled towards the transpose where a component says too little to be fitted.
    ridge = max(spread, 1.0) * 1e-9 * np.eye(count)
    matrix = np.linalg.solve(normal + ridge, inner(centred.T, (true - true_mean).T) + ridge @ forward.matrix.T)
    bias = forward.mean + true_mean - coded_mean @ matrix
    if not (np.isfinite(matrix).all() and np.isfinite(bias).all()):
        return forward.matrix.T.astype(np.float32), forward.mean.astype(np.float32)
    return matrix.astype(np.float32), bias.astype(np.float32)


def back(components: np.ndarray, matrix: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Bands (time, band, y, x) float32 of decoded components.

    Products are added one by one in a fixed order: every machine gets the same bits, for one frame as for all.
    """
    frames, count, *sides = components.shape
    out = np.empty((frames, matrix.shape[1], *sides), np.float32)
    # Small frames go several at a time: short calls keep threads waiting for the interpreter's lock.
    together = max(1, _AT_ONCE // (sides[0] * sides[1]))
    product = np.empty((min(together, frames), *sides), np.float32)
    for first in range(0, frames, together):
        part = components[first : first + together]
        scratch = product[: len(part)]
        for band in range(matrix.shape[1]):
            values = out[first : first + together, band]
            values[:] = bias[band]
            for component in range(count):
                np.multiply(part[:, component], matrix[component, band], out=scratch)
                values += scratch
    return out
