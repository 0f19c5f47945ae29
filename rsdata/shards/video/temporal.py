"""Between dates: a segment's frames as mixtures that no longer resemble each other, where that beats predicting one from another.

A frame predicted from a decoded one carries that one's noise along, and clouds on one date spoil the next. A mixture over all
dates carries neither, but cannot follow what moves. So both are weighed up, and most cloudy series stay as they are.
"""

import numpy as np

from rsdata.shards.video.transform import columns_at_once, inner, product

# A weight of 1 as stored. Codes and weights are whole numbers whose sums float64 holds exactly, so every machine gets the
# same bits, for one frame as for all.
SCALE = 2**14
_WEIGHT_BITS = 16
# Rows of differences that the estimate looks at, at most, per segment and component.
_ROWS = 128
# What mixing must save by the estimate before it is taken, as a share or in bits per sample: the estimate does not know that an
# encoder predicts block by block.
_GAIN = 0.9
_GAIN_BITS = 0.15


def fit(components: np.ndarray, keyint: int, step: float) -> list[np.ndarray] | None:
    """Weights per segment, or None where prediction is likely to cost less.

    Args:
        components: (time, component, y, x) float32.
        keyint: frames per segment.
        step: quantiser step, in the components' unit.

    Returns: per segment (date, mixture) int16, a weight of 1 being ``SCALE``; columns are orthonormal but for rounding, the
        most active first.
    """
    noise = step**2 / 12
    weights, mixed, predicted = [], 0.0, 0.0
    samples = float(components[0].size)
    for first in range(0, len(components), keyint):
        shared = _covariances(components[first : first + keyint])
        _, vectors = np.linalg.eigh(shared.sum(axis=0))
        vectors = vectors[:, ::-1]
        # Signs are free; fix them, so that the same cube always gives the same bytes.
        vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))] < 0, -1.0, 1.0)
        weights.append(np.rint(vectors * SCALE).astype(np.int16))
        spread = np.einsum("ts,ctr,rs->cs", vectors, shared, vectors)
        per_sample = samples / shared.shape[0]
        mixed += per_sample * _cost(spread, noise) + _WEIGHT_BITS * vectors.size
        predicted += per_sample * _cost(np.stack([_residuals(each, noise) for each in shared]), noise)
    return weights if mixed < max(_GAIN * predicted, predicted - _GAIN_BITS * components.size) else None


def _covariances(components: np.ndarray) -> np.ndarray:
    """(component, date, date) float64 of the differences between neighbouring pixels, which are what costs bits."""
    frames, count = components.shape[:2]
    stride = max(1, components.shape[2] // _ROWS)
    out = np.empty((count, frames, frames))
    for component in range(count):
        planes = components[:, component, ::stride].astype(np.float64)
        changes = np.diff(planes, axis=-1).reshape(frames, -1)
        out[component] = inner(changes, changes) / (2.0 * changes.shape[1])
    return out


def _residuals(covariance: np.ndarray, noise: float) -> np.ndarray:
    """(date,) variance that is left of each frame by its best prediction: none, from one before, or from one on either side."""
    own = np.diag(covariance)
    least = own.copy()
    for date in range(len(own)):
        for before in range(max(0, date - 3), date):
            seen = own[before] + min(noise, own[before])
            least[date] = min(least[date], own[date] + seen - 2 * covariance[date, before])
            for after in range(date + 1, min(date + 3, len(own))) if date % 3 else ():
                pair = (own[before] + own[after] + 2 * covariance[before, after]) / 4 + noise / 2
                least[date] = min(least[date], own[date] + pair - covariance[date, before] - covariance[date, after])
    return least


def _cost(variances: np.ndarray, noise: float) -> float:
    """Bits per sample of independent Gaussian sources together, by reverse water-filling, and their errors in bits' worth.

    What lies below the noise costs no bits and errs by all of it; the slope of ½ log2(variance / noise) says what that is worth.
    """
    bits = 0.5 * np.log2(np.maximum(variances, noise) / noise)
    return float((bits + np.minimum(variances, noise) / noise * (0.5 / np.log(2))).sum())


def mix(components: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Mixtures (time, component, y, x) float32, the inverse of what the decoder does."""
    out = np.empty_like(components)
    first = 0
    for matrix in weights:
        own = slice(first, first + len(matrix))
        first += len(matrix)
        forward = np.linalg.inv(matrix.astype(np.float64) / SCALE).astype(np.float32)
        product(forward, components[own].reshape(len(matrix), -1), out[own].reshape(len(matrix), -1))
    return out


def unmix(codes: np.ndarray, weights: np.ndarray, first: tuple[float, float], others: tuple[float, float]) -> np.ndarray:
    """One plane of some dates, float32, from the codes of all mixtures of its segment.

    Args:
        codes: (mixture, y, x) uint16.
        weights: (date, mixture) int16, the rows of the dates that are wanted.
        first, others: (scale, offset); the value of the first mixture, or of another, is offset + scale * code.

    Returns: (date, y, x), rounded once, from float64: A * (scale of others / SCALE) + B * (scale of first / SCALE) + C, with A and
        B the exact sums of weight * code over the others and the first, C the sum of weight * offset, divided by SCALE.
    """
    rows = weights.astype(np.float64)
    pixels = codes.reshape(len(codes), -1)
    out = np.empty((len(rows), pixels.shape[1]), np.float32)
    constant = (rows[:, :1] * first[1] + rows[:, 1:].sum(axis=1, keepdims=True) * others[1]) / SCALE
    columns = columns_at_once(rows.size)
    for start in range(0, pixels.shape[1], columns):
        part = pixels[:, start : start + columns].astype(np.float64)
        sums = (rows[:, 1:] @ part[1:]) * (others[0] / SCALE)
        sums += (rows[:, :1] * part[:1]) * (first[0] / SCALE)
        out[:, start : start + columns] = sums + constant
    return out.reshape(len(rows), *codes.shape[1:])
