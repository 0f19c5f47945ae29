"""Who writes captions: by name, one patch at a time or many at once.

A captioner turns the facts of one patch into a text. An engine turns those of many into rows: that of the templates writes
and checks each, that of a language model begins with the same texts and has them worded anew.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rsdata.captions.check import check_caption, findings_of
from rsdata.captions.diversity import bleu_package
from rsdata.captions.division import divide
from rsdata.captions.facts import facts_digest
from rsdata.captions.llm import Check, Draft, Finding, ModelCaptioner, Picture, ResponseStore, Tally, batch_lines
from rsdata.captions.telling import told_beyond
from rsdata.captions.templates import TemplateCaptioner
from rsdata.captions.view import View
from rsdata.captions.wording import COUNTRIES
from rsdata.errors import CaptionError
from rsdata.recipe import Captions
from rsdata.records import ModelCaption, PatchFacts, TextReport, TextRow


class Captioner(Protocol):
    """A way to put facts into words."""

    @property
    def name(self) -> str:
        """Short name, as it stands in a recipe and beside every text."""
        ...

    def caption(self, facts: PatchFacts) -> str:
        """Describe one patch in English."""
        ...


CAPTIONERS: dict[str, Callable[[Captions], Captioner]] = {
    "template": lambda part: TemplateCaptioner(part.seed, part.captions_may_answer or not part.questions),
}


def captioner_for(part: Captions) -> Captioner:
    """Make the captioner that a recipe names.

    Raises: CaptionError if there is none of that name.
    """
    if part.engine not in CAPTIONERS:
        raise CaptionError(f"there is no caption engine {part.engine!r}; known are {', '.join(sorted(CAPTIONERS))}", engine=part.engine)
    return CAPTIONERS[part.engine](part)


def caption_all(
    facts: Iterable[PatchFacts], captioner: Captioner, class_names: Iterable[str], countries: Iterable[str] = COUNTRIES, seed: int = 0
) -> list[TextRow]:
    """Write one caption per patch, in the order of the facts.

    Args:
        class_names: every class of the nomenclature, to notice those a patch does not have.
        countries: every country name to notice.
        seed: of the captioner.

    Raises: CaptionError at the first caption that its facts do not support, with ``findings`` and the text.
    """
    known_classes, known_countries = tuple(class_names), tuple(countries)
    rows = []
    for each in facts:
        text = captioner.caption(each)
        findings = check_caption(text, each, known_classes, known_countries)
        if findings:
            raise CaptionError(
                f"the caption that {captioner.name!r} wrote for {each.patch_id} {'; '.join(findings)}; "
                "it is not used, mend the captioner or the facts",
                patch_id=each.patch_id,
                text=text,
                findings=findings,
            )
        rows.append(_row(each, text, captioner.name, seed))
    return rows


def _row(facts: PatchFacts, text: str, engine: str, seed: int) -> TextRow:
    digest = facts_digest(facts)
    return TextRow(
        row_id=hashlib.sha256(f"{digest}/caption/{engine}/{seed}".encode()).hexdigest()[:32],
        patch_id=facts.patch_id,
        s1_name=facts.s1_name,
        split=facts.split,
        category="caption",
        type="caption",
        input="Describe the image.",
        output=text,
        options=[],
        answer_index=None,
        box=None,
        point=None,
        template_id=engine,
        prompt_digest=None,
        model=None,
        facts_digest=digest,
        checked=True,
        seed=seed,
    )


@dataclass(frozen=True)
class Surroundings:
    """What an engine needs beside its part of the recipe."""

    class_names: Sequence[str]  # every class of the nomenclature
    countries: Sequence[str] = tuple(COUNTRIES)
    answers: Path | None = None  # file that a model's answers are kept in
    picture: Picture | None = None  # shows a patch, if the model is to see it
    ask: bool = True  # whether a server may be asked; else every answer must be there
    advance: Callable[[int], None] = lambda n: None


class Engine(Protocol):
    """A way to caption many patches."""

    @property
    def outcomes(self) -> list[ModelCaption]:
        """What became of each caption since this was last asked; nothing where no model was."""
        ...

    def captions(self, facts: Sequence[PatchFacts]) -> list[TextRow]:
        """One row per patch, in the order of the facts; each text is supported by its facts."""
        ...

    def report(self) -> TextReport | None:
        """What all captions so far came to; None where no model was asked."""
        ...


@dataclass
class TemplateEngine:
    """Captions from fixed sentences."""

    part: Captions
    around: Surroundings
    outcomes: list[ModelCaption] = field(default_factory=list)

    def captions(self, facts: Sequence[PatchFacts]) -> list[TextRow]:
        rows = caption_all(facts, captioner_for(self.part), self.around.class_names, self.around.countries, self.part.seed)
        self.around.advance(len(rows))
        return rows

    def report(self) -> TextReport | None:
        return None


class ModelEngine:
    """The templates' captions, worded anew by a language model."""

    def __init__(self, part: Captions, around: Surroundings, store: ResponseStore) -> None:
        if part.llm is None:
            raise CaptionError("the engine llm has no model; say `captions.llm.base_url` and `captions.llm.model`")
        bleu_package()  # the report needs it in the end
        self._part, self._around = part, around
        self._template = TemplateCaptioner(part.seed, part.captions_may_answer or not part.questions)
        self._model = ModelCaptioner(part.llm, store, check_for(around.class_names, around.countries), around.picture, around.ask)
        self._tally = Tally()
        self._outcomes: list[ModelCaption] = []

    @property
    def outcomes(self) -> list[ModelCaption]:
        since, self._outcomes = self._outcomes, []
        return since

    def captions(self, facts: Sequence[PatchFacts]) -> list[TextRow]:
        rows = caption_all(facts, self._template, self._around.class_names, self._around.countries, self._part.seed)
        written = []
        for row, text in zip(rows, self._model.write(self._drafts(facts, rows), self._around.advance), strict=True):
            self._tally.add(text)
            self._outcomes.append(text.record())
            if text.outcome == "template":
                written.append(row)
                continue
            said = f"{row.facts_digest}/caption/{self._model.options.model}/{text.prompt_digest}/{self._part.seed}"
            changes = {
                "row_id": hashlib.sha256(said.encode()).hexdigest()[:32],
                "output": text.text,
                "prompt_digest": text.prompt_digest,
                "model": self._model.options.model,
            }
            written.append(row.model_copy(update=changes))
        return written

    def batch(self, facts: Sequence[PatchFacts]) -> Iterator[str]:
        """Lines of a batch with the next question for each patch whose caption the answers so far do not settle."""
        rows = caption_all(facts, self._template, self._around.class_names, self._around.countries, self._part.seed)
        return batch_lines(self._model.pending(self._drafts(facts, rows)), self._model.options, self._model.store)

    def report(self) -> TextReport:
        return self._tally.report(self._model)

    def close(self) -> None:
        self._model.close()

    def _drafts(self, facts: Sequence[PatchFacts], rows: Sequence[TextRow]) -> Iterator[Draft]:
        for each, row in zip(facts, rows, strict=True):
            yield Draft(each, row.output, divide(View(each), self._template.seed, self._template.may_answer))


