"""Polygon layers of any format, read by bounding box and never whole, in file order.

GDAL reads GeoPackage, Shapefile (zipped too), File Geodatabase and the rest; GeoParquet goes through Arrow, by its
bbox column if it has one and else in batches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from rsdata.errors import LabelError
from rsdata.foreign import load_json, open_parquet
from rsdata.labels.layer import Area

_PARQUET = {".parquet", ".geoparquet"}
_BATCH_ROWS = 50_000
_POLYGON, _MULTIPOLYGON, _COLLECTION = 3, 6, 7  # GEOS type ids

Box = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True)
class Column:
    """Where in a file the class of each polygon stands."""

    layer: str
    name: str
    crs: pyproj.CRS


@dataclass(frozen=True)
class Polygons:
    """The polygons over an area, in the area's CRS and in file order."""

    values: pd.Series  # (n,) as the file has them
    geometry: np.ndarray  # (n,) valid shapely polygons and multipolygons
    repaired: np.ndarray  # (n,) bool, whether the file's own geometry was invalid
    left_out: int  # features that are no polygons


def find_column(path: Path, layer: str | None, choose: Callable[[list[str]], str | None], wanted: str, example: str) -> Column:
    """The first layer that has a class column, and that column.

    Args:
        choose: picks the column from those of a layer; None if none will do.
        wanted, example: what was looked for, in words, for the message.
    """
    if not path.exists():
        raise LabelError(f"{path} does not exist; name the file with the land cover polygons under labels.path", path=str(path))
    with readable(path):
        seen = _parquet_layers(path) if _is_parquet(path) else _gdal_layers(path, layer)
    for name, (fields, crs) in seen.items():
        column = choose(fields)
        if column is None:
            continue
        if crs is None:
            raise LabelError(f"{path.name} (layer {name}) does not state its CRS; assign one, EPSG:3035 for CORINE", path=str(path))
        return Column(name, column, crs)
    columns = sorted({field for fields, _ in seen.values() for field in fields})
    raise LabelError(
        f"{path.name} has no column {wanted}, only {', '.join(columns) or 'none at all'}; {example}", path=str(path), columns=columns
    )


def read_polygons(path: Path, column: Column, area: Area) -> Polygons:
    """Read the polygons that touch an area and repair those that are invalid.

    Corners are brought to the area's CRS and joined by straight lines there.

    Raises: LabelError if no polygon touches the area.
    """
    box = area.bounds_in(column.crs)
    with readable(path):
        found = _read_parquet(path, column, box) if _is_parquet(path) else _read_gdal(path, column, box)
        found[column.name].tolist()  # or texts that are none would be found only where they are used
        found = found[~found.geometry.isna()].to_crs(area.epsg)
        found = found[found.intersects(shapely.box(*area.bounds))]
        geometry = shapely.force_2d(found.geometry.to_numpy())
        valid = shapely.is_valid(geometry)
        geometry[~valid] = shapely.make_valid(geometry[~valid])
        mixed = shapely.get_type_id(geometry) == _COLLECTION
        geometry[mixed] = [_polygons_of(each) for each in geometry[mixed]]
    polygonal = np.isin(shapely.get_type_id(geometry), (_POLYGON, _MULTIPOLYGON)) & ~shapely.is_empty(geometry)
    if not polygonal.any():
        raise LabelError(
            f"no polygon of {path.name} (layer {column.layer}) touches the scene, which covers {area}; "
            "name a land cover file of the same region",
            path=str(path),
        )
    return Polygons(
        values=found.loc[polygonal, column.name].reset_index(drop=True),
        geometry=geometry[polygonal],
        repaired=~valid[polygonal],
        left_out=int((~polygonal).sum()),
    )


def _polygons_of(collection: shapely.Geometry) -> shapely.Geometry:
    """The polygons in a collection; a repair may leave lines and points beside them, which must not be drawn."""
    parts = shapely.get_parts(collection)
    return shapely.union_all(parts[np.isin(shapely.get_type_id(parts), (_POLYGON, _MULTIPOLYGON))])


