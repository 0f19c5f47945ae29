"""Builds killed at random moments on two workers, begun again, and compared byte by byte with one that nobody disturbed.

Scenes of a small demonstration, from their making to training and report. A kill is of the whole process group
(the build must be begun again) or of one worker (it must go on by itself). Each build is then archived, which is killed once
as well. A line for each build; exits 1 if a byte differs, if a process outlives its build, or if a stage was never hit.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import SMALL, write_recipe
from killing import Course, archive_with_a_kill, build, build_with_kills, content, differing

RECIPE = SMALL | {"name": "killed"}
KILLS_OF_A_BUILD = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    began, kills, wrong = time.monotonic(), [], []
    with tempfile.TemporaryDirectory(prefix="rsdata-kill-") as name:
        folder = Path(name)
        recipe = write_recipe(folder, RECIPE)
        build(recipe, folder / "undisturbed", folder / "prefect")
        expected, course = content(folder / "undisturbed"), Course(folder / "undisturbed")
        archive_with_a_kill(folder / "undisturbed", folder / "archive", folder / "prefect", rng, seconds=60)
        print(f"undisturbed: {len(expected)} files, {time.monotonic() - began:.0f} s", flush=True)
        number = 0
        while len(kills) < options.kills:
            number += 1
            root = folder / f"build-{number}"
            aims = _aims(course, Counter(kill.stage for kill in kills), min(options.kills - len(kills), KILLS_OF_A_BUILD), rng)
            done = build_with_kills(recipe, root, folder / "prefect", rng, aims, course)
            left = archive_with_a_kill(root, folder / f"archive-{number}", folder / "prefect", rng)
            found = differing(content(root), expected)
            found += differing(content(folder / f"archive-{number}"), content(folder / "archive"))
            kills += done.kills
            wrong += [f"build {number}: {name} differs" for name in found] + [f"build {number}: left {line}" for line in done.left + left]
            said = ", ".join(f"{each.what} in {each.stage}" for each in done.kills) or "none"
            print(
                f"build {number}: {done.runs} runs, {len(done.kills)} kills ({said}); {len(found)} of {len(expected)} files differ",
                flush=True,
            )
    hit = Counter(kill.stage for kill in kills)
    print(
        f"{len(kills)} kills in {(time.monotonic() - began) / 60:.0f} minutes; by stage: "
        + ", ".join(f"{s} {hit[s]}" for s in course.stages)
    )
    print("\n".join(wrong) or "Every file is that of the undisturbed build, and no process was left.")
    if missed := [stage for stage in course.stages if not hit[stage]]:
        print(f"never hit: {', '.join(missed)}")
    return bool(wrong or missed)


def _aims(course: Course, hit: Counter[str], count: int, rng: np.random.Generator) -> list[str]:
    """Stages to kill next, in their order: those that were hit least, by chance among equals."""
    return sorted(sorted(rng.permutation(course.stages).tolist(), key=lambda stage: hit[stage])[:count], key=course.stages.index)


if __name__ == "__main__":
    sys.exit(main())
