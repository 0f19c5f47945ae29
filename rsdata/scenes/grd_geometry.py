"""Where a point on the ground lies in a GRD image: the range-Doppler equations, exact, and as polynomials over a small cell.

The exact solution takes some microseconds a point. Over a few kilometres it is so smooth in easting, northing and height
that polynomials give it to a thousandth of a pixel, which is what makes a whole tile affordable; every fit is held
against the exact solution before it is used.
Source: Small and Schubert, Guide to Sentinel-1 Geocoding (UZH-S1-GC-AD); ESA, S-1 Product Specification, coordinateConversion.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from scipy.interpolate import CubicHermiteSpline

from rsdata.errors import SceneError
from rsdata.scenes.grd import Channel, RangeConversion

LIGHT_M_S = 299_792_458.0
_WGS84_A_M = 6_378_137.0
_WGS84_E2 = 0.0066943799901413165
_NEWTON_STEPS = 12
_NEWTON_DONE_S = 1e-9  # less than a hundredth of a millimetre on the ground

DEGREES = (3, 3, 2)  # of the polynomials in northing, easting and height
FIT_TOLERANCE_PX = 0.01
LINE, SLANT_RANGE, OFF_NADIR = range(3)  # what a cell's polynomials give


def ecef(lon_deg: np.ndarray, lat_deg: np.ndarray, height_m: np.ndarray) -> np.ndarray:
    """Earth-fixed coordinates, (..., 3) metres, of longitude, latitude and height above the WGS 84 ellipsoid."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    normal = _WGS84_A_M / np.sqrt(1 - _WGS84_E2 * np.sin(lat) ** 2)
    across = (normal + height_m) * np.cos(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), (normal * (1 - _WGS84_E2) + height_m) * np.sin(lat)], axis=-1)


@dataclass(frozen=True)
class ImageCoordinates:
    """Where points lie in an image, arrays of one shape; NaN where the orbit does not reach."""

    line: np.ndarray  # 0 is the centre of the first line
    pixel: np.ndarray  # 0 is the centre of the first pixel
    slant_range_m: np.ndarray
    off_nadir_rad: np.ndarray  # angle at the satellite between the point and the Earth's centre

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.line, self.pixel, self.slant_range_m, self.off_nadir_rad


def image_coordinates(channel: Channel, lon_deg: np.ndarray, lat_deg: np.ndarray, height_m: np.ndarray) -> ImageCoordinates:
    """Solve the range-Doppler equations for points on the ground.

    Zero-Doppler time is where the line from satellite to point is normal to the velocity, found by Newton's method on an
    orbit interpolated between state vectors by cubic Hermite polynomials (their spacing of 10 s leaves an error below a
    millimetre). Slant range becomes ground range by the product's own polynomials, taken linearly between their times.

    Args:
        lon_deg: longitude, any shape.
        lat_deg: latitude, same shape.
        height_m: above the WGS 84 ellipsoid, same shape.

    Raises: SceneError if Newton's method does not settle, which no real orbit causes.
    """
    points = ecef(*np.broadcast_arrays(lon_deg, lat_deg, height_m)).astype(np.float64)
    shape = points.shape[:-1]
    points = points.reshape(-1, 3)
    states = channel.orbit
    position = CubicHermiteSpline(states.time_s, states.position_m, states.velocity_m_s, extrapolate=True)
    velocity, acceleration = position.derivative(1), position.derivative(2)
    time_s = np.full(len(points), channel.shape_yx[0] * channel.line_interval_s / 2)
    known = np.isfinite(points).all(axis=1)
    lowest, highest = float(states.time_s[0]), float(states.time_s[-1])
    for _ in range(_NEWTON_STEPS):
        sight, speed = points - position(time_s), velocity(time_s)
        value = np.einsum("ij,ij->i", sight, speed)
        slope = np.einsum("ij,ij->i", sight, acceleration(time_s)) - np.einsum("ij,ij->i", speed, speed)
        step = value / slope
        # A step beyond the state vectors would leave for where the cubics mean nothing.
        moved = np.clip(time_s - step, lowest - 5, highest + 5)
        change = np.abs(moved - time_s)[known]
        time_s = np.where(known, moved, np.nan)
        if not change.size or change.max() < _NEWTON_DONE_S:
            break
    else:
        raise SceneError(
            "the range-Doppler equations did not converge; the orbit's state vectors are damaged, so fetch the product again",
            last_change_s=float(change.max()),
        )
    time_s = np.where((time_s >= lowest) & (time_s <= highest), time_s, np.nan)
    there = position(np.nan_to_num(time_s))
    sight = points - there
    slant_m = np.linalg.norm(sight, axis=1)
    nadir = np.einsum("ij,ij->i", sight, -there) / (slant_m * np.linalg.norm(there, axis=1))
    lost = np.isnan(time_s)
    slant_m[lost] = np.nan
    ground_m = ground_range(channel.conversion, time_s, slant_m)
    return ImageCoordinates(
        (time_s / channel.line_interval_s).reshape(shape),
        (ground_m / channel.pixel_spacing_m).reshape(shape),
        slant_m.reshape(shape),
        np.where(lost, np.nan, np.arccos(np.clip(nadir, -1, 1))).reshape(shape),
    )