VECTOR_ERRORS = (DataSourceError, DataLayerError, UnicodeDecodeError)  # of pyogrio; the last where a name in the file is no text
# The last two of metadata that lack what they should have, and of days that never were or metadata that are no JSON.
_UNREADABLE = (
    *VECTOR_ERRORS,
    OSError,
    pa.ArrowException,
    shapely.errors.ShapelyError,
    pyproj.exceptions.ProjError,
    KeyError,
    ValueError,
)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in words that a layer opens, but what is in it does not read.

    Raises: LabelError in the place of what GDAL, Arrow and GEOS raise.
    """
    try:
        yield
    except LabelError:  # a ValueError itself
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise LabelError(f"{path} holds features that cannot be read ({reason}); write the layer anew", path=str(path)) from error


def _gdal_layers(path: Path, layer: str | None) -> dict[str, tuple[list[str], pyproj.CRS | None]]:
    try:
        names = [layer] if layer else [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        seen = {name: pyogrio.read_info(path, layer=name) for name in names}
    except VECTOR_ERRORS as error:
        raise LabelError(
            f"{path} cannot be opened as vectors ({error}); expected a GeoPackage or another GDAL format, so name another file",
            path=str(path),
        ) from error
    return {
        name: ([str(field) for field in info["fields"]], pyproj.CRS(info["crs"]) if info["crs"] else None) for name, info in seen.items()
    }


def _read_gdal(path: Path, column: Column, box: Box) -> gpd.GeoDataFrame:
    # A spatial index hands out features in its own order, so they are put back into that of the file.
    return pyogrio.read_dataframe(path, layer=column.layer, bbox=box, columns=[column.name], fid_as_index=True).sort_index()


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in _PARQUET


def _parquet_geometry(path: Path) -> tuple[pq.ParquetFile, str, dict[str, Any]]:
    """The open file, the name of its geometry column and what its metadata say of it."""
    try:
        file = open_parquet(path)
        geo = load_json((file.schema_arrow.metadata or {})[b"geo"])
        return file, geo["primary_column"], geo["columns"][geo["primary_column"]]
    except (pa.ArrowException, OSError) as error:
        raise LabelError(f"{path} cannot be opened as Parquet ({error}); write it anew", path=str(path)) from error
    except (KeyError, ValueError, TypeError) as error:
        raise LabelError(
            f"{path.name} is Parquet without the metadata of GeoParquet; write it with geopandas or GDAL", path=str(path)
        ) from error


def _parquet_layers(path: Path) -> dict[str, tuple[list[str], pyproj.CRS | None]]:
    file, geometry, about = _parquet_geometry(path)
    crs = about.get("crs", "OGC:CRS84")  # the format's own default
    fields = [name for name in file.schema_arrow.names if name != geometry]
    return {path.stem: (fields, pyproj.CRS.from_user_input(crs) if crs else None)}


def _read_parquet(path: Path, column: Column, box: Box) -> gpd.GeoDataFrame:
    file, geometry, about = _parquet_geometry(path)
    if "bbox" in about.get("covering", {}):
        return gpd.read_parquet(path, columns=[column.name, geometry], bbox=box)
    if about.get("encoding") != "WKB":
        raise LabelError(
            f"{path.name} has geometries in the encoding {about.get('encoding')} and no bbox column; write it with "
            "GeoDataFrame.to_parquet(…, write_covering_bbox=True)",
            path=str(path),
        )
    left, bottom, right, top = box
    values: list[Any] = []
    shapes: list[np.ndarray] = []
    for batch in file.iter_batches(_BATCH_ROWS, columns=[column.name, geometry]):
        outlines = shapely.from_wkb(batch[geometry].to_numpy(zero_copy_only=False))
        lo_x, lo_y, hi_x, hi_y = shapely.bounds(outlines).T
        near = (hi_x >= left) & (lo_x <= right) & (hi_y >= bottom) & (lo_y <= top)
        shapes.append(outlines[near])
        values += batch[column.name].filter(pa.array(near)).to_pylist()
    return gpd.GeoDataFrame({column.name: values}, geometry=np.concatenate([np.empty(0, object), *shapes]), crs=column.crs)
