"""Audit a table in the shape of reBEN and fail if it takes too long or too much memory.

    python tests/benchmarks/split_audit.py [--patches N] [--split frame|random]

The whole command is timed as one process: reading, measuring, JSON and page. On a machine that others use, the CPU time
is what to look at; the bound is on the smaller of the two.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rsdata.recipe import SplitPart
from rsdata.splits import assign
from rsdata.testing.patch_table import REBEN_PATCHES, patch_table

MOST_SECONDS, MOST_BYTES, MOST_PAGE_BYTES = 15, 2 * 2**30, 15 * 2**20


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--patches", type=int, default=REBEN_PATCHES)
    options.add_argument("--split", choices=("frame", "random"), default="frame")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = patch_table(chosen.patches)
        if chosen.split == "frame":
            table["split"] = assign(table, SplitPart(strategy="frame"))
        else:
            table["split"] = np.random.default_rng(0).choice(["train", "validation", "test"], len(table))
        path = Path(folder) / "table.parquet"
        table.to_parquet(path)
        began = time.perf_counter()
        command = [sys.executable, "-m", "rsdata", "split", "audit", str(path), "--out", folder, "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall_s = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        page_bytes = (Path(folder) / "index.html").stat().st_size
    cpu_s, peak_bytes = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    print(f"{chosen.patches:,} patches, split {chosen.split}, {os.cpu_count()} cores")
    print(f"wall {wall_s:.1f} s, CPU {cpu_s:.1f} s, peak {peak_bytes / 2**30:.2f} GiB, page {page_bytes / 2**20:.1f} MiB")
    missed = [
        name
        for name, value, bound in (
            ("time", min(wall_s, cpu_s), MOST_SECONDS),
            ("memory", peak_bytes, MOST_BYTES),
            ("page", page_bytes, MOST_PAGE_BYTES),
        )
        if value > bound
    ]
    print(f"missed: {', '.join(missed)}" if missed else "within all bounds")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
