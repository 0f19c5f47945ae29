"""Where patches lie, read from their ids alone.

A table has few scenes and at most 8281 cells, so each distinct scene and each distinct cell is parsed once
and the rest is a look-up; half a million ids take well under two seconds.
"""

import numpy as np
import pandas as pd

from rsdata.errors import SplitError
from rsdata.grid import PATCHES_PER_SIDE, Tile, corners
from rsdata.records import PatchId

_CELL_LENGTH = len("_26_57")  # how every patch id ends
_AT_ORIGIN = Tile("", 0, 0, 0)  # cells are laid out once and moved to the corner of each tile


def positions(patch_ids: pd.Series) -> pd.DataFrame:
    """Work out the place of each patch in its tile and in its UTM zone.

    Args:
        patch_ids: (n,) patch ids.

    Returns: a table with the same index and the columns ``tile_id``, ``col``, ``row``, ``epsg``, and
        ``ul_x_m``, ``ul_y_m``: the upper-left corner in metres of that UTM zone.
    Raises: CatalogError if a text is no patch id; GridError if its tile is no MGRS tile; SplitError if an id is
        missing or its cell lies outside the tile.
    """
    if patch_ids.isna().any():
        raise SplitError(f"{int(patch_ids.isna().sum())} rows have no patch id; drop them or fill them in")
    ids = patch_ids.astype("str")
    scene, first_of_scene = _distinct(ids.str.slice(stop=-_CELL_LENGTH))
    cell, first_of_cell = _distinct(ids.str.slice(start=-_CELL_LENGTH))
    tiles = [Tile.from_name(PatchId.parse(ids.iloc[index]).tile) for index in first_of_scene]
    cells = [PatchId.parse(ids.iloc[index]) for index in first_of_cell]
    for each in cells:
        if max(each.col, each.row) >= PATCHES_PER_SIDE:
            raise SplitError(
                f"patch {each} lies outside its tile; columns and rows run from 0 to {PATCHES_PER_SIDE - 1}", patch_id=str(each)
            )
    col = np.array([each.col for each in cells], np.int64)[cell]
    row = np.array([each.row for each in cells], np.int64)[cell]
    right_m, up_m = corners(_AT_ORIGIN, col, row)
    tile_x_m = np.array([tile.ul_x_m for tile in tiles], np.int64)[scene]
    tile_y_m = np.array([tile.ul_y_m for tile in tiles], np.int64)[scene]
    return pd.DataFrame(
        {
            "tile_id": np.array([tile.name for tile in tiles], object)[scene],
            "col": col,
            "row": row,
            "epsg": np.array([tile.epsg for tile in tiles], np.int64)[scene],
            "ul_x_m": tile_x_m + right_m,
            "ul_y_m": tile_y_m + up_m,
        },
        index=patch_ids.index,
    )


def _distinct(texts: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct texts: the number of each row, and the first row of each number."""
    numbers, uniques = pd.factorize(texts)
    first = np.full(len(uniques), len(texts), np.int64)
    np.minimum.at(first, numbers, np.arange(len(texts)))
    return numbers, first
