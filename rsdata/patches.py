"""Patches of a scene: one row for each whole cell of the 1200 m grid, with its name, place and time.

Nothing is resampled and no pixel is read here; a row says where in the raster its pixels lie.
"""

from datetime import datetime

import geopandas as gpd
import pandas as pd

from rsdata.errors import GridError
from rsdata.grid import PatchGrid, Tile, corners, footprints
from rsdata.records import SEASON_OF_MONTH, PatchId, Season, Sentinel2Scene


def season_of(moment: datetime) -> Season:
    """Meteorological season of the calendar month, northern hemisphere: 31 May is spring, 1 June is summer."""
    return SEASON_OF_MONTH[moment.month - 1]


def grid_of(scene: Sentinel2Scene) -> PatchGrid:
    """The patches that lie wholly in a scene's raster.

    Raises: GridError if the raster does not lie in its tile or is too small for one patch.
    """
    tile = Tile.from_name(scene.tile_id)
    if tile.epsg != scene.epsg:
        raise GridError(f"{scene.product} is in EPSG:{scene.epsg}, but tile {tile.name} lies in EPSG:{tile.epsg}", product=scene.product)
    grid = PatchGrid(tile, scene.ul_x_m, scene.ul_y_m, scene.width_m, scene.height_m)
    if not grid.cols or not grid.rows:
        raise GridError(
            f"{scene.product} covers {scene.width_m} x {scene.height_m} m, too little for one patch of 1200 m on the tile's grid"
        )
    return grid


def cut_patches(scene: Sentinel2Scene) -> pd.DataFrame:
    """List a scene's patches by row, then column: the columns of ``PatchPlace``."""
    grid = grid_of(scene)
    cols, rows = grid.cells()
    ul_x_m, ul_y_m = corners(grid.tile, cols, rows)
    return pd.DataFrame(
        {
            "patch_id": [str(PatchId(scene.scene_id, int(col), int(row))) for col, row in zip(cols, rows, strict=True)],
            "tile_id": scene.tile_id,
            "s2_product": scene.product,
            "col": cols,
            "row": rows,
            "epsg": scene.epsg,
            "ul_x_m": ul_x_m,
            "ul_y_m": ul_y_m,
            "datetime": pd.Timestamp(scene.datetime),
            "season": season_of(scene.datetime),
        }
    )


def with_footprints(patches: pd.DataFrame) -> gpd.GeoDataFrame:
    """Add each patch's outline in longitude and latitude (EPSG:4326), worked out from its corner."""
    outlines = pd.Series(index=patches.index, dtype=object)
    for epsg, group in patches.groupby("epsg"):
        outlines[group.index] = footprints(group["ul_x_m"].to_numpy(), group["ul_y_m"].to_numpy(), int(epsg))
    return gpd.GeoDataFrame(patches, geometry=outlines.to_numpy(), crs=4326)