def ground_range(conversion: RangeConversion, time_s: np.ndarray, slant_range_m: np.ndarray) -> np.ndarray:
    """Ground range in metres from slant range, by polynomials taken linearly between their azimuth times.

    Args:
        time_s: (n,) seconds since the first line; outside the polynomials' times the nearest one is used.
        slant_range_m: (n,).
    """
    times = conversion.time_s
    before = np.clip(np.searchsorted(times, time_s, side="right") - 1, 0, max(len(times) - 2, 0))
    after = np.minimum(before + 1, len(times) - 1)
    span = np.where(after > before, times[after] - times[before], 1.0)
    weight = np.clip((time_s - times[before]) / span, 0.0, 1.0)
    offset = slant_range_m - ((1 - weight) * conversion.sr0_m[before] + weight * conversion.sr0_m[after])
    result = np.zeros_like(offset)
    for power in range(conversion.srgr.shape[1] - 1, -1, -1):
        factor = (1 - weight) * conversion.srgr[before, power] + weight * conversion.srgr[after, power]
        result = result * offset + factor
    return np.asarray(result)


@dataclass(frozen=True)
class CellGeometry:
    """Image coordinates as polynomials over one square of ground and a span of heights."""

    centre_xy: tuple[float, float]  # metres in the map's CRS
    half_side_m: float
    height_span_m: tuple[float, float]
    factors: np.ndarray  # (3, degree y + 1, degree x + 1, degree h + 1) Chebyshev; line, slant range, off nadir
    slant_m: tuple[float, float]  # middle and half width of the span of slant ranges
    record_line: np.ndarray  # (n,) lines at which the range conversion is given, those the cell needs
    record_pixel: np.ndarray  # (n, 4) pixel as a polynomial in the scaled slant range, lowest power first
    error_px: float  # worst difference from the exact solution at the points of the check

    def pixel(self, line: np.ndarray, slant_range_m: np.ndarray) -> np.ndarray:
        """Pixel from line and slant range, by the conversions' polynomials, taken linearly between their lines."""
        scaled = (slant_range_m - self.slant_m[0]) / self.slant_m[1]
        found = _cubic(self.record_pixel[0], scaled)
        for index in range(1, len(self.record_line)):
            before, after = self.record_line[index - 1 : index + 1]
            # The next record's share grows from none at the last one's line to all at its own.
            weight = np.clip((line - before) / (after - before), 0.0, 1.0)
            found += weight * _cubic(self.record_pixel[index] - self.record_pixel[index - 1], scaled)
        return found

    def evaluate(self, which: int, x_m: np.ndarray, y_m: np.ndarray, height_m: np.ndarray) -> np.ndarray:
        """One of LINE, SLANT_RANGE (metres) and OFF_NADIR (radians) over a raster.

        Args:
            x_m: (x,) eastings.
            y_m: (y,) northings.
            height_m: (y, x) above the ellipsoid; NaN gives NaN.

        Returns: (y, x) float64.
        """
        in_y = chebyshev.chebvander((y_m - self.centre_xy[1]) / self.half_side_m, DEGREES[0])
        in_x = chebyshev.chebvander((x_m - self.centre_xy[0]) / self.half_side_m, DEGREES[1])
        low, high = self.height_span_m
        scaled = (2 * height_m - (low + high)) / (high - low)
        across = np.ascontiguousarray(in_x.T)
        # Not by @: BLAS spreads so thin a product over threads, which then wait for each other a hundred times as long.
        planes = [np.einsum("yi,ix->yx", in_y @ self.factors[which, :, :, power], across) for power in range(DEGREES[2] + 1)]
        # c0 + c1 T1(s) + c2 T2(s), T2(s) = 2 s² - 1, in Horner's form
        planes[0] -= planes[2]
        planes[2] *= 2
        planes[2] *= scaled
        planes[2] += planes[1]
        planes[2] *= scaled
        planes[2] += planes[0]
        return np.asarray(planes[2])

    def range_direction(self) -> tuple[float, float]:
        """Unit vector (east, north) on the map along which slant range grows while time stands still, at the cell's centre."""
        none = np.zeros(1)
        x0, y0 = self.centre_xy
        step = self.half_side_m / 4
        middle = np.full((1, 1), sum(self.height_span_m) / 2)

        def at(which: int, x: float, y: float) -> float:
            return float(self.evaluate(which, none + x, none + y, middle)[0, 0])

        line_x, line_y = at(LINE, x0 + step, y0) - at(LINE, x0 - step, y0), at(LINE, x0, y0 + step) - at(LINE, x0, y0 - step)
        length = float(np.hypot(line_x, line_y))
        east, north = -line_y / length, line_x / length
        nearer, farther = at(SLANT_RANGE, x0 - east * step, y0 - north * step), at(SLANT_RANGE, x0 + east * step, y0 + north * step)
        return (east, north) if farther > nearer else (-east, -north)


