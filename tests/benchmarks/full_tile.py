"""Build one full-size tile and print wall time per stage and peak memory.

    python tests/benchmarks/full_tile.py [--out DIR] [--workers N]

The scene (10980 x 10980 pixels, twelve bands, Sentinel-1, land cover) is synthetic and made first; making it does not
count. Decoding is timed on its own, with the threads the build uses, so that the time outside it can be told.
So is the CPU time to patches (scene checked, patches cut, pixels judged and set aside), against reading the same files
with rasterio alone.

Exits 1 if a bound below is missed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

MAX_PEAK_GIB = 4.0
MAX_OUTSIDE = 1.0  # wall time outside decoding over the time inside it, scenes to report
MAX_CPU = 1.5  # CPU time to patches over that of decoding

RECIPE = {
    "name": "full-tile",
    "synthetic": {
        "tiles": ["33UUP"],
        "dates": ["2023-06-12T10:10:31Z"],
        "raster_px": [10980, 10980],
        "offset_px": [0, 0],
        "cell_m": 1500,
        "clouds": 12,
        "seed": 1,
    },
}

MAKE = """
import sys
from pathlib import Path
from rsdata import steps
from rsdata.recipe import load_recipe
from rsdata.workspace import Workspace
steps.make_inputs(load_recipe(Path(sys.argv[1])), Workspace.create(Path(sys.argv[2])), print)
"""

DECODE = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import rasterio
paths = [path for path in Path(sys.argv[1]).rglob("*.jp2")]
start = time.monotonic()
with ThreadPoolExecutor(int(sys.argv[2])) as pool:
    for shape in pool.map(lambda path: rasterio.open(path).read(1).shape, paths):
        pass
print(time.monotonic() - start, time.process_time())
"""

TO_PATCHES = """
import shutil, sys, time
from pathlib import Path
from rsdata import steps
from rsdata.recipe import load_recipe
from rsdata.workspace import Workspace
recipe, workspace = load_recipe(Path(sys.argv[1])), Workspace(Path(sys.argv[2]))
for stage in ("scenes", "patches", "quality"):
    shutil.rmtree(workspace.root / "receipts" / stage)
(pair,) = steps.find_scenes(recipe, workspace).pairs
steps.register_scene(pair, recipe, workspace, int(sys.argv[3]))
steps.cut_scene(pair.unit, recipe, workspace)
steps.assess_scene(pair.unit, recipe, workspace, int(sys.argv[3]))
print(time.process_time())
"""


def run(*command: object) -> tuple[str, float, float]:
    """Standard output, wall seconds and peak memory in GiB of a command and what it starts."""
    start = time.monotonic()
    result = subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True)
    return result.stdout, time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder to build in; kept, and its scene used again")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.out or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        recipe = root / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
        inputs = root / "dataset"
        subprocess.run([sys.executable, "-c", MAKE, recipe, inputs], check=True)
        (scene,) = (inputs / "inputs" / "sentinel2").glob("*.SAFE")
        made_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        decode_s, decode_cpu_s = map(float, run("-c", DECODE, scene, arguments.workers)[0].split())
        printed, wall_s, peak_gib = run("-m", "rsdata", "build", recipe, "--out", inputs, "--workers", arguments.workers, "--json")
        stages = json.loads(printed)["stages"]
        print(f"{'stage':<10} {'seconds':>8}")
        for stage, tally in stages.items():
            if stage != "inputs":
                print(f"{stage:<10} {tally['seconds']:>8.1f}")
        inside_s = sum(tally["seconds"] for stage, tally in stages.items() if stage != "inputs")
        print(f"{'all':<10} {inside_s:>8.1f}   (command {wall_s:.1f} s, the rest is start-up)")
        print(f"decoding   {decode_s:>8.1f}   alone, {arguments.workers} threads")
        print(f"outside / inside decoding: {(inside_s - decode_s) / decode_s:.2f}")
        print(f"peak memory: {peak_gib:.2f} GiB (making the scene took {made_gib:.2f} GiB)")
        patches_cpu_s = float(run("-c", TO_PATCHES, recipe, inputs, arguments.workers)[0])
        print(f"CPU to patches / CPU of decoding: {patches_cpu_s:.1f} / {decode_cpu_s:.1f} = {patches_cpu_s / decode_cpu_s:.2f}")
        missed = peak_gib > MAX_PEAK_GIB or inside_s - decode_s > MAX_OUTSIDE * decode_s or patches_cpu_s > MAX_CPU * decode_cpu_s
        print("missed" if missed else "held")
        return int(missed)


if __name__ == "__main__":
    sys.exit(main())
