"""Builds that are killed: at moments drawn with a seed, the whole of them or a worker, and what must come out all the same."""

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from rsdata.records import STAGES


def environment(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    return os.environ | {"PREFECT_HOME": str(home), "CI": "true"}


def command(recipe: Path, root: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "rsdata", "build", str(recipe), "--out", str(root), "--workers", "2", *more]


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was started with this Prefect home, however it came about."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def left_after(home: Path, seconds: float = 15) -> list[str]:
    """Command lines of processes that are still there after some time."""
    end = time.monotonic() + seconds
    while (found := processes_of(home)) and time.monotonic() < end:
        time.sleep(0.1)
    said = []
    for process in found:
        with suppress(psutil.Error):
            said.append(" ".join(process.cmdline())[:200])
    return said


@contextmanager
def running(arguments: list[str], home: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program in a session of its own. If its test ends with an error, so does all that was started with its Prefect home."""
    process = subprocess.Popen(arguments, text=True, env=environment(home), start_new_session=True, **options)
    try:
        yield process
    except BaseException:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        for each in processes_of(home):
            with suppress(psutil.Error):
                each.kill()
        process.wait(60)
        raise


def wait_for(what: str, condition: Callable[[], object], process: subprocess.Popen[str], seconds: float) -> None:
    """Look until something holds, or the process has ended. Raises: AssertionError if neither comes in time."""
    end = time.monotonic() + seconds
    while process.poll() is None and not condition():
        assert time.monotonic() < end, f"{what} did not come within {seconds:g} s"
        time.sleep(0.005)


def content(root: Path) -> dict[str, str]:
    """Digest of every file of a build, without what tells of the work and of the place instead of the data.

    Left out are ``build/`` and logs for TensorBoard; of receipts, the time taken and the marks of inputs, which have the inputs'
    times of writing; of scenes as they were found, the same marks and where the products lie; of training, how long it took.
    """
    found = {}
    for path in sorted(item for item in root.rglob("*") if item.is_file()):
        name = path.relative_to(root).as_posix()
        if name.startswith("build/") or "/tensorboard/" in name:
            continue
        data = path.read_bytes()
        if name.startswith("receipts/") and path.suffix == ".json":
            receipt = json.loads(data)
            timed = receipt["stage"] in ("scenes", "training", "report")  # and so their outputs, which are compared below
            kept = [receipt["counts"], [] if timed else receipt["outputs"]]
            data = json.dumps(kept, sort_keys=True).encode()
        elif name == "report/index.html":
            data = re.sub(rb'<section id="(shards|training)">.*?</section>', b"", data, flags=re.S)  # how long the work took
        elif name.startswith("parts/scenes/"):
            pair = json.loads(data)
            for each in (pair, *pair["s1"]):
                for key in ("signature", "s2_path", "path"):
                    each.pop(key, None)
            data = json.dumps(pair, sort_keys=True).encode()
        elif name.startswith("training/") and path.name in ("metrics.json", "run.json"):
            data = b"\n".join(line for line in data.splitlines() if b'"seconds"' not in line)
        elif name.startswith("training/") and path.name == "log.csv":
            rows = list(csv.reader(data.decode().splitlines()))
            taken = [number for number, column in enumerate(rows[0]) if "second" in column]
            data = json.dumps([[cell for number, cell in enumerate(row) if number not in taken] for row in rows]).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@dataclass
class Kill:
    """One kill: of what, and which stage the build was at."""

    what: str
    stage: str


@dataclass
class Round:
    """A build that was begun, killed and begun again until it was done."""

    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    left: list[str] = field(default_factory=list)  # processes that outlived a kill


class Course:
    """How a build goes that nobody disturbs: units and seconds of every stage, by its receipts."""

    def __init__(self, undisturbed: Path) -> None:
        self.units: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        for stage in STAGES:
            if receipts := [json.loads(path.read_text()) for path in (undisturbed / "receipts" / stage).glob("*.json")]:
                self.units[stage], self.seconds[stage] = len(receipts), max(each["seconds"] for each in receipts)
        self.stages = list(self.units)

    def stage(self, root: Path) -> str:
        """The first stage of which not every unit has a receipt; the last if all have."""
        unfinished = (stage for stage, count in self.units.items() if len(list((root / "receipts" / stage).glob("*.json"))) < count)
        return next(unfinished, self.stages[-1])

    def is_at(self, root: Path, stage: str) -> bool:
        """Whether a build has come to a stage, or further."""
        return self.stages.index(self.stage(root)) >= self.stages.index(stage)


def build_with_kills(
    recipe: Path,
    root: Path,
    home: Path,
    rng: np.random.Generator,
    aims: Sequence[str],
    course: Course,
    more: Sequence[str] = (),
    seconds: float = 600,
) -> Round:
    """Build, and kill the build, or one of its workers, once in each of some stages; go on until it is done.

    Each kill comes at a moment drawn from the time its stage takes: a short stage may be over by then, and the next one is hit.

    Args:
        aims: stages to kill in, in their order.
        course: of the same build, undisturbed.

    Raises: AssertionError if a run that nobody killed, or that lost a worker only, does not end well; also if a stage, or the end,
        does not come within ``seconds``.
    """
    done, log = Round(), root / "build" / "log.jsonl"
    for aim in aims:
        done.runs += 1
        kill = Kill("worker" if rng.random() < 0.3 else "all", "")
        delay_s = float(rng.uniform(0, course.seconds[aim]))
        begun = _begins(log)
        with (
            (root.parent / f"{root.name}.txt").open("w+") as said,
            running(command(recipe, root, *more), home, stdout=said, stderr=said) as process,
        ):
            wait_for(aim, partial(_is_at, root, log, begun, aim, course), process, seconds)
            with suppress(subprocess.TimeoutExpired):
                process.wait(delay_s)
            if process.poll() is None:
                kill.stage = course.stage(root)
                done.kills.append(kill)
                if kill.what == "worker" and (worker := _worker(process.pid, rng)) is not None:
                    worker.kill()
                    process.wait(seconds)
                else:
                    kill.what = "all"
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(60)
                    done.left += left_after(home)
                    continue
            said.seek(0)
            assert process.returncode == 0, said.read()[-3000:]
            return done
    done.runs += 1
    build(recipe, root, home, more, seconds)
    return done


def build(recipe: Path, root: Path, home: Path, more: Sequence[str] = (), seconds: float = 600) -> None:
    """Build without disturbing; AssertionError if it does not end well, TimeoutExpired if not in time."""
    _to_the_end(command(recipe, root, *more), home, seconds)


def _to_the_end(arguments: list[str], home: Path, seconds: float) -> None:
    with running(arguments, home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=seconds)
        assert process.returncode == 0, said[-3000:]


def archive_with_a_kill(root: Path, out: Path, home: Path, rng: np.random.Generator, seconds: float = 1.0) -> list[str]:
    """Archive those files of a build that tell no time, killed at a moment of the first ``seconds`` and done again.

    Returns: processes left behind.
    """
    export = [sys.executable, "-m", "rsdata", "export", str(root), "--as", "archive", "--out", str(out), "--workers", "2"]
    for name in ("inputs", "parts", "receipts", "training", "report"):
        export += ["--leave-out", name]
    with running(export, home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for("the archive", lambda: list(out.parent.glob(f".{out.name}*")), process, 300)
        with suppress(subprocess.TimeoutExpired):
            process.wait(float(rng.uniform(0, seconds)))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    left = left_after(home)
    if not out.exists():
        _to_the_end(export, home, 600)
    return left


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def _begins(log: Path) -> int:
    return sum('"event": "begin"' in line for line in _lines(log))


def _is_at(root: Path, log: Path, begun: int, stage: str, course: Course) -> bool:
    return _tells_of(log, begun, stage) and course.is_at(root, stage)


def _tells_of(log: Path, begun: int, stage: str) -> bool:
    """Whether a run that began after ``begun`` others has told of a stage."""
    runs = 0
    for line in _lines(log):
        runs += '"event": "begin"' in line
        if runs > begun and f'"stage": "{stage}"' in line:
            return True
    return False


def _worker(pid: int, rng: np.random.Generator) -> psutil.Process | None:
    """One of a build's worker processes."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found[int(rng.integers(len(found)))] if found else None
