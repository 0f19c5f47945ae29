"""Prefect's server for as long as this process lives: it ends with it, however that comes.

Prefect's own temporary server is ended when Python exits, and outlives a process that is killed. This one hangs on a
pipe that this process holds: once the pipe breaks, the server is killed with all that it started. It belongs to a session
of its own, so that Ctrl-C reaches the build first.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import prefect
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, get_current_settings, temporary_settings

from rsdata.errors import WorkspaceError

_KEEPER = """
import os, signal, subprocess, sys, threading
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
os._exit(subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL).wait() & 0xff)
"""
_APPLICATION = "prefect.server.api.server:create_app"


@contextmanager
def server() -> Iterator[None]:
    """Have flows talk to the server that PREFECT_API_URL names, else to one of this process."""
    if PREFECT_API_URL.value():
        yield
        return
    running = (address for address, process in _running if process.poll() is None)
    with temporary_settings({PREFECT_API_URL: next(running, None) or _start()}):
        yield


def _start() -> str:
    """Start a server and wait until it answers; its address. It serves this process to its end.

    Raises: WorkspaceError if it does not start, and none is left of it.
    """
    patience_s = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent), "--factory", _APPLICATION,
        "--host", "127.0.0.1", "--port", str(port), "--log-level", "critical", "--lifespan", "on",
    ]  # fmt: skip
    own = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    environment = {**os.environ, **own, **get_current_settings().to_environment_variables(exclude_unset=True)}
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _KEEPER, *command], stdin=subprocess.PIPE, env=environment, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}/api"
    if _answers(address, process, patience_s):
        _running.append((address, process))
        return address
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    home = Path(os.environ["PREFECT_HOME"])
    raise WorkspaceError(
        f"Prefect's server did not start within {patience_s:.0f} s; see that {home} can be written and has room, or name another "
        "folder in PREFECT_HOME",
        path=str(home),
    )


def _answers(address: str, process: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Wait for the first answer of a server; False if it ends before, or patience does."""
    end = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
                if answer.status == 200:
                    return True
        except OSError:
            time.sleep(0.1)
    return False


_running: list[tuple[str, subprocess.Popen[bytes]]] = []  # servers by address; the pipe of each lives as long as this list
