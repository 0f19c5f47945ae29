"""Builds that are killed, stopped, or run out of disk: the same command goes on, and ends with the same bytes."""

import json
import os
import shutil
import signal
import subprocess

import killing
import numpy as np
import pytest
from killing import Course, build, build_with_kills, command, content, differing, left_after, running, wait_for
from typer.testing import CliRunner

from rsdata.commands import app
from rsdata.writing import is_leftover

UP_TO_CATALOG = [
    part for stage in ("scenes", "patches", "labels", "quality", "splits", "captions", "shards", "catalog") for part in ("--only", stage)
]


def test_a_build_killed_at_two_moments_ends_with_the_same_bytes_and_leaves_no_process(built, small_recipe, tmp_path):
    """`make check-kill` kills thirty times, in every stage."""
    root, home = tmp_path / "killed", tmp_path / "prefect"
    done = build_with_kills(small_recipe, root, home, np.random.default_rng(5), ("quality", "shards"), Course(built.root), UP_TO_CATALOG)
    assert done.kills
    assert done.left == []
    assert differing(content(root), content(built.root)) == []
    assert [path for path in root.rglob(".*") if is_leftover(path.name)] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_build_in_one_sentence_and_leaves_neither_process_nor_half_a_file(small_recipe, tmp_path, number, code):
    root, home = tmp_path / "stopped", tmp_path / "prefect"
    log = root / "build" / "log.jsonl"
    with running(command(small_recipe, root, *UP_TO_CATALOG), home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for("the first stage", lambda: log.exists() and '"stage": "scenes"' in log.read_text(), process, 240)
        os.killpg(process.pid, number)  # as a terminal and `timeout` do: everything in the group gets it
        _, said = process.communicate(timeout=90)  # 15 s on a machine with nothing else to do
    assert process.returncode == code, said
    assert said.splitlines()[-1] == "rsdata: stopped; the same command goes on from here"
    assert "Traceback" not in said
    assert left_after(home) == []
    assert [path for path in root.rglob(".*") if is_leftover(path.name)] == []
    state = json.loads(CliRunner().invoke(app, ["status", str(root), "--json"]).stdout)
    assert (state["outcome"], state["builder"]) == ("stopped", None)


def test_nothing_is_left_of_a_build_that_hangs(built, small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(killing, "command", lambda *_: ["sh", "-c", "sleep 600 & sleep 600"])
    root, home = tmp_path / "hung", tmp_path / "prefect"
    with pytest.raises(AssertionError, match=r"quality did not come within 0\.5 s"):
        build_with_kills(small_recipe, root, home, np.random.default_rng(0), ("quality",), Course(built.root), seconds=0.5)
    with pytest.raises(subprocess.TimeoutExpired):
        build(small_recipe, root, home, seconds=0.5)
    assert left_after(home, 10) == []


def _can_mount() -> bool:
    return shutil.which("unshare") is not None and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    ).returncode == 0  # fmt: skip


@pytest.mark.skipif(not _can_mount(), reason="mounting a small file system is not permitted here (unshare -rm mount)")
def test_a_full_disk_ends_a_build_in_one_sentence_and_with_room_it_goes_on_to_the_same_bytes(built, small_recipe, tmp_path):
    """A file system of 40 MB takes the scenes and their labels; once it has 200 MB, the same command does the rest."""
    root, script = tmp_path / "small" / "out", tmp_path / "run.sh"
    (tmp_path / "small").mkdir()
    build_it = " ".join(command(small_recipe, root, *UP_TO_CATALOG))
    script.write_text(
        f"mount -t tmpfs -o size=40m none {tmp_path}/small\n"
        f"RSDATA_SPACE_CHECK=0 {build_it} > {tmp_path}/full.txt 2>&1; echo $? > {tmp_path}/full\n"
        f"mount -o remount,size=200m {tmp_path}/small\n"
        f"{build_it} > {tmp_path}/roomy.txt 2>&1; echo $? > {tmp_path}/roomy\n"
        f"cp -a {root} {tmp_path}/kept\n"
    )
    with running(["unshare", "-rm", "sh", str(script)], tmp_path / "prefect") as process:
        assert process.wait(900) == 0
    assert [(tmp_path / name).read_text().strip() for name in ("full", "roomy")] == ["1", "0"], (tmp_path / "roomy.txt").read_text()
    full = (tmp_path / "full.txt").read_text()
    assert "the disk is full" in full
    assert "the same command again, what is finished is not done again" in full
    assert "Traceback" not in full
    assert differing(content(tmp_path / "kept"), content(built.root)) == []
