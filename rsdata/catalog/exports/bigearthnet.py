"""The folders and files of BigEarthNet v2 (reBEN), which torchgeo, rico-hdl and others read.

    BigEarthNet-S2/<scene>/<patch>/<patch>_<band>.tif               uint16, no data 0
    BigEarthNet-S1/<scene>/<patch>/<patch>_<VV or VH>.tif           float32 dB, no-data value not stated
    Reference_Maps/<scene>/<patch>/<patch>_reference_map.tif        uint16, deflated, no data 0
    metadata.parquet                                                the eight published columns
    ATTRIBUTION.txt                                                 licence, and what the sources ask to be said; not published

Pixels lie as in the published files: the same tags, strips and order, so a published patch comes out byte for byte.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rsdata.catalog.exports.geotiff import deflated_geotiff, geotiff
from rsdata.catalog.exports.side_by_side import side_by_side
from rsdata.catalog.exports.source import Advance, Source
from rsdata.catalog.geoparquet import write_published
from rsdata.catalog.sources import attribution_text
from rsdata.errors import CatalogError
from rsdata.records import PatchId, reference_map_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2

S2_FOLDER, S1_FOLDER, MAPS_FOLDER, METADATA_FILE = "BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps", "metadata.parquet"
ATTRIBUTION_FILE = "ATTRIBUTION.txt"
_S2_NODATA = _MAP_NODATA = 0  # as the published files state it; no class has this code


class _Patch(NamedTuple):
    """What the files of one patch are made from."""

    id: str
    s2_key: str | None
    s1_key: str | None
    reference_map_key: str | None
    epsg: int
    corner_m: tuple[float, float]


class BigEarthNet:
    """See the module."""

    summary = "BigEarthNet v2: a GeoTIFF per band, reference maps and metadata.parquet"

    def write(self, source: Source, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
        """Raises: CatalogError if the shard holds another sensor than Sentinel-2 and Sentinel-1."""
        if strange := sorted(source.keys.keys() - {SENTINEL2.name, SENTINEL1.name, REFERENCE_MAP.name}):
            named = ", ".join(strange)
            raise CatalogError(f"{source.name} holds patches of {named}; BigEarthNet has folders for Sentinel-2 and Sentinel-1")
        gsd_m = {band.name: float(band.gsd_m) for sensor in (SENTINEL2, SENTINEL1, REFERENCE_MAP) for band in sensor.bands}

        def write_patch(patch: _Patch) -> int:
            plain, deflated = (partial(write, epsg=patch.epsg, corner_m=patch.corner_m) for write in (geotiff, deflated_geotiff))
            files = 0
            if patch.s2_key is not None:
                made = folder / S2_FOLDER / PatchId.parse(patch.id).scene / patch.id
                made.mkdir(parents=True)
                for name, pixels in source.read(patch.s2_key).items():
                    content = plain(pixels, gsd_m=gsd_m[name], nodata=_S2_NODATA)
                    files += _write(made / f"{patch.id}_{name}.tif", content)
            if patch.s1_key is not None:
                made = folder / S1_FOLDER / patch.s1_key.rsplit("_", 3)[0] / patch.s1_key  # less tile, column and row
                made.mkdir(parents=True)
                for name, pixels in source.read(patch.s1_key).items():
                    files += _write(made / f"{patch.s1_key}_{name}.tif", plain(pixels, gsd_m=gsd_m[name], nodata=None))
            if patch.reference_map_key is not None:
                made = folder / MAPS_FOLDER / PatchId.parse(patch.id).scene / patch.id
                made.mkdir(parents=True)
                for name, pixels in source.read(patch.reference_map_key).items():
                    content = deflated(pixels, gsd_m=gsd_m[name], nodata=_MAP_NODATA)
                    files += _write(made / f"{reference_map_id(patch.id)}.tif", content)
            return files

        files = 0
        for written in side_by_side(write_patch, _patches(source), workers):
            files += written
            advance(1)
        has_s1 = np.array([key is not None for key in source.keys.get(SENTINEL1.name, [None] * len(source.patches))], bool)
        write_published(folder / METADATA_FILE, source.patches.assign(s1_product=source.patches["s1_product"].where(has_s1, None)))
        (folder / ATTRIBUTION_FILE).write_text(attribution_text(source.recipe, source.patches, source.dataset), encoding="utf-8")
        return {"patches": len(source.patches), "files": files + 2}


def _patches(source: Source) -> Iterator[_Patch]:
    places = source.patches[["patch_id", "epsg", "ul_x_m", "ul_y_m"]].itertuples(index=False)
    nothing = [None] * len(source.index)
    written: set[str | None] = set()
    keys = (source.keys.get(sensor.name, nothing) for sensor in (SENTINEL2, SENTINEL1, REFERENCE_MAP))
    for (patch_id, epsg, x_m, y_m), indexed, s2_key, s1_key, map_key in zip(places, source.index["patch_id"], *keys, strict=True):
        if patch_id != indexed:
            raise CatalogError(f"the patch table has {patch_id} where the shard's index has {indexed}; build the dataset again")
        first = s1_key not in written  # two dates of Sentinel-2 may share one scene of Sentinel-1, and its files lie there once
        written.add(s1_key)
        yield _Patch(patch_id, s2_key, s1_key if first else None, map_key, int(epsg), (float(x_m), float(y_m)))


def _write(path: Path, content: bytes) -> int:
    path.write_bytes(content)
    return 1
