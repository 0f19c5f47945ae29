"""How a command that runs a flow ends when a signal asks for it: in one sentence, with the exit code that shells expect."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rsdata.commands.console import err

STOPPED = "stopped; the same command goes on from here"


@contextmanager
def ending_when_stopped(say: Callable[[str], None] = lambda line: err.print(f"rsdata: {line}")) -> Iterator[None]:
    """End the process here when it is asked to end, without waiting for threads that are still at work."""
    from rsdata.flows.stopping import stopping

    try:
        with stopping(ends_process=True):
            yield
    except KeyboardInterrupt as stop:
        say(STOPPED)
        sys.stdout.flush()
        os._exit(getattr(stop, "exit_code", 130))
