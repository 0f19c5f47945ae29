"""What a text tells that was left to questions: the other half of a division, seen from the text.

A caption that a template writes keeps to its division by construction. Of one that a model writes it has to be read.
"""

from collections.abc import Iterable, Iterator

from rsdata.captions import wording
from rsdata.captions.check.reading import statements
from rsdata.captions.check.statements import Absent, Beside, Holds, Lies, More, Nothing, Present, Ranks, Regions, Statement, Things, Touches
from rsdata.captions.check.tokens import plain, tokens
from rsdata.captions.division import Division, Subject
from rsdata.records import PatchFacts

_SAID: dict[Subject, str] = {
    "area": "how much of the patch a class covers, or which covers more",
    "counting": "how many there are of something",
    "adjacency": "what borders on what",
    "relative_position": "where something lies",
    "country": "the country",
    "season": "the season or the month",
    "climate": "the climate",
}
_OF_TOKEN: dict[str, Subject] = {"country": "country", "season": "season", "month": "season", "day": "season", "climate": "climate"}


def may_tell_all(division: Division) -> bool:
    """Whether the recipe lets captions answer questions, so that nothing is divided."""
    return bool(division.told & division.asked)


def told_beyond(
    text: str, facts: PatchFacts, division: Division, class_names: Iterable[str], countries: Iterable[str] = wording.COUNTRIES
) -> list[str]:
    """What a text tells although questions ask it of the same patch, in words that go on from "it"; each subject once."""
    if may_tell_all(division):
        return []
    names = (*class_names, *(each.name for each in facts.classes), wording.UNCLASSIFIED)
    found = tokens(plain(text), names, tuple(countries), facts.climate, facts.country)
    subjects = {_OF_TOKEN[token.kind] for token in found if token.kind in _OF_TOKEN}
    hidden: set[str] = set()
    for statement in statements(found):
        subjects |= set(_subject_of(statement))
        hidden |= set(_hidden_in(statement, division))
    beyond = [
        f"tells {said}, which is asked elsewhere; leave it out" for subject, said in _SAID.items() if subject in subjects - division.told
    ]
    return beyond + [f"speaks of {name}, which is asked elsewhere; leave it out" for name in sorted(hidden)]


def _subject_of(statement: Statement) -> Iterator[Subject]:
    match statement:
        case Holds() | Ranks() | More(strict=True):
            yield "area"
        case Regions() | Things(what="classes"):
            yield "counting"
        case Lies() | Beside():
            yield "relative_position"
        case Touches():
            yield "adjacency"


def _hidden_in(statement: Statement, division: Division) -> Iterator[str]:
    """Names of what a statement says of presence or absence, beyond the classes that may be named."""
    if not division.hidden:
        return
    match statement:
        case Present(sense) if not sense.stands_for & set(division.named):
            yield from sense.stands_for & set(division.hidden)
        case Absent(sense):
            yield f"what is not there ({sense.text})"
        case Nothing():
            yield "there being nothing else"
