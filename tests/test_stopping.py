"""Who may be at work in a folder, and what becomes of work under way once a build ends, however it ends."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import write_recipe
from prefect.settings import PREFECT_API_URL
from typer.testing import CliRunner

from rsdata import steps
from rsdata.commands import app
from rsdata.errors import BuildFailed, DiskFull, Stopped, WorkerDied, WorkspaceBusy, WorkspaceError
from rsdata.flows import server as servers
from rsdata.flows import stopping as stops
from rsdata.flows.build_dataset import _build
from rsdata.flows.stopping import stopping
from rsdata.recipe import load_recipe
from rsdata.records import Failure
from rsdata.steps import builder
from rsdata.steps.events import Event
from rsdata.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "dataset")


# --- signals -----------------------------------------------------------------------------------------------


def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)


def test_who_catches_a_stop_goes_on_with_signals_as_before_and_is_not_ended_later(monkeypatch):
    ended: list[int] = []
    monkeypatch.setattr(stops, "PATIENCE_S", 0.05)
    monkeypatch.setattr(stops, "_end", ended.append)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stop, stopping(), stopping():
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.exit_code == 143
    time.sleep(0.15)
    assert ended == []
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(Stopped), stopping():  # and may be stopped again
        interrupted()


def test_the_command_line_is_ended_if_it_does_not_end_by_itself_and_only_then(monkeypatch):
    ended: list[int] = []
    monkeypatch.setattr(stops, "PATIENCE_S", 0.05)
    monkeypatch.setattr(stops, "_end", ended.append)
    with suppress(Stopped), stopping(ends_process=True):
        try:
            with stopping():
                interrupted()
        finally:
            interrupted()  # changes nothing, though the inner block is left
            time.sleep(0.15)
    assert ended == [signal.SIGINT]
    with suppress(Stopped), stopping(ends_process=True):
        interrupted()
    time.sleep(0.15)
    assert ended == [signal.SIGINT]


def test_a_command_that_is_asked_to_end_says_so_and_exits_as_shells_expect():
    code = "import signal; from rsdata.commands.stopped import *\nwith ending_when_stopped(): signal.raise_signal(signal.SIGTERM)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (said.returncode, said.stderr) == (143, "rsdata: stopped; the same command goes on from here\n")


# --- Prefect's server and home -----------------------------------------------------------------------------


def test_nothing_is_left_of_a_server_that_does_not_start_in_time(monkeypatch):
    begun: list[subprocess.Popen[bytes]] = []
    first = subprocess.Popen
    monkeypatch.setattr(servers.subprocess, "Popen", lambda *said, **more: begun.append(first(*said, **more)) or begun[-1])
    monkeypatch.setattr(servers, "_answers", lambda *_: False)
    with pytest.raises(WorkspaceError, match="Prefect's server did not start within"):
        servers._start()
    assert [process.returncode for process in begun] == [-signal.SIGKILL]


def test_a_server_serves_as_long_as_it_runs_and_then_another_is_started(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    ended: list[int] = []
    process = SimpleNamespace(poll=lambda: ended[0] if ended else None)
    monkeypatch.setattr(servers, "_running", [("http://first", process)])
    monkeypatch.setattr(servers, "_start", lambda: "http://second")
    for address in ("http://first", "http://second"):
        with servers.server():
            assert PREFECT_API_URL.value() == address
        ended.append(1)


def test_a_home_that_was_made_for_one_run_goes_with_it(tmp_path):
    (tmp_path / "no-folder").touch()
    code = "import rsdata.flows, os; home = os.environ['PREFECT_HOME']; print(os.path.isdir(home), home)"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_HOME"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "no-folder"), "TMPDIR": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True, env=environment)
    there, home = said.stdout.split()
    assert there == "True"
    assert Path(home).parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["no-folder"]


def test_children_forked_after_a_flow_ran_end_well(tmp_path):
    """As in a notebook that builds a dataset and then reads it through torch with worker processes."""
    (tmp_path / "notebook.py").write_text(
        "import rsdata.flows\n"
        "from multiprocessing import get_context\n"
        "from prefect import flow\n"
        "flow(lambda: None, name='nothing')()\n"
        "child = get_context('fork').Process(target=print, args=('worked',))\n"
        "child.start(), child.join(), print(child.exitcode)\n"
    )
    said = subprocess.run([sys.executable, tmp_path / "notebook.py"], capture_output=True, text=True, timeout=300, check=True)
    assert said.stdout.split() == ["worked", "0"]


# --- local workers -----------------------------------------------------------------------------------------


def test_workers_begin_nothing_once_their_build_has_ended(monkeypatch):
    begun: list[int] = []
    first = steps.LocalWorkers._begin
    monkeypatch.setattr(steps.LocalWorkers, "_begin", lambda self, count: begun.append(count) or first(self, count))
    with pytest.raises(DiskFull), steps.LocalWorkers(2) as workers:
        raise DiskFull("no room")

    class Broken:
        def submit(self, *arguments: object) -> None:
            raise BrokenProcessPool("its processes were ended")

    workers._pool = Broken()  # type: ignore[assignment]
    for send in (lambda: workers.submit(abs, -1), lambda: workers.run_alone(abs, (-1,))):
        with pytest.raises(WorkerDied, match="the build was stopped while this was under way; the same command does it"):
            send()
    assert begun == [2]


def test_an_error_waits_for_the_thread_that_is_at_work_and_a_signal_does_not():
    done, begun, go = [], threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        go.wait(30)
        done.append("step")

    with pytest.raises(DiskFull), steps.LocalWorkers(1) as workers:
        workers.submit(step)
        assert begun.wait(30)
        threading.Timer(0.2, go.set).start()
        raise DiskFull("no room")
    assert done == ["step"]
    go.clear(), begun.clear()
    with pytest.raises(Stopped), steps.LocalWorkers(1) as workers:
        workers.submit(step)
        assert begun.wait(30)
        raise Stopped(signal.SIGINT)
    assert done == ["step"]
    go.set()


# --- the lock ----------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from rsdata import steps
for line in sys.stdin:
    how, root = line.rstrip().split(" ", 1)
    workspace = steps.Workspace(Path(root))
    with steps.building(workspace, "held", 2, lambda event: None) if how == "building" else getattr(steps, how)(workspace):
        print("held", flush=True)
        sys.stdin.readline()
    print("left", flush=True)
"""


