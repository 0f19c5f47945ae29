"""Which classes border each other: share sides of pixels, 30 m at least; a corner is no border."""

from collections.abc import Sequence

from rsdata.captions.draw import Draw
from rsdata.captions.grammar import verb
from rsdata.captions.questions.question import OPTIONS, Around, Question, likely, pair
from rsdata.captions.view import View
from rsdata.captions.wording import class_in_sentence

_BINARY = (
    "Do {0} and {1} share a border in this patch?",
    "Is there a border between {0} and {1}?",
    "{2} {0} lie next to {1} in this image?",
)
_CHOICE = (
    "Which of these classes borders {}?",
    "Which class shares a border with {} in this patch?",
    "Next to {} lies one of these classes. Which one?",
)


def ask_adjacency(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    """A pair about two borders of one class, and a choice between its neighbours and others."""
    bordering = view.bordering()
    if not bordering:
        return []
    name, neighbour = _drawn(bordering, draw)
    apart = _apart(view, name, neighbour, around, draw)
    asked: list[Question] = []
    if apart:
        number = draw.below(len(_BINARY))
        words = [
            _BINARY[number].format(class_in_sentence(name), class_in_sentence(other), verb(name, "Does", "Do"))
            for other in (neighbour, apart[0])
        ]
        asked += pair(f"adjacency.binary.{number}", *words)
    name, neighbour = _drawn(bordering, draw)
    apart = _apart(view, name, neighbour, around, draw)
    if len(apart) >= OPTIONS - 1:
        number = draw.below(len(_CHOICE))
        text = _CHOICE[number].format(class_in_sentence(name))
        asked.append(Question("multiple_choice", f"adjacency.choice.{number}", text, neighbour, tuple(apart[: OPTIONS - 1])))
    return asked


def _drawn(bordering: list[tuple[str, str]], draw: Draw) -> tuple[str, str]:
    first, second = draw.one_of(bordering)
    return (first, second) if draw.below(2) else (second, first)


def _apart(view: View, name: str, neighbour: str, around: Around, draw: Draw) -> list[str]:
    """Classes without a border to ``name``: those of the patch first, then those easily taken for the neighbour."""
    touching = view.neighbours[name]
    present = [other for other in view.sized if other != name and other not in touching]
    absent = [other for other in around.classes if other not in view.class_of]
    return [*likely(present, [neighbour], around, draw), *likely(absent, [neighbour, name], around, draw)]
