"""What keeps a build whole: locks, receipts, leftovers, workers that die, servers that fail; and the same bytes in whatever order."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, run_steps, write_recipe
from killing import content, differing
from servers import Fault, FileServer, Served
from typer.testing import CliRunner

from rsdata import steps
from rsdata.commands import app
from rsdata.commands.console import reason_and_remedy
from rsdata.errors import DiskFull, DownloadError, WorkerDied, WorkspaceBusy, WorkspaceError
from rsdata.recipe import load_recipe
from rsdata.steps import captioning
from rsdata.steps.events import Event, Measured, peak_bytes
from rsdata.steps.fetching import fetch_url
from rsdata.steps.receipts import once
from rsdata.steps.space import space_needed
from rsdata.workspace import Workspace
from rsdata.writing import is_full, remove_leftovers, writing, writing_folder

# --- files and receipts ------------------------------------------------------------------------------------


def test_a_unit_that_is_cut_off_while_it_is_redone_is_not_taken_for_done_by_its_old_receipt(tmp_path):
    """Both versions of the file have the same size, which alone is compared when a receipt is read."""
    workspace = Workspace.create(tmp_path)
    path = workspace.part("labels", "a", ".npy")

    def work(text: str, dies: bool = False):
        def write():
            with writing(path) as aside:
                aside.write_text(text)
            if dies:
                raise KeyboardInterrupt
            return [path], {}

        return write

    once("labels", "a", workspace, {"recipe": "1"}, work("old"))
    with pytest.raises(KeyboardInterrupt):
        once("labels", "a", workspace, {"recipe": "2"}, work("new", dies=True))
    assert not once("labels", "a", workspace, {"recipe": "1"}, work("old")).skipped
    assert path.read_text() == "old"


FULL = [OSError(28, "No space left on device"), OSError(122, "Disk quota exceeded"), RuntimeError("x: No space left on device")]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_told_as_such_however_a_library_says_it(tmp_path, error):
    said = r"cannot be written: the disk is full, [\d,]+ MB are free; make room and run the same command again"
    with pytest.raises(DiskFull, match=rf"x.bin {said}"), writing(tmp_path / "x.bin") as aside:
        aside.write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []

    def work():
        raise error

    with pytest.raises(DiskFull, match=said):
        once("labels", "a", Workspace(tmp_path), {}, work)
    assert not is_full(OSError(13, "Permission denied"))


def test_an_input_output_error_is_put_down_to_the_disk_if_it_has_no_room(tmp_path, monkeypatch):
    """LMDB calls a write that was cut short by a full disk an input/output error."""
    error = OSError("mdb_txn_commit: Input/output error")
    with pytest.raises(WorkspaceError, match="Input/output error") as told, writing(tmp_path / "x.bin"):
        raise error
    assert not isinstance(told.value, DiskFull)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**8, 10**8 - 4096, 4096))
    with pytest.raises(DiskFull, match="the disk is full, 0 MB are free"), writing(tmp_path / "x.bin"):
        raise error


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    with writing_folder(tmp_path / "a" / "mine") as mine:
        (mine / "half").touch()
        (dead := mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-4194305-"))).mkdir()
        (dead / "half").touch()
        foreign = mine.with_name(".theirs.0123abcd-7-0123abcd.part")
        foreign.touch()
        assert remove_leftovers(tmp_path) == 1
        assert not dead.exists()
        assert foreign.exists()
        os.utime(foreign, (time.time() - 90_000,) * 2)
        assert remove_leftovers(tmp_path) == 1
        assert (mine / "half").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def test_what_a_killed_worker_left_is_gone_when_the_build_is_done(tmp_path):
    worker = f"""
import os
from pathlib import Path
from rsdata.writing import writing
with writing(Path({str(tmp_path / "file")!r})) as aside:
    aside.write_text("half")
    os.kill(os.getpid(), 9)
