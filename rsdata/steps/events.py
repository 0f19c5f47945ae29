"""What happens in a build, told as it happens: to a terminal, to a log, to whoever asks how far it is."""

import os
import resource
import socket
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something a person may want to see: ``total`` units lie ahead in a stage, one is done, or what goes on."""

    stage: str
    unit: str | None = None
    total: int = 0
    skipped: bool = False
    seconds: float = 0.0
    failed: str | None = None  # what was wrong
    error: str = ""  # and the kind of it
    note: str | None = None
    bytes: int = 0  # of the files a unit made
    process: str = ""  # that worked on it: host and number
    peak_bytes: int = 0  # most memory that process ever held


on_event: ContextVar[Callable[[Event], None]] = ContextVar("on_event", default=lambda event: None)


@dataclass(frozen=True)
class Ran:
    """What a step returned, and by which process."""

    outcome: Any
    process: str
    peak_bytes: int


class Measured:
    """A step that also tells which process ran it and how much memory that process has held."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        self.__name__ = step.__name__

    def __call__(self, *arguments: Any) -> Ran:
        return Ran(self._step(*arguments), this_process(), peak_bytes())


def this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def peak_bytes() -> int:
    """Most memory this process has held so far.

    Linux hands the figure of ``getrusage`` down from the process that started this one, so its own is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
