"""A small shard that is held in memory, for tests of training."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rsdata.records import BandInfo, BandStatistics, LabelClass, ShardManifest
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2, Sensor

SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
S1_SCENE = "S1A_IW_GRDH_1SDV_20170613T165043"
CODES = (231, 512)  # of the two classes on maps


class MemoryShard:
    """What ``open_shard`` gives, held in memory."""

    def __init__(self, manifest: ShardManifest, index: pd.DataFrame, values: dict[str, dict[str, np.ndarray]]) -> None:
        self.manifest, self.index, self.values = manifest, index, values

    def __enter__(self) -> "MemoryShard":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        return self.values[key]

    def changed(self, manifest: Mapping[str, object] | None = None, index: pd.DataFrame | None = None) -> "MemoryShard":
        return MemoryShard(self.manifest.model_copy(update=manifest or {}), self.index if index is None else index, self.values)


def make_shard(patches: Mapping[str, int], *, classes: tuple[str, ...] = ("Pastures", "Inland waters"), seed: int = 0) -> MemoryShard:
    """Noise in all bands; "Inland waters" is dark in B11, "Pastures" is everything else.

    Each map has the code of the patch's class everywhere, 231 or 512, but for a first row of 999.
    """
    random = np.random.default_rng(seed)
    rows, values = [], {}
    for number, split in enumerate(split for split, count in patches.items() for _ in range(count)):
        patch_id, s1_key = f"{SCENE}_{number // 91:02d}_{number % 91:02d}", f"{S1_SCENE}_33UUP_{number // 91:02d}_{number % 91:02d}"
        water = bool(random.integers(2))
        values[patch_id] = {
            band.name: random.normal(3000, 400, (band.pixels(1200),) * 2).clip(1).astype(np.uint16) for band in SENTINEL2.bands
        }
        values[patch_id]["B11"] = random.normal(1500 if water else 3000, 400, (60, 60)).clip(1).astype(np.uint16)
        values[s1_key] = {band: random.normal(-12, 2, (120, 120)).astype(np.float32) for band in ("VH", "VV")}
        values[f"{patch_id}_reference_map"] = {"Data": np.full((120, 120), CODES[water], np.uint16)}
        values[f"{patch_id}_reference_map"]["Data"][0] = 999
        labels = [classes[1] if water else classes[0]]
        rows.append((patch_id, s1_key, f"{patch_id}_reference_map", split, labels))
    index = pd.DataFrame(rows, columns=["patch_id", "s1_key", "reference_map_key", "split", "labels"]).astype({"s1_key": object})
    index.insert(1, "sensor", SENTINEL2.name)
    train_keys = index.loc[index["split"] == "train", ["patch_id", "s1_key"]].to_numpy().ravel()
    statistics = {
        band: np.concatenate([values[key][band].ravel() for key in train_keys if band in values[key]]).astype(float)
        for band in (SENTINEL2.band_names + SENTINEL1.band_names if len(train_keys) else ())
    }
    manifest = ShardManifest(
        name="memory", format="lmdb", codec="safetensors", recipe_sha256="0" * 64, key_rule="patch_id", patch_side_m=1200, grid="MGRS",
        bands=[info for sensor in (SENTINEL2, SENTINEL1, REFERENCE_MAP) for info in band_infos(sensor, statistics)],
        labels=[LabelClass(index=place, name=name, color="#000000", codes=[CODES[place]]) for place, name in enumerate(classes)],
        unlabeled_codes=[999], counts=dict(patches), keys=len(values), files=[],
    )  # fmt: skip
    return MemoryShard(manifest, index, values)


def band_infos(sensor: Sensor, statistics: Mapping[str, np.ndarray]) -> list[BandInfo]:
    def summary(values: np.ndarray) -> BandStatistics:
        return BandStatistics(
            count=values.size, mean=values.mean(), std=values.std(), min=values.min(), max=values.max(), histogram=[], bin_edges=[0, 1]
        )

    return [
        BandInfo(
            name=band.name, sensor=sensor.name, dtype=band.dtype, shape=[band.pixels(1200)] * 2, unit=band.unit,
            nodata="nan" if band.nodata is not None and np.isnan(band.nodata) else band.nodata, gsd_m=band.gsd_m,
            wavelength_nm=band.wavelength_nm, bandwidth_nm=band.bandwidth_nm, scale=1.0, offset=[0.0], offset_applied=False,
            statistics=summary(statistics[band.name]) if band.name in statistics else None,
        )
        for band in sensor.bands
    ]  # fmt: skip


def with_statistics(shard: MemoryShard, name: str, **changes: object) -> MemoryShard:
    """The same shard with other statistics for one band."""
    bands = [
        band.model_copy(update={"statistics": band.statistics.model_copy(update=changes)})
        if band.name == name and band.statistics
        else band
        for band in shard.manifest.bands
    ]
    return shard.changed({"bands": bands})
