"""What an export is made from: a built dataset as plain values, with its pixels behind one function.

Exports know nothing of workspaces and shard formats. Whoever opens the dataset gives tables, records and a function that
reads pixels; an export turns them into files in a folder that is empty and its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import geopandas as gpd
import numpy as np
import pandas as pd

from rsdata.recipe import Recipe
from rsdata.records import Manifest, ShardManifest, SplitAudit, keys_of, s1_scene_id, s1_start, sensors_of
from rsdata.sensors import REFERENCE_MAP, SENSORS, SENTINEL1

Read = Callable[[str], Mapping[str, np.ndarray]]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Source:
    """A built dataset."""

    patches: gpd.GeoDataFrame  # the kept rows of patches.parquet, by patch id; columns of PatchRow but bbox, footprints in EPSG:4326
    index: pd.DataFrame  # ShardIndexRow of the same patches in the same order
    manifest: ShardManifest  # of the shard; where there is one per scene, of all together, then without files and statistics
    recipe: Recipe
    dataset: Manifest  # manifest.json
    read: Read  # key of a patch's bands to these, (y, x) as stored; from any thread
    root: Path  # the dataset's folder, which the paths of ``dataset.outputs`` are relative to
    shard_folders: tuple[Path, ...]  # one, or one per scene
    texts: Path | None = None  # Parquet of TextRow; None where there are none
    audit: SplitAudit | None = None

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def title(self) -> str:
        return self.recipe.title or self.recipe.name

    @cached_property
    def keys(self) -> dict[str, list[str | None]]:
        """Sensor, or reference_map, to the key of each patch; None where it has none."""
        return {sensor: keys_of(self.index, sensor) for sensor in sensors_of(self.index)}

    @property
    def sensors(self) -> tuple[str, ...]:
        """Whose pixels some patch has, in the order of ``SENSORS``."""
        return tuple(name for name in SENSORS if name != REFERENCE_MAP.name and any(self.keys.get(name, ())))

    @property
    def acquired(self) -> pd.Series:
        """When the pixels of each patch were taken, UTC: as the patch table says, or by Sentinel-1 where there is nothing else."""
        if self.sensors != (SENTINEL1.name,):
            return pd.to_datetime(self.patches["datetime"], utc=True)
        starts = [s1_start(s1_scene_id(product)) for product in self.patches["s1_product"]]
        return pd.Series(pd.to_datetime(starts, utc=True), index=self.patches.index)


class Export(Protocol):
    """One form that other programs read."""

    summary: str  # one line for the list of forms

    def write(self, source: Source, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
        """Write the form into an empty folder; return what it holds, by name.

        The same dataset gives the same bytes, whatever the number of workers.

        Args:
            workers: threads that may read and write at once.
            advance: told how many patches were done.

        Raises: CatalogError if the dataset lacks what the form needs.
        """
