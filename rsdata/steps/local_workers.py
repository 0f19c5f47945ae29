"""Steps run in worker processes of this machine; a worker that is killed costs time, not the build."""

import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from threading import Lock
from types import TracebackType
from typing import Any

from rsdata.errors import WorkerDied
from rsdata.steps.processes import end_with_parent


class LocalWorkers:
    """Worker processes, or a thread of this one where a single step runs at a time; a context manager.

    A process that is ended from outside takes with it what the others had in hand. All of that is begun again, and what
    meets such an end twice runs a third time with nothing beside it, so that the others do not suffer for it.
    """

    def __init__(self, at_once: int) -> None:
        """Args: at_once: steps at a time."""
        self._at_once = at_once
        self._lock, self._alone = Lock(), Lock()
        self._closed = False
        self._pool = self._begin(at_once)

    def __enter__(self) -> "LocalWorkers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait for what is under way; if the build is stopped, end it instead. Nothing is begun any more.

        A thread cannot be ended: it is waited for, unless a signal asks this process to end.
        """
        with self._lock:
            self._closed = True
        if error is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.kill()
        self._pool.shutdown(wait=isinstance(error, Exception | None) or isinstance(self._pool, ProcessPoolExecutor))

    def submit(self, step: Callable[..., Any], *arguments: Any) -> "Call":
        """Begin a step; what it returns or raises comes from ``Call.result``."""
        return Call(self, step, arguments)

    def slots(self) -> int:
        """Steps done at a time."""
        return self._at_once

    def _begin(self, at_once: int) -> Executor:
        if self._at_once == 1:
            return ThreadPoolExecutor(max_workers=1)
        return ProcessPoolExecutor(max_workers=at_once, mp_context=get_context("spawn"), initializer=_begin_worker)

    def send(self, step: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Executor, Future[Any]]:
        """Raises: WorkerDied if the build was stopped."""
        with self._lock:
            if self._closed:
                raise stopped_meanwhile()
            try:
                return self._pool, self._pool.submit(step, *arguments)
            except BrokenProcessPool:
                self._renew()
                return self._pool, self._pool.submit(step, *arguments)

    def renew(self, broken: Executor) -> None:
        """Start new processes in the place of a pool that lost one, unless somebody did, or the build is stopped."""
        with self._lock:
            if self._pool is broken and not self._closed:
                self._renew()

    def _renew(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._begin(self._at_once)

    def run_alone(self, step: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a step in a process of its own, one such at a time.

        Raises: WorkerDied if that process is ended from outside too, or the build was stopped.
        """
        with self._alone:
            with self._lock:
                if self._closed:
                    raise stopped_meanwhile()
                pool = self._begin(1)
                future = pool.submit(step, *arguments)
            try:
                return future.result()
            except BrokenProcessPool as error:
                if self._closed:
                    raise stopped_meanwhile() from error
                raise WorkerDied(
                    "the worker process at work on it was ended from outside three times, most likely for want of memory; give the "
                    "machine more, or take fewer --workers",
                    step=getattr(step, "__name__", ""),
                ) from error
            finally:
                pool.shutdown()

    @property
    def closed(self) -> bool:
        return self._closed


class Call:
    """One step under way."""

    def __init__(self, workers: LocalWorkers, step: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._workers, self._step, self._arguments = workers, step, arguments
        self._pool, self._future = workers.send(step, arguments)

    def result(self) -> Any:
        """Wait for what the step returns.

        Raises: what the step raises; WorkerDied if its process is ended from outside again and again.
        """
        for _ in range(2):
            try:
                return self._future.result()
            except BrokenProcessPool as error:
                if self._workers.closed:
                    raise stopped_meanwhile() from error
                self._workers.renew(self._pool)
                self._pool, self._future = self._workers.send(self._step, self._arguments)
        try:
            return self._future.result()
        except BrokenProcessPool:
            self._workers.renew(self._pool)
            return self._workers.run_alone(self._step, self._arguments)


def stopped_meanwhile() -> WorkerDied:
    """What becomes of steps that a build which has ended has no use for any more."""
    return WorkerDied("the build was stopped while this was under way; the same command does it")


def _begin_worker() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
