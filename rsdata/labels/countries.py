"""Which country a patch belongs to: the nearest of those the recipe names.

Natural Earth writes -99 where it has no code for a country, as for France, Norway and Kosovo in ``ISO_A2``; such a
cell is never taken for a name, and the next column that has a code is read instead.
"""

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import shapely

from rsdata.errors import LabelError
from rsdata.labels.vectors import VECTOR_ERRORS, readable

REACH_DEGREES = 15  # countries are looked for this far around the scene
_NO_CODE = {"-99", "-099", "-1", ""}
# Columns of Natural Earth that name a country by code, in the order in which they are asked.
_CODE_COLUMNS = ("ISO_A2", "ISO_A2_EH", "ISO_A3", "ISO_A3_EH", "ADM0_A3")
_NAME_COLUMNS = ("NAME", "ADMIN", "NAME_LONG")


def nearest_countries(
    path: Path, lon: np.ndarray, lat: np.ndarray, name_column: str = "NAME", names: Sequence[str] | None = None
) -> list[str]:
    """Name the country nearest to each patch centre.

    Distances are measured in an equidistant projection around the middle of the points; where several countries
    are equally near, to the millimetre, the first by name is taken.

    Args:
        path: a polygon layer with one feature or more per country.
        lon, lat: (n,) patch centres, degrees.
        name_column: attribute that holds what a country is to be called; a cell without a code (-99) is filled
            from the other code columns of the layer.
        names: use only these countries, each by ``name_column``, or by any name or code column of Natural Earth.

    Raises: LabelError if the layer lacks the column or a country, or none lies near.
    """
    try:
        fields = [str(item) for item in pyogrio.read_info(path)["fields"]]
    except VECTOR_ERRORS as error:
        raise LabelError(
            f"{path} cannot be opened as vectors ({error}); name a country layer under countries.path", path=str(path)
        ) from error
    if name_column not in fields:
        raise LabelError(
            f"{path.name} has no column {name_column}, only {', '.join(sorted(fields))}; name it under countries.name_column",
            path=str(path),
        )
    codes = [column for column in _CODE_COLUMNS if column in fields and column != name_column]
    others = [column for column in _NAME_COLUMNS if column in fields and column != name_column]
    with readable(path):
        countries = gpd.read_file(path, columns=[name_column, *codes, *others]).to_crs(4326)
        countries = countries.assign(geometry=countries.geometry.make_valid())
    texts = countries[[name_column, *codes, *others]].astype("string")
    texts = texts.where(~texts.isin(_NO_CODE))
    countries["called"] = texts[[name_column, *codes]].bfill(axis=1)[name_column]
    countries = countries[countries["called"].notna()]
    if names is not None:
        countries = countries[_asked(path, texts.loc[countries.index], countries["called"], names, name_column)]
    middle_lon, middle_lat = float(np.mean(lon)), float(np.mean(lat))
    reach = shapely.box(middle_lon - REACH_DEGREES, middle_lat - REACH_DEGREES, middle_lon + REACH_DEGREES, middle_lat + REACH_DEGREES)
    countries = countries.assign(geometry=countries.geometry.intersection(reach))
    countries = countries[~countries.geometry.is_empty].sort_values("called", kind="stable")
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
    distance_m = np.stack([shapely.distance(outline, points) for outline in outlines]).round(3)
    return [str(name) for name in countries["called"].to_numpy()[distance_m.argmin(axis=0)]]


def _asked(path: Path, texts: pd.DataFrame, called: pd.Series, names: Sequence[str], name_column: str) -> pd.Series:
    """Which rows a recipe asks for; each name is looked up column by column, and the first that has it counts."""
    wanted = pd.Series(False, index=texts.index)
    unknown = []
    for name in names:
        matches = (called == name, *(texts[column] == name for column in texts))
        rows = next((match.fillna(False) for match in matches if match.any()), None)
        if rows is None:
            unknown.append(name)
        else:
            wanted |= rows.astype(bool)
    if unknown:
        looked = [name_column, *(column for column in texts if column != name_column)]
        raise LabelError(
            f"{path.name} has no country {', '.join(sorted(unknown))}; see its column{'s' if len(looked) > 1 else ''} {', '.join(looked)}",
            path=str(path),
            names=sorted(unknown),
        )
    return wanted
