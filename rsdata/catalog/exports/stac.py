"""STAC: one item per patch as stac-geoparquet, and the collection they belong to.

The items are written straight from the columns of the patch table, never as one JSON object each, so a hundred thousand
take seconds. What is the same for every patch (bands, classes, licences) is said once, in the collection's ``item_assets``.

Sources: STAC 1.1.0; stac-geoparquet specification 1.0.0; the extensions named in ``EXTENSIONS``.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from rsdata.catalog.exports.source import Advance, Source
from rsdata.catalog.geoparquet import BBOX, GEOMETRY, boxes, geo_metadata, write_table
from rsdata.catalog.sources import DataSource, attributions, data_sources, spdx, summary_of, titles_of
from rsdata.errors import CatalogError
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import Artifact, BandInfo, BoundingBox, PatchId, arrow_schema
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2

STAC_VERSION = "1.1.0"
STAC_GEOPARQUET_VERSION = "1.0.0"
COLLECTION_FILE, ITEMS_FILE = "collection.json", "items.parquet"
_GSD_M = 10  # of the grid that proj:shape and proj:transform describe
EXTENSIONS = {  # name to the address of its schema, which is what items and collection state
    name: f"https://stac-extensions.github.io/{name}/{version}/schema.json"
    for name, version in {
        "projection": "v2.0.0",
        "eo": "v2.0.0",
        "sar": "v1.3.2",
        "raster": "v2.0.0",
        "classification": "v2.0.0",
        "file": "v2.1.0",
        "processing": "v1.1.0",
        "ml-aoi": "v0.2.0",
    }.items()
}
_PREFIXES = {"projection": "proj"}  # of the fields, where it is not the extension's name
_OF_OPTICAL = ("eo:cloud_cover", "eo:snow_cover", "processing:level")  # properties of items that have Sentinel-2
_ML_SPLITS = {"train": "train", "validation": "validate", "test": "test"}  # words of ml-aoi, as are those for roles
_ML_ROLES = {SENTINEL2.name: "feature", SENTINEL1.name: "feature", REFERENCE_MAP.name: "label"}
# Names that the eo extension gives the bands of Sentinel-2.
_COMMON_NAMES = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge071", "B06": "rededge075", "B07": "rededge078",
    "B08": "nir", "B8A": "nir08", "B09": "nir09", "B11": "swir16", "B12": "swir22",
}  # fmt: skip
_SAR = {"sar:instrument_mode": "IW", "sar:frequency_band": "C", "sar:center_frequency": 5.405, "sar:product_type": "GRD"}
_POLARIZATIONS = list(SENTINEL1.band_names)
_TITLES = {SENTINEL2.name: "Sentinel-2 counts", SENTINEL1.name: "Sentinel-1 backscatter", REFERENCE_MAP.name: "Land cover codes"}
_MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet", ".json": "application/json", ".yaml": "application/yaml", ".html": "text/html",
    ".md": "text/markdown", ".mdb": "application/octet-stream",
}  # fmt: skip


class Stac:
    """A collection and its items; pixels stay in the shard, which the items point to."""

    summary = "STAC collection and stac-geoparquet items that point into the dataset's shard"

    def write(self, source: Source, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
        prefix = relative_root(source, folder)
        items = write_items(folder / ITEMS_FILE, source, prefix)
        write_collection(folder / COLLECTION_FILE, source, prefix)
        advance(items)
        return {"items": items}


def relative_root(source: Source, folder: Path) -> str:
    """Where the dataset lies, seen from a folder: what hrefs begin with."""
    return Path(os.path.relpath(source.root.resolve(), folder.resolve())).as_posix()


# --- items ------------------------------------------------------------------------------------------------


def write_items(path: Path, source: Source, prefix: str) -> int:
    """Write every kept patch as a STAC item into a GeoParquet file; return how many.

    Args: prefix: where the dataset lies, seen from the file.
    Raises: CatalogError if there is no patch.
    """
    table = items_table(source, prefix)
    footprints = np.asarray(source.patches[GEOMETRY].array, dtype=object)
    said = {"version": STAC_GEOPARQUET_VERSION, "collections": {source.name: collection(source, prefix)}}
    write_table(path, table, {"geo": json.dumps(geo_metadata(footprints)), "stac-geoparquet": json.dumps(said)})
    return int(table.num_rows)


def items_table(source: Source, prefix: str) -> pa.Table:
    """All items as one Arrow table, in the columns of stac-geoparquet: properties beside ``id``, ``geometry``, ``assets``."""
    patches, count = source.patches, len(source.patches)
    if not count:
        raise CatalogError("the dataset has no kept patch, so there is nothing to catalogue; build it with other scenes")
    footprints = np.asarray(patches[GEOMETRY].array, dtype=object)
    optical = SENTINEL2.name in source.sensors
    corners = patches[["ul_x_m", "ul_y_m"]].to_numpy(float)
    columns: dict[str, pa.Array] = {
        "type": _same("Feature", count),
        "stac_version": _same(STAC_VERSION, count),
        "stac_extensions": _extension_lists(_has(source, SENTINEL1.name), patches["split"].notna().to_numpy(), optical),
        "id": pa.array(patches["patch_id"], pa.string()),
        GEOMETRY: pa.array(shapely.to_wkb(footprints, byte_order=1), pa.binary()),
        BBOX: boxes(footprints, pa.struct(arrow_schema(BoundingBox))),
        "links": _same([{"href": f"./{COLLECTION_FILE}", "rel": "collection", "type": "application/json"}], count),
        "assets": _assets(source, prefix),
        "collection": _same(source.name, count),
        "datetime": pa.array(source.acquired.astype("datetime64[us, UTC]")),
        "platform": pa.array(_platforms(source), pa.string()),
        "constellation": _same("sentinel-2" if optical else "sentinel-1", count),
        "instruments": _same(["msi" if optical else "c-sar"], count),
        "gsd": _same(float(_GSD_M), count),
        "proj:code": pa.array([f"EPSG:{epsg}" for epsg in patches["epsg"]], pa.string()),
        "proj:shape": _same([PATCH_SIDE_M // _GSD_M] * 2, count),
        "proj:transform": _rows(
            np.stack([np.full(count, _GSD_M), np.zeros(count), corners[:, 0], np.zeros(count), np.full(count, -_GSD_M), corners[:, 1]], 1)
        ),
        "proj:bbox": _rows(np.hstack([corners - np.array([0, PATCH_SIDE_M]), corners + np.array([PATCH_SIDE_M, 0])])),
        "eo:cloud_cover": _percent(patches["cloud_fraction"]),
        "eo:snow_cover": _percent(patches["snow_fraction"]),
        "ml-aoi:split": pa.array([_ML_SPLITS.get(split) for split in patches["split"]], pa.string()),
        "processing:level": _same("L2A", count),
        "processing:software": _same({"rsdata": source.dataset.rsdata_version}, count),
        "rsdata:s2_product": pa.array(patches["s2_product"], pa.string()),
        "rsdata:s1_product": pa.array(patches["s1_product"], pa.string(), from_pandas=True),
        "rsdata:labels": pa.array(patches["labels"], pa.list_(pa.string())),
        "rsdata:country": pa.array(patches["country"], pa.string(), from_pandas=True),
        "rsdata:season": pa.array(patches["season"], pa.string()),
    }
    return pa.table({name: column for name, column in columns.items() if optical or name not in _OF_OPTICAL})


def _has(source: Source, sensor: str) -> np.ndarray:
    """(n,) bool: whether each patch has pixels of a sensor."""
    return np.array([key is not None for key in source.keys.get(sensor, [None] * len(source.index))], bool)


def _platforms(source: Source) -> list[str]:
    """The satellite that took each patch: that of Sentinel-1 only where the dataset holds nothing else."""
    if SENTINEL2.name in source.sensors:
        missions = [PatchId.parse(patch_id).mission for patch_id in source.patches["patch_id"]]
    else:
        missions = [str(product)[:3] for product in source.patches["s1_product"]]
    return [f"sentinel-{mission[1:].lower()}" for mission in missions]


def _extension_lists(has_s1: np.ndarray, has_split: np.ndarray, optical: bool) -> pa.Array:
    """The extensions each item keeps to: of a sensor or a split only where there is one, as elsewhere their fields are absent or null."""
    always = ("projection", *(["eo"] if optical else []), "processing")
    lists = [
        [EXTENSIONS[name] for name in (*always, *(["sar"] if s1 else []), *(["ml-aoi"] if split else []))]
        for s1 in (False, True)
        for split in (False, True)
    ]
    return pa.DictionaryArray.from_arrays(pa.array(2 * has_s1 + has_split, pa.int8()), pa.array(lists)).dictionary_decode()


def _assets(source: Source, prefix: str) -> pa.StructArray:
    """Where the bands of each sensor lie: the shard, and the key in it."""
    href, media_type = _shard_hrefs(source, prefix)
    has_split = source.patches["split"].notna().to_numpy()
    assets = {}
    for name in (*source.sensors, REFERENCE_MAP.name):
        there = _has(source, name)
        if not there.any():
            continue
        key = source.keys[name]
        roles = ["labels"] if name == REFERENCE_MAP.name else ["data"]
        parts = {"href": href, "type": _same(media_type, len(key)), "roles": _same(roles, len(key))}
        parts |= {
            "rsdata:key": pa.array(key, pa.string()),
            "ml-aoi:role": pa.array(np.full(len(key), _ML_ROLES[name]), pa.string(), mask=~has_split),
        }
        if name == SENTINEL1.name:
            parts |= {field: _same(value, len(key)) for field, value in _SAR.items()}
            parts |= {"sar:polarizations": _same(_POLARIZATIONS, len(key))}
        assets[name] = pa.StructArray.from_arrays(list(parts.values()), list(parts), mask=pa.array(~there))
    return pa.StructArray.from_arrays(list(assets.values()), list(assets))


def _shard_hrefs(source: Source, prefix: str) -> tuple[pa.Array, str]:
    """Of each patch, where its shard lies, and what kind of file that is."""
    folders = [folder.relative_to(source.root).as_posix() for folder in source.shard_folders]
    lmdb = source.manifest.format == "lmdb"
    ends = {name: f"{prefix}/{name}/data.mdb" if lmdb else f"{prefix}/{name}" for name in folders}
    media_type = _MEDIA_TYPES[".mdb"] if lmdb else "application/vnd.zarr; version=3"
    if len(folders) == 1:
        return _same(ends[folders[0]], len(source.index)), media_type
    of_scene = {Path(name).name: href for name, href in ends.items()}
    return pa.array([of_scene[PatchId.parse(patch_id).scene] for patch_id in source.index["patch_id"]], pa.string()), media_type


def _same(value: Any, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), pa.array([value])).dictionary_decode()


def _rows(values: np.ndarray) -> pa.Array:
    """(n, k) numbers as n lists of k."""
    return pa.ListArray.from_arrays(np.arange(0, values.size + 1, values.shape[1], dtype=np.int32), pa.array(values.ravel().astype(float)))


def _percent(fraction: pd.Series) -> pa.Array:
    return pa.array(np.round(np.clip(fraction.to_numpy(float), 0, 1) * 100, 4))


# --- collection -------------------------------------------------------------------------------------------


def write_collection(path: Path, source: Source, prefix: str) -> None:
    """Write the collection as JSON; arguments as ``write_items``."""
    path.write_text(json.dumps(collection(source, prefix), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def collection(source: Source, prefix: str) -> dict[str, Any]:
    """The collection that all items belong to."""
    patches, sources = source.patches, data_sources(source.recipe, source.patches, source.dataset)
    times = source.acquired
    licence = spdx(source.recipe.licence)
    described = {"summaries": _summaries(source), "item_assets": _item_assets(source), "assets": _files(source, prefix)}
    prefixes = {key.partition(":")[0] for key in _keys(described)}
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [url for name, url in EXTENSIONS.items() if _PREFIXES.get(name, name) in prefixes],
        "id": source.name,
        "title": source.title,
        "description": f"{summary_of(source.recipe, patches, source.sensors)} " + " ".join(attributions(source.recipe, sources)),
        "keywords": [*reversed(titles_of(source.sensors)), "land cover", "machine learning"],
        "license": licence or "other",
        "providers": _providers(sources),
        "extent": {
            "spatial": {"bbox": [[round(float(each), 6) for each in patches.total_bounds]]},
            "temporal": {"interval": [[_instant(times.min()), _instant(times.max())]]},
        },
        **described,
        "links": [
            {"rel": "root", "href": f"./{COLLECTION_FILE}", "type": "application/json"},
            {"rel": "items", "href": f"./{ITEMS_FILE}", "type": _MEDIA_TYPES[".parquet"], "title": "All items, as stac-geoparquet"},
            *_licence_links(sources),
        ],
    }


def _keys(said: Any) -> Iterator[str]:
    """The names of all fields, at any depth."""
    if isinstance(said, dict):
        yield from said
        for each in said.values():
            yield from _keys(each)
    elif isinstance(said, list):
        for each in said:
            yield from _keys(each)


def _providers(sources: list[DataSource]) -> list[dict[str, Any]]:
    named: dict[str, DataSource] = {each.provider: each for each in reversed(sources)}
    return [{"name": each.provider, "roles": ["producer", "licensor"], "url": each.url} for each in sources if named[each.provider] is each]


def _licence_links(sources: list[DataSource]) -> list[dict[str, Any]]:
    urls = {each.licence_url: each.name for each in reversed(sources) if each.licence_url}
    return [{"rel": "license", "href": url, "title": f"Terms of {name}"} for url, name in urls.items()]


def _summaries(source: Source) -> dict[str, Any]:
    patches = source.patches
    splits = {str(name) for name in patches["split"].dropna()}
    optical = SENTINEL2.name in source.sensors
    summaries = {
        "platform": sorted(set(_platforms(source))),
        "constellation": ["sentinel-2" if optical else "sentinel-1"],
        "gsd": [_GSD_M],
        "proj:code": [f"EPSG:{epsg}" for epsg in sorted(set(patches["epsg"]))],
        "eo:cloud_cover": _range(patches["cloud_fraction"]),
        "eo:snow_cover": _range(patches["snow_fraction"]),
        "processing:level": ["L2A"],
        "processing:software": [{"rsdata": source.dataset.rsdata_version}],
        **({"ml-aoi:split": [_ML_SPLITS[name] for name in _ML_SPLITS if name in splits]} if splits else {}),
        "rsdata:labels": sorted({name for names in patches["labels"] for name in names}) or ["none"],
    }
    return {name: said for name, said in summaries.items() if optical or name not in _OF_OPTICAL}


def _range(fraction: pd.Series) -> dict[str, float]:
    percent = _percent(fraction).to_numpy()
    return {"minimum": float(percent.min()), "maximum": float(percent.max())}


def _item_assets(source: Source) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for band in source.manifest.bands:
        if band.sensor == REFERENCE_MAP.name:
            described[band.sensor] = {
                "title": _TITLES[band.sensor],
                "roles": ["labels"],
                "ml-aoi:role": _ML_ROLES[band.sensor],
                "gsd": band.gsd_m,
                "data_type": band.dtype,
                "classification:classes": _classes(source),
            }
            continue
        said = {"title": _TITLES.get(band.sensor, band.sensor), "roles": ["data"], "ml-aoi:role": _ML_ROLES.get(band.sensor, "feature")}
        asset = described.setdefault(band.sensor, said | {"bands": []})
        if band.sensor == SENTINEL1.name:
            asset |= _SAR | {"sar:polarizations": _POLARIZATIONS}
        asset["bands"].append(_band(band))
    return described


def _band(band: BandInfo) -> dict[str, Any]:
    """One band as STAC has it; physical = stored * scale + offset there, (stored + offset) * scale here."""
    said: dict[str, Any] = {"name": band.name, "data_type": band.dtype, "unit": band.unit}
    if band.nodata is not None:
        said["nodata"] = band.nodata
    if band.gsd_m is not None:
        said["gsd"] = band.gsd_m
    if band.sensor == SENTINEL2.name:
        if band.name in _COMMON_NAMES:
            said["eo:common_name"] = _COMMON_NAMES[band.name]
        if band.wavelength_nm is not None:
            said["eo:center_wavelength"] = round(band.wavelength_nm / 1000, 6)  # micrometres
        if band.bandwidth_nm is not None:
            said["eo:full_width_half_max"] = round(band.bandwidth_nm / 1000, 6)
        said["raster:scale"] = band.scale
        if len(band.offset) == 1:  # else it differs from scene to scene and cannot be said of all
            said["raster:offset"] = round(band.offset[0] * band.scale, 12)
    if band.statistics is not None and band.statistics.mean is not None:
        of = band.statistics
        known = {"minimum": of.min, "maximum": of.max, "mean": of.mean, "stddev": of.std, "count": of.count}
        said["statistics"] = {name: value for name, value in known.items() if value is not None}
    return said


def _classes(source: Source) -> list[dict[str, Any]]:
    """Every code of the reference map; several may mean one class."""
    named = [
        {"value": code, "name": _slug(each.name), "title": each.name, "color_hint": each.color.lstrip("#").upper()}
        for each in source.manifest.labels
        for code in each.codes
    ]
    none = [{"value": code, "name": "unlabelled", "title": "no class"} for code in source.manifest.unlabeled_codes]
    return sorted([*named, *none], key=lambda each: int(str(each["value"])))


def _slug(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]+", "-", name).strip("-").lower() or "class"


def _files(source: Source, prefix: str) -> dict[str, Any]:
    """The dataset's files; of a shard with many, only those that name the others with their digests."""
    return {file.path: _file(file, prefix) for file in main_files(source)}


def main_files(source: Source) -> list[Artifact]:
    """The files that are listed one by one: tables, and of each shard its manifest and index, and its database if it is one file."""
    shown = []
    for file in source.dataset.outputs:
        path = Path(file.path)
        if path.parts[0] == "catalog":
            continue
        if path.parts[0] != "shards" or path.name in ("manifest.json", "index.parquet") or path.suffix == ".mdb":
            shown.append(file)
    return shown


def _file(file: Artifact, prefix: str) -> dict[str, Any]:
    return {
        "href": f"{prefix}/{file.path}",
        "type": media_type_of(file.path),
        "roles": ["metadata"] if file.path.endswith(".json") else ["data"],
        "file:size": file.bytes,
        "file:checksum": f"1220{file.sha256}",  # multihash: 0x12 is SHA-256, 0x20 its 32 bytes
    }


def media_type_of(path: str) -> str:
    return _MEDIA_TYPES.get(Path(path).suffix, "application/octet-stream")


def _instant(time: pd.Timestamp) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
