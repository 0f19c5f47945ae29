"""Steps run on the workers of a Dask cluster: as many at a time on each as its memory bears.

A task is one stage of one scene, never less, and none is sent before a worker has room for it, so that the scheduler
never holds more than runs. Workers read and write the workspace themselves, on a file system that all of them see.
What a lost worker or a lost scheduler had under way is sent again: a step is safe to repeat.
"""

import itertools
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname
from types import TracebackType
from typing import Any

import dask
from distributed import Client, Future
from distributed.comm import CommClosedError

from rsdata import __version__
from rsdata.errors import ClusterError, RsdataError
from rsdata.steps.local_workers import stopped_meanwhile
from rsdata.workspace import Workspace
from rsdata.writing import writing

PATIENCE_S = 120.0  # without a scheduler, or without a worker that has room, before a build gives up
MOST_LOST = 3  # workers that a step may end before it is given up
_GROUP = "rsdata"  # of all tasks, in Dask's books
_REMEMBERED = 4_096  # tasks of which a scheduler keeps notes, before it is asked to drop them
_LOOK_S = 1.0  # between looks at a cluster that says nothing
_ASK_AGAIN_S = 10.0  # after which a worker that gave no answer is asked once more
_LAST_LOOK_S = 5.0  # that a build which a signal ends waits for what is under way
_LOST = (CancelledError, CommClosedError, OSError, TimeoutError, RuntimeError)  # what Dask raises where a connection is gone


