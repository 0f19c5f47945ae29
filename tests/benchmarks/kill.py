"""Builds killed at random moments on two workers, begun again, and compared byte by byte with one that nobody disturbed.

Scenes of a small demonstration, from their making to training and report. A kill is of the whole process group
(the build must be begun again) or of one worker (it must go on by itself). A line for each build; exits 1 if a byte differs, if a
process outlives its build, or if a stage was never hit.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from killing import build_with_kills, content, differing

RECIPE = {
    "name": "killed",
    "synthetic": {
        "tiles": ["33UUP", "32UMC"], "dates": ["2023-04-18T10:00:31Z"], "raster_px": [360, 2160], "offset_px": [4800, 960],
        "cell_m": 700, "clouds": 1, "seed": 3,
    },
    "training": {"epochs": 1, "batch_size": 16, "input_px": 60, "bands": ["B02", "B03", "B04", "B08", "VV"]},
}  # fmt: skip
STAGES = ("inputs", "scenes", "patches", "labels", "quality", "splits", "captions", "shards", "catalog", "training", "report")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="begin no further build after so long")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    began, kills, wrong = time.monotonic(), [], []
    with tempfile.TemporaryDirectory(prefix="rsdata-kill-") as name:
        folder = Path(name)
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
        build_with_kills(recipe, folder / "undisturbed", folder / "prefect", rng, 0)
        expected = content(folder / "undisturbed")
        print(f"undisturbed: {len(expected)} files, {time.monotonic() - began:.0f} s", flush=True)
        number = 0
        while len(kills) < options.kills and time.monotonic() - began < 60 * options.minutes:
            number += 1
            root = folder / f"build-{number}"
            done = build_with_kills(recipe, root, folder / "prefect", rng, min(options.kills - len(kills), 10), lines=4)
            found = differing(content(root), expected)
            kills += done.kills
            wrong += [f"build {number}: {name} differs" for name in found] + [f"build {number}: left {line}" for line in done.left]
            said = ", ".join(f"{each.what} in {each.stage}" for each in done.kills) or "none"
            print(
                f"build {number}: {done.runs} runs, {len(done.kills)} kills ({said}); {len(found)} of {len(expected)} files differ",
                flush=True,
            )
    hit = Counter(kill.stage for kill in kills)
    print(f"{len(kills)} kills in {(time.monotonic() - began) / 60:.0f} minutes; by stage: " + ", ".join(f"{s} {hit[s]}" for s in STAGES))
    print("\n".join(wrong) or "Every file is that of the undisturbed build, and no process was left.")
    if len(kills) < options.kills:
        wrong.append(f"only {len(kills)} of {options.kills} kills")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
