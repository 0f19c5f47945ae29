"""Video shards against what xarrayvideo does: rate and distortion, exactness, speed. Exits 1 where a bound is missed.

    python tests/benchmarks/video.py [--quick] [--cubes WORD …]

Every rate counts every byte written. PSNR is over a cube's own range, all bands together, by decoding what was written.
Times are CPU seconds, children's included. ``--quick`` leaves out the large cubes; ``--cubes`` compares rates on those alone
whose name holds a word, and measures nothing else.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import video_baseline
import video_cubes
from numcodecs import Blosc
from rich.console import Console
from rich.table import Table
from video_cubes import Cube

from rsdata.shards.video import Clip, VideoSettings, encode

RATES = (0.25, 0.5, 1.0, 2.0)  # bits per pixel and band
# Close enough to each other that a straight line over the logarithm of the rate is near what lies between two: over twice the rate
# it is up to 0.6 dB above, as decibels grow with the rate itself, on either side and not alike.
STEPS = (20.0, 24.0, 28.0, 40.0, 56.0, 80.0, 113.0, 160.0, 226.0, 320.0, 450.0, 640.0, 900.0, 1300.0)
CRFS = {"x265": (0.0, 2.0, 5.0, 9.0, 14.0, 20.0, 27.0), "vp9": (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0, 30.0, 40.0)}
# Gain in dB that is asked for at 1 and 2 bits: all bytes against files, and packets against packets. Below, never worse.
GAINS = {"nine": (3.0, 2.4), "twelve": (3.0, 2.4), "four": (1.5, 0.6), "rgb": (0.0, 0.0), "ndvi": (0.0, 0.0)}

console = Console(width=150)
missed: list[str] = []


@dataclass(frozen=True)
class Point:
    """One setting on one cube."""

    setting: str
    rate: float  # every byte
    packets: float  # coded packets alone
    psnr_db: float
    cpu_s: float  # of encoding


def cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def bound(name: str, value: float, limit: float, *, at_most: bool = False) -> str:
    """The value as text, marked if it misses its bound."""
    if np.isnan(value) or (value <= limit if at_most else value >= limit):
        return f"{value:.2f}"
    missed.append(f"{name}: {value:.2f}, bound {'at most' if at_most else 'at least'} {limit:g}")
    return f"{value:.2f} !"


def psnr(cube: Cube, decoded: list[np.ndarray]) -> float:
    samples = sum(part.size for part in cube)
    error = sum(float(((np.asarray(found, np.float64) - part) ** 2).sum()) for found, part in zip(decoded, cube, strict=True)) / samples
    span = float(max(int(part.max()) for part in cube) - min(int(part.min()) for part in cube))
    return 10 * np.log10(span**2 / max(error, 1e-12))


def ours(cube: Cube, step: float) -> Point:
    start = cpu_s()
    blobs = [encode(part, VideoSettings("lossy", step=step)) for part in cube]
    spent = cpu_s() - start
    clips, samples = [Clip(blob) for blob in blobs], sum(part.size for part in cube)
    packets = sum(len(blob) - clip.head.size for blob, clip in zip(blobs, clips, strict=True))
    return Point(
        f"step {step:g}", sum(map(len, blobs)) * 8 / samples, packets * 8 / samples, psnr(cube, [clip.read() for clip in clips]), spent
    )


def theirs(cube: Cube, codec: str, crf: float) -> Point:
    samples = sum(part.size for part in cube)
    files = packets = 0
    spent, decoded = 0.0, []
    for part in cube:
        with tempfile.TemporaryDirectory() as folder:
            start = cpu_s()
            coded = video_baseline.Baseline(part, Path(folder), codec, crf)
            spent += cpu_s() - start
            sizes = coded.sizes()
            files, packets = files + sizes[0], packets + sizes[1]
            decoded.append(coded.read())
    return Point(f"{codec} {crf:g}", files * 8 / samples, packets * 8 / samples, psnr(cube, decoded), spent)


def at_rate(points: list[Point], rate: float, by: Callable[[Point], float], value: Callable[[Point], float]) -> float:
    """A value between two settings, straight over the logarithm of the rate; NaN outside of them."""
    known = sorted((by(point), value(point)) for point in points)
    if not known or not known[0][0] <= rate <= known[-1][0]:
        return float("nan")
    return float(np.interp(np.log(rate), np.log([each[0] for each in known]), [each[1] for each in known]))


def by_turns(cube: Cube, steps: tuple[float, ...], repeats: int) -> tuple[list[Point], dict[str, list[Point]]]:
    """Every setting, ours and theirs by turns, as the machine's other work slows whoever is on; of repeats the least time."""
    runs: list[tuple[str, Callable[[], Point]]] = [("ours", partial(ours, cube, step)) for step in steps]
    for codec, crfs in CRFS.items():
        runs += [(codec, partial(theirs, cube, codec, crf)) for crf in crfs]
    points: dict[str, list[Point]] = {"ours": [], **{codec: [] for codec in CRFS}}
    for at in sorted(range(len(runs)), key=lambda number: number * 0.618 % 1):  # spread out, and the same every time
        side, run = runs[at]
        points[side].append(min((run() for _ in range(repeats)), key=lambda each: each.cpu_s))
    return points.pop("ours"), points


