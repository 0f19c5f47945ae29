"""Answers questions about a patch from its reference map, to see whether the answers given with them are right.

The solver reads the question as a person would and looks at the map; it shares no code with what measures the facts or
words the questions. It is strict: a question that the map does not answer beyond doubt is an error, not a guess.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
from scipy import ndimage

from rsdata.errors import CaptionError

_Thing = TypeVar("_Thing")
_EIGHT_CONNECTED = np.ones((3, 3), bool)
_HALF = np.sqrt(0.5)
_COMPASS = {  # word to unit vector (east, north)
    "north": (0.0, 1.0), "north-east": (_HALF, _HALF), "east": (1.0, 0.0), "south-east": (_HALF, -_HALF),
    "south": (0.0, -1.0), "south-west": (-_HALF, -_HALF), "west": (-1.0, 0.0), "north-west": (-_HALF, _HALF),
}  # fmt: skip
_ANY_COMPASS = "|".join(sorted(_COMPASS, key=len, reverse=True))
_SEASON = re.compile(r"\b(winter|spring|summer|autumn)\b", re.IGNORECASE)
_OUTERMOST = {"northernmost": (0, -1), "southernmost": (0, 1), "westernmost": (1, -1), "easternmost": (1, 1)}  # axis of (y, x), sign


@dataclass(frozen=True)
class Region:
    """Pixels of one class that touch by a side or a corner."""

    pixels: int
    centre_yx: tuple[float, float]  # mean over pixel centres, pixels from the upper left corner
    box: tuple[int, int, int, int]  # x0, y0, x1, y1, half-open

    @property
    def box_text(self) -> str:
        return f"[{', '.join(map(str, self.box))}]"


class QuestionReader:
    """Finds class names in questions; made once for a table of classes."""

    def __init__(self, class_names: Iterable[str]) -> None:
        self._names = {name.casefold(): name for name in class_names}
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)

    def read(self, text: str) -> tuple[str, list[str]]:
        """The question with ``<class>`` in place of each class, and the classes in order."""
        found: list[str] = []

        def note(match: re.Match[str]) -> str:
            found.append(self._names[match.group().casefold()])
            return "<class>"

        return self._pattern.sub(note, text), found


class MapSolver:
    """One patch's map, and what is known of the patch that pixels cannot show."""

    def __init__(
        self,
        codes: np.ndarray,
        class_of_code: Mapping[int, str],
        reader: QuestionReader,
        *,
        country: str | None = None,
        season: str | None = None,
        climate: str | None = None,
    ) -> None:
        """Take a map.

        Args:
            codes: (y, x) codes from 0 to 65535, 10 m pixels, north up.
            class_of_code: code to class; codes that are left out belong to no class.
        """
        self.reader = reader
        self.country, self.season, self.climate = country, season, climate
        self._number_of, lookup = _lookup(tuple(class_of_code.items()))
        self._classes = lookup[codes]  # number of the class, 0 for none
        self._pixels_of = np.bincount(self._classes.ravel(), minlength=len(self._number_of) + 1)
        self._found: dict[str, tuple[np.ndarray, list[Region]]] = {}

    def answer(self, text: str, options: Sequence[str] = (), point: tuple[int, int] | None = None) -> str:
        """The answer to a question, in the words of the option that is right, "yes", "no" or a box.

        Args:
            text: the question.
            options: to choose from, if any.
            point: (x, y) of the pixel the question is about, if any.

        Raises: CaptionError if the question cannot be understood, or has no answer or several.
        """
        skeleton, classes = self.reader.read(text)
        if "[x0, y0, x1, y1]" in skeleton:
            return self._box(skeleton, classes, point)
        if options:
            return self._choice(skeleton, classes, options)
        return "yes" if self._is_so(skeleton, classes) else "no"

    # --- what is asked ------------------------------------------------------------------------------------

    def _box(self, text: str, classes: list[str], point: tuple[int, int] | None) -> str:
        stated = re.search(r"\((\d+), (\d+)\)", text)
        if stated:
            x, y = int(stated[1]), int(stated[2])
            if point != (x, y):
                raise _Doubt(f"the question says pixel ({x}, {y}) and comes with {point}")
            region = self._region_at(x, y)
            if region is None:
                raise _Doubt(f"pixel ({x}, {y}) has no class")
            return region.box_text
        regions = self._regions(_single(classes, text))
        if "the only region" in text:
            return _one(regions, text).box_text
        if "the largest region" in text or "the smallest region" in text:
            size = (max if "largest" in text else min)(region.pixels for region in regions)
            return _one([region for region in regions if region.pixels == size], text).box_text
        field_word = re.search(rf"centre lies in the ({_ANY_COMPASS}|centre) of the patch", text)
        if field_word:
            return _one([region for region in regions if self._field(region) == field_word[1]], text).box_text
        for word, (axis, sign) in _OUTERMOST.items():
            if word in text:
                furthest = max(sign * region.centre_yx[axis] for region in regions)
                return _one([region for region in regions if sign * region.centre_yx[axis] > furthest - 1], text).box_text
        raise _Doubt(f"which region is meant cannot be read from {text!r}")

    def _choice(self, text: str, classes: list[str], options: Sequence[str]) -> str:
        lower = text.lower()
        if "country" in lower:
            return _one([each for each in options if each == self.country], text)
        if "season" in lower:
            return _one([each for each in options if each == self.season], text)
        if "climate" in lower:
            return _one([each for each in options if each == self.climate], text)
        if "separate regions" in lower:
            count = len(self._regions(_single(classes, text)))
            return _one([each for each in options if int(each) == count], text)
        if all(each in _COMPASS for each in options):
            # "Seen from B, where is A" names the place to look from first.
            target, origin = reversed(self._mains(text, classes)) if lower.startswith("seen from") else self._mains(text, classes)
            return _one([each for each in options if each == _direction(target, origin)], text)
        if all(re.fullmatch(r"\d+% to \d+%", each) for each in options):
            percent = self._percent(_single(classes, text))
            bounds = {each: [int(number) for number in re.findall(r"\d+", each)] for each in options}
            return _one([each for each, (low, high) in bounds.items() if low < percent <= high], text)
        if all(each.endswith(" ha") for each in options):
            area_ha = self._pixels(_single(classes, text)) / 100
            off = {each: abs(int(each.removesuffix(" ha")) - area_ha) for each in options}
            return _one([each for each in options if off[each] <= 0.5], text)
        if "largest" in lower:
            most = max(self._pixels(each) for each in options)
            return _one([each for each in options if self._pixels(each) == most], text)
        if "border" in lower or "next to" in lower:
            return _one([each for each in options if self._touch(_single(classes, text), each)], text)
        if not classes and ("present" in lower or "occurs" in lower or "can be found" in lower):
            return _one([each for each in options if self._pixels(each)], text)
        raise _Doubt(f"the question cannot be understood: {text!r}")

    def _is_so(self, text: str, classes: list[str]) -> bool:
        lower = text.lower()
        if "climate zone" in lower:
            return self.climate == re.search(r'"(.+)"', text)[1]  # type: ignore[index]
        season = _SEASON.search(text)
        if season and not classes:
            return season[1].lower() == self.season
        country = re.search(r"(?:patch lie in|image taken over) (?:the )?(.+)\?$|^Is (?:the )?(.+) the country shown here", text)
        if country and not classes:
            return self.country == (country[1] or country[2])
        if "separate region" in lower:
            count = re.search(r"\d+", text)
            return len(self._regions(_single(classes, text))) == int(count[0])  # type: ignore[index]
        shares = re.search(r"between (\d+)% and (\d+)%", text)
        if shares:
            return int(shares[1]) < self._percent(_single(classes, text)) <= int(shares[2])
        if len(classes) == 2 and ("larger" in lower or "is more of" in lower):
            return self._pixels(classes[0]) > self._pixels(classes[1])
        direction = re.search(rf"\b({_ANY_COMPASS})\b", text)
        if direction:
            target, origin = reversed(self._mains(text, classes)) if lower.startswith("seen from") else self._mains(text, classes)
            return _direction(target, origin) == direction[1]
        if len(classes) == 2 and ("border" in lower or "next to" in lower):
            return self._touch(classes[0], classes[1])
        if len(classes) == 1 and ("there any" in lower or "contain" in lower or "be found" in lower):
            return self._pixels(classes[0]) > 0
        raise _Doubt(f"the question cannot be understood: {text!r}")

    # --- what the map shows -------------------------------------------------------------------------------

    def _pixels(self, name: str) -> int:
        return int(self._pixels_of[self._number_of[name]]) if name in self._number_of else 0

    def _percent(self, name: str) -> float:
        return 100 * self._pixels(name) / self._classes.size

    def _split(self, name: str) -> tuple[np.ndarray, list[Region]]:
        """Numbers of a class's regions on the map, from 1, and the regions."""
        if name not in self._found:
            self._found[name] = _split(self._classes == self._number_of.get(name, -1))
        return self._found[name]

    def _regions(self, name: str) -> list[Region]:
        return self._split(name)[1]

    def _region_at(self, x: int, y: int) -> Region | None:
        for name, number in self._number_of.items():
            if self._classes[y, x] == number:
                numbers, regions = self._split(name)
                return regions[numbers[y, x] - 1]
        return None

    @cached_property
    def _touching(self) -> np.ndarray:
        """Whether pixels of two classes share a side, by their numbers."""
        found = np.zeros((len(self._pixels_of),) * 2, bool)
        for one, other in ((self._classes[:, 1:], self._classes[:, :-1]), (self._classes[1:], self._classes[:-1])):
            differ = one != other
            found[one[differ], other[differ]] = True
        return found | found.T

    def _touch(self, first: str, second: str) -> bool:
        if first not in self._number_of or second not in self._number_of:
            return False
        return bool(self._touching[self._number_of[first], self._number_of[second]])

    def _mains(self, text: str, classes: list[str]) -> tuple[Region, Region]:
        """The two regions a question speaks of, in its order."""
        spoken = re.findall(r"the (largest region|region) of <class>", text, re.IGNORECASE)
        if len(classes) != 2 or len(spoken) != 2:
            raise _Doubt(f"the question does not name two regions: {text!r}")
        found = []
        for name, word in zip(classes, spoken, strict=True):
            regions = self._regions(name)
            if word.lower() == "largest region":
                most = max((region.pixels for region in regions), default=0)
                regions = [region for region in regions if region.pixels == most]
            found.append(_one(regions, text))
        return found[0], found[1]

    def _field(self, region: Region) -> str:
        """Which of 3 by 3 equal fields of the map a region's centre lies in."""
        thirds = [min(2, int(3 * place / length)) for place, length in zip(region.centre_yx, self._classes.shape, strict=True)]
        return (("north-west", "north", "north-east"), ("west", "centre", "east"), ("south-west", "south", "south-east"))[thirds[0]][
            thirds[1]
        ]


