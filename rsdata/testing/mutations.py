"""True captions with one fact changed: how much of what is false a check of texts catches, and how much of what is true it refuses.

Captions come from two sources: sentences of ``paraphrases``, each with its own lies, and texts that a captioner of the package
wrote, whose words are exchanged here. A change counts only if the facts contradict it and the caption passed before it.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from rsdata.captions.facts import MapClasses, facts_of
from rsdata.labels import load_nomenclature
from rsdata.records import PatchFacts
from rsdata.testing.paraphrases import EIGHT, MONTH_NAMES, NATIONS, NUMBERS, lies_of, opposite, paraphrases
from rsdata.testing.reference_maps import NOMENCLATURE, map_row, reference_map

# As a raster of climate zones names them; some patches have none.
CLIMATES = (
    "Cfb (temperate, no dry season, warm summer)",
    None,
    "Csa (temperate, dry summer, hot summer)",
    "Dfb (cold, no dry season, warm summer)",
)
_SEASONS = ("spring", "summer", "autumn", "winter")
_EXAMPLES = 5

Check = Callable[[str, PatchFacts, Sequence[str]], Sequence[str]]


@dataclass
class Tally:
    """What became of captions and of their changes."""

    captions: int = 0
    refused: list[tuple[str, list[str]]] = field(default_factory=list)  # true ones, with what was said against them
    changed: Counter[str] = field(default_factory=Counter)  # by kind of fact
    caught: Counter[str] = field(default_factory=Counter)
    missed: list[tuple[str, str]] = field(default_factory=list)  # kind and text of some that passed

    @property
    def refused_share(self) -> float:
        return len(self.refused) / max(1, self.captions)

    @property
    def caught_share(self) -> float:
        return self.caught.total() / max(1, self.changed.total())


def known_facts(count: int, seed: int = 0) -> Iterator[PatchFacts]:
    """Facts of the first generated maps, with a climate zone on three of four, and each seen in another season and month."""
    classes = MapClasses.of(load_nomenclature(NOMENCLATURE).classes)
    for number in range(count):
        facts = facts_of(map_row(number, seed), reference_map(number, seed), classes, climate=CLIMATES[number % 4])
        month = 1 + number % 12
        when = facts.datetime.replace(month=month, day=1 + number % 28, year=2016 + number % 8)
        yield facts.model_copy(update={"datetime": when, "season": _SEASONS[(month - 3) // 3 % 4]})


def measure(check: Check, write: Callable[[PatchFacts], str], count: int, seed: int = 0) -> dict[str, Tally]:
    """Put captions of so many patches, true and changed, before a check.

    Args:
        check: findings on a text, given facts and the names of all classes.
        write: writes a true caption from facts.

    Returns: a tally for each source of captions.
    """
    class_names = [each.name for each in load_nomenclature(NOMENCLATURE).classes]
    found = {"template": Tally(), "paraphrase": Tally()}
    many = [each for each in known_facts(count, seed) if each.classes]
    for number, facts in enumerate(many):
        text, rng = write(facts), random.Random(f"{seed}/{number}/lies")
        _put(found["template"], text, template_lies(text, facts, class_names, rng), partial(_checked, check, facts, class_names))
    for facts, caption in paraphrases(many, class_names, seed):
        text = " ".join(said.text for said in caption)
        _put(found["paraphrase"], text, lies_of(caption), partial(_checked, check, facts, class_names))
    return found


def _checked(check: Check, facts: PatchFacts, class_names: Sequence[str], text: str) -> Sequence[str]:
    return check(text, facts, class_names)


def _put(tally: Tally, text: str, lies: Iterable[tuple[str, str]], check: Callable[[str], Sequence[str]]) -> None:
    tally.captions += 1
    findings = list(check(text))
    if findings:
        tally.refused.append((text, findings))
        return
    for kind, lie in lies:
        tally.changed[kind] += 1
        if check(lie):
            tally.caught[kind] += 1
        elif len(tally.missed) < _EXAMPLES:
            tally.missed.append((kind, lie))


def template_lies(text: str, facts: PatchFacts, class_names: Sequence[str], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Kind and text of every change that can be made to a caption by exchanging words; each text differs and is false."""
    hidden = text.replace(facts.climate, "\x01") if facts.climate else text
    for kind, lie in _lies(hidden, facts, class_names, rng):
        if lie != hidden:
            yield kind, lie.replace("\x01", facts.climate or "")


