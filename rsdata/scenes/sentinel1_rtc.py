"""Radiometrically terrain-corrected Sentinel-1 of public catalogues: ASF HyP3, and STAC items such as the Planetary Computer's.

What the pixels are stands in the name (HyP3) or follows from the collection (Planetary Computer); a STAC item of another
catalogue states it per asset or leaves it to the recipe.
Sources: ASF, HyP3 RTC product guide, naming convention; Microsoft Planetary Computer, collection sentinel-1-rtc.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rsdata.errors import SceneError
from rsdata.foreign import is_file
from rsdata.records import s1_scene_id
from rsdata.scenes.product import list_files
from rsdata.scenes.sentinel1_rasters import (
    BesideFiles,
    Processed,
    Quantity,
    Raster,
    Unit,
    grd_name,
    made_up_name,
    missing_band,
    read_place,
    unit_of,
)
from rsdata.scenes.sentinel2_stac import read_item
from rsdata.sensors import SENTINEL1

MPC_COLLECTION = "sentinel-1-rtc"  # gamma0 in linear power

_HYP3 = re.compile(
    r"(?P<mission>S1[A-D])_(?P<mode>IW)_(?P<start>\d{8}T\d{6})_(?P<polarisation>DV|DH|SV|SH)[PRO]_RTC(?P<pixel_m>\d\d)_(?P<software>[A-Z])"
    r"_(?P<quantity>[gs])(?P<unit>[pda])(?P<mask>[uw])(?P<filter>[nf])(?P<area>[ec])(?P<matching>[dm])_[0-9A-F]{4}",
    re.ASCII,
)
_QUANTITY: dict[str, Quantity] = {"g": "gamma0", "s": "sigma0"}
_UNIT: dict[str, Unit] = {"p": "linear", "d": "db", "a": "amplitude"}
_NOTED = {
    ("mask", "w"): "water is masked",
    ("filter", "f"): "speckle was filtered",
    ("area", "c"): "clipped",
    ("matching", "m"): "matched to the DEM",
}


def is_hyp3(path: Path) -> bool:
    """Whether a folder or zip is named like a HyP3 RTC product."""
    return _HYP3.fullmatch(path.name.removesuffix(".zip")) is not None


def open_hyp3(path: Path) -> Processed:
    """Read an ASF HyP3 RTC product, folder or zip: ``<name>_VV.tif`` and ``<name>_VH.tif``.

    Raises: SceneError if a polarisation is missing.
    """
    name = path.name.removesuffix(".zip")
    match = _HYP3.fullmatch(name)
    if match is None:
        raise SceneError(
            f"{path} is not named like a HyP3 RTC product, such as S1A_IW_20180128T161201_DVP_RTC10_G_gpuned_FD6A", path=str(path)
        )
    rasters = {}
    files = list_files(path, marker=f"{name}_VV.tif")
    for band in SENTINEL1.band_names:
        inside = f"{name}_{band}.tif"
        if inside not in files.sizes:
            raise missing_band(path, band, "no GeoTIFF", inside)
        rasters[band] = Raster(inside)
    noted = [words for (flag, letter), words in _NOTED.items() if match[flag] == letter]
    return Processed(
        files,
        made_up_name(match["mission"], match["mode"], match["polarisation"], match["start"]),
        f"HyP3 RTC, {int(match['pixel_m'])} m",
        rasters,
        read_place(path, files, rasters),
        _UNIT[match["unit"]],
        _QUANTITY[match["quantity"]],
        notes=(f"{name}, which may be made from a GRD or an SLC", *noted),
    )


def is_sentinel1_item(path: Path) -> bool:
    """Whether a STAC item has a polarisation among its assets.

    Raises: SceneError if the file is no STAC item.
    """
    return any(key.lower() in ("vv", "vh", "hh", "hv") for key in read_item(path)["assets"])


def open_rtc_item(path: Path) -> Processed:
    """Read a STAC item with assets ``vv`` and ``vh``: GeoTIFFs beside the item or behind URLs.

    Raises: SceneError if the item is damaged, does not tell its GRD, lacks a polarisation, or its files cannot be opened.
    """
    item = read_item(path)
    assets = {key.upper(): asset for key, asset in item["assets"].items()}
    named = grd_name(str(text) for text in (item.get("id"), item["properties"].get("s1:product_identifier"), path.stem))
    if named is None:
        raise SceneError(
            f"{path} does not tell which Sentinel-1 product it is of; its id should begin with the product's name", path=str(path)
        )
    product, notes = named
    rasters, sizes, remote = {}, {path.name: path.stat().st_size}, []
    for band in SENTINEL1.band_names:
        if band not in assets:
            raise missing_band(path, band, "no asset", f"one called {band.lower()}")
        href = assets[band]["href"]
        rasters[band] = Raster(href, nodata=_nodata(assets[band]))
        if urlsplit(href).netloc:
            remote.append(href)
            continue
        local = BesideFiles(path, "", {}).gdal_path(href)
        if not is_file(local):
            raise SceneError(f"{path} points to {href} for {band}, which is not there; fetch it, or name its address", path=str(path))
        sizes[href] = Path(local).stat().st_size
    files = BesideFiles(path, "", sizes, tuple(remote))
    units = {_unit(assets[band]) for band in SENTINEL1.band_names}
    computer = item.get("collection") == MPC_COLLECTION
    if len(units) > 1:
        raise SceneError(f"{path}: VV and VH are of different units; look at their raster:bands", path=str(path))
    direction = item["properties"].get("sat:orbit_state")
    s1_scene_id(product)
    return Processed(
        files,
        product,
        "STAC item, Planetary Computer RTC" if computer else "STAC item",
        rasters,
        read_place(path, files, rasters),
        units.pop() or ("linear" if computer else None),
        "gamma0" if computer else None,
        orbit_direction=str(direction).upper() if direction else None,
        notes=notes,
    )


def _bands(asset: dict[str, Any]) -> dict[str, Any]:
    """What an asset says of its only band, in either version of the raster extension."""
    for key in ("raster:bands", "bands"):
        listed = asset.get(key)
        if isinstance(listed, list) and listed and isinstance(listed[0], dict):
            return asset | listed[0]
    return asset


def _nodata(asset: dict[str, Any]) -> float | None:
    try:
        return float(_bands(asset)["nodata"])
    except (KeyError, TypeError, ValueError):
        return None


def _unit(asset: dict[str, Any]) -> Unit | None:
    unit = _bands(asset).get("unit")
    return unit_of(unit if isinstance(unit, str) else None)
