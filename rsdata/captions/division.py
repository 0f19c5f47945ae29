"""What a patch's caption may tell and what its questions may ask: two parts that share no answer.

Country, season, climate, areas, counts, borders and positions each go to one side or the other by a fair draw. A caption
always names the largest classes, and where there are several it leaves at least one unnamed, whose presence can be
asked. Nothing is divided if the recipe lets captions answer.
"""

from dataclasses import dataclass
from typing import Literal

from rsdata.captions.draw import Draw
from rsdata.captions.view import View

Subject = Literal["area", "counting", "adjacency", "relative_position", "country", "season", "climate"]
DIVIDED: tuple[Subject, ...] = ("area", "counting", "adjacency", "relative_position", "country", "season", "climate")
_MOST_NAMED = 3
_MOST_NAMED_FREELY = 5  # where captions may answer


@dataclass(frozen=True)
class Division:
    """One patch's."""

    told: frozenset[str]  # of ``DIVIDED``, in the caption
    asked: frozenset[str]  # of ``DIVIDED``, in questions
    named: tuple[str, ...]  # classes the caption may name, by falling share
    hidden: tuple[str, ...]  # classes whose presence may be asked


def divide(view: View, seed: int, may_answer: bool) -> Division:
    """Divide one patch, by a draw that follows from the seed and the patch id."""
    names = view.sized or [each.name for each in view.facts.classes]
    if may_answer:
        return Division(frozenset(DIVIDED), frozenset(DIVIDED), tuple(names[:_MOST_NAMED_FREELY]), tuple(view.sized))
    draw = Draw(seed, view.facts.patch_id, "division")
    told = frozenset(subject for subject in DIVIDED if draw.below(2))
    most = min(_MOST_NAMED, max(1, len(names) - 1))
    named = tuple(names[: 1 + draw.below(most)])
    return Division(told, frozenset(DIVIDED) - told, named, tuple(name for name in view.sized if name not in named))
