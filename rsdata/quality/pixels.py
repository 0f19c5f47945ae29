"""Pixels that are no measurement: missing, saturated, defective; and a mark that tells equal pixels.

What is wrong with a pixel is said in up to three places: its stored value, the scene classification, and the
product's masks of each band (rasters from baseline 04.00 on, polygons before).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xarray as xr

from rsdata.grid import PatchGrid
from rsdata.quality.sky import mean_per_patch

# What a flag of a product's mask says of the pixel. Packets that were lost or degraded and defective detector pixels count
# alike: the value is not what the sensor saw there. Partially corrected crosstalk counts as nothing.
# Source: Copernicus SentiWiki, S2 Products, quality masks; polygons before 04.00 name saturation with _L1A or _L1B behind.
FLAGS: Mapping[str, tuple[str, ...]] = {
    "defective": ("ANC_LOST", "ANC_DEG", "MSI_LOST", "MSI_DEG", "QT_DEFECTIVE_PIXELS"),
    "saturated": ("QT_SATURATED_PIXELS",),
    "nodata": ("QT_NODATA_PIXELS",),
}
_STRIP_PX = 1024  # rows of a mask read at a time, one row of JPEG 2000 blocks


def missing_fraction(pixels: np.ndarray, nodata: float, grid: PatchGrid, gsd_m: int) -> np.ndarray:
    """Share of missing pixels per patch, (n,) float64 in the grid's order.

    Args:
        pixels: (y, x) of one band.
        nodata: stored value that marks a missing pixel, or NaN.
    """
    return share_per_patch(np.isnan(pixels) if np.isnan(nodata) else pixels == nodata, grid, gsd_m)


def share_per_patch(marked: np.ndarray, grid: PatchGrid, gsd_m: int) -> np.ndarray:
    """Share of marked pixels (y, x) per patch, (n,) float64 in the grid's order."""
    return mean_per_patch(marked, grid, gsd_m) if marked.any() else np.zeros(len(grid.rows) * len(grid.cols))


def flagged_pixels(masks: Iterable[xr.DataArray]) -> dict[str, np.ndarray]:
    """Read a band's masks in strips: for each key of ``FLAGS`` the pixels it holds for, (y, x) bool; none without masks.

    Args:
        masks: (flag, y, x) uint8 on the band's grid, 1 where the flag holds, lazy or not.
    """
    found: dict[str, np.ndarray] = {}
    for mask in masks:
        names = [str(name) for name in mask["flag"].values]
        chosen = {meaning: [i for i, name in enumerate(names) if name.startswith(flags)] for meaning, flags in FLAGS.items()}
        height, width = mask.shape[1:]
        for meaning in FLAGS:
            found.setdefault(meaning, np.zeros((height, width), bool))
        if not any(chosen.values()):
            continue  # a mask of polygons that holds none
        for top in range(0, height, _STRIP_PX):
            rows = slice(top, top + _STRIP_PX)
            strip = mask[:, rows].compute(scheduler="synchronous").to_numpy()  # whoever calls decides on threads
            for meaning, indices in chosen.items():
                for index in indices:
                    found[meaning][rows] |= strip[index] != 0
    return found


def saturated_pixels(pixels: np.ndarray, value: int, flagged: np.ndarray | None) -> np.ndarray:
    """Pixels that hold the product's special value for saturation or are flagged by its mask, (y, x) bool.

    Args:
        pixels: (y, x) uint16 counts.
        flagged: (y, x) bool from the mask, None without.
    """
    special = pixels == value
    return special if flagged is None else special | flagged


def fingerprints(bands: Sequence[tuple[np.ndarray, int]], grid: PatchGrid, threads: int = 1) -> list[str | None]:
    """A digest over each patch's pixels in all bands, in the grid's order; equal for equal pixels and only for those.

    A patch whose bands hold one value each, such as one without data, has none: it would equal every other one like it.

    Args:
        bands: raster (y, x) and its pixel size in metres, each band once and always in the same order.
        threads: patches hashed at a time.

    Returns: SHA-256 in hexadecimal, or None.
    """
    cells = list(zip(*(cells.tolist() for cells in grid.cells()), strict=True))

    def of(cell: tuple[int, int]) -> str | None:
        digest, uniform = hashlib.sha256(), True
        for pixels, gsd_m in bands:
            patch = np.ascontiguousarray(pixels[grid.window(*cell, gsd_m)])
            uniform = uniform and bool((patch == patch[0, 0]).all())
            digest.update(patch.data)
        return None if uniform else digest.hexdigest()

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        return list(pool.map(of, cells))
