"""How much of the patch a class covers, as a share, in hectares, or beside another class.

A share is asked only if it keeps half a percentage point away from the ends of its interval, and two classes are compared
only if one leads the other by two percentage points of the patch.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from rsdata.captions.draw import Draw
from rsdata.captions.grammar import verb
from rsdata.captions.questions.question import OPTIONS, Around, Question, likely, pair
from rsdata.captions.view import CLEAR_SHARE, PATCH_PX, View
from rsdata.captions.wording import class_in_sentence

_CLEAR_POINTS = 0.5  # percentage points between a share and the ends of its interval
_LEAST_HA = 6  # smaller areas differ too little to be told apart in whole hectares
_PATCH_HA = PATCH_PX**2 // 100  # a pixel is 0.01 ha
_SMALLER, _LARGER = (0.25, 0.45, 0.7), (1.3, 1.6, 2.0)  # wrong areas, as parts of the right one

_INTERVAL = (
    "{3} {0} cover between {1}% and {2}% of this patch?",
    "Is the share of {0} in this image between {1}% and {2}%?",
    "Do between {1}% and {2}% of the patch belong to {0}?",
)
_COMPARED = (
    "{2} {0} cover a larger area than {1}?",
    "Is the area of {0} larger than that of {1}?",
    "Is more of this patch covered by {0} than by {1}?",
)
_SHARE = (
    "What share of this patch {1} {0} cover?",
    "How much of the image belongs to {0}?",
)
_HECTARES = (
    "How large is the area of {0} in this patch?",
    "About how many hectares {1} {0} cover here?",
)
_LARGEST = (
    "Which of these classes covers the largest area?",
    "Which of these land-cover classes has the largest share of the patch?",
)


def ask_area(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    """A pair about a share or a comparison, and a choice between shares, areas or classes."""
    clear = [(name, decile) for name in view.sized if (decile := _clear_decile(view.class_of[name].share)) is not None]
    leads = list(_leads(view))
    return [*_binary(view, clear, leads, draw), *_choice(view, clear, leads, around, draw)]


def _binary(view: View, clear: list[tuple[str, int]], leads: list[tuple[str, str]], draw: Draw) -> list[Question]:
    if leads and (not clear or draw.below(2)):
        larger, smaller = draw.one_of(leads)
        number = draw.below(len(_COMPARED))
        return pair(f"area.binary.compared.{number}", _comparison(number, larger, smaller), _comparison(number, smaller, larger))
    if not clear:
        return []
    name, decile = draw.one_of(clear)
    # Another class of another share makes a wrong statement with the same numbers, so the numbers alone tell nothing.
    others = [other for other, its in clear if its != decile]
    number = draw.below(len(_INTERVAL))
    yes = _in_interval(number, name, decile)
    if others:
        return pair(f"area.binary.share.{number}", yes, _in_interval(number, draw.one_of(others), decile))
    wrong = decile + (1 if decile == 1 or (decile < 10 and draw.below(2)) else -1)
    return pair(f"area.binary.share.{number}", yes, _in_interval(number, name, wrong))


def _choice(view: View, clear: list[tuple[str, int]], leads: list[tuple[str, str]], around: Around, draw: Draw) -> list[Question]:
    measured = [name for name in view.sized if view.class_of[name].area_m2 >= _LEAST_HA * 10_000]
    kinds = [kind for kind, can in (("largest", leads), ("share", clear), ("hectares", measured)) if can]
    if not kinds:
        return []
    kind = draw.one_of(kinds)
    if kind == "largest":
        return _largest(view, leads, around, draw)
    if kind == "share":
        decile = draw.one_of(sorted({its for _, its in clear}))
        name = draw.one_of([name for name, its in clear if its == decile])
        first, last = max(1, decile - OPTIONS + 1), min(decile, 11 - OPTIONS)  # where four tenths in a row may begin
        lowest = first + draw.below(last - first + 1)
        wrong = draw.shuffled([each for each in range(lowest, lowest + OPTIONS) if each != decile])
        number = draw.below(len(_SHARE))
        options = tuple(f"{10 * each - 10}% to {10 * each}%" for each in (decile, *wrong))
        return [Question("multiple_choice", f"area.choice.share.{number}", _asking(_SHARE[number], name), options[0], options[1:])]
    name = draw.one_of(measured)
    area_ha = round(view.class_of[name].area_m2 / 10_000)
    larger = [round(area_ha * factor) for factor in _LARGER if area_ha * factor <= _PATCH_HA]
    smaller = [round(area_ha * factor) for factor in _SMALLER]
    below = (OPTIONS - 1 - len(larger)) + draw.below(len(larger) + 1)  # how many wrong areas are smaller
    wrong = draw.shuffled(smaller)[:below] + draw.shuffled(larger)[: OPTIONS - 1 - below]
    number = draw.below(len(_HECTARES))
    text = _asking(_HECTARES[number], name)
    return [Question("multiple_choice", f"area.choice.hectares.{number}", text, f"{area_ha} ha", tuple(f"{each} ha" for each in wrong))]


def _largest(view: View, leads: list[tuple[str, str]], around: Around, draw: Draw) -> list[Question]:
    larger = draw.one_of(leads)[0]
    smaller = draw.shuffled([name for first, name in leads if first == larger])
    absent = [name for name in around.classes if name not in view.class_of]
    wrong = [*smaller, *likely(absent, view.sized, around, draw)][: OPTIONS - 1]
    if len(wrong) < OPTIONS - 1:
        return []
    number = draw.below(len(_LARGEST))
    return [Question("multiple_choice", f"area.choice.largest.{number}", _LARGEST[number], larger, tuple(wrong))]


def _in_interval(number: int, name: str, decile: int) -> str:
    return _INTERVAL[number].format(class_in_sentence(name), 10 * decile - 10, 10 * decile, verb(name, "Does", "Do"))


def _comparison(number: int, name: str, other: str) -> str:
    return _COMPARED[number].format(class_in_sentence(name), class_in_sentence(other), verb(name, "Does", "Do"))


def _asking(words: str, name: str) -> str:
    return words.format(class_in_sentence(name), verb(name, "does", "do"))


def _leads(view: View) -> Iterator[tuple[str, str]]:
    """Classes, the first clearly larger than the second."""
    for larger, smaller in combinations(view.sized, 2):  # by falling share
        if view.class_of[larger].share - view.class_of[smaller].share >= CLEAR_SHARE:
            yield larger, smaller


def _clear_decile(share: float) -> int | None:
    """Which tenth of the patch a share lies in, 1 to 10; None near a border between two."""
    percent = 100 * share
    to_border = abs(percent - 10 * round(percent / 10))
    if to_border < _CLEAR_POINTS and 5 < percent < 95:
        return None
    return min(10, int(percent // 10) + 1)
