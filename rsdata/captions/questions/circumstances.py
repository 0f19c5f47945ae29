"""What the pixels of the map cannot show: country, season and climate zone, each asked only where it is known."""

from collections.abc import Callable, Iterable, Sequence

from rsdata.captions.draw import Draw
from rsdata.captions.questions.question import OPTIONS, Around, Question, pair
from rsdata.captions.view import View
from rsdata.captions.wording import country_in_sentence
from rsdata.records import SEASONS

_COUNTRY = ("Does this patch lie in {}?", "Was this image taken over {}?", "Is {} the country shown here?")
_COUNTRY_CHOICE = ("In which country does this patch lie?", "Over which country was this image taken?")
_SEASON = ("Was this image taken in {}?", "Is {} the season of this image?", "Does the image show the patch in {}?")
_SEASON_CHOICE = ("In which season was this image taken?", "Which season does the image show?")
_CLIMATE = ('Does this patch lie in the climate zone "{}"?', 'Is "{}" the climate zone of this patch?')
_CLIMATE_CHOICE = ("In which climate zone does this patch lie?", "Which climate zone does the image show?")


# Shown as wrong answers where a dataset has fewer than four countries: those of BigEarthNet.
_OTHER_COUNTRIES = (
    "Austria", "Belgium", "Finland", "Ireland", "Kosovo", "Lithuania", "Luxembourg", "Portugal", "Serbia", "Switzerland",
)  # fmt: skip


def countries_to_ask(found: Iterable[str]) -> tuple[str, ...]:
    """Countries of a dataset, with others if they are too few for a choice."""
    own = sorted(set(found))
    return tuple(own if len(own) >= OPTIONS else sorted({*own, *_OTHER_COUNTRIES}))


def ask_country(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    own = view.facts.country
    return [] if own is None else _asked("country", own, around.countries, _COUNTRY, _COUNTRY_CHOICE, draw, country_in_sentence)


def ask_season(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    return _asked("season", view.facts.season, SEASONS, _SEASON, _SEASON_CHOICE, draw)


def ask_climate(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    """Wrong zones are those of the same main group, the first letter of the symbol, as far as they go."""
    own = view.facts.climate
    if own is None:
        return []
    return _asked("climate", own, around.climates, _CLIMATE, _CLIMATE_CHOICE, draw, near=lambda other: other[0] == own[0])


def _asked(
    subject: str,
    own: str,
    known: Sequence[str],
    binary: Sequence[str],
    choice: Sequence[str],
    draw: Draw,
    in_sentence: Callable[[str], str] = str,
    near: Callable[[str], bool] = bool,
) -> list[Question]:
    others = sorted(draw.shuffled([each for each in known if each != own]), key=lambda each: not near(each))
    if not others:
        return []
    number = draw.below(len(binary))
    words = [binary[number].format(in_sentence(each)) for each in (own, others[0])]
    asked = pair(f"{subject}.binary.{number}", *(each[0].upper() + each[1:] for each in words))
    if len(others) >= OPTIONS - 1:
        number = draw.below(len(choice))
        wrong = tuple(others[: OPTIONS - 1])
        asked.append(Question("multiple_choice", f"{subject}.choice.{number}", choice[number], own, wrong))
    return asked
