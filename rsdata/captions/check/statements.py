"""What a text can state, each as one small value; ``reading`` makes them, ``support`` holds them to the facts."""

from dataclasses import dataclass
from typing import Literal

from rsdata.captions.check.finding import Finding
from rsdata.captions.check.lexicon import Sense
from rsdata.captions.check.tokens import Amount, Count, Where

Senses = tuple[Sense, ...]
Degree = Literal["largest", "smallest", "not largest", "majority", "primary", "small", "secondary", "marginal"] | int  # or a rank
Scope = Literal["class", "largest", "smaller", "smallest", "any"]  # a class as a whole, or one of its regions


@dataclass(frozen=True)
class Present:
    """Something is there."""

    sense: Sense


@dataclass(frozen=True)
class Absent:
    """Something is not there."""

    sense: Sense


@dataclass(frozen=True)
class Holds:
    """Classes together, or a region of one, hold a share (percent) or an area (m²)."""

    senses: Senses
    amount: Amount
    text: str
    unit: Literal["share", "area"]
    scope: Scope = "class"


@dataclass(frozen=True)
class Regions:
    """A class lies in so many regions."""

    sense: Sense
    count: Count
    text: str


@dataclass(frozen=True)
class Things:
    """The patch has so many classes, or was seen by so many sensors."""

    what: Literal["classes", "sensors"]
    count: Count
    text: str


@dataclass(frozen=True)
class Lies:
    """Every one of some things lies, or does not lie, in parts of the patch."""

    senses: Senses
    where: tuple[Where, ...]
    text: str
    scope: Scope = "largest"
    denied: bool = False


@dataclass(frozen=True)
class Beside:
    """Things lie in a direction from other things."""

    senses: Senses
    position: str
    others: Senses
    text: str


@dataclass(frozen=True)
class Touches:
    """Two things share a border, of so many metres if said; or do not; or one has no neighbour but the other, or lies in it."""

    one: Sense
    other: Sense
    text: str
    length: Amount | None = None
    denied: bool = False
    alone: bool = False
    inside: bool = False  # the first lies within the other


@dataclass(frozen=True)
class Ranks:
    """Things are the ones with the largest shares, hold a rank, or have a dominance."""

    senses: Senses
    degree: Degree
    text: str


@dataclass(frozen=True)
class More:
    """One thing covers more than another."""

    one: Senses
    other: Senses
    text: str
    strict: bool = True  # False where one follows another in a list


@dataclass(frozen=True)
class Nothing:
    """There is nothing but these."""

    senses: Senses
    text: str


@dataclass(frozen=True)
class Variety:
    """The patch is varied, or it is not."""

    high: bool
    text: str


Statement = Present | Absent | Holds | Regions | Things | Lies | Beside | Touches | Ranks | More | Nothing | Variety | Finding
