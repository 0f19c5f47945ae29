"""Write the report of 100,000 generated patches; print time, memory and size, held against bounds.

    python tests/benchmarks/report.py [--patches N] [--seed S] [--keep FILE]

The table is that of ``catalog.py``. What is measured is what ``rsdata report`` does but for reading pixels: the table is read,
its split is audited whole, and the page is written with as many samples as a report may show, whose pictures are noise and so
as large as pictures can be. The work runs in a process of its own, so its peak memory is its own; the bound on time is held
against CPU time, as others may share the machine.

Exits 1 if a bound is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from catalog import write_dataset

MOST_CPU_S, MOST_GIB, MOST_MB = 60.0, 2.0, 15.0
WORK = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from rsdata import catalog
from rsdata.catalog.report import MAX_SAMPLES, Sample
from rsdata.labels import load_nomenclature
from rsdata.splits.audit import examine
root, page = Path(sys.argv[1]), Path(sys.argv[2])
started, cpu = time.monotonic(), time.process_time()
table, nomenclature = catalog.read_patches(root / "patches.parquet"), load_nomenclature("bigearthnet-19")
read = time.process_time()
audit, _ = examine(table[table["kept"]], [each.name for each in nomenclature.classes])
audited = time.process_time()
draw, codes = np.random.default_rng(0), sorted(nomenclature.code_names)
chosen = catalog.choose_samples(table, MAX_SAMPLES // 3)
noise = lambda *shape: draw.integers(0, 255, (120, 120, *shape), dtype=np.uint8)
samples = [
    Sample(name, noise(3), noise(3), draw.choice(codes, (6, 6)).repeat(20, 0).repeat(20, 1).astype(np.uint16), noise(3))
    for name in chosen
]
catalog.write_report(page, title="Generated", attribution=[], patches=table, label_classes=list(nomenclature.classes), audit=audit,
    captions={name: "A caption of some length, as captions are. " * 12 for name in chosen}, samples=samples,
    code_names=nomenclature.code_names, training=None)
done = time.process_time()
print(json.dumps({"patches": len(table), "samples": len(samples), "seconds": time.monotonic() - started, "read_cpu_s": read - cpu,
    "audit_cpu_s": audited - read, "page_cpu_s": done - audited, "cpu_s": done - cpu, "bytes": page.stat().st_size,
    "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="leave the page here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, options.patches, options.seed)
        page = options.keep or root / "index.html"
        done = subprocess.run([sys.executable, "-c", WORK, str(root), str(page)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    print(
        f"{found['patches']:,} patches, {found['samples']} samples: {found['cpu_s']:.1f} s of CPU (reading {found['read_cpu_s']:.1f}, "
        f"audit {found['audit_cpu_s']:.1f}, page {found['page_cpu_s']:.1f}), {found['seconds']:.1f} s in all, "
        f"{found['peak_gib']:.2f} GiB, {found['bytes'] / 1e6:.1f} MB"
    )
    missed = [
        f"{value:.1f} {unit} where at most {most:g} were allowed"
        for value, most, unit in (
            (found["cpu_s"], MOST_CPU_S, "s of CPU"),
            (found["peak_gib"], MOST_GIB, "GiB"),
            (found["bytes"] / 1e6, MOST_MB, "MB"),
        )
        if value > most
    ]
    for words in missed:
        print(words, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
