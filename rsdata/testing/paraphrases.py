"""True captions in many wordings, each with the ways it could be false: what the check of texts is measured with.

Nothing here comes from the package but the facts themselves; words, synonyms, rounding and geometry are this file's own.
A lie differs from the true sentence in one fact, and is false by the facts, not only different.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rsdata.records import ClassFact, PatchFacts, RegionFact

_Item = TypeVar("_Item")

NATIONS = (
    "Austria",
    "Belgium",
    "Finland",
    "Ireland",
    "Kosovo",
    "Lithuania",
    "Luxembourg",
    "Portugal",
    "Serbia",
    "Switzerland",
    "Spain",
    "Japan",
)
MONTH_NAMES = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
EIGHT = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
# Other words for a class that no other class can be meant by, and the classes a wide word takes in.
SYNONYMS = {
    "Urban fabric": ["settlements", "housing", "residential areas", "urban land"],
    "Industrial or commercial units": ["industrial areas", "industrial and commercial units"],
    "Arable land": ["arable fields", "ploughed land"],
    "Permanent crops": ["permanent crops"],
    "Pastures": ["grazing land", "pastureland", "pasture"],
    "Complex cultivation patterns": ["complex cultivation"],
    "Agro-forestry areas": ["agroforestry"],
    "Broad-leaved forest": ["broadleaf forest", "deciduous woodland", "deciduous forest"],
    "Coniferous forest": ["conifers", "coniferous woodland", "coniferous trees"],
    "Mixed forest": ["mixed woodland", "mixed forests"],
    "Inland waters": ["inland water", "freshwater"],
    "Marine waters": ["sea", "salt water"],
    "Inland wetlands": ["inland wetland"],
    "Coastal wetlands": ["coastal wetland"],
    "Beaches, dunes, sands": ["sand", "beaches and dunes"],
    "Transitional woodland, shrub": ["transitional woodland"],
}
WIDE = {
    "forest": ("Broad-leaved forest", "Coniferous forest", "Mixed forest"),
    "water": ("Inland waters", "Marine waters"),
    "wetland": ("Inland wetlands", "Coastal wetlands"),
    "farmland": (
        "Arable land", "Permanent crops", "Pastures", "Complex cultivation patterns", "Agro-forestry areas",
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ),
    "built-up land": ("Urban fabric", "Industrial or commercial units"),
}  # fmt: skip


@dataclass
class Said:
    """A true sentence, and false ones by the kind of fact that was changed."""

    text: str
    lies: dict[str, str] = field(default_factory=dict)


class Teller:
    """Tells one patch's facts in words of its own."""

    def __init__(self, facts: PatchFacts, rng: random.Random, class_names: Sequence[str]) -> None:
        self.facts, self.rng = facts, rng
        self.absent = [name for name in class_names if name not in {each.name for each in facts.classes}]
        self.classes = {each.name: each for each in facts.classes}
        self.regions = {name: [each for each in facts.regions if each.name == name] for name in self.classes}
        self.border = {frozenset((each.first, each.second)): each.border_m for each in facts.adjacent}

    def caption(self) -> list[Said]:
        """One opening and one to three more sentences."""
        told = [each for each in (tell(self) for tell in self.rng.sample(TELLERS, len(TELLERS))) if each is not None]
        opening = next((each for each in (tell(self) for tell in self.rng.sample(OPENINGS, len(OPENINGS))) if each is not None), None)
        return ([opening] if opening else []) + told[: self.rng.randint(1, 3)]

    # --- words ------------------------------------------------------------------------------------------

    def word(self, name: str) -> str:
        """A class as it may be called."""
        options = [name[:1].lower() + name[1:], *SYNONYMS.get(name, [])]
        return self.rng.choice(options if self.rng.random() < 0.5 else options[:1])

    def one(self, *options: str) -> str:
        """Any of some wordings."""
        return self.rng.choice(options)

    def other(self, options: Iterable[_Item], true: _Item) -> _Item:
        """One that is not the true one."""
        return self.rng.choice([each for each in options if each != true])

    def big(self, least: float = 0.02, most: float = 1.01) -> list[ClassFact]:
        """Classes of a share between bounds that the facts list a region of."""
        return [each for each in self.facts.classes if least <= each.share < most and self.regions[each.name]]

    def wrong_class(self) -> str:
        """A class the patch does not have."""
        name = self.rng.choice(self.absent)
        return name[:1].lower() + name[1:]


