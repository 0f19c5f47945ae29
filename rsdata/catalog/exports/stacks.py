"""Bands of equal resolution as one array, which is what training code asks for; named as the groups of a Zarr shard are."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsdata.catalog.exports.source import Source
from rsdata.records import ShardManifest
from rsdata.sensors import SENTINEL1


@dataclass(frozen=True)
class Stack:
    """Bands of one sensor that share resolution and type."""

    name: str  # s2_10m, s2_20m, s2_60m, s1, reference_map
    sensor: str
    bands: tuple[str, ...]
    dtype: str
    shape: tuple[int, int]  # (y, x)

    def fill(self, values: Any) -> np.ndarray:
        """Bands by name as (band, y, x)."""
        return np.stack([values[name] for name in self.bands])


@dataclass(frozen=True)
class Sample:
    """A patch: what is known of it, and the keys of its pixels."""

    row: dict[str, Any]
    keys: dict[str, str | None]  # by sensor

    @property
    def id(self) -> str:
        return str(self.row["patch_id"])


def stacks_of(manifest: ShardManifest) -> list[Stack]:
    """Stacks in the order of their first bands; a sensor with one resolution gives its name alone."""
    resolutions: dict[str, set[float | None]] = {}
    for band in manifest.bands:
        resolutions.setdefault(band.sensor, set()).add(band.gsd_m)
    gathered: dict[str, list[int]] = {}
    for number, band in enumerate(manifest.bands):
        several = len(resolutions[band.sensor]) > 1
        gathered.setdefault(f"{band.sensor}_{band.gsd_m:g}m" if several else band.sensor, []).append(number)
    stacks = []
    for name, numbers in gathered.items():
        bands = [manifest.bands[number] for number in numbers]
        shape = (bands[0].shape[0], bands[0].shape[1])
        stacks.append(Stack(name, bands[0].sensor, tuple(band.name for band in bands), bands[0].dtype, shape))
    return stacks


def samples_of(source: Source) -> dict[str, list[Sample]]:
    """Patches by split, ``all`` where there is none, in an order by chance that is always the same: neighbours look alike.

    A row has the patch's place, when its pixels were taken, classes by name and by number, and its Sentinel-1 twin.
    """
    numbers = {each.name: number for number, each in enumerate(source.manifest.labels)}
    columns = ["patch_id", "split", "labels", "country", "season", "datetime", "epsg", "ul_x_m", "ul_y_m"]
    found: dict[str, list[Sample]] = {}
    patches = source.patches[columns].assign(datetime=source.acquired)
    for values, *keys in zip(patches.itertuples(index=False), *source.keys.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        of = dict(zip(source.keys, keys, strict=True))
        row |= {"classes": [numbers[name] for name in row["labels"]], "s1_name": of.get(SENTINEL1.name)}
        row |= {"datetime": row["datetime"].to_pydatetime()}
        row |= {name: int(row[name]) for name in ("epsg", "ul_x_m", "ul_y_m")}
        found.setdefault(row["split"] or "all", []).append(Sample(row, of))
    return {split: sorted(each, key=lambda sample: hashlib.sha256(sample.id.encode()).digest()) for split, each in sorted(found.items())}


def pixels_of(source: Source, sample: Sample, stacks: Sequence[Stack]) -> Iterator[tuple[Stack, np.ndarray | None]]:
    """The stacks of a patch, (band, y, x) as stored; None where it lacks a sensor."""
    read = {sensor: source.read(key) for sensor, key in sample.keys.items() if key is not None}
    for stack in stacks:
        yield stack, stack.fill(read[stack.sensor]) if stack.sensor in read else None
