"""The rows of ``texts.parquet``: each patch's caption, then its questions, as Arrow tables.

Yes and no are balanced within each patch. The place of the right option is balanced over each split and subject: patches
come in the order of their ids, and of every four questions in a row each of the four places is right once, in a seeded
order. So the balance does not depend on luck, on workers, or on the order of scenes; what is asked of a patch depends on
the seed and the patch alone.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from rsdata.captions.division import divide
from rsdata.captions.draw import Draw
from rsdata.captions.facts import facts_digest
from rsdata.captions.questions import OPTIONS, Around, Question, questions_about
from rsdata.captions.view import View
from rsdata.errors import CaptionError
from rsdata.records import PatchFacts, PixelBox, PixelPoint, TextRow, TextType, arrow_schema

_SCHEMA = arrow_schema(TextRow)
_PORTION = 1024  # patches


@dataclass(frozen=True)
class TextOptions:
    """What the texts of a dataset depend on, beside the facts."""

    around: Around
    seed: int = 0
    captions_may_answer: bool = False  # whether captions may state what is asked of the same patch


@dataclass
class _Columns:
    """Rows that wait to become a table."""

    found: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _SCHEMA.names})

    def add(self, row: Sequence[Any]) -> None:
        for column, value in zip(self.found.values(), row, strict=True):
            column.append(value)

    def table(self) -> pa.Table:
        arrays = []
        for kind in _SCHEMA:
            values = self.found[kind.name]
            is_struct = pa.types.is_struct(kind.type)
            arrays.append(_structs(values, kind.type) if is_struct else pa.array(values, kind.type))
        return pa.Table.from_arrays(arrays, schema=_SCHEMA)


class TextRows:
    """Makes the rows of one dataset, portion by portion, and keeps count of which option was right."""

    def __init__(self, options: TextOptions, is_right: Callable[[PatchFacts, Question], bool] | None = None) -> None:
        """Take what the texts depend on, and who looks at each question and its answer, independently of who asked.

        A subject with a question that is not confirmed is left out of that patch and counted in ``left_out``.
        """
        self.options, self._is_right = options, is_right
        self.left_out = 0  # questions
        self._choices: dict[tuple[str | None, TextType], _Places] = {}
        self._last = ""

    def table(self, facts: Iterable[PatchFacts], captions: Iterable[TextRow] = ()) -> pa.Table:
        """Rows of some patches, with the columns of ``TextRow``.

        Args:
            facts: of patches whose ids come after all before, in rising order.
            captions: rows to put before the questions of the same patch; of the same patches, in the same order.

        Raises: CaptionError if patches are out of order, or a caption belongs to none of them.
        """
        columns, waiting = _Columns(), iter(captions)
        caption = next(waiting, None)
        for each in facts:
            if each.patch_id <= self._last:
                raise CaptionError(
                    f"patch {each.patch_id} comes after {self._last}; texts are written in rising order of patch ids, each once, "
                    "or their answers would not be balanced",
                    patch_id=each.patch_id,
                )
            self._last, digest = each.patch_id, None
            while caption is not None and caption.patch_id == each.patch_id:
                columns.add([getattr(caption, name) for name in _SCHEMA.names])
                digest = caption.facts_digest
                caption = next(waiting, None)
            self._ask(each, digest or facts_digest(each), columns)
        if caption is not None:
            raise CaptionError(
                f"there is a caption of {caption.patch_id}, whose facts are not at hand; give both in the same order",
                patch_id=caption.patch_id,
            )
        return columns.table()

    def _ask(self, facts: PatchFacts, digest: str, columns: _Columns) -> None:
        view, seed = View(facts), self.options.seed
        patch_id, s1_name, split = facts.patch_id, facts.s1_name, facts.split
        division, checked = divide(view, seed, self.options.captions_may_answer), self._is_right is not None
        for subject, question in self._confirmed(facts, questions_about(view, division, self.options.around, seed)):
            row_id = hashlib.sha256(f"{digest}/{question.template}/{seed}/{question.text}".encode()).hexdigest()[:32]
            options, index = self._options(split, subject, question)
            columns.add(
                (
                    row_id, patch_id, s1_name, split, question.category, subject, question.text, question.answer, options, index,
                    question.box, question.point, question.template, None, None, digest, checked, seed,
                )
            )  # fmt: skip

    def _confirmed(self, facts: PatchFacts, asked: Iterable[tuple[TextType, list[Question]]]) -> Iterator[tuple[TextType, Question]]:
        for subject, questions in asked:
            if self._is_right is None or all(self._is_right(facts, question) for question in questions):
                for question in questions:
                    yield subject, question
            else:
                self.left_out += len(questions)

    def _options(self, split: str | None, subject: TextType, question: Question) -> tuple[Sequence[str], int | None]:
        """The options with the right one in its place, and that place."""
        if not question.wrong:
            return (), None
        places = self._choices.get((split, subject))
        if places is None:
            places = self._choices[split, subject] = _Places(self.options.seed, split, subject)
        index = places.next()
        return (*question.wrong[:index], question.answer, *question.wrong[index:]), index


class _Places:
    """Where the right option stands: each place once in every ``OPTIONS`` questions, in a seeded order."""

    def __init__(self, *words: object) -> None:
        self._words, self._round, self._left = words, 0, list[int]()

    def next(self) -> int:
        if not self._left:
            self._left = Draw(*self._words, "places", self._round).shuffled(range(OPTIONS))
            self._round += 1
        return self._left.pop()


def rows_of(facts: Iterable[PatchFacts], options: TextOptions) -> Iterator[TextRow]:
    """Questions about patches, in rising order of patch ids, as records; ``TextRows`` makes them faster, as tables."""
    maker, waiting = TextRows(options), iter(facts)
    while portion := list(islice(waiting, _PORTION)):
        yield from (TextRow.model_validate(row) for row in maker.table(portion).to_pylist())


def _structs(values: Sequence[PixelBox | PixelPoint | None], kind: pa.StructType) -> pa.Array:
    """Records of a few numbers, some absent, as one column."""
    absent = np.array([value is None for value in values], bool)
    fields = [
        pa.array([None if value is None else getattr(value, member.name) for value in values], member.type)
        for member in (kind.field(index) for index in range(kind.num_fields))
    ]
    return pa.StructArray.from_arrays(fields, fields=[kind.field(index) for index in range(kind.num_fields)], mask=pa.array(absent))
