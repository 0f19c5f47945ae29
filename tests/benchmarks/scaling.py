"""Build demo-like scenes with one worker and with two, stage by stage: speed-up, memory per worker, and the cost model held against it.

    python tests/benchmarks/scaling.py [--rounds 3] [--out DIR]

Ten synthetic scenes of two tiles are made first; that does not count. Each round does every stage with one worker and
with two, the order changing, each in a workspace of its own. As in a build of many scenes, every worker has done a scene
before the clock starts, so that it has loaded programs and land cover; eight are left to measure. A speed-up is the
middle one of the rounds' ratios. Exits 1 if a stage that can be shared and takes a second or more misses MIN_SPEEDUP on
two idle cores, or a worker holds more memory than the build reckons for a scene.
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import yaml
from cost import SCENE_STAGES, TILE_PATCHES

from rsdata import steps
from rsdata.recipe import Recipe, load_recipe
from rsdata.steps.captioning import WORTH_SHARING
from rsdata.steps.events import Measured
from rsdata.workspace import Workspace

MIN_SPEEDUP = 1.7
SHARED = ("scenes", "labels", "quality")  # stages that workers divide; the others run in one process, captions of few patches too
SCENES = ("scenes", "patches", "labels", "quality")
WORKERS = (1, 2)
RECIPE = {
    "name": "scaling",
    "synthetic": {
        "tiles": ["33UUP", "32UMC"],
        "dates": ["2023-04-18T10:00:31Z", "2023-05-18T10:00:31Z", "2023-07-12T10:00:31Z", "2023-08-16T10:00:31Z", "2023-09-17T10:00:31Z"],
        "raster_px": [1680, 3360],
        "offset_px": [4800, 0],
        "cell_m": 800,
        "clouds": 2,
        "seed": 15,
    },
}


def cpu_seconds() -> float:
    """Of this process and its children, ended or not."""
    total = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
            total += spent.user + spent.system
        except psutil.NoSuchProcess:
            continue
    return total


def warm_up(pair: Any, recipe: Recipe, workspace: Workspace, meeting: Path, workers: int) -> None:
    """Do one scene in this worker process once all have begun one."""
    (meeting / pair.unit).touch()
    while len(list(meeting.iterdir())) < workers:
        time.sleep(0.05)
    steps.register_scene(pair, recipe, workspace, 1)
    for step in (steps.cut_scene, steps.label_scene, steps.assess_scene):
        step(pair.unit, recipe, workspace)


def measure(recipe: Recipe, base: Workspace, root: Path, workers: int) -> dict[str, dict[str, float]]:
    """Stage to wall and CPU seconds and the largest memory of a worker, in a fresh workspace."""
    for name in ("inputs", "receipts"):
        shutil.copytree(base.root / name, root / name, copy_function=os.link)
    workspace = Workspace.create(root)
    found: dict[str, dict[str, float]] = {}

    def timed(stage: str, work: Callable[[], list[Any]]) -> None:
        start, before = time.monotonic(), cpu_seconds()
        ran = work()
        peak = max((each.peak_bytes for each in ran), default=0)
        found[stage] = {"wall": time.monotonic() - start, "cpu": cpu_seconds() - before, "peak": peak}

    pairs = steps.find_scenes(recipe, workspace).pairs
    first, pairs = pairs[: max(WORKERS)], pairs[max(WORKERS) :]
    units = [pair.unit for pair in pairs]
    meeting = workspace.scratch / "meeting"
    meeting.mkdir(parents=True)

    def captions() -> Any:
        return steps.caption_patches(recipe, workspace, workers=workers)

    with steps.LocalWorkers(workers) as local, ThreadPoolExecutor(workers) as threads:
        do = lambda call: local.submit(Measured(call[0]), *call[1:]).result()  # noqa: E731
        list(threads.map(do, [(warm_up, pair, recipe, workspace, meeting, workers) for pair in first]))
        timed("scenes", lambda: list(threads.map(do, [(steps.register_scene, pair, recipe, workspace, 1) for pair in pairs])))
        for stage, step in (("patches", steps.cut_scene), ("labels", steps.label_scene), ("quality", steps.assess_scene)):
            timed(stage, lambda step=step: list(threads.map(do, [(step, unit, recipe, workspace) for unit in units])))
    timed("splits", lambda: [Measured(steps.assign_splits)(units, recipe, workspace)])
    timed("captions", lambda: [Measured(captions)()])
    timed("shards", lambda: [Measured(steps.pack_shards)(units, recipe, workspace)])
    shutil.rmtree(root)
    return found


def draw(rows: dict[str, tuple[float, float]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    places = range(len(rows))
    axes.bar([place - 0.2 for place in places], [one for one, _ in rows.values()], 0.4, label="one worker")
    axes.bar([place + 0.2 for place in places], [two for _, two in rows.values()], 0.4, label="two workers", hatch="//")
    axes.set_xticks(list(places), list(rows))
    axes.set(ylabel="wall time, s")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the scenes' height, to try the benchmark")
    parser.add_argument("--out", type=Path, default=Path("scaling-out"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    height = max(240, int(RECIPE["synthetic"]["raster_px"][0] * asked.scale) // 120 * 120)  # type: ignore[index]
    RECIPE["synthetic"]["raster_px"][0] = height  # type: ignore[index]
    rounds: list[dict[int, dict[str, dict[str, float]]]] = []
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
        recipe, base = load_recipe(folder / "recipe.yaml"), Workspace.create(folder / "base")
        steps.make_inputs(recipe, base)
        pairs = steps.find_scenes(recipe, base).pairs[max(WORKERS) :]
        reckoned, patches = steps.largest_scene_bytes(pairs), sum(pair.s2.width_m // 1200 * (pair.s2.height_m // 1200) for pair in pairs)
        for number in range(asked.rounds):
            order = WORKERS if number % 2 == 0 else WORKERS[::-1]
            rounds.append({workers: measure(recipe, base, folder / f"run-{number}-{workers}", workers) for workers in order})
    print(f"{len(pairs)} scenes of {height} x 3360 pixels, {patches:,} patches; {asked.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print("| stage | one worker, s | two workers, s | speed-up | CPU s, one | most memory of a worker, MiB |\n|---|---|---|---|---|---|")
    missed, rows = [], {}
    for stage in rounds[0][1]:
        one, two = (statistics.median(each[workers][stage]["wall"] for each in rounds) for workers in WORKERS)
        ratio = statistics.median(each[1][stage]["wall"] / each[2][stage]["wall"] for each in rounds)
        cpu = statistics.median(each[1][stage]["cpu"] for each in rounds)
        peak = max(each[2][stage]["peak"] for each in rounds)
        rows[stage] = (one, two)
        print(f"| {stage} | {one:.2f} | {two:.2f} | {ratio:.2f} | {cpu:.2f} | {f'{peak / 2**20:.0f}' if peak else ''} |")
        shared = (*SHARED, "captions") if patches >= WORTH_SHARING else SHARED
        if stage in shared and one >= 1 and ratio < MIN_SPEEDUP:
            missed.append(f"{stage}: speed-up {ratio:.2f}, expected {MIN_SPEEDUP}")
        if stage in SCENES and peak > reckoned:
            missed.append(f"{stage}: a worker held {peak:,} bytes, a scene is reckoned at {reckoned:,}")
    if patches < WORTH_SHARING:
        print(f"\nCaptions of fewer than {WORTH_SHARING:,} patches are written by one process.")
    print(f"\nReckoned for a scene: {reckoned / 2**20:.0f} MiB.")
    spent = sum(statistics.median(each[1][stage]["cpu"] for each in rounds) for stage in SCENES)
    modelled = sum(SCENE_STAGES.values()) * patches / TILE_PATCHES
    print(f"CPU time of scene stages: {spent:.1f} s; the cost model says {modelled:.1f} s ({spent / modelled:.2f} of it).")
    draw(rows, asked.out / "scaling.svg")
    print("\n".join(["", *(f"MISSED {line}" for line in missed)]) if missed else "\nok")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
