"""What every way of coding gives: groups of bands, their tables, and the units of each segment in the order of the blob."""

from collections.abc import Iterator, Sequence

import numpy as np

from rsdata.records import VideoGroup
from rsdata.shards.video import hevc, stills
from rsdata.shards.video.container import Tables, Unit


class Coded:
    """What a way of coding gives: groups with their tables, and per segment the units of all streams."""

    def __init__(self, keyint: int, frames: int) -> None:
        self.keyint = keyint
        self.segments: list[list[Unit]] = [[] for _ in range(0, frames, keyint)]
        self.groups: list[VideoGroup] = []
        self.tables: list[Tables] = []

    def add_stills(self, codes: np.ndarray) -> None:
        """One stream of (time, plane, y, x) codes, a still per segment with its frames one below the other."""
        for number, units in enumerate(self.segments):
            part = np.moveaxis(codes[number * self.keyint : (number + 1) * self.keyint], 1, 0)
            data = stills.encode(part.reshape(part.shape[0], -1, part.shape[-1]))
            units.append(Unit((len(data),), (0,), data))

    def add_video(self, packets: Sequence[hevc.Packet]) -> None:
        """One stream of packets in the order of decoding."""
        for number, units in enumerate(self.segments):
            first = number * self.keyint
            own = [packet for packet in packets if first <= packet.frame < first + self.keyint]
            data = b"".join(packet.data for packet in own)
            units.append(Unit(tuple(len(packet.data) for packet in own), tuple(packet.frame - first for packet in own), data))


def triples(count: int) -> Iterator[tuple[int, int]]:
    """(first, planes) of streams of three while there are three, then of one."""
    whole = count // 3 * 3
    yield from ((first, 3) for first in range(0, whole, 3))
    yield from ((first, 1) for first in range(whole, count))


def limits(filled: np.ndarray, measured: np.ndarray) -> list[tuple[float, float]]:
    """Smallest and largest measured value per band; of the filling, if nothing was measured."""
    limits = []
    for band in range(filled.shape[1]):
        values = filled[:, band][measured[:, band]]
        values = values if values.size else filled[:, band]
        limits.append((float(values.min()), float(values.max())))
    return limits
