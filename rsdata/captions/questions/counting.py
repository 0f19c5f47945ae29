"""How many separate regions a class forms; asked only where none of them is too small to count."""

from collections.abc import Sequence

from rsdata.captions.draw import Draw
from rsdata.captions.grammar import verb
from rsdata.captions.questions.question import OPTIONS, Around, Question, pair
from rsdata.captions.view import View
from rsdata.captions.wording import class_in_sentence

_MOST = 20  # regions that anyone would count
_BINARY = (
    "{3} {0} form exactly {1} in this patch?",
    "Is the number of separate regions of {0} in this image {2}?",
    "Are the pixels of {0} spread over exactly {1}?",
)
_CHOICE = (
    "How many separate regions of {0} are there?",
    "Into how many separate regions {1} {0} divided in this patch?",
    "What is the number of separate regions of {0} in this image?",
)


def ask_counting(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    """A pair about an exact number, and a choice between four numbers in a row.

    Both are rarer where the number is one, or one would be the answer to bet on.
    """
    counts = [(name, count) for name in view.sized if view.all_count(name) and (count := view.class_of[name].regions) <= _MOST]
    if not counts:
        return []
    asked: list[Question] = []
    name, count = draw.one_of(counts)
    # As with areas: if another class has another number, the same number is wrong of it.
    others = [other for other, its in counts if its != count]
    if others or count > 1 or draw.below(3) == 0:
        number = draw.below(len(_BINARY))
        wrong = (draw.one_of(others), count) if others else (name, count + (-1 if count > 1 and draw.below(2) else 1))
        asked += pair(f"counting.binary.{number}", _said(number, name, count), _said(number, *wrong))

    count = draw.one_of(sorted({its for _, its in counts}))  # so that one region is not the usual answer
    if count == 1 and draw.below(3):
        return asked
    name = draw.one_of([name for name, its in counts if its == count])
    lowest = count - draw.below(min(count, OPTIONS))
    options = [str(each) for each in range(lowest, lowest + OPTIONS) if each != count]
    number = draw.below(len(_CHOICE))
    text = _CHOICE[number].format(class_in_sentence(name), verb(name, "is", "are"))
    asked.append(Question("multiple_choice", f"counting.choice.{number}", text, str(count), tuple(draw.shuffled(options))))
    return asked


def _said(number: int, name: str, count: int) -> str:
    regions = f"{count} separate region" if count == 1 else f"{count} separate regions"
    return _BINARY[number].format(class_in_sentence(name), regions, count, verb(name, "Does", "Do"))
