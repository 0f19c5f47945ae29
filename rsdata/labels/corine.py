"""CORINE Land Cover as vectors: polygons with a level-3 code, read by bounding box and never whole.

Any file GDAL reads as vectors will do, in any CRS, with the code under any of its usual names.
"""

import re
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from rsdata.errors import LabelError
from rsdata.labels.nomenclature import Nomenclature
from rsdata.sensors.reference_map import NO_POLYGON

# Code_18, CODE_18, code_18, CLC18, CLC_CODE, …
_CODE_COLUMN = re.compile(r"(code|clc)_?(\d{2}|\d{4}|code)", re.IGNORECASE)


def read_corine(
    path: Path,
    bounds: tuple[float, float, float, float],
    epsg: int,
    nomenclature: Nomenclature,
    layer: str | None = None,
    code_column: str | None = None,
) -> gpd.GeoDataFrame:
    """Read the polygons over a raster, in the raster's CRS.

    Args:
        bounds: (left, bottom, right, top) of the raster, metres in ``epsg``.
        nomenclature: which codes may occur.
        layer: of the file; the first that has a code column if absent.
        code_column: attribute with the code; found by its usual names if absent.

    Returns: columns ``code`` (uint16), ``repaired`` (bool) and ``geometry`` in ``epsg``, in the file's order.
    Raises: LabelError if the file, its codes or its place do not serve.
    """
    layer, column, crs = _find_codes(path, layer, code_column)
    to_layer = pyproj.Transformer.from_crs(epsg, crs, always_xy=True)
    box = to_layer.transform_bounds(*bounds, densify_pts=21)
    polygons = gpd.read_file(path, layer=layer, bbox=box, columns=[column]).to_crs(epsg)
    polygons = polygons[polygons.intersects(shapely.box(*bounds))]
    if polygons.empty:
        raise LabelError(
            f"no polygon of {path.name} (layer {layer}) touches the scene, which covers {_degrees(bounds, epsg)}; "
            "name a land cover file of the same region",
            path=str(path),
        )
    codes = pd.to_numeric(polygons[column], errors="coerce")
    allowed = [*nomenclature.code_names, NO_POLYGON]
    unknown = sorted(polygons.loc[~codes.isin(allowed), column].astype(str).unique())
    if unknown:
        raise LabelError(
            f"{path.name}: column {column} holds {', '.join(unknown[:5])}{' and more' if len(unknown) > 5 else ''}; "
            f"expected the {len(nomenclature.code_names)} codes of the nomenclature {nomenclature.name}, such as 111 or 523",
            path=str(path),
            codes=unknown,
        )
    broken = ~polygons.is_valid
    geometry = polygons.geometry.where(~broken, shapely.make_valid(polygons.geometry.values))
    return gpd.GeoDataFrame(
        {"code": codes.astype(np.uint16).to_numpy(), "repaired": broken.to_numpy()}, geometry=geometry.to_numpy(), crs=epsg
    )


def _find_codes(path: Path, layer: str | None, code_column: str | None) -> tuple[str, str, pyproj.CRS]:
    """The layer and column that hold class codes, and the layer's CRS."""
    if not path.exists():
        raise LabelError(f"{path} does not exist; name the file with the land cover polygons under labels.path", path=str(path))
    try:
        layers = [layer] if layer else [str(name) for name, _ in pyogrio.list_layers(path)]
        seen = {name: pyogrio.read_info(path, layer=name) for name in layers}
    except (DataSourceError, DataLayerError) as error:
        raise LabelError(
            f"{path} cannot be opened as vectors ({error}); expected a GeoPackage or another GDAL format", path=str(path)
        ) from error
    for name, info in seen.items():
        fields = [str(item) for item in info["fields"]]
        column = (
            code_column if code_column in fields else next((f for f in fields if code_column is None and _CODE_COLUMN.fullmatch(f)), None)
        )
        if column is None:
            continue
        if info["crs"] is None:
            raise LabelError(f"{path.name} (layer {name}) does not state its CRS; assign one, EPSG:3035 for CORINE", path=str(path))
        return name, column, pyproj.CRS(info["crs"])
    columns = sorted({str(item) for info in seen.values() for item in info["fields"]})
    raise LabelError(
        f"{path.name} has no column {code_column or 'with class codes'}, only {', '.join(columns) or 'none at all'}; expected one "
        "such as Code_18 or CLC18, so name it under labels.code_column",
        path=str(path),
        columns=columns,
    )


def _degrees(bounds: tuple[float, float, float, float], epsg: int) -> str:
    west, south, east, north = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True).transform_bounds(*bounds)
    return f"{west:.2f} to {east:.2f} degrees east and {south:.2f} to {north:.2f} degrees north"
