"""In which direction one class lies from another, by their only or largest regions; see ``view.clear_direction``."""

from collections.abc import Sequence

from rsdata.captions.draw import Draw
from rsdata.captions.questions.question import Around, Question, pair
from rsdata.captions.view import View, direction_word
from rsdata.captions.wording import class_in_sentence

_BINARY = (
    "Does {} lie to the {} of {}?",
    "Is {} found {} of {}?",
    "Seen from {2}, does {0} lie in the {1}?",
)
_CHOICE = (
    "In which direction does {} lie from {}?",
    "Seen from {1}, where does {0} lie?",
    "Where is {} in relation to {}?",
)


def ask_position(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    """A pair about two directions, and a choice between four that are a quarter turn apart."""
    directions = list(view.directions())
    if not directions:
        return []
    first, second, direction = _drawn(directions, draw)
    number = draw.below(len(_BINARY))
    # The same direction with the two exchanged, or a direction at least a quarter turn off.
    wrong = (second, first, direction) if draw.below(2) else (first, second, direction + draw.one_of((2, 4, 6)))
    asked = pair(f"position.binary.{number}", _said(view, number, first, second, direction), _said(view, number, *wrong))
    first, second, direction = _drawn(directions, draw)
    number = draw.below(len(_CHOICE))
    text = _CHOICE[number].format(_called(view, first), _called(view, second))
    options = [direction_word(direction + turn) for turn in (0, *draw.shuffled((2, 4, 6)))]
    asked.append(Question("multiple_choice", f"position.choice.{number}", text[0].upper() + text[1:], options[0], tuple(options[1:])))
    return asked


def _drawn(directions: list[tuple[str, str, int]], draw: Draw) -> tuple[str, str, int]:
    first, second, direction = draw.one_of(directions)
    return (first, second, direction) if draw.below(2) else (second, first, direction + 4)


def _said(view: View, number: int, first: str, second: str, direction: int) -> str:
    return _BINARY[number].format(_called(view, first), direction_word(direction), _called(view, second))


def _called(view: View, name: str) -> str:
    main = view.main_region(name)
    return f"{main[0] if main else 'the region'} of {class_in_sentence(name)}"
