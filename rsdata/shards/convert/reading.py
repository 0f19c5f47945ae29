"""The values of a plan as bytes, portion by portion.

A portion is read by one compiled call that copies the pixels of all files that look like those seen before. A value
with a file that does not is read again with care, which either gives its bytes too or says what is wrong with it.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from rsdata.errors import ShardError
from rsdata.records import LeftOut
from rsdata.shards.convert.planning import Plan, Source, Value
from rsdata.shards.convert.tiff import Template, read_tiff, template_of
from rsdata.shards.values import encode

_PORTION_BYTES = 8 * 2**20  # of usual values; one transaction
_ALIGNED = 64  # bytes; values begin at multiples, so that pixels can be viewed as numbers
_MOST_TEMPLATES = 16  # per kind of file; files like none of them are parsed one by one
_POSIX = os.name == "posix"  # elsewhere the C library opens files in another mode


@dataclass(frozen=True)
class Portion:
    """Values written together, and where each begins in a buffer."""

    values: list[Value]
    at: list[int]
    bytes: int


def portions(plan: Plan) -> Iterator[Portion]:
    """Cut a plan into portions; where they end follows from the plan alone."""
    sizes = [-(-source.layout.bytes // _ALIGNED) * _ALIGNED for source in plan.sources]
    first, size = 0, 0
    for place, value in enumerate(plan.values):
        if size and size + sizes[value[1]] > _PORTION_BYTES:
            yield _portion(plan.values[first:place], sizes)
            first, size = place, 0
        size += sizes[value[1]]
    if size:
        yield _portion(plan.values[first:], sizes)


def _portion(values: list[Value], sizes: list[int]) -> Portion:
    *at, end = accumulate((sizes[value[1]] for value in values), initial=0)
    return Portion(values, at, end)


@dataclass
class Filled:
    """A portion that was read."""

    portion: Portion
    buffer: np.ndarray  # (bytes,) uint8
    odd: dict[int, bytes] = field(default_factory=dict)  # place in the portion to a value of another size than usual
    damaged: dict[int, list[str]] = field(default_factory=dict)  # place to what is wrong with its files
    by_rasterio: Counter[str] = field(default_factory=Counter)  # why rasterio had to read a file, and how many

    def left_out(self) -> list[LeftOut]:
        return [LeftOut(key=self.portion.values[place][0], reason="; ".join(why)) for place, why in sorted(self.damaged.items())]


class _Templates:
    """Templates of every kind of file, as the arrays that the compiled loop takes; a changed set is a new object."""

    def __init__(self, slots: list[tuple[Template, ...]]) -> None:
        self.slots = slots
        every = [template for slot in slots for template in slot]
        compared = [pair for template in every for pair in template.compared]
        self.scratch_bytes = max((template.file_bytes for template in every), default=0) + 1
        self.arrays = (
            _starts(len(slot) for slot in slots),
            np.array([template.file_bytes for template in every], np.int64),
            _starts(len(template.compared) for template in every),
            np.array([first for first, _ in compared], np.int64),
            _starts(len(text) for _, text in compared),
            np.frombuffer(b"".join(text for _, text in compared), np.uint8),
            _starts(len(template.runs) for template in every),
            np.array([run for template in every for run in template.runs], np.int64).reshape(-1, 3),
        )

    def with_one_more(self, slot: int, template: Template) -> "_Templates":
        if len(self.slots[slot]) >= _MOST_TEMPLATES or template in self.slots[slot]:
            return self
        return _Templates([(*each, template) if place == slot else each for place, each in enumerate(self.slots)])


def _starts(lengths: Iterator[int]) -> np.ndarray:
    return np.fromiter(accumulate(lengths, initial=0), np.int64)


class Reader:
    """Reads portions; many threads may share one."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._slot_of = [int(first) for first in _starts(source.files_per_value for source in plan.sources)]  # first of each source
        self._slots = [np.arange(*pair) for pair in pairwise(self._slot_of)]
        self._templates = _Templates([()] * self._slot_of[-1])
        self._lock = threading.Lock()
        self._mine = threading.local()
        seen: set[int] = set()
        for value in plan.values:  # the first of each kind shows what the others look like
            if value[1] not in seen:
                seen.add(value[1])
                self._read_with_care(value, Counter())
            if len(seen) == len(plan.sources):
                break

    def read(self, portion: Portion, buffer: np.ndarray) -> Filled:
        """Fill a buffer, (at least the portion's bytes,) uint8, with values; what is damaged is said, not raised."""
        filled = Filled(portion, buffer)
        copied = self._copy(portion, buffer)
        for place, (value, at) in enumerate(zip(portion.values, portion.at, strict=True)):
            layout = self.plan.sources[value[1]].layout
            if copied[place]:
                buffer[at : at + len(layout.header)] = layout.header
                continue
            encoded, wrong = self._read_with_care(value, filled.by_rasterio)
            if wrong:
                filled.damaged[place] = wrong
            elif len(encoded) == layout.bytes and encoded[: len(layout.header)] == layout.header.tobytes():
                buffer[at : at + layout.bytes] = np.frombuffer(encoded, np.uint8)
            else:
                filled.odd[place] = encoded
        return filled

    def _copy(self, portion: Portion, buffer: np.ndarray) -> np.ndarray:
        """Copy what looks like a template; return (value,) whether all files of a value did."""
        from rsdata.shards import kernels  # loads its compiler, which takes a while

        templates = self._templates
        if not _POSIX or templates.scratch_bytes == 1:
            return np.zeros(len(portion.values), bool)
        sources = [self.plan.sources[value[1]] for value in portion.values]
        joined = "".join(source.joined_paths(value) for source, value in zip(sources, portion.values, strict=True))
        paths = np.frombuffer(os.fsencode(joined), np.uint8)
        starts = np.append(0, np.flatnonzero(paths == 0) + 1)
        counts = np.array([source.files_per_value for source in sources])
        slots = np.concatenate([self._slots[value[1]] for value in portion.values])
        scratch = getattr(self._mine, "scratch", None)
        if scratch is None or scratch.size < templates.scratch_bytes:
            scratch = self._mine.scratch = np.empty(templates.scratch_bytes, np.uint8)
        state = np.empty(len(slots), np.int8)
        kernels.copy_files(
            paths,
            starts,
            slots,
            np.repeat(np.array(portion.at, np.int64), counts),
            *templates.arrays,
            scratch,
            buffer,
            state,
        )
        return np.logical_and.reduceat(state == kernels.COPIED, np.cumsum(counts) - counts)

    def _read_with_care(self, value: Value, by_rasterio: Counter[str]) -> tuple[bytes, list[str]]:
        """A value file by file: its bytes, or what is wrong with its files. New structures become templates."""
        source = self.plan.sources[value[1]]
        usual = {name: (dtype, shape) for name, (_, dtype, shape) in source.layout.bands.items()}
        bands: dict[str, np.ndarray] = {}
        wrong: list[str] = []
        for place, text in enumerate(source.paths(value)):
            path = Path(text)
            names = source.input.band_names[place : place + 1] if source.input.per_band else source.input.band_names
            try:
                pixels, unusual, data, structure = read_tiff(path)
                _check(pixels, names, usual, source, path)
            except ShardError as error:
                wrong.append(str(error))
                continue
            bands |= dict(zip(names, pixels, strict=True))
            if unusual is not None:
                by_rasterio[unusual] += 1
            elif structure is not None and all(pixels.shape[1:] == usual[name][1] for name in names):
                template = template_of(data, structure, [source.layout.bands[name][0] for name in names])
                if template is not None:
                    with self._lock:
                        self._templates = self._templates.with_one_more(self._slot_of[value[1]] + place, template)
        return (b"", wrong) if wrong else (encode(bands), [])


def _check(pixels: np.ndarray, names: tuple[str, ...], usual: dict[str, tuple[str, tuple[int, int]]], source: Source, path: Path) -> None:
    if len(pixels) != len(names):
        raise ShardError(f"{path} holds {len(pixels)} bands, expected {len(names)}", path=str(path))
    for name in names:
        dtype, shape = usual[name]
        if str(pixels.dtype) != dtype:
            raise ShardError(f"{path} holds {pixels.dtype}, expected {dtype}", path=str(path))
        if pixels.shape[1:] != shape and not source.input.sizes_vary:
            raise ShardError(f"{path} is {_size(pixels.shape[1:])} pixels, expected {_size(shape)}", path=str(path))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
