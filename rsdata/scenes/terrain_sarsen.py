"""Terrain correction by sarsen and xarray-sentinel, block by block, for comparison and for radiometric flattening.

The libraries read whole scenes; here they are handed one block of heights and the calibrated pixels it needs, so memory
stays bounded. Calibration, noise and border are ours, as neither library takes noise off.
Source: sarsen, https://github.com/bopen/sarsen; Small, Flattening Gamma (IEEE TGRS 2011).
"""

import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyproj
import xarray as xr

from rsdata.errors import SceneError
from rsdata.scenes.dem import Dem
from rsdata.scenes.grd import Channel, GrdProduct, read_lines
from rsdata.scenes.grd_geometry import LIGHT_M_S, image_coordinates
from rsdata.scenes.grd_radiometry import Quantity, calibrate
from rsdata.scenes.terrain import LAYOVER, NO_HEIGHT, OUTSIDE, PIXEL_M, SHADOW, Corrected, Ground, border_of, cells_of, hidden_flags

_MARGIN_PX = 128  # around a block, so that flattening sees what shares its range and azimuth; sarsen's own bound
_GROUPING = (3.0, 3.0)  # image pixels over which illuminated area is gathered, azimuth and range; sarsen's default


def sarsen_terrain(
    product: GrdProduct,
    polarisation: str,
    dem: Dem,
    ground: Ground,
    *,
    quantity: Quantity = "sigma0",
    remove_noise: bool = True,
    flatten: bool = False,
    threads: int = 1,
    cell_rows: int = 1,
) -> Corrected:
    """Correct a window by sarsen, see ``TerrainCorrector``; ``cell_rows`` is of no effect.

    Raises: SceneError also if the extra ``s1`` is not installed.
    """
    try:
        names = ("", ".apps", ".orbit", ".radiometry", ".scene")
        sarsen, apps, orbits, radiometry, heights_module = (importlib.import_module(f"sarsen{name}") for name in names)
        library = importlib.import_module("xarray_sentinel")
    except ImportError as error:
        raise SceneError(f"the terrain corrector sarsen is not installed ({error}); install rsdata[s1], or name range-doppler") from error
    channel = product.channel(polarisation)
    border = border_of(product, polarisation)
    power = np.full((ground.height_px, ground.width_px), np.nan, np.float32)
    mask = np.full(power.shape, OUTSIDE, np.uint8)

    def work(index: tuple[int, int], inside: tuple[slice, slice], part: tuple[slice, slice], axes: tuple[np.ndarray, np.ndarray]) -> None:
        around = _MARGIN_PX if flatten else 2
        x_m, y_m = (_widened(axis[cut], around) for axis, cut in zip(axes, part[::-1], strict=True))
        heights = dem.heights(ground.epsg, x_m, y_m).astype(np.float64)
        none = np.isnan(heights)
        if none.all():
            mask[inside] = NO_HEIGHT
            return
        filled = np.where(none, np.nanmedian(heights), heights)
        window = _window(channel, ground.epsg, x_m, y_m, filled)
        if window is None:
            return
        lines, pixels = window
        with product.open_pixels(polarisation) as raster:
            dn = read_lines(raster, lines, pixels)
        kind: Quantity = "beta0" if flatten else quantity
        backscatter = calibrate(dn, channel, kind, lines.start, pixels.start, remove_noise=remove_noise, border=border)
        seen = _product_class(sarsen, library)(channel, backscatter, lines.start, pixels.start)
        raster_3d = xr.DataArray(filled[::-1], dims=("y", "x"), coords={"y": y_m[::-1], "x": x_m}, name="dem").rio.write_crs(ground.epsg)
        earth_fixed = heights_module.convert_to_dem_ecef(raster_3d).drop_vars("spatial_ref")
        wanted = {"azimuth_time", "slant_range_time"} | ({"gamma_area"} if flatten else set())
        orbit = orbits.OrbitPolyfitInterpolator.from_position(seen.state_vectors())
        acquisition = apps.simulate_acquisition(earth_fixed, orbit, include_variables=wanted)
        found = apps.geocode_grd_chunk(acquisition, seen, method="linear")
        if flatten:
            found = found / radiometry.gamma_weights_bilinear(acquisition, **seen.grid_parameters())
        cut = slice(around, -around), slice(around, -around)
        sampled = np.asarray(found.transpose("y", "x").values, np.float32)[::-1][cut]
        sampled[~np.isfinite(sampled)] = np.nan
        flags = np.isnan(sampled).astype(np.uint8) * np.uint8(OUTSIDE)
        flags[none[cut]] = NO_HEIGHT
        hidden = hidden_flags(channel, dem, ground.epsg, index)
        if hidden is not None:
            flags |= hidden[part] & np.uint8(LAYOVER | SHADOW)
        sampled[flags != 0] = np.nan
        power[inside], mask[inside] = sampled, flags

    importlib.import_module("rioxarray")
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for done in [pool.submit(work, *cell) for cell in cells_of(ground)]:
            done.result()
    return Corrected(power, mask)


