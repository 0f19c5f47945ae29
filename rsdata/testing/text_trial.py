"""Texts of generated maps on trial: each question is answered from its map alone, and captions are read for answers they give away.

Maps come in portions, so a trial of any size needs little memory.
"""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from rsdata.captions import (
    Around,
    MapClasses,
    TemplateCaptioner,
    TextOptions,
    TextRows,
    check_caption,
    climate_names,
    countries_to_ask,
    facts_of,
)
from rsdata.captions.solver import MapSolver, QuestionReader
from rsdata.errors import CaptionError
from rsdata.labels import load_nomenclature, siblings
from rsdata.records import PatchFacts
from rsdata.testing.reference_maps import NOMENCLATURE, map_row, reference_map

_PORTION = 1000
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
# Words of a caption, class names taken out, that give away answers about a subject.
_TELLTALE = {
    "area": re.compile(r"%|dominated|\b(?:most|half|third|thirds|quarter|quarters|tenth|all) of", re.IGNORECASE),
    "counting": re.compile(r"separate region", re.IGNORECASE),
    "adjacency": re.compile(r"\bborder|next to", re.IGNORECASE),
    "relative_position": re.compile(r"\b(?:north|south|east|west|north-east|north-west|south-east|south-west|centre)\b", re.IGNORECASE),
    "season": re.compile(rf"\b(?:winter|spring|summer|autumn)\b|{_MONTHS}", re.IGNORECASE),
}


@dataclass
class Trial:
    """What came out."""

    patches: int = 0
    rows: int = 0
    seconds: float = 0.0  # of processor time to make the rows from the facts
    wrong: list[str] = field(default_factory=list)  # questions with an answer that the map does not give
    leaks: list[str] = field(default_factory=list)  # answers that a caption gives away
    rejected: list[str] = field(default_factory=list)  # captions that the check does not believe
    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # subject, kind, answer (or place of the option) to rows
    tasks: Counter[tuple[str, str]] = field(default_factory=Counter)  # subject, kind

    def imbalance_points(self) -> dict[tuple[str, str], float]:
        """Subject and kind to the largest distance of an answer's share from an equal share, in percentage points."""
        found = {}
        for (subject, kind), total in self.tasks.items():
            parts = {"binary": 2, "multiple_choice": 4}.get(kind)
            if parts:
                counts = [count for key, count in self.answers.items() if key[:2] == (subject, kind)]
                counts += [0] * (parts - len(counts))
                found[subject, kind] = max(abs(100 * count / total - 100 / parts) for count in counts)
        return found


def facts_and_maps(maps: int, seed: int) -> Iterator[list[tuple[PatchFacts, Any]]]:
    """Facts of generated maps in rising order of patch ids, with the maps, portion by portion; climates go round."""
    classes = MapClasses.of(load_nomenclature(NOMENCLATURE).classes)
    climates = [None, *(name for name in climate_names().values() if name)]
    rows = sorted(((map_row(number, seed), number) for number in range(maps)), key=lambda pair: str(pair[0]["patch_id"]))
    for first in range(0, maps, _PORTION):
        portion = []
        for row, number in rows[first : first + _PORTION]:
            codes = reference_map(number, seed)
            portion.append((facts_of(row, codes, classes, climate=climates[number % len(climates)]), codes))
        yield portion


def around_generated() -> Around:
    """What could be, for generated maps."""
    nomenclature = load_nomenclature(NOMENCLATURE)
    return Around(
        classes=tuple(each.name for each in nomenclature.classes),
        countries=countries_to_ask(()),
        climates=tuple(name for name in climate_names().values() if name),
        siblings=siblings(nomenclature),
    )


def hold_trial(maps: int, seed: int = 0, *, captions_may_answer: bool = False, check: bool = True) -> Trial:
    """Write the texts of generated maps and try them.

    Args:
        check: hold captions to the check, too.
    """
    around, class_of_code = around_generated(), load_nomenclature(NOMENCLATURE).class_of_code
    reader, captioner = QuestionReader(around.classes), TemplateCaptioner(seed, captions_may_answer)
    maker, trial = TextRows(TextOptions(around, seed, captions_may_answer)), Trial()
    for portion in facts_and_maps(maps, seed):
        facts = [each for each, _ in portion]
        start = time.process_time()
        table = maker.table(facts)
        trial.seconds += time.process_time() - start
        rows_of = {patch_id: list(rows) for patch_id, rows in groupby(table.to_pylist(), key=lambda row: row["patch_id"])}
        for each, codes in portion:
            rows = rows_of.get(each.patch_id, [])
            caption = captioner.caption(each)
            trial.patches += 1
            trial.rows += len(rows)
            solver = MapSolver(codes, class_of_code, reader, country=each.country, season=each.season, climate=each.climate)
            for row in rows:
                _try(row, solver, trial)
            if not captions_may_answer:
                trial.leaks += [f"{each.patch_id}: {caption!r} gives away {what}" for what in given_away(caption, each, rows, reader)]
            if check and (findings := check_caption(caption, each, around.classes)):
                trial.rejected.append(f"{each.patch_id}: {caption!r}: {'; '.join(map(str, findings))}")
    return trial


def given_away(caption: str, facts: PatchFacts, rows: Sequence[Mapping[str, Any]], reader: QuestionReader) -> list[str]:
    """Subjects asked of a patch whose answer stands in its caption."""
    rest, named = reader.read(caption.replace(facts.climate or "\0", ""))  # a zone with dry winters is not a season
    asked = defaultdict(list)
    for row in rows:
        asked[row["type"]].append(row)
    found = [subject for subject, pattern in _TELLTALE.items() if subject in asked and pattern.search(rest)]
    found += [subject for subject in ("country", "climate") if subject in asked and str(getattr(facts, subject)) in caption]
    for row in asked["presence"]:
        asked_of = [row["output"]] if row["options"] else reader.read(row["input"])[1] if row["output"] == "yes" else []
        found += [f"presence of {name}" for name in asked_of if name in named]
    return found


def _try(row: Mapping[str, Any], solver: MapSolver, trial: Trial) -> None:
    point = None if row["point"] is None else (row["point"]["x"], row["point"]["y"])
    try:
        answer = solver.answer(row["input"], row["options"], point)
    except CaptionError as error:
        answer = f"no answer: {error}"
    given = row["options"][row["answer_index"]] if row["options"] else row["output"]
    if row["box"] is not None and row["output"] != f"[{row['box']['x0']}, {row['box']['y0']}, {row['box']['x1']}, {row['box']['y1']}]":
        given = f"{row['output']} beside a box of {row['box']}"
    if not answer == given == row["output"]:
        trial.wrong.append(f"{row['patch_id']}: {row['input']} {list(row['options'])}: {given}; the map says {answer}")
    key = (row["type"], row["category"])
    trial.tasks[key] += 1
    trial.answers[(*key, str(row["answer_index"]) if row["options"] else row["output"] if row["category"] == "binary" else "box")] += 1