def is_plural(word: str) -> bool:
    head = word.partition(",")[0]
    return head.endswith("s")


def cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def whole(share: float) -> int:
    return int(100 * share + 0.5)


def opposite(direction: str) -> str:
    return EIGHT[(EIGHT.index(direction) + 4) % 8]


def adjective(direction: str) -> str:
    return direction + "ern"


# --- openings: time and place -----------------------------------------------------------------------------


def when_and_where(t: Teller) -> Said:
    facts = t.facts
    land = f" over {facts.country}" if facts.country else ""
    make: Callable[..., str] = t.rng.choice([
        lambda season, land, month, year: f"Captured in {month} {year}, this image{land} shows the ground in {season}.",
        lambda season, land, month, year: f"Here is a satellite picture{land} from {season} {year}, taken in {month}.",
        lambda season, land, month, year: f"The scene{land} was acquired by a satellite in the {season} of {year}, in {month}.",
        lambda season, land, month, year: f"It is {season} in this view{land}, recorded in {month} {year}.",
    ])  # fmt: skip
    month, year = MONTH_NAMES[facts.datetime.month - 1], facts.datetime.year
    lies = {
        "season": make(t.other(("spring", "summer", "autumn", "winter"), facts.season), land, month, year),
        "month": make(facts.season, land, t.other(MONTH_NAMES, month), year),
        "year": make(facts.season, land, month, year + t.rng.choice((-3, -1, 1, 2))),
    }
    if facts.country:
        lies["country"] = make(facts.season, f" over {t.other(NATIONS, facts.country)}", month, year)
    return Said(make(facts.season, land, month, year), lies)


def exact_date(t: Teller) -> Said:
    when = t.facts.datetime
    month = MONTH_NAMES[when.month - 1]
    make: Callable[[int, str], str] = t.rng.choice([
        lambda day, month: f"This view was recorded on {day} {month} {when.year}.",
        lambda day, month: f"On {month} {day}, {when.year}, a satellite observed this ground.",
        lambda day, month: f"The image dates from {when.year}-{MONTH_NAMES.index(month) + 1:02d}-{day:02d}.",
    ])  # fmt: skip
    other_day = t.other(range(1, 29), when.day)
    return Said(make(when.day, month), {"day": make(other_day, month), "month": make(min(when.day, 28), t.other(MONTH_NAMES, month))})


def sensors(t: Teller) -> Said:
    if "s1" in t.facts.sensors:
        return Said(t.one("Both radar and optical data are available.", "Sentinel-1 and Sentinel-2 both saw this ground."), {})
    return Said(
        t.one("Only Sentinel-2 saw this ground.", "It was observed by Sentinel-2."),
        {"sensor": t.one("It was observed by Sentinel-1.", "Radar saw this ground, too.")},
    )


# --- the ground -------------------------------------------------------------------------------------------


def share_in_percent(t: Teller) -> Said | None:
    options = t.big()
    if not options:
        return None
    each = t.rng.choice(options)
    word, number = t.word(each.name), whole(each.share)
    if not 1 <= number <= 98:
        return None
    make: Callable[[str, int], str] = t.rng.choice([
        lambda word, n: f"{cap(word)} {'account' if is_plural(word) else 'accounts'} for {n}% of the area.",
        lambda word, n: f"About {n} percent of the land is {word}.",
        lambda word, n: f"{n} % of the patch is occupied by {word}.",
        lambda word, n: f"Roughly {n}% of what is seen here consists of {word}.",
        lambda word, n: f"With {n}% of the patch, {word} can be seen here.",
    ])  # fmt: skip
    lie = t.rng.choice([n for n in range(1, 99) if abs(n - number) >= 2])
    lies = {"share": make(word, lie), "class": make(t.wrong_class(), number)}
    swapped = [b for b in t.facts.classes if b.name != each.name and abs(b.share - each.share) > 0.02]
    if swapped:
        lies["exchange"] = make(t.word(t.rng.choice(swapped).name), number)
    return Said(make(word, number), lies)


