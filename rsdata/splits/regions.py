"""The ``regions`` split: countries, tiles, cities or named polygons are held out, or each in turn.

A place belongs to the region its centre lies in, so places next to a border of two regions touch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import shapely
from pydantic import BaseModel, ConfigDict, Field

from rsdata.errors import SplitError
from rsdata.grid import PATCH_SIDE_M
from rsdata.recipe import SplitPart
from rsdata.splits.kfold import divide_folds, one_fold_each
from rsdata.splits.positions import positions
from rsdata.splits.strategy import Division, Grouping, SplitStrategy, column, held_out, one_per_place


class City(BaseModel):
    """A circle on the ground with a name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    lon: float = Field(ge=-180, le=180)
    lat: float = Field(ge=-90, le=90)
    radius_km: float = Field(gt=0)


class Regions(SplitStrategy, Grouping):
    """Hold out the regions named in ``test`` and ``validation``; all others, and what lies in no region, train.

    With ``leave_one_out`` each region is a fold of its own instead, in the order of their names; ``test_fold`` and
    ``validation_fold`` pick from them.
    """

    paths = ("path",)

    by: Literal["country", "tile", "city", "polygon"] = "country"
    test: list[str] = Field([], description="regions held out for test")
    validation: list[str] = Field([], description="regions held out for validation")
    leave_one_out: bool = False
    test_fold: int | None = Field(None, ge=0)
    validation_fold: int | None = Field(None, ge=0)
    cities: list[City] = Field([], description="for `by: city`")
    path: str | None = Field(None, description="vector file with the polygons, for `by: polygon`")
    layer: str | None = None
    name_column: str = "name"

    def divide(self, table: pd.DataFrame, part: SplitPart) -> Division:
        groups = self.groups(table)
        if not self.leave_one_out:
            if self.test_fold is not None or self.validation_fold is not None:
                raise SplitError("`test_fold` and `validation_fold` pick from folds; say `leave_one_out: true` to have folds")
            return Division(held_out(groups, self.test, self.validation, self.by))
        if self.test or self.validation:
            raise SplitError("`leave_one_out` holds out each region in turn; leave out `test` and `validation`, or name a `test_fold`")
        return divide_folds(*one_fold_each(groups, self.by), self.test_fold, self.validation_fold)

    def groups(self, table: pd.DataFrame) -> np.ndarray:
        """Name of the region that each patch lies in, None for none."""
        where = positions(table["patch_id"])
        if self.by == "tile":
            return where["tile_id"].to_numpy(object)
        if self.by == "country":
            return one_per_place(column(table, "country", "regions"), where)
        find = self._cities() if self.by == "city" else self._polygons()
        names = np.full(len(where), None, object)
        for epsg in np.unique(where["epsg"]):
            rows = np.flatnonzero(where["epsg"].to_numpy() == epsg)
            to_lonlat = pyproj.Transformer.from_crs(int(epsg), 4326, always_xy=True)
            half = PATCH_SIDE_M / 2
            names[rows] = find(*to_lonlat.transform(where["ul_x_m"].to_numpy()[rows] + half, where["ul_y_m"].to_numpy()[rows] - half))
        return names

    def _cities(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        if not self.cities:
            raise SplitError("no city is given; name some as `cities: [{name: Vienna, lon: 16.37, lat: 48.21, radius_km: 25}]`")
        names = [city.name for city in self.cities]
        if len(set(names)) < len(names):
            raise SplitError(f"two cities have one name among {', '.join(names)}; give each a name of its own")
        geod = pyproj.Geod(ellps="WGS84")

        def nearest(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
            """The city whose circle the point lies in; of several the one whose middle is nearest."""
            away_km = [geod.inv(np.full(len(lon), city.lon), np.full(len(lon), city.lat), lon, lat)[2] / 1000 for city in self.cities]
            inside = np.where(np.array(away_km) <= np.array([[city.radius_km] for city in self.cities]), away_km, np.inf)
            found = np.array(names, object)[inside.argmin(axis=0)]
            found[~np.isfinite(inside.min(axis=0))] = None
            return found

        return nearest

    def _polygons(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        layer = _read_polygons(self.path, self.layer, self.name_column)
        names = layer[self.name_column].to_numpy(object)
        tree = shapely.STRtree(layer.geometry.to_numpy())

        def containing(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
            """The polygon that covers the point; of several the first by name."""
            point, polygon = tree.query(shapely.points(lon, lat), predicate="covered_by")
            found = np.full(len(lon), len(names), np.int64)
            np.minimum.at(found, point, polygon)
            return np.array([*names, None], object)[found]

        return containing


def _read_polygons(path: str | None, layer: str | None, name_column: str) -> gpd.GeoDataFrame:
    """Named polygons in longitude and latitude, sorted by name.

    Raises: SplitError if the file cannot be read, lacks the column, or does not say its reference system.
    """
    if path is None:
        raise SplitError("no file with polygons is given; name one as `path`")
    try:
        polygons = pyogrio.read_dataframe(Path(path), layer=layer)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise SplitError(f"the polygons {path} cannot be read: {' '.join(str(error).split())}", path=path) from error
    if not isinstance(polygons, gpd.GeoDataFrame) or name_column not in polygons:
        raise SplitError(f"{path} has no polygons with a column `{name_column}`; it has {', '.join(map(str, polygons.columns))}", path=path)
    if polygons.crs is None:
        raise SplitError(f"{path} does not say its reference system; write it with one", path=path)
    polygons = polygons[polygons[name_column].notna() & polygons.geometry.notna()].to_crs(4326)
    polygons[name_column] = polygons[name_column].astype(str)
    return polygons.sort_values(name_column, kind="stable", ignore_index=True)
