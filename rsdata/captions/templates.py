"""Captions from fixed sentences, without a model and without a network.

The wording is drawn from a digest of the seed and the patch id, so a patch keeps its caption in whatever
order, company or process it is written.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from rsdata.captions.facts import unclassified_share
from rsdata.captions.wording import (
    MONTHS,
    UNCLASSIFIED,
    class_in_sentence,
    country_in_sentence,
    enumerate_items,
    percent,
    share_phrase,
)
from rsdata.records import ClassShare, PatchFacts
from rsdata.sensors import SENSORS

_Option = TypeVar("_Option")

_MOST_WITH_SHARE = 3  # classes whose share is stated
_LEAST_SHARE = 0.05  # the first class is stated whatever its share
_LEAST_UNCLASSIFIED = 0.01


class TemplateCaptioner:
    """Writes one or a few plain sentences per patch, in one of several wordings."""

    name = "template"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def caption(self, facts: PatchFacts) -> str:
        """Describe a patch: its largest classes with their shares, season, country if known, at times more."""
        draw = _Draw(self.seed, facts.patch_id)
        stated = [each for each in facts.classes if each.share >= _LEAST_SHARE][:_MOST_WITH_SHARE] or facts.classes[:1]
        others = facts.classes[len(stated) :]
        sentences = [*_opening(facts, stated, draw)]
        if draw.one_of((True, True, False)) and others:
            names = enumerate_items([class_in_sentence(each.name) for each in others])
            sentences.append(draw.one_of((f"It also shows {names}.", f"Smaller parts are covered by {names}.")))
        if facts.classes and unclassified_share(facts) >= _LEAST_UNCLASSIFIED:
            sentences.append(f"{UNCLASSIFIED.capitalize()} makes up {percent(unclassified_share(facts))} of it.")
        if draw.one_of((True, False, False)):
            sentences.append(f"It was seen by {enumerate_items([SENSORS[name].title for name in facts.sensors])}.")
        return " ".join(sentences)


class _Draw:
    """Choices that follow from the seed and the patch id alone."""

    def __init__(self, seed: int, patch_id: str) -> None:
        self._number = int.from_bytes(hashlib.sha256(f"{seed}/{patch_id}".encode()).digest())

    def one_of(self, options: Sequence[_Option]) -> _Option:
        self._number, index = divmod(self._number, len(options))
        return options[index]


def _opening(facts: PatchFacts, stated: Sequence[ClassShare], draw: _Draw) -> list[str]:
    """The first sentence or two: season, place and the stated classes."""
    classes = [_with_share(each) for each in stated] or [f"{UNCLASSIFIED} (100%)"]
    everything = enumerate_items(classes)
    season, place = facts.season, f" in {country_in_sentence(facts.country)}" if facts.country else ""
    origin = f" from {country_in_sentence(facts.country)}" if facts.country else ""
    article = "An" if season[:1] in "aeiou" else "A"
    wordings = [
        [f"{article} {season} satellite image{origin}: {everything}."],
        [f"This {season} scene{place} shows {everything}."],
        [f"In {season} {facts.year}, this patch{place} is covered by {everything}."],
        [f"Taken in {MONTHS[facts.month - 1]} {facts.year}, this {season} image{origin} shows {everything}."],
    ]
    if stated:
        first, rest = stated[0], enumerate_items(classes[1:])
        if first.share >= 0.5:
            wordings.append([f"This patch{place}, seen in {season}, is dominated by {classes[0]}{f', with {rest}' if rest else ''}."])
        phrase = share_phrase(first.share)
        if phrase is not None:
            sentence = f"{phrase.capitalize()} this {season} scene{place} is covered by {class_in_sentence(first.name)}."
            wordings.append([sentence, f"The rest includes {rest}."] if rest else [sentence])
    return draw.one_of(wordings)


def _with_share(each: ClassShare) -> str:
    return f"{class_in_sentence(each.name)} ({percent(each.share)})"
