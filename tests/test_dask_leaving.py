"""A build on a Dask cluster that ends before its work is done, and workers that come late: nothing runs on unseen or goes unsaid."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import comes

from rsdata.errors import ClusterError, DiskFull, Stopped, WorkerDied
from rsdata.workspace import Workspace

distributed = pytest.importorskip("distributed")
from rsdata.steps import cluster as clusters  # noqa: E402
from rsdata.steps.cluster import Cluster, Member  # noqa: E402

MIB = 2**20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster within this process: two workers with a thread each."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as local:
        yield local.scheduler_address


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "dataset")


def counted(folder: Path, seconds: float) -> None:
    """A step that leaves a file when it begins, and another when it ends."""
    name = f"{time.time_ns()}"
    (folder / f"{name}.begun").touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (folder / "go").exists():
        time.sleep(0.02)
    (folder / f"{name}.ended").touch()


class Asker(threading.Thread):
    """Asks for a step as a task of a build does."""

    def __init__(self, cluster: Cluster, folder: Path, seconds: float) -> None:
        super().__init__(daemon=True)
        self._call, self.error = cluster.submit(counted, folder, seconds), None  # type: BaseException | None
        self.start()

    def run(self) -> None:
        try:
            self._call.result()
        except BaseException as error:
            self.error = error


def count(folder: Path, suffix: str) -> int:
    return len(list(folder.glob(f"*.{suffix}")))


def test_an_error_waits_for_what_is_under_way_on_the_cluster_and_sends_nothing_more(running, workspace, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    askers: list[Asker] = []
    with pytest.raises(DiskFull), Cluster(running, workspace, MIB) as cluster:
        askers += [Asker(cluster, marks, 1.0) for _ in range(5)]
        assert comes(lambda: count(marks, "begun") == 2)
        raise DiskFull("no room")
    assert (count(marks, "begun"), count(marks, "ended")) == (2, 2)  # the lock may go
    for asker in askers:
        asker.join(30)
        assert not asker.is_alive()
    refused = [asker.error for asker in askers if asker.error is not None]
    assert len(refused) == 3
    assert all(isinstance(error, WorkerDied) and "the build was stopped while this was under way" in str(error) for error in refused)
    assert count(marks, "begun") == 2


def test_a_signal_waits_a_moment_only_and_nobody_waits_on_or_connects_again(running, workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_LAST_LOOK_S", 0.2)
    marks = tmp_path / "marks"
    marks.mkdir()
    with pytest.raises(Stopped), Cluster(running, workspace, MIB) as cluster:
        asker = Asker(cluster, marks, 60.0)
        assert comes(lambda: count(marks, "begun") == 1)
        raise Stopped(signal.SIGTERM)
    asker.join(30)
    assert not asker.is_alive()
    assert isinstance(asker.error, WorkerDied)
    assert count(marks, "begun") == 1
    (marks / "go").touch()
    assert comes(lambda: count(marks, "ended") == 1)


def test_a_worker_that_comes_late_and_cannot_do_the_work_is_told_once_and_one_that_gave_no_answer_is_asked_again(
    running, workspace, monkeypatch
):
    notes: list[str] = []
    able = Member("near", clusters.__version__, sees=True)
    answers: dict[int, object] = {0: TimeoutError("timed out"), 1: Member("far", "0.0.1", sees=True)}
    asked: list[str] = []

    def ask(self: Cluster, workers: list[str]) -> dict[str, object]:
        asked.extend(workers)
        return {name: answers.get(names.index(name), able) if name in names else able for name in workers}

    names: list[str] = []
    monkeypatch.setattr(Cluster, "_ask", ask)
    monkeypatch.setattr(clusters, "_LOOK_S", 0.0)
    monkeypatch.setattr(clusters, "_ASK_AGAIN_S", 0.1)
    with Cluster(running, workspace, MIB, note=notes.append) as cluster:
        names += sorted(cluster._members)
        asked.clear()
        cluster._members = {}  # as if both had joined now
        cluster._look()
        assert cluster._members == {}
        assert len(notes) == 2
        assert any(f"{names[0]} cannot run rsdata (TimeoutError: timed out)" in note for note in notes)
        assert any(f"{names[1]} has rsdata 0.0.1" in note for note in notes)
        time.sleep(0.15)
        cluster._look()
        assert asked == [*names, names[0]] or (sorted(asked[:2]) == names and asked[2:] == [names[0]])
        answers.clear()
        time.sleep(0.15)
        cluster._look()
        assert list(cluster._members) == [names[0]]
        assert len(notes) == 2


def test_a_full_disk_met_while_workers_are_asked_is_told(running, workspace, monkeypatch):
    def full(self: Cluster, workers: list[str]) -> dict[str, object]:
        raise DiskFull("no room for a probe")

    with Cluster(running, workspace, MIB) as cluster:
        monkeypatch.setattr(Cluster, "_ask", full)
        monkeypatch.setattr(clusters, "_LOOK_S", 0.0)
        cluster._members = {}
        with pytest.raises(DiskFull, match="no room for a probe"):
            cluster._look()


def test_what_cannot_be_sent_is_told_with_its_cause(running, workspace, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("the graph is too large")

    with Cluster(running, workspace, MIB) as cluster:
        monkeypatch.setattr(cluster.client, "submit", refuse)
        with pytest.raises(ClusterError, match=r"^abs was lost 4 times on .* \(RuntimeError: the graph is too large\); see what its"):
            cluster.run(abs, -1)


def test_a_result_that_takes_long_to_arrive_is_waited_for_while_its_worker_is_there(running, workspace, tmp_path, monkeypatch):
    late = iter([TimeoutError("10 s"), TimeoutError("10 s")])
    first = distributed.Future.result

    def result(self: object, timeout: float | None = None) -> object:
        for error in late:
            raise error
        return first(self, timeout)

    marks = tmp_path / "marks"
    marks.mkdir()
    with Cluster(running, workspace, MIB) as cluster:
        monkeypatch.setattr(distributed.Future, "result", result)
        cluster.run(counted, marks, 0.0)
    assert count(marks, "begun") == 1
