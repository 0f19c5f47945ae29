"""One blob per cube: a small head that says everything, then the packets, segment by segment.

The head alone tells which bytes a frame or a band group needs, so a reader fetches those and no others. Every length
is checked against the blob's own before anything is reserved, and every run of packets has a checksum.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from pydantic import ValidationError

from rsdata.errors import ShardError
from rsdata.records import VideoGroup, VideoHeader, VideoStream
from rsdata.shards.video.masks import inflate
from rsdata.shards.video.settings import MAX_BYTES, can_hold, check_shape

MAGIC = b"\x89RSV"
VERSION = 1
# magic, version, bytes of header, index and tables as stored, CRC-32 of those three
_PREFIX = struct.Struct("<4sBIIII")
PREFIX_BYTES = _PREFIX.size
_MAX_HEADER = 4 * 2**20  # bytes, inflated
_MAX_INDEX = 64 * 2**20
# zlib preset dictionary of the header: its usual words, which would else be half the head of a small cube. Part of version 1.
DICTIONARY = (
    b'"values":"exact","values":"bits","values":"grid","codec":"jxl","pixel_format":"gray8","pixel_format":"gray16","half":"high",'
    b'"half":"low","nodata":65535.0,"nodata":0.0,"nodata":-32768.0,"max_error":10.0,"mask_kinds":[1],"mask_kinds":[2],"mask_bands":1,'
    b'"dtype":"float32","dtype":"int16","dtype":"uint8","mode":"lossless","mode":"maxerr","S2-L2A-B02","B01","B02","B03","B04","B05",'
    b'"B06","B07","B08","B8A","B09","B10","B11","B12","VV","VH","high":[10000.0,"low":[1.0,0.0,'
    b'"measured":{"max_abs_error":0.0,"rmse":0.0,"psnr_db":null}}{"shape":[10,4,120,120],"dtype":"uint16","bands":["B02","B03","B04","B08"],'
    b'"mode":"lossy","keyint":8,"groups":[{"bands":[0,1,2,3],"codec":"hevc","pixel_format":"yuv444p12","values":"components",'
    b'"transform":"klt","components":4,"step":10.0,"low":[],"high":[],"streams":[{"first":0,"planes":3,"scales":[1.0],"offsets":[0.0],"qp":10,'
    b'"extradata_bytes":90},{"first":3,"planes":1,"scales":[1.0],"offsets":[0.0]}]}],"measured":{"max_abs_error":1.0,"rmse":1.0,"psnr_db":50.0}}'
)
# The same for the parameter sets of HEVC streams: two that x265 writes, for three planes and for one.
EXTRADATA_DICTIONARY = bytes.fromhex(
    "0000000140010c01ffff04080000030099c800000300001e9590090000000142010104080000030099c800000300001ec0d2069cb294a595924932b9a02000000300"
    "200000030321000000014401c1718112"
    "0000000140010c01ffff040800000300980800000300001e95900900000001420101040800000300980800000300001e90069034e594a52cac924995cd010000030001"
    "000003001908000000014401c1718112"
)


@dataclass(frozen=True)
class Unit:
    """What one stream, or a mask, has of one segment."""

    sizes: tuple[int, ...]  # of its packets, bytes
    frames: tuple[int, ...]  # of its packets, counted within the segment; a still holds them all and says 0
    data: bytes


@dataclass(frozen=True)
class Place:
    """Where a unit lies in the blob."""

    start: int
    sizes: tuple[int, ...]
    frames: tuple[int, ...]
    crc: int

    @property
    def stop(self) -> int:
        return self.start + sum(self.sizes)


@dataclass(frozen=True)
class Tables:
    """A group's numbers too many for JSON."""

    matrix: np.ndarray | None  # (component, band) float32
    bias: np.ndarray | None  # (band,) float32
    extradata: tuple[bytes, ...]  # per stream
    weights: tuple[np.ndarray, ...] = ()  # per segment, (date, mixture) int16, if the group's dates are mixed


