"""The report's maps: every place as a square to zoom into, and each region by itself for paper and for pages without scripts."""

from collections.abc import Mapping, Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from rsdata.catalog import plots
from rsdata.catalog.map_data import Mark, pack_squares
from rsdata.grid import PATCH_SIDE_M


def squares(patches: gpd.GeoDataFrame, group: pd.Series, colors: Mapping[str, str], marks: Sequence[Mark]) -> tuple[str, int]:
    """The zoomable map's data and how far squares were merged; see ``pack_squares``.

    A place that was seen on several dates is drawn once, in the first of its groups in the order of ``colors``.

    Args:
        patches: tile_id, col, row and footprints in longitude and latitude.
        group: the group each patch belongs to, a key of ``colors``.
        colors: group to #rrggbb, the most telling group first; it is drawn above the others.
        marks: places to ring.
    """
    places = plots.distinct_places(patches, group, colors)
    corners = shapely.get_coordinates(shapely.get_exterior_ring(places.geometry.to_numpy())).reshape(len(places), 5, 2)[
        :, :4
    ]  # the first corner closes the ring
    lon, lat = corners[:, :, 0].mean(axis=1), corners[:, :, 1].mean(axis=1)
    where = pd.DataFrame(
        {"lon": lon, "lat": lat, "side_m": float(PATCH_SIDE_M), "turn_deg": _turn_deg(corners), "split": places["group"].to_numpy()}
    )
    return pack_squares(where, dict(reversed(list(colors.items()))), marks)


def _turn_deg(corners: np.ndarray) -> np.ndarray:
    """How far each square's upward side points east of north, from its corners (n, 4, 2) in degrees, in whatever order they run."""
    sides = np.roll(corners, -1, axis=1) - corners
    sides = sides * np.stack([np.cos(np.radians(corners[:, :, 1])), np.ones(corners.shape[:2])], axis=-1)
    up = sides[np.arange(len(sides)), sides[:, :, 1].argmax(axis=1)] if len(sides) else sides[:, 0]
    turned: np.ndarray = np.degrees(np.arctan2(up[:, 0], up[:, 1]))
    return turned


def regions(patches: gpd.GeoDataFrame) -> list[dict[str, object]]:
    """Clusters of neighbouring tiles as places to go to: their name, centre, and how far they reach."""
    if not len(patches):
        return []
    found = []
    bounds = patches.bounds
    for tiles in plots.clusters(patches):
        box = bounds[patches["tile_id"].isin(tiles)]
        west, south, east, north = box["minx"].min(), box["miny"].min(), box["maxx"].max(), box["maxy"].max()
        middle = (south + north) / 2
        span_km = max((east - west) * np.cos(np.radians(middle)), north - south) * plots.KM_PER_DEGREE
        found.append(
            {"name": plots.few(tiles), "lon": round((west + east) / 2, 5), "lat": round(middle, 5), "span_m": round(span_km * 1150)}
        )
    return found
