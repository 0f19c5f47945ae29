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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil


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
    """One kill: of what, in which stage, after how many lines of the log and how many seconds more."""

    what: str
    stage: str
    after_lines: int
    delay_s: float


@dataclass
class Round:
    """A build that was begun, killed and begun again until it was done."""

    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    left: list[str] = field(default_factory=list)  # processes that outlived a kill


def build_with_kills(
    recipe: Path,
    root: Path,
    home: Path,
    rng: np.random.Generator,
    most: int,
    more: Sequence[str] = (),
    lines: int = 8,
    seconds: float = 600,
) -> Round:
    """Build, killing up to ``most`` times, and go on until it is done.

    Args:
        lines: a kill comes after up to so many lines of the log that tell of something new.

    Raises: AssertionError if a run that nobody killed does not end well.
    """
    done, log = Round(), root / "build" / "log.jsonl"
    while True:
        done.runs += 1
        kill = Kill("worker" if rng.random() < 0.3 else "all", "", int(rng.integers(0, lines + 1)), float(rng.exponential(0.5)))
        if len(done.kills) >= most:
            result = subprocess.run(
                command(recipe, root, *more), capture_output=True, text=True, env=environment(home), timeout=seconds, check=False
            )
            assert result.returncode == 0, result.stderr[-3000:]
            return done
        known, begun = _news(log), _begins(log)
        with (root.parent / f"{root.name}.txt").open("w+") as said:
            process = subprocess.Popen(
                command(recipe, root, *more), stdout=said, stderr=said, env=environment(home), start_new_session=True
            )
            while process.poll() is None and (_begins(log) == begun or _news(log) < known + kill.after_lines):
                time.sleep(0.005)
            with suppress(subprocess.TimeoutExpired):
                process.wait(kill.delay_s)
            if process.poll() is None:
                kill.stage = _stage(log)
                if kill.what == "worker" and (worker := _worker(process.pid, rng)) is not None:
                    worker.kill()
                    done.kills.append(kill)
                    process.wait(seconds)
                else:
                    kill.what = "all"
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    done.kills.append(kill)
                    done.left += left_after(home)
                    continue
            said.seek(0)
            assert process.returncode == 0, said.read()[-3000:]
            return done


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def _news(log: Path) -> int:
    """How many lines tell of work that was done, and not of what was finished before."""
    return sum('"event": "done"' in line for line in _lines(log))


def _begins(log: Path) -> int:
    return sum('"event": "begin"' in line for line in _lines(log))


def _stage(log: Path) -> str:
    """The stage that the log told of last."""
    stages = [json.loads(line).get("stage") for line in _lines(log)]
    return next((stage for stage in reversed(stages) if stage), "inputs")


def _worker(pid: int, rng: np.random.Generator) -> psutil.Process | None:
    """One of a build's worker processes."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found[int(rng.integers(len(found)))] if found else None
