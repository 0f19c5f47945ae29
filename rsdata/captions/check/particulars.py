"""Where, when and by what a patch was seen: single words that need no sentence around them."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from rsdata.captions import wording
from rsdata.captions.check.finding import Finding, FindingKind
from rsdata.captions.check.tokens import Token, plain
from rsdata.records import PatchFacts
from rsdata.sensors import SENSORS

_SYMBOL = re.compile(r"(?<!\w)(?:A[fmws]|B[WS][hk]|C[fsw][abc]|D[fsw][abcd]|E[TF])(?!\w)")


def particulars(found: Sequence[Token], facts: PatchFacts) -> Iterator[Finding]:
    """Findings on country, time, climate, coordinates and sensors."""
    for token in found:
        if token.kind == "country":
            yield from _country(token, facts)
        elif token.kind in ("season", "month", "year", "day"):
            yield from _time(token, facts)
        elif token.kind == "climate":
            yield from _climate(token, facts)
        elif token.kind == "degrees":
            yield from _degrees(token, facts)
        elif token.kind == "sensor" and token.value not in facts.sensors:
            yield Finding(FindingKind.SENSOR, f"speaks of {SENSORS[token.value].title}, which did not see this patch")


def _country(token: Token, facts: PatchFacts) -> Iterator[Finding]:
    own = facts.country or ""
    if unicodedata.normalize("NFKC", token.value).casefold() != plain(own).casefold():
        known = f"but the patch lies in {own}" if own else "but no country is known"
        yield Finding(FindingKind.COUNTRY, f"names {token.value}, {known}")


def _time(token: Token, facts: PatchFacts) -> Iterator[Finding]:
    when = facts.datetime
    month = wording.MONTHS[when.month - 1]
    if token.kind == "season":
        if token.value != facts.season:
            yield Finding(FindingKind.SEASON, f"says {token.text!r}, but the season is {facts.season}")
        return
    said = {token.kind: token.value} if token.kind in ("month", "year") else token.value
    if "year" in said and said["year"] != when.year:
        yield Finding(FindingKind.DATE, f"says {token.text}, but the year is {when.year}")
    if "month" in said and said["month"] != when.month:
        yield Finding(FindingKind.DATE, f"says {token.text!r}, but the month is {month}")
    if "day" in said and said["day"] != when.day:
        yield Finding(FindingKind.DATE, f"says {token.text!r}, but the day is {when.day} {month} {when.year}")
    if "time" in said:
        hour, minute, second = said["time"]
        if (hour, minute) != (when.hour, when.minute) or second not in (-1, when.second):
            yield Finding(FindingKind.DATE, f"says {token.text!r}, but the time is {when:%H:%M:%S} UTC")


def _climate(token: Token, facts: PatchFacts) -> Iterator[Finding]:
    symbols: tuple[str, ...] = token.value
    if not symbols:
        return  # its own name in full
    own = climate_symbol(facts.climate)
    if own is None or not any(own.startswith(symbol) for symbol in symbols):
        known = f"but the climate is {facts.climate!r}" if facts.climate else "but no climate is known"
        yield Finding(FindingKind.CLIMATE, f"says {token.text!r}, {known}")


def climate_symbol(climate: str | None) -> str | None:
    """The Köppen-Geiger symbol in a climate's name; None if it has none."""
    match = _SYMBOL.search(climate or "")
    return match.group() if match else None


def _degrees(token: Token, facts: PatchFacts) -> Iterator[Finding]:
    axis, value, step = (token.value[name] for name in ("axis", "value", "step"))
    if axis is None:
        yield Finding(FindingKind.PLACE, f"says {token.text!r}, but of latitude or longitude cannot be read")
    elif abs(value - getattr(facts, axis)) > step / 2 + 1e-9:
        yield Finding(FindingKind.PLACE, f"says {token.text!r}, but the {axis} is {getattr(facts, axis):.4f}")