@dataclass(frozen=True)
class Member:
    """One worker: what it says of itself, and what it bears."""

    host: str
    version: str
    sees: bool  # the workspace
    threads: int = 1
    memory_bytes: int | None = None  # for steps: up to where Dask would pause it, or what it offers; None without a limit

    def room(self, step_bytes: int) -> int:
        """Steps it may do at a time."""
        return self.threads if self.memory_bytes is None else min(self.threads, self.memory_bytes // step_bytes)


def _answer(probe: Path) -> Member:
    """Runs on a worker."""
    return Member(gethostname(), __version__, probe.is_file())


class Cluster:
    """A running Dask cluster that steps are sent to; a context manager, and safe to use from several threads."""

    def __init__(
        self,
        address: str,
        workspace: Workspace,
        step_bytes: int,
        offered: str | None = None,
        patience_s: float = PATIENCE_S,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Connect, and see that the workers can do the work.

        Args:
            address: of the scheduler, such as ``tcp://host:8786``, or the path of the JSON file it wrote.
            step_bytes: memory that one step takes at most.
            offered: resource that workers say how much of they offer to steps which start programs, as Dask bounds the memory of a
                worker's own process alone.
            patience_s: how long a cluster may be away.
            note: told why a worker that comes later is not taken.

        Raises: ClusterError if there is no scheduler, no worker, or one that sees another file system or has another rsdata.
        """
        self.address, self.workspace, self.step_bytes, self.patience_s, self._note = address, workspace, step_bytes, patience_s, note
        self._offered = offered
        self._changed = threading.Condition()
        self._mark, self._numbers = f"x{uuid.uuid4().hex[:12]}", itertools.count()
        self._members: dict[str, Member] = {}  # by address of the worker
        self._refused: dict[str, float] = {}  # by address, until when
        self._leaving = False  # nothing is begun any more
        self._left = False  # nor waited for
        self._busy: dict[str, int] = {}
        self._looked = 0.0
        self._sent = 0  # tasks, since the scheduler dropped its notes
        self._room_seen = time.monotonic()  # when there last was a worker that could do a step at all
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is told in one sentence, here
        self.client = self._connect(min(patience_s, 30.0))
        try:
            self._welcome()
        except BaseException:
            self.client.close(timeout=2)
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Begin nothing more, and wait for what is under way: a step on a worker cannot be ended, and writes to the folder.

        If a signal asks this process to end, the wait is short, and steps may go on for a while after it.
        """
        try:
            with self._changed:
                self._leaving = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._busy, None if isinstance(error, Exception | None) else _LAST_LOOK_S)
        finally:
            self._left = True
            self.client.close(timeout=5)

    def slots(self) -> int:
        """Steps that the workers there are now do at a time; at least one."""
        with self._changed:
            return max(1, sum(member.room(self.step_bytes) for member in self._members.values()))

    def __str__(self) -> str:
        with self._changed:
            members = list(self._members.values())
        threads, limits = sum(each.threads for each in members), [each.memory_bytes for each in members if each.memory_bytes is not None]
        memory = f"{sum(limits) / 1e9:.1f} GB of memory" if len(limits) == len(members) else "memory without a limit"
        return (
            f"{self.address}: {_count(len(members), 'worker')}, {_count(threads, 'thread')}, {memory}; {_count(self.slots(), 'scene')} at "
            f"a time, as one takes up to {self.step_bytes / 1e9:.1f} GB"
        )

    def end_steps(self, order: Callable[..., object], *arguments: Any) -> None:
        """Begin nothing more, and run on every worker, even on those that are at work, what ends the steps under way there."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        with suppress(*_LOST):
            self.client.run(order, *arguments, on_error="ignore")

    def submit(self, step: Callable[..., Any], *arguments: Any) -> "Call":
        """A step that is done once its result is asked for, by the thread that asks."""
        return Call(self, step, arguments)

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Do a step on a worker that has room for it, once there is one; what the step returns.

        Raises: what the step raises; ClusterError if the cluster stays away, or the step ends worker after worker; WorkerDied if the
            build was stopped.
        """
        lost, why = 0, _Why()
        while True:
            client, worker = self._take()
            future: Future | None = None
            try:
                self._sent += 1
                with why.noting():
                    future = client.submit(
                        step, *arguments, pure=False, key=self._key(), workers=[worker], allow_other_workers=False, retries=0,
                        resources={self._offered: self.step_bytes} if self._offered else None,
                    )  # fmt: skip
                if future is not None and self._wait(future, client, worker):
                    with why.noting():
                        error, result = self._outcome(future, client, worker)
                        if error is None:
                            return result
                        why.of_step = error
                    if why.of_step is not None:
                        raise why.of_step
                lost += client is self.client and client.status == "running"
            finally:
                self._give(worker)
                if future is not None and future.status == "pending":
                    with suppress(*_LOST):
                        future.cancel()
            if lost > MOST_LOST and why.lost is not None:
                raise ClusterError(
                    f"{step.__name__} was lost {lost} times on the Dask cluster at {self.address}{why.in_words()}; "
                    "see what its scheduler and workers log, and repeat the command",
                    step=step.__name__,
                ) from why.lost
            if lost > MOST_LOST:
                raise ClusterError(
                    f"{step.__name__} ended {_count(lost, 'Dask worker')}, most likely for want of memory; start workers with a larger "
                    "--memory-limit",
                    step=step.__name__,
                )
            self._regain(client)

    def _key(self) -> str:
        """A name that no task had before, as a step looks for itself whether it was done."""
        return f"{_GROUP}-{next(self._numbers)}{self._mark}"

    def _wait(self, future: Future, client: Client, worker: str) -> bool:
        """Wait for the outcome of a step; False if the worker or the scheduler is lost before."""
        done = threading.Event()
        future.add_done_callback(lambda each: done.set())
        while future.status == "pending":
            if not done.wait(_LOOK_S) and not self._has(client, worker):
                break
        return future.status in ("finished", "error")

    def _outcome(self, future: Future, client: Client, worker: str) -> tuple[BaseException | None, Any]:
        """What a step that has ended raised, or else returned, however long that takes to arrive.

        Raises: TimeoutError, or another of ``_LOST``, if the worker or the scheduler is lost before.
        """
        while True:
            try:
                return (future.exception(timeout=10), None) if future.status == "error" else (None, future.result(timeout=10))
            except TimeoutError:
                if not self._has(client, worker):
                    raise

    def _has(self, client: Client, worker: str) -> bool:
        """Look whether a worker that was sent a step is still there, and anybody waits for it."""
        self._look()
        with self._changed:
            return client is self.client and worker in self._members and not self._left

    # --- workers ------------------------------------------------------------------------------------------

    def _take(self) -> tuple[Client, str]:
        """Wait for a worker that has room, and take some of it: the one that has most."""
        while True:
            if self._leaving:
                raise stopped_meanwhile()
            self._look()
            with self._changed:
                free = {name: member.room(self.step_bytes) - self._busy.get(name, 0) for name, member in self._members.items()}
                best = max(free, key=lambda name: free[name], default=None)
                if best is not None and free[best] > 0:
                    self._busy[best] = self._busy.get(best, 0) + 1
                    return self.client, best
                self._changed.wait(_LOOK_S)

    def _give(self, worker: str) -> None:
        with self._changed:
            self._busy[worker] = self._busy.get(worker, 1) - 1
            if not self._busy[worker]:
                del self._busy[worker]
            self._changed.notify_all()

    def _look(self) -> None:
        """See, not too often, which workers there are.

        Raises: ClusterError if none has had room for too long.
        """
        with self._changed:
            now = time.monotonic()
            if now - self._looked < _LOOK_S:
                return
            self._looked = now
            client = self.client
        if client.status != "running":
            self._regain(client)
            return
        why = _Why()
        with why.noting():
            if self._sent >= _REMEMBERED:
                self._sent = 0
                client.run_on_scheduler(_notes_dropper(_GROUP))
            found = self._workers()
            known: dict[str, Any] = dict(self._members)
            if new := [name for name in found if name not in known and self._refused.get(name, now) <= now]:
                known |= self._examined(new, now)
            with self._changed:
                self._members = {name: _joined(member, known[name]) for name, member in found.items() if name in known}
                self._changed.notify_all()
        with self._changed:
            if any(member.room(self.step_bytes) for member in self._members.values()):
                self._room_seen = time.monotonic()
            elif time.monotonic() - self._room_seen > self.patience_s:
                try:  # a scheduler that is gone may look like one without workers
                    self._connect(5.0).close(timeout=2)
                except ClusterError as error:
                    raise self._gone() from error
                raise ClusterError(
                    f"the Dask scheduler at {self.address} has had no worker with room for a scene for {self.patience_s:.0f} s"
                    f"{why.in_words()}; start workers and repeat the command, what is finished is not done again",
                    address=self.address,
                )

    def _examined(self, workers: list[str], now: float) -> dict[str, Member]:
        """Those of some workers that can do the work; why another cannot is told once. One that gave no answer is asked again later."""
        answers = self._ask(workers)
        able: dict[str, Member] = {}
        for name in workers:
            answer: Any = answers.get(name)
            reason = _objection(name, answer, self.workspace)
            if reason is None:
                able[name] = answer
                continue
            if name not in self._refused:
                self._note(reason)
            self._refused[name] = now + _ASK_AGAIN_S if answer is None or isinstance(answer, _LOST) else float("inf")
        return able

    def _workers(self) -> dict[str, Member]:
        """Threads and memory of the workers that the scheduler has and that are not about to go; one that is paused comes back."""
        said = self.client.scheduler_info(n_workers=-1).get("workers")
        if said is None:
            raise CommClosedError("not connected")
        pause = dask.config.get("distributed.worker.memory.pause") or 1.0

        def memory(worker: dict[str, Any]) -> int | None:
            if self._offered:
                return int(worker["resources"].get(self._offered, 0))
            return int(worker["memory_limit"] * pause) if worker["memory_limit"] else None

        return {
            name: Member("", "", False, each["nthreads"], memory(each))
            for name, each in said.items()
            if each.get("status", "running") in ("running", "paused")
        }

    def _ask(self, workers: list[str]) -> dict[str, Any]:
        """What workers say of themselves; an exception from one that could not."""
        probe = self.workspace.scratch / f"probe-{uuid.uuid4().hex}"
        with writing(probe) as aside:
            aside.touch()
        try:
            answers: dict[str, Any] = self.client.run(_answer, probe, workers=workers, on_error="return")
            return answers
        finally:
            probe.unlink(missing_ok=True)

    def _welcome(self) -> None:
        """See that all workers there are can do the work. Raises: ClusterError naming the first that cannot."""
        with suppress(TimeoutError):
            self.client.wait_for_workers(1, timeout=min(self.patience_s, 30.0))
        found = self._workers()
        if not found:
            raise ClusterError(
                f"the Dask scheduler at {self.address} has no workers; start some with `dask worker {self.address}`", address=self.address
            )
        answers = self._ask(list(found))
        for name in found:
            if reason := _objection(name, answers.get(name), self.workspace):
                raise ClusterError(reason, worker=name)
        self._members = {name: _joined(member, answers[name]) for name, member in found.items()}
        if not any(member.room(self.step_bytes) for member in found.values()):
            if self._offered:
                raise ClusterError(
                    f"none of {_count(len(found), 'Dask worker')} offers the {self.step_bytes:,} bytes that a scene needs; start those "
                    f'that have the program with `--resources "{self._offered}={2 * self.step_bytes}"`, as for two scenes at a time',
                    step_bytes=self.step_bytes,
                )
            most = max(member.memory_bytes or 0 for member in found.values())
            raise ClusterError(
                f"none of {_count(len(found), 'Dask worker')} has room for a scene: it takes up to {self.step_bytes / 1e9:.1f} GB, and "
                f"Dask lets a worker use {most / 1e9:.1f} GB at most; start workers with a larger --memory-limit",
                step_bytes=self.step_bytes,
                most=most,
            )

    # --- the scheduler ------------------------------------------------------------------------------------

    def _connect(self, timeout_s: float) -> Client:
        try:
            if self.address.endswith(".json"):
                json.loads(Path(self.address).read_bytes())  # Dask would wait for it without end
                client = Client(scheduler_file=self.address, timeout=timeout_s, set_as_default=False)
            else:
                client = Client(self.address, timeout=timeout_s, set_as_default=False)
            # A group of tasks that runs empty is begun anew by the next task, and the scheduler remembers every one it ever
            # had, about a kilobyte each; so one task stays.
            self._kept = client.submit(int, key=self._key(), pure=False)
            return client
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {self.address} ({type(error).__name__}); start one with `dask scheduler`, and workers with "
                "`dask worker ADDRESS`, or leave --dask out",
                address=self.address,
            ) from error

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"the Dask scheduler at {self.address} was lost and has not come back for {self.patience_s:.0f} s; start it and repeat the "
            "command, what is finished is not done again",
            address=self.address,
        )

    def _regain(self, lost: Client) -> None:
        """Connect again if ``lost`` was lost and nobody else has.

        Raises: ClusterError if the scheduler stays away.
        """
        if self._leaving:
            raise stopped_meanwhile()
        with self._changed:
            if self.client is not lost or lost.status == "running":
                return
            with suppress(*_LOST):
                lost.close(timeout=2)
            end = time.monotonic() + self.patience_s
            while True:
                try:
                    self.client = self._connect(5.0)
                except ClusterError as error:
                    if time.monotonic() > end:
                        raise self._gone() from error
                    time.sleep(0.5)
                    continue
                self._members, self._looked, self._room_seen = {}, 0.0, time.monotonic()
                return


