"""SIGTERM and Ctrl-C end a build in good order, and soon.

Prefect takes SIGTERM for itself and ends in a traceback; within a flow it is turned into an exception like that of Ctrl-C.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from rsdata.errors import Stopped

PATIENCE_S = 15.0  # for files to be put away and processes to end, before this one ends without waiting for them


@dataclass
class _Watch:
    """What the outermost ``stopping`` and those within it share."""

    ends_process: bool
    stopped: bool = False
    last: threading.Timer | None = None


_watch: _Watch | None = None  # of the main thread


@contextmanager
def stopping(ends_process: bool = False) -> Iterator[None]:
    """Raise ``Stopped`` when a signal asks the process to end; further ones change nothing until the outermost of these blocks is left.

    Signals reach the main thread alone; in another one this does nothing.

    Args: ends_process: end the process ``PATIENCE_S`` after the signal, should the block not be left by then. Only who owns the
        process may say so, as the command line does; it counts for the blocks within this one.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    outer, watch = _watch, _watch or _Watch(ends_process)

    def stop(number: int, frame: FrameType | None) -> None:
        if watch.stopped:
            return
        watch.stopped = True
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        if watch.ends_process:
            watch.last = threading.Timer(PATIENCE_S, _end, [number])
            watch.last.daemon = True
            watch.last.start()
        raise Stopped(number)

    _watch = watch
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        _watch = outer
        if outer is None and watch.last is not None:
            watch.last.cancel()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if watch.stopped and outer is not None else handler)


def _end(number: int) -> None:
    print("rsdata: stopped without waiting for what was under way; the same command goes on from here", file=sys.stderr, flush=True)
    os._exit(128 + number)
