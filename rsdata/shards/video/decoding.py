"""From a blob to samples: any frames, any bands, from the packets that these need and no others.

Decoding releases the interpreter's lock nearly throughout, so threads over clips pay.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from rsdata.errors import ShardError
from rsdata.records import VideoGroup, VideoHeader, VideoStream
from rsdata.shards.video import hevc, masks, stills, temporal, transform
from rsdata.shards.video.container import Fetch, Head, Place, Tables, parse, unit_of
from rsdata.shards.video.settings import MAX_BYTES


class Clip:
    """A video-coded cube (time, band, y, x), decoded where it is read."""

    def __init__(self, blob: bytes, *, max_bytes: int = MAX_BYTES) -> None:
        """Raises: ShardError if the blob is damaged, of another version or larger than ``max_bytes`` once decoded."""
        self._blob = memoryview(blob)
        self.head = parse(blob, max_bytes, len(blob))

    @property
    def header(self) -> VideoHeader:
        return self.head.header

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.header.shape

    @property
    def bands(self) -> list[str]:
        return list(self.header.bands)

    def read(self, frames: Sequence[int] | slice | None = None, bands: Sequence[str] | None = None) -> np.ndarray:
        """Decode (time, band, y, x), in the order asked for.

        Args:
            frames: numbers from 0, a slice, or all.
            bands: names, or all.

        Raises: ShardError if there is no such frame or band, or the packets are damaged.
        """
        numbers = _frame_numbers(frames, self.shape[0])
        names = self.bands if bands is None else list(bands)
        if unknown := [name for name in names if name not in self.header.bands]:
            raise ShardError(f"this cube has no band {unknown[0]}; it has {', '.join(self.bands)}", bands=unknown)
        positions = [self.header.bands.index(name) for name in names]
        return decode(self.head, numbers, positions, lambda start, stop: bytes(self._blob[start:stop]))

    def valid(self, frames: Sequence[int] | slice | None = None) -> np.ndarray:
        """Which pixels are valid, (time, y, x) bool, in the order asked for.

        They are what the encoder was told; where it was told nothing, those that are no-data, NaN or infinite in no band.

        Raises: ShardError as ``read``.
        """
        header, numbers = self.header, _frame_numbers(frames, self.shape[0])
        if not header.validity and header.mode == "lossless":  # which has no mask
            return np.asarray(~masks.classify(self.read(numbers), header.nodata).any(axis=1))
        out = np.empty((len(numbers), *self.shape[2:]), bool)
        for segment in {number // header.keyint for number in numbers}:
            at = [place for place, number in enumerate(numbers) if number // header.keyint == segment]
            whole = _valid(self.head, segment, lambda start, stop: bytes(self._blob[start:stop]))
            out[at] = whole[[numbers[place] - segment * header.keyint for place in at]]
        return out

    def check(self) -> None:
        """Hold every packet against its checksum, decoding none.

        Raises: ShardError at the first that does not match.
        """
        for places in self.head.places:
            for place in places:
                unit_of(place, lambda start, stop: bytes(self._blob[start:stop]))


def _frame_numbers(frames: Sequence[int] | slice | None, count: int) -> list[int]:
    numbers = list(range(count))[frames] if isinstance(frames, slice) else list(range(count) if frames is None else frames)
    if wrong := [number for number in numbers if not 0 <= number < count]:
        raise ShardError(f"this cube has no frame {wrong[0]}; it has {count}, counted from 0", frames=wrong)
    return [int(number) for number in numbers]


def needed(head: Head, frames: Sequence[int], bands: Sequence[int]) -> list[Place]:
    """The packets that some frames and bands (positions) stand on, in the order of the blob."""
    segments = sorted({frame // head.header.keyint for frame in frames})
    units = _units(head, set(bands))
    return [head.places[segment][unit] for segment in segments for unit in units]


def _units(head: Head, bands: set[int]) -> list[int]:
    mask = [0] if head.header.mask_kinds else []  # validity is asked for by itself
    return mask + [head.first_stream + at for at, (_, group, stream) in enumerate(head.streams) if _touches(group, stream, bands)]


def _touches(group: VideoGroup, stream: VideoStream, bands: set[int]) -> bool:
    if group.components:
        return bool(bands & set(group.bands))
    return bool(bands & set(group.bands[stream.first : stream.first + stream.planes]))


def decode(head: Head, frames: Sequence[int], bands: Sequence[int], fetch: Fetch) -> np.ndarray:
    """Decode frames and bands by position; ``fetch(start, stop)`` gives bytes of the blob.

    Raises: ShardError if what it gives is damaged.
    """
    header = head.header
    out = np.empty((len(frames), len(bands), *header.shape[2:]), header.dtype)
    target: dict[int, list[int]] = {}
    for at, frame in enumerate(frames):
        target.setdefault(frame, []).append(at)
    for segment in sorted({frame // header.keyint for frame in target}):
        first = segment * header.keyint
        local = sorted(frame - first for frame in target if frame // header.keyint == segment)
        pixels = _decode_segment(head, segment, local, bands, fetch)
        for frame, planes in zip(local, pixels, strict=True):
            out[target[first + frame]] = planes
    return out


def _decode_segment(head: Head, segment: int, frames: list[int], bands: Sequence[int], fetch: Fetch) -> np.ndarray:
    """Frames (counted within the segment) and bands of one segment."""
    header, places = head.header, head.places[segment]
    out = np.empty((len(frames), len(bands), *header.shape[2:]), header.dtype)
    wanted = set(bands)
    columns = {band: [at for at, each in enumerate(bands) if each == band] for band in wanted}
    unit = head.first_stream
    for group, tables in zip(header.groups, head.tables, strict=True):
        codes = []
        coded = list(range(head.segment_frames(segment))) if group.mixed else frames
        for number, stream in enumerate(group.streams):
            if _touches(group, stream, wanted):
                planes = _decode_stream(head, segment, group, stream, tables.extradata[number], places[unit], coded, fetch)
                if group.values == "components":  # at once, so that no more than one stream's codes are kept
                    planes = scaled(stream, planes, tables.weights[segment][frames] if group.mixed else None, group.step)
                codes.append((stream, planes))
            unit += 1
        for band, values in _values(group, tables, codes, header) if codes else ():
            for at in columns.get(band, ()):
                out[:, at] = values
    if (whole := _classes(head, segment, fetch)) is not None:
        classes = whole[frames]
        masks.restore(out, classes if header.mask_bands == 1 else classes[:, list(bands)], header.nodata)
    return out


def _classes(head: Head, segment: int, fetch: Fetch) -> np.ndarray | None:
    """The mask (time, 1 or band, y, x) of one segment."""
    header = head.header
    if not header.mask_kinds:
        return None
    shape = (head.segment_frames(segment), header.mask_bands, *header.shape[2:])
    return masks.decode(unit_of(head.places[segment][0], fetch), header.mask_kinds, shape)


def _valid(head: Head, segment: int, fetch: Fetch) -> np.ndarray:
    """Valid pixels (time, y, x) bool of one segment."""
    classes = _classes(head, segment, fetch)
    shape = (head.segment_frames(segment), *head.header.shape[2:])
    if not head.header.validity:
        return np.ones(shape, bool) if classes is None else np.asarray(~classes.any(axis=1))
    return masks.decode_validity(unit_of(head.places[segment][head.first_stream - 1], fetch), classes, shape)


def _decode_stream(
    head: Head, segment: int, group: VideoGroup, stream: VideoStream, extradata: bytes, place: Place, frames: list[int], fetch: Fetch
) -> np.ndarray:
    """Codes (frame, plane, y, x) of one stream."""
    rows, columns = head.header.shape[2:]
    data = unit_of(place, fetch)
    if group.codec == "hevc":
        packets, at = [], 0
        for size, frame in zip(place.sizes, place.frames, strict=True):
            packets.append(hevc.Packet(data[at : at + size], frame))
            at += size
        shape = (stream.planes, rows, columns)
        if not stream.lead:
            return _video(stream, extradata, packets, frames, shape)
        if packets[0].frame != 0:
            raise ShardError("a segment that should begin with a still does not; the shard is damaged")
        return np.concatenate(
            [stills.decode(packets[0].data, shape, np.dtype(np.uint16))[None], _video(stream, extradata, packets[1:], frames[1:], shape)]
        )
    stacked = head.segment_frames(segment)
    dtype = np.dtype(np.uint8 if group.pixel_format == "gray8" else np.uint16)
    codes = stills.decode(data, (stream.planes, stacked * rows, columns), dtype)
    return np.moveaxis(codes.reshape(stream.planes, stacked, rows, columns), 0, 1)[frames]


def _video(
    stream: VideoStream, extradata: bytes, packets: Sequence[hevc.Packet], frames: Sequence[int], shape: tuple[int, int, int]
) -> np.ndarray:
    """Codes (frame, plane, y, x) of a run of HEVC packets, planes in the stream's own order."""
    if not frames:
        return np.empty((0, *shape), np.uint16)
    planes = hevc.decode(extradata, packets, frames, shape)
    return planes[:, stream.order] if stream.order else planes