def check_for(class_names: Sequence[str], countries: Sequence[str] = tuple(COUNTRIES)) -> Check:
    """What a model's text is held to: the facts, and what a caption of this patch may tell."""

    def check(text: str, draft: Draft) -> list[Finding]:
        wrong = [Finding(each.kind.value, each.message) for each in findings_of(text, draft.facts, class_names, countries)]
        return wrong + [Finding("told", said) for said in told_beyond(text, draft.facts, draft.division, class_names, countries)]

    return check


@contextmanager
def open_engine(part: Captions, around: Surroundings) -> Iterator[Engine]:
    """Make the engine that a recipe names; a model's answers stay open for as long.

    Raises: CaptionError if there is none of that name, or a model cannot be asked as the recipe says.
    """
    known = sorted([*CAPTIONERS, ModelCaptioner.name])
    if part.engine not in known:
        raise CaptionError(f"there is no caption engine {part.engine!r}; known are {', '.join(known)}", engine=part.engine)
    if part.engine != ModelCaptioner.name:
        yield TemplateEngine(part, around)
        return
    with open_model(part, around) as engine:
        yield engine


@contextmanager
def open_model(part: Captions, around: Surroundings) -> Iterator[ModelEngine]:
    """Make the engine of a language model."""
    if around.answers is None:
        raise CaptionError("the engine llm needs a file to keep answers in")
    with ResponseStore(around.answers) as store:
        engine = ModelEngine(part, around, store)
        try:
            yield engine
        finally:
            engine.close()