def several_shares(t: Teller) -> Said | None:
    options = t.big(0.02, 0.98)
    if len(options) < 2:
        return None
    chosen = t.rng.sample(options, min(len(options), t.rng.choice((2, 3))))
    words, numbers = [t.word(each.name) for each in chosen], [whole(each.share) for each in chosen]
    make: Callable[[list[str], list[int]], str] = t.rng.choice([
        lambda w, n: f"The land cover consists of {'; '.join(f'{a} ({b}%)' for a, b in zip(w, n, strict=True))}.",
        lambda w, n: f"{cap(w[0])} {'cover' if is_plural(w[0]) else 'covers'} {n[0]}%, while {n[1]}% is {w[1]}.",
        lambda w, n: f"There is {w[0]} on {n[0]}% of the ground and {w[1]} on {n[1]}%.",
        lambda w, n: f"{cap(w[0])} at {n[0]}% and {w[1]} at {n[1]}% can be seen.",
        lambda w, n: f"{n[0]}% {w[0]} and {n[1]}% {w[1]} are found here.",
        lambda w, n: f"{cap(w[0])} ({n[0]}% of the patch) and {w[1]} ({n[1]}%) are visible.",
    ])  # fmt: skip
    place = t.rng.randrange(2)
    wrong = [*numbers]
    wrong[place] = t.rng.choice([n for n in range(1, 99) if abs(n - numbers[place]) >= 2])
    lies = {"share": make(words, wrong)}
    stranger = [*words]
    stranger[place] = t.wrong_class()
    lies["class"] = make(stranger, numbers)
    if abs(numbers[0] - numbers[1]) >= 2:
        lies["exchange"] = make(words, [numbers[1], numbers[0], *numbers[2:]])
    return Said(make(words, numbers), lies)


def area(t: Teller) -> Said | None:
    options = [each for each in t.big() if each.area_m2 >= 10_000]
    if not options:
        return None
    each = t.rng.choice(options)
    word = t.word(each.name)
    unit: Callable[[float], str] = t.rng.choice([
        lambda m2: f"{m2 / 1e4:.1f} ha", lambda m2: f"{m2 / 1e4:.0f} hectares", lambda m2: f"{m2 / 1e6:.2f} km²",
        lambda m2: f"{m2:,.0f} m²", lambda m2: f"{m2 / 1e6:.3f} square kilometres",
    ])  # fmt: skip
    make: Callable[[str, str], str] = t.rng.choice([
        lambda word, area: f"{cap(word)} {'take' if is_plural(word) else 'takes'} up {area}.",
        lambda word, area: f"{area} of the ground are {word}.",
        lambda word, area: f"There is {word} on an area of {area}.",
    ])  # fmt: skip
    factor = t.rng.choice((0.4, 0.7, 1.4, 2.5))
    return Said(
        make(word, unit(each.area_m2)),
        {"area": make(word, unit(each.area_m2 * factor)), "class": make(t.wrong_class(), unit(each.area_m2))},
    )


def presence(t: Teller) -> Said | None:
    names = [t.word(each.name) for each in t.rng.sample(t.facts.classes, min(len(t.facts.classes), t.rng.choice((2, 3))))]
    if not names:
        return None
    joined = (
        "; ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
        if any("," in each for each in names)
        else " and ".join(names)
    )
    make: Callable[[str], str] = t.rng.choice([
        lambda listed: f"Visible are {listed}.",
        lambda listed: f"The patch contains {listed}.",
        lambda listed: f"One can see {listed} here.",
        lambda listed: f"Within the frame there is {listed}.",
    ])  # fmt: skip
    return Said(
        make(joined),
        {"extra class": make(f"{joined} as well as {t.wrong_class()}"), "class": make(joined.replace(names[-1], t.wrong_class()))},
    )


def absence(t: Teller) -> Said | None:
    if not t.facts.classes or not t.absent:
        return None
    gone, there = t.rng.choice(t.absent), t.rng.choice([each.name for each in t.facts.classes])
    make: Callable[[str], str] = t.rng.choice([
        lambda word: f"There is no {word} here.",
        lambda word: f"The patch does not contain any {word}.",
        lambda word: f"The scene is free of {word}.",
        lambda word: f"{cap(word)} {'are' if is_plural(word) else 'is'} absent.",
        lambda word: f"No {word} can be seen.",
        lambda word: f"The image lacks {word}.",
        lambda word: f"{cap(word)} {'are' if is_plural(word) else 'is'} not present.",
    ])  # fmt: skip
    return Said(make(gone[:1].lower() + gone[1:]), {"negation": make(there[:1].lower() + there[1:])})