@dataclass
class _Why:
    """Why a step came to nothing: by an error of its own, or of the connection."""

    of_step: BaseException | None = None
    lost: BaseException | None = None

    def in_words(self) -> str:
        return f" ({type(self.lost).__name__}: {self.lost})" if self.lost is not None else ""

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note, and end there, what Dask raises where a connection is gone; what rsdata refuses passes, as a full disk."""
        try:
            yield
        except RsdataError:
            raise
        except _LOST as error:
            self.lost = error


@dataclass(frozen=True)
class Call:
    """One step to be done on a cluster."""

    cluster: Cluster
    step: Callable[..., Any]
    arguments: tuple[Any, ...]

    def result(self) -> Any:
        return self.cluster.run(self.step, *self.arguments)


def _notes_dropper(group: str) -> Callable[..., None]:
    """What a scheduler runs to drop what it notes of every task, done or not: a word in their span, and how its name was split."""

    def drop(dask_scheduler: Any) -> None:  # within, so that it travels whole, and a scheduler loads nothing for it
        from dask.utils import key_split

        spans, known = dask_scheduler.extensions.get("spans"), dask_scheduler.task_groups.get(group)
        if spans is not None and known is not None and (span := spans.spans.get(known.span_id)) is not None and span.metadata:
            span.metadata["collections"].clear()
        key_split.cache_clear()

    return drop


def _objection(name: str, answer: Any, workspace: Workspace) -> str | None:
    """Why a worker cannot do the work; None if it can."""
    if not isinstance(answer, Member):
        why = "no answer" if answer is None else f"{type(answer).__name__}: {answer}"
        return f"the Dask worker at {name} cannot run rsdata ({why}); install rsdata {__version__} where workers run, with the same Python"
    if answer.version != __version__:
        return (
            f"the Dask worker at {name} has rsdata {answer.version}, and here it is {__version__}; install the same, so that results are "
            "the same"
        )
    if not answer.sees:
        return (
            f"the Dask worker at {name} (host {answer.host}) does not see {workspace.root}; name a folder with --out that lies at the same "
            "path on every worker"
        )
    return None


def _joined(found: Member, answer: Any) -> Member:
    """What the scheduler says of a worker, and what it said of itself."""
    if not isinstance(answer, Member):
        return found
    return replace(answer, threads=found.threads, memory_bytes=found.memory_bytes)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
