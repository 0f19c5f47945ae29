"""From a cube to a blob that has been decoded again and found to keep its promise.

Three ways: exact samples as stills; samples on a grid of twice the allowed error, as stills; components between bands
at one quantiser step, as video. Where a step is finer than 12-bit video can follow, its components become stills too.
"""

import math
from collections.abc import Sequence

import numpy as np

from rsdata.errors import ShardError
from rsdata.records import VideoGroup, VideoHeader, VideoMeasured, VideoStream
from rsdata.shards.video import components, masks
from rsdata.shards.video.coded import Coded, limits, triples
from rsdata.shards.video.container import Tables, Unit, write
from rsdata.shards.video.decoding import Clip, to_bits
from rsdata.shards.video.settings import VideoSettings, can_hold, check_cube

_STILL_PX = 128 * 128  # smaller frames are stacked until a still has as many pixels: tiny stills code poorly


def encode(cube: np.ndarray, settings: VideoSettings, bands: Sequence[str] | None = None, valid: np.ndarray | None = None) -> bytes:
    """Code a cube (time, band, y, x), and return it only once it decodes as promised.

    NaN, infinities and the no-data value come back as they were, in every mode. Negative zero and the payload of NaN
    survive in lossless mode only.

    Args:
        cube: uint8, uint16, int16 or float32; 1 to 1,000 frames of 1 to 224 bands, sides of 16 pixels or more.
        settings: any mode but auto, which ``choosing.choose`` turns into another.
        bands: names; ``"0"``, ``"1"`` … if none are given.
        valid: (time, y, x) bool, kept to the bit. Samples that are not valid come back as they were in lossless mode
            only; in the others they carry no promise, cost next to nothing and count in no figure of quality.

    Raises: ShardError if the cube or the settings cannot be coded, or the result does not decode as promised.
    """
    names = [str(number) for number in range(cube.shape[1] if cube.ndim == 4 else 0)] if bands is None else list(bands)
    check_cube(cube, names)
    if valid is not None and (valid.dtype != bool or valid.shape != (len(cube), *cube.shape[2:])):
        raise ShardError(f"validity is {valid.dtype} {valid.shape}; a cube of {cube.shape} needs bool (time, y, x)", shape=valid.shape)
    cube = np.ascontiguousarray(cube)
    if (nodata := _nodata(settings)) is not None and not can_hold(cube.dtype, nodata):
        raise ShardError(f"samples of {cube.dtype} cannot hold the no-data value {nodata:g}; name another or none", nodata=nodata)
    if settings.mode == "lossless":
        return _verified(cube, settings, names, *_exact(cube, settings), valid=valid)
    classes = masks.classify(cube, nodata)
    if valid is not None:
        classes[(classes == 0) & ~valid[:, None]] = masks.UNWANTED
    filled = masks.fill(cube, classes)
    parts = _on_grid(filled, classes, settings) if settings.mode == "maxerr" else components.code(filled, classes, settings)
    return _verified(cube, settings, names, *parts, classes=classes, valid=valid)


def _nodata(settings: VideoSettings) -> float | None:
    """The value that stands for no data; None where NaN does, which is kept anyway."""
    return None if settings.nodata is None or not math.isfinite(settings.nodata) else float(settings.nodata)


