"""SIGTERM and Ctrl-C end a build in good order, and soon.

Prefect takes SIGTERM for itself and ends in a traceback; within a flow it is turned into an exception like that of Ctrl-C.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rsdata.errors import Stopped

PATIENCE_S = 15.0  # for files to be put away and processes to end, before this one ends without waiting for them


@contextmanager
def stopping() -> Iterator[None]:
    """Raise ``Stopped`` when a signal asks the process to end; further ones change nothing, but it ends after ``PATIENCE_S``.

    Signals reach the main thread alone; in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        last = threading.Timer(PATIENCE_S, _end, [number])
        last.daemon = True
        last.start()
        raise Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stopped else handler)


def _end(number: int) -> None:
    print("rsdata: stopped without waiting for what was under way; the same command goes on from here", file=sys.stderr, flush=True)
    os._exit(128 + number)