def wide_word(t: Teller) -> Said | None:
    for word, names in t.rng.sample(list(WIDE.items()), len(WIDE)):
        there = [name for name in names if name in t.classes]
        if there:
            number = whole(sum(t.classes[name].share for name in there))
            if not 1 <= number <= 98:
                continue
            make: Callable[[int], str] = t.rng.choice([
                lambda n, word=word: f"{cap(word)} covers {n}% of the land in all.",
                lambda n, word=word: f"In total {n}% of the patch is {word}.",
            ])  # fmt: skip
            return Said(
                make(number),
                {"share": make(t.rng.choice([n for n in range(1, 99) if abs(n - number) >= 2])), "negation": f"There is no {word}."},
            )
        if t.facts.unlabeled_fraction == 0:
            text = t.one(f"There is no {word} in this place.", f"The patch is without any {word}.")
            return Said(text, {"extra class": t.one(f"There is {word} in this place.", f"The patch has some {word}.")})
    return None


def dominance(t: Teller) -> Said | None:
    if (
        len(t.facts.classes) < 2
        or t.facts.classes[0].share - t.facts.classes[1].share < 0.01
        or t.facts.unlabeled_fraction >= t.facts.classes[0].share
    ):
        return None
    first = t.facts.classes[0].name
    make: Callable[[str], str] = t.rng.choice([
        lambda word: f"{cap(word)} {'dominate' if is_plural(word) else 'dominates'} the landscape.",
        lambda word: f"The largest class is {word}.",
        lambda word: f"The landscape is mainly {word}.",
        lambda word: f"The dominant land cover is {word}.",
        lambda word: f"{cap(word)} {'are' if is_plural(word) else 'is'} the most extensive cover.",
        lambda word: f"The ground is mostly covered by {word}.",
    ])  # fmt: skip
    other = t.rng.choice(t.facts.classes[1:]).name
    return Said(make(t.word(first)), {"dominance": make(t.word(other)), "class": make(t.wrong_class())})


def comparison(t: Teller) -> Said | None:
    if len(t.facts.classes) < 2:
        return None
    a, b = sorted(t.rng.sample(t.facts.classes, 2), key=lambda each: -each.share)
    if a.share - b.share < 0.001:
        return None
    make: Callable[[str, str], str] = t.rng.choice([
        lambda a, b: f"There is more {a} than {b}.",
        lambda a, b: f"{cap(b)} {'cover' if is_plural(b) else 'covers'} less ground than {a}.",
        lambda a, b: f"{cap(a)} {'are' if is_plural(a) else 'is'} more extensive than {b}.",
        lambda a, b: f"{cap(a)} {'occupy' if is_plural(a) else 'occupies'} a larger area than {b}.",
    ])  # fmt: skip
    x, y = t.word(a.name), t.word(b.name)
    return Said(make(x, y), {"dominance": make(y, x), "class": make(x, t.wrong_class())})


def count(t: Teller) -> Said | None:
    options = [each for each in t.facts.classes if each.regions <= 12]
    if not options:
        return None
    each = t.rng.choice(options)
    word, number = each.name[:1].lower() + each.name[1:], each.regions
    make: Callable[[int], str] = t.rng.choice([
        lambda n: f"{cap(word)} {'form' if is_plural(word) else 'forms'} {NUMBERS[n]} {'region' if n == 1 else 'regions'}.",
        lambda n: f"{cap(word)} {'lie' if is_plural(word) else 'lies'} in {n} separate {'piece' if n == 1 else 'pieces'}.",
        lambda n: f"There {'is' if n == 1 else 'are'} {NUMBERS[n]} {'area' if n == 1 else 'areas'} of {word}.",
        lambda n: f"One can count {NUMBERS[n]} distinct {'block' if n == 1 else 'blocks'} of {word}.",
        lambda n: f"{cap(word)} ({n} {'region' if n == 1 else 'regions'}) can be seen.",
    ])  # fmt: skip
    return Said(make(number), {"count": make(t.other(range(1, 13), number))})