"""
    with steps.building(Workspace.create(tmp_path), "left", 2, lambda event: None):
        subprocess.run([sys.executable, "-c", worker], check=False)
        assert len(list(tmp_path.glob(".file.*.part"))) == 1
    assert list(tmp_path.glob(".file*")) == []


def test_space_is_foreseen_by_hand_counted_bytes(built, small_recipe, tmp_path, monkeypatch):
    """A patch has 4 bands of 120², 6 of 60² and 2 of 20² at 2 bytes, 2 of 120² at 4, and a map of 120² at 2: 304,000 bytes."""
    recipe = load_recipe(small_recipe)
    pairs = steps.find_scenes(recipe, built).pairs
    pixels, maps = 2 * 3 * 18 * 304_000, 2 * 360 * 2160 * 2
    assert space_needed(pairs, recipe, Workspace(tmp_path)) == 2 * pixels + maps
    assert space_needed(pairs, recipe, built) == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**8, 10**8))
    with pytest.raises(DiskFull, match="has 100 MB free, and the build needs about 69 MB more and 67 MB to spare; make room"):
        steps.check_space(pairs, recipe, Workspace(tmp_path))
    monkeypatch.setenv("RSDATA_SPACE_CHECK", "0")
    steps.check_space(pairs, recipe, Workspace(tmp_path))


# --- the lock and the journal ------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from rsdata import steps
with steps.building(steps.Workspace(Path(sys.argv[1])), "held", 2, lambda event: None) as tell:
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_holder_and_the_next_build_says_whose_work_it_goes_on_with(tmp_path):
    workspace = Workspace.create(tmp_path)
    (tmp_path / "receipts").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        holder = steps.builder_of(workspace)
        assert holder is not None
        assert holder.pid == process.pid
        assert CliRunner().invoke(app, ["status", str(tmp_path)]).exit_code == 0
        busy = pytest.raises(WorkspaceBusy, match=rf"is in use by process {process.pid} on .* since .* UTC; wait for it")
        with busy, steps.building(workspace, "second", 1, lambda event: None):
            pass
        process.kill()
    assert steps.builder_of(workspace) is None
    status = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert status.exit_code == 1
    assert f"the build of process {process.pid}" in status.stdout
    assert "was cut off" in status.stdout
    events: list[Event] = []
    with steps.building(workspace, "third", 1, events.append):
        pass
    assert events[0].note is not None
    assert f"process {process.pid}" in events[0].note
    with steps.building(workspace, "fourth", 1, events.append):
        assert len(events) == 1  # the third gave it back, so there is nothing to say


def test_the_journal_counts_units_bytes_and_memory_by_stage_and_tells_how_it_ended(tmp_path):
    workspace = Workspace.create(tmp_path)
    (tmp_path / "receipts" / "scenes").mkdir(parents=True)
    with pytest.raises(WorkspaceError), steps.building(workspace, "counted", 2, lambda event: None) as tell:
        tell(Event("scenes", total=3))
        tell(Event("scenes", "a", seconds=1.5, bytes=10, process="h:1", peak_bytes=100))
        tell(Event("scenes", "b", skipped=True, process="h:2", peak_bytes=300))
        tell(Event("scenes", "c", failed="c is bad; leave it out"))
        raise WorkspaceError("it went wrong")
    state = steps.read_state(workspace)
    assert state is not None
    (stage,) = state.stages
    assert (stage.total, stage.done, stage.skipped, stage.failed, stage.seconds, stage.bytes, stage.peak_bytes) == (
        3,
        1,
        1,
        1,
        1.5,
        10,
        300,
    )
    assert (state.outcome, state.reason) == ("failed", "it went wrong")
    assert {each.process: each.peak_bytes for each in state.processes}["h:1"] == 100
    lines = [json.loads(line) for line in workspace.build_log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["begin", "stage", "done", "skipped", "failed", "end"]
    assert all(line["time"].endswith("+00:00") for line in lines)
    shown = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert shown.exit_code == 1
    assert "counted: failed" in shown.stdout


def test_the_remedy_is_what_a_message_says_last():
    assert reason_and_remedy("a is cut short; b was expected; fetch it again") == ("a is cut short; b was expected", "fetch it again")
    for message in ("a is bad", "a is bad; expected b"):
        reason, remedy = reason_and_remedy(message)
        assert reason == message and remedy.startswith("repeat the command")
    assert reason_and_remedy("a is bad; expected b, so fetch it again") == ("a is bad", "expected b, so fetch it again")


def test_peak_memory_is_that_of_the_process_that_did_the_work(tmp_path):
    with steps.LocalWorkers(2) as workers:
        ran = workers.submit(Measured(_take), 200_000_000).result()
    assert 200e6 < ran.peak_bytes < 200e6 + 600e6
    assert not ran.process.endswith(f":{os.getpid()}")
    assert peak_bytes() > 0


def _take(count: int) -> int:
    return int(np.ones(count, np.uint8).sum())


# --- workers that die --------------------------------------------------------------------------------------


def _die_once(mark: Path) -> int:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wait_and_say(number: int) -> int:
    time.sleep(0.2)
    return number


def test_work_in_hand_when_a_worker_is_killed_is_done_again_and_what_kills_every_worker_fails_alone(tmp_path):
    with steps.LocalWorkers(2) as workers:
        calls = [workers.submit(_wait_and_say, number) for number in range(4)]
        once_only, always = workers.submit(_die_once, tmp_path / "mark"), workers.submit(_die)
        assert [call.result() for call in calls] == [0, 1, 2, 3]
        assert once_only.result() == 7
        with pytest.raises(WorkerDied, match="ended from outside three times, most likely for want of memory; give the machine more"):
            always.result()
        assert workers.submit(_wait_and_say, 9).result() == 9


# --- servers that fail -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_an_input_comes_whole_from_a_server_that_fails_a_fifth_of_requests_and_cuts_others_half_way(tmp_path, seed):
    from rsdata.scenes import remote

    rng = np.random.default_rng(seed)
    data = rng.bytes(3_000_000)

    def fault() -> Fault:
        drawn = rng.random()
        return Fault(status=503) if drawn < 0.2 else Fault(cut_after=int(rng.integers(1, 1_500_000))) if drawn < 0.7 else Fault()

    workspace = Workspace.create(tmp_path)
    with FileServer() as server, remote.Session(backoff_s=0.001) as session:
        server.files["/clc.gpkg"] = Served(data)
        server.faults = [Fault(status=503), Fault(cut_after=1_500_000), *(fault() for _ in range(60))]
        for _ in range(5):  # the same command again, should it have lost patience
            with suppress(DownloadError):
                outcome = fetch_url(f"{server.url}/clc.gpkg", workspace, session)
                break
    (made,) = outcome.receipt.outputs
    assert (workspace.root / made.path).read_bytes() == data
    assert server.sent("/clc.gpkg") < 2 * len(data)  # it goes on from the byte it had


# --- the same bytes, however it is done --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_results_do_not_depend_on_workers_order_of_scenes_portions_or_where_it_was_cut_off(
    built, small_recipe, tmp_path, monkeypatch, seed
):
    """Drawn with a seed: order of scenes, size of portions, number of workers, and after which of the steps receipts are lost."""
    rng = np.random.default_rng(seed)
    copy = Workspace(Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2)))
    monkeypatch.setattr(captioning, "_PORTION", int(rng.integers(1, 40)))
    monkeypatch.setattr(captioning, "_SHARED_OUT", int(rng.integers(1, 40)))
    monkeypatch.setattr(captioning, "WORTH_SHARING", 0)
    for stage in ("scenes", "patches", "labels", "quality", "splits", "captions", "shards", "catalog"):
        for receipt in sorted((copy.root / "receipts" / stage).glob("*.json")):
            receipt.unlink() if stage == "captions" or rng.random() < 0.5 else None
    recipe, workers = load_recipe(small_recipe), int(rng.integers(1, 3))
    found = steps.find_scenes(recipe, copy)
    pairs = [found.pairs[index] for index in rng.permutation(len(found.pairs))]
    with steps.LocalWorkers(workers) as pool:
        for step in (steps.register_scene, steps.cut_scene, steps.label_scene, steps.assess_scene):
            calls = [pool.submit(step, pair if step is steps.register_scene else pair.unit, recipe, copy) for pair in pairs]
            [call.result() for call in calls]
    units = [pair.unit for pair in found.pairs]
    shuffled = [pair.unit for pair in pairs]
    steps.assign_splits(shuffled, recipe, copy)
    steps.caption_patches(recipe, copy, workers=workers)
    steps.pack_shards(shuffled, recipe, copy)
    steps.write_manifest(units, found.failures, recipe, copy)
    assert [name for name in differing(content(copy.root), content(built.root)) if not name.startswith("receipts/")] == []


def test_shards_of_scenes_that_are_finished_are_not_made_again_when_packing_was_cut_off(built, tmp_path):
    copy = Path(shutil.copytree(built.root, tmp_path / "copy", copy_function=shutil.copy2))
    recipe = write_recipe(tmp_path, SMALL | {"shards": {"per_scene": True}, "training": None})
    workspace, _ = run_steps(recipe, copy)
    folder = workspace.shards("lmdb")
    first, second = sorted(path for path in folder.iterdir() if path.is_dir())
    before = content(copy)
    written = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    (copy / "receipts" / "shards" / "lmdb.json").unlink()
    (copy / "receipts" / "shards" / f"lmdb-{second.name}.json").unlink()
    shutil.rmtree(second)
    run_steps(recipe, copy)
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == written
    assert differing(content(copy), before) == []
    assert all(len(one.name) == len(other.name) for one, other in pairwise([first, second]))
