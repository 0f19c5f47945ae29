"""From a cube to a blob that has been decoded again and found to keep its promise.

Three ways: exact samples as stills; samples on a grid of twice the allowed error, as stills; components between bands
at one quantiser step, as video. Where a step is finer than 12-bit video can follow, its components become stills too.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rsdata.errors import ShardError
from rsdata.records import VideoGroup, VideoHeader, VideoMeasured, VideoStream
from rsdata.shards.video import hevc, masks, stills, transform
from rsdata.shards.video.container import Tables, Unit, write
from rsdata.shards.video.decoding import Clip, scaled, to_bits
from rsdata.shards.video.settings import MAX_KEYINT, VideoSettings, can_hold, check_cube

_STILL_PX = 128 * 128  # smaller frames are stacked until a still has as many pixels: tiny stills code poorly
# Eight would do for clouds; where the ground shows, 24 save a quarter of the bits, and one frame is still read in milliseconds.
_VIDEO_KEYINT = 24


def encode(cube: np.ndarray, settings: VideoSettings, bands: Sequence[str] | None = None) -> bytes:
    """Code a cube (time, band, y, x), and return it only once it decodes as promised.

    NaN, infinities and the no-data value come back as they were, in every mode. Negative zero and the payload of NaN
    survive in lossless mode only.

    Args:
        cube: uint8, uint16, int16 or float32; 1 to 1,000 frames of 1 to 224 bands, sides of 16 pixels or more.
        settings: any mode but auto, which ``choosing.choose`` turns into another.
        bands: names; ``"0"``, ``"1"`` … if none are given.

    Raises: ShardError if the cube or the settings cannot be coded, or the result does not decode as promised.
    """
    names = [str(number) for number in range(cube.shape[1] if cube.ndim == 4 else 0)] if bands is None else list(bands)
    check_cube(cube, names)
    cube = np.ascontiguousarray(cube)
    if (nodata := _nodata(settings)) is not None and not can_hold(cube.dtype, nodata):
        raise ShardError(f"samples of {cube.dtype} cannot hold the no-data value {nodata:g}; name another or none", nodata=nodata)
    if settings.mode == "lossless":
        return _verified(cube, settings, names, *_exact(cube, settings))
    classes = masks.classify(cube, nodata)
    filled = masks.fill(cube, classes)
    parts = _on_grid(filled, classes, settings) if settings.mode == "maxerr" else _components(filled, classes, settings)
    return _verified(cube, settings, names, *parts, classes=classes)


def _nodata(settings: VideoSettings) -> float | None:
    """The value that stands for no data; None where NaN does, which is kept anyway."""
    return None if settings.nodata is None or not math.isfinite(settings.nodata) else float(settings.nodata)


class _Coded:
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


def _triples(count: int) -> Iterator[tuple[int, int]]:
    """(first, planes) of streams of three while there are three, then of one."""
    whole = count // 3 * 3
    yield from ((first, 3) for first in range(0, whole, 3))
    yield from ((first, 1) for first in range(whole, count))


def _still_keyint(cube: np.ndarray, settings: VideoSettings) -> int:
    stacked = max(1, _STILL_PX // (cube.shape[2] * cube.shape[3]))
    return min(settings.keyint or stacked, len(cube))


def _exact(cube: np.ndarray, settings: VideoSettings) -> tuple[_Coded]:
    coded = _Coded(_still_keyint(cube, settings), len(cube))
    streams = list(_triples(cube.shape[1]))
    if cube.dtype == np.float32:
        halves = {"high": to_bits(cube)[0], "low": to_bits(cube)[1]}
    else:
        unsigned = cube.view(np.uint16) ^ np.uint16(0x8000) if cube.dtype == np.int16 else cube
        halves = {"all": unsigned}
    offsets = [-32768.0] if cube.dtype == np.int16 else [0.0]
    for codes in halves.values():
        for first, planes in streams:
            coded.add_stills(codes[:, first : first + planes])
    coded.groups.append(
        VideoGroup(
            bands=list(range(cube.shape[1])),
            codec="jxl",
            pixel_format="gray8" if cube.dtype == np.uint8 else "gray16",
            values="bits" if cube.dtype == np.float32 else "exact",
            streams=[VideoStream(first=first, planes=planes, half=half, offsets=offsets) for half in halves for first, planes in streams],
        )
    )
    coded.tables.append(Tables(None, None, tuple(b"" for _ in coded.groups[0].streams)))
    return (coded,)


def _limits(filled: np.ndarray, measured: np.ndarray) -> list[tuple[float, float]]:
    """Smallest and largest measured value per band; of the filling, if nothing was measured."""
    limits = []
    for band in range(filled.shape[1]):
        values = filled[:, band][measured[:, band]]
        values = values if values.size else filled[:, band]
        limits.append((float(values.min()), float(values.max())))
    return limits


def _on_grid(filled: np.ndarray, classes: np.ndarray, settings: VideoSettings) -> tuple[_Coded]:
    """Samples on a grid fine enough for the bound, each band from its smallest value upwards."""
    bound = float(settings.max_error or 0)
    whole = filled.dtype.kind != "f"
    if whole and bound < 1:
        return _exact(filled, settings)
    limits = _limits(filled, classes == 0)
    # Floats are rounded once more on the way back; the grid leaves room for that.
    largest = max(max(abs(low), abs(high)) for low, high in limits)
    slack = 0.0 if whole else 2.0 * float(np.spacing(np.float32(largest)))
    step = 2 * math.floor(bound) + 1 if whole else 2 * (bound * (1 - 1e-6) - slack)
    if step <= 0 or any((high - low) / step > 65_534 for low, high in limits):
        return _exact(filled, settings)  # finer than 16 bits can count
    coded = _Coded(_still_keyint(filled, settings), len(filled))
    origins, codes = [], np.empty(filled.shape, np.uint16)
    for band, (low, high) in enumerate(limits):
        origin = low
        if whole and settings.nodata is not None and low <= settings.nodata <= high and (settings.nodata - low) % step == 0:
            origin = low - 1  # so that no grid point is the no-data value
        steps = (filled[:, band].astype(np.float64) - origin) / step
        codes[:, band] = np.clip(np.rint(steps), 0, 65_535)
        origins.append(origin)
    streams = []
    for first, planes in _triples(filled.shape[1]):
        coded.add_stills(codes[:, first : first + planes])
        streams.append(VideoStream(first=first, planes=3 if planes == 3 else 1, scales=[step], offsets=origins[first : first + planes]))
    coded.groups.append(
        VideoGroup(
            bands=list(range(filled.shape[1])),
            codec="jxl",
            pixel_format="gray16",
            values="grid",
            step=step,
            low=[low for low, _ in limits],
            high=[high for _, high in limits],
            streams=streams,
        )
    )
    coded.tables.append(Tables(None, None, tuple(b"" for _ in streams)))
    return (coded,)


def _components(filled: np.ndarray, classes: np.ndarray, settings: VideoSettings) -> tuple[_Coded]:
    """Components of each group of bands at one quantiser step."""
    step = float(settings.step or 0)
    # Segments of one length, about 24 frames: a short last one would be dear.
    even = -(-len(filled) // max(1, round(len(filled) / _VIDEO_KEYINT)))
    keyint = min(settings.keyint or even, MAX_KEYINT, len(filled))
    coded = _Coded(keyint, len(filled))
    for start in range(0, filled.shape[1], settings.group_bands):
        positions = list(range(start, min(start + settings.group_bands, filled.shape[1])))
        cube, measured = filled[:, positions], classes[:, positions] == 0
        forward = transform.fit_forward(cube, measured, step, klt=settings.transform == "klt")
        components = forward.apply(cube)
        low, high = components.min(axis=(0, 2, 3)), components.max(axis=(0, 2, 3))
        # The finest scale at which a component still fits 12 bits fixes the number of its quantiser.
        spans = np.maximum(high - low, step).astype(np.float64)
        quantisers = np.floor(6 * np.log2(step * (hevc.CODES - 1) / (spans * hevc.STEP_AT_QP0))).astype(int)
        plans = [_plan(quantisers[first : first + planes], step) for first, planes in _triples(len(spans))]
        video = all(plan is not None for plan in plans)
        if not video and spans.max() / step > 65_534:
            raise ShardError(
                f"a step of {step:g} is too fine for components that span {spans.max():g}; take maxerr or a larger step", step=step
            )
        streams, extradata, decoded = [], [], []
        for (first, planes), plan in zip(_triples(len(spans)), plans, strict=True):
            # Few digits, as they stand in the header; rounding moves codes by less than a hundredth.
            scales = [float(f"{scale:.6g}") for scale in (plan.scales if video and plan else [step] * planes)]
            scales = scales[:1] if len(set(scales)) == 1 else scales
            offsets = [_round_below(float(value), min(scales) / 100) for value in low[first : first + planes]]
            codes = components[:, first : first + planes] - np.array(offsets, np.float32)[:, None, None]
            codes = np.rint(codes / np.array(scales, np.float32)[:, None, None])
            codes = np.clip(codes, 0, hevc.CODES - 1 if video else 65_535).astype(np.uint16)
            stream = VideoStream(first=first, planes=3 if planes == 3 else 1, scales=scales, offsets=offsets)
            if video and plan:
                back = [plan.order.index(plane) for plane in range(planes)]
                sets, packets = hevc.encode(codes[:, plan.order], qp=plan.qp, offsets=plan.offsets, keyint=keyint, preset=settings.preset)
                coded.add_video(packets)
                seen = hevc.decode(sets, packets, range(len(codes)), codes.shape[1:])
                codes = np.stack([seen[frame] for frame in range(len(codes))])[:, back]
                order = back if plan.order != sorted(plan.order) else []
                stream = stream.model_copy(update={"extradata_bytes": len(sets), "qp": plan.qp, "order": order})
                extradata.append(sets)
            else:
                coded.add_stills(codes)
                extradata.append(b"")
            streams.append(stream)
            decoded.append(scaled(stream, codes))
        matrix, bias = transform.fit_back(np.concatenate(decoded, axis=1), cube, measured, forward)
        limits = _limits(cube, measured)
        coded.groups.append(
            VideoGroup(
                bands=positions,
                codec="hevc" if video else "jxl",
                pixel_format=("yuv444p12" if len(streams[0].offsets) == 3 else "gray12") if video else "gray16",
                values="components",
                transform=settings.transform,
                components=components.shape[1],
                step=step,
                low=[low for low, _ in limits],
                high=[high for _, high in limits],
                streams=streams,
            )
        )
        coded.tables.append(Tables(matrix, bias, tuple(extradata)))
    return (coded,)


def _round_below(value: float, unit: float) -> float:
    """The next number of few digits below, at most ten units away."""
    digits = 10.0 ** math.ceil(math.log10(unit))
    rounded = math.floor(value / digits) * digits
    return float(f"{rounded:.10g}")


@dataclass(frozen=True)
class _Plan:
    """How one stream's planes go to x265."""

    qp: int
    offsets: tuple[int, int]  # of the second and third coded plane's quantiser
    order: list[int]  # plane that is coded first, second, third
    scales: list[float]  # per plane