def classes_in_all(t: Teller) -> Said | None:
    number = len(t.facts.classes)
    if number < 2:
        return None
    make: Callable[[int], str] = t.rng.choice([
        lambda n: f"The patch holds {NUMBERS[n]} land cover classes.",
        lambda n: f"There are {n} different classes in all.",
        lambda n: f"In all, {NUMBERS[n]} kinds of land cover are found.",
    ])  # fmt: skip
    return Said(make(number), {"count": make(t.other(range(2, 10), number))})


def position(t: Teller) -> Said | None:
    options = [(name, found[0]) for name, found in t.regions.items() if found and (len(found) == 1 or found[0].pixels > found[1].pixels)]
    options = [
        (name, region) for name, region in options if region.position != "centre" and t.classes[name].regions == len(t.regions[name])
    ]
    if not options:
        return None
    name, region = t.rng.choice(options)
    only = len(t.regions[name]) == 1
    word = t.word(name)
    verb = "lie" if is_plural(word) else "lies"
    d = region.position
    make: Callable[[str], str]
    if only:
        make = t.rng.choice([
            lambda d: f"{cap(word)} {verb} in the {d} of the image.",
            lambda d: f"In the {d}, there {'are' if is_plural(word) else 'is'} {word}.",
            lambda d: f"The {adjective(d)} part holds {word}.",
            lambda d: f"{cap(word)} {'are' if is_plural(word) else 'is'} found in the {adjective(d)} part of the scene.",
            lambda d: f"To the {d} {verb} {word}.",
            lambda d: f"{cap(word)} can be seen towards the {d.replace('-', '')}.",
            lambda d: f"{cap(word)} {verb} {in_picture(d)} of the picture.",
        ])  # fmt: skip
    else:
        make = t.rng.choice([
            lambda d: f"The largest region of {word} lies in the {d}.",
            lambda d: f"In the {d} lies the largest region of {word}.",
        ])  # fmt: skip
    return Said(
        make(d),
        {
            "direction": make(opposite(d)),
            "direction elsewhere": make(t.other(EIGHT, d)),
            **({"class": make(d).replace(word, t.wrong_class())} if word in make(d) else {}),
        },
    )


def in_picture(direction: str) -> str:
    words = {"north": "at the top", "south": "at the bottom", "west": "on the left", "east": "on the right"}
    if direction in words:
        return words[direction]
    ns, ew = direction.split("-")
    return f"in the {'upper' if ns == 'north' else 'lower'} {'left' if ew == 'west' else 'right'}"


def relation(t: Teller) -> Said | None:
    single = [name for name, found in t.regions.items() if len(found) == 1 and t.classes[name].regions == 1]
    pairs = [(a, b, d) for a in single for b in single if a != b for d in [bearing(t.regions[a][0], t.regions[b][0])] if d]
    if not pairs:
        return None
    a, b, d = t.rng.choice(pairs)
    x, y = t.word(a), t.word(b)
    make: Callable[[str, str, str], str] = t.rng.choice([
        lambda x, y, d: f"{cap(x)} {'lie' if is_plural(x) else 'lies'} {d} of the {y}.",
        lambda x, y, d: f"To the {d} of the {y}, one finds {x}.",
        lambda x, y, d: f"{cap(x)} can be found to the {d} of {y}.",
        lambda x, y, d: f"{cap(d)} of {y} {'lie' if is_plural(x) else 'lies'} {x}.",
    ])  # fmt: skip
    return Said(
        make(x, y, d),
        {"relative direction": make(x, y, opposite(d)), "relation turned": make(y, x, d), "class": make(x, t.wrong_class(), d)},
    )


def bearing(a: RegionFact, b: RegionFact) -> str | None:
    """The direction of one region from another where nobody would doubt it: all of it lies beyond, and within 15 degrees."""
    east, north = a.centroid_x - b.centroid_x, b.centroid_y - a.centroid_y
    if math.hypot(east, north) < 15:
        return None
    angle = math.degrees(math.atan2(east, north)) % 360
    nearest = round(angle / 45) % 8
    if min(abs(angle - 45 * nearest), 360 - abs(angle - 45 * nearest)) > 15:
        return None
    return EIGHT[nearest]


