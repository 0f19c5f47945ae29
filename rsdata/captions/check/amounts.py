"""How much and how many."""

from collections.abc import Iterator

from rsdata.captions.check import words
from rsdata.captions.check.sentence import Sentence
from rsdata.captions.check.statements import Holds, Lies, Regions, Statement, Things
from rsdata.captions.check.tokens import Amount, Count


class Amounts(Sentence):
    """Reads shares, areas and counts."""

    def _read_counts(self) -> Iterator[Statement]:
        for i, token in enumerate(self.tokens):
            if token.kind != "count" or i in self.used:
                continue
            if self.words[i + 1 : i + 2] and token.text.lower() == "one" and self.words[i + 1] in words.PERSON_DOES:
                self.used.add(i)  # "one can see", "one finds"
                continue
            where = next((k for k in range(i + 1, min(i + 7, len(self.tokens))) if self.tokens[k].kind == "where"), None)
            if token.text.lower() == "one" and where is not None and all(word in words.ONE_OF_THEM for word in self.words[i + 1 : where]):
                own = {self.tokens[m].value for m in self.mentions if m < i}
                if len(own) == 1:
                    self.used |= {i, where}
                    yield Lies(tuple(own), (self.tokens[where].value,), self.tokens[where].text, "any")
                    continue
            k = i + 1
            while (
                k < len(self.words)
                and self.words[k] in words.COUNT_GAP
                and not (self.words[k] == "cover" and self.words[k + 1 : k + 2] == ["the"])
            ):
                k += 1
            count: Count = token.value
            noun = self.words[k] if k < len(self.words) else ""
            spelt = self._spelt(i, k + 1)
            if k < len(self.words) and self.tokens[k].kind == "class":
                self.used.update(range(i, k))
                self.taken.add(("count", k))
                yield Regions(self.tokens[k].value, count, spelt)
            elif noun in words.REGIONS and not (noun in ("part", "parts") and self.words[k + 1 : k + 2] == ["of"] and count.low == 1):
                owner = self._owner("count", k + 1, k + 1, right_first=self.words[k + 1 : k + 2] == ["of"], anchor=i)
                senses = self._senses([owner]) if owner is not None else self._pronoun()
                if not senses:
                    yield self._unclear(i, f"says {spelt!r}, but of which class cannot be read")
                    continue
                self.used.update(range(i, k + 1))
                if owner is not None:
                    self.taken.add(("count", owner))
                yield Regions(senses[0], count, spelt)
            elif noun in words.CLASS_NOUNS or (self.words[k - 1] in ("cover", "covers", "use", "uses") and k - 1 > i):
                self.used.update(range(i, k + (noun in words.CLASS_NOUNS)))
                yield Things("classes", count, spelt)
            elif noun in words.SENSOR_NOUNS:
                self.used.update(range(i, k + 1))
                yield Things("sensors", count, spelt)
            else:
                yield self._unclear(i, f"says {spelt!r}, but what is counted cannot be read")

    def _read_amounts(self) -> Iterator[Statement]:
        waiting = [i for i, token in enumerate(self.tokens) if token.kind in ("share", "area") and i not in self.used]
        tight = [i for i in waiting if self._tight(i) is not None]
        for i in (*tight, *(each for each in waiting if each not in tight)):
            kind = self.tokens[i].kind
            amount: Amount = self.tokens[i].value
            owner = self._tight(i)
            if owner is not None and (kind, owner) in self.taken:
                owner = None
            whole = owner is None
            if owner is None:
                owner = self._owner(kind, i, i + 1)
            if owner is None:
                owner = self._apposed(kind, i)
            if self.words[i + 1 : i + 2] == ["of"] and any(token.kind == "country" for token in self.tokens[i + 2 : i + 4]):
                yield self._unclear(i, f"says {self.tokens[i].text!r} of a country, which cannot be followed")
                continue
            senses = self._pronoun() if owner is None and self.words[i + 1 : i + 3] not in (["of", "it"], ["of", "them"]) else ()
            if owner is None and not senses:
                yield self._unclear(i, f"says {self.tokens[i].text!r}, but of which class cannot be read")
                continue
            if owner is not None and owner > i and self._of_a_part(i, owner):
                yield self._unclear(i, f"says {self.tokens[i].text!r} of a class and not of the patch, which cannot be followed")
                continue
            members = [] if owner is None else [owner]
            if owner is not None and whole:
                group = [m for m in self._group_of(owner) if m not in self.denied]
                if not any((kind, m) in self.taken for m in group) and (owner > i or not self._governed(group[0])):
                    members = [m for m in group if m < i] if owner < i else group
            self.used.add(i)
            self.taken.update((kind, m) for m in members)
            found = self._senses(members) or senses
            if any(word == "each" for word in self.words[max(0, i - 4) : i + 5]):
                yield from (Holds((sense,), amount, self.tokens[i].text, kind) for sense in found)  # type: ignore[arg-type]
            else:
                scope = self._scope(i, "class") if len(found) == 1 else "class"
                yield Holds(found, amount, self.tokens[i].text, kind, scope)  # type: ignore[arg-type]
        self.used.update(i for i, token in enumerate(self.tokens) if token.kind == "length" and token.value is None)

    def _tight(self, i: int) -> int | None:
        """The class that an amount stands right beside, or in whose brackets it stands: "45% pastures", "pastures (45%)"."""
        opened = next((a for a, b in self.brackets.items() if a < i < b), None)
        if opened is not None:
            return opened - 1
        before = i - 1
        while before >= 0 and self.words[before] in ("at", ":", "with", "about", "roughly", "approximately", "around", "only", "of"):
            before -= 1
        if before >= 0 and self.tokens[before].kind == "class" and self.words[i + 1 : i + 2] not in (["of"], ["by"]):
            return before
        after = i + 1
        while after < len(self.words) and self.words[after] in ("by", "of", "being"):
            after += 1
        return after if after < len(self.words) and self.tokens[after].kind == "class" else None

    def _apposed(self, kind: str, i: int) -> int | None:
        """The class before a comma that an amount follows at once: "forest covers 36 ha, a quarter of the patch"."""
        start = i - 1
        while start >= 0 and self.words[start] in ("about", "roughly", "approximately", "or", "around", "almost"):
            start -= 1
        if start < 0 or self.words[start] != "," or self._right(i + 1) is not None:
            return None
        owner = self._left(start)
        return owner if owner is not None and (kind, owner) not in self.taken else None

    def _of_a_part(self, i: int, owner: int) -> bool:
        """Whether an amount is a share of a class: "half of the forest is", "10% of all pastures lie"."""
        between = self.words[i + 1 : owner]
        after = self._after(owner)
        of = between[:1] == ["of"] and all(word in ("of", "the", "all", "these", "this") for word in between)
        ends_in_of = self.tokens[i].text.endswith("of") and all(word in ("the", "all") for word in between)
        return (of or ends_in_of) and after < len(self.words) and self.words[after] in words.VERBS