def _values(
    group: VideoGroup, tables: Tables, codes: list[tuple[VideoStream, np.ndarray]], header: VideoHeader
) -> Iterator[tuple[int, np.ndarray]]:
    """Band position and its samples (frame, y, x) in the cube's type, from each stream's codes or components."""
    dtype = np.dtype(header.dtype)
    if group.values == "bits":
        low = {stream.first: planes for stream, planes in codes if stream.half == "low"}
        for stream, planes in codes:
            if stream.half == "high":
                samples = from_bits(planes, low[stream.first])
                yield from ((group.bands[stream.first + at], samples[:, at]) for at in range(stream.planes))
        return
    if group.values == "exact":
        for stream, planes in codes:
            shifted = planes if not stream.offsets[0] else planes ^ 0x8000
            yield from ((group.bands[stream.first + at], shifted[:, at].view(dtype)) for at in range(stream.planes))
        return
    if group.values == "grid":
        for stream, planes in codes:
            for at in range(stream.planes):
                position = stream.first + at
                values = one_of(stream.offsets, at) + planes[:, at] * np.float64(one_of(stream.scales, at))
                yield group.bands[position], _to_type(values, group.low[position], group.high[position], dtype, None)
        return
    components = np.concatenate([planes for _, planes in codes], axis=1)
    matrix, bias = tables.matrix, tables.bias
    if matrix is None or bias is None:
        raise ShardError("a video blob's transform is missing; the shard is damaged")
    values = transform.back(components, matrix, bias)
    for at, band in enumerate(group.bands):
        yield band, _to_type(values[:, at], group.low[at], group.high[at], dtype, header.nodata)


