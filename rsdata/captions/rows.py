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

IsRight = Callable[[PatchFacts, Question], bool]  # looks at a question and its answer, independently of who asked


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

    def __init__(self, options: TextOptions, is_right: IsRight | None = None) -> None:
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
        table, left_out = asked_rows(facts, captions, self.options, self._is_right)
        self.left_out += left_out
        return self.place(table)

    def place(self, asked: pa.Table) -> pa.Table:
        """Give the right options of ``asked_rows`` their places; they follow from the rows of all patches before.

        Raises: CaptionError if a patch does not come after those before.
        """
        if not len(asked):
            return asked
        _hold_order(self._last, asked["patch_id"][0].as_py())
        self._last = asked["patch_id"][-1].as_py()
        options = asked["options"].combine_chunks()
        counts = options.value_lengths().to_numpy()
        choice = counts > 0
        chosen = asked.select(["split", "type"]).filter(pa.array(choice))
        right = np.array([self._next(*each) for each in zip(*(column.to_pylist() for column in chosen), strict=True)], np.int64)
        index = np.zeros(len(asked), np.int64)
        index[choice] = right
        # The right one stands last; it goes to its place, and those from there on go one further.
        order = np.arange(OPTIONS * len(right)).reshape(-1, OPTIONS)
        order += np.array([np.insert(np.arange(OPTIONS - 1), place, OPTIONS - 1) for place in range(OPTIONS)])[right] - np.arange(OPTIONS)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        placed = {
            "options": pa.ListArray.from_arrays(offsets, options.flatten().take(pa.array(order.ravel())), _SCHEMA.field("options").type),
            "answer_index": pa.array(index, _SCHEMA.field("answer_index").type, mask=~choice),
        }
        return pa.table([placed.get(name, asked[name]) for name in _SCHEMA.names], schema=_SCHEMA)

    def _next(self, split: str | None, subject: TextType) -> int:
        places = self._choices.get((split, subject))
        if places is None:
            places = self._choices[split, subject] = _Places(self.options.seed, split, subject)
        return places.next()


def asked_rows(
    facts: Iterable[PatchFacts], captions: Iterable[TextRow], options: TextOptions, is_right: IsRight | None = None
) -> tuple[pa.Table, int]:
    """Captions and questions of some patches, before the right options have their places: the right one is the last of each.

    Nothing here depends on other patches, so any process may do it.

    Args:
        facts: of patches in rising order of their ids.
        captions: as for ``TextRows.table``.
        options: what the texts depend on.
        is_right: who confirms questions; a subject with one that is not confirmed is left out of that patch.

    Returns: a table with the columns of ``TextRow``, ``answer_index`` absent in each; and how many questions were left out.
    Raises: CaptionError as ``TextRows.table``.
    """
    columns, waiting, left_out, last = _Columns(), iter(captions), 0, ""
    caption = next(waiting, None)
    for each in facts:
        _hold_order(last, each.patch_id)
        last, digest = each.patch_id, None
        while caption is not None and caption.patch_id == each.patch_id:
            columns.add([getattr(caption, name) for name in _SCHEMA.names])
            digest = caption.facts_digest
            caption = next(waiting, None)
        left_out += _ask(each, digest or facts_digest(each), columns, options, is_right)
    if caption is not None:
        raise CaptionError(
            f"there is a caption of {caption.patch_id}, whose facts are not at hand; give both in the same order",
            patch_id=caption.patch_id,
        )
    return columns.table(), left_out


def _ask(facts: PatchFacts, digest: str, columns: _Columns, options: TextOptions, is_right: IsRight | None) -> int:
    """Add the questions about one patch; how many were left out."""
    view, seed, left_out = View(facts), options.seed, 0
    patch_id, s1_name, split = facts.patch_id, facts.s1_name, facts.split
    division = divide(view, seed, options.captions_may_answer)
    for subject, questions in questions_about(view, division, options.around, seed):
        if is_right is not None and not all(is_right(facts, question) for question in questions):
            left_out += len(questions)
            continue
        for question in questions:
            row_id = hashlib.sha256(f"{digest}/{question.template}/{seed}/{question.text}".encode()).hexdigest()[:32]
            offered = (*question.wrong, question.answer) if question.wrong else ()
            columns.add(
                (
                    row_id, patch_id, s1_name, split, question.category, subject, question.text, question.answer, offered, None,
                    question.box, question.point, question.template, None, None, digest, is_right is not None, seed,
                )
            )  # fmt: skip
    return left_out


def _hold_order(last: str, patch_id: str) -> None:
    if patch_id <= last:
        raise CaptionError(
            f"patch {patch_id} comes after {last}; texts are written in rising order of patch ids, each once, "
            "or their answers would not be balanced",
            patch_id=patch_id,
        )


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
