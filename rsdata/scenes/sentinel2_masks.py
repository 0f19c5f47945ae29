"""Quality masks of Sentinel-2 products: rasters from baseline 04.00 on, GML polygons before.

Either kind comes out alike: ``open_mask`` gives pixels on the band's own grid. Polygons are burnt by pixel centre,
as the masks' authors drew them along pixel edges.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

import geopandas as gpd
import numpy as np
import rasterio
import rioxarray
import shapely
import xarray as xr
from rasterio.features import rasterize

from rsdata.errors import SceneError
from rsdata.foreign import RASTER_ERRORS
from rsdata.scenes.sentinel2 import CHUNKS, Place, Sentinel2Product
from rsdata.sensors.sentinel2 import CLASSI_FLAGS, CLASSI_GSD_M, QUALIT_FLAGS

_FLAGS = {"CLASSI": CLASSI_FLAGS, "QUALIT": QUALIT_FLAGS}
_POLYGON_FLAGS = {"CLOUDS": CLASSI_FLAGS[:2]}  # named even where there is no such cloud


def open_mask(product: Sentinel2Product, kind: str, band: str | None = None, chunks: Mapping[str, int] | None = None) -> xr.DataArray:
    """Open one mask on its own grid.

    Args:
        kind: ``CLASSI`` (opaque cloud, cirrus, snow; 60 m), ``QUALIT`` (eight technical flags), ``DETFOO`` (detector), or a
            GML mask of earlier products such as ``CLOUDS``, ``DEFECT``, ``NODATA``, ``SATURA``, ``TECQUA``.
        band: whose mask; none for ``CLASSI`` and ``CLOUDS``, which go for all bands.
        chunks: dask chunks in pixels, for rasters. Polygons are burnt at once.

    Returns: uint8. ``DETFOO``: (y, x) detector number 1 to 12, 0 for none. ``CLASSI``, ``QUALIT`` and polygons: (flag, y, x),
        1 where the flag named in the coordinate ``flag`` holds. ``CLOUDS`` is burnt at 60 m, others on the band's grid.
    Raises: SceneError if the product has no such mask, or its file is damaged or lies elsewhere.
    """
    name, inside = _file_of(product, kind, band)
    gsd_m = CLASSI_GSD_M if band is None else product.gsd_m(band)
    attributes = {"long_name": f"MSK_{name}", "units": "1"}
    if inside.endswith(".gml"):
        polygons = read_mask_polygons(product, kind, band)
        place = _whole(product, gsd_m)
        if kind == "DETFOO":
            burnt = burn(polygons, place, polygons["detector"].to_numpy())
            return _labelled(product, burnt, place, name, attributes)
        flags = list(dict.fromkeys((*_POLYGON_FLAGS.get(kind, ()), *sorted(polygons["mask_type"])))) or [kind]
        layers = [burn(polygons[polygons["mask_type"] == flag], place) for flag in flags]
        return _labelled(product, np.stack(layers), place, name, attributes, flags)
    where = f"{product.files.path}: {inside}"
    try:
        with rasterio.open(product.files.gdal_path(inside)) as raster:
            count, place = raster.count, product.place_of(raster, where, gsd_m)
        opened = rioxarray.open_rasterio(
            product.files.gdal_path(inside), chunks=dict(chunks or CHUNKS), lock=False, parse_coordinates=False
        )
    except RASTER_ERRORS as error:
        raise SceneError(f"{where} cannot be opened ({error.__cause__ or error}); fetch the product again", file=inside) from error
    flags = list(_FLAGS.get(kind, ()))
    if not isinstance(opened, xr.DataArray) or count != max(1, len(flags)):
        raise SceneError(f"{where} holds {count} rasters; expected {max(1, len(flags))}, as in MSK_{kind}", file=inside)
    return _labelled(product, opened.data if flags else opened.isel(band=0).data, place, name, attributes, flags)


def read_mask_polygons(product: Sentinel2Product, kind: str, band: str | None = None) -> gpd.GeoDataFrame:
    """Read a GML mask, as products before baseline 04.00 carry them.

    Returns: ``feature_id``, ``mask_type`` such as OPAQUE, CIRRUS or DETECTOR_FOOTPRINT, ``detector`` (1 to 12, 0 where it
        is none) and ``geometry`` in the tile's CRS; no rows where nothing is masked.
    Raises: SceneError if the product has no such mask as GML, or it is damaged or in another CRS than the tile.
    """
    _, inside = _file_of(product, kind, band)
    where = f"{product.files.path}: {inside}"
    if not inside.endswith(".gml"):
        raise SceneError(f"{where} is a raster, as masks are from baseline 04.00 on; read it with open_mask", file=inside)
    root = product.files.read_xml(inside)
    for item in root.iter():
        code = (item.get("srsName") or "").rsplit(":", 1)[-1]
        if code.isdigit() and int(code) != product.scene.epsg:
            raise SceneError(f"{where} is in EPSG:{code}; expected EPSG:{product.scene.epsg}, that of its tile", file=inside)
    features = [(feature, polygon) for feature in root.iter(_tag("eop", "MaskFeature")) for polygon in feature.iter(_tag("gml", "Polygon"))]
    ids = [feature.get(_tag("gml", "id"), "") for feature, _ in features]
    columns = {
        "feature_id": ids,
        "mask_type": [(feature.findtext("{*}maskType") or kind).strip() for feature, _ in features],
        "detector": np.array([_detector(feature_id) for feature_id in ids], np.uint8),
    }
    shapes = [_polygon(polygon, where) for _, polygon in features]
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=product.scene.epsg)


def burn(polygons: gpd.GeoDataFrame, place: Place, values: np.ndarray | None = None) -> np.ndarray:
    """Burn polygons into pixels whose centre they hold: (y, x) uint8, 0 outside; later polygons lie on top.

    Args:
        values: (n,) uint8 for each polygon; 1 if absent.
    """
    if polygons.empty:
        return np.zeros(place.shape_yx, np.uint8)
    shapes = zip(polygons.geometry, np.ones(len(polygons), np.uint8) if values is None else values, strict=True)
    return rasterize(((shape, int(value)) for shape, value in shapes), out_shape=place.shape_yx, transform=place.transform, dtype="uint8")


def _file_of(product: Sentinel2Product, kind: str, band: str | None) -> tuple[str, str]:
    name = kind if band is None else f"{kind}_{band}"
    if name not in product.scene.masks:
        raise SceneError(
            f"{product.files.path} has no mask {name}, only {', '.join(product.scene.masks) or 'none'}",
            path=str(product.files.path),
            mask=name,
        )
    return name, product.scene.masks[name]


def _whole(product: Sentinel2Product, gsd_m: int) -> Place:
    scene = product.scene
    return Place(scene.ul_x_m, scene.ul_y_m, gsd_m, (scene.height_m // gsd_m, scene.width_m // gsd_m))


def _labelled(
    product: Sentinel2Product, pixels: np.ndarray, place: Place, name: str, attributes: dict[str, str], flags: list[str] | None = None
) -> xr.DataArray:
    coordinates: dict[str, object] = dict(place.coordinates())
    if flags:
        coordinates["flag"] = flags
    made = xr.DataArray(pixels, coordinates, ("flag", "y", "x") if flags else ("y", "x"), name, attributes)
    return made.rio.write_crs(product.scene.epsg).rio.write_transform(place.transform)


_NAMESPACES = {"eop": "http://www.opengis.net/eop/2.0", "gml": "http://www.opengis.net/gml/3.2"}


def _tag(prefix: str, name: str) -> str:
    return f"{{{_NAMESPACES[prefix]}}}{name}"


def _detector(feature_id: str) -> int:
    """Detector in an id such as ``detector_footprint-B02-09-0``."""
    parts = feature_id.split("-")
    return int(parts[2]) if parts[0] == "detector_footprint" and len(parts) > 2 and parts[2].isdigit() else 0


def _polygon(polygon: Element, where: str) -> shapely.Polygon:
    rings = {"exterior": [], "interior": []}  # type: dict[str, list[np.ndarray]]
    for side, found in rings.items():
        for ring in polygon.iter(_tag("gml", side)):
            for positions in ring.iter(_tag("gml", "posList")):
                numbers = (positions.text or "").split()
                dimension = int(positions.get("srsDimension", "2"))
                try:
                    found.append(np.array(numbers, float).reshape(-1, dimension)[:, :2])
                except ValueError as error:
                    raise SceneError(
                        f"{where} has a ring of {len(numbers)} numbers in {dimension} dimensions; fetch the product again",
                        file=PurePosixPath(where).name,
                    ) from error
    if len(rings["exterior"]) != 1 or any(len(ring) < 4 for side in rings.values() for ring in side):
        raise SceneError(f"{where} has a polygon without a closed outline; fetch the product again", file=PurePosixPath(where).name)
    return shapely.Polygon(rings["exterior"][0], rings["interior"])