def one_of(numbers: Sequence[float], plane: int) -> float:
    """A plane's own number, or the one that all share."""
    return numbers[plane if len(numbers) > 1 else 0]


def scaled(stream: VideoStream, codes: np.ndarray, weights: np.ndarray | None = None, step: float | None = None) -> np.ndarray:
    """Components (frame, plane, y, x) float32 of codes.

    Args:
        codes: (frame, plane, y, x); all mixtures of a segment, if ``weights`` say how dates are made of these.
        step: scale of the first mixture, if that is a still.
    """
    if weights is not None:
        planes = [
            temporal.unmix(
                codes[:, plane],
                weights,
                (float(step or 1), stream.lead[plane]) if stream.lead else (one_of(stream.scales, plane), one_of(stream.offsets, plane)),
                (one_of(stream.scales, plane), one_of(stream.offsets, plane)),
            )
            for plane in range(stream.planes)
        ]
        return np.stack(planes, axis=1)
    out = np.empty(codes.shape, np.float32)
    for plane in range(stream.planes):
        np.multiply(codes[:, plane], np.float32(one_of(stream.scales, plane)), out=out[:, plane], casting="unsafe")
        out[:, plane] += np.float32(one_of(stream.offsets, plane))
    return out


def _to_type(values: np.ndarray, low: float, high: float, dtype: np.dtype, nodata: float | None) -> np.ndarray:
    """Round and clip into a band's range; nothing measured may come out as the no-data value."""
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        low, high = max(low, float(info.min)), min(high, float(info.max))
        values = np.rint(values)
    out = np.clip(values, low, high).astype(dtype)
    if nodata is not None and low <= nodata <= high:
        aside = nodata + 1 if dtype.kind != "f" else float(np.nextafter(np.float32(nodata), np.float32(np.inf)))
        if aside > high:
            aside = nodata - 1 if dtype.kind != "f" else float(np.nextafter(np.float32(nodata), np.float32(-np.inf)))
        if low <= aside <= high:  # else all of the band is no-data, and the mask will say so
            out[out == nodata] = aside
    return out


def to_bits(cube: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """High and low 16 bits of floats, in an order in which neighbours in value are neighbours in code."""
    bits = cube.view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    return (ordered >> 16).astype(np.uint16), (ordered & 0xFFFF).astype(np.uint16)


def from_bits(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Undo ``to_bits``, to the bit, whatever the floats were."""
    ordered = (high.astype(np.uint32) << 16) | low
    return np.where(ordered >> 31, ordered ^ np.uint32(0x80000000), ~ordered).astype(np.uint32).view(np.float32)
