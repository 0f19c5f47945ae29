"""How good a coded cube is, always by what decoding it gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.metrics import structural_similarity

from rsdata.shards.video import masks

_SSIM_WINDOW_PX = 7


@dataclass(frozen=True)
class BandQuality:
    """Of one band, over its measured samples."""

    band: str
    psnr_db: float | None  # over the stated range; None if nothing was lost
    rmse: float
    max_abs_error: float
    ssim: float | None  # mean over frames, range as for PSNR; None without a frame that is measured throughout


@dataclass(frozen=True)
class Quality:
    """Of a cube, every sample counted once whatever its resolution."""

    bpppb: float  # bits per pixel and band, every byte counted
    ratio: float  # bytes of the samples over bytes written
    range: float  # that PSNR and SSIM are stated on, in the cube's unit
    psnr_db: float | None
    rmse: float
    max_abs_error: float
    ssim: float | None
    spectral_angle_rad: float | None  # mean angle between true and decoded spectra; None for one band
    bands: tuple[BandQuality, ...]


def measure(
    true: np.ndarray, decoded: np.ndarray, bands: Sequence[str], written_bytes: int, *, nodata: float | None, span: float | None
) -> Quality:
    """Compare a cube (time, band, y, x) with what its decoding gave.

    Args:
        written_bytes: all that was written for the cube.
        nodata: samples of this value, NaN and infinities do not count.
        span: range for PSNR and SSIM; largest less smallest measured value if None.
    """
    here = masks.classify(true, nodata) == 0
    values = true[here]
    if span is None:
        span = float(values.max()) - float(values.min()) if values.size else 0.0
    errors = np.where(here, decoded.astype(np.float64) - true, 0.0)
    per_band = tuple(_band(true, decoded, errors, here, at, name, span) for at, name in enumerate(bands))
    rmse, worst = _size(errors, here)
    known = [each.ssim for each in per_band if each.ssim is not None]
    return Quality(
        bpppb=written_bytes * 8 / true.size,
        ratio=true.nbytes / written_bytes,
        range=span,
        psnr_db=_psnr(rmse, span),
        rmse=rmse,
        max_abs_error=worst,
        ssim=float(np.mean(known)) if known else None,
        spectral_angle_rad=_angle(true, decoded, here) if true.shape[1] > 1 else None,
        bands=per_band,
    )


def _size(errors: np.ndarray, here: np.ndarray) -> tuple[float, float]:
    count = int(here.sum())
    return (math.sqrt(float((errors**2).sum()) / count), float(np.abs(errors).max())) if count else (0.0, 0.0)


def _psnr(rmse: float, span: float) -> float | None:
    return 20 * math.log10(span / rmse) if rmse > 0 and span > 0 else None


def _band(true: np.ndarray, decoded: np.ndarray, errors: np.ndarray, here: np.ndarray, at: int, name: str, span: float) -> BandQuality:
    rmse, worst = _size(errors[:, at], here[:, at])
    whole = [frame for frame in range(len(true)) if here[frame, at].all()] if span > 0 else []
    ssim = [
        structural_similarity(
            true[frame, at].astype(np.float64), decoded[frame, at].astype(np.float64), win_size=_SSIM_WINDOW_PX, data_range=span
        )
        for frame in whole
    ]
    return BandQuality(name, _psnr(rmse, span), rmse, worst, float(np.mean(ssim)) if ssim else None)


def _angle(true: np.ndarray, decoded: np.ndarray, here: np.ndarray) -> float | None:
    """Mean angle between spectra, radians, over pixels where all bands are measured and neither spectrum is nought."""
    total, count = 0.0, 0
    for a, b, where in zip(true, decoded, np.asarray(here.all(axis=1)), strict=True):
        x, y = a[:, where].astype(np.float64), b[:, where].astype(np.float64)
        lengths = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
        kept = lengths > 0
        total += float(np.arccos(np.clip((x * y).sum(axis=0)[kept] / lengths[kept], -1, 1)).sum())
        count += int(kept.sum())
    return total / count if count else None
