"""What stays of a run beside its weights: a table of epochs as CSV, and the same for TensorBoard where that is installed."""

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rsdata.errors import WorkspaceError
from rsdata.records import EpochLog
from rsdata.writing import writing

LOG_NAME = "log.csv"


class RunLog:
    """Writes the log of one run; a resumed run writes the epochs before it again, so both files are as if it had not stopped."""

    def __init__(self, folder: Path, before: Sequence[EpochLog]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(f"{folder} cannot be written: {error.strerror}; name another folder", path=str(folder)) from error
        self._folder = folder
        self._logs = list(before)
        self._board: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=before[-1].epoch + 1 if before else 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._board is not None:
            self._board.close()

    def add(self, log: EpochLog) -> None:
        """Set down an epoch."""
        self._logs.append(log)
        rows = [_row(each) for each in self._logs]
        with writing(self._folder / LOG_NAME) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        if self._board is not None:
            for name, value in _row(log).items():
                if name != "epoch":
                    self._board.add_scalar(name, value, log.epoch)
            self._board.flush()


def _row(log: EpochLog) -> dict[str, float]:
    row = {"epoch": log.epoch, "train_loss": log.train_loss, "learning_rate": log.learning_rate, "seconds": log.seconds}
    if log.validation is not None:
        row |= {"validation_loss": log.validation.loss, **{f"validation {name}": value for name, value in log.validation.figures().items()}}
    return row