@dataclass(frozen=True)
class Head:
    """A parsed head: what a reader needs to fetch and decode any part."""

    header: VideoHeader
    tables: tuple[Tables, ...]  # per group
    places: tuple[tuple[Place, ...], ...]  # per segment, per unit: mask and validity if there are any, then streams in order
    size: int  # bytes before the first packet

    @cached_property
    def streams(self) -> list[tuple[int, VideoGroup, VideoStream]]:
        """Group number, group and stream, in the order of the units after the masks."""
        return [(number, group, stream) for number, group in enumerate(self.header.groups) for stream in group.streams]

    @property
    def first_stream(self) -> int:
        """How many units of a segment come before the streams': the mask and the validity, if there are any."""
        return bool(self.header.mask_kinds) + self.header.validity

    @property
    def blob_size(self) -> int:
        return self.places[-1][-1].stop

    def segment_frames(self, segment: int) -> int:
        return min(self.header.keyint, self.header.shape[0] - segment * self.header.keyint)


def write(header: VideoHeader, tables: Sequence[Tables], segments: Sequence[Sequence[Unit]]) -> bytes:
    """The blob of a cube from its parts."""
    packer = zlib.compressobj(9, zdict=DICTIONARY)
    text = packer.compress(header.model_dump_json(exclude_defaults=True).encode()) + packer.flush()
    numbers = bytearray()
    checks = []
    for units, kinds in ((units, _kinds(header)) for units in segments):
        for unit, is_video in zip(units, kinds, strict=True):
            for size, frame in zip(unit.sizes, unit.frames, strict=True):
                _put(numbers, size)
                if is_video:
                    _put(numbers, frame)
            checks.append(zlib.crc32(unit.data))
    index = zlib.compress(bytes(numbers), 9) + struct.pack(f"<{len(checks)}I", *checks)
    table = b"".join(array.astype("<f4").tobytes() for each in tables for array in (each.matrix, each.bias) if array is not None)
    table += b"".join(array.astype("<i2").tobytes() for each in tables for array in each.weights)
    if sets := b"".join(data for each in tables for data in each.extradata):
        packer = zlib.compressobj(9, zdict=EXTRADATA_DICTIONARY)
        table += packer.compress(sets) + packer.flush()
    prefix = _PREFIX.pack(MAGIC, VERSION, len(text), len(index), len(table), zlib.crc32(text + index + table))
    return b"".join([prefix, text, index, table, *(unit.data for units in segments for unit in units)])


