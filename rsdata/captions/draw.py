"""Choices that look random and follow from words alone: a seed, a patch and what is chosen.

Each thing that is chosen has a stream of its own, so one question more or less leaves the others as they were. The
numbers come from SHA-256 and a linear congruential generator, not from a library that may change its mind.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

_Item = TypeVar("_Item")
# Multiplier and increment of Knuth's MMIX; the upper bits of its numbers are used.
_MULTIPLIER, _INCREMENT, _MASK = 6_364_136_223_846_793_005, 1_442_695_040_888_963_407, 2**64 - 1


class Draw:
    """One stream of choices."""

    __slots__ = ("_state",)

    def __init__(self, *words: object) -> None:
        self._state = int.from_bytes(hashlib.sha256("\n".join(map(str, words)).encode()).digest()[:8])

    def below(self, count: int) -> int:
        """A whole number from 0 to ``count`` - 1."""
        self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        return (self._state >> 32) * count >> 32

    def one_of(self, items: Sequence[_Item]) -> _Item:
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.below(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed
