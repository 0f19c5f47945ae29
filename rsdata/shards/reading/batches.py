"""What a batch is made of: bands in order, their normalisation, and the square they are all brought to.

A plan is made once. For every layout it meets it works out a table of places, and then a batch is one compiled call for
each layout among its entries.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from rsdata.errors import ShardError
from rsdata.shards.reading.pieces import Layout, Piece, piece_of_array

Resampling = Literal["nearest", "bilinear", "area"]
RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)
SYMMETRIES = 8  # of a square: four quarter turns, each with and without a mirror
_MOST_TABLES = 1024  # remembered; real shards need a handful


@dataclass(frozen=True, eq=False)
class _Table:
    """Where the plan's bands lie in entries of one layout, as the kernel takes it."""

    bands: tuple[str, ...]
    channels: npt.NDArray[np.int64]
    numbers: tuple[npt.NDArray[Any], ...]  # offsets, kinds, heights, widths, channels, row axes, column axes, mean, std, nodata
    axes: tuple[npt.NDArray[Any], ...]  # low, high, share
    unlike: tuple[str, ...]  # bands whose type the kernel does not read
    alignment: npt.NDArray[np.int64]  # (band,) bytes


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """How stored bands become (row, channel, y, x).

    A pixel becomes ``(stored - mean) / std`` in float32, and 0 where it is missing: NaN, or the band's no-data value. Then it
    is resampled, so a missing pixel counts as the mean. ``nearest`` takes the native pixel under the centre, ``bilinear``
    equals torch's interpolation with ``align_corners=False``, ``area`` is the mean of all native pixels an output pixel
    touches (torch's ``area``), meant for making patches smaller.
    """

    bands: tuple[str, ...]
    mean: Sequence[float]  # per band, in the stored unit
    std: Sequence[float]
    nodata: Sequence[float]  # NaN where no stored value marks missing pixels
    side_px: int
    resampling: Resampling = "nearest"
    stored: str | None = None  # the one type all bands must have, for raw pixels
    _tables: dict[tuple[Layout, frozenset[str]], _Table] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_tables": {}}

    def fill(
        self, pieces: Iterable[Piece], bands: Sequence[str], out: npt.NDArray[Any], symmetries: npt.NDArray[np.int64]
    ) -> list[tuple[int, str]]:
        """Write the named bands of all pieces to their rows and channels.

        Args:
            pieces: whose rows are rows of ``out``.
            bands: the part of the plan's bands that these pieces are to provide.
            out: (row, channel, side, side) float32 in C order; or any type that holds the stored values, for mean 0 and std 1.
            symmetries: (row,) which of the eight symmetries of a square each patch is shown in; 0 is as it lies.

        Returns: row and band of what no piece provided; there ``out`` holds whatever it held.
        """
        from rsdata.shards.reading import kernel  # loads its compiler, which takes a while

        wanted = frozenset(bands)
        lacking = np.zeros((len(out), len(self.bands)), bool)
        lacking[:, [self.bands.index(band) for band in bands]] = True
        method = RESAMPLINGS.index(self.resampling)
        steps = _steps(self.side_px)
        for piece in pieces:
            table = self._table(piece.layout, wanted)
            if table.unlike or ((piece.addresses[:, None] + table.numbers[0]) % table.alignment).any():
                lacking[piece.rows[:, None], self._channels(table)] = False
                for widened in _widened(piece, (*table.bands, *table.unlike)):
                    self.fill([widened], tuple(widened.layout.planes), out, symmetries)
                continue
            kernel.fill(piece.addresses, piece.rows, *table.numbers, *table.axes, method, symmetries, steps, out.dtype == np.float32, out)
            lacking[piece.rows[:, None], table.channels] = False
        return [(int(row), self.bands[channel]) for row, channel in np.argwhere(lacking)]

    def _channels(self, table: _Table) -> list[int]:
        return [self.bands.index(band) for band in (*table.bands, *table.unlike)]

    def _table(self, layout: Layout, wanted: frozenset[str]) -> _Table:
        table = self._tables.get((layout, wanted))
        if table is None:
            if len(self._tables) >= _MOST_TABLES:
                self._tables.clear()
            table = self._tables[layout, wanted] = self._make_table(layout, wanted)
        return table

    def _make_table(self, layout: Layout, wanted: frozenset[str]) -> _Table:
        from rsdata.shards.reading.kernel import TYPES

        present = [band for band in self.bands if band in layout.planes and band in wanted]
        bands = tuple(band for band in present if layout.planes[band].dtype in TYPES)
        planes = [layout.planes[band] for band in bands]
        for band in present if self.stored else ():
            if layout.planes[band].dtype != self.stored:
                raise ShardError(f"band {band} is {layout.planes[band].dtype}; expected {self.stored}, as the manifest says", band=band)
        sizes = sorted({size for plane in planes for size in plane.shape_yx})
        channels = np.array([self.bands.index(band) for band in bands], np.int64)

        def whole(values: Iterable[int]) -> npt.NDArray[np.int64]:
            return np.array(list(values), np.int64)

        return _Table(
            bands=bands,
            channels=channels,
            numbers=(
                whole(plane.offset for plane in planes),
                whole(TYPES[plane.dtype] for plane in planes),
                whole(plane.shape_yx[0] for plane in planes),
                whole(plane.shape_yx[1] for plane in planes),
                channels,
                whole(sizes.index(plane.shape_yx[0]) for plane in planes),
                whole(sizes.index(plane.shape_yx[1]) for plane in planes),
                *(np.array(values, np.float32)[channels] for values in (self.mean, self.std, self.nodata)),
            ),
            axes=_axes(sizes, self.side_px, self.resampling),
            unlike=tuple(band for band in present if band not in bands),
            alignment=whole(np.dtype(plane.dtype).itemsize for plane in planes),
        )


def _widened(piece: Piece, bands: Sequence[str]) -> Iterable[Piece]:
    """The same pixels as aligned float32, band by band: for types that the kernel does not read, and unaligned memory."""
    for entry, row in enumerate(piece.rows):
        for band in bands:
            yield piece_of_array(int(row), band, np.array(piece.plane(entry, band), np.float32))


def _axes(sizes: Sequence[int], side: int, resampling: Resampling) -> tuple[npt.NDArray[Any], ...]:
    """(axis, side) tables: for each native size and output pixel, the first and last native pixel and the last one's share."""
    low, high = np.zeros((2, len(sizes), side), np.int64)
    share = np.zeros((len(sizes), side), np.float32)
    place = np.arange(side)
    for axis, size in enumerate(sizes):
        if resampling == "nearest":
            low[axis] = high[axis] = ((place + 0.5) * size / side).astype(np.int64)
        elif resampling == "bilinear":
            centre = np.maximum((place + 0.5) * size / side - 0.5, 0)
            low[axis] = centre.astype(np.int64)
            high[axis] = np.minimum(low[axis] + 1, size - 1)
            share[axis] = centre - low[axis]
        else:
            low[axis] = place * size // side
            high[axis] = -(-(place + 1) * size // side) - 1
    return low, high, share


@lru_cache(16)
def _steps(side: int) -> npt.NDArray[np.int64]:
    """(symmetry, 3): quarter turns as ``np.rot90`` counts them, from 4 on followed by a mirror; see the kernel."""
    square = np.arange(side * side).reshape(side, side)
    found = []
    for symmetry in range(SYMMETRIES):
        turned = np.rot90(square, symmetry % 4)
        turned = turned[:, ::-1] if symmetry >= 4 else turned
        first = int(turned[0, 0])
        found.append((first, int(turned[-1, 0]) - first, int(turned[0, -1]) - first))
    return np.array(found, np.int64) // np.array([1, max(1, side - 1), max(1, side - 1)], np.int64)