def _plan(quantisers: np.ndarray, step: float) -> _Plan | None:
    """Order and quantisers of a stream's planes, None if the step is too fine for video.

    x265 takes no quantiser below 0 for the first plane, where the second may have one 12 lower. So a component too wide
    for its step goes second, and the narrower next one first.

    Args:
        quantisers: the largest each plane may have so that it fits 12 bits at this step.
    """
    highest = [min(int(each), hevc.MAX_QP) for each in quantisers]
    if highest[0] >= 0 and min(highest) >= highest[0]:
        qp, order = highest[0], list(range(len(highest)))
        offsets = (0, 0)
    elif len(highest) == 3 and highest[1] >= 0:
        order = [1, 0, 2]
        qp = min(highest[1], highest[0] + hevc.MAX_OFFSET, highest[2] + hevc.MAX_OFFSET)
        offsets = (max(-hevc.MAX_OFFSET, min(0, highest[0] - qp)), min(0, highest[2] - qp))
        if qp < 0:
            return None
    else:
        qp, order, offsets = min(highest), list(range(len(highest))), (0, 0)
        if qp < 0:
            return None
    own = [qp] * len(order)
    if len(order) == 3:
        own[order[1]], own[order[2]] = qp + offsets[0], qp + offsets[1]
    return _Plan(qp, offsets, order, [step / (hevc.STEP_AT_QP0 * 2 ** (each / 6)) for each in own])


