"""What a dataset costs before it is built: core hours, wall time and bytes, from figures that were measured.

    python tests/benchmarks/cost.py [--workers 2 100 1000]

prints the tables of docs/scaling.md. The figures of stages are those of `make bench-tile` and `make bench-terrain` on
a quiet machine (tests/benchmarks/README.md); those of bytes follow from the layouts, and from real patches where
compression decides. sen2cor and downloads are not in it: they are other programs' time.
"""

import argparse
import sys
from dataclasses import dataclass

TILE_PATCHES = 8281  # 91 x 91 of 1200 m in a Sentinel-2 tile
MEASURED_PATCHES = 7157  # that the benchmark of one tile keeps

# Core seconds of one full tile, by stage. The first three stages were measured together as CPU time; the others by wall time.
SCENE_STAGES = {"scenes, patches, quality": 120.5, "labels": 3.1}
TERRAIN_STAGE = {"terrain correction of Sentinel-1 GRD, VV and VH": 2 * 28.2}
# Captions use all workers; splits, shards and catalog run in one process, so no number of workers makes them shorter.
PARALLEL_S_PER_PATCH = 2 * 13.2 / MEASURED_PATCHES  # captions and questions, two processes
SERIAL_S_PER_PATCH = (0.7 + 10.5 + 4.0) / MEASURED_PATCHES  # splits, shards, catalog and report

# Bytes of one patch as stored: (bands, side in pixels, bytes per pixel) of the arrays of its three keys.
VALUES = {"s2": ((4, 120, 2), (6, 60, 2), (2, 20, 2)), "s1": ((2, 120, 4),), "map": ((1, 120, 2),)}
PAGE_BYTES = 4096  # a value of LMDB takes whole pages
HEADER_BYTES = {"s2": 1024, "s1": 200, "map": 100}  # safetensors' header and LMDB's own, rounded up
# Of plain bytes under Blosc: real reflectance and decibels of the six BigEarthNet pairs at hand; codes of few classes.
BLOSC_RATIOS = {"s2": 0.675, "s1": 0.886, "map": 0.05}
TABLE_BYTES = 900  # of a patch in all Parquet tables, with captions

SCENE_INPUT_BYTES = 1.1e9 + 1.0e9 / 4  # an L2A product, and a GRD pair shared by about four tiles


@dataclass(frozen=True)
class Plan:
    """A dataset to be built."""

    name: str
    scenes: int
    kept: int  # patches that are kept
    grd: bool = True  # Sentinel-1 comes as GRD and is terrain corrected here


@dataclass(frozen=True)
class Cost:
    """What it takes."""

    core_h: float  # of all stages
    parallel_h: float  # core hours that workers share
    serial_h: float  # hours that no worker shortens
    input_bytes: float
    lmdb_bytes: float
    zarr_bytes: float
    blosc_bytes: float
    table_bytes: float

    def wall_h(self, workers: int) -> float:
        """Hours on so many workers of one core each."""
        return self.parallel_h / workers + self.serial_h


def plain_bytes(arrays: tuple[tuple[int, int, int], ...]) -> int:
    return sum(bands * side * side * size for bands, side, size in arrays)


def lmdb_bytes_per_patch() -> int:
    """Each of a patch's three values on pages of its own."""
    return sum(-(-(plain_bytes(arrays) + HEADER_BYTES[name]) // PAGE_BYTES) * PAGE_BYTES for name, arrays in VALUES.items())


def zarr_bytes_per_patch(blosc: bool = False) -> float:
    """The arrays, and 16 bytes of index for each of the five groups."""
    return sum(plain_bytes(arrays) * (BLOSC_RATIOS[name] if blosc else 1) for name, arrays in VALUES.items()) + 5 * 16


def cost(plan: Plan) -> Cost:
    scene_s = sum(SCENE_STAGES.values()) + (sum(TERRAIN_STAGE.values()) if plan.grd else 0.0)
    parallel_h = (plan.scenes * scene_s + plan.kept * PARALLEL_S_PER_PATCH) / 3600
    serial_h = plan.kept * SERIAL_S_PER_PATCH / 3600
    return Cost(
        core_h=parallel_h + serial_h,
        parallel_h=parallel_h,
        serial_h=serial_h,
        input_bytes=plan.scenes * SCENE_INPUT_BYTES,
        lmdb_bytes=plan.kept * lmdb_bytes_per_patch(),
        zarr_bytes=plan.kept * zarr_bytes_per_patch(),
        blosc_bytes=plan.kept * zarr_bytes_per_patch(blosc=True),
        table_bytes=plan.kept * TABLE_BYTES,
    )


# reBEN: its 115 scenes and 549,488 published patches. Europe: 1,000 tiles touch the 39 countries of CORINE. The globe: about
# 18,000 tiles touch land without Antarctica. A year is 73 dates of five days; four in ten patches pass clouds and labels.
DATES, KEPT_SHARE = 73, 0.4
PLANS = (
    Plan("reBEN", 115, 549_488),
    Plan("Europe, one year", 1_000 * DATES, int(1_000 * DATES * TILE_PATCHES * KEPT_SHARE)),
    Plan("the globe, one year", 18_000 * DATES, int(18_000 * DATES * TILE_PATCHES * KEPT_SHARE)),
)


def in_hours(hours: float) -> str:
    if hours < 48:
        return f"{hours:.1f} h"
    return f"{hours / 24:,.0f} days" if hours < 24 * 730 else f"{hours / 24 / 365.25:,.1f} years"


def in_bytes(count: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count / 1e9:.1f} GB"


def tables(workers: tuple[int, ...]) -> str:
    """The tables of docs/scaling.md."""
    lines = [
        "| | scenes | patches kept | core hours | of them in one process | " + " | ".join(f"wall, {n:,} workers" for n in workers) + " |"
    ]
    lines.append("|---|" + "---|" * (4 + len(workers)))
    for plan in PLANS:
        each = cost(plan)
        walls = " | ".join(in_hours(each.wall_h(n)) for n in workers)
        lines.append(f"| {plan.name} | {plan.scenes:,} | {plan.kept:,} | {each.core_h:,.0f} | {each.serial_h:,.1f} | {walls} |")
    lines += ["", "| | inputs | LMDB | Zarr | Zarr, Blosc | tables |", "|---|---|---|---|---|---|"]
    for plan in PLANS:
        each = cost(plan)
        sizes = (each.input_bytes, each.lmdb_bytes, each.zarr_bytes, each.blosc_bytes, each.table_bytes)
        lines.append(f"| {plan.name} | {' | '.join(in_bytes(size) for size in sizes)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 100, 1000])
    print(tables(tuple(parser.parse_args().workers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
