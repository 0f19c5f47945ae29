"""One picture made of several dates: the median of what is valid, or at each pixel the date that shows the ground best."""

import numpy as np

# Classes of the scene classification, the most wanted first; those of one entry are as good as each other: ground seen
# clearly, dark or unclassified ground, snow, thin cirrus, cloud shadow, cloud of medium and of high probability, broken pixels.
SCL_ORDER: tuple[tuple[int, ...], ...] = ((4, 5, 6), (2, 7), (11,), (10,), (3,), (8,), (9,), (0, 1))
_RANK = np.full(256, len(SCL_ORDER), np.uint8)  # what is no class comes after all of them
for _rank, _classes in enumerate(SCL_ORDER):
    _RANK[list(_classes)] = _rank
_WITHOUT_DATA = 255


def median_pixels(pixels: np.ndarray, valid: np.ndarray, nodata: float) -> np.ndarray:
    """Median over time of the valid pixels, band by band.

    Of an even number of values it is the mean of the middle two; integers are rounded to the nearest, halves to even.

    Args:
        pixels: (time, band, y, x); what is not valid may hold anything, NaN too.
        valid: (time, y, x) bool.
        nodata: what a pixel becomes that is valid on no date.

    Returns: (band, y, x) of the dtype of ``pixels``.
    """
    values = np.where(valid[:, None], pixels, np.nan)  # uint16 becomes float64, which holds it exactly
    values.sort(axis=0)  # NaN last
    counts = valid.sum(axis=0)

    def ranked(index: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.take_along_axis(values, np.broadcast_to(index, (1, *values.shape[1:])), axis=0)[0]
        return found.astype(np.float64)

    median = (ranked(np.maximum(counts - 1, 0) // 2) + ranked(counts // 2 * (counts > 0))) / 2
    if pixels.dtype.kind in "iu":
        median = np.rint(median)
    return np.where(counts > 0, median, nodata).astype(pixels.dtype)


def best_dates(valid: np.ndarray, scl: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """At each pixel the date with the best class, see ``SCL_ORDER``.

    Of dates as good as each other it is the one nearest to the middle of the period, then the first given.

    Args:
        valid: (time, y, x) bool, where there are data; a date without is taken only if none has any.
        scl: (time, y, x) scene classification, looked up for pixels of this size.
        apart: (time,) distance of each date from the middle of the period, in any unit.

    Returns: (y, x) positions along time.
    """
    nearest_first = np.argsort(apart, kind="stable")
    rank = np.where(valid, _RANK[scl], _WITHOUT_DATA)[nearest_first]
    taken: np.ndarray = nearest_first[rank.argmin(axis=0)]  # of equal ranks the first
    return taken


def taken_from(pixels: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """All of one date at each pixel: (time, ..., y, x) by (y, x) positions along time gives (..., y, x)."""
    found: np.ndarray = np.take_along_axis(pixels, np.broadcast_to(taken, (1, *pixels.shape[1:])), axis=0)[0]
    return found
