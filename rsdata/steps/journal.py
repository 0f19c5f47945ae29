"""What happened in a build, kept beside the dataset: a line of JSON for each event, and one small file that tells how far it is.

Times and memory are kept here and in receipts only, so that the files of the dataset are the same however long they took.
A journal that cannot be written, as on a full disk, stops nothing.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Literal

from rsdata.errors import WorkspaceError
from rsdata.records import Builder, BuildState, Failure, ProcessUse, StageProgress
from rsdata.steps.events import Event, Ran, peak_bytes, this_process
from rsdata.steps.receipts import Outcome
from rsdata.workspace import Workspace, read_record

_WRITE_EVERY_S = 1.0  # the state, at most


def event_of(done: Ran | Outcome) -> Event:
    """A finished unit of work as an event."""
    outcome = done.outcome if isinstance(done, Ran) else done
    process, peak = (done.process, done.peak_bytes) if isinstance(done, Ran) else (this_process(), peak_bytes())
    receipt = outcome.receipt
    made = 0 if outcome.skipped else sum(item.bytes for item in receipt.outputs)
    return Event(
        receipt.stage, receipt.unit, skipped=outcome.skipped, seconds=receipt.seconds, bytes=made, process=process, peak_bytes=peak
    )


def event_of_failure(failure: Failure, total: int = 0) -> Event:
    """A unit that could not be done as an event.

    Args: total: 1 if nobody has told before that it lies ahead.
    """
    return Event(failure.stage, failure.unit, total=total, failed=failure.message, error=failure.error)


class Journal:
    """Takes events, from any thread."""

    def __init__(self, workspace: Workspace, name: str, builder: Builder, workers: int, tell: Callable[[Event], None]) -> None:
        """Args: tell: told every event too, after it is set down."""
        self._workspace, self._tell = workspace, tell
        self._lock = Lock()
        self._state = BuildState(name=name, builder=builder, workers=workers, updated=builder.since)
        self._stages: dict[str, dict[str, Any]] = {}
        self._began: dict[str, float] = {}
        self._peaks: dict[str, int] = {}
        self._failures: list[Failure] = []
        self._written = 0.0
        self._log({"event": "begin", "name": name, "workers": workers, **builder.model_dump(mode="json", exclude={"since"})})
        self._write()

    def tell(self, event: Event) -> None:
        with self._lock:
            self._count(event)
            self._log(log_line(event))
            if time.monotonic() - self._written >= _WRITE_EVERY_S:
                self._write()
        self._tell(event)

    def end(self, outcome: Literal["done", "failed", "stopped"], reason: str = "") -> None:
        with self._lock:
            self._peaks[this_process()] = peak_bytes()
            self._state = self._state.model_copy(update={"outcome": outcome, "reason": reason, "failures": self._failures})
            self._log({"event": "end", "outcome": outcome, "reason": reason})
            self._write()

    def _count(self, event: Event) -> None:
        now = time.monotonic()
        self._began.setdefault(event.stage, now)
        stage = self._stages.setdefault(event.stage, StageProgress(stage=event.stage).model_dump())
        stage["wall_s"] = round(now - self._began[event.stage], 3)
        stage["total"] += event.total
        stage["note"] = event.note or stage["note"]
        stage["bytes"] += event.bytes
        if event.unit is not None:
            if event.failed:
                self._failures.append(Failure(stage=event.stage, unit=event.unit, error=event.error, message=event.failed))
            stage["failed" if event.failed else "skipped" if event.skipped else "done"] += 1
            stage["seconds"] = round(stage["seconds"] + (0.0 if event.skipped else event.seconds), 3)
        if event.process:
            self._peaks[event.process] = max(event.peak_bytes, self._peaks.get(event.process, 0))
            stage["peak_bytes"] = max(event.peak_bytes, stage["peak_bytes"])

    def _write(self) -> None:
        self._written = time.monotonic()
        state = self._state.model_copy(
            update={
                "updated": datetime.now(UTC),
                "stages": [StageProgress(**stage) for stage in self._stages.values()],
                "processes": [ProcessUse(process=name, peak_bytes=peak) for name, peak in sorted(self._peaks.items())],
            }
        )
        path = self._workspace.build_state
        aside = path.with_suffix(".new")  # the lock keeps others away, and a state need not outlive the machine
        with suppress(OSError):
            aside.write_text(state.model_dump_json(indent=1) + "\n", encoding="utf-8")
            aside.replace(path)

    def _log(self, line: dict[str, Any]) -> None:
        with suppress(OSError), self._workspace.build_log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}) + "\n")


def log_line(event: Event) -> dict[str, Any]:
    """An event as an object of JSON, without what it does not say."""
    kind = "note" if event.note else "stage" if event.unit is None else "failed" if event.failed else "skipped" if event.skipped else "done"
    said = {name: value for name, value in asdict(event).items() if value not in (None, 0, 0.0, "", False) and name != "skipped"}
    return {"event": kind, **said}


def read_state(workspace: Workspace) -> BuildState | None:
    """How far the last build of a folder is, or was; None if there was none.

    Raises: WorkspaceError if the file is not what it should be.
    """
    return read_record(workspace.build_state, BuildState) if workspace.build_state.exists() else None


def receipts_by_stage(workspace: Workspace) -> dict[str, int]:
    """How many units of each stage are finished, by their receipts."""
    if not workspace.receipts.is_dir():
        raise WorkspaceError(f"{workspace.root} holds no build; name a folder that `rsdata build` wrote to", path=str(workspace.root))
    return {path.name: sum(1 for _ in path.glob("*.json")) for path in sorted(workspace.receipts.iterdir()) if path.is_dir()}
