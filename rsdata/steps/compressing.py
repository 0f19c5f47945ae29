"""Series of images as video: a dataset's cubes coded in processes of their own, and how good they are afterwards."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rsdata.errors import ShardError
from rsdata.shards.video import Clip, VideoSettings, quality
from rsdata.shards.video.choosing import encode_any
from rsdata.shards.video.datasets import StoreWriter, open_series, settings_for, sizes
from rsdata.shards.video.isolation import run_isolated
from rsdata.shards.video.quality import Quality

TILE_PX = 512


@dataclass(frozen=True)
class CompressedCube:
    """What became of one variable."""

    name: str
    mode: str
    bands: int
    raw_bytes: int
    written_bytes: int
    max_abs_error: float  # as measured by decoding
    psnr_db: float | None  # over all chunks' own ranges, the worst; None if nothing was lost


@dataclass(frozen=True)
class Point:
    """One setting of a rate-distortion report."""

    name: str  # of the variable
    settings: str
    quality: Quality


def video_settings(*, mode: str, **given: Any) -> VideoSettings:
    """Settings as a user names them.

    Raises: ShardError if one is wrong.
    """
    return VideoSettings(mode=mode, **given)  # type: ignore[arg-type]


def compress_cubes(
    source: Path,
    target: Path,
    settings: VideoSettings,
    *,
    variables: Sequence[str] = (),
    tile_px: int = TILE_PX,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> list[CompressedCube]:
    """Write a dataset's cubes as video chunks of a Zarr store, and the rest of it as it is.

    Every chunk is decoded again before it is written. The store gets its name once all of it is there.

    Args:
        variables: those that hold measurements; the others are coded without loss whatever the settings.

    Raises: ShardError if the source cannot be read or a cube cannot be coded; the others are tried before.
    """
    series, rest = open_series(source, variables, settings.nodata)
    writer = StoreWriter(target, rest)
    own = {each.name: settings_for(each, settings) for each in series}
    names: dict[str, str] = {}

    def jobs() -> Iterator[tuple[str, tuple[np.ndarray, VideoSettings, list[str]]]]:
        for each in series:
            for file, cube in writer.add(each, own[each.name], tile_px):
                names[file] = each.name
                yield file, (cube, own[each.name], each.bands)

    failed: list[str] = []
    worst: dict[str, float] = {}
    psnr: dict[str, float] = {}
    modes: dict[str, str] = {}
    for file, result in run_isolated(encode_any, jobs(), workers=workers or os.cpu_count() or 1):
        name = names[file]
        if isinstance(result, ShardError):
            failed.append(f"{file}: {result}")
            continue
        writer.put(file, result)
        header = Clip(result).header
        modes[name] = header.mode
        if header.measured is not None:
            worst[name] = max(worst.get(name, 0.0), header.measured.max_abs_error)
            if header.measured.psnr_db is not None:
                psnr[name] = min(psnr.get(name, np.inf), header.measured.psnr_db)
        advance(1)
    if failed:
        raise ShardError(
            f"{len(failed)} of {len(names)} cubes could not be coded; {failed[0]}; {target} was not made, "
            f"the others lie in {writer.aside.name}",
            failed=failed,
        )
    writer.finish()
    written = sizes(target, [each.name for each in series])
    return [
        CompressedCube(
            each.name,
            modes[each.name],
            len(each.bands),
            each.array.nbytes,
            written[each.name],
            worst.get(each.name, 0.0),
            psnr.get(each.name),
        )
        for each in series
    ]


def measure_cubes(
    source: Path, compressed: Path, *, variables: Sequence[str] = (), nodata: float | None = None, span: float | None = None
) -> list[Point]:
    """How good a store that ``compress_cubes`` made is, against its source, by decoding it.

    Raises: ShardError if either cannot be read or they do not hold the same cubes.
    """
    true, _ = open_series(source, variables, nodata)
    found, _ = open_series(compressed)
    decoded = {each.name: each for each in found}
    if missing := [each.name for each in true if each.name not in decoded or decoded[each.name].array.shape != each.array.shape]:
        raise ShardError(
            f"{compressed} has no {missing[0]} of the shape it has in {source}; name the store that was made of it", names=missing
        )
    written = sizes(compressed, [each.name for each in true])
    return [
        Point(
            each.name,
            "as stored",
            quality.measure(each.cube(), decoded[each.name].cube(), each.bands, written[each.name], nodata=each.nodata, span=span),
        )
        for each in true
    ]


def rate_distortion(
    source: Path,
    steps: Sequence[float],
    max_errors: Sequence[float],
    *,
    variables: Sequence[str] = (),
    nodata: float | None = None,
    span: float | None = None,
    preset: str = "adaptive",
    advance: Callable[[int], None] = lambda n: None,
) -> list[Point]:
    """Code a dataset's measurements at several settings and measure what decoding each gives; one blob per cube.

    Raises: ShardError if the source cannot be read or holds no measurements.
    """
    series = [each for each in open_series(source, variables, nodata)[0] if each.measures]
    if not series:
        raise ShardError(f"{source} holds no measurements that are known as such; name their variables", path=str(source))
    wanted = [VideoSettings(mode="lossy", step=step, preset=preset) for step in sorted(steps)]
    wanted += [VideoSettings(mode="maxerr", max_error=bound) for bound in sorted(max_errors)]
    wanted.append(VideoSettings())
    points: list[Point] = []
    kinds = {(each.name, number): (each, one) for each in series for number, one in enumerate(wanted)}
    jobs = (
        (key, (each.cube(), replace(one, nodata=each.nodata) if each.nodata is not None else one, each.bands))
        for key, (each, one) in kinds.items()
    )
    for key, result in run_isolated(encode_any, jobs):
        each, one = kinds[key]
        advance(1)
        if isinstance(result, ShardError):
            raise result
        found = quality.measure(each.cube(), Clip(result).read(), each.bands, len(result), nodata=each.nodata, span=span)
        points.append(Point(each.name, _label(one), found))
    return points


def _label(settings: VideoSettings) -> str:
    if settings.mode == "lossy":
        return f"step {settings.step:g}"
    return f"max error {settings.max_error:g}" if settings.mode == "maxerr" else "lossless"


def plot_points(points: Sequence[Point], path: Path) -> None:
    """Draw PSNR over rate, one line per variable."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(point.name for point in points):
        own = sorted(
            (point for point in points if point.name == name and point.quality.psnr_db is not None), key=lambda each: each.quality.bpppb
        )
        axes.plot([each.quality.bpppb for each in own], [each.quality.psnr_db or 0 for each in own], marker="o", label=name)
        for each in own:
            axes.annotate(
                each.settings, (each.quality.bpppb, each.quality.psnr_db or 0), fontsize=7, xytext=(4, -8), textcoords="offset points"
            )
    axes.set_xscale("log")
    axes.set_xlabel("bits per pixel and band, every byte counted")
    axes.set_ylabel(f"PSNR (dB), range {points[0].quality.range:g}" if len({each.quality.range for each in points}) == 1 else "PSNR (dB)")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
