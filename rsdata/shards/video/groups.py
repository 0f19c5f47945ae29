"""One group of bands of a shard of time series: how it is coded in one place, and what is known of it over all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from rsdata.errors import ShardError
from rsdata.records import BandInfo, CubeGroup
from rsdata.sensors import REFERENCE_MAP
from rsdata.shards.packing import measured
from rsdata.shards.statistics import BandAccumulator, Measured
from rsdata.shards.video.choosing import encode_any
from rsdata.shards.video.decoding import Clip
from rsdata.shards.video.masks import classify
from rsdata.shards.video.settings import VideoSettings
from rsdata.shards.zarr import Group, groups_of

# Quantiser step of mode lossy where nobody names one, by the unit of the samples: errors of about 35 counts (0.0035 of
# reflectance) and 0.35 dB, below what separates two acquisitions of unchanged ground.
USUAL_STEP = {"counts": 100.0, "dB": 1.0}
USUAL_BOUND = {"counts": 10.0, "dB": 0.1}  # of mode maxerr


@dataclass(frozen=True)
class Coded:
    """One group of one place, coded, and what decoding it gives."""

    blob: bytes
    samples: int  # measured and valid
    low: float  # of those; infinities where there are none
    high: float
    states: tuple[tuple[Any, ...], ...]  # of an accumulator per band; empty if nobody asked


@dataclass
class GroupTotals:
    """What is known of a group over all places so far."""

    group: Group
    settings: VideoSettings
    cubes: int = 0
    frames: int = 0
    coded_bytes: int = 0
    samples: int = 0
    squares: float = 0.0  # sum of squared errors
    low: float = math.inf
    high: float = -math.inf
    worst: float = 0.0
    accumulators: list[BandAccumulator] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accumulators = [BandAccumulator(measured(band)) for band in self.group.bands]

    def add(self, coded: Coded) -> None:
        header = Clip(coded.blob).header
        found = header.measured
        self.cubes, self.frames = self.cubes + 1, self.frames + header.shape[0]
        self.coded_bytes += len(coded.blob)
        self.samples += coded.samples
        self.low, self.high = min(self.low, coded.low), max(self.high, coded.high)
        if found is not None:
            self.squares += found.rmse**2 * coded.samples
            self.worst = max(self.worst, found.max_abs_error)
        for accumulator, state in zip(self.accumulators, coded.states, strict=False):
            accumulator.merge(state)

    def result(self) -> CubeGroup:
        rmse = math.sqrt(self.squares / self.samples) if self.samples else 0.0
        spread = self.high - self.low
        return CubeGroup(
            name=self.group.name,
            sensor=self.group.sensor,
            bands=[band.name for band in self.group.bands],
            settings=asked(self.settings),
            cubes=self.cubes,
            frames=self.frames,
            raw_bytes=self.frames * self.group.chunk_bytes,
            coded_bytes=self.coded_bytes,
            samples=self.samples,
            low=self.low if self.samples else None,
            high=self.high if self.samples else None,
            max_abs_error=self.worst,
            rmse=float(f"{rmse:.5g}"),
            psnr_db=round(20 * math.log10(spread / rmse), 2) if rmse > 0 and spread > 0 else None,
        )


def asked(settings: VideoSettings) -> dict[str, Any]:
    """The settings that are not as usual, the mode always."""
    given = {each.name: getattr(settings, each.name) for each in fields(VideoSettings)}
    return {name: value for name, value in given.items() if name == "mode" or value != VideoSettings.__dataclass_fields__[name].default}


def stated_settings(group: CubeGroup) -> VideoSettings:
    """Undo ``asked``: the settings a manifest states."""
    return VideoSettings(**group.settings)


def usual_settings(bands: Sequence[BandInfo], per_sensor: Mapping[str, Mapping[str, Any]]) -> dict[str, VideoSettings]:
    """Settings for every group of some bands, from options per sensor.

    Where mode lossy names no step, or maxerr no bound, the usual one for the unit of the samples is taken: a step of 100
    counts or 1 dB, a bound of 10 counts or 0.1 dB.

    Args: per_sensor: such as ``{"s2": {"mode": "lossy", "step": 60}, "s1": {"mode": "lossless"}}``; lossless if a sensor is absent.

    Raises: ShardError if a setting is wrong, or none is usual for a unit.
    """
    found = {}
    for group in groups_of(bands):
        if group.sensor == REFERENCE_MAP.name:
            continue
        given = dict(per_sensor.get(group.sensor, {}))
        name, usual = {"lossy": ("step", USUAL_STEP), "maxerr": ("max_error", USUAL_BOUND)}.get(given.get("mode", ""), ("", {}))
        if name and given.get(name) is None:
            unit = group.bands[0].unit
            if unit not in usual:
                raise ShardError(f"no {name} is usual for {unit}, the unit of {group.name}; name one", unit=unit)
            given[name] = usual[unit]
        found[group.name] = VideoSettings(**given)
    return found


def with_nodata(settings: VideoSettings, group: Group) -> VideoSettings:
    nodata = group.bands[0].nodata
    return settings if settings.nodata is not None or nodata is None or nodata == "nan" else replace(settings, nodata=float(nodata))


def code_group(cube: np.ndarray, valid: np.ndarray, settings: VideoSettings, names: Sequence[str], bands: Sequence[Measured]) -> Coded:
    """Code one group of one place and look at what came out; runs in a worker process.

    Args: bands: whose statistics are wanted; none, or all of the group's.

    Raises: ShardError as ``encode_any``.
    """
    return look(encode_any(cube, settings, names, valid), bands, cube)


def look(blob: bytes, bands: Sequence[Measured], cube: np.ndarray | None = None) -> Coded:
    """What a blob holds once decoded; statistics leave out what is no-data or not valid.

    Args:
        bands: whose statistics are wanted; none, or all of the blob's.
        cube: what was coded, which saves decoding where nothing was lost.
    """
    clip = Clip(blob)
    decoded, valid = cube if cube is not None and clip.header.mode == "lossless" else clip.read(), clip.valid()
    values = decoded[(classify(decoded, clip.header.nodata) == 0) & valid[:, None]]
    states = []
    for number, band in enumerate(bands):
        accumulator = BandAccumulator(band)
        for frame, here in zip(decoded[:, number], valid, strict=True):
            accumulator.add(frame[here])
        states.append(accumulator.state())
    low, high = (float(values.min()), float(values.max())) if values.size else (math.inf, -math.inf)
    return Coded(blob, int(values.size), low, high, tuple(states))