def rate_distortion(cubes: dict[str, Cube], large: set[str]) -> None:
    for name, cube in cubes.items():
        table = Table("cube", "rate", "ours dB", "best of theirs", "gain, all bytes", "gain, packets", "encode CPU ours/theirs")
        mine, other = by_turns(cube, STEPS, 1 if name in large else 2)
        for rate in RATES:
            reached = at_rate(mine, rate, lambda each: each.rate, lambda each: each.psnr_db)
            best = {codec: at_rate(points, rate, lambda each: each.rate, lambda each: each.psnr_db) for codec, points in other.items()}
            if np.isnan(reached) or all(np.isnan(each) for each in best.values()):
                continue
            codec = max(best, key=lambda each: -np.inf if np.isnan(best[each]) else best[each])
            bare = [at_rate(points, rate, lambda each: each.packets, lambda each: each.psnr_db) for points in other.values()]
            bare_gain = at_rate(mine, rate, lambda each: each.packets, lambda each: each.psnr_db) - np.nanmax([*bare, -np.inf])
            least = GAINS[name.split()[0].rstrip(",")] if rate >= 1 else (0.0, 0.0)
            time_ratio = at_rate(mine, rate, lambda each: each.rate, lambda each: each.cpu_s) / at_rate(
                other[codec], rate, lambda each: each.rate, lambda each: each.cpu_s
            )
            where = f"{name} at {rate:g} bits"
            table.add_row(
                name,
                f"{rate:g}",
                f"{reached:.2f}",
                f"{best[codec]:.2f} {codec}",
                bound(f"{where}, gain in dB by all bytes", reached - best[codec], least[0]),
                bound(f"{where}, gain in dB by packets", bare_gain, least[1]),
                bound(f"{where}, encoding CPU over theirs", time_ratio, 1.0, at_most=True),
            )
        console.print(table)


def lossless() -> None:
    table = Table(
        "Major TOM, 120 px patches", "lossless", "zstd + bitshuffle", "smaller by %", "MB/s", "MB/s, all verified", "max error 10"
    )
    for name in (video_cubes.CLEAR, video_cubes.CLOUDY):
        scene = video_cubes.major_tom(name, video_cubes.BANDS_10M)
        patches = [
            np.ascontiguousarray(scene[None, :, row : row + 120, column : column + 120])
            for row in range(0, 960, 120)
            for column in range(0, 960, 120)
        ]
        samples = sum(patch.size for patch in patches)
        speeds = {}
        for verify in ("sample", "all", "none"):
            best = np.inf
            for _ in range(3):
                start = cpu_s()
                if verify == "none":
                    from rsdata.shards.video import stills

                    for patch in patches:
                        stills.encode(patch[0, :3])
                        stills.encode(patch[0, 3:])
                else:
                    blobs = [encode(patch, VideoSettings(verify=verify)) for patch in patches]  # type: ignore[arg-type]
                best = min(best, cpu_s() - start)
            speeds[verify] = samples * 2 / 1e6 / best
        assert all(np.array_equal(Clip(blob).read(), patch) for blob, patch in zip(blobs, patches, strict=True))
        bits = sum(map(len, blobs)) * 8 / samples
        codec = Blosc("zstd", clevel=5, shuffle=Blosc.BITSHUFFLE, typesize=2)
        zstd = sum(len(codec.encode(np.ascontiguousarray(patch))) for patch in patches) * 8 / samples
        bounded = [encode(patch, VideoSettings("maxerr", max_error=10)) for patch in patches]
        worst = max(int(np.abs(Clip(blob).read().astype(int) - patch).max()) for blob, patch in zip(bounded, patches, strict=True))
        coarse = sum(map(len, bounded)) * 8 / samples
        table.add_row(
            name,
            bound(f"lossless bits, {name}", bits, 8.3, at_most=True),
            f"{zstd:.2f}",
            bound(f"per cent smaller than zstd and bitshuffle, {name}", 100 * (1 - bits / zstd), 20.0),
            bound(f"lossless MB/s of the encoder, {name}", speeds["none"], 25.0),
            f"{speeds['all']:.1f}",
            bound(f"bits at max error 10, {name}", coarse, 4.0, at_most=True) + f", worst {worst}",
        )
        if worst > 10:
            missed.append(f"max error 10, {name}: {worst}")
    console.print(table)
    whole = np.stack(
        [video_cubes.major_tom(name, video_cubes.BANDS_10M)[:, :960, :960] for name in (video_cubes.CLEAR, video_cubes.CLOUDY)]
    )
    console.print(f"bits at 960 px, one blob of both scenes: {len(encode(whole, VideoSettings())) * 8 / whole.size:.2f}")


