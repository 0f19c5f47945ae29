"""Direction words of a text under the symmetries of a square.

Each family of words is closed: north becomes west and west comes back as north, "upper left" becomes "lower left" and "above"
becomes "to the left of". So turning a text there and back gives the text. What belongs to the earth and not to the image
(the sun, a hemisphere, the north of a country) cannot be turned, and a text that speaks of it is refused.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from rsdata.errors import TrainingError

_AROUND = ("north", "west", "south", "east")  # the order in which a quarter turn as numpy.rot90 counts it takes each to the next
_SIDES = {"north": "top", "west": "left", "south": "bottom", "east": "right"}
_HALVES = {"north": "upper", "west": "left-hand", "south": "lower", "east": "right-hand"}
_MOSTS = {"north": "topmost", "west": "leftmost", "south": "bottommost", "east": "rightmost"}
_BESIDE = {"north": "above", "west": "to the left of", "south": "below", "east": "to the right of"}
_FAMILIES = (_SIDES, _HALVES, _MOSTS, _BESIDE)
_SIDE_OF = {word: side for family in _FAMILIES for side, word in family.items()}

# Names that hold a direction and stay what they are.
_NAMES = (
    "North America", "South America", "Central America", "North Macedonia", "North Korea", "South Korea", "South Africa", "South Sudan",
    "Northern Ireland", "Western Sahara", "East Timor", "West Bank", "North Sea", "South Tyrol", "North Holland", "South Holland",
    "Northern Europe", "Southern Europe", "Western Europe", "Eastern Europe", "Middle East", "Near East", "Far East",
)  # fmt: skip
_PLACE = r"(?:country|continent|nation|state|province|county|district|region of the country|earth|globe|world|city|town|tile|orbit)"
_COMPASS = r"(?:north|south|east|west)(?:[\s-]?(?:east|west))?(?:ern|erly|wards?|ernmost|most)?"
# What no other word mends, and why.
_STUCK = (
    (
        rf"\b{_COMPASS}[\s-]*(?:facing|exposed|looking|slopes?|aspects?)\b|\bfac(?:es|ing)\s(?:to\s)?(?:the\s)?{_COMPASS}\b",
        "slopes keep facing where the sun is",
    ),
    (r"\b(?:sun|sunlit|sunny|sunlight|sunrise|sunset|shadows?|shaded|illuminat\w+)\b", "the light keeps coming from where it came"),
    (r"\bhemisphere\b|\bequator(?:ial)?\b|\bpole(?:ward\w*|s)?\b", "it belongs to the earth"),
    (rf"\b{_COMPASS}\s(?:part\s|half\s|coast\s)?(?:of|in)\s(?:the\s|this\s|its\s)?{_PLACE}\b", "it belongs to a map of the earth"),
    (r"\b(?:left|right)[\s-](?:hand\s)?banks?\b", "a bank is left or right as the river flows"),
    (r"\bo'clock\b|\bclock\sposition\b", "it may be a time or a direction"),
    (
        r"\b(?:up|down)wards?\b|\b(?:up|down)hill\b|\bbeneath\b|\bunderneath\b|\bon\stop\sof\b|\b(?:upper|lower)most\b|\banti-?clockwise\b",
        "one of few words has no match in every direction; say above, below, topmost, bottommost or counterclockwise",
    ),
    (
        r"\b(?:is|are|was|were|been|has|have)\sleft\b(?!\s(?:of|side|half|part|edge))"
        r"|\bleft\s(?:over|out|behind|blank|unlabel\w*|unclassified)\b",
        "this left may be no direction; say remains",
    ),
    (
        r"\b(?:upper|lower)\b(?![\s-]+(?:left|right|half|halves|part|side|edge|corner|third|quarter|quadrant|border|boundary|margin|"
        r"portion|area|region|section|end|strip|row)s?\b)",
        "it may be a place or an amount; say upper half, or less",
    ),
)
_STUCK_BY_QUARTERS = (
    (
        r"\b(?:wider|taller|higher|longer)\sthan\s(?:it\sis\s)?(?:wide|tall|high|long)\b|\b(?:height|width)\b",
        "width and height trade places",
    ),
)
# Words that look like directions and are none.
_KEPT = (
    r"(?<!the\s)\bright\s(?:next|beside|at|in|on|by|now|along|through)\b|\bright\sangles?\b|\ball\sright\b",
    r"\btop[\s-](?:\d+|two|three|four|five|ten|class(?:es)?)\b",
    r"\b(?:above|below)\s(?:about\s|approximately\s|roughly\s)?"
    r"(?:\d|zero|one\s|two\s|half|a\s(?:third|quarter|tenth)|the\s(?:mean|average|threshold))|\bthe\s(?:above|below)\b",
)

_WORDS = re.compile(
    r"\b(?P<ns>north|south)(?P<gap>[\s-]?)(?P<ew>east|west)(?P<pair_end>ern|erly|wards?|ernmost|most)?\b"
    r"|\b(?P<one>north|south|east|west)(?P<one_end>ern|erly|wards?|ernmost|most)?\b"
    r"|(?<!\w)(?P<short>N[EW]|S[EW])(?!\w)"
    r"|\b(?P<beside>to\sthe\s(?:left|right)\sof|above|below)\b"
    r"|\b(?P<v>top|bottom|upper|lower)(?P<vgap>[\s-])(?P<h>left|right)(?:(?P<hand>-hand))?\b"
    r"|\b(?P<most>topmost|bottommost|leftmost|rightmost)\b"
    r"|\b(?P<half>upper|lower|(?:left|right)-hand)\b"
    r"|\b(?P<side>top|bottom|left|right)\b"
    r"|\b(?P<axis>horizontal|vertical)(?P<axis_end>ly)?\b"
    r"|\b(?P<spin>counterclockwise|clockwise)\b"
    r"|\[(?P<box>\d+,\s?\d+,\s?\d+,\s?\d+)\]|\((?P<point>\d+,\s?\d+)\)",
    re.IGNORECASE,
)
_SPINS = {"clockwise": "counterclockwise", "counterclockwise": "clockwise"}


def turn_text(
    text: str,
    turns: int,
    mirrored: bool,
    names: tuple[str, ...],
    box: Callable[[Sequence[int]], Sequence[int]],
    point: Callable[[Sequence[int]], Sequence[int]],
) -> str:
    """Replace the direction words of a text, and the boxes and pixels in it.

    Args:
        turns: quarter turns, 0 to 3, as ``numpy.rot90`` counts them.
        mirrored: whether a mirror from left to right follows.
        names: kept as they are wherever they stand.
        box, point: turn the numbers of ``[x0, y0, x1, y1]`` and ``(x, y)``.

    Raises: TrainingError if something in the text cannot be turned.
    """
    kept = [match.span() for match in _kept_reader(names).finditer(text)]

    def is_kept(match: re.Match[str]) -> bool:
        return any(start < match.end() and match.start() < end for start, end in kept)

    for pattern, why in _stuck(bool(turns % 2)):
        for match in pattern.finditer(text):
            if not is_kept(match):
                raise _refusal(text, match.group(), why)

    def replace(match: re.Match[str]) -> str:
        if is_kept(match):
            return match.group()
        _refuse_places(text, match, names)
        return _replacement(match, turns, mirrored, box, point)

    return _WORDS.sub(replace, text)


def _replacement(
    match: re.Match[str],
    turns: int,
    mirrored: bool,
    box: Callable[[Sequence[int]], Sequence[int]],
    point: Callable[[Sequence[int]], Sequence[int]],
) -> str:
    found = match.group()

    def turned(side: str) -> str:
        side = _AROUND[(_AROUND.index(side) + turns) % 4]
        return {"east": "west", "west": "east"}.get(side, side) if mirrored else side

    def pair(one: str, other: str) -> tuple[str, str]:
        """North or south first."""
        sides = turned(one), turned(other)
        return sides if sides[0] in ("north", "south") else sides[::-1]

    if match["box"] or match["point"]:
        numbers = [int(number) for number in (match["box"] or match["point"]).split(",")]
        gap = ", " if ", " in found else ","
        return found[0] + gap.join(map(str, (box if match["box"] else point)(numbers))) + found[-1]
    if match["ns"]:
        ns, ew = pair(match["ns"].lower(), match["ew"].lower())
        return _like(found, [match["ns"], match["ew"]], f"{ns}{match['gap']}{ew}{match['pair_end'] or ''}", len(ns) + len(match["gap"]))
    if match["one"]:
        return _like(found, [match["one"]], turned(match["one"].lower()) + (match["one_end"] or ""))
    if match["short"]:
        letters = {"N": "north", "S": "south", "E": "east", "W": "west"}
        if not found.isupper():
            return found
        return "".join(side[0].upper() for side in pair(letters[found[0]], letters[found[1]]))
    if match["v"]:
        family = _SIDES if match["v"].lower() in _SIDES.values() else _HALVES
        ns, ew = pair(_SIDE_OF[match["v"].lower()], _SIDE_OF[match["h"].lower()])
        words = family[ns], _SIDES[ew]
        return _like(found, [match["v"], match["h"]], f"{words[0]}{match['vgap']}{words[1]}{match['hand'] or ''}", len(words[0]) + 1)
    if match["axis"]:
        word = match["axis"].lower()
        return _like(
            found, [found], ({"horizontal": "vertical", "vertical": "horizontal"}[word] if turns % 2 else word) + (match["axis_end"] or "")
        )
    if match["spin"]:
        return _like(found, [found], _SPINS[match["spin"].lower()]) if mirrored else found
    word = re.sub(r"\s", " ", (match["beside"] or match["most"] or match["half"] or match["side"]).lower())
    family = next(each for each in (_BESIDE, _MOSTS, _HALVES, _SIDES) if word in each.values())
    return _like(found, [found], family[turned(_SIDE_OF[word])])


def _like(found: str, parts: Sequence[str], word: str, second: int = 0) -> str:
    """A word with the capitals of what it replaces: all, the first letter of each part, or none."""
    if found.isupper():
        return word.upper()
    letters = list(word)
    for part, place in zip(parts, (0, second), strict=False):
        if part[:1].isupper():
            letters[place] = letters[place].upper()
    return "".join(letters)


def _refuse_places(text: str, match: re.Match[str], names: tuple[str, ...]) -> None:
    """Raises: TrainingError if a direction is tied to a name that is none of the given: "northern Portugal"."""
    if not (match["one"] or match["ns"]):
        return
    tied = _TIED.match(text, match.end())
    if tied and tied["name"].lower() not in _PICTURE and not any(text.startswith(name, tied.start("name")) for name in names):
        raise _refusal(text, text[match.start() : tied.end()], "it belongs to a place on the earth; name classes as `names` if it is one")


_TIED = re.compile(r"\s(?:part\sof\s|half\sof\s|coast\sof\s|of\s|in\s)?(?:the\s)?(?P<name>[A-Z]\w+)")
_PICTURE = frozenset({"image", "patch", "scene", "picture", "map", "s1", "s2", "sentinel", "rgb"})


@lru_cache(maxsize=16)
def _stuck(by_quarters: bool) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), why) for pattern, why in (*_STUCK, *(_STUCK_BY_QUARTERS if by_quarters else ())))


@lru_cache(maxsize=256)
def _kept_reader(names: tuple[str, ...]) -> re.Pattern[str]:
    """Reads what stays: names, in any case if they hold a direction, and words that are no directions."""
    own = sorted((name for name in (*names, *_NAMES) if _WORDS.search(name)), key=lambda name: -len(name))
    return re.compile("|".join([*(rf"(?<!\w){re.escape(name)}(?!\w)" for name in own), *_KEPT]), re.IGNORECASE)


def _refusal(text: str, found: str, why: str) -> TrainingError:
    return TrainingError(
        f"the text says {found.strip()!r}, which cannot be turned with the image: {why}; "
        f"leave the text out or the image straight: {text[:200]!r}",
        text=text,
        found=found,
    )
