"""Heights under a scene: which tiles of a recipe's elevation model it needs, and fetching those named by URL.

Only Sentinel-1 in radar geometry needs heights, so only then is a tile looked for, fetched, or part of a receipt's key.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj

from rsdata import scenes
from rsdata.errors import DownloadError, RecipeError, SceneError
from rsdata.recipe import Recipe
from rsdata.records import ScenePair, Sentinel2Scene
from rsdata.scenes import mosaic, remote
from rsdata.scenes.sentinel2_url import as_url
from rsdata.steps.fetching import Note, copy_of, fetch_url, forget, is_offline
from rsdata.steps.inputs import local_path
from rsdata.workspace import Workspace

MARGIN_M = 5_120  # what may hide a pixel from the radar is looked for so far away
_EDGE_POINTS = 21


def with_heights(
    processing: scenes.Sentinel1Processing, pair: ScenePair, recipe: Recipe, workspace: Workspace
) -> scenes.Sentinel1Processing:
    """How Sentinel-1 is processed over one scene: with the files of heights under it, if any of its products needs them.

    Raises: SceneError if a tile is missing that the recipe does not state to be sea.
    """
    said = recipe.scenes
    if said is None or not said.dem or not _needs_heights(pair):
        return processing
    bounds, sea = ground_of(pair.s2), _sea(recipe)
    chosen = mosaic.choose_dem_tiles(_local_sources(recipe, workspace, bounds), bounds, sea)
    if not chosen:
        raise SceneError(
            f"`dem` has none of the tiles under {pair.s2.product}; look at the folder or address; one tile at least must be there",
            product=pair.s2.product,
        )
    return replace(
        processing,
        dem=tuple(chosen),
        dem_sea=tuple(mosaic.sea_tiles(chosen, bounds, sea)),
        geoid=str(local_path(said.geoid, recipe, workspace)) if said.geoid else None,
    )


def fetch_heights(
    pairs: Iterable[ScenePair], recipe: Recipe, workspace: Workspace, session: remote.Session, note: Note = lambda line: None
) -> None:
    """Fetch the tiles under scenes from the addresses that a recipe names; a tile that is not there is left out.

    Raises: DownloadError if a server cannot be reached or refuses.
    """
    if is_offline():
        return
    sea = _sea(recipe)
    asked: set[str] = set()
    for pair in pairs:
        if not _needs_heights(pair):
            continue
        for corner, url in _addresses(recipe, ground_of(pair.s2)):
            if url in asked or (not isinstance(sea, bool) and corner in sea):
                continue
            asked.add(url)
            try:
                fetch_url(url, workspace, session, note)
            except DownloadError as error:
                if corner is None or error.context.get("status") not in (404, 410):
                    raise
                forget(url, workspace)


def names_remote_heights(recipe: Recipe) -> bool:
    return recipe.scenes is not None and any(as_url(each) for each in recipe.scenes.dem)


def ground_of(scene: Sentinel2Scene) -> mosaic.Bounds:
    """West, south, east and north in degrees of the ground whose heights a scene needs; east is beyond 180 across that meridian."""
    x_m = np.linspace(scene.ul_x_m - MARGIN_M, scene.ul_x_m + scene.width_m + MARGIN_M, _EDGE_POINTS)
    y_m = np.linspace(scene.ul_y_m - scene.height_m - MARGIN_M, scene.ul_y_m + MARGIN_M, _EDGE_POINTS)
    lon, lat = pyproj.Transformer.from_crs(scene.epsg, 4326, always_xy=True).transform(*np.meshgrid(x_m, y_m))
    lon = np.where(lon < 0, lon + 360, lon) if np.ptp(lon) > 180 else lon
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())


def _needs_heights(pair: ScenePair) -> bool:
    return any(match.scene.in_radar_geometry for match in pair.s1)


def _sea(recipe: Recipe) -> list[mosaic.Corner] | bool:
    said = recipe.scenes.dem_sea if recipe.scenes else False
    return said if isinstance(said, bool) else mosaic.sea_corners(said)


def _addresses(recipe: Recipe, bounds: mosaic.Bounds) -> Iterator[tuple[mosaic.Corner | None, str]]:
    """What a recipe's addresses offer for a box: tiles with their corners, and files of other names, which are for any ground."""
    wanted = mosaic.dem_corners(*bounds)
    for each in recipe.scenes.dem if recipe.scenes else []:
        url = as_url(each)
        if url is None:
            continue
        if "*" in url:
            raise RecipeError(f"`scenes.dem` names {each}; name the bucket or folder that the tiles lie in, or a template with {{name}}")
        if "{name}" not in url and re.search(r"\.tiff?$", url, re.IGNORECASE):
            corner = mosaic.dem_corner(url.rsplit("/", 1)[1])
            if corner is None or corner in wanted:
                yield corner, url
            continue
        yield from mosaic.tile_addresses(url, bounds).items()


def _local_sources(recipe: Recipe, workspace: Workspace, bounds: mosaic.Bounds) -> list[str]:
    local = [recipe.absolute(each) for each in recipe.scenes.dem if as_url(each) is None] if recipe.scenes else []
    copies: list[Path] = []
    for corner, url in _addresses(recipe, bounds):
        copy = copy_of(url, workspace)
        if copy is not None:
            copies.append(copy)
        elif corner is None:
            raise DownloadError(f"{remote.public_href(url)} has not been fetched yet; run `rsdata build` where its server can be reached")
    return [*local, *map(str, copies)]