class _Doubt(CaptionError):
    """The map does not answer a question beyond doubt."""


def _single(classes: list[str], text: str) -> str:
    if len(classes) != 1:
        raise _Doubt(f"expected one class in {text!r}, found {classes}")
    return classes[0]


def _one(fitting: Sequence[_Thing], text: str) -> _Thing:
    if len(fitting) != 1:
        raise _Doubt(f"{len(fitting)} things fit where one must: {text!r}")
    return fitting[0]


def _split(mask: np.ndarray) -> tuple[np.ndarray, list[Region]]:
    numbers, count = ndimage.label(mask, structure=_EIGHT_CONNECTED)
    places = np.flatnonzero(mask)
    (y, x), own = divmod(places, mask.shape[1]), numbers.ravel()[places].astype(np.intp)
    pixels, sum_y, sum_x = (np.bincount(own, weights=weights, minlength=count + 1)[1:].tolist() for weights in (None, y, x))
    boxes = ndimage.find_objects(numbers, count)
    return numbers, [
        Region(size, (down / size + 0.5, across / size + 0.5), (columns.start, rows.start, columns.stop, rows.stop))
        for size, down, across, (rows, columns) in zip(pixels, sum_y, sum_x, boxes, strict=True)
    ]


@lru_cache(maxsize=8)
def _lookup(class_of_code: tuple[tuple[int, str], ...]) -> tuple[Mapping[str, int], np.ndarray]:
    """The number of each class, from 1, and code to the number of its class; 0 for a code without one."""
    number_of = {name: number for number, name in enumerate(sorted({name for _, name in class_of_code}), start=1)}
    lookup = np.zeros(2**16, np.intp)
    for code, name in class_of_code:
        lookup[code] = number_of[name]
    return number_of, lookup


def _direction(target: Region, origin: Region) -> str:
    """The word for where ``target`` lies from ``origin``, by their centres."""
    east = target.centre_yx[1] - origin.centre_yx[1]
    north = origin.centre_yx[0] - target.centre_yx[0]
    along = {word: east * unit[0] + north * unit[1] for word, unit in _COMPASS.items()}
    first, second = sorted(along, key=along.__getitem__, reverse=True)[:2]
    if along[first] - along[second] < 0.05 * np.hypot(east, north):
        raise _Doubt(f"it lies between {first} and {second}")
    return first