def _lies(text: str, facts: PatchFacts, class_names: Sequence[str], rng: random.Random) -> Iterator[tuple[str, str]]:
    share = {_small(each.name): each.share for each in facts.classes}
    absent = [_small(name) for name in class_names if _small(name) not in share]
    named = [name for name in share if re.search(_any_case(name), text)]
    if named and absent:
        yield "class", _exchange(text, rng.choice(named), rng.choice(absent))
    if absent:
        yield "extra class", f"{text} It also shows {rng.choice(absent)}."
    if share:
        yield "negation", f"{text} There is no {rng.choice(list(share))}."
    percents = list(re.finditer(r"(?<!than )\b(\d+)%", text))
    if percents:
        match = rng.choice(percents)
        wrong = rng.choice([number for number in range(1, 99) if abs(number - int(match[1])) >= 2])
        yield "share", f"{text[: match.start()]}{wrong}%{text[match.end() :]}"
    shared = [name for name in named if re.search(_any_case(name) + r" \(\d+%\)", text)]
    pairs = [(a, b) for a in shared for b in shared if share[a] - share[b] > 0.015]
    if pairs:
        a, b = rng.choice(pairs)
        first, second = (re.search(_any_case(name) + r" \((\d+)%\)", text) for name in (a, b))
        if first and second:
            low, high = sorted((first, second), key=lambda match: match.start())
            between = text[low.end(1) : high.start(1)]
            yield "exchange", f"{text[: low.start(1)]}{high[1]}{between}{low[1]}{text[high.end(1) :]}"
    places = list(re.finditer(r"\b(?:north|south)(?:-east|-west)?\b|\b(?:east|west)\b", text))
    if places:
        match = rng.choice(places)
        yield "direction", f"{text[: match.start()]}{opposite(match.group())}{text[match.end() :]}"
        if text[match.end() :].startswith(" of the patch"):
            elsewhere = rng.choice([each for each in EIGHT if each != match.group()])
            yield "direction elsewhere", f"{text[: match.start()]}{elsewhere}{text[match.end() :]}"
    yield from _circumstances(text, facts, rng)
    count = re.search(r"\b(two|three|four|five|six|seven|eight|nine|ten) separate regions", text)
    if count:
        yield "count", text.replace(count.group(), f"{rng.choice([each for each in NUMBERS[2:] if each != count[1]])} separate regions")
    border = re.search(r"(\d+) m long", text)
    if border:
        yield "border length", text.replace(border.group(), f"{int(border[1]) + 10 * rng.randint(2, 90)} m long")
    touch = re.search(r"(?<=[.] )[^.]+? (?:borders?|share a border|(?:lie|lies) next to)\b[^.]*", text)
    touching = {frozenset((_small(each.first), _small(each.second))) for each in facts.adjacent}
    apart = [(a, b) for a in share for b in share if a < b and frozenset((a, b)) not in touching]
    if touch and apart:
        a, b = rng.choice(apart)
        yield (
            "adjacency",
            text.replace(
                touch.group(), rng.choice((f"{a[:1].upper()}{a[1:]} borders {b}", f"{a[:1].upper()}{a[1:]} and {b} share a border"))
            ),
        )


def _circumstances(text: str, facts: PatchFacts, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Changes of season, time, country, climate and sensors."""
    yield "season", re.sub(rf"\b{facts.season}\b", rng.choice([each for each in _SEASONS if each != facts.season]), text)
    month = MONTH_NAMES[facts.datetime.month - 1]
    yield "month", re.sub(rf"\b{month}\b", rng.choice([each for each in MONTH_NAMES if each != month]), text)
    yield "year", text.replace(str(facts.datetime.year), str(facts.datetime.year + rng.choice((-2, -1, 1, 3))))
    if facts.country:
        yield "country", text.replace(facts.country, rng.choice([each for each in NATIONS if each != facts.country]))
    if facts.climate:
        yield "climate", text.replace("\x01", rng.choice([each for each in CLIMATES if each and each != facts.climate]))
    if "s1" not in facts.sensors:
        yield "sensor", text.replace("seen by Sentinel-2", "seen by Sentinel-2 and Sentinel-1")


def _small(name: str) -> str:
    return name[:1].lower() + name[1:]


def _any_case(name: str) -> str:
    return rf"(?i:{re.escape(name)})"


def _exchange(text: str, old: str, new: str) -> str:
    """Another class in place of one, wherever it is named."""
    return re.sub(_any_case(old), lambda match: new[:1].upper() + new[1:] if match.group()[:1].isupper() else new, text)
