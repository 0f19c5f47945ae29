"""Read a caption back and hold what it says to the facts.

The check works from the text alone, whoever wrote it. It would rather refuse a true sentence that it cannot
follow than let a false one pass: a share that belongs to no class is a finding, too. What it does not read is
what a class name does not say (synonyms, negations, directions).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from rsdata.captions import wording
from rsdata.captions.facts import unclassified_share
from rsdata.records import PatchFacts
from rsdata.sensors import SENSORS

_ROUNDING = 1e-9  # slack for shares that lie half-way between two percentages
_QUANTITY = re.compile(
    r"(?:\b(?P<bound>less than|under|below|more than|over|above)\s+)?"
    r"(?<![\d.,\u2010-\u2015-])(?P<number>\d+(?:[.,]\d+)?)\s*(?:%|per\s?cent\b)"
    + "".join(rf"|\b(?P<phrase{index}>{phrase.pattern})(?!\w)" for index, phrase in enumerate(wording.SHARE_PHRASES)),
    re.IGNORECASE,
)
_LOOSE_PERCENT = re.compile(r"%|\bper\s?cent\b", re.IGNORECASE)
_DOMINANCE = re.compile(rf"\b(?:{wording.DOMINANCE_WORDS})(?!\w)", re.IGNORECASE)
# What ends the reach of a share: it does not belong to a class on the other side.
_BREAK = re.compile(r"[.,;:!?()]|\b(?:and|but|while|whereas|plus|with|or)\b", re.IGNORECASE)
_SEASONS = {season: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for season, words in wording.SEASON_WORDS.items()}
_SENSORS = {sensor: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for sensor, words in wording.SENSOR_WORDS.items()}
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d{2}(?!\d)")
_ISO_MONTH = re.compile(r"(?<!\d)\d{4}-(?P<month>\d{2})(?!\d)")
# "may" and "march" are words of their own, and so are some short forms, unless they have a capital.
_MONTHS = {
    number: re.compile(rf"\b(?:{name}|{name[:3]}{'t?' if name == 'September' else ''})\b", 0 if name in ("March", "May") else re.IGNORECASE)
    for number, name in enumerate(wording.MONTHS, start=1)
}


@dataclass(frozen=True)
class _Mention:
    """A class named in the text."""

    start: int
    end: int
    name: str


def check_caption(text: str, facts: PatchFacts, class_names: Iterable[str], countries: Iterable[str] = wording.COUNTRIES) -> list[str]:
    """List what a caption says that its facts do not hold; an empty list means the caption is supported.

    Findings are: a class that the facts do not hold; a percentage that differs from the class's share by more than
    its own rounding, or a phrase such as "about half" outside its range; a share that belongs to no class; a class
    said to dominate that is not the largest; another season, country, year, month or sensor; an empty text.

    Args:
        text: the caption, in English.
        facts: what is known about the patch.
        class_names: every class of the nomenclature, those absent from the patch above all.
        countries: every country name to watch for.
    """
    text = _plain(text)
    if not text:
        return ["the caption is empty"]
    shares = {each.name: each.share for each in facts.classes}
    rest_share = unclassified_share(facts)
    if rest_share >= 0.005 or not shares:
        shares[wording.UNCLASSIFIED] = rest_share

    mentions = _mentions(text, (*class_names, *(each.name for each in facts.classes), wording.UNCLASSIFIED))
    findings = [f"names {each.name!r}, which the facts do not hold" for each in mentions if each.name not in shares]
    rest = _blank(text, ((each.start, each.end) for each in mentions))
    rest, country_findings = _check_countries(rest, facts, countries)
    findings += _check_shares(rest, mentions, shares)
    findings += _check_dominance(rest, mentions, shares)
    findings += country_findings
    findings += _check_time(rest, facts)
    findings += [
        f"speaks of {SENSORS[sensor].title}, which did not see this patch"
        for sensor, pattern in _SENSORS.items()
        if sensor not in facts.sensors and pattern.search(rest)
    ]
    return list(dict.fromkeys(findings))


def _plain(text: str) -> str:
    """The text as a person sees it: one form per letter, single spaces, no invisible characters."""
    visible = "".join(letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) != "Cf")
    return " ".join(visible.split())


def _mentions(text: str, class_names: tuple[str, ...]) -> list[_Mention]:
    """Classes named in a text, in its order; of two names that fit, the longer is meant."""
    names, pattern = _class_reader(tuple(dict.fromkeys(class_names)))
    return [_Mention(match.start(), match.end(), names[int(match.lastgroup[1:])]) for match in pattern.finditer(text) if match.lastgroup]


@lru_cache(maxsize=64)
def _class_reader(class_names: tuple[str, ...]) -> tuple[list[str], re.Pattern[str]]:
    names = sorted((name for name in class_names if name.strip()), key=lambda name: (-len(name), name))
    each = "|".join(f"(?P<c{index}>{wording.class_pattern(name)})" for index, name in enumerate(names))
    return names, re.compile(rf"(?<![\w\u2010-\u2015-])(?:{each})(?!\w)", re.IGNORECASE)


def _blank(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Overwrite parts of a text with ``#``, so that places in it stay the same and nothing is read there twice."""
    for start, end in spans:
        text = text[:start] + "#" * (end - start) + text[end:]
    return text


