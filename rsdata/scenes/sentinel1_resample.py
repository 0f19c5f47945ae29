"""Terrain-corrected power brought from one map grid onto another: bilinear, in linear power, block by block.

Coordinates are exact at the corners of cells that are fixed in the target map and bilinear between them, so a pixel comes out
the same whatever the window. A pixel that needs a missing neighbour is missing.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyproj

from rsdata.scenes.sentinel1_rasters import PIXEL_M, Place
from rsdata.scenes.terrain import Ground

CELL_M = 640  # between exact coordinates; UTM zones and longitudes bend by some centimetres over it
BLOCK_CELLS = 8  # cells along each side of a block: 512 x 512 pixels at a time
SNAP_PX = 1 / 1024  # coordinates are rounded to it, so that a neighbour whose weight is rounding alone is not needed


def resample_power(read: Callable[[slice, slice], np.ndarray], place: Place, ground: Ground) -> np.ndarray:
    """Power over a window of a Sentinel-2 tile.

    Pixels much smaller than 10 m are sampled, not averaged.

    Args:
        read: gives rows and columns of the source, (y, x) float32 power with NaN for no data; both lie inside the raster.
        place: where the source's pixels lie.
        ground: the window.

    Returns: (y, x) float32 power; NaN outside the source and where a neighbour that counts is missing.
    """
    power = np.full((ground.height_px, ground.width_px), np.nan, np.float32)
    to_source = pyproj.Transformer.from_crs(ground.epsg, place.crs, always_xy=True)
    x_m = ground.ul_x_m + PIXEL_M * (np.arange(ground.width_px) + 0.5)
    y_m = ground.ul_y_m - PIXEL_M * (np.arange(ground.height_px) + 0.5)
    for rows, block_y in _blocks(y_m):
        for cols, block_x in _blocks(x_m):
            source_row, source_col = _coordinates(to_source, place, y_m[rows], x_m[cols], block_y, block_x)
            power[rows, cols] = _bilinear(read, place.shape_yx, source_row, source_col)
    return power


def _blocks(centres_m: np.ndarray) -> Iterator[tuple[slice, int]]:
    """Runs of pixels of one block, and the block's number; blocks start at multiples of their size in the map."""
    numbers = np.floor(centres_m / (CELL_M * BLOCK_CELLS)).astype(np.int64)
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    for start, stop in zip(starts, [*starts[1:], len(numbers)], strict=True):
        yield slice(int(start), int(stop)), int(numbers[start])


def _coordinates(
    to_source: pyproj.Transformer, place: Place, y_m: np.ndarray, x_m: np.ndarray, block_y: int, block_x: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in the source of every pixel of a block, (y, x) float64; whole numbers are pixel centres."""
    corners = np.arange(BLOCK_CELLS + 1) * CELL_M
    corner_y, corner_x = (corners + block * CELL_M * BLOCK_CELLS for block in (block_y, block_x))
    x, y = to_source.transform(*np.meshgrid(corner_x, corner_y))
    col, row = place.to_corner(np.asarray(x), np.asarray(y))
    along_y, along_x = (_weights(at, corner) for at, corner in ((y_m, corner_y), (x_m, corner_x)))
    row, col = (np.round((along_y @ each @ along_x.T - 0.5) / SNAP_PX) * SNAP_PX for each in (row, col))
    return row, col


def _weights(at_m: np.ndarray, corners_m: np.ndarray) -> np.ndarray:
    """Share of every cell corner in a position, (positions, corners)."""
    return np.maximum(0, 1 - np.abs(at_m[:, None] - corners_m[None, :]) / CELL_M)


def _bilinear(read: Callable[[slice, slice], np.ndarray], shape_yx: tuple[int, int], row: np.ndarray, col: np.ndarray) -> np.ndarray:
    height, width = shape_yx
    inside = (row >= 0) & (row <= height - 1) & (col >= 0) & (col <= width - 1)  # false where not finite
    found = np.full(row.shape, np.nan, np.float32)
    if not inside.any():
        return found
    row, col = row[inside], col[inside]
    top, left = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
    down, right = row - top, col - left
    rows = slice(int(top.min()), min(int(top.max()) + 2, height))
    cols = slice(int(left.min()), min(int(left.max()) + 2, width))
    source = read(rows, cols)
    top, left = top - rows.start, left - cols.start
    # Where the weight is zero the next pixel does not count, and need not be there.
    below, beside = top + (down > 0), left + (right > 0)
    upper = source[top, left] * (1 - right) + source[top, beside] * right
    lower = source[below, left] * (1 - right) + source[below, beside] * right
    found[inside] = upper * (1 - down) + lower * down
    return found