def speed(cubes: dict[str, tuple[Cube, float, float]]) -> None:
    """Paired: theirs and ours by turns, the least of several; cube to (cube, our step, their CRF) of about one quality."""
    table = Table("cube", "ours, decode CPU s", "theirs", "times as fast", "at least")
    for name, (cube, step, least) in cubes.items():
        blobs = [encode(part, VideoSettings("lossy", step=step)) for part in cube]
        with tempfile.TemporaryDirectory() as folder:
            coded = []
            for number, part in enumerate(cube):
                (Path(folder) / str(number)).mkdir()
                coded.append(video_baseline.Baseline(part, Path(folder) / str(number), "x265", 5.0))
            mine, other = [], []
            for _ in range(7):
                start = cpu_s()
                for blob in blobs:
                    Clip(blob).read()
                mine.append(cpu_s() - start)
                start = cpu_s()
                for each in coded:
                    each.read()
                other.append(cpu_s() - start)
        ratio = float(np.median(other) / np.median(mine))
        table.add_row(name, f"{np.median(mine):.3f}", f"{np.median(other):.3f}", bound(f"decoding, {name}", ratio, least), f"{least:g}")
    console.print(table)


def access(cube: Cube) -> None:
    clips = [Clip(encode(part, VideoSettings("lossy", step=100.0, keyint=8))) for part in cube]
    whole = [clip.read() for clip in clips]
    times = []
    for frame in list(range(len(cube[0]))) * 5:
        start = time.perf_counter()
        found = [clip.read([frame]) for clip in clips]
        times.append((time.perf_counter() - start) * 1e3)
        if not all(np.array_equal(part[0], full[frame]) for part, full in zip(found, whole, strict=True)):
            missed.append(f"frame {frame} alone differs from the whole decoded")
    middle = bound("one frame, ms", float(np.median(times)), 25.0, at_most=True)
    console.print(f"one frame, all bands, keyint 8: median {middle} ms, worst {max(times):.1f}")


def _decode_often(blob: bytes, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        Clip(blob).read()
    return time.perf_counter() - start


def threads(cube: np.ndarray) -> None:
    """Two threads over one; beside it two processes over one, which is what the machine has to give just then."""
    blob = encode(cube, VideoSettings("lossy", step=100.0))
    best = {("threads", 1): np.inf, ("threads", 2): np.inf, ("processes", 1): np.inf, ("processes", 2): np.inf}
    pools = {"threads": ThreadPoolExecutor(2), "processes": ProcessPoolExecutor(2, mp_context=get_context("spawn"))}
    for pool in pools.values():
        list(pool.map(_decode_often, [blob] * 2, [2] * 2))  # start the workers
    for _ in range(9):
        for kind, count in best:
            start = time.perf_counter()
            list(pools[kind].map(_decode_often, [blob] * count, [12 // count] * count))
            best[kind, count] = min(best[kind, count], time.perf_counter() - start)
    for pool in pools.values():
        pool.shutdown()
    gain = {kind: best[kind, 1] / best[kind, 2] for kind in pools}
    shown = bound("two threads over one", gain["threads"], min(1.7, 0.85 * gain["processes"]))
    console.print(f"two threads over one, 12 cubes decoded: {shown} times, two processes {gain['processes']:.2f} (wall time, best of 9)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cubes", nargs="+", metavar="WORD")
    given = parser.parse_args()
    quick, words = given.quick, given.cubes
    console.print(f"ffmpeg: {video_baseline.version()}")
    cubes = video_cubes.real()
    patch = cubes["nine bands, 10 months"]
    mirrored = video_cubes.mirrored(patch)
    large = {"twelve bands, 24 dates, 264 px": video_cubes.generated(), "nine bands, mirrored to 300 px": mirrored} if not quick else {}
    if not words:
        lossless()
        access(patch)
        threads(np.ascontiguousarray(mirrored[0]))
        speed(
            {
                "nine bands, 100 px": (patch, 226.0, 10.0),
                "four bands, 52 px": (cubes["four bands, 19 dates"], 160.0, 10.0),
                "nine bands, 300 px": (mirrored, 226.0, 2.5),
            }
        )
    wanted = {name: cube for name, cube in (cubes | large).items() if not words or any(word in name for word in words)}
    rate_distortion(wanted, set(large))
    for each in missed:
        console.print(f"MISSED {each}", highlight=False)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