def border(t: Teller) -> Said | None:
    apart = [(a, b) for a in t.classes for b in t.classes if a < b and frozenset((a, b)) not in t.border]
    if not t.border:
        return None
    a, b = t.rng.sample(sorted(t.rng.choice(list(t.border))), 2)
    x, y = t.word(a), t.word(b)
    number = t.border[frozenset((a, b))]
    make: Callable[[str, str], str] = t.rng.choice([
        lambda x, y: f"{cap(x)} {'border' if is_plural(x) else 'borders'} on {y}.",
        lambda x, y: f"{cap(x)} and {y} touch each other.",
        lambda x, y: f"{cap(x)} {'are' if is_plural(x) else 'is'} adjacent to {y}.",
        lambda x, y: f"Next to {x} {'lie' if is_plural(y) else 'lies'} {y}.",
        lambda x, y: f"{cap(x)} {'meet' if is_plural(x) else 'meets'} {y}.",
        lambda x, y: f"{cap(x)} {'adjoin' if is_plural(x) else 'adjoins'} {y}.",
        lambda x, y: f"A border runs between {x} and {y}.",
        lambda x, y: f"{cap(x)} {'share' if is_plural(x) else 'shares'} a boundary with {y}.",
    ])  # fmt: skip
    lies = {"class": make(x, t.wrong_class())}
    if apart:
        c, d = t.rng.choice(apart)
        lies["adjacency"] = make(t.word(c), t.word(d))
    lies["adjacency denied"] = f"{cap(x)} {'do' if is_plural(x) else 'does'} not border {y}."
    if t.rng.random() < 0.3:
        text = f"{cap(x)} and {y} share a border of {number:.0f} m."
        return Said(text, {"border length": text.replace(f"{number:.0f} m", f"{number * 1.5 + 40:.0f} m")})
    return Said(make(x, y), lies)


def apart(t: Teller) -> Said | None:
    pairs = [(a, b) for a in t.classes for b in t.classes if a < b and frozenset((a, b)) not in t.border]
    if not pairs or not t.border:
        return None
    a, b = t.rng.choice(pairs)
    c, d = sorted(t.rng.choice(list(t.border)))
    make: Callable[[str, str], str] = t.rng.choice([
        lambda x, y: f"{cap(x)} {'do' if is_plural(x) else 'does'} not border {y}.",
        lambda x, y: f"{cap(x)} {'do' if is_plural(x) else 'does'} not touch {y}.",
    ])  # fmt: skip
    return Said(make(t.word(a), t.word(b)), {"adjacency denied": make(t.word(c), t.word(d))})


def diversity(t: Teller) -> Said | None:
    value = t.facts.diversity
    if value >= 1.0:
        return Said(t.one("The landscape is diverse.", "It is a varied landscape."), {"diversity": "The landscape is uniform."})
    if value <= 0.6:
        return Said(t.one("The landscape is uniform.", "The ground is rather homogeneous."), {"diversity": "It is a diverse landscape."})
    return None


def climate(t: Teller) -> Said | None:
    if not t.facts.climate:
        return None
    return Said(
        f"The climate is classified as {t.facts.climate}.",
        {"climate": "The climate is Mediterranean." if "Cs" not in t.facts.climate else "The climate is tropical."},
    )


OPENINGS = (when_and_where, exact_date, sensors)
TELLERS = (
    share_in_percent, several_shares, area, presence, absence, wide_word, dominance, comparison, count, classes_in_all, position, relation,
    border,
    apart, diversity, climate,
)  # fmt: skip


def paraphrases(many_facts: Iterable[PatchFacts], class_names: Sequence[str], seed: int = 0) -> Iterator[tuple[PatchFacts, list[Said]]]:
    """Facts and their caption, for each patch that has a class."""
    for number, facts in enumerate(many_facts):
        if facts.classes:
            yield facts, Teller(facts, random.Random(f"{seed}/{number}"), class_names).caption()


def lies_of(caption: list[Said]) -> Iterator[tuple[str, str]]:
    """Kind and text of each way to change one fact of a caption."""
    for place, said in enumerate(caption):
        for kind, lie in said.lies.items():
            if lie != said.text:
                yield kind, " ".join([*(each.text for each in caption[:place]), lie, *(each.text for each in caption[place + 1 :])])