class Holder:
    """Another process, which holds the locks of folders."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    @contextmanager
    def holding(self, how: str, workspace: Workspace) -> Iterator[None]:
        self._say(f"{how} {workspace.root}", "held")
        try:
            yield
        finally:
            if self._process.poll() is None:
                self._say("leave", "left")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str, answer: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"{answer}\n"


@pytest.fixture(scope="module")
def holder() -> Iterator[Holder]:
    other = Holder()
    yield other
    other.kill()


def is_refused(take: Callable[[], object], by: str) -> bool:
    with pytest.raises(WorkspaceBusy, match=rf"is in use by {by}.*; wait for it, stop it, or work in another folder"):
        take()
    return True


def take(how: str, workspace: Workspace) -> None:
    held = steps.building(workspace, "mine", 1, lambda event: None) if how == "building" else getattr(steps, how)(workspace)
    with held:
        pass


def test_builds_and_changes_are_alone_and_readers_keep_only_those_out(workspace, holder, monkeypatch):
    monkeypatch.setattr(builder, "_PATIENCE_S", 0.0)
    for held, refused in (("building", 3), ("changing", 3), ("reading", 2)):
        with holder.holding(held, workspace):
            who = "another process" if held == "reading" else f"process {holder.pid} on .* since .* UTC"
            hows = ("building", "changing", "reading")
            assert all(is_refused(lambda how=how: take(how, workspace), who) for how in hows[:refused])
            for how in hows[refused:]:
                take(how, workspace)
    for how in ("building", "changing", "reading"):
        take(how, workspace)


def test_a_build_that_was_cut_off_is_still_told_as_such_after_captions_were_written(workspace):
    other = Holder()
    with other.holding("building", workspace):
        other.kill()
    take("changing", workspace)
    events: list[Event] = []
    with steps.building(workspace, "next", 1, events.append):
        assert f"the build of process {other.pid}" in (events[0].note or "")


@pytest.mark.parametrize("verb", ["caption", "report", "train"])
def test_verbs_that_write_into_a_dataset_wait_for_its_build(built, holder, tmp_path, monkeypatch, verb):
    monkeypatch.setattr(builder, "_PATIENCE_S", 0.0)
    workspace = Workspace.create(tmp_path / "copy")
    for path in (built.recipe, built.manifest):
        (workspace.root / path.name).write_bytes(path.read_bytes())
    with holder.holding("building", workspace):
        said = CliRunner().invoke(app, [verb, str(workspace.root)])
    assert isinstance(said.exception, WorkspaceBusy)
    assert f"is in use by process {holder.pid}" in str(said.exception)


def test_a_disk_that_is_full_when_a_build_begins_is_told_in_a_sentence(workspace, monkeypatch):
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(builder.os, "fsync", full)
    with pytest.raises(DiskFull, match=r"build/lock cannot be written: the disk is full, .* make room and run the same command again"):
        take("building", workspace)
    monkeypatch.undo()
    workspace.build_lock.unlink()
    workspace.build_lock.parent.rmdir()
    workspace.build_lock.parent.touch()  # no folder
    for how in ("building", "changing"):
        with pytest.raises(WorkspaceError, match=r"build/lock cannot be written: (File exists|Not a directory)"):
            take(how, workspace)
    take("reading", workspace)  # where there is no lock there is no build


def test_room_is_asked_for_only_if_pixels_are_to_be_written(built, small_recipe, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 4096, 4096))
    recipe = load_recipe(small_recipe)
    for wanted in ("scenes", "shards", "series"):
        with pytest.raises(DiskFull, match="make room, name another folder with --out"):
            _build(recipe, built, 1, None, (wanted,), lambda event: None)
    assert _build(recipe, built, 1, None, ("correct",), lambda event: None) == built.manifest


# --- what is told ------------------------------------------------------------------------------------------


def test_failures_are_kept_in_the_state_of_a_build_whatever_ends_it(workspace):
    bad = Failure(stage="scenes", unit="S2A_x.SAFE", error="SceneError", message="x is cut short; fetch it again")
    for end in (BuildFailed("1 of 2 could not be used", failures=[bad]), DiskFull("no room"), KeyboardInterrupt()):
        with pytest.raises(type(end)), steps.building(workspace, "told", 1, lambda event: None) as tell:
            tell(steps.event_of_failure(bad, total=1))
            tell(Event("scenes", total=1))
            raise end
        state = steps.read_state(workspace)
        assert state is not None
        assert state.failures == [bad]
        assert [(each.stage, each.total, each.failed) for each in state.stages] == [("scenes", 2, 1)]


def test_a_product_that_cannot_be_opened_is_told_and_logged(workspace, tmp_path):
    """Neither of two is a product; the build ends before it does anything."""
    for name in ("S2A_one.SAFE", "S2A_two.SAFE"):
        (tmp_path / "scenes" / name).mkdir(parents=True)
    (tmp_path / "clc.gpkg").touch()
    said = {"name": "broken", "scenes": {"sentinel2": ["scenes/*.SAFE"]}, "labels": {"path": "clc.gpkg"}}
    recipe, events = load_recipe(write_recipe(tmp_path, said)), []
    with pytest.raises(BuildFailed) as failed, steps.building(workspace, "broken", 1, events.append) as tell:
        _build(recipe, workspace, 1, None, ("scenes",), tell)
    told = [Failure(stage=each.stage, unit=each.unit, error=each.error, message=each.failed) for each in events if each.failed]
    assert [each.unit for each in told] == ["S2A_one.SAFE", "S2A_two.SAFE"]
    assert told == failed.value.context["failures"]
    lines = [json.loads(line) for line in workspace.build_log.read_text().splitlines()]
    assert [(line["unit"], line["error"]) for line in lines if line["event"] == "failed"] == [(each.unit, each.error) for each in told]
