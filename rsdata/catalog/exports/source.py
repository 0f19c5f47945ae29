"""What an export is made from: a built dataset as plain values, with its pixels behind one function.

Exports know nothing of workspaces and shard formats. Whoever opens the dataset gives tables, records and a function that
reads pixels; an export turns them into files in a folder that is empty and its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import geopandas as gpd
import numpy as np
import pandas as pd

from rsdata.recipe import Recipe
from rsdata.records import Manifest, ShardManifest, SplitAudit

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
    read: Read  # key of the index (patch_id, s1_key, reference_map_key) to bands (y, x) as stored; from any thread
    root: Path  # the dataset's folder, which the paths of ``dataset.outputs`` are relative to
    shard_folders: tuple[Path, ...]  # one, or one per scene
    texts: Path | None = None  # Parquet of TextRow; None where there are none
    facts: Path | None = None  # Parquet of PatchFacts
    audit: SplitAudit | None = None

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def title(self) -> str:
        return self.recipe.title or self.recipe.name


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
