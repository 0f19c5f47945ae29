"""Who builds a dataset, and how far it is: of the work, not of the dataset."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from rsdata.records.base import Record
from rsdata.records.dataset import Failure


class Builder(Record):
    """A process that builds."""

    host: str
    pid: int
    since: datetime


class StageProgress(Record):
    """How far one stage is."""

    stage: str
    total: int = Field(0, description="units that lie ahead at the stage's beginning; 0 if not known")
    done: int = 0
    skipped: int = Field(0, description="units that were finished before")
    failed: int = 0
    seconds: float = Field(0.0, description="time of all units together, as if done one after the other")
    wall_s: float = Field(0.0, description="from the stage's first event to its last")
    bytes: int = Field(0, description="of the files that were made")
    peak_bytes: int = Field(0, description="most memory that one process held which worked at this stage")
    note: str = Field("", description="what it said last")


class ProcessUse(Record):
    """Memory of one process that worked."""

    process: str = Field(description="host and number")
    peak_bytes: int = Field(description="most memory it held")


class BuildState(Record):
    """``build/state.json``: who builds, how far it is, and how it ended."""

    schema_version: Literal["1"] = "1"
    name: str
    builder: Builder
    workers: int
    outcome: Literal["running", "done", "failed", "stopped"] = "running"
    reason: str = Field("", description="why it did not end well")
    updated: datetime
    stages: list[StageProgress] = Field([])
    processes: list[ProcessUse] = Field([])
    failures: list[Failure] = Field([])