def _still_keyint(cube: np.ndarray, settings: VideoSettings) -> int:
    stacked = max(1, _STILL_PX // (cube.shape[2] * cube.shape[3]))
    return min(settings.keyint or stacked, len(cube))


def _exact(cube: np.ndarray, settings: VideoSettings) -> tuple[Coded]:
    coded = Coded(_still_keyint(cube, settings), len(cube))
    streams = list(triples(cube.shape[1]))
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


def _on_grid(filled: np.ndarray, classes: np.ndarray, settings: VideoSettings) -> tuple[Coded]:
    """Samples on a grid fine enough for the bound, each band from its smallest value upwards."""
    bound = float(settings.max_error or 0)
    whole = filled.dtype.kind != "f"
    if whole and bound < 1:
        return _exact(filled, settings)
    edges = limits(filled, classes == 0)
    # Floats are rounded once more on the way back; the grid leaves room for that.
    largest = max(max(abs(low), abs(high)) for low, high in edges)
    slack = 0.0 if whole else 2.0 * float(np.spacing(np.float32(largest)))
    step = 2 * math.floor(bound) + 1 if whole else 2 * (bound * (1 - 1e-6) - slack)
    if step <= 0 or any((high - low) / step > 65_534 for low, high in edges):
        return _exact(filled, settings)  # finer than 16 bits can count
    coded = Coded(_still_keyint(filled, settings), len(filled))
    origins, codes = [], np.empty(filled.shape, np.uint16)
    for band, (low, high) in enumerate(edges):
        origin = low
        if whole and settings.nodata is not None and low <= settings.nodata <= high and (settings.nodata - low) % step == 0:
            origin = low - 1  # so that no grid point is the no-data value
        steps = (filled[:, band].astype(np.float64) - origin) / step
        codes[:, band] = np.clip(np.rint(steps), 0, 65_535)
        origins.append(origin)
    streams = []
    for first, planes in triples(filled.shape[1]):
        coded.add_stills(codes[:, first : first + planes])
        streams.append(VideoStream(first=first, planes=3 if planes == 3 else 1, scales=[step], offsets=origins[first : first + planes]))
    coded.groups.append(
        VideoGroup(
            bands=list(range(filled.shape[1])),
            codec="jxl",
            pixel_format="gray16",
            values="grid",
            step=step,
            low=[low for low, _ in edges],
            high=[high for _, high in edges],
            streams=streams,
        )
    )
    coded.tables.append(Tables(None, None, tuple(b"" for _ in streams)))
    return (coded,)


def _verified(
    cube: np.ndarray,
    settings: VideoSettings,
    names: list[str],
    coded: Coded,
    classes: np.ndarray | None = None,
    valid: np.ndarray | None = None,
) -> bytes:
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
    marked = None if classes is None else np.where(classes == masks.UNWANTED, 0, classes)
    if marked is not None and not marked.any():
        marked = None
    if valid is not None:
        header = header.model_copy(update={"validity": True})
        parts = [slice(first, first + coded.keyint) for first in range(0, len(cube), coded.keyint)]
        units_of_valid = [masks.encode_validity(valid[part], None if marked is None else marked[part]) for part in parts]
        segments = [[Unit((len(data),), (0,), data), *units] for data, units in zip(units_of_valid, segments, strict=True)]
    if marked is not None:
        shared = marked if (marked != marked[:, :1]).any() else marked[:, :1]
        kinds = [int(kind) for kind in np.unique(marked) if kind]
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
        if here.all():  # the usual case, without copies
            seen, wanted = decoded, true
        else:
            marked = ~here & (classes[part] != masks.UNWANTED)
            if not np.array_equal(decoded[marked], true[marked], equal_nan=cube.dtype.kind == "f"):
                raise ShardError("no-data did not come back as it was; report this with the cube")
            seen, wanted = decoded[here], true[here]
        if clip.header.nodata is not None and (seen == clip.header.nodata).any():
            raise ShardError(f"a measured sample came back as the no-data value {clip.header.nodata}; take a finer step")
        if seen.size:
            errors = np.subtract(seen, wanted, dtype=np.float64)
            worst = max(worst, float(errors.max()), -float(errors.min()))
            total, count = total + float(np.square(errors, out=errors).sum()), count + errors.size
            low, high = min(low, float(wanted.min())), max(high, float(wanted.max()))
    rmse = math.sqrt(total / count) if count else 0.0
    psnr = 20 * math.log10((high - low) / rmse) if rmse > 0 and high > low else None
    return VideoMeasured(max_abs_error=worst, rmse=float(f"{rmse:.5g}"), psnr_db=None if psnr is None else round(psnr, 2))
