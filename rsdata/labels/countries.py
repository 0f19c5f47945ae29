"""Which country a patch belongs to: the nearest of those the recipe names."""

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from rsdata.errors import LabelError

REACH_DEGREES = 15  # countries are looked for this far around the scene


def nearest_countries(
    path: Path, lon: np.ndarray, lat: np.ndarray, name_column: str = "NAME", names: Sequence[str] | None = None
) -> list[str]:
    """Name the country nearest to each patch centre.

    Distances are measured in an equidistant projection around the middle of the points; where several countries
    are equally near, the first by name is taken.

    Args:
        path: a polygon layer with one feature or more per country.
        lon, lat: (n,) patch centres, degrees.
        name_column: attribute with the country's name.
        names: use only these countries.

    Raises: LabelError if the layer lacks the column or a country, or none lies near.
    """
    try:
        fields = [str(item) for item in pyogrio.read_info(path)["fields"]]
    except (DataSourceError, DataLayerError) as error:
        raise LabelError(
            f"{path} cannot be opened as vectors ({error}); name a country layer under countries.path", path=str(path)
        ) from error
    if name_column not in fields:
        raise LabelError(
            f"{path.name} has no column {name_column}, only {', '.join(sorted(fields))}; name it under countries.name_column",
            path=str(path),
        )
    countries = gpd.read_file(path, columns=[name_column]).to_crs(4326)
    if names is not None:
        unknown = sorted(set(names) - set(countries[name_column]))
        if unknown:
            raise LabelError(
                f"{path.name} has no country {', '.join(unknown)}; see its column {name_column}", path=str(path), names=unknown
            )
        countries = countries[countries[name_column].isin(names)]
    middle_lon, middle_lat = float(np.mean(lon)), float(np.mean(lat))
    reach = shapely.box(middle_lon - REACH_DEGREES, middle_lat - REACH_DEGREES, middle_lon + REACH_DEGREES, middle_lat + REACH_DEGREES)
    countries = countries.assign(geometry=countries.geometry.make_valid().intersection(reach))
    countries = countries[~countries.geometry.is_empty].sort_values(name_column, kind="stable")
    if countries.empty:
        raise LabelError(
            f"none of the countries of {path.name} lies within {REACH_DEGREES} degrees of the scene at {middle_lon:.2f} east "
            f"{middle_lat:.2f} north; name a layer that covers it",
            path=str(path),
        )
    equidistant = pyproj.CRS.from_dict({"proj": "aeqd", "lon_0": middle_lon, "lat_0": middle_lat, "datum": "WGS84", "units": "m"})
    x, y = pyproj.Transformer.from_crs(4326, equidistant, always_xy=True).transform(lon, lat)
    points = shapely.points(x, y)
    outlines = countries.geometry.to_crs(equidistant).to_numpy()
    shapely.prepare(outlines)
    distance_m = np.stack([shapely.distance(outline, points) for outline in outlines])
    return [str(name) for name in countries[name_column].to_numpy()[distance_m.argmin(axis=0)]]