def fit_cell(
    channel: Channel,
    to_lonlat: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    centre_xy: tuple[float, float],
    half_side_m: float,
    height_span_m: tuple[float, float],
) -> CellGeometry | None:
    """Fit polynomials to the exact solution over one cell; None where the orbit does not reach all of it.

    Args:
        to_lonlat: map coordinates (x, y) to longitude and latitude, degrees.
        centre_xy: of the cell, metres.
        half_side_m: of the cell.
        height_span_m: lowest and highest height above the ellipsoid.
    """
    low, high = height_span_m[0] - 1.0, height_span_m[1] + 1.0
    nodes = [np.cos(np.pi * (np.arange(degree + 3) + 0.5) / (degree + 3)) for degree in DEGREES]
    checks = [np.linspace(-0.97, 0.97, degree + 1) for degree in DEGREES]

    def exact(axes: list[np.ndarray]) -> np.ndarray:
        v, u, s = np.meshgrid(*axes, indexing="ij")
        lon, lat = to_lonlat(centre_xy[0] + u * half_side_m, centre_xy[1] + v * half_side_m)
        return np.stack(image_coordinates(channel, lon, lat, (low + high + s * (high - low)) / 2).arrays())

    line, _, slant_m, off_nadir = exact(nodes)
    if not np.isfinite(off_nadir).all():
        return None
    # Cells are small and nodes few, so the pseudo-inverse per axis is the least-squares fit.
    solve = [np.linalg.pinv(chebyshev.chebvander(node, degree)) for node, degree in zip(nodes, DEGREES, strict=True)]
    factors = np.einsum("qyxh,iy,jx,kh->qijk", np.stack([line, slant_m, off_nadir]), *solve)
    line_expected, pixel_expected, _, _ = exact(checks)
    middle, half = (slant_m.min() + slant_m.max()) / 2, (slant_m.max() - slant_m.min()) / 2 * 1.1
    record_line, record_pixel = _local_conversion(channel, line.min() - 1, line.max() + 1, middle, half)
    cell = CellGeometry(centre_xy, half_side_m, (low, high), factors, (middle, half), record_line, record_pixel, 0.0)
    matrices = [chebyshev.chebvander(check, degree) for check, degree in zip(checks, DEGREES, strict=True)]
    line_fitted, slant_fitted, _ = np.einsum("qijk,yi,xj,hk->qyxh", factors, *matrices)
    worst = np.abs(line_fitted - line_expected).max(), np.abs(cell.pixel(line_fitted, slant_fitted) - pixel_expected).max()
    return replace(cell, error_px=float(max(worst)))


def _local_conversion(channel: Channel, first_line: float, last_line: float, middle: float, half: float) -> tuple[np.ndarray, np.ndarray]:
    """The range conversions a span of lines needs, each as a cubic in slant range scaled to -1 to 1."""
    conversion = channel.conversion
    lines = conversion.time_s / channel.line_interval_s
    first = max(int(np.searchsorted(lines, first_line, side="right")) - 1, 0)
    last = min(int(np.searchsorted(lines, last_line, side="left")), len(lines) - 1)
    scaled = np.cos(np.pi * (np.arange(8) + 0.5) / 8)
    slant_m = middle + half * scaled
    chosen = slice(min(first, last), last + 1)
    pixels = [
        polynomial.polyval(slant_m - sr0_m, factors) / channel.pixel_spacing_m
        for sr0_m, factors in zip(conversion.sr0_m[chosen], conversion.srgr[chosen], strict=True)
    ]
    return lines[chosen], np.stack([polynomial.polyfit(scaled, each, 3) for each in pixels])


def _cubic(factors: np.ndarray, at: np.ndarray) -> np.ndarray:
    found = at * factors[3]
    for power in (2, 1):
        found += factors[power]
        found *= at
    found += factors[0]
    return np.asarray(found)