def _widened(axis: np.ndarray, by: int) -> np.ndarray:
    step = PIXEL_M if len(axis) < 2 else axis[1] - axis[0]
    return np.asarray(axis[0] + step * np.arange(-by, len(axis) + by))


def _window(channel: Channel, epsg: int, x_m: np.ndarray, y_m: np.ndarray, heights: np.ndarray) -> tuple[slice, slice] | None:
    """Lines and pixels a block needs, from its points on a coarse grid; None if it lies outside the image."""
    rows, cols = (np.unique(np.r_[0:size:16, size - 1]) for size in heights.shape)
    to_lonlat = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(*np.meshgrid(x_m[cols], y_m[rows]))
    found = image_coordinates(channel, lon, lat, heights[np.ix_(rows, cols)])
    spans = []
    for where, size in ((found.line, channel.shape_yx[0]), (found.pixel, channel.shape_yx[1])):
        known = where[np.isfinite(where)]
        if not known.size:
            return None
        # Between the coarse points terrain may reach a little farther.
        first, last = max(int(known.min()) - 40, 0), min(int(known.max()) + 41, size)
        if last - first < 2:
            return None
        spans.append(slice(first, last))
    return spans[0], spans[1]


def _product_class(sarsen: Any, library: Any) -> Any:
    """sarsen's interface over one calibrated block of an image; made when asked, as the library is optional."""

    class Block(sarsen.GroundRangeSarProduct):
        product_type = "GRD"

        def __init__(self, channel: Channel, backscatter: np.ndarray, line: int, pixel: int) -> None:
            self.channel, self.backscatter, self.line, self.pixel = channel, backscatter, line, pixel
            self.epoch = np.datetime64(channel.first_line.replace(tzinfo=None), "ns")

        def _times(self, seconds: np.ndarray) -> np.ndarray:
            return np.asarray(self.epoch + np.round(seconds * 1e9).astype("timedelta64[ns]"))

        def state_vectors(self) -> xr.DataArray:
            orbit = self.channel.orbit
            coords = {"azimuth_time": self._times(orbit.time_s), "axis": [0, 1, 2]}
            return xr.DataArray(orbit.position_m.T, dims=("axis", "azimuth_time"), coords=coords)

        def beta_nought(self, persist: bool = False) -> xr.DataArray:
            lines, pixels = (first + np.arange(size) for first, size in zip((self.line, self.pixel), self.backscatter.shape, strict=True))
            return xr.DataArray(
                self.backscatter,
                dims=("azimuth_time", "ground_range"),
                coords={
                    "azimuth_time": self._times(lines * self.channel.line_interval_s),
                    "ground_range": pixels * self.channel.pixel_spacing_m,
                },
            )

        def slant_range_time_to_ground_range(self, azimuth_time: xr.DataArray, slant_range_time: xr.DataArray) -> xr.DataArray:
            conversion = self.channel.conversion
            times = {"azimuth_time": self._times(conversion.time_s), "degree": np.arange(conversion.srgr.shape[1])}
            table = xr.Dataset(
                {"sr0": ("azimuth_time", conversion.sr0_m), "srgrCoefficients": (("azimuth_time", "degree"), conversion.srgr)}, coords=times
            )
            return library.slant_range_time_to_ground_range(azimuth_time, slant_range_time, table)

        def grid_parameters(self, grouping_area_factor: tuple[float, float] = _GROUPING) -> dict[str, Any]:
            azimuth, across = grouping_area_factor
            spacing_m = self.channel.pixel_spacing_m * across
            along_m = _azimuth_spacing_m(self.channel) * azimuth
            return {
                "slant_range_time0": 2 * float(self.channel.conversion.sr0_m[0]) / LIGHT_M_S,
                "slant_range_time_interval_s": spacing_m * 2 / LIGHT_M_S,
                "slant_range_spacing_m": spacing_m,
                "azimuth_time0": self.epoch,
                "azimuth_time_interval_s": self.channel.line_interval_s * azimuth,
                "azimuth_spacing_m": along_m,
            }

    return Block


def _azimuth_spacing_m(channel: Channel) -> float:
    """Distance between lines on the ground: the satellite's speed, brought down from the orbit to the Earth's surface."""
    position, velocity = channel.orbit.position_m[0], channel.orbit.velocity_m_s[0]
    return float(np.linalg.norm(velocity) * 6_371_000 / np.linalg.norm(position) * channel.line_interval_s)
