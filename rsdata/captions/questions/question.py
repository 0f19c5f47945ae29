"""What a question is, and what those who ask may know beside the facts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rsdata.captions.draw import Draw
from rsdata.captions.view import View
from rsdata.records import PixelBox, PixelPoint, TextCategory

_SECOND_HAND = 9  # rank of siblings of other classes than the one that is asked about
OPTIONS = 4  # of a multiple choice question; one that cannot have as many is not asked


class Question(NamedTuple):
    """One question or instruction about one patch, with its answer; a right option has no place among the wrong ones yet."""

    category: TextCategory
    template: str  # which wording
    text: str
    answer: str
    wrong: tuple[str, ...] = ()
    box: PixelBox | None = None
    point: PixelPoint | None = None


@dataclass(frozen=True)
class Around:
    """What is known of the dataset: what could be, but is not, comes from here."""

    classes: tuple[str, ...]  # every class of the nomenclature
    countries: tuple[str, ...] = ()
    climates: tuple[str, ...] = ()
    # Class to those it is easily taken for: those of its group at each level of the hierarchy, the narrowest first.
    siblings: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)


# Asks about one subject: the patch, which classes' presence may be asked, what could be, and a stream of choices.
Asker = Callable[[View, Sequence[str], Around, Draw], list[Question]]


def pair(template: str, yes: str, no: str) -> list[Question]:
    """A question whose answer is yes, and the same in other words of the patch whose answer is no."""
    return [Question("binary", template, yes, "yes"), Question("binary", template, no, "no")]


def likely(wanted: Sequence[str], near: Sequence[str], around: Around, draw: Draw) -> list[str]:
    """Classes in a seeded order that puts those first which are easily taken for one of ``near``.

    Args:
        wanted: classes to order.
        near: classes of the patch; siblings of the first come first, the closest before others.
    """
    mixed = draw.shuffled(wanted)
    if len(mixed) < 2 or not around.siblings:
        return mixed
    rank: dict[str, int] = {}
    for name in near:
        for level, group in enumerate(around.siblings.get(name, ())):
            for sibling in group:
                rank.setdefault(sibling, level if name == near[0] else _SECOND_HAND)
    return sorted(mixed, key=lambda name: rank.get(name, _SECOND_HAND + 1))
