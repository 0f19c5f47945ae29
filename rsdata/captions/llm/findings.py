"""What can be wrong with an answer before it is held to the facts: its form, what it leaves out, and what it may not tell.

Whether what it says is true, and that it is made of plain words only, is for the check to say.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from rsdata.captions import wording
from rsdata.captions.division import Division, Subject
from rsdata.captions.telling import may_tell_all
from rsdata.records import PatchFacts

MAX_CHARACTERS = 1200

_QUOTES = re.compile(r"[\"“”„«»`]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Finding(NamedTuple):
    """One thing wrong with an answer: its kind, to be counted, and words that go on from "it"."""

    kind: str
    sentence: str


@dataclass(frozen=True)
class Draft:
    """A patch to be described, a correct text about it, and what a caption of it may tell."""

    facts: PatchFacts
    text: str
    division: Division

    @property
    def classes(self) -> list[str]:
        """Classes that a caption may name: by falling share if it may tell areas, else by name; none for a patch without any."""
        named = [each.name for each in self.facts.classes if each.name in self.division.named or may_tell_all(self.division)]
        return named if self.may_tell("area") else sorted(named)

    def may_tell(self, subject: Subject) -> bool:
        return subject in self.division.told


Check = Callable[[str, Draft], Sequence[Finding]]


def form_findings(text: str, draft: Draft) -> list[Finding]:
    """List what speaks against a text whatever it says.

    Findings are: too long; line breaks, control characters or quotation marks; no end; the same said twice; the first of
    the classes not named.
    """
    if len(text) > MAX_CHARACTERS:
        return [Finding("form", f"has {len(text)} characters; use at most {MAX_CHARACTERS}")]
    found = []
    if _CONTROL.search(text):
        found.append(Finding("form", "has line breaks or control characters; write one paragraph"))
    if _QUOTES.search(_any_of((*(each.name for each in draft.facts.classes), draft.facts.country or "")).sub(" ", text)):
        found.append(Finding("form", "has quotation marks; write plain sentences"))
    if not text.rstrip().endswith("."):
        found.append(Finding("form", "does not end with a full stop"))
    sentences = [" ".join(each.casefold().split()) for each in _SENTENCE_END.split(text.strip())]
    if len(set(sentences)) < len(sentences) or _loops(text):
        found.append(Finding("repetition", "says the same twice"))
    first = draft.classes[0] if draft.classes else wording.UNCLASSIFIED
    if not _any_of((first,)).search(text):
        found.append(Finding("omission", f"does not name {first!r}, the first class of the facts"))
    return found


def _loops(text: str) -> bool:
    """Whether four words or more come back at once, as of a model that cannot stop."""
    words = [word.lower() for word in _WORD.findall(text)]
    return any(words[i : i + n] == words[i + n : i + 2 * n] for n in range(4, len(words) // 2 + 1) for i in range(len(words) - 2 * n + 1))


@lru_cache(maxsize=4096)
def _any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted({name for name in names if name.strip()}, key=lambda name: (-len(name), name))
    if not longest_first:
        return re.compile(r"(?!)")
    return re.compile(rf"(?<!\w)(?:{'|'.join(wording.class_pattern(name) for name in longest_first)})(?!\w)", re.IGNORECASE)
