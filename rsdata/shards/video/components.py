"""Components between bands at one quantiser step: as video, or as stills where the step is finer than 12-bit video can follow.

Frames are dates that x265 predicts from each other, or mixtures of a segment's dates, whichever is likely to cost less. The
first mixture, the mean of all dates as a rule, may span too much for 12 bits; it then is a still.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsdata.errors import ShardError
from rsdata.records import VideoGroup, VideoStream
from rsdata.shards.video import hevc, stills, temporal, transform
from rsdata.shards.video.coded import Coded, limits, triples
from rsdata.shards.video.container import Tables
from rsdata.shards.video.decoding import scaled
from rsdata.shards.video.settings import MAX_KEYINT, VideoSettings

# Eight would do for clouds; where the ground shows, 24 save a quarter of the bits, and one frame is still read in milliseconds.
_KEYINT = 24
_STILL_CODES = 65_535
# Order of planes with the two widest behind: x265 decides by the first plane mostly, and that has the least to say. Better than
# stills, by 1.7 dB at 2 bits, and worse than a still before the video.
_LAST_RESORT = [2, 0, 1]


def code(filled: np.ndarray, classes: np.ndarray, settings: VideoSettings) -> tuple[Coded]:
    """Components of each group of bands of a cube (time, band, y, x) without gaps.

    Args:
        classes: same shape, 0 where a sample counts.
        settings: of mode lossy.

    Raises: ShardError if the step is finer than even stills can follow.
    """
    step = float(settings.step or 0)
    # Segments of one length, about 24 frames: a short last one would be dear.
    even = -(-len(filled) // max(1, round(len(filled) / _KEYINT)))
    keyint = min(settings.keyint or even, MAX_KEYINT, len(filled))
    coded = Coded(keyint, len(filled))
    for start in range(0, filled.shape[1], settings.group_bands):
        positions = list(range(start, min(start + settings.group_bands, filled.shape[1])))
        cube, measured = filled[:, positions], classes[:, positions] == 0
        forward = transform.fit_forward(cube, measured, step, klt=settings.transform == "klt")
        components = forward.apply(cube)
        frames = _mixtures(components, keyint, step) if settings.mix_dates and keyint > 1 else None
        if frames is None:
            frames = _Frames(components, *_plans(components, step))
        streams, extradata, decoded = [], [], []
        for number, (first, count) in enumerate(triples(components.shape[1])):
            stream, sets, seen = _stream(frames, number, slice(first, first + count), keyint, step, settings.preset, coded)
            streams.append(stream)
            extradata.append(sets)
            decoded.append(seen)
        matrix, bias = transform.fit_back(np.concatenate(decoded, axis=1), cube, measured, forward)
        edges = limits(cube, measured)
        coded.groups.append(
            VideoGroup(
                bands=positions,
                codec="hevc" if frames.video else "jxl",
                pixel_format=("yuv444p12" if len(streams[0].offsets) == 3 else "gray12") if frames.video else "gray16",
                values="components",
                transform=settings.transform,
                components=components.shape[1],
                mixed=frames.weights is not None,
                step=step,
                low=[low for low, _ in edges],
                high=[high for _, high in edges],
                streams=streams,
            )
        )
        coded.tables.append(Tables(matrix, bias, tuple(extradata), tuple(frames.weights or ())))
    return (coded,)


@dataclass(frozen=True)
class _Frames:
    """What is coded, and how it goes to x265."""

    planes: np.ndarray  # (frame, component, y, x) float32; without ``leads``
    low: np.ndarray  # (component,) smallest value
    spans: np.ndarray  # (component,)
    plans: "list[_Plan | None]"  # per stream; None if the step is too fine for video
    weights: list[np.ndarray] | None = None  # per segment, if dates are mixed
    leads: np.ndarray | None = None  # (segment, component, y, x) float32, the first mixtures, if they span too much for video

    @property
    def video(self) -> bool:
        return None not in self.plans


def _mixtures(components: np.ndarray, keyint: int, step: float) -> _Frames | None:
    """Dates of each segment mixed, None if that does not pay or cannot be coded."""
    weights = temporal.fit(components, keyint, step)
    if weights is None:
        return None
    mixtures = temporal.mix(components, weights)
    whole = _Frames(mixtures, *_plans(mixtures, step), weights)
    if whole.video and not any(plan and plan.order == _LAST_RESORT for plan in whole.plans):
        return whole
    first = np.arange(len(mixtures)) % keyint == 0
    leads, others = mixtures[first], mixtures[~first]
    frames = _Frames(others, *_plans(others, step), weights, leads)
    return frames if frames.video and float(np.ptp(leads, axis=(0, 2, 3)).max()) / step < _STILL_CODES - 1 else None


def _stream(
    frames: _Frames, number: int, planes: slice, keyint: int, step: float, preset: str, coded: Coded
) -> tuple[VideoStream, bytes, np.ndarray]:
    """Code one stream into ``coded``; its record, its parameter sets and its components as a reader will have them."""
    count = planes.stop - planes.start
    plan = frames.plans[number] if frames.video else None
    # Few digits, as they stand in the header; rounding moves codes by less than a hundredth.
    scales = [float(f"{scale:.6g}") for scale in (plan.scales if plan else [step] * count)]
    scales = scales[:1] if len(set(scales)) == 1 else scales
    offsets = [_round_below(float(value), min(scales) / 100) for value in frames.low[planes]]
    stream = VideoStream(first=planes.start, planes=3 if count == 3 else 1, scales=scales, offsets=offsets)
    if plan is None:
        if frames.spans.max() / step > _STILL_CODES - 1:
            raise ShardError(
                f"a step of {step:g} is too fine for components that span {frames.spans.max():g}; take maxerr or a larger step", step=step
            )
        codes = _codes(frames.planes[:, planes], offsets, scales, _STILL_CODES)
        coded.add_stills(codes)
        return stream, b"", scaled(stream, codes)
    codes = _codes(frames.planes[:, planes], offsets, scales, hevc.CODES - 1)
    back = [plan.order.index(plane) for plane in range(count)]
    own_keyint = keyint if frames.leads is None else keyint - 1
    sets, packets = hevc.encode(
        codes[:, plan.order], qp=plan.qp, offsets=plan.offsets, keyint=own_keyint, preset=preset, predict=frames.weights is None
    )
    codes = hevc.decode(sets, packets, range(len(codes)), codes.shape[1:])
    codes = codes if back == sorted(back) else codes[:, back]
    order = back if plan.order != sorted(plan.order) else []
    stream = stream.model_copy(update={"extradata_bytes": len(sets), "qp": plan.qp, "order": order})
    if frames.leads is None:
        coded.add_video(packets)
    else:
        leads = frames.leads[:, planes]
        lead = [_round_below(float(value), step / 100) for value in leads.min(axis=(0, 2, 3))]
        stream = stream.model_copy(update={"lead": lead})
        firsts = _codes(leads, lead, [step], _STILL_CODES)
        coded.add_video(
            [hevc.Packet(stills.encode(each), segment * keyint) for segment, each in enumerate(firsts)]
            + [hevc.Packet(each.data, each.frame // own_keyint * keyint + each.frame % own_keyint + 1) for each in packets]
        )
        codes = np.insert(codes, np.arange(len(firsts)) * own_keyint, firsts, axis=0)
    if frames.weights is None:
        return stream, sets, scaled(stream, codes)
    parts = [scaled(stream, codes[number * keyint :][: len(each)], each, step) for number, each in enumerate(frames.weights)]
    return stream, sets, np.concatenate(parts)


def _codes(planes: np.ndarray, offsets: Sequence[float], scales: Sequence[float], top: int) -> np.ndarray:
    """Planes (frame, plane, y, x) as whole numbers from 0 to ``top``, uint16."""
    steps = planes - np.array(offsets, np.float32)[:, None, None]
    steps /= np.array(scales, np.float32)[:, None, None]
    return np.clip(np.rint(steps, out=steps), 0, top, out=steps).astype(np.uint16)


def _plans(planes: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, "list[_Plan | None]"]:
    """Smallest value and span per component (time, component, y, x), and how each stream goes to x265."""
    low, high = planes.min(axis=(0, 2, 3)), planes.max(axis=(0, 2, 3))
    # The finest scale at which a component still fits 12 bits fixes the number of its quantiser.
    spans = np.maximum(high - low, step).astype(np.float64)
    quantisers = np.floor(6 * np.log2(step * (hevc.CODES - 1) / (spans * hevc.STEP_AT_QP0))).astype(int)
    return low, spans, [_plan(quantisers[first : first + count], step) for first, count in triples(len(spans))]


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

    x265 takes no quantiser below 0 for the first plane, where the others may have one 12 lower. So a component too wide
    for its step goes second, and the narrower next one first; the third one, if that
    is too wide as well.

    Args:
        quantisers: the largest each plane may have so that it fits 12 bits at this step.
    """
    highest = [min(int(each), hevc.MAX_QP) for each in quantisers]
    order, offsets = list(range(len(highest))), (0, 0)
    qp = min(highest)
    if len(highest) == 3 and (qp < 0 or qp < highest[0]):
        for order in ([1, 0, 2], _LAST_RESORT):
            first, second, third = (highest[each] for each in order)
            qp = min(first, second + hevc.MAX_OFFSET, third + hevc.MAX_OFFSET)
            offsets = (min(0, second - qp), min(0, third - qp))
            if qp >= 0:
                break
    if qp < 0:
        return None
    own = [qp] * len(order)
    if len(order) == 3:
        own[order[1]], own[order[2]] = qp + offsets[0], qp + offsets[1]
    return _Plan(qp, offsets, order, [step / (hevc.STEP_AT_QP0 * 2 ** (each / 6)) for each in own])
