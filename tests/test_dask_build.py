"""Builds on a Dask cluster: the bytes of a local build, bounded by memory, whatever is lost on the way."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import comes

from rsdata.errors import ClusterError, SceneError
from rsdata.workspace import Workspace

distributed = pytest.importorskip("distributed")
from rsdata.steps import cluster as clusters  # noqa: E402
from rsdata.steps.cluster import Cluster, Member  # noqa: E402

DASK = str(Path(sys.executable).with_name("dask"))
MIB = 2**20


class Processes:
    """A scheduler on a port of its own, and workers, each a process that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "scheduler.json"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.log = (folder / "dask.log").open("ab")

    def start_scheduler(self) -> None:
        self.place.unlink(missing_ok=True)
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.place))
        assert comes(self.place.exists)

    def start_worker(self, memory: str = "2GB", threads: int = 1) -> subprocess.Popen[bytes]:
        limits = ("--nthreads", str(threads), "--memory-limit", memory, "--no-nanny", "--local-directory", str(self.folder))
        self.workers.append(self._start("worker", "--scheduler-file", str(self.place), *limits))
        return self.workers[-1]

    def wait_for_workers(self, count: int) -> None:
        with distributed.Client(scheduler_file=str(self.place), set_as_default=False) as client:
            client.wait_for_workers(count, timeout=120)

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}  # where the steps of these tests are
        return subprocess.Popen([DASK, what, *options, "--no-dashboard"], stdout=self.log, stderr=self.log, env=environment)

    def stop(self) -> None:
        started = [*self.workers, *([self.scheduler] if self.scheduler else [])]
        for process in started:
            process.kill()
            process.wait(10)
        self.log.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    running = Processes(tmp_path)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one worker with three threads that may use 800 MB."""
    settings = {"n_workers": 1, "threads_per_worker": 3, "memory_limit": "1GB", "dashboard_address": None}
    with distributed.LocalCluster(**settings) as local:
        yield local.scheduler_address


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "dataset")


def marked(folder: Path, name: str, seconds: float) -> int:
    """A step that shows that it runs; how many ran at a time when it began."""
    mark = folder / name
    mark.touch()
    at_a_time = len(list(folder.iterdir()))
    time.sleep(seconds)
    mark.unlink()
    return at_a_time


def together(folder: Path, name: str, most: int) -> int:
    """A step that waits until ``most`` of its kind ran at a time, and a moment for one more; how many it saw."""
    mark, reached = folder / f"{name}.mark", folder / "reached"
    mark.touch()
    at_work = lambda: len(list(folder.glob("*.mark")))  # noqa: E731
    if comes(lambda: reached.exists() or at_work() >= most, 60):
        reached.touch()
    time.sleep(0.2)
    at_a_time = at_work()
    mark.unlink()
    return at_a_time


def waiting(folder: Path, name: str) -> None:
    """A step that shows that it runs, and ends when it may."""
    (folder / f"{name}.mark").touch()
    assert comes((folder / "go").exists)


def refuse(what: str) -> None:
    raise SceneError(what)


def run_all(cluster: Cluster, *calls: tuple[object, ...], threads: int = 8) -> list[object]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda call: cluster.run(*call), calls))  # type: ignore[arg-type]


# --- memory and back-pressure ------------------------------------------------------------------------------


def test_a_worker_does_as_many_scenes_at_a_time_as_its_memory_bears(running, workspace, tmp_path):
    for step_bytes, most in ((350_000_000, 2), (500_000_000, 1), (100_000_000, 3)):  # of 800 MB and three threads
        marks = tmp_path / str(most)
        marks.mkdir()
        with Cluster(running, workspace, step_bytes) as cluster:
            assert cluster.slots() == most
            found = run_all(cluster, *((together, marks, str(number), most) for number in range(2 * most)))
        assert max(found) == most  # type: ignore[type-var]


def test_the_scheduler_never_holds_more_tasks_than_run(running, workspace, tmp_path):
    held: list[int] = []

    def groups(dask_scheduler: object) -> int:
        return sum(type(each).__name__ == "TaskGroup" for each in gc.get_objects())

    def tasks() -> int:
        return looking.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))

    with Cluster(running, workspace, 350_000_000) as cluster, distributed.Client(running, set_as_default=False) as looking:
        with ThreadPoolExecutor(20) as pool:
            calls = [pool.submit(cluster.run, waiting, tmp_path, str(number)) for number in range(20)]
            assert comes(lambda: len(list(tmp_path.glob("*.mark"))) == 2)
            held.append(tasks())
            (tmp_path / "go").touch()
            assert [call.result(timeout=240) for call in calls] == [None] * 20
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                held.append(tasks())
                done.wait(0.01)

        watch = threading.Thread(target=look)
        watch.start()
        assert run_all(cluster, *((abs, -number) for number in range(60)), threads=20) == list(range(60))
        done.set()
        watch.join()
        before = looking.run_on_scheduler(groups)
        assert run_all(cluster, *((abs, -number) for number in range(60)), threads=2) == list(range(60))
        assert looking.run_on_scheduler(groups) == before  # which it would remember for ever
    assert held[0] >= 2 and max(held) <= 1 + 2 * 2  # one stays, two run, and two outcomes may wait to be fetched


def test_the_scheduler_drops_what_it_notes_of_tasks_that_are_done(running, workspace, monkeypatch):
    def notes(dask_scheduler: Any) -> int:
        spans = dask_scheduler.extensions["spans"].spans.values()
        return sum(len(span.metadata["collections"]) for span in spans if span.metadata)

    monkeypatch.setattr(clusters, "_REMEMBERED", 50)
    with Cluster(running, workspace, 350_000_000) as cluster, distributed.Client(running, set_as_default=False) as looking:
        before = looking.run_on_scheduler(notes)
        assert run_all(cluster, *((abs, -number) for number in range(40)), threads=2) == list(range(40))
        assert looking.run_on_scheduler(notes) >= before + 40
        assert run_all(cluster, *((abs, -number) for number in range(20)), threads=2) == list(range(20))
        assert comes(lambda: run_all(cluster, (abs, -1), threads=1) == [1] and looking.run_on_scheduler(notes) < before + 40)


def test_what_a_cluster_offers_is_told(running, workspace):
    with Cluster(running, workspace, 350_000_000) as cluster:
        assert str(cluster) == f"{running}: 1 worker, 3 threads, 0.8 GB of memory; 2 scenes at a time, as one takes up to 0.3 GB"


# --- what is refused ----------------------------------------------------------------------------------------


def test_workers_without_room_for_a_scene_are_refused(running, workspace):
    with pytest.raises(ClusterError, match=r"none of 1 Dask worker has room .* up to 3\.0 GB, .* use 0\.8 GB at most; .* --memory-limit"):
        Cluster(running, workspace, 3 * 10**9)


def test_a_scheduler_that_is_not_there_or_has_no_workers_is_told(workspace, processes):
    for address in ("tcp://127.0.0.1:9", "nonsense://x", str(processes.place)):
        with pytest.raises(ClusterError, match=r"no Dask scheduler answers at .*; start one with `dask scheduler`"):
            Cluster(address, workspace, MIB, patience_s=1)
    processes.start_scheduler()
    with pytest.raises(ClusterError, match="has no workers; start some with `dask worker"):
        Cluster(str(processes.place), workspace, MIB, patience_s=1)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            Member("far", clusters.__version__, sees=False),
            r"\(host far\) does not see .*; name a folder with --out that lies at the same path",
        ),
        (Member("far", "0.0.1", sees=True), r"has rsdata 0\.0\.1, and here it is .*; install the same"),
        (
            ModuleNotFoundError("No module named 'rsdata'"),
            r"cannot run rsdata \(ModuleNotFoundError: No module named 'rsdata'\); install rsdata",
        ),
    ],
)
def test_a_worker_that_cannot_do_the_work_is_named_with_the_reason(running, workspace, monkeypatch, answer, why):
    monkeypatch.setattr(Cluster, "_ask", lambda self, workers: dict.fromkeys(workers, answer))
    with pytest.raises(ClusterError, match=f"the Dask worker at tcp://127.0.0.1:[0-9]+ {why}"):
        Cluster(running, workspace, MIB)


def test_an_error_of_a_step_comes_back_as_it_was(running, workspace):
    with Cluster(running, workspace, MIB) as cluster, pytest.raises(SceneError, match="^B02 is cut short$"):
        cluster.run(refuse, "B02 is cut short")


# --- what is lost -------------------------------------------------------------------------------------------


def test_what_a_killed_worker_had_under_way_is_done_by_another(processes, workspace, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    processes.start_scheduler()
    first = processes.start_worker()
    processes.wait_for_workers(1)
    with Cluster(str(processes.place), workspace, MIB, patience_s=120) as cluster, ThreadPoolExecutor(1) as pool:
        call = pool.submit(cluster.run, marked, marks, "one", 2.0)
        assert comes((marks / "one").exists)
        first.kill()
        processes.start_worker()
        assert call.result(timeout=120) == 1


def test_a_step_that_ends_worker_after_worker_is_given_up(processes, workspace, monkeypatch):
    monkeypatch.setattr(clusters, "MOST_LOST", 1)
    processes.start_scheduler()
    processes.start_worker()
    processes.start_worker()
    processes.wait_for_workers(2)
    message = r"_exit ended 2 Dask workers, most likely for want of memory; start workers with a larger"
    with Cluster(str(processes.place), workspace, MIB, patience_s=30) as cluster, pytest.raises(ClusterError, match=message):
        cluster.run(os._exit, 1)


def test_a_cluster_that_stays_away_ends_the_build_in_a_sentence(processes, workspace, tmp_path):
    processes.start_scheduler()
    worker = processes.start_worker()
    processes.wait_for_workers(1)
    with Cluster(str(processes.place), workspace, MIB, patience_s=3) as cluster:
        worker.kill()
        with pytest.raises(ClusterError, match="has had no worker with room for a scene for 3 s; start workers and repeat the command"):
            cluster.run(abs, -1)
    processes.start_worker()
    processes.wait_for_workers(1)
    with Cluster(str(processes.place), workspace, MIB, patience_s=3) as cluster:
        processes.scheduler.kill()
        with pytest.raises(ClusterError, match="was lost and has not come back for 3 s; start it and repeat the command"):
            cluster.run(time.sleep, 1)


# --- whole builds -------------------------------------------------------------------------------------------


def contents(root: Path) -> dict[str, bytes]:
    """What a dataset is made of, beside the manifest and what tells how it was made."""
    kept = [root / "patches.parquet", root / "quality.parquet", root / "facts.parquet", root / "texts.parquet"]
    kept += [path for path in (root / "shards").rglob("*") if path.is_file() and path.name != "lock.mdb"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(kept)}


@contextmanager
def building(recipe: Path, out: Path, home: Path, dask: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "rsdata", "build", str(recipe), "--out", str(out), "--dask", str(dask)]
    stages = ("scenes", "patches", "labels", "quality", "splits", "captions", "shards")
    environment = os.environ | {"PREFECT_HOME": str(home), "CI": "true"}
    process = subprocess.Popen(
        [*command, *(part for stage in stages for part in ("--only", stage))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)


def test_a_build_that_loses_a_worker_and_its_scheduler_gives_the_bytes_of_a_local_one(processes, built, small_recipe, tmp_path):
    out = tmp_path / "dataset"
    processes.start_scheduler()
    worker = processes.start_worker()
    processes.wait_for_workers(1)
    with building(small_recipe, out, tmp_path / "prefect", processes.place) as build:
        assert comes(lambda: list(out.glob("receipts/scenes/*.json")) or build.poll() is not None)
        worker.kill()
        killed_worker_in_time = build.poll() is None
        processes.start_worker()
        assert comes(lambda: list(out.glob("receipts/labels/*.json")) or build.poll() is not None)
        processes.scheduler.kill()
        killed_scheduler_in_time = build.poll() is None
        processes.start_scheduler()
        processes.start_worker()
        said, _ = build.communicate(timeout=300)
    assert killed_worker_in_time and killed_scheduler_in_time
    assert build.returncode == 0, said
    assert "1 worker, 1 thread, 1.6 GB of memory; 1 scene at a time" in said
    assert contents(out) == contents(built.root)