def _check_shares(rest: str, mentions: list[_Mention], shares: dict[str, float]) -> list[str]:
    quantities = list(_QUANTITY.finditer(rest))
    between = _blank(rest, (match.span() for match in quantities))
    findings, taken = [], set[_Mention]()
    for match in quantities:
        said = match.group().strip()
        mention = _owner(match, between, mentions, taken)
        if mention is None:
            findings.append(f"says {said!r}, but of which class cannot be read")
            continue
        taken.add(mention)
        if mention.name in shares and not _agrees(match, shares[mention.name]):
            findings.append(f"says {said!r} of {mention.name!r}, whose share is {100 * shares[mention.name]:.1f}%")
    findings += ["states a percentage that is not one number in digits" for _ in _LOOSE_PERCENT.finditer(between)]
    return findings


def _owner(match: re.Match[str], between: str, mentions: list[_Mention], taken: set[_Mention]) -> _Mention | None:
    """The class a share belongs to.

    In brackets that name no class it is the class before them: "pastures (45%)". Otherwise it is the class
    before it, "pastures cover 45%", or else the one after it, "45% is covered by pastures", with nothing
    between that ends a clause.
    """
    start, end = match.span()
    opened = between.rfind("(", 0, start)
    if opened > between.rfind(")", 0, start):
        closed = between.find(")", end)
        inside = [each for each in mentions if opened < each.start < (closed if closed >= 0 else len(between))]
        if not inside:
            start = opened
    before = next((each for each in reversed(mentions) if each.end <= start), None)
    after = next((each for each in mentions if each.start >= end), None)
    if before is not None and before not in taken and not _BREAK.search(between[before.end : start]):
        return before
    if start == match.start() and after is not None and not _BREAK.search(between[end : after.start]):
        return after
    return None


def _agrees(match: re.Match[str], share: float) -> bool:
    """Whether a share is what a percentage or phrase says, within the rounding of the digits shown."""
    number = match["number"]
    if number is None:
        return wording.SHARE_PHRASES[int(str(match.lastgroup).removeprefix("phrase"))].allows(share)
    digits = len(number.replace(",", ".").partition(".")[2])
    value, step, actual = float(number.replace(",", ".")), 10.0**-digits, 100 * share
    match (match["bound"] or "").lower():
        case "":
            return abs(actual - value) <= step / 2 + _ROUNDING
        case "less than" | "under" | "below":
            return value - step - _ROUNDING <= actual < value
        case _:
            return value < actual <= value + step + _ROUNDING


def _check_dominance(rest: str, mentions: list[_Mention], shares: dict[str, float]) -> Iterator[str]:
    largest = max(shares.values())
    for match in _DOMINANCE.finditer(rest):
        after = next((each for each in mentions if each.start >= match.end()), None)
        if after is None or _BREAK.search(rest[match.end() : after.start]) or after.name not in shares:
            continue
        if shares[after.name] < largest - _ROUNDING:
            yield f"says {match.group()!r} of {after.name!r}, which is not the largest class"


def _check_countries(rest: str, facts: PatchFacts, countries: Iterable[str]) -> tuple[str, list[str]]:
    """Findings about countries, and the text without them: a name may hold an "and"."""
    own = facts.country or ""
    matches = list(_country_reader(tuple(dict.fromkeys((*countries, own)))).finditer(rest))
    wrong = (match.group() for match in matches if match.group().casefold() != unicodedata.normalize("NFKC", own).casefold())
    found = [f"names {each}, but the patch lies in {own}" if own else f"names {each}, but no country is known" for each in wrong]
    return _blank(rest, (match.span() for match in matches)), found


@lru_cache(maxsize=64)
def _country_reader(countries: tuple[str, ...]) -> re.Pattern[str]:
    names = sorted({unicodedata.normalize("NFKC", name) for name in countries if name.strip()}, key=lambda name: (-len(name), name))
    if not names:
        return re.compile(r"(?!)")
    return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(name) for name in names)})(?!\w)", re.IGNORECASE)


def _check_time(rest: str, facts: PatchFacts) -> Iterator[str]:
    for season, pattern in _SEASONS.items():
        if season != facts.season and (match := pattern.search(rest)):
            yield f"says {match.group()!r}, but the season is {facts.season}"
    for match in _YEAR.finditer(rest):
        if int(match.group()) != facts.year:
            yield f"says {match.group()}, but the year is {facts.year}"
    own_month = wording.MONTHS[facts.month - 1]
    for number, pattern in _MONTHS.items():
        if number != facts.month and (match := pattern.search(rest)):
            yield f"says {match.group()!r}, but the month is {own_month}"
    for match in _ISO_MONTH.finditer(rest):
        if int(match["month"]) != facts.month:
            yield f"says {match.group()}, but the month is {own_month}"
