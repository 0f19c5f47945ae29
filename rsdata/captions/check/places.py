"""What lies where, and what touches what."""

import itertools
from collections.abc import Iterator

from rsdata.captions.check import words
from rsdata.captions.check.sentence import Sentence
from rsdata.captions.check.statements import Beside, Lies, Statement, Touches


class Places(Sentence):
    """Reads positions, directions and borders."""

    def _read_borders(self) -> Iterator[Statement]:
        said = self.words
        for i, word in enumerate(said):
            if i in self.used:
                continue
            phrase = next((each for each in words.TOUCH_PHRASES if word == each[0] and said[i : i + len(each)] == each), None)
            if word not in words.TOUCH and word not in words.AROUND and phrase is None:
                continue
            if word == "along" and said[i + 1 : i + 2] == ["with"]:
                self.used.add(i)
                continue
            end = i + (len(phrase) if phrase else 1)
            while end < len(said) and said[end] in words.TOUCH_GAP | words.TOUCH | {"the"} and said[end] not in ("and", "or"):
                end += 1
            if phrase and phrase[-1] == "a" and not any(each in ("border", "boundary", "edge") for each in said[i:end]):
                continue
            taken = set(range(i, end)) - {k for k in range(i, end) if self.tokens[k].kind == "class"}
            length = self._length_near(i, end)
            if length is not None:
                taken.add(length)
            denial = next((k for k in range(max(0, i - 3), i) if said[k] in words.NOT | {"nor"}), None)
            after = next((group for group in self.groups if group[0] >= end), None)
            if after is not None and any(
                said[k] not in words.TOUCH_GAP for k in range(end, after[0]) if self.tokens[k].kind in ("word", "mark") and k not in taken
            ):
                after = None
            earlier = next((group for group in reversed(self.groups) if group[0] < i), None)
            spelt = self._spelt(i, end)
            subject = self._pronoun_before() if after and not earlier else None
            if subject is not None and after:
                self.used |= taken
                yield from (Touches(subject, other, spelt, alone=word in words.AROUND) for other in self._senses(after))
                continue
            pairs = self._bordering(earlier or [], after or [], i, end)
            if not pairs or self.denied & {m for pair in pairs for m in pair} or (length is not None and len(pairs) > 1):
                yield self._unclear(i, f"says {spelt!r}, but what borders what cannot be read")
                self.used |= taken
                continue
            self.used |= taken | ({denial} if denial is not None else set())
            amount = self.tokens[length].value if length is not None else None
            swap = word in words.AROUND and word in ("surrounds", "surround", "surrounding", "encloses", "enclosing", "encircles")
            for a, b in pairs:
                one, other = self._senses((b, a) if swap else (a, b))
                yield Touches(one, other, spelt, amount, denial is not None, alone=word in words.AROUND)

    def _bordering(self, earlier: list[int], after: list[int], start: int, end: int) -> list[tuple[int, int]]:
        """Which mentions a border is said to lie between, given the lists before and after the words for it."""
        said = self.words
        between = "between" in said[start:end] or (not earlier and said[start + 1 : start + 2] == ["of"])
        if len(after) > 1 and between:
            return list(itertools.combinations(after, 2))
        if earlier and after and after is not earlier:
            return [(a, b) for a in earlier if a < start for b in after]
        if after and not earlier:
            later = next((group for group in self.groups if group[0] > after[-1]), [])
            return [(a, b) for a in later for b in after]
        if len(earlier) > 1 and earlier[-1] < start and words.MUTUAL & set(said[start : min(end + 3, len(said))]):
            return list(itertools.combinations(earlier, 2))
        return []

    def _read_insides(self) -> Iterator[Statement]:
        """One class in another: "a lake in the forest", "the forest contains a lake"."""
        for i, word in enumerate(self.words):
            if i in self.used or word not in words.INSIDE | words.HOLDS:
                continue
            right = next((m for m in self.mentions if m > i), None)
            if (
                right is None
                or right in self.denied
                or not all(
                    each in words.DETERMINERS or self.tokens[k].kind == "count"
                    for k, each in enumerate(self.words[i + 1 : right], start=i + 1)
                )
            ):
                continue
            left = self._left(i)
            if left is None:
                continue
            outer, inner = (right, left) if word in words.INSIDE else (left, right)
            for one in self._senses(self._group_of(inner)):
                for other in self._senses(self._group_of(outer)):
                    yield Touches(one, other, self._spelt(min(left, i), right + 1), inside=True)

    def _length_near(self, start: int, end: int) -> int | None:
        """A length in the same part of the sentence as a border."""
        part = self._part(start)
        return next(
            (k for k in (*range(start, max(end, part.stop)), *part) if self.tokens[k].kind == "length" and self.tokens[k].value), None
        )

    def _read_places(self) -> Iterator[Statement]:
        i = 0
        while i < len(self.tokens):
            if self.tokens[i].kind != "where" or i in self.used:
                i += 1
                continue
            places = [i]
            k = i + 1
            while k < len(self.tokens):
                if self.tokens[k].kind == "where":
                    places.append(k)
                elif self.words[k] not in (",", "and", "or", "the", "in", "to", "both"):
                    break
                k += 1
            end = places[-1] + 1
            yield from self._read_place(places, end)
            i = end

    def _read_place(self, places: list[int], end: int) -> Iterator[Statement]:
        first, said = places[0], self.words
        where = tuple(self.tokens[p].value for p in places)
        spelt = self._spelt(first, end)
        self.used.update(places)
        if said[end : end + 1] in (["of"], ["from"]):
            k = end + 1
            while k < len(said) and said[k] in ("the", "a", "an", "some", "this", "that", "any"):
                k += 1
            if said[k : k + 1] in (["them"], ["those"], ["these"], ["which"]):
                yield self._unclear(first, f"says {spelt!r} of something that cannot be read")
                return
            if k < len(said) and self.tokens[k].kind == "class":
                others = self._group_of(k)
                left = self._left(first)
                subjects = self._group_of(left) if left is not None else self._next_group(others)
                inside = {"in", "within"} & set(said[max(0, first - 2) : first])
                if len(places) > 1 or inside or not subjects or where[0].position == "centre" or self.denied & {*others, *subjects}:
                    yield self._unclear(first, f"says {self._spelt(first, k + 1)!r}, but what lies there cannot be read")
                    return
                denied = next((p for p in range(max(0, first - 4), first) if said[p] in words.NOT), None)
                if denied is not None:
                    yield self._unclear(denied, f"denies {self._spelt(denied, k + 1)!r} in a way that cannot be followed")
                if left is not None:
                    self.objects.update(others)
                yield Beside(self._senses(subjects), where[0].position, self._senses(others), self._spelt(first, k + 1))
                return
        adjective = end < len(said) and self.tokens[end].kind == "class" and said[first - 1 : first] != ["is"]
        opened = next((a for a, b in self.brackets.items() if a < first < b), None)
        if opened is not None:
            owners = [opened - 1]
        else:
            left, right = self._left(first), self._right(end, comma=True)
            leads = first == 0 or all(word in words.LEADS for word in said[:first])
            owner = right if (adjective or leads) and right is not None else left if left is not None else right
            owners = [] if owner is None else [owner]
            if owner is not None and owner == left:
                group = self._group_of(owner)
                owners = group if not self._governed(group[0]) or said[self._after(group[-1]) : first] in ([], ["in", "the"]) else [owner]
            elif owner is not None and not adjective:
                owners = self._group_of(owner)
        senses = self._senses(owners) or self._pronoun()
        if not senses or self.denied & set(owners):
            yield self._unclear(first, f"says {spelt!r}, but what lies there cannot be read")
            return
        denied = next((p for p in range(max(0, first - 4), first) if said[p] in words.NOT and p not in self.used), None)
        if denied is not None:
            self.used.add(denied)
        if len(places) > 1 and "or" in said[first:end]:
            yield self._unclear(first, f"says {spelt!r}, which leaves it open")
        yield Lies(senses, where, spelt, self._scope(first, "largest"), denied is not None)
        for p in range(max(0, first - 5), first):
            if said[p] in words.ADVERBS:
                self.used.add(p)
