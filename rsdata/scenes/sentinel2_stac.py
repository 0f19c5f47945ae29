"""Sentinel-2 scenes described by a STAC item, with bands as files of their own instead of a SAFE folder.

Catalogues differ in whether the pixels carry the radiometric offset already, and some say that they do and list it
all the same. The flag is believed over the list, and an item that leaves the question open is refused.
"""

import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from rsdata.errors import RsdataError, SceneError
from rsdata.foreign import is_file, load_json
from rsdata.grid import TILE_SIDE_M
from rsdata.records import Sentinel2Scene, s2_scene_id
from rsdata.scenes.product import MAX_XML_BYTES, ProductFiles, making_sense
from rsdata.scenes.sentinel2 import Sentinel2Product
from rsdata.scenes.sentinel2_metadata import LAYERS, OTHER_LAYERS, mask_files, mean_view_angles, probability_files
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import NODATA_COUNTS, SATURATED_COUNTS

# Asset names of catalogues that do not use the bands' own names.
_BAND_OF_ASSET = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05", "rededge2": "B06", "rededge3": "B07",
    "nir": "B08", "nir08": "B8A", "nir09": "B09", "swir16": "B11", "swir22": "B12",
}  # fmt: skip
_GDAL_PREFIX = {"http": "/vsicurl/", "https": "/vsicurl/", "s3": "/vsis3/"}


@dataclass(frozen=True)
class ItemFiles(ProductFiles):
    """Files that an item points to: beside it, or behind a URL."""

    def gdal_path(self, inside: str) -> str:
        parts = urlsplit(inside)
        if parts.scheme == "s3":
            return f"/vsis3/{parts.netloc}{parts.path}"
        return f"/vsicurl/{inside}" if parts.scheme in _GDAL_PREFIX else str(self.path / inside)


def open_stac_item(path: Path) -> Sentinel2Product:
    """Open a Sentinel-2 Level-2A scene from its STAC item.

    An asset may be coarser than the item says, if it covers the whole tile: its pixels are then as large as they are.
    Assets whose name ends in ``-jp2`` are left out, as they are another copy with another offset.

    Raises: SceneError if the item is damaged, not Sentinel-2 Level-2A, or leaves open whether the offset was applied.
    """
    with making_sense(str(path), "take the item from its catalogue again", of=(TypeError, AttributeError)):
        return _open_stac_item(path)


