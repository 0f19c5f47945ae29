"""Divide and audit half a million generated patches; print time, memory and what came out, held against bounds.

    python tests/benchmarks/splits.py [--patches N] [--seed S] [--only NAME …]

The table has the shape of reBEN (see ``rsdata.testing.patch_table``). Making it does not count. Each strategy runs in a
process of its own, so its peak memory, the table included, is its own. Gaps are checked by ``rsdata.testing.gaps``,
which shares no code with the strategy. Bounds on time are held against CPU time, as all of it is one thread and others
may share the machine. With more ``--patches`` than reBEN has, tiles all over Europe are taken and the
bounds on time and memory are not held against the run.

Exits 1 if a bound is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyproj

from rsdata.errors import GridError
from rsdata.grid import Tile
from rsdata.testing.patch_table import REBEN_PATCHES, REBEN_TILES, patch_table

WORK = """
import json, resource, sys, time
import numpy as np, pandas as pd
from rsdata.recipe import SplitPart
from rsdata.splits import assign, audit, divide
from rsdata.testing.gaps import smallest_gap_m
path, name, options, seed = sys.argv[1:]
table = pd.read_pickle(path)
if name == "audit":
    table["split"] = assign(table, SplitPart())
    from rsdata.splits.audit import examine
    work = lambda: examine(table)
else:
    part = SplitPart(strategy=name, options=json.loads(options), seed=int(seed))
    if name == "balanced":  # compiling once is no part of the work
        divide(table.iloc[:20000], SplitPart(strategy=name, options={"balance": [], "max_dropped": 0.9}))
    work = lambda: divide(table, part)
started, cpu = time.monotonic(), time.process_time()
made = work()
figures = {"seconds": time.monotonic() - started, "cpu_s": time.process_time() - cpu,
           "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
if name == "balanced":
    split = made.split.to_numpy(object)
    kept = pd.notna(split)
    held = pd.Series(split[kept]).value_counts(normalize=True)
    shown = pd.DataFrame({"split": split[kept], "label": table["labels"].to_numpy()[kept]}).explode("label")
    shares = shown.groupby(["label", "split"]).size().unstack(fill_value=0) / pd.Series(split[kept]).value_counts()
    wanted = pd.Series({"train": 0.5, "validation": 0.25, "test": 0.25})
    buffer_m = json.loads(options).get("buffer_m", 1750)
    figures |= {"dropped": 1 - kept.mean(), "ratio_error": float((held - wanted).abs().max()),
                "factor": float((shares.max(axis=1) / shares.min(axis=1)).max()),
                "gap_m": smallest_gap_m(table, split, 2 * buffer_m)}
print(json.dumps(figures))
"""
# What is run, and the bounds it is held to: largest values, and smallest ones for the gap.
RUNS: tuple[tuple[str, str, dict[str, object], dict[str, float]], ...] = (
    ("frame", "frame", {}, {"cpu_s": 2}),
    ("blocks", "blocks", {}, {}),
    ("random", "random", {}, {}),
    ("audit", "audit", {}, {"cpu_s": 15, "peak_gib": 2}),
    (
        "balanced", "balanced", {},
        {"cpu_s": 30, "peak_gib": 2, "dropped": 0.03, "ratio_error": 0.015, "factor": 1.10, "gap_m": 1750},
    ),
    (
        "balanced 5000 m", "balanced", {"buffer_m": 5000},
        {"cpu_s": 30, "peak_gib": 2, "dropped": 0.10, "ratio_error": 0.015, "factor": 1.15, "gap_m": 5000},
    ),
)  # fmt: skip
COST = ("cpu_s", "peak_gib")


def european_tiles(count: int) -> list[str]:
    """Names of so many tiles of Europe, each once, whose middle lies in its own zone."""
    names = []
    for zone in range(29, 41):
        for band, row in ((band, row) for band in "STUV" for row in "ABCDEFGHJKLMNPQRSTUV"):
            for square in "ABCDEFGHJKLMNPQRSTUVWXYZ":
                try:
                    tile = Tile.from_name(f"{zone}{band}{square}{row}")
                except GridError:
                    continue
                lon, lat = pyproj.Transformer.from_crs(tile.epsg, 4326, always_xy=True).transform(tile.ul_x_m + 5e4, tile.ul_y_m - 5e4)
                south = 32 + 8 * "STUV".index(band)
                if zone * 6 - 186 <= lon < zone * 6 - 180 and south <= lat < south + 8:
                    names.append(tile.name)
    order = np.random.default_rng(0).permutation(len(names))
    return [names[index] for index in sorted(order[:count])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=REBEN_PATCHES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of runs")
    options = parser.parse_args()
    large = options.patches > REBEN_PATCHES
    tiles = european_tiles(options.patches * len(REBEN_TILES) // REBEN_PATCHES) if large else list(REBEN_TILES)
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.pkl"
        patch_table(options.patches, tiles).to_pickle(path)
        print(f"{options.patches:,} patches on {len(tiles)} tiles, seed {options.seed}")
        for title, name, chosen, bounds in RUNS:
            if options.only and title not in options.only:
                continue
            command = [sys.executable, "-c", WORK, str(path), name, json.dumps(chosen), str(options.seed)]
            figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{title:16s} " + "  ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)
            for key, bound in bounds.items():
                if large and key in COST:
                    continue
                if figures[key] < bound if key == "gap_m" else figures[key] > bound:
                    missed.append(f"{title}: {key} is {figures[key]:.4g}, the bound is {bound:g}")
    for line in missed:
        print(f"MISSED {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
