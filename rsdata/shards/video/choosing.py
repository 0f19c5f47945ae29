"""Mode auto: the settings that meet a rate or a quality, found by coding a sample and looking at what comes out."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rsdata.errors import ShardError
from rsdata.shards.video import masks
from rsdata.shards.video.decoding import Clip
from rsdata.shards.video.encoding import encode
from rsdata.shards.video.settings import VideoSettings

_SAMPLE_FRAMES = 16
_SAMPLE_PX = 256
_TRIALS = 8
_CLOSE = 0.02  # share of a rate, or decibels over 5: near enough


def encode_any(cube: np.ndarray, settings: VideoSettings, bands: Sequence[str] | None = None, valid: np.ndarray | None = None) -> bytes:
    """``encode``, and mode auto too: chosen on a sample, corrected once if the whole cube came out too large or too bad.

    Raises: ShardError as ``encode``, or if no settings meet the target.
    """
    if settings.mode != "auto":
        return encode(cube, settings, bands, valid)
    chosen = choose(cube, settings, bands, valid)
    blob = encode(cube, chosen, bands, valid)
    if _misses(blob, cube, settings) > _CLOSE and chosen.mode != "lossless":
        # What the sample did not show: move by what it missed, a halved step costing about a bit and giving 6 dB.
        amount = _misses(blob, cube, settings)
        figure = float(chosen.step or chosen.max_error or 0)
        better = figure * 2 ** (amount * float(settings.target_bpppb)) if settings.target_bpppb else figure / 2 ** (amount * 5 / 6)
        blob = encode(cube, _with(chosen, better), bands, valid)
    return blob


def choose(cube: np.ndarray, settings: VideoSettings, bands: Sequence[str] | None = None, valid: np.ndarray | None = None) -> VideoSettings:
    """Settings of another mode that meet the target on a sample of the cube: the best quality at a rate, or the lowest rate.

    Video and bounded error are both tried; lossless is taken where it meets the rate anyway.

    Raises: ShardError if neither meets it.
    """
    sample = np.ascontiguousarray(cube[:_SAMPLE_FRAMES, :, :_SAMPLE_PX, :_SAMPLE_PX])
    valid = None if valid is None else valid[:_SAMPLE_FRAMES, :_SAMPLE_PX, :_SAMPLE_PX]
    plain = replace(settings, mode="lossless", target_bpppb=None, target_psnr_db=None)
    if settings.target_bpppb and _misses(encode(sample, plain, bands, valid), sample, settings) <= 0:
        return plain
    found = []
    for start in (replace(plain, mode="lossy", step=1.0), replace(plain, mode="maxerr", max_error=1.0)):
        result = _search(sample, start, settings, bands, valid)
        if result is not None:
            found.append(result)
    if not found:
        if settings.target_psnr_db:
            return plain
        raise ShardError(
            f"no setting brings this cube to {settings.target_bpppb} bits per sample; ask for more", target=settings.target_bpppb
        )
    best = min if settings.target_psnr_db else max
    return best(found, key=lambda each: each[0])[1]


def _search(
    sample: np.ndarray, start: VideoSettings, target: VideoSettings, bands: Sequence[str] | None, valid: np.ndarray | None
) -> tuple[float, VideoSettings] | None:
    """The coarsest figure that meets a quality, or the finest that meets a rate, by halving; with the rate or quality it gives."""
    measured = masks.classify(sample, start.nodata) == 0
    values = sample[measured if valid is None else measured & valid[:, None]]
    spread = float(values.max()) - float(values.min()) if values.size else 0.0
    spread = spread or 1.0
    low, high = math.log(spread / 2**14), math.log(spread)
    best = None
    for _ in range(_TRIALS):
        middle = (low + high) / 2
        settings = _with(start, math.exp(middle))
        try:
            blob = encode(sample, settings, bands, valid)
        except ShardError:  # too fine a step for video: the mode has nothing here
            low = middle
            continue
        amount = _misses(blob, sample, target)
        if amount <= 0:
            best = settings, blob
        if (amount > 0) == bool(target.target_bpppb):
            low = middle
        else:
            high = middle
    if best is None:
        return None
    measured = Clip(best[1]).header.measured
    psnr = math.inf if measured is None or measured.psnr_db is None else measured.psnr_db
    return (len(best[1]) * 8 / sample.size if target.target_psnr_db else psnr), best[0]


def _with(settings: VideoSettings, figure: float) -> VideoSettings:
    """The same mode at another step or bound."""
    return replace(settings, step=figure) if settings.mode == "lossy" else replace(settings, max_error=figure)


def _misses(blob: bytes, cube: np.ndarray, target: VideoSettings) -> float:
    """How far a blob is from the target, on the wrong side if above 0: share of the rate, or decibels over 5."""
    if target.target_bpppb:
        return len(blob) * 8 / cube.size / target.target_bpppb - 1
    measured = Clip(blob).header.measured
    if measured is None or measured.psnr_db is None:
        return -math.inf
    return (float(target.target_psnr_db or 0) - measured.psnr_db) / 5


__all__ = ["choose", "encode_any"]
