"""Frames to HEVC packets and back, in this process, by PyAV: x265 writes, FFmpeg's own decoder reads.

Planes are written and read as they are, so no colour conversion ever touches a sample. Constant quantiser, no
adaptive quantisation and no cu-tree: the latter corrupts memory on frames below 64 pixels (x265 in PyAV 18.1).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from rsdata.errors import ShardError

BITS = 12
CODES = 2**BITS
MAX_QP = 51
# Step of x265's quantiser at QP 0, in codes of 12 bits; it doubles every 6 QP.
STEP_AT_QP0 = 16 * 2 ** (-4 / 6)
# Constant quantiser; nothing that spends bits for the eye; nothing that looks at other frames to choose a quantiser.
_ALWAYS = (
    "scenecut=0:open-gop=0:rdoq-level=2:aq-mode=0:cutree=0:psy-rd=0:psy-rdoq=0:ipratio=1:pbratio=1:b-adapt=0"
    ":info=0:log-level=none:pools=none:frame-threads=1:wpp=0:repeat-headers=0"
)
# Runs of two B frames without deciding about them gave 0.2 to 0.4 dB over x265's own decisions, as dates a week apart move little.
_PREDICTED = ":bframes=2:weightp=1:max-merge=5:subme=4"
_UNLIKE = ":bframes=0:ref=1:weightp=0"
# How thorough x265 is, as (its preset, what to change of it). Quick: three references cost nothing, as nothing moves, and
# gain 1.2 dB where clouds come between; blocks of 16 pixels save a sixth of the time. Presets asked for by name try modes out to
# the end (rd=5), for 0.2 to 0.4 dB and twice the time.
_QUICK = ("superfast", ":ctu=16:bframes=0:ref=3:limit-refs=3:weightp=1:temporal-mvp=0:me=dia:signhide=0")
_FINE = ("medium", _PREDICTED + ":rd=3:ref=4")
_GIVEN = {"medium": _PREDICTED + ":rd=5", "slow": _PREDICTED + ":rd=5"}  # the quick presets are left quick
_COARSE_QP = 12  # of the plane with the lowest
MAX_OFFSET = 12  # of the second and third plane's quantiser against the first's; it may make theirs negative
_FORMATS = {1: "gray12le", 3: "yuv444p12le"}


@dataclass(frozen=True)
class Packet:
    """One coded frame."""

    data: bytes
    frame: int  # which frame it is, counted from the first


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ShardError("video shards need PyAV, which is not installed; install rsdata[video]", package="av") from error
    return av


def encode(
    planes: np.ndarray, *, qp: int, keyint: int, preset: str, offsets: tuple[int, int] = (0, 0), predict: bool = True
) -> tuple[bytes, list[Packet]]:
    """Code frames at a constant quantiser.

    Args:
        planes: (time, plane, y, x) uint16 below 4096, one or three planes.
        qp: 0 to 51.
        offsets: what the quantisers of the second and third plane have more than that, -12 to 12.
        preset: of x265, or "adaptive": by quantiser.
        predict: whether frames resemble each other.

    Returns: the stream's parameter sets and its packets in the order of decoding. Every ``keyint`` frames one starts anew.
    Raises: ShardError if an argument is out of range or the encoder is not there.
    """
    frames, count, rows, columns = planes.shape
    if not 0 <= qp <= MAX_QP or count not in _FORMATS or planes.dtype != np.uint16 or (planes.size and planes.max() >= CODES):
        raise ShardError(f"x265 takes 1 or 3 planes of 12 bits and a quantiser of 0 to {MAX_QP}; got {count} and {qp}", planes=count, qp=qp)
    if any(abs(offset) > MAX_OFFSET for offset in offsets) or (count == 1 and any(offsets)):
        raise ShardError(
            f"x265 takes offsets of up to {MAX_OFFSET} for the second and third of three planes; got {offsets}", offsets=offsets
        )
    av = _av()
    try:
        context = av.CodecContext.create("libx265", "w")
    except ValueError as error:  # av.codec.codec.UnknownCodecError
        raise ShardError("this build of PyAV has no x265 encoder; install the wheel from PyPI, or code lossless or maxerr") from error
    if _FORMATS[count] not in {each.name for each in context.codec.video_formats or ()}:
        raise ShardError(
            f"x265 in this build of PyAV cannot code {_FORMATS[count]}; install the wheel from PyPI", pixel_format=_FORMATS[count]
        )
    context.width, context.height, context.pix_fmt = columns, rows, _FORMATS[count]
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.flags |= av.codec.context.Flags.global_header  # else the parameter sets are lost
    quick_or_thorough, chosen = _effort(preset, qp + min(offsets))
    context.options = {
        "preset": quick_or_thorough,
        "x265-params": f"qp={qp}:cbqpoffs={offsets[0]}:crqpoffs={offsets[1]}:keyint={keyint}:min-keyint={keyint}:{_ALWAYS}{chosen}"
        + ("" if predict else _UNLIKE),
    }
    packets = []
    try:
        context.open()
        for number, planes_yx in enumerate(planes):
            frame = av.VideoFrame(columns, rows, _FORMATS[count])
            for plane, pixels in zip(frame.planes, planes_yx, strict=True):
                lines = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
                lines[:rows, :columns] = pixels
            frame.pts, frame.time_base = number, context.time_base
            packets += context.encode(frame)
        packets += context.encode(None)
    except av.FFmpegError as error:
        raise ShardError(f"x265 refused {frames} frames of {columns} x {rows}: {error}", qp=qp) from error
    return bytes(context.extradata or b""), [Packet(bytes(packet), packet.pts) for packet in packets]


def _effort(preset: str, qp: int) -> tuple[str, str]:
    """x265's preset and what to change of it: as asked, or by where thoroughness pays.

    At coarse steps few coefficients are left to decide about, and at fine ones they are most of the bits.
    """
    if preset != "adaptive":
        return preset, _GIVEN.get(preset, _PREDICTED)
    return _QUICK if qp >= _COARSE_QP else _FINE


def decode(extradata: bytes, packets: Iterable[Packet], wanted: Sequence[int], shape: tuple[int, int, int]) -> np.ndarray:
    """Decode some frames of a run of packets that begins with a key frame.

    Args:
        wanted: frames, each once.
        packets: in the order of decoding; those after the last one wanted are not fed to the decoder, nor are those that
            nothing wanted stands on.
        shape: (plane, y, x) that every frame must have.

    Returns: (frame, plane, y, x) uint16, as wanted.
    Raises: ShardError if the decoder refuses a packet, or frames are missing or of another size.
    """
    av = _av()
    _, rows, columns = shape
    context = av.CodecContext.create("hevc", "r")
    context.extradata = extradata
    context.thread_count = 1
    context.options = {"max_pixels": str((columns + 64) * (rows + 64)), "err_detect": "explode"}
    missing, found = set(wanted), set[int]()
    places = {frame: place for place, frame in enumerate(wanted)}
    pixels = np.empty((len(places), *shape), np.uint16)
    try:
        for packet in packets:
            if not missing:
                break
            if packet.frame not in places and _disposable(packet.data):
                continue
            coded = av.Packet(packet.data)
            coded.pts = packet.frame
            missing.discard(packet.frame)
            found |= _keep(context.decode(coded), places, pixels)
        found |= _keep(context.decode(None), places, pixels)
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise ShardError(f"a video stream is damaged: the HEVC decoder says {error}; make the shard again") from error
    if lost := sorted(set(wanted) - found):
        raise ShardError(f"a video stream is damaged: frame {lost[0]} does not come out of it; make the shard again", frames=lost)
    return pixels


def _disposable(data: bytes) -> bool:
    """Whether no other frame stands on a packet's, by the type of its first unit: even ones below 16 are such.

    Source: Rec. ITU-T H.265, table 7-1, sub-layer non-reference pictures.
    """
    start = data.find(b"\x00\x00\x01", 0, 8)
    if start < 0 or start + 3 >= len(data):
        return False
    kind = data[start + 3] >> 1 & 0x3F
    return kind < 16 and kind % 2 == 0


def _keep(frames: Iterable[Any], places: Mapping[int, int], pixels: np.ndarray) -> set[int]:
    """Copy the frames that have a place in ``pixels`` (frame, plane, y, x) there; which they were."""
    _, count, rows, columns = pixels.shape
    found = set()
    for frame in frames:
        if frame.pts not in places:
            continue
        if (frame.width, frame.height, frame.format.name) != (columns, rows, _FORMATS[count]):
            raise ShardError(
                f"a video stream holds {frame.width} x {frame.height} {frame.format.name}; "
                f"its header says {columns} x {rows} {_FORMATS[count]}; the shard is damaged"
            )
        for plane, target in zip(frame.planes, pixels[places[frame.pts]], strict=True):
            target[:] = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)[:rows, :columns]
        found.add(frame.pts)
    return found
