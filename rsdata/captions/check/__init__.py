"""Read a text back and hold what it says to the facts, whoever wrote it.

The check works from the text alone. It would rather refuse a true sentence that it cannot follow than let a false one
pass: whatever speaks of the ground must become a statement that the facts support, and a word in none of its tables
is refused. Words for classes, plain words and words for climates are tables beside the code.
"""

import re
from collections.abc import Iterable, Iterator

from rsdata.captions import wording
from rsdata.captions.check.finding import Finding, FindingKind
from rsdata.captions.check.particulars import particulars
from rsdata.captions.check.reading import statements
from rsdata.captions.check.support import Support
from rsdata.captions.check.tokens import plain, tokens
from rsdata.records import PatchFacts

MAX_CHARACTERS = 4000
_FORM = re.compile(r"</?\w[^>]*>|&#?\w+;|https?:|www\.|\w@\w|```|\]\(|[{}\[\]<>\\|]")


def check_caption(text: str, facts: PatchFacts, class_names: Iterable[str], countries: Iterable[str] = wording.COUNTRIES) -> list[str]:
    """What a text says that its facts do not hold, in words that go on from "the text"; an empty list means it is supported.

    Args:
        text: in English.
        facts: what is known about the patch.
        class_names: every class of the nomenclature, those absent from the patch above all.
        countries: every country name to watch for.
    """
    return [each.message for each in findings_of(text, facts, class_names, countries)]


def findings_of(text: str, facts: PatchFacts, class_names: Iterable[str], countries: Iterable[str] = wording.COUNTRIES) -> list[Finding]:
    """As ``check_caption``, with the kind of each finding; each is given once, in the order of the text."""
    text = plain(text)
    if not text:
        return [Finding(FindingKind.EMPTY, "is empty; the caption has to say something")]
    if len(text) > MAX_CHARACTERS:
        return [Finding(FindingKind.FORM, f"has {len(text)} characters; use at most {MAX_CHARACTERS}")]
    names = (*class_names, *(each.name for each in facts.classes), wording.UNCLASSIFIED)
    return list(dict.fromkeys(_findings(text, facts, names, tuple(countries))))


def _findings(text: str, facts: PatchFacts, names: tuple[str, ...], countries: tuple[str, ...]) -> Iterator[Finding]:
    found = tokens(text, names, countries, facts.climate, facts.country)
    if all(token.kind == "mark" for token in found):
        yield Finding(FindingKind.EMPTY, "has no words; the caption has to say something")
    outside = text
    for token in found:
        if token.kind == "class":
            outside = outside[: token.start] + " " * (token.end - token.start) + outside[token.end :]
    form = _FORM.search(outside)
    if form:
        yield Finding(FindingKind.FORM, f"holds {form.group()[:40]!r}, which has no place in a plain sentence")
    support = Support(facts)
    for statement in statements(found):
        yield from support.findings(statement)
    yield from particulars(found, facts)


__all__ = ["Finding", "FindingKind", "check_caption", "findings_of"]