def _verified(cube: np.ndarray, settings: VideoSettings, names: list[str], coded: _Coded, classes: np.ndarray | None = None) -> bytes:
    """Assemble the blob, decode it, and write into its header what that gave."""
    header = VideoHeader(
        shape=cube.shape,
        dtype=cube.dtype.name,
        bands=names,
        mode=settings.mode,
        keyint=coded.keyint,
        nodata=_nodata(settings),
        max_error=settings.max_error,
        groups=coded.groups,
    )
    segments = coded.segments
    if classes is not None and classes.any():
        shared = classes if (classes != classes[:, :1]).any() else classes[:, :1]
        kinds = [int(kind) for kind in np.unique(classes) if kind]
        header = header.model_copy(update={"mask_kinds": kinds, "mask_bands": shared.shape[1]})
        mask = [masks.encode(shared[first : first + coded.keyint], kinds) for first in range(0, len(cube), coded.keyint)]
        segments = [[Unit((len(data),), (0,), data), *units] for data, units in zip(mask, segments, strict=True)]
    blob = write(header, coded.tables, segments)
    clip = Clip(blob)
    if settings.mode == "lossless":
        frames = sorted({0, len(cube) // 2, len(cube) - 1}) if settings.verify == "sample" else range(len(cube))
        for frame in frames:
            if clip.read([frame]).tobytes() != cube[[frame]].tobytes():
                raise ShardError(f"frame {frame} does not decode to what was coded; report this with the cube", frame=frame)
        return write(header.model_copy(update={"measured": VideoMeasured(max_abs_error=0, rmse=0, psnr_db=None)}), coded.tables, segments)
    measured = measure(cube, clip, classes if classes is not None else np.zeros(cube.shape, np.uint8))
    if settings.mode == "maxerr" and not measured.max_abs_error <= float(settings.max_error or 0):
        raise ShardError(
            f"the largest error is {measured.max_abs_error:g}, more than the {settings.max_error} promised; report this with the cube",
            measured=measured.max_abs_error,
        )
    return write(header.model_copy(update={"measured": measured}), coded.tables, segments)


def measure(cube: np.ndarray, clip: Clip, classes: np.ndarray) -> VideoMeasured:
    """Errors of a clip against its cube, a segment at a time.

    Raises: ShardError if a sample that is no measurement did not come back as it was, or the other way round.
    """
    worst = total = 0.0
    count, low, high = 0, math.inf, -math.inf
    keyint = clip.header.keyint
    for first in range(0, len(cube), keyint):
        part = slice(first, first + keyint)
        decoded, here = clip.read(part), classes[part] == 0
        true = cube[part]
        if not np.array_equal(decoded[~here], true[~here], equal_nan=cube.dtype.kind == "f"):
            raise ShardError("no-data did not come back as it was; report this with the cube")
        if clip.header.nodata is not None and (decoded[here] == clip.header.nodata).any():
            raise ShardError(f"a measured sample came back as the no-data value {clip.header.nodata}; take a finer step")
        if here.any():
            errors = np.abs(decoded[here].astype(np.float64) - true[here])
            worst, total, count = max(worst, float(errors.max())), total + float((errors**2).sum()), count + errors.size
            low, high = min(low, float(true[here].min())), max(high, float(true[here].max()))
    rmse = math.sqrt(total / count) if count else 0.0
    psnr = 20 * math.log10((high - low) / rmse) if rmse > 0 and high > low else None
    return VideoMeasured(max_abs_error=worst, rmse=float(f"{rmse:.5g}"), psnr_db=None if psnr is None else round(psnr, 2))
