"""sen2cor as a process that ends: at its own end, at its time limit, or with us, and with all that it started."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rsdata.errors import CorrectionError
from rsdata.recipe import Sen2cor
from rsdata.scenes.sen2cor.program import PROGRAM, Program

_DEM_LINE = re.compile(
    r"^.*\bDEM\b.*(?:not found|not exist|missing|no such|cannot|could not|not available|error|fail).*$", re.IGNORECASE | re.MULTILINE
)
_USAGE_EXIT = 2  # of a program that does not understand its command line

# Runs the program in a process group of its own and waits for it. Its standard input is a pipe that we hold: once we are
# gone, however that came, the pipe ends and the whole group is killed.
_KEEPER = """
import os, signal, subprocess, sys, threading
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 128 - code)
"""

_running: dict[int, Path] = {}  # process groups, and the scratch folder of each
_running_lock = threading.Lock()
_stops: list[Path] = []  # folders below which all runs were ended, in the order of that


def stops() -> int:
    """How often runs were ended so far."""
    return len(_stops)


def stopped(scratch: Path, began: int) -> bool:
    """Whether runs at this place were ended after ``stops`` said ``began``; what began before starts no program any more."""
    return any(scratch.is_relative_to(folder) for folder in _stops[began:])


def stop_all(folder: Path) -> None:
    """End every sen2cor that this process runs below a folder, and let corrections that are under way there start no other."""
    with _running_lock:
        _stops.append(folder)
        for group, scratch in _running.items():
            if scratch.is_relative_to(folder):
                _kill(group)


def run(command: Sequence[str], program: Program, options: Sen2cor, scratch: Path, log: Path, began: int) -> None:
    """Run sen2cor to its end or to ours; nothing it started outlives this call.

    Args:
        began: what ``stops`` said when this correction began.

    Raises: CorrectionError if it ran out of time or did not end well; ``again`` in its context tells if trying once more may help.
    """
    folders = {"SEN2COR_HOME": options.home, "SEN2COR_BIN": options.tables}
    environment = {**os.environ, **{name: folder for name, folder in folders.items() if folder}}
    before = log.stat().st_size
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, *command],
            stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT, cwd=scratch, env=environment, start_new_session=True,
        )  # fmt: skip
        with _running_lock:
            _running[process.pid] = scratch
            if stopped(scratch, began):
                _kill(process.pid)
        try:
            code = process.wait(timeout=options.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise CorrectionError(
                f"{program} did not end within {options.timeout_s:,.0f} s; it was stopped with all it had started, "
                "so raise the limit (--timeout, `sen2cor.timeout_s`) if it was still at work",
                again=True,
                timeout_s=options.timeout_s,
            ) from error
        finally:
            _kill(process.pid)
            process.wait()
            with _running_lock:
                del _running[process.pid]
            if process.stdin is not None:
                process.stdin.close()
    if code == 0:
        return
    if stopped(scratch, began):
        raise CorrectionError(f"{program} was stopped, as all that ran beside it; the same command begins this product again")
    code = 128 - code if code < 0 else code  # the keeper itself was killed
    printed = log.read_bytes()[before:].decode(errors="replace")
    if dem := _DEM_LINE.search(printed):
        raise CorrectionError(
            f"{program} stopped for want of a DEM ({dem.group().strip()[:200]}); put the tile into the DEM folder, "
            "or leave `dem` out to correct without terrain",
            exit_code=code,
        )
    last = next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "it printed nothing")
    if code == _USAGE_EXIT:
        raise CorrectionError(f"{program} does not understand its command line ({last[:200]}); see `{PROGRAM} --help`", exit_code=code)
    how = f"was killed by {_signal_name(code - 128)}" if code > 128 else f"ended with exit code {code}"
    remedy = "it may lack memory (8 GB a scene), so try with fewer at a time" if code - 128 == signal.SIGKILL else "its log says more"
    raise CorrectionError(f"{program} {how} ({last[:200]}); {remedy}", exit_code=code, again=True)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
