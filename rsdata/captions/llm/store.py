"""Answers of language models, kept so that nothing is asked twice: one SQLite file in write-ahead mode.

An answer is looked up by the digest of facts, prompt, model, parameters and number of the try, and is on the disk before
anybody sees it. A call is written down before it is made, with the most it may cost: one that was cut off counts in full
against the budget, as the server may have charged it. SQLite and no LMDB, as calls are few and slow, and anybody can
read the file. One process uses a store at a time.
"""

import fcntl
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from rsdata.errors import CaptionError

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    digest TEXT PRIMARY KEY, facts_digest TEXT NOT NULL, prompt_digest TEXT NOT NULL, model TEXT NOT NULL,
    parameters TEXT NOT NULL, try INTEGER NOT NULL, response TEXT NOT NULL, answered_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, state TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS batched (
    digest TEXT PRIMARY KEY, facts_digest TEXT NOT NULL, prompt_digest TEXT NOT NULL, model TEXT NOT NULL,
    parameters TEXT NOT NULL, try INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Question:
    """What an answer was given to."""

    facts_digest: str
    prompt_digest: str
    model: str
    parameters: str  # JSON
    attempt: int  # from 1

    @classmethod
    def of(cls, facts_digest: str, prompt_digest: str, model: str, parameters: Mapping[str, Any], attempt: int) -> "Question":
        return cls(facts_digest, prompt_digest, model, json.dumps(dict(parameters), sort_keys=True), attempt)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Tokens:
    """Tokens that were used or may be."""

    input: int = 0
    output: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.input + other.input, self.output + other.output)

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.input - other.input, self.output - other.output)


class ResponseStore:
    """Answers and calls in one file; any thread may use it."""

    def __init__(self, path: Path) -> None:
        """Open a store, or begin one.

        Raises: CaptionError if another process uses it, or if the file is no such store.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._turn = threading.RLock()
        self._held = _hold(path.with_name(path.name + ".lock"))
        try:
            self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            self._base.executescript(_TABLES)
            spent = self._base.execute("SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM calls").fetchone()
        except sqlite3.DatabaseError as error:
            self._held.close()
            raise CaptionError(
                f"{path} is no store of answers, or is damaged ({error}); move it away to ask anew", path=str(path)
            ) from error
        self._spent = Tokens(*spent)

    def __enter__(self) -> "ResponseStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._base.close()
        self._held.close()

    @property
    def spent(self) -> Tokens:
        """Tokens of all calls ever made; those without an answer count as much as they may have cost."""
        return self._spent

    def answer(self, question: Question) -> str | None:
        """The raw response to a question, if there is one."""
        with self._turn:
            row = self._base.execute("SELECT response FROM answers WHERE digest = ?", (question.digest,)).fetchone()
        return None if row is None else str(row[0])

    def begin_call(self, question: Question, most: Tokens) -> int:
        """Write down that a call is about to be made; it counts from now on."""
        with self._transaction():
            made = self._base.execute(
                "INSERT INTO calls (digest, input_tokens, output_tokens, state) VALUES (?, ?, ?, 'sent')",
                (question.digest, most.input, most.output),
            )
            self._spent += most
        return int(made.lastrowid or 0)

    def end_call(self, call: int, most: Tokens, used: Tokens, state: str, question: Question, response: str | None = None) -> None:
        """Write down what a call took, and its answer with it if there is one."""
        with self._transaction():
            self._base.execute(
                "UPDATE calls SET input_tokens = ?, output_tokens = ?, state = ? WHERE id = ?", (used.input, used.output, state, call)
            )
            if response is not None:
                self._keep(question, response)
            self._spent = self._spent - most + used

    def note_batched(self, questions: list[Question]) -> None:
        """Write down what a batch asks, so that its answers are known again."""
        with self._transaction():
            self._base.executemany(
                "INSERT OR IGNORE INTO batched VALUES (?, ?, ?, ?, ?, ?)", [(each.digest, *_parts(each)) for each in questions]
            )

    def batched(self, digest: str) -> Question | None:
        """The question of a batch that has this digest."""
        with self._turn:
            row = self._base.execute(
                "SELECT facts_digest, prompt_digest, model, parameters, try FROM batched WHERE digest = ?", (digest,)
            ).fetchone()
        return None if row is None else Question(*row)

    def _keep(self, question: Question, response: str) -> None:
        self._base.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))",
            (question.digest, *_parts(question), response),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._turn:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                yield
                self._base.execute("COMMIT")
            except sqlite3.Error as error:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise CaptionError(f"{self.path} cannot be written ({error}); free space or move it away", path=str(self.path)) from error


def _parts(question: Question) -> tuple[str, str, str, str, int]:
    return question.facts_digest, question.prompt_digest, question.model, question.parameters, question.attempt


def _hold(path: Path) -> IO[bytes]:
    """Keep others out; the system lets go when this process ends, however it ends."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise CaptionError(f"another run uses the answers beside {path}; wait until it has ended", path=str(path)) from error
    return file
