"""Captions from fixed sentences, without a model and without a network.

What a caption may tell is what the patch's division gives it, see ``division``; how it is said is drawn from the seed and
the patch id. So a patch keeps its caption in whatever order, company or process it is written.
"""

from collections.abc import Iterator, Sequence

from rsdata.captions.division import Division, divide
from rsdata.captions.draw import Draw
from rsdata.captions.facts import unclassified_share
from rsdata.captions.grammar import verb
from rsdata.captions.view import View, clear_field, direction_word
from rsdata.captions.wording import (
    MONTHS,
    UNCLASSIFIED,
    class_in_sentence,
    country_in_sentence,
    enumerate_items,
    percent,
    share_phrase,
)
from rsdata.records import ClassFact, PatchFacts
from rsdata.sensors import SENSORS

_LEAST_UNCLASSIFIED = 0.01
_WIDEST = 0.3  # share of the patch up to which a class can be said to lie in one part of it
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class TemplateCaptioner:
    """Writes one or a few plain sentences per patch, in one of several wordings."""

    name = "template"

    def __init__(self, seed: int = 0, may_answer: bool = False) -> None:
        """Take the seed of all draws, and whether a caption may state what is asked of the same patch."""
        self.seed, self.may_answer = seed, may_answer

    def caption(self, facts: PatchFacts) -> str:
        """Describe a patch by its largest classes, and by what else its division leaves to the caption.

        That may be season and date, country, climate zone, shares and dominance, borders, positions and counts.
        """
        view, draw = View(facts), Draw(self.seed, facts.patch_id, "caption")
        division = divide(view, self.seed, self.may_answer)
        sentences = [*_opening(view, division, draw)]
        sentences += _unclassified(view, division)
        for subject, say in (("adjacency", _borders), ("relative_position", _positions), ("counting", _counts)):
            if subject in division.told:
                sentences += say(view, division.named, draw)
        if facts.climate is not None and "climate" in division.told:
            sentences.append(draw.one_of(("Its climate zone is {}.", "It lies in the climate zone {}.")).format(facts.climate))
        if draw.below(3) == 0:
            sentences.append(f"It was seen by {enumerate_items([SENSORS[name].title for name in facts.sensors])}.")
        return " ".join(sentences)


def _opening(view: View, division: Division, draw: Draw) -> list[str]:
    """The first sentence or two: season, place and the largest classes, with shares only if the caption tells areas."""
    facts, areas = view.facts, "area" in division.told
    stated = [view.class_of[name] for name in division.named]
    names = [f"{class_in_sentence(each.name)}{_share(each) if areas else ''}" for each in stated]
    if not areas:
        names.sort()  # the order of sizes would tell which is larger
    everything = enumerate_items(names or [f"{UNCLASSIFIED} (100%)"])
    season = f"{facts.season} " if "season" in division.told else ""
    country = country_in_sentence(facts.country) if facts.country and "country" in division.told else ""
    place, origin = (f" in {country}", f" from {country}") if country else ("", "")
    article = "An" if season[:1] in tuple("aeiou") else "A"
    year = facts.datetime.year
    wordings = [
        [f"{article} {season}satellite image{origin} that shows {everything}."],
        [f"This {season}scene{place} shows {everything}."],
        [f"In {season}{year}, this patch{place} holds {everything}."],
        [f"{article} {season}view of a patch{place}. Its land cover includes {everything}."],
    ]
    if season:
        wordings.append([f"Taken in {MONTHS[facts.datetime.month - 1]} {year}, this {season}image{origin} shows {everything}."])
    if areas and stated:
        first, rest = stated[0], enumerate_items(names[1:])
        when = f", seen in {season.strip()}," if season else ""
        if first.share >= 0.5:
            wordings.append([f"This patch{place}{when} is dominated by {names[0]}{f', with {rest}' if rest else ''}."])
        phrase = share_phrase(first.share)
        if phrase is not None:
            sentence = f"{phrase.capitalize()} this {season}scene{place} is covered by {class_in_sentence(first.name)}."
            wordings.append([sentence, f"The rest includes {rest}."] if rest else [sentence])
    return draw.one_of(wordings)


def _share(each: ClassFact) -> str:
    return f" ({percent(each.share)})"


def _unclassified(view: View, division: Division) -> Iterator[str]:
    share = unclassified_share(view.facts)
    if "area" in division.told and view.facts.classes and share >= _LEAST_UNCLASSIFIED:
        yield f"{UNCLASSIFIED.capitalize()} makes up {percent(share)} of it."


def _borders(view: View, named: Sequence[str], draw: Draw) -> Iterator[str]:
    """One border between named classes."""
    bordering = [pair for pair in view.bordering() if pair[0] in named and pair[1] in named]
    if not bordering:
        return
    first, second = draw.shuffled(draw.one_of(bordering))
    border_m = view.neighbours[first][second]
    one, other = class_in_sentence(first), class_in_sentence(second)
    yield _sentence(
        draw.one_of(
            (
                f"{one} {verb(first, 'borders', 'border')} {other}.",
                f"{one} {verb(first, 'lies', 'lie')} next to {other}.",
                f"{one} and {other} share a border.",
                f"The border between {one} and {other} is {border_m:.0f} m long.",
            )
        )
    )


def _positions(view: View, named: Sequence[str], draw: Draw) -> Iterator[str]:
    """Where a named class of one small region lies in the patch, and where one lies from another."""
    single = [name for name in named if view.class_of[name].regions == 1 and name in view.regions]
    placed = [name for name in single if clear_field(view.regions[name][0]) and view.class_of[name].share <= _WIDEST]
    if placed:
        name = draw.one_of(placed)
        words = draw.one_of(("{0} {1} in the {2} of the patch.", "In the {2} of the patch {1} {0}."))
        yield _sentence(words.format(class_in_sentence(name), verb(name, "lies", "lie"), view.regions[name][0].position))
    directions = [each for each in view.directions() if each[0] in single and each[1] in single]
    if directions:
        first, second, direction = draw.one_of(directions)
        if draw.below(2):
            first, second, direction = second, first, direction + 4
        words = draw.one_of(("{} {} to the {} of {}.", "{} {} {} of {}."))
        yield _sentence(
            words.format(class_in_sentence(first), verb(first, "lies", "lie"), direction_word(direction), class_in_sentence(second))
        )


def _counts(view: View, named: Sequence[str], draw: Draw) -> Iterator[str]:
    """How many regions a named class forms, if several."""
    several = [name for name in named if view.all_count(name) and 2 <= view.class_of[name].regions < len(_NUMBERS)]
    if several:
        name = draw.one_of(several)
        words = draw.one_of(("There are {1} separate regions of {0}.", "{0} {2} {1} separate regions."))
        yield _sentence(words.format(class_in_sentence(name), _NUMBERS[view.class_of[name].regions], verb(name, "forms", "form")))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