def _open_stac_item(path: Path) -> Sentinel2Product:
    where = str(path)
    item = read_item(path)
    properties, assets = item["properties"], item["assets"]
    if not properties.get("s2:product_uri") or "2A" not in str(properties.get("s2:product_type", "S2MSI2A")):
        raise SceneError(f"{path} is no Sentinel-2 Level-2A item: it needs s2:product_uri and s2:product_type S2MSI2A", path=where)
    product = str(properties["s2:product_uri"]).removesuffix(".SAFE")
    baseline = str(properties.get("s2:processing_baseline", ""))
    bands = {name: assets[key] for key in assets if (name := _band_of(key)) is not None}
    bands = {name: bands[name] for name in (*SENTINEL2.band_names, *LAYERS, *OTHER_LAYERS) if name in bands}
    notes = ["a STAC item: it states no quality inspections, and its files cannot be held to a manifest"]
    quantification, offsets, applied = _radiometry(path, properties, bands, baseline, notes)
    epsg, ul_x_m, ul_y_m, width_m, height_m = _grid(path, properties, bands)
    files = ItemFiles(path.parent, "", _local_sizes(path.parent, assets))
    absent = [name for name, asset in bands.items() if asset["href"] not in files.sizes]
    if absent:
        notes.append(f"not beside the item, but behind its URLs: {', '.join(absent)}")
    try:
        scene_id = s2_scene_id(product)
        moment = datetime.fromisoformat(str(properties["datetime"]))
    except (RsdataError, KeyError, ValueError) as error:
        raise SceneError(f"{path}: {error}", path=where) from error
    granule = assets.get("granule_metadata", {}).get("href")
    tile_xml = granule if granule in files.sizes else None
    root = files.read_xml(tile_xml) if tile_xml else Element("none")
    zenith, azimuth = mean_view_angles(root)
    files.sizes.update(_quality_sizes(path.parent, root))
    generated = properties.get("s2:generation_time")
    datatake = str(properties.get("s2:datatake_id") or "")
    elevation = properties.get("view:sun_elevation")
    scene = Sentinel2Scene(
        product=product,
        scene_id=scene_id,
        mission=product[:3],
        level="L2A",
        product_type=properties.get("s2:product_type"),
        baseline=baseline,
        tile_id=scene_id[-5:],
        datetime=moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC),
        generation_time=datetime.fromisoformat(generated) if generated else None,
        datatake_id=datatake or None,
        datastrip_id=properties.get("s2:datastrip_id"),
        granule_id=properties.get("s2:granule_id"),
        tile_xml=tile_xml,
        absolute_orbit=int(datatake.split("_")[2]) if datatake.count("_") == 3 and datatake.split("_")[2].isdigit() else None,
        relative_orbit=int(scene_id.split("_")[4][1:]),
        orbit_direction=str(properties["sat:orbit_state"]).upper() if properties.get("sat:orbit_state") else None,
        quantification=quantification,
        offsets=offsets,
        offset_applied=applied,
        aot_quantification=_layer_quantification(bands, "AOT"),
        wvp_quantification=_layer_quantification(bands, "WVP"),
        nodata=NODATA_COUNTS,
        saturated=SATURATED_COUNTS,
        quality_checks={},
        sun_zenith_deg=None if elevation is None else 90 - float(elevation),
        sun_azimuth_deg=properties.get("view:sun_azimuth"),
        view_zenith_deg=zenith,
        view_azimuth_deg=azimuth,
        cloud_percent=properties.get("eo:cloud_cover"),
        nodata_percent=properties.get("s2:nodata_pixel_percentage"),
        degraded_percent=properties.get("s2:degraded_msi_data_percentage"),
        epsg=epsg,
        ul_x_m=ul_x_m,
        ul_y_m=ul_y_m,
        width_m=width_m,
        height_m=height_m,
        bands={name: asset["href"] for name, asset in bands.items()} | probability_files(files, root, ""),
        masks=mask_files(files, root, ""),
        notes=notes,
    )
    return Sentinel2Product(files, scene, decimated=True)


def read_item(path: Path) -> dict[str, Any]:
    """A STAC item as JSON.

    Raises: SceneError if the file is too large, damaged, or no item with assets.
    """
    try:
        if path.stat().st_size > MAX_XML_BYTES:
            raise SceneError(f"{path} has {path.stat().st_size} bytes, more than any real item; name a STAC item", path=str(path))
        item = load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SceneError(f"{path} cannot be read as JSON ({error}); name a STAC item", path=str(path)) from error
    whole = isinstance(item, dict) and item.get("type") == "Feature" and isinstance(item.get("properties"), dict)
    assets = item.get("assets") if whole else None
    if not isinstance(assets, dict) or not all(isinstance(asset, dict) and isinstance(asset.get("href"), str) for asset in assets.values()):
        raise SceneError(
            f"{path} is no STAC item; expected type Feature, properties, and assets with an href each, so name another file",
            path=str(path),
        )
    return dict(item)


def _band_of(asset: str) -> str | None:
    """Band or layer of an asset named ``blue``, ``B02``, ``B02_10m`` or ``scl``; None for anything else."""
    if asset in _BAND_OF_ASSET:
        return _BAND_OF_ASSET[asset]
    name, _, gsd = asset.upper().partition("_")
    native = LAYERS.get(name) or OTHER_LAYERS.get(name) or (SENTINEL2[name].gsd_m if name in SENTINEL2.band_names else None)
    return name if native is not None and gsd in ("", f"{native}M") else None


def _raster(asset: dict[str, Any]) -> dict[str, Any]:
    """Scale and offset of an asset, as the raster extension of either version states them."""
    listed = asset.get("raster:bands")
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        return dict(listed[0])
    return {key: asset[f"raster:{key}"] for key in ("scale", "offset") if f"raster:{key}" in asset}


