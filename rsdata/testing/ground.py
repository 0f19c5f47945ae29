"""A made-up ground: land cover polygons as CORINE has them, and the countries it lies in.

The ground is one for the whole globe and follows from a seed and a polygon size alone, so tiles that overlap
see the same polygons. Polygons and pixels agree because the pixels are painted onto these very polygons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import shapely
from rasterio.features import rasterize
from rasterio.transform import from_origin
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Voronoi
from scipy.special import ndtr

from rsdata.grid import PatchGrid
from rsdata.sensors.reference_map import NO_POLYGON
from rsdata.testing.noise import key, smooth_at, uniform
from rsdata.testing.surfaces import SURFACES

EPSG_LAEA = 3035  # ETRS89-extended / LAEA Europe, the CRS of CORINE
_LANDSCAPE_CELLS = 2.5  # width of hills and settled regions, polygons
_NICHE_WIDTH = 0.15  # how far from its niche a land cover is still common
_ANYWHERE = 1.2  # what a land cover without a niche on an axis loses against those with one
_CHANCE = 0.45  # how much of the choice is left to chance
_BORDER_POINTS = 10  # per straight edge, so that borders can bend
_COUNTRIES = ("Arvenia", "Belmark", "Corland")


@dataclass(frozen=True)
class Ground:
    """Polygons around one or several rasters."""

    seed: int
    cell_m: float
    polygons: gpd.GeoDataFrame  # EPSG:3035; Code_18 (string), Area_Ha, ID
    surfaces: np.ndarray  # (polygons,) int, index into SURFACES
    elevation: np.ndarray  # (polygons,) 0 to 1

    @classmethod
    def around(cls, rasters: Sequence[PatchGrid], *, seed: int, cell_m: float) -> "Ground":
        """Lay out all polygons that touch the rasters; neighbours of the same code are one polygon."""
        kept = _unique_cells([_cells_of(raster, cell_m) for raster in rasters])
        around = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4)), axis=-1).reshape(-1, 2)
        cells = _unique_cells(kept[:, None] + around)  # with neighbours, so that every wanted polygon is closed
        wanted = np.flatnonzero(np.isin(_cell_number(cells), _cell_number(kept)))
        i, j = cells.T
        sites = cells + 0.12 + 0.76 * np.stack([uniform(key(seed, "site", axis), i, j) for axis in "xy"], axis=1)
        diagram = Voronoi(sites - sites[0])
        landscape = _landscape(seed, sites)
        surface = _chosen(seed, cells, landscape)

        a, b = diagram.ridge_points.T
        alike = (surface[a] == surface[b]) & np.isin(a, wanted) & np.isin(b, wanted)
        links = coo_array((np.ones(alike.sum()), (a[alike], b[alike])), shape=(len(cells), len(cells)))
        group = connected_components(links, directed=False)[1][wanted]
        outlines = _bent_outlines(seed, diagram, sites[0], wanted)
        members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.unique(group, return_counts=True)[1])[:-1])
        members = [part for part in members if SURFACES[surface[wanted[part[0]]]].code]  # the others stay holes
        shapes = [shapely.normalize(shapely.coverage_union_all(outlines[part])) for part in members]
        shapes = [shapely.transform(shape, lambda xy: xy * cell_m) for shape in shapes]
        kinds = np.array([surface[wanted[part[0]]] for part in members], int)
        polygons = gpd.GeoDataFrame(
            {
                "Code_18": [str(SURFACES[kind].code) for kind in kinds],
                "Area_Ha": [round(shape.area / 10_000, 3) for shape in shapes],
                "ID": [f"SYN_{number + 1}" for number in range(len(shapes))],
            },
            geometry=shapes,
            crs=EPSG_LAEA,
        )
        return cls(seed, cell_m, polygons, kinds, np.array([landscape[wanted[part], 0].mean() for part in members]))

    def polygon_numbers(self, raster: PatchGrid) -> np.ndarray:
        """Number of the polygon under each pixel centre at 10 m, from 1; 0 where there is none. (y, x) int32."""
        shapes = self.polygons.geometry.to_crs(raster.tile.epsg)
        box = shapely.box(raster.ul_x_m, raster.ul_y_m - raster.height_m, raster.ul_x_m + raster.width_m, raster.ul_y_m)
        near = np.sort(shapes.sindex.query(box))
        out_shape = (raster.height_m // 10, raster.width_m // 10)
        if not len(near):
            return np.zeros(out_shape, np.int32)
        return rasterize(
            ((shapes.iloc[number], number + 1) for number in near),
            out_shape=out_shape,
            transform=from_origin(raster.ul_x_m, raster.ul_y_m, 10, 10),
            fill=0,
            dtype="int32",
        )

    def code_map(self, numbers: np.ndarray) -> np.ndarray:
        """Land cover codes of polygon numbers, 999 where there is no polygon. uint16."""
        return np.append(NO_POLYGON, self.polygons["Code_18"].astype(int)).astype(np.uint16)[numbers]


def countries_around(rasters: Sequence[PatchGrid], *, seed: int) -> gpd.GeoDataFrame:
    """Three countries side by side that cover the rasters with room to spare; NAME, EPSG:4326.

    Borders run from south to north and bend; they cut the rasters, seen from west to east, into thirds.
    """
    outline = np.concatenate([np.stack(_outline(raster, 4326), axis=1) for raster in rasters])
    lon = np.unwrap(outline[:, 0], period=360)  # across the 180th meridian longitudes run on
    west, east, south, north = lon.min() - 0.5, lon.max() + 0.5, outline[:, 1].min() - 0.5, outline[:, 1].max() + 0.5
    lats = np.linspace(south, north, 200)
    edges = [np.full(200, west)]
    for number, at in enumerate(np.quantile(lon, [1 / 3, 2 / 3])):
        sway = 0.02 * smooth_at(key(seed, "border", number), np.zeros(200), (lats - south) / 0.08)
        edges.append(at + sway)
    edges.append(np.full(200, east))
    shapes = [
        shapely.Polygon(np.concatenate([np.stack([left, lats], 1), np.stack([right, lats], 1)[::-1]])) for left, right in pairwise(edges)
    ]
    return gpd.GeoDataFrame({"NAME": list(_COUNTRIES)}, geometry=shapes, crs=4326)


def write_layer(path: Path, rows: gpd.GeoDataFrame, layer: str) -> Path:
    """Write a GeoPackage whose bytes follow from its rows alone."""
    aside = path.with_name(f".{path.stem}.part.gpkg")
    aside.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})  # GeoPackage states when it was changed
    try:
        pyogrio.write_dataframe(rows, aside, layer=layer, driver="GPKG", promote_to_multi=True)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    aside.replace(path)
    return path


def _outline(raster: PatchGrid, epsg: int) -> tuple[np.ndarray, np.ndarray]:
    """Points along the raster's edge, x and y in another CRS."""
    along = np.linspace(0, 1, 25)
    x = np.concatenate([along, np.ones(25), 1 - along, np.zeros(25)]) * raster.width_m + raster.ul_x_m
    y = raster.ul_y_m - np.concatenate([np.zeros(25), along, np.ones(25), 1 - along]) * raster.height_m
    a, b = pyproj.Transformer.from_crs(raster.tile.epsg, epsg, always_xy=True).transform(x, y)
    return np.asarray(a), np.asarray(b)