def head_bytes(prefix: bytes) -> int:
    """How long the head is that begins with these bytes.

    Raises: ShardError if they begin no blob that this version reads.
    """
    if len(prefix) < PREFIX_BYTES:
        raise ShardError(f"a video blob of {len(prefix)} bytes is cut short; make the shard again")
    magic, version, *lengths, _ = _PREFIX.unpack_from(prefix)
    if magic != MAGIC:
        raise ShardError(f"this is no video blob: it begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise ShardError(f"this video blob is of version {version}; this rsdata reads version {VERSION}; install another", version=version)
    return PREFIX_BYTES + sum(lengths)


def parse(data: bytes, max_bytes: int = MAX_BYTES, blob_size: int | None = None) -> Head:
    """Read a blob's head.

    Args:
        data: the blob, or its beginning up to the end of the head at least.
        max_bytes: refuse cubes that would be larger than this once decoded.
        blob_size: the whole blob's, if it is known; must be what the index adds up to.

    Raises: ShardError if the head is damaged, contradicts itself or claims too much.
    """
    size = head_bytes(data)
    if size > len(data):
        raise ShardError(f"a video blob's head says {size} bytes and {len(data)} are there; the shard is damaged, make it again")
    _, _, text_bytes, index_bytes, _, crc = _PREFIX.unpack_from(data)
    body = data[PREFIX_BYTES:size]
    if zlib.crc32(body) != crc:
        raise ShardError("a video blob's head does not match its checksum; the shard is damaged, make it again")
    try:
        header = VideoHeader.model_validate_json(inflate(body[:text_bytes], _MAX_HEADER, "a video blob's header", DICTIONARY))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ShardError(f"a video blob's header is not as expected: `{place}` {first['msg']}; the shard is damaged") from error
    check_shape(header.shape, np.dtype(header.dtype).itemsize, max_bytes)
    _check(header)
    places = _read_index(header, body[text_bytes : text_bytes + index_bytes], size)
    head = Head(header, _read_tables(header, body[text_bytes + index_bytes :]), places, size)
    if blob_size is not None and head.blob_size != blob_size:
        raise ShardError(f"a video blob has {blob_size} bytes and its index adds up to {head.blob_size}; it is cut short or damaged")
    return head


def _kinds(header: VideoHeader) -> list[bool]:
    """For each unit of a segment whether it is video, with a packet per frame."""
    masks = [False] * (bool(header.mask_kinds) + header.validity)
    return masks + [group.codec == "hevc" for group in header.groups for _ in group.streams]


def _put(numbers: bytearray, value: int) -> None:
    """Append a number, seven bits a byte, low ones first; the high bit says that more follow."""
    while value > 127:
        numbers.append(value & 127 | 128)
        value >>= 7
    numbers.append(value)


def _read_index(header: VideoHeader, data: bytes, start: int) -> tuple[tuple[Place, ...], ...]:
    kinds = _kinds(header)
    segments = -(-header.shape[0] // header.keyint)
    checks_at = len(data) - 4 * segments * len(kinds)
    if checks_at < 0:
        raise ShardError("a video blob's index is shorter than its frames ask for; the shard is damaged")
    checks = iter(struct.unpack_from(f"<{segments * len(kinds)}I", data, checks_at))
    raw = inflate(data[:checks_at], _MAX_INDEX, "a video blob's index")
    at = 0

    def take() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(raw) or shift > 35:
                raise ShardError("a video blob's index ends early; the shard is damaged")
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    places = []
    for segment in range(segments):
        frames = min(header.keyint, header.shape[0] - segment * header.keyint)
        row = []
        for is_video in kinds:
            pairs = [(take(), take() if is_video else 0) for _ in range(frames if is_video else 1)]
            if is_video and sorted(frame for _, frame in pairs) != list(range(frames)):
                raise ShardError("a video blob's index names frames twice or not at all; the shard is damaged")
            place = Place(start, tuple(size for size, _ in pairs), tuple(frame for _, frame in pairs), next(checks))
            start = place.stop
            row.append(place)
        places.append(tuple(row))
    if at != len(raw):
        raise ShardError("a video blob's index holds more than its frames ask for; the shard is damaged")
    return tuple(places)


def _read_tables(header: VideoHeader, data: bytes) -> tuple[Tables, ...]:
    segments = [min(header.keyint, header.shape[0] - first) for first in range(0, header.shape[0], header.keyint)]
    numbers = sum(4 * (group.components + 1) * len(group.bands) for group in header.groups if group.components)
    numbers += sum(2 * frames**2 for group in header.groups if group.mixed for frames in segments)
    expected = sum(stream.extradata_bytes for group in header.groups for stream in group.streams)
    sets = inflate(data[numbers:], expected, "a video blob's table", EXTRADATA_DICTIONARY) if expected else data[numbers:]
    if len(sets) != expected:
        raise ShardError("a video blob's tables are not as long as its header says; the shard is damaged")
    at = sets_at = 0

    def take(count: int) -> bytes:
        nonlocal at
        if at + count > len(data):
            raise ShardError("a video blob's tables end early; the shard is damaged")
        at += count
        return data[at - count : at]

    transforms = []
    for group in header.groups:
        matrix = bias = None
        if group.components:
            width = len(group.bands)
            matrix = np.frombuffer(take(4 * group.components * width), "<f4").reshape(group.components, width)
            bias = np.frombuffer(take(4 * width), "<f4")
            if not (np.isfinite(matrix).all() and np.isfinite(bias).all()):
                raise ShardError("a video blob's transform holds numbers that are none; the shard is damaged")
        transforms.append((matrix, bias))
    tables = []
    for group, (matrix, bias) in zip(header.groups, transforms, strict=True):
        weights = tuple(np.frombuffer(take(2 * frames**2), "<i2").reshape(frames, frames) for frames in segments) if group.mixed else ()
        extradata = []
        for stream in group.streams:
            extradata.append(sets[sets_at : sets_at + stream.extradata_bytes])
            sets_at += stream.extradata_bytes
        tables.append(Tables(matrix, bias, tuple(extradata), weights))
    return tuple(tables)


def _check(header: VideoHeader) -> None:
    """Raises: ShardError if the header's parts do not fit each other."""
    count = header.shape[1]
    wrong = None
    if len(header.bands) != count or len(set(header.bands)) != count:
        wrong = "its bands are not as many different names as its shape has bands"
    elif sorted(band for group in header.groups for band in group.bands) != list(range(count)):
        wrong = "its groups do not hold every band once"
    elif header.mask_bands not in (1, count) or len(set(header.mask_kinds)) != len(header.mask_kinds):
        wrong = "its mask fits neither one band nor all, or names a kind twice"
    elif 1 in header.mask_kinds and header.nodata is None:
        wrong = "its mask marks no-data and it names no such value"
    elif header.nodata is not None and not can_hold(np.dtype(header.dtype), header.nodata):
        wrong = f"{header.dtype} cannot hold its no-data value"
    for group in header.groups if wrong is None else []:
        wrong = wrong or _contradiction(group, header.dtype)
    if wrong:
        raise ShardError(f"a video blob's header contradicts itself: {wrong}; the shard is damaged")


def _contradiction(group: VideoGroup, dtype: str) -> str | None:
    bands = len(group.bands)
    planes = group.components or bands
    halves = ("high", "low") if group.values == "bits" else ("all",)
    if (group.values == "components") != bool(group.components) or group.components > bands:
        return "a transform without components, or with more than its bands"
    if (group.codec == "hevc" and group.values != "components") or (group.mixed and group.codec != "hevc"):
        return "video of something other than components, or dates mixed in something other than video"
    for stream in group.streams:
        if stream.lead and (not group.mixed or group.step is None or len(stream.lead) != stream.planes):
            return "a still before the video of a stream that has no place for it"
    if (group.values == "bits") != (dtype == "float32" and group.values in ("bits", "exact")):
        return "exact values of floats that are not their bits"
    if group.values in ("grid", "components") and not (
        len(group.low) == len(group.high) == bands and all(low <= high for low, high in zip(group.low, group.high, strict=True))
    ):
        return "limits that are not one pair per band"
    for half in halves:
        streams = [stream for stream in group.streams if stream.half == half]
        edges = [0, *(stream.first + stream.planes for stream in streams)]
        if [stream.first for stream in streams] != edges[:-1] or edges[-1] != planes or any(b <= a for a, b in pairwise(edges)):
            return "streams that do not hold every plane once"
    for stream in group.streams:
        if stream.half not in halves or len(stream.offsets) not in (1, stream.planes) or len(stream.scales) not in (1, stream.planes):
            return "a stream of a half, or with scales or offsets, that its group has no use for"
        if stream.order and sorted(stream.order) != list(range(stream.planes)):
            return "a stream whose order of planes names one twice"
    return None


Fetch = Callable[[int, int], bytes]


def unit_of(place: Place, fetch: Fetch) -> bytes:
    """A unit's bytes, held against their checksum.

    Raises: ShardError if they are missing or damaged.
    """
    data = fetch(place.start, place.stop)
    if len(data) != place.stop - place.start:
        raise ShardError(f"a video blob ends at byte {place.start + len(data)}, before a packet at {place.start}; it is cut short")
    if zlib.crc32(data) != place.crc:
        raise ShardError(f"packets at byte {place.start} of a video blob do not match their checksum; the shard is damaged, make it again")
    return data
