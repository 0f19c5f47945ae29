"""What a person sees while a model trains: a live line on a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rsdata.records import EpochLog

_PLAIN_SECONDS = 30  # between lines within an epoch where no terminal shows a bar


class TrainingProgress(Protocol):
    """Told what happens during training."""

    def running(self, epochs: int, batches: int) -> AbstractContextManager[None]:
        """Entered around the epochs, each of so many batches."""

    def batch(self, epoch: int, batch: int, loss: float) -> None:
        """A step was taken; epochs and batches count from 1."""

    def epoch(self, log: EpochLog) -> None:
        """An epoch and its validation are over."""

    def note(self, text: str) -> None:
        """Something a person should know."""


class SilentProgress:
    """Says nothing."""

    @contextmanager
    def running(self, epochs: int, batches: int) -> Iterator[None]:
        yield

    def batch(self, epoch: int, batch: int, loss: float) -> None: ...

    def epoch(self, log: EpochLog) -> None: ...

    def note(self, text: str) -> None: ...


class ConsoleProgress:
    """Writes to standard error: one line per epoch that stays, and a bar below it if that is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._epochs = self._batches = 0
        self._last_line_s = time.monotonic()

    @contextmanager
    def running(self, epochs: int, batches: int) -> Iterator[None]:
        self._epochs, self._batches, self._last_line_s = epochs, batches, time.monotonic()
        if not self.console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            bar.add_task("training", total=epochs * batches, state="")
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def batch(self, epoch: int, batch: int, loss: float) -> None:
        state = f"epoch {epoch}/{self._epochs}  batch {batch}/{self._batches}  loss {loss:.4f}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=1, state=state)
        elif time.monotonic() - self._last_line_s > _PLAIN_SECONDS:
            self._line(state)

    def epoch(self, log: EpochLog) -> None:
        scores = log.validation
        figure, value = next(iter(scores.figures().items())) if scores else ("", 0.0)
        validation = f"  validation loss {scores.loss:.4f}  {figure} {value:.3f}" if scores else ""
        self._line(f"epoch {log.epoch:>3}/{self._epochs}  loss {log.train_loss:.4f}{validation}  {log.seconds:.1f} s")

    def note(self, text: str) -> None:
        self._line(text)

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._last_line_s = time.monotonic()