def _radiometry(
    path: Path, properties: dict[str, Any], bands: dict[str, dict[str, Any]], baseline: str, notes: list[str]
) -> tuple[float, dict[str, float], bool]:
    """Counts per unit of reflectance, offset by band in counts, and whether the pixels carry it already."""
    spectral = {name: _raster(bands[name]) for name in SENTINEL2.band_names if name in bands}
    scales = {float(raster["scale"]) for raster in spectral.values() if "scale" in raster}
    if not spectral or len(scales) > 1:
        raise SceneError(f"{path} has {'several scales: ' + str(sorted(scales)) if spectral else 'no bands'}; expected bands of one scale")
    scale = scales.pop() if scales else 1e-4
    listed = {name: round(float(raster["offset"]) / scale, 6) for name, raster in spectral.items() if "offset" in raster}
    flags = [bool(value) for key, value in properties.items() if key.rsplit(":", 1)[-1] == "boa_offset_applied"]
    none = dict.fromkeys(SENTINEL2.band_names, 0.0)
    if flags and flags[0]:
        wrong = sorted({value * scale for value in listed.values() if value})
        if wrong:
            text = ", ".join(f"{value:g}" for value in wrong)
            notes.append(f"says boa_offset_applied, yet lists an offset of {text} for its bands; the offset is not applied again")
        return round(1 / scale, 6), none, True
    if not listed and not (baseline[:2].isdigit() and int(baseline[:2]) < 4):
        raise SceneError(
            f"{path} (baseline {baseline or 'not stated'}) says neither boa_offset_applied nor a raster offset, "
            "so its counts may carry the offset or not; open the product's SAFE folder instead, or add what its catalogue says",
            path=str(path),
        )
    return round(1 / scale, 6), none | listed, False


def _layer_quantification(bands: dict[str, dict[str, Any]], layer: str) -> float | None:
    scale = _raster(bands[layer]).get("scale") if layer in bands else None
    return None if not scale else round(1 / float(scale), 6)


def _grid(path: Path, properties: dict[str, Any], bands: dict[str, dict[str, Any]]) -> tuple[int, int, int, int, int]:
    """EPSG code, upper-left corner, width and height in metres."""
    code = properties.get("proj:epsg") or str(properties.get("proj:code", "")).upper().removeprefix("EPSG:")
    for asset in bands.values():
        shape = asset.get("proj:shape") or properties.get("proj:shape")
        transform = asset.get("proj:transform") or properties.get("proj:transform")
        if not isinstance(shape, list) or not isinstance(transform, list) or len(shape) != 2 or len(transform) < 6:
            continue
        if not all(isinstance(each, int | float) for each in (*shape, *transform[:6])):
            break
        (height, width), (pixel_x, _, left, _, pixel_y, top) = shape, transform[:6]
        try:
            found = int(code), round(left), round(top), round(width * pixel_x), round(height * -pixel_y)
        except (TypeError, ValueError, OverflowError):
            break
        if not (0 < found[3] <= TILE_SIDE_M and 0 < found[4] <= TILE_SIDE_M):
            raise SceneError(
                f"{path} states a raster of {found[4]} x {found[3]} m; expected at most {TILE_SIDE_M} m, the side of a tile", path=str(path)
            )
        return found
    raise SceneError(
        f"{path} does not state where it lies; expected proj:epsg, and proj:shape and proj:transform of a band", path=str(path)
    )


def _local_sizes(folder: Path, assets: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Size by href of the assets that lie beside the item."""
    sizes = {}
    for asset in assets.values():
        if urlsplit(asset["href"]).scheme or "\0" in asset["href"]:
            continue
        try:
            place = (folder / asset["href"]).stat()
        except OSError:  # absent, or no name that a file could have
            continue
        if stat.S_ISREG(place.st_mode):
            sizes[asset["href"]] = place.st_size
    return sizes


def _quality_sizes(folder: Path, root: Element) -> dict[str, int]:
    """Size of the masks that the granule's metadata name and that lie beside the item."""
    sizes = {}
    for item in root.iter("MASK_FILENAME"):
        inside = (item.text or "").strip()
        parts = PurePosixPath(inside).parts
        if parts and parts[0] != "/" and ".." not in parts and is_file(folder / inside):
            sizes[inside] = (folder / inside).stat().st_size
    return sizes
