"""Sun and view angles of a Sentinel-2 tile, on the 5 km grid of its MTD_TL.xml.

The grid's values belong to points, not to cells: the first lies on the tile's upper-left corner, the others every
5 km east and south of it. Detectors overlap, and view angles there are the mean over them.
"""

import warnings
from xml.etree.ElementTree import Element

import numpy as np
import xarray as xr
from pyproj.exceptions import CRSError

from rsdata.errors import SceneError
from rsdata.scenes.product import making_sense
from rsdata.scenes.sentinel2 import Sentinel2Product
from rsdata.sensors.sentinel2 import BAND_OF_INDEX, SENTINEL2_L1C


def sun_angles(product: Sentinel2Product) -> xr.Dataset:
    """Sun ``zenith`` and ``azimuth``, each (y, x) float64 degrees, 23 x 23 for a whole tile.

    Raises: SceneError if the product has no such grid.
    """
    root = _root(product)
    grid = root.find(".//{*}Sun_Angles_Grid")
    if grid is None:
        raise SceneError(f"{product.files.path}: {product.scene.tile_xml} has no Sun_Angles_Grid", path=str(product.files.path))
    zenith, step_m = _values(grid, "Zenith", product)
    azimuth, _ = _values(grid, "Azimuth", product, zenith.shape)
    return _dataset(product, {"zenith": (("y", "x"), zenith), "azimuth": (("y", "x"), azimuth)}, step_m, "sun", zenith.shape)


def view_angles(product: Sentinel2Product) -> xr.Dataset:
    """View ``zenith`` and ``azimuth`` by band, each (band, y, x) float64 degrees; NaN where no detector looked.

    Where detectors overlap, zenith is the mean over them and azimuth the direction of their mean unit vector, since
    359 and 1 degrees meet at 0. Azimuth is given in 0 to 360 degrees, clockwise from north.

    Raises: SceneError if the product has no such grids.
    """
    zeniths: dict[str, list[np.ndarray]] = {}
    azimuths: dict[str, list[np.ndarray]] = {}
    step_m = 0.0
    for grid in _root(product).iter("Viewing_Incidence_Angles_Grids"):
        with making_sense(str(product.files.path)):
            band = BAND_OF_INDEX.get(int(grid.get("bandId", "-1")))
        if band is None:
            continue
        zenith, step_m = _values(grid, "Zenith", product, next(iter(zeniths.values()))[0].shape if zeniths else None)
        azimuth, _ = _values(grid, "Azimuth", product, zenith.shape)
        zeniths.setdefault(band, []).append(zenith)
        azimuths.setdefault(band, []).append(np.where(np.isnan(zenith), np.nan, azimuth))
    if not zeniths:
        raise SceneError(f"{product.files.path}: {product.scene.tile_xml} has no view angle grids", path=str(product.files.path))
    bands = [band for band in SENTINEL2_L1C.band_names if band in zeniths]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # points that no detector saw
        zenith = np.stack([np.nanmean(zeniths[band], axis=0) for band in bands])
        vectors = np.stack([np.nanmean(np.exp(1j * np.radians(azimuths[band])), axis=0) for band in bands])
    azimuth = np.degrees(np.angle(vectors)) % 360
    made = _dataset(
        product, {"zenith": (("band", "y", "x"), zenith), "azimuth": (("band", "y", "x"), azimuth)}, step_m, "view", zenith.shape[1:]
    )
    return made.assign_coords(band=bands)


def _root(product: Sentinel2Product) -> Element:
    if product.scene.tile_xml is None:
        raise SceneError(f"{product.files.path} has no MTD_TL.xml, so no angle grids", path=str(product.files.path))
    return product.files.read_xml(product.scene.tile_xml)


def _values(grid: Element, name: str, product: Sentinel2Product, shape: tuple[int, ...] | None = None) -> tuple[np.ndarray, float]:
    """A grid's rows as (y, x) degrees, of ``shape`` where another grid gives it, and the distance between its points in metres."""
    part = grid.find(f"{{*}}{name}")
    rows = [] if part is None else [(item.text or "").split() for item in part.iter("VALUES")]
    step = None if part is None else part.findtext("{*}COL_STEP")
    try:
        values, step_m = np.array(rows, float), float(step or "")
        if values.ndim != 2 or not values.size:
            raise ValueError("no values")
        if shape is not None and values.shape != shape:
            raise ValueError(f"{values.shape} values beside {shape}")
    except ValueError as error:
        raise SceneError(
            f"{product.files.path}: {product.scene.tile_xml} has a {name} grid that is no table of numbers ({error}); "
            "fetch the product again",
            path=str(product.files.path),
        ) from error
    return values, step_m


def _dataset(
    product: Sentinel2Product, values: dict[str, tuple[tuple[str, ...], np.ndarray]], step_m: float, whose: str, shape: tuple[int, ...]
) -> xr.Dataset:
    scene = product.scene
    made = xr.Dataset(
        {name: (dims, data, {"long_name": f"{whose} {name} angle", "units": "degree"}) for name, (dims, data) in values.items()},
        {"y": scene.ul_y_m - step_m * np.arange(shape[0]), "x": scene.ul_x_m + step_m * np.arange(shape[1])},
        {"product": scene.product, "points": "grid nodes; the first is the tile's upper-left corner"},
    )
    with making_sense(str(product.files.path), of=(CRSError,)):
        return made.rio.write_crs(scene.epsg)
