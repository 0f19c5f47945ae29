"""A text as a row of tokens: classes, quantities, places and words, each read once.

What is read takes its letters away from what is read after it, so the order of the readers below decides: a class
name may hold "and", a country's name "northern".
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rsdata.captions import wording
from rsdata.captions.check.lexicon import Reader, any_climate_word, class_reader, climate_words

# class, share, area, length, count, place in the patch, season, month, year, day, country, climate, sensor, coordinate; word, mark
Kind = Literal[
    "class", "share", "area", "length", "count", "where", "season", "month", "year", "day", "country", "climate", "sensor", "degrees"
]


@dataclass(frozen=True)
class Token:
    """One thing a text says, or one word or punctuation mark of it."""

    kind: Kind | Literal["word", "mark"]
    text: str  # as it stands in the text, in small letters for a word
    start: int
    end: int
    value: Any = None


@dataclass(frozen=True)
class Amount:
    """A stated number with its rounding, in percent, m² or m; or a phrase for a range."""

    value: float
    step: float  # what the last digit shown is worth
    bound: Literal["", "below", "above"] = ""
    low: float | None = None  # of a phrase: the smallest it may stand for, and then value and step do not matter
    high: float | None = None

    def agrees(self, actual: float) -> bool:
        """Whether it is what was rounded to this amount, or within the bound."""
        if self.bound == "below":
            return actual < self.value + _SLACK
        if self.bound == "above":
            return actual > self.value - _SLACK
        if self.low is not None and self.high is not None:
            return self.low - _SLACK <= actual <= self.high + _SLACK
        return abs(actual - self.value) <= self.step / 2 + _SLACK


@dataclass(frozen=True)
class Count:
    """A stated number of things, from ``low`` to ``high``."""

    low: int
    high: float


@dataclass(frozen=True)
class Where:
    """A direction, or the centre."""

    position: str
    form: Literal["plain", "half", "edge"] = "plain"


_SLACK = 1e-6  # for shares that lie half-way between two percentages
_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBER_WORDS = {word: value for value, word in enumerate(_UNITS)}
_NUMBER_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_NUMBER_WORDS |= {f"{ten} {unit}": 10 * i + k for i, ten in enumerate(_TENS, start=2) for k, unit in enumerate(_UNITS[:10]) if k}
_NUMBER_WORDS |= {"a hundred": 100, "one hundred": 100}
# Of two that fit, the longer; what they begin with is looked at first, as a text is tried at every word.
_NUMBER_WORD = (
    rf"(?=[{''.join(sorted({word[0] for word in _NUMBER_WORDS}))}])(?:(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_UNITS[1:10])}))?"
    rf"|(?:a|one)[\s-]hundred|{'|'.join(sorted(_UNITS, key=lambda word: -len(word)))})"
)
_MANY = float("inf")
_COUNTLESS = 1e9
_VAGUE = {
    "several": Count(3, _MANY), "multiple": Count(2, _MANY), "many": Count(5, _MANY), "numerous": Count(5, _MANY),
    "a number of": Count(2, _MANY), "a few": Count(2, 6), "a couple of": Count(2, 2), "a pair of": Count(2, 2),
    "a dozen": Count(12, 12), "a single": Count(1, 1), "one single": Count(1, 1),
}  # fmt: skip

_BELOW = r"less than|fewer than|under|below|at most|no more than|up to|not more than|just under"
_ABOVE = r"more than|over|above|at least|no less than|not less than|in excess of|just over"
_BOUNDS = rf"(?=[{''.join(sorted({phrase[0] for phrase in f'{_BELOW}|{_ABOVE}'.split('|')}))}])(?:(?P<below>{_BELOW})|(?P<above>{_ABOVE}))"
_BOUND = rf"(?:\b{_BOUNDS}\s+(?:about\s+|approximately\s+|roughly\s+)?)?"
_DIGITS = r"(?<![\w.,\u2010-\u2015-])(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)"
_NUMERAL = rf"(?:{_DIGITS}|\b(?P<spelt>{_NUMBER_WORD}))"
_AMOUNT = rf"(?:\b|(?=[~≈\s])){_BOUND}[~≈]?\s?{_NUMERAL}[\s-]?"
_SHARE_UNIT = re.compile(r"(?:%|per\s?cent\b|percent\b)", re.IGNORECASE)
_SHARE = re.compile(f"{_AMOUNT}{_SHARE_UNIT.pattern}", re.IGNORECASE)
_PHRASE = re.compile(
    rf"\b(?:{_BOUNDS}\s+)?\b(?:"
    + "|".join(rf"(?P<p{index}>{phrase.pattern})(?!\w)" for index, phrase in enumerate(wording.SHARE_PHRASES))
    + ")",
    re.IGNORECASE,
)
_NOMINAL = {"three quarters": 0.75, "two thirds": 2 / 3, "half": 0.5, "third": 1 / 3, "quarter": 0.25, "tenth": 0.1}
_AREA_UNIT = re.compile(
    r"(?=[hkms])(?:(?P<ha>ha\b|hectares?\b)|(?P<km>km²|km2\b|km\^2|sq\.?\s?km\b|square[\s-]kilomet(?:er|re)s?\b)"
    r"|(?P<m>m²|m2\b|m\^2|sq\.?\s?m\b|square[\s-]met(?:er|re)s?\b))",
    re.IGNORECASE,
)
_AREA = re.compile(f"{_AMOUNT}{_AREA_UNIT.pattern}", re.IGNORECASE)
_SIDE = r"(?:1[.]2\s?(?:km|kilomet(?:er|re)s?)|1,?200\s?(?:m|met(?:er|re)s?))"
_SIZE = re.compile(
    rf"(?:{_SIDE}|1[.]2|1,?200)\s?(?:by|x|×)\s?{_SIDE}(?:\s(?:in size|square|wide))?|{_SIDE}[\s-](?:wide|across|square|side|on a side)"
    r"|120\s?(?:by|x|×)\s?120[\s-](?:pixels?|px)"
    r"|(?:at\s)?(?:a\s)?(?:resolution of\s)?10[\s-]?(?:m|met(?:er|re)s?)[\s-](?:resolution|pixels?)",
    re.IGNORECASE,
)
_LENGTH_UNIT = re.compile(r"(?:(?P<km>km\b|kilomet(?:er|re)s?\b)|(?P<m>m\b|met(?:er|re)s?\b))", re.IGNORECASE)
_LENGTH = re.compile(f"{_AMOUNT}{_LENGTH_UNIT.pattern}", re.IGNORECASE)
_COUNT = re.compile(
    rf"\b{_BOUND}(?:{_NUMERAL}|\b(?P<vague>{'|'.join(map(re.escape, _VAGUE))}))(?![\w%]|[.,]\d)", re.IGNORECASE
)  # a number of things, or one that says nothing the check knows
_DEGREES = re.compile(
    r"(?P<latitude>latitude\s(?:of\s)?)?(?P<longitude>longitude\s(?:of\s)?)?(?P<sign>[-−])?(?P<number>\d+(?:\.\d+)?)\s?(?:°|degrees?)"
    r"\s?(?P<side>[NSEW]\b|north\b|south\b|east\b|west\b)?",
    re.IGNORECASE,
)

_MONTH_NAMES = "|".join(f"{name}|{name[:3]}{'t?' if name == 'September' else ''}\\.?" if name != "May" else name for name in wording.MONTHS)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = (
    re.compile(r"(?<!\d)(?P<year>\d{4})-(?P<number>\d{2})(?:-(?P<day>\d{2}))?(?:T[\d:.]+Z?)?(?![\d-])"),
    re.compile(rf"\b{_DAY}(?:\sof)?\s(?P<month>{_MONTH_NAMES})(?!\w)(?:,?\s(?P<year>\d{{4}}))?(?!\d)", re.IGNORECASE),
    re.compile(rf"\b(?P<month>{_MONTH_NAMES})\s{_DAY}\b(?!\s?%|[.]\d)(?:,?\s(?P<year>\d{{4}}))?(?!\d)", re.IGNORECASE),
)
# "may" and "march" are words of their own, and so are some short forms, unless they have a capital.
_MONTHS = {
    number: re.compile(rf"\b(?:{name}|{name[:3]}{'t?' if name == 'September' else ''})\b", 0 if name in ("March", "May") else re.IGNORECASE)
    for number, name in enumerate(wording.MONTHS, start=1)
}
_SEASON = re.compile("|".join(rf"\b(?P<{season}>{words})\b" for season, words in wording.SEASON_WORDS.items()), re.IGNORECASE)
_SENSOR = re.compile("|".join(rf"\b(?P<{sensor}>{words})\b" for sensor, words in wording.SENSOR_WORDS.items()), re.IGNORECASE)
_YEAR = re.compile(r"(?<![\d.,])(?:19|20)\d{2}(?![\d%]|[.,]\d|\s?(?:m|ha|km|px|pixels?)\b)")
_TIME = re.compile(r"(?:at\s)?(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?(?:\s?UTC|Z)?")

_NS = {"north": "north", "upper": "north", "top": "north", "south": "south", "lower": "south", "bottom": "south"}
_EW = {"east": "east", "right": "east", "west": "west", "left": "west"}
_COMPASS = (
    r"(?P<ns>north|south|upper|lower|top|bottom)(?:ern|erly|ernmost|most)?(?:[\s-]?(?P<ew>east|west|left|right)(?:ern|erly|ernmost)?)?"
)
_WHERE = re.compile(
    rf"(?<![\w-])(?:(?:far|extreme|very)\s)?(?:{_COMPASS}|(?P<only>east|west|left|right)(?:ern|erly|ernmost|most)?|(?P<centre>centre|center|central|middle))"
    r"(?:[\s-]hand)?(?:[\s-](?P<noun>part|parts|half|side|edge|border|boundary|margin|fringe|corner|quarter|third|portion|section|area|region|end|field))?(?![\w-])",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|\d[\w.,]*\w|[^\s\x00]")


def plain(text: str) -> str:
    """The text as a person sees it: one form per letter, single spaces, no invisible characters, plain quotes and dashes."""
    if text.isascii():
        return " ".join(text.split())
    visible = "".join(letter for letter in unicodedata.normalize("NFC", text) if unicodedata.category(letter) != "Cf")
    folded = "".join(letter if letter in "²°" else unicodedata.normalize("NFKC", letter) for letter in visible)
    folded = folded.translate(str.maketrans("‘’“”‐‑‒", "''\"\"---"))
    return " ".join(folded.split())


def tokens(
    text: str, class_names: Iterable[str], countries: Iterable[str], own_climate: str | None, own_country: str | None
) -> list[Token]:
    """Read a plain text into tokens, in its order."""
    found: list[Token] = []
    rest = text

    def take(kind: Kind, spans: Iterable[tuple[int, int, Any]]) -> None:
        nonlocal rest
        for start, end, value in list(spans):
            found.append(Token(kind, text[start:end].strip(), start, end, value))
            rest = rest[:start] + "\x00" * (end - start) + rest[end:]

    take("climate", _own_climate(rest, own_climate))  # first, as a zone's name may hold a word for a class, such as desert
    take("class", class_reader(tuple(dict.fromkeys(class_names))).find(rest))
    take("climate", _climates(rest))
    take("country", _country_reader(tuple(countries), own_country or "").find(rest))
    take("degrees", _spans(_DEGREES, rest, _coordinate))
    for pattern in _DATES:
        take("day", _spans(pattern, rest, _date))
    take("day", _spans(_TIME, rest, lambda m: {"time": (int(m["hour"]), int(m["minute"]), int(m["second"] or -1))}))
    take("sensor", _spans(_SENSOR, rest, lambda m: m.lastgroup))
    take("length", ((m.start(), m.end(), None) for m in _SIZE.finditer(rest)))
    take("where", (span for span in _wheres(rest) if span[2].form == "half"))  # before shares, for its "half"
    if _SHARE_UNIT.search(rest):
        take("share", _spans(_SHARE, rest, lambda m: _amount(m, 1)))
    take("share", _spans(_PHRASE, rest, _phrase))
    if _AREA_UNIT.search(rest):
        take("area", _spans(_AREA, rest, lambda m: _amount(m, 1e4 if m["ha"] else 1e6 if m["km"] else 1)))
    if _LENGTH_UNIT.search(rest):
        take("length", _spans(_LENGTH, rest, lambda m: _amount(m, 1e3 if m["km"] else 1)))
    for number, pattern in _MONTHS.items():
        take("month", ((match.start(), match.end(), number) for match in pattern.finditer(rest)))
    take("season", _spans(_SEASON, rest, lambda m: m.lastgroup))
    take("year", _spans(_YEAR, rest, lambda m: int(m.group())))
    take("where", _wheres(rest))
    take("count", (span for span in _spans(_COUNT, rest, _count) if span[2] is not None))
    for match in _WORD.finditer(rest):
        word = match.group()
        found.append(
            Token("word" if word[0].isalnum() else "mark", word.lower() if word[0].isalnum() else word, match.start(), match.end())
        )
    return sorted(found, key=lambda each: each.start)


def _spans(pattern: re.Pattern[str], rest: str, value: Callable[[re.Match[str]], Any]) -> Iterator[tuple[int, int, Any]]:
    return ((match.start(), match.end(), value(match)) for match in pattern.finditer(rest))


def _amount(match: re.Match[str], unit: float) -> Amount:
    value, step = _numeral(match)
    return Amount(value * unit, step * unit, "below" if match["below"] else "above" if match["above"] else "")


def _numeral(match: re.Match[str]) -> tuple[float, float]:
    """Value of a number and what its last digit is worth."""
    if match["spelt"]:
        return float(_NUMBER_WORDS[" ".join(re.split(r"[\s-]", match["spelt"].lower()))]), 1.0
    digits = match["number"]
    whole = re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits)
    digits = digits.replace(",", "" if whole else ".")
    return float(digits), 10.0 ** -len(digits.partition(".")[2])


def _phrase(match: re.Match[str]) -> Amount:
    index = next(int(name[1:]) for name, part in match.groupdict().items() if part and name[0] == "p")
    phrase = wording.SHARE_PHRASES[index]
    nominal = next((100 * value for word, value in _NOMINAL.items() if word in phrase.text), 100 * phrase.low)
    bound: Literal["", "below", "above"] = "below" if match["below"] else "above" if match["above"] else ""
    return Amount(nominal, 0, bound, 100 * phrase.low, 100 * phrase.high)


def _count(match: re.Match[str]) -> Count | None:
    if match["vague"]:
        return _VAGUE[match["vague"].lower()]
    value, step = _numeral(match)
    if step < 1 or value >= _COUNTLESS:
        return None  # not a number of things; stays a word, which nothing can read
    if match["below"]:
        return Count(0, value if "most" in match["below"].lower() or "up to" in match["below"].lower() else value - 1)
    return Count(int(value) + ("least" not in (match["above"] or "least").lower()), float("inf") if match["above"] else value)


def _coordinate(match: re.Match[str]) -> dict[str, Any]:
    number = match["number"]
    side = (match["side"] or ("N" if match["latitude"] else "E" if match["longitude"] else "")).upper()[:1]
    sign = -1 if match["sign"] or side in ("S", "W") else 1
    return {"axis": {"N": "latitude", "S": "latitude", "E": "longitude", "W": "longitude"}.get(side), "value": sign * float(number),
            "step": 10.0 ** -len(number.partition(".")[2])}  # fmt: skip


def _date(match: re.Match[str]) -> dict[str, int]:
    groups = match.groupdict()
    found = {name: int(groups[name]) for name in ("year", "day") if groups.get(name)}
    if groups.get("month"):
        found["month"] = next(i for i, name in enumerate(wording.MONTHS, start=1) if name[:3].lower() == groups["month"][:3].lower())
    elif groups.get("number"):
        found["month"] = int(groups["number"])
    return found


def _wheres(rest: str) -> Iterator[tuple[int, int, Where]]:
    for match in _WHERE.finditer(rest):
        if match["centre"]:
            position = "centre"
        else:
            parts = (_NS.get((match["ns"] or "").lower()), _EW.get((match["ew"] or match["only"] or "").lower()))
            position = "-".join(part for part in parts if part)
        noun = (match["noun"] or "").lower()
        yield match.start(), match.end(), Where(position, "half" if noun == "half" else "edge" if noun in _EDGES else "plain")


_EDGES = {"edge", "border", "boundary", "margin", "fringe"}


def _own_climate(rest: str, own: str | None) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """The name of the patch's own climate in full."""
    if own:
        for match in re.finditer(rf"(?<!\w){re.escape(own)}(?!\w)", rest, re.IGNORECASE):
            yield match.start(), match.end(), ()


def _climates(rest: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Other climates named: a Köppen-Geiger symbol, or a word for several of them."""
    if not (_SYMBOL.search(rest) or any_climate_word().search(rest)):
        return
    taken: list[tuple[int, int]] = []
    for pattern, symbols in ((_SYMBOL, ("symbol",)), *climate_words()):
        for match in pattern.finditer(rest):
            if not any(match.start() < end and start < match.end() for start, end in taken):
                taken.append(match.span())
                yield match.start(), match.end(), (match.group(),) if symbols == ("symbol",) else symbols


_SYMBOL = re.compile(r"(?<!\w)(?:A[fmws]|B[WS][hk]|C[fsw][abc]|D[fsw][abcd]|E[TF])(?!\w)")


@lru_cache(maxsize=1024)
def _country_reader(countries: tuple[str, ...], own: str) -> Reader[str]:
    names = {plain(name) for name in (*countries, own) if name.strip()}
    return Reader((name, re.escape(name), name) for name in names)
