"""What words mean: tables beside the code, brought to the classes of one dataset.

A class has the codes of CORINE's level 3 that it covers. A word stands for a class if all codes of the class are among the
word's own, so that the class cannot be anything else: "forest" holds for coniferous forest, "lake" does not hold for
the sea. A word is denied only where no class is left that shares a code with it.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Generic, TypeVar

from rsdata.captions import wording

_TABLES = resources.files("rsdata.captions").joinpath("tables")


@dataclass(frozen=True)
class Sense:
    """What a word or name can mean among the classes of one dataset."""

    text: str  # as a finding shows it
    stands_for: frozenset[str]  # any of these classes is what the word says
    may_be: frozenset[str]  # none of these may be there where the word is denied
    unlabeled: bool = False  # whether ground without a class may be it, too


_Meaning = TypeVar("_Meaning")


class Reader(Generic[_Meaning]):
    """Finds names in a text, in any case; by their first words, as there are hundreds."""

    def __init__(self, names: Iterable[tuple[str, str, _Meaning]]) -> None:
        """Take names, the regular expression each is read by, and what each means."""
        self._by_first: dict[str, list[tuple[re.Pattern[str], _Meaning]]] = {}
        for name, expression, meaning in sorted(names, key=lambda each: (-len(each[0]), each[0])):
            pattern = re.compile(rf"{expression}(?!\w)", re.IGNORECASE)
            for first in {_first(name), _first(re.sub(r"(?<=\w)-(?=\w)", "", name))}:
                self._by_first.setdefault(first, []).append((pattern, meaning))

    def find(self, text: str) -> list[tuple[int, int, _Meaning]]:
        """Start, end and meaning of each name, in the text's order; of two that fit, the longer is meant."""
        found: list[tuple[int, int, _Meaning]] = []
        for begin in _BEGIN.finditer(text):
            if found and begin.start() < found[-1][1]:
                continue
            for pattern, meaning in self._by_first.get(_looked_up_by(begin.group()), ()):
                match = pattern.match(text, begin.start())
                if match:
                    found.append((match.start(), match.end(), meaning))
                    break
        return found


_BEGIN = re.compile(r"(?<![\w\u2010-\u2015-])(?:\w+|[^\w\s])")


def _first(text: str) -> str:
    """What a name is looked up by: its first word without the plural's s, or its first letter."""
    begin = re.match(r"\w+|[^\w\s]", text)
    return _looked_up_by(begin.group()) if begin else ""


def _looked_up_by(word: str) -> str:
    return word.casefold().removesuffix("s")


@lru_cache(maxsize=64)
def class_reader(class_names: tuple[str, ...]) -> Reader[Sense]:
    """What reads the classes of a dataset: its own names mean one class each, other words what the tables say."""
    own = dict.fromkeys(name for name in class_names if name.strip())
    codes = _codes_of(tuple(own))
    known = frozenset().union(*codes.values())
    senses = {_key(name): (name, Sense(name, frozenset([name]), frozenset([name]))) for name in own if name != wording.UNCLASSIFIED}
    rest = wording.UNCLASSIFIED
    for name in (rest, "unlabelled land", "unlabeled land", "land without a class", "unclassified area", "unlabelled area"):
        senses.setdefault(_key(name), (name, Sense(rest, frozenset([rest]), frozenset([rest]))))
    for word, meant, also, touching in _words():
        inside = frozenset(name for name, held in codes.items() if held and (held & meant if touching else held <= meant))
        near = frozenset(name for name, held in codes.items() if held & (meant | also))
        senses.setdefault(_key(word), (word, Sense(word, inside, near | inside, unlabeled=not meant or not meant <= known)))
    return Reader((name, wording.class_pattern(name), sense) for name, sense in senses.values())


def _key(name: str) -> str:
    """Names that a text cannot tell apart."""
    return " ".join(re.findall(r"\w+", name.casefold().removesuffix("s")))


def _codes_of(class_names: tuple[str, ...]) -> dict[str, frozenset[int]]:
    """Codes that each class covers, from the nomenclature that knows most of the names; none for a name it does not know."""
    tables = _classes()
    wanted = set(class_names)
    best = max(tables.values(), key=lambda table: (len(wanted & table.keys()), -len(table)))
    return {name: best.get(name, frozenset()) for name in class_names}


@cache
def _classes() -> dict[str, dict[str, frozenset[int]]]:
    """Nomenclature to class name to codes."""
    found: dict[str, dict[str, frozenset[int]]] = {}
    for row in _rows("classes.csv"):
        found.setdefault(row["nomenclature"], {})[row["name"]] = frozenset(map(int, row["codes"].split()))
    return found


@cache
def _words() -> tuple[tuple[str, frozenset[int], frozenset[int], bool], ...]:
    """Word, codes it stands for, codes it may mean besides, and whether one code in common is enough.

    Class names of the nomenclatures come last: where they are no class of the dataset, they are words, too.
    """
    listed = [
        (word.strip(), _expand(row["codes"]), _expand(row["also"]), bool(row["touching"]))
        for row in _rows("words.csv")
        for word in row["words"].split("|")
    ]
    names = [(name, codes, frozenset[int](), False) for table in _classes().values() for name, codes in table.items()]
    return tuple(listed + names)


def _expand(prefixes: str) -> frozenset[int]:
    """Codes of level 3 that begin with one of some codes of any level."""
    every = _classes()["clc-3"].values()
    return frozenset(code for codes in every for code in codes if str(code).startswith(tuple(prefixes.split()) or ("-",)))


def _rows(table: str) -> Iterable[dict[str, str]]:
    yield from csv.DictReader(_TABLES.joinpath(table).read_text(encoding="utf-8").splitlines())


@cache
def plain_words() -> frozenset[str]:
    """Words that state nothing, in small letters."""
    lines = _TABLES.joinpath("plain_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


@lru_cache(maxsize=8192)
def is_plain(word: str) -> bool:
    """Whether a word, or one it is a form of, states nothing: "observes" and "observing" as "observe"."""
    words = plain_words()
    if word in words:
        return True
    for ending in ("s", "es", "d", "ed", "ing", "ly"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and (stem in words or stem + "e" in words or (stem[-1] == stem[-2] and stem[:-1] in words)):
            return True
    return False


@cache
def climate_words() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    """A word for a climate, and how the Köppen-Geiger symbols begin that it stands for."""
    return tuple(
        (re.compile(rf"\b(?:{row['words']})\b", re.IGNORECASE), tuple(row["symbols"].split())) for row in _rows("climate_words.csv")
    )


@cache
def any_climate_word() -> re.Pattern[str]:
    """Finds a place in a text if any word for a climate does."""
    return re.compile("|".join(rf"\b(?:{row['words']})\b" for row in _rows("climate_words.csv")), re.IGNORECASE)
