"""Queue 100,000 scenes that do nothing on a Dask cluster, and watch the memory of its scheduler.

    python tests/benchmarks/queueing.py [--scenes 100000] [--workers 2] [--out DIR]

Once as a build sends them: no task before a worker has room for it. Once all at a time, as a plain `Client.map`
would, to compare. Prints a table, draws DIR/queueing.svg, and exits 1 if the scheduler of the first grows by more than
a bound below.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

MAX_GROWTH_MIB = 32.0  # of the scheduler, from the first thousandth of the scenes to the last

Samples = list[tuple[float, float]]  # scenes done, MiB of the scheduler


def nothing(scene: int) -> int:
    """A scene's work without the work."""
    return scene


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """A scheduler and its workers as processes of their own; its address, and its process."""
    place = folder / "scheduler.json"
    dask = str(Path(sys.executable).with_name("dask"))
    log = (folder / "dask.log").open("ab")
    command = [dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]
    processes = [subprocess.Popen(command, stderr=log, stdout=log)]
    try:
        while not place.exists():
            time.sleep(0.1)
        command = [dask, "worker", "--nworkers", str(workers), "--nthreads", "1", "--no-dashboard", "--scheduler-file", str(place)]
        processes.append(subprocess.Popen(command, stderr=log, stdout=log))
        yield str(place), psutil.Process(processes[0].pid)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)
        log.close()


class Watch:
    """Takes the memory of a process while scenes are done."""

    def __init__(self, process: psutil.Process, every: int) -> None:
        self.process, self.every = process, every
        self.done, self.samples = 0, [(0.0, process.memory_info().rss / 2**20)]
        self._lock = threading.Lock()

    def advance(self) -> None:
        with self._lock:
            self.done += 1
            if self.done % self.every == 0:
                self.samples.append((self.done, self.process.memory_info().rss / 2**20))


def bounded(scenes: int, workers: int, folder: Path) -> tuple[Samples, float]:
    """As a build does it."""
    from rsdata.steps.cluster import Cluster
    from rsdata.workspace import Workspace

    with cluster(folder, workers) as (address, scheduler), Cluster(address, Workspace.create(folder / "workspace"), 2**20) as running:
        watch, start, numbers = Watch(scheduler, max(1, scenes // 1000)), time.monotonic(), iter(range(scenes))
        lock = threading.Lock()

        def send(_: object) -> None:
            while True:
                with lock:
                    scene = next(numbers, None)
                if scene is None:
                    return
                assert running.run(nothing, scene) == scene
                watch.advance()

        with ThreadPoolExecutor(2 * running.slots()) as pool:
            list(pool.map(send, range(2 * running.slots())))
        return watch.samples, time.monotonic() - start


def at_once(scenes: int, workers: int, folder: Path) -> tuple[Samples, float]:
    """All of them handed to the scheduler before the first is done."""
    from distributed import Client, as_completed

    with cluster(folder, workers) as (address, scheduler), Client(scheduler_file=address) as client:
        client.wait_for_workers(1)
        watch, start = Watch(scheduler, max(1, scenes // 1000)), time.monotonic()
        for _ in as_completed(client.map(nothing, range(scenes), pure=False)):
            watch.advance()
        return watch.samples, time.monotonic() - start


def draw(found: dict[str, Samples], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for (name, samples), style in zip(found.items(), ("-", "--"), strict=False):
        axes.plot(*zip(*samples, strict=True), style, label=name)
    axes.set(xlabel="scenes done", ylabel="memory of the scheduler, MiB", ylim=(0, None), xlim=(0, None))
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("queueing-out"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Samples] = {}
    print(f"{asked.scenes:,} scenes that do nothing, {asked.workers} workers\n")
    print(f"| {'sent':<28} | {'seconds':>7} | {'scenes/s':>8} | {'MiB at first':>12} | {'at most':>8} | {'growth':>8} |")
    print(f"|{'-' * 30}|{'-' * 9}|{'-' * 10}|{'-' * 14}|{'-' * 10}|{'-' * 10}|")
    growth = {}
    for name, way in (("as a build sends them", bounded), ("all at once (Client.map)", at_once)):
        with TemporaryDirectory() as folder:
            samples, seconds = way(asked.scenes, asked.workers, Path(folder))
        first, most = samples[0][1] if way is at_once else samples[1][1], max(memory for _, memory in samples)
        found[name], growth[way] = samples, most - first
        print(
            f"| {name:<28} | {seconds:7.0f} | {asked.scenes / seconds:8.0f} | {first:12.0f} | {most:8.0f} | {most - first:8.1f} |",
            flush=True,
        )
    draw(found, asked.out / "queueing.svg")
    print(f"\n{'FAILED' if growth[bounded] > MAX_GROWTH_MIB else 'ok'}: growth of the first at most {MAX_GROWTH_MIB:.0f} MiB")
    return int(growth[bounded] > MAX_GROWTH_MIB)


if __name__ == "__main__":
    sys.exit(main())
