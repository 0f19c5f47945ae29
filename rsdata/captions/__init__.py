"""Texts about patches: facts first, then wording, then a check of the wording against the facts.

A captioner turns facts into a text and sees nothing else. Whoever wrote it, a text reaches the disk only if
the check finds nothing in it that the facts do not hold.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from rsdata.captions.check import check_caption
from rsdata.captions.facts import facts_digest, facts_of, facts_table
from rsdata.captions.templates import TemplateCaptioner
from rsdata.captions.wording import COUNTRIES
from rsdata.errors import CaptionError
from rsdata.recipe import Captions
from rsdata.records import CaptionRow, PatchFacts


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
    "template": lambda part: TemplateCaptioner(part.seed),
}


def captioner_for(part: Captions) -> Captioner:
    """Make the captioner that a recipe names.

    Raises: CaptionError if there is none of that name.
    """
    if part.engine not in CAPTIONERS:
        raise CaptionError(f"there is no caption engine {part.engine!r}; known are {', '.join(sorted(CAPTIONERS))}", engine=part.engine)
    return CAPTIONERS[part.engine](part)


def caption_all(
    facts: Iterable[PatchFacts], captioner: Captioner, class_names: Iterable[str], countries: Iterable[str] = COUNTRIES
) -> list[CaptionRow]:
    """Write one caption per patch, in the order of the facts.

    Args:
        class_names: every class of the nomenclature, to notice those a patch does not have.
        countries: every country name to notice.

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
        rows.append(CaptionRow(patch_id=each.patch_id, engine=captioner.name, text=text, facts_sha256=facts_digest(each)))
    return rows


__all__ = [
    "CAPTIONERS",
    "COUNTRIES",
    "Captioner",
    "TemplateCaptioner",
    "caption_all",
    "captioner_for",
    "check_caption",
    "facts_digest",
    "facts_of",
    "facts_table",
]
