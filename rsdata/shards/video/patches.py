"""Series out of patches: all dates of one place that a shard of patches holds, as one cube.

Place and date follow from the patch ids, so any shard whose keys are patch ids will do, converted ones too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rsdata.errors import CatalogError, ShardError
from rsdata.grid import Tile, corners
from rsdata.records import BandInfo, LeftOut, PatchId, parse_start, reference_map_id, s1_start
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.shards.shard import Shard
from rsdata.shards.video.cubes import Cube
from rsdata.shards.zarr import Group, groups_of, stacked


@dataclass(frozen=True)
class PatchSeries:
    """What is to become a shard of time series, with its pixels still where they are."""

    rows: pd.DataFrame  # columns of CubeRow
    frames: pd.DataFrame  # columns of CubeFrame
    bands: list[BandInfo]
    left_out: list[LeftOut]
    _keys: Mapping[str, tuple[list[str], list[str], str | None]]  # place to its keys of s2 and s1 in the order of time; of the map

    def cubes(self, shard: Shard) -> Iterator[Cube]:
        """Cubes in the order of their place ids; a pixel is valid if no band of its group is no-data there."""
        groups = groups_of(self.bands)
        for place_id, (s2_keys, s1_keys, map_key) in self._keys.items():
            read = {key: shard.read(key) for key in (*s2_keys, *s1_keys)}
            pixels, valid = {}, {}
            for group in groups:
                keys = s1_keys if group.sensor == SENTINEL1.name else s2_keys
                if group.sensor != REFERENCE_MAP.name and keys:
                    pixels[group.name] = np.stack([stacked(read[key], key, group) for key in keys])
                    valid[group.name] = np.asarray(~_missing(pixels[group.name], group).any(axis=1))
            found = None if map_key is None else next(iter(shard.read(map_key).values()))
            yield Cube(place_id, pixels, valid, found)


def series_of_patches(shard: Shard, min_frames: int = 1) -> PatchSeries:
    """Sort the patches of a shard by place and date; no pixel is read yet.

    A place whose dates lie in different splits is left out, as it would leak, and so is one with too few dates. Labels of a
    place are those of all its dates, its reference map is that of the first; a Sentinel-1 twin that two dates share comes once,
    and dates are those of Sentinel-1 where a shard has nothing else.
    Shares of cloud and snow are not known to a shard and stay empty; that of no-data follows from the pixels as they are coded.

    Raises: ShardError if keys are not patch ids, other sensors are there, or no place is left.
    """
    manifest = shard.manifest
    if unknown := sorted({band.sensor for band in manifest.bands} - {SENTINEL1.name, SENTINEL2.name, REFERENCE_MAP.name}):
        raise ShardError(f"{shard.path} holds bands of {', '.join(unknown)}; time series are of s2 and s1", sensors=unknown)
    places: dict[str, list[tuple[Any, PatchId, dict[str, Any]]]] = {}
    for row in shard.index.to_dict("records"):
        try:
            patch = PatchId.parse(row["patch_id"])
        except CatalogError as error:
            raise ShardError(f"{shard.path}: {error}; only such ids say where and when a patch was taken") from error
        acquired = parse_start(patch.scene.split("_")[2])
        places.setdefault(f"{patch.tile}_{patch.col:02d}_{patch.row:02d}", []).append((acquired, patch, row))
    rows, frames, left_out = [], [], []
    keys: dict[str, tuple[list[str], list[str], str | None]] = {}
    for place_id, dates in sorted(places.items(), key=lambda item: item[0].encode()):
        dates.sort(key=lambda date: (date[0], date[2]["patch_id"]))
        splits = sorted({str(row["split"]) for _, _, row in dates})
        optical = [date for date in dates if date[2]["sensor"] == SENTINEL2.name]
        radar = sorted({row["s1_key"] for _, _, row in dates if isinstance(row["s1_key"], str)}, key=lambda key: (_radar_start(key), key))
        count = len(optical) if optical else len(radar)
        if len(splits) > 1 or count < min_frames:
            why = f"its dates lie in {', '.join(splits)}" if len(splits) > 1 else f"it has {count} dates, fewer than {min_frames}"
            left_out.append(LeftOut(key=place_id, reason=why))
            continue
        map_key = next((row["reference_map_key"] for _, _, row in dates if isinstance(row["reference_map_key"], str)), None)
        keys[place_id] = [row["patch_id"] for _, _, row in optical], radar, map_key
        rows.append(_row(place_id, dates, len(optical), len(radar), map_key))
        frames += [_frame(place_id, "s2", number, date[0], date[1].scene) for number, date in enumerate(optical)]
        frames += [_frame(place_id, "s1", number, _radar_start(key), _radar_scene(key)) for number, key in enumerate(radar)]
    if not rows:
        first = f"; {left_out[0].key} first: {left_out[0].reason}" if left_out else ""
        raise ShardError(f"no place of {shard.path} makes a time series{first}", path=str(shard.path))
    return PatchSeries(pd.DataFrame(rows), pd.DataFrame(frames), list(manifest.bands), left_out, keys)


def _row(
    place_id: str, dates: Sequence[tuple[Any, PatchId, dict[str, Any]]], optical: int, radar: int, map_key: str | None
) -> dict[str, Any]:
    """Args: optical, radar: dates of each sensor."""
    patch, split = dates[0][1], dates[0][2]["split"]
    tile = Tile.from_name(patch.tile)
    x, y = corners(tile, np.array([patch.col]), np.array([patch.row]))
    return {
        "place_id": place_id,
        "tile_id": patch.tile,
        "col": patch.col,
        "row": patch.row,
        "epsg": tile.epsg,
        "ul_x_m": float(x[0]),
        "ul_y_m": float(y[0]),
        "country": None,
        "split": split,
        "labels": sorted({label for _, _, row in dates for label in row["labels"]}),
        "s2_frames": optical,
        "s1_frames": radar,
        "reference_map_key": None if map_key is None else reference_map_id(place_id),
    }


def _frame(place_id: str, sensor: str, number: int, acquired: Any, product: str) -> dict[str, Any]:
    return {
        "place_id": place_id,
        "sensor": sensor,
        "frame": number,
        "time": acquired,
        "products": [product],
        "nodata_fraction": None,
        "cloud_fraction": None,
        "snow_fraction": None,
    }


def _radar_scene(key: str) -> str:
    """``S1A_IW_GRDH_1SDV_20170613T165043`` of ``S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57``."""
    return key.rsplit("_", 3)[0]


def _radar_start(key: str) -> Any:
    try:
        return s1_start(_radar_scene(key))
    except ValueError as error:
        raise ShardError(f"{key!r} is no key of a Sentinel-1 patch; its time is unknown", key=key) from error


def _missing(pixels: np.ndarray, group: Group) -> np.ndarray:
    nodata = group.bands[0].nodata
    if pixels.dtype.kind == "f":
        gone = ~np.isfinite(pixels)
        return gone if nodata is None or nodata == "nan" else gone | (pixels == float(nodata))
    return np.zeros(pixels.shape, bool) if nodata is None else pixels == float(nodata)
