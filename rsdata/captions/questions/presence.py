"""Is a class there? Absent ones are those most easily taken for one that is."""

from collections.abc import Sequence

from rsdata.captions.draw import Draw
from rsdata.captions.grammar import verb
from rsdata.captions.questions.question import OPTIONS, Around, Question, likely, pair
from rsdata.captions.view import View
from rsdata.captions.wording import class_in_sentence

_BINARY = (
    "{} there any {} in this patch?",
    "Does this patch contain {1}?",
    "Can {1} be found in this image?",
)
_CHOICE = (
    "Which of these classes is present in this patch?",
    "One of these land-cover classes occurs in the image. Which one?",
    "Which land-cover class can be found here?",
)


def ask_presence(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    """A class that is there, and one or three that have not one pixel; the first of these a sibling, if it has any."""
    absent = [name for name in around.classes if name not in view.class_of]
    if not hidden or not absent:
        return []
    name = draw.one_of(hidden)
    wrong = likely(absent, [name, *view.sized], around, draw)
    number = draw.below(len(_BINARY))
    asked = pair(f"presence.binary.{number}", *(_said(number, each) for each in (name, wrong[0])))
    if len(wrong) >= OPTIONS - 1:
        number = draw.below(len(_CHOICE))
        right = draw.one_of(hidden)
        # One that is easily taken for the right one; were all, a class of a small group would stand out as right.
        near = likely(absent, [right, *view.sized], around, draw)[0]
        others = draw.shuffled([name for name in absent if name != near])[: OPTIONS - 2]
        asked.append(Question("multiple_choice", f"presence.choice.{number}", _CHOICE[number], right, (near, *others)))
    return asked


def _said(number: int, name: str) -> str:
    return _BINARY[number].format(verb(name, "Is", "Are"), class_in_sentence(name))