def _cells_of(raster: PatchGrid, cell_m: float) -> np.ndarray:
    """Cells of the lattice of sites whose polygons can reach a raster, (n, 2) int64."""
    shape = shapely.Polygon(np.stack(_outline(raster, EPSG_LAEA), axis=1) / cell_m).buffer(2.5)
    left, bottom, right, top = np.array(shape.bounds)
    cells = np.stack(np.meshgrid(np.arange(left // 1, right), np.arange(bottom // 1, top), indexing="ij"), axis=-1).reshape(-1, 2)
    return cells[shapely.contains_xy(shape, cells + 0.5)].astype(np.int64)


def _unique_cells(cells: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    return np.unique(np.concatenate(list(cells)).reshape(-1, 2), axis=0)


def _cell_number(cells: np.ndarray) -> np.ndarray:
    return (cells[:, 0] << 32) + cells[:, 1]


def _landscape(seed: int, sites: np.ndarray) -> np.ndarray:
    """Elevation, cultivation and wetness at each site, (n, 3), each spread evenly over 0 to 1."""
    x, y = sites.T / _LANDSCAPE_CELLS
    return np.stack([ndtr(1.15 * smooth_at(key(seed, "landscape", axis), x, y)) for axis in range(3)], axis=1)


def _chosen(seed: int, cells: np.ndarray, landscape: np.ndarray) -> np.ndarray:
    """Which surface each site carries: one whose niche is near, with some chance. (n,) index into SURFACES."""
    niches = np.array([[np.nan if at is None else at for at in surface.niche] for surface in SURFACES])
    away = np.nan_to_num((landscape[:, None] - niches[None]) / _NICHE_WIDTH)
    score = np.log([surface.weight for surface in SURFACES]) - 0.5 * (away**2).sum(axis=-1) - _ANYWHERE * np.isnan(niches).sum(axis=-1)
    i, j = cells.T[:, :, None]
    luck = uniform(key(seed, "choice"), i, j, np.arange(len(SURFACES))[None])
    return (score - _CHANCE * np.log(-np.log(luck + 1e-12))).argmax(axis=1)


def _bent_outlines(seed: int, diagram: Voronoi, origin: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Polygons of the wanted sites with bent borders, in cells.

    Every place is shifted by a smooth field, which bends all borders and tears none: neighbours see the same
    points, because each edge is divided from its lower to its higher vertex.
    """
    rings = [np.array(diagram.regions[diagram.point_region[site]]) for site in wanted]
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(ring, -1) for ring in rings])
    forward = start < stop
    low, high = diagram.vertices[np.minimum(start, stop)], diagram.vertices[np.maximum(start, stop)]
    step = np.arange(_BORDER_POINTS)
    along = np.where(forward[:, None], step, _BORDER_POINTS - step)[..., None] / _BORDER_POINTS  # the same from either side
    points = (low[:, None] * (1 - along) + high[:, None] * along).reshape(-1, 2) + origin
    points += np.stack([_shift(key(seed, "bend", axis), points) for axis in "xy"], axis=1)
    ring_of = np.repeat(np.arange(len(rings)), [len(ring) * _BORDER_POINTS for ring in rings])
    return shapely.polygons(shapely.linearrings(points, indices=ring_of))


def _shift(seed: int, points: np.ndarray) -> np.ndarray:
    """Small smooth displacement, in cells; steep nowhere, so no polygon folds over."""
    x, y = points.T
    return 0.13 * smooth_at(seed, x * 0.9, y * 0.9) + 0.035 * smooth_at(seed + 1, x * 3.5, y * 3.5)
