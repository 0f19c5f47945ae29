"""Coding in processes of their own: a crash of a codec costs the cube that caused it and nothing else.

Each worker is one process that one thread feeds, one cube at a time, so that who crashed is never in doubt.
"""

import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures import ProcessPoolExecutor as Processes
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from rsdata.errors import ShardError

K = TypeVar("K")
R = TypeVar("R")
_TIMEOUT_S = 3_600.0


class _Worker(threading.local):
    """The process that belongs to a thread, started anew after each crash."""

    process: Processes | None = None


def run_isolated(
    function: Callable[..., R],
    jobs: Iterable[tuple[K, tuple[Any, ...]]],
    *,
    workers: int = 1,
    timeout_s: float = _TIMEOUT_S,
    ordered: bool = False,
) -> Iterator[tuple[K, R | ShardError]]:
    """Run ``function(*arguments)`` for each (key, arguments) in worker processes.

    Args:
        function: importable by name, as must be its arguments' types.
        jobs: read as workers become free, no more than two a worker ahead, of those that wait for their turn too.
        timeout_s: a job that takes longer is ended.
        ordered: yield results in the order of the jobs.

    Yields: key and result, as they are done or in order; a ShardError in the result's place where the function raised one, its
        process died or took too long. Other exceptions are raised.
    """
    if workers < 1:
        raise ShardError(f"{workers} workers cannot code anything; give 1 or more", workers=workers)
    own = _Worker()
    started: list[Processes] = []
    lock = threading.Lock()

    def one(arguments: tuple[Any, ...]) -> R | ShardError:
        if own.process is None:
            own.process = Processes(1, mp_context=multiprocessing.get_context("spawn"))
            with lock:
                started.append(own.process)
        try:
            return own.process.submit(function, *arguments).result(timeout_s)
        except ShardError as error:
            return error
        except MemoryError:
            return ShardError("coding this cube took more memory than there is; cut it into smaller ones; the other cubes are unharmed")
        except BrokenProcessPool:
            own.process = None
            return ShardError("the process that coded this cube died, so a codec crashed or memory ran out; the other cubes are unharmed")
        except TimeoutError:
            for each in (own.process._processes or {}).values():
                each.kill()
            own.process = None
            return ShardError(f"coding this cube took more than {timeout_s:.0f} s and was ended; the other cubes are unharmed")

    source = iter(jobs)
    running: dict[Future[R | ShardError], K] = {}
    with ThreadPoolExecutor(workers) as threads:
        try:
            while True:
                for key, arguments in islice(source, 2 * workers - len(running)):
                    running[threads.submit(one, arguments)] = key
                if not running:
                    return
                oldest = next(iter(running))
                for done in [oldest] if ordered else wait(running, return_when=FIRST_COMPLETED).done:
                    result = done.result()
                    yield running.pop(done), result
        finally:
            threads.shutdown(cancel_futures=True)
            for process in started:
                process.shutdown(wait=False, cancel_futures=True)
