"""Statements held to the facts of a patch.

A word for several classes ("forest") stands for all of them together: its share is theirs in all, its largest region the
largest of any. How many regions it has is told only where one class makes it up. What the facts leave open is not supported.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from rsdata.captions import wording
from rsdata.captions.check.finding import Finding, FindingKind
from rsdata.captions.check.lexicon import Sense
from rsdata.captions.check.statements import (
    Absent,
    Beside,
    Holds,
    Lies,
    More,
    Nothing,
    Present,
    Ranks,
    Regions,
    Scope,
    Senses,
    Statement,
    Things,
    Touches,
    Variety,
)
from rsdata.captions.check.tokens import Count, Where
from rsdata.records import DIRECTIONS, PatchFacts, RegionFact

VARIED = 1.0  # from this Shannon entropy on a patch is varied
SMALL = 0.15  # up to this share a class is small or minor
UNIFORM = 0.6  # up to this one it is uniform
_LEAST_REST = 0.005  # a smaller share without a class is not worth a word
_SLACK = 1e-9
_SIDES = {"north": ("y0", "y1", 1), "west": ("x0", "x1", 1), "south": ("y0", "y1", -1), "east": ("x0", "x1", -1)}


class Support:
    """The facts of one patch, as the check asks for them."""

    def __init__(self, facts: PatchFacts) -> None:
        self.facts = facts
        self.shares = {each.name: each.share for each in facts.classes}
        if facts.unlabeled_fraction >= _LEAST_REST or not self.shares:
            self.shares[wording.UNCLASSIFIED] = facts.unlabeled_fraction
        self.areas = {each.name: each.area_m2 for each in facts.classes}
        self.counts = {each.name: each.regions for each in facts.classes}
        self.touching = {frozenset((each.first, each.second)): each.border_m for each in facts.adjacent}
        first = facts.classes[0] if facts.classes else None
        self.patch_m2 = first.area_m2 / first.share if first else math.nan
        self.side_px = math.sqrt(self.patch_m2 * facts.regions[0].pixels / facts.regions[0].area_m2) if facts.regions else math.nan

    def findings(self, statement: Statement) -> Iterator[Finding]:
        """What is wrong with one statement."""
        if isinstance(statement, Finding):
            yield statement
            return
        if not isinstance(statement, Present | Absent) and any(not self.present(each) for each in _senses(statement)):
            return  # the class itself is a finding already
        yield from _CHECKS[type(statement)](self, statement)

    def present(self, sense: Sense) -> list[str]:
        """The classes of the patch that a word stands for, the largest first."""
        return [name for name in self.shares if name in sense.stands_for]

    def share(self, senses: Senses) -> float:
        """Of the patch, 0 to 1; a class that two words stand for counts once."""
        return math.fsum(self.shares[name] for name in self._names(senses))

    def _names(self, senses: Senses) -> set[str]:
        return {name for sense in senses for name in self.present(sense)}

    def regions(self, sense: Sense, scope: Scope) -> list[RegionFact]:
        """Those a statement is about, by falling size; of all its classes, where it stands for several."""
        found = [each for each in self.facts.regions if each.name in sense.stands_for]
        if scope in ("class", "largest"):
            return [each for each in found if each.pixels == found[0].pixels]
        if scope == "smaller":
            return [each for each in found if each.pixels < found[0].pixels]
        return found[-1:] if scope == "smallest" else found

    # --- each kind of statement -------------------------------------------------------------------------

    def present_at_all(self, said: Present) -> Iterator[Finding]:
        if not self.present(said.sense):
            yield Finding(FindingKind.CLASS, f"names {said.sense.text!r}, which the facts do not hold")

    def absent(self, said: Absent) -> Iterator[Finding]:
        there = [name for name in self.shares if name in said.sense.may_be or (name == wording.UNCLASSIFIED and said.sense.unlabeled)]
        if there:
            yield Finding(FindingKind.NEGATION, f"denies {said.sense.text!r}, but the facts hold {there[0]!r}")

    def holds(self, said: Holds) -> Iterator[Finding]:
        text = _list(said.senses)
        if said.unit == "share":
            if said.scope == "class":
                actual = [100 * self.share(said.senses)]
            else:
                actual = [100 * each.area_m2 / self.patch_m2 for each in self.regions(said.senses[0], said.scope)]
            if not any(said.amount.agrees(each) for each in actual):
                found = f"whose share is {actual[0]:.1f}%" if actual else "of which no region is listed"
                yield Finding(FindingKind.SHARE, f"says {said.text!r} of {text}, {found}")
        else:
            if said.scope == "class":
                actual = [math.fsum(self.areas.get(name, self.shares[name] * self.patch_m2) for name in self._names(said.senses))]
            else:
                actual = [each.area_m2 for each in self.regions(said.senses[0], said.scope)]
            if not any(said.amount.agrees(each) for each in actual):
                found = f"whose area is {actual[0] / 1e4:.2f} ha" if actual else "of which no region is listed"
                yield Finding(FindingKind.AREA, f"says {said.text!r} of {text}, {found}")

    def in_regions(self, said: Regions) -> Iterator[Finding]:
        names = self.present(said.sense)
        if len(names) > 1 or names[0] not in self.counts:
            yield Finding(FindingKind.UNCLEAR, f"says {said.text!r}, but how many regions {said.sense.text!r} has is not known")
        elif not _within(self.counts[names[0]], said.count):
            yield Finding(FindingKind.COUNT, f"says {said.text!r}, but {said.sense.text!r} lies in {self.counts[names[0]]} regions")

    def things(self, said: Things) -> Iterator[Finding]:
        actual = len(self.facts.classes) if said.what == "classes" else len(self.facts.sensors)
        if not _within(actual, said.count):
            yield Finding(FindingKind.COUNT, f"says {said.text!r}, but there are {actual} {said.what}")

    def lies(self, said: Lies) -> Iterator[Finding]:
        for sense in said.senses:
            main, every = self.regions(sense, said.scope), self.regions(sense, "any")
            if said.denied:
                wrong = [where for where in said.where if not every or any(self._is_in(each, where) is not False for each in every)]
            else:
                wrong = [
                    where for where in said.where if not any(self._is_in(each, where) for each in (every if len(said.where) > 1 else main))
                ]
                if not wrong and len(said.where) > 1 and not any(self._is_in(main[0], where) for where in said.where):
                    wrong = list(said.where)
            if wrong:
                there = f"lies in: {', '.join(dict.fromkeys(each.position for each in every))}" if every else "has no region that is listed"
                yield Finding(
                    FindingKind.POSITION,
                    f"places {sense.text!r} {'not ' if said.denied else ''}at {said.text!r}, but it {there} (largest region first)",
                )

    def _is_in(self, region: RegionFact, where: Where) -> bool | None:
        """Whether a region lies in a part of the patch; None if the facts do not tell."""
        if where.form == "plain" or where.position == "centre":
            return region.position == where.position
        box = region.box
        for side in where.position.split("-"):
            low, high, sign = _SIDES[side]
            if where.form == "edge":
                touches = getattr(box, low) == 0 if sign > 0 else abs(getattr(box, high) - self.side_px) < 0.5
                if not touches:
                    return False
            else:
                centre = region.centroid_y if low == "y0" else region.centroid_x
                if sign * (self.side_px / 2 - centre) <= 0:
                    return False
        return True

    def beside(self, said: Beside) -> Iterator[Finding]:
        for sense in said.senses:
            for other in said.others:
                pairs = [(a, b) for a in self.regions(sense, "largest") for b in self.regions(other, "largest")]
                if not any(lies_towards(a, b, said.position) for a, b in pairs):
                    actual = f"lies to the {_sector(*pairs[0])} of it" if pairs else "has no region that is listed"
                    yield Finding(
                        FindingKind.RELATIVE_POSITION,
                        f"says {said.text!r} of {sense.text!r}, but the largest region of {sense.text!r} {actual}",
                    )

    def touches(self, said: Touches) -> Iterator[Finding]:
        one, other = self.present(said.one), self.present(said.other)
        lengths = {frozenset((a, b)): self.touching[frozenset((a, b))] for a in one for b in other if frozenset((a, b)) in self.touching}
        pair = f"{said.one.text!r} and {said.other.text!r}"
        if said.denied:
            if lengths:
                yield Finding(FindingKind.ADJACENCY, f"says that {pair} share no border, but they do")
        elif not lengths:
            yield Finding(FindingKind.ADJACENCY, f"says {said.text!r} of {pair}, which share no border")
        elif said.length is not None and not said.length.agrees(math.fsum(lengths.values())):
            yield Finding(FindingKind.ADJACENCY, f"gives {pair} a wrong border, which is {math.fsum(lengths.values()):.0f} m long")
        elif said.inside:
            if not any(_holds(outer, inner) for inner in self.regions(said.one, "any") for outer in self.regions(said.other, "any")):
                yield Finding(
                    FindingKind.ADJACENCY, f"says {said.text!r}, but no region of {said.one.text!r} lies within one of {said.other.text!r}"
                )
        elif said.alone:
            neighbours = {name for both in self.touching for name in both if both & set(one)} - set(one)
            edges = [
                each
                for each in self.regions(said.one, "any")
                if min(each.box.x0, each.box.y0) == 0 or max(each.box.x1, each.box.y1) > self.side_px - 0.5
            ]
            listed = len(self.regions(said.one, "any")) == sum(self.counts.get(name, 0) for name in one)
            if not neighbours <= set(other) or edges or not listed or wording.UNCLASSIFIED in self.shares:
                yield Finding(FindingKind.ADJACENCY, f"says {said.text!r} of {pair}, which the facts do not show; they only share a border")

    def ranks(self, said: Ranks) -> Iterator[Finding]:
        names = self._names(said.senses)
        share, rest = self.share(said.senses), [each for name, each in self.shares.items() if name not in names]
        largest, least = max(rest, default=0.0), min(rest, default=1.0)
        each = [self.share((sense,)) for sense in said.senses]
        if said.degree == "largest":
            right = min(each) >= largest - _SLACK
        elif said.degree == "smallest":
            right = max(each) <= least + _SLACK
        elif said.degree == "not largest":
            right = max(each) < max(largest, *self.shares.values()) - _SLACK
        elif said.degree == "majority":
            right = share > 0.5
        elif said.degree == "small":
            right = max(each) <= SMALL + _SLACK
        elif isinstance(said.degree, int):
            right = sum(other > share + _SLACK for other in rest) == said.degree - 1
        else:
            bounds = {"primary": (0.25, 1.0), "secondary": (0.05 - _SLACK, 0.25), "marginal": (0.0, 0.05 - _SLACK)}[said.degree]
            right = all(bounds[0] < one <= bounds[1] + _SLACK for one in each)
        if not right:
            why = "which is not the largest class" if said.degree == "largest" else f"whose share is {100 * share:.1f}%"
            yield Finding(FindingKind.DOMINANCE, f"says {said.text!r} of {_list(said.senses)}, {why}")

    def more(self, said: More) -> Iterator[Finding]:
        one, other = self.share(said.one), self.share(said.other)
        if one < other - _SLACK or (said.strict and one <= other + _SLACK):
            yield Finding(
                FindingKind.DOMINANCE, f"puts {_list(said.one)} ({100 * one:.1f}%) before {_list(said.other)} ({100 * other:.1f}%)"
            )

    def nothing(self, said: Nothing) -> Iterator[Finding]:
        other = [name for name in self.shares if name not in self._names(said.senses)]
        if other:
            yield Finding(FindingKind.NEGATION, f"says {said.text!r}, but the facts hold {other[0]!r} besides")

    def variety(self, said: Variety) -> Iterator[Finding]:
        actual = self.facts.diversity
        if (actual < VARIED) if said.high else (actual > UNIFORM):
            bound = f"at least {VARIED}" if said.high else f"at most {UNIFORM}"
            yield Finding(FindingKind.DIVERSITY, f"says {said.text!r}, but the diversity is {actual:.2f} and that word asks for {bound}")


_CHECKS: dict[type, Callable[[Support, Any], Iterator[Finding]]] = {
    Present: Support.present_at_all,
    Absent: Support.absent,
    Holds: Support.holds,
    Regions: Support.in_regions,
    Things: Support.things,
    Lies: Support.lies,
    Beside: Support.beside,
    Touches: Support.touches,
    Ranks: Support.ranks,
    More: Support.more,
    Nothing: Support.nothing,
    Variety: Support.variety,
}


def lies_towards(one: RegionFact, other: RegionFact, direction: str) -> bool:
    """Whether a region lies in a direction from another: its centroid does, or all of it is beyond the other."""
    if _sector(one, other) == direction:
        return True
    beyond = []
    for side in direction.split("-"):
        low, high, sign = _SIDES[side]
        near, far = (one.box, other.box) if sign > 0 else (other.box, one.box)
        beyond.append(getattr(near, high) <= getattr(far, low))
    return all(beyond)


def _sector(one: RegionFact, other: RegionFact) -> str:
    """Which of eight equal sectors around the other's centroid the one's lies in."""
    east, north = one.centroid_x - other.centroid_x, other.centroid_y - one.centroid_y
    return DIRECTIONS[round(math.degrees(math.atan2(east, north)) / 45) % 8]


def _holds(outer: RegionFact, inner: RegionFact) -> bool:
    """Whether one box lies in another."""
    a, b = outer.box, inner.box
    return a.x0 <= b.x0 and a.y0 <= b.y0 and b.x1 <= a.x1 and b.y1 <= a.y1


def _within(actual: int, count: Count) -> bool:
    return count.low <= actual <= count.high


def _list(senses: Senses) -> str:
    return " and ".join(repr(sense.text) for sense in senses)


def _senses(statement: Any) -> list[Sense]:
    found: list[Sense] = []
    for value in vars(statement).values():
        if isinstance(value, Sense):
            found.append(value)
        elif isinstance(value, tuple):
            found += [each for each in value if isinstance(each, Sense)]
    return found
