"""From tokens to statements, one sentence at a time.

A statement takes the tokens it was read from. What speaks of the ground and is taken by none is a finding: a number,
a direction or a "not" whose owner cannot be told is refused rather than passed over. An amount belongs to the class
before it, "pastures cover 45%", or else to the one after it, "45% is covered by pastures", with nothing between that
ends a clause.
"""

import itertools
from collections.abc import Iterator, Sequence

from rsdata.captions.check import words
from rsdata.captions.check.amounts import Amounts
from rsdata.captions.check.finding import Finding, FindingKind
from rsdata.captions.check.lexicon import Sense, is_plain
from rsdata.captions.check.places import Places
from rsdata.captions.check.statements import Absent, Degree, More, Nothing, Present, Ranks, Regions, Senses, Statement, Things, Variety
from rsdata.captions.check.tokens import Count, Token


def statements(found: Sequence[Token]) -> Iterator[Statement]:
    """Everything some tokens say, and a finding for each that cannot be followed."""
    before: Senses = ()
    named: list[Sense] = []
    sentences: list[list[Token]] = [[]]
    for token in found:
        if token.kind == "mark" and token.text in words.ENDS:
            sentences.append([])
        else:
            sentences[-1].append(token)
    for sentence in sentences:
        reader = _Reader(sentence, before, named)
        yield from reader.read()
        own = tuple(dict.fromkeys(sentence[i].value for i in reader.mentions))
        named += [sense for sense in own if sense not in named]
        before = own if len(own) == 1 else ()


class _Reader(Places, Amounts):
    """Reads all that one sentence says."""

    def read(self) -> Iterator[Statement]:
        yield from self._read_denials()
        yield from self._read_whole()
        yield from self._read_comparisons()
        yield from self._read_borders()
        yield from self._read_insides()
        yield from self._read_counts()
        yield from self._read_places()
        yield from self._read_amounts()
        yield from self._read_ranks()
        yield from self._read_forms()
        yield from (Present(self.tokens[i].value) for i in self.mentions if i not in self.denied)
        yield from self._read_rest()

    def _read_denials(self) -> Iterator[Statement]:
        said = self.words
        for i, word in enumerate(said):
            following = said[i + 1] if i + 1 < len(said) else ""
            if i in self.used:
                continue
            if word in words.NOT and following == "only":
                self.used |= {i, i + 1}
            elif (word == "no" and following in ("other", "further")) or (word == "nothing" and following in ("else", "other")):
                if not any(m > i for m in self.mentions):
                    self.used |= {i, i + 1, *range(i, self._part(i).stop)} - {
                        k for k in self._part(i) if self.tokens[k].kind not in ("word", "mark")
                    }
                    yield Nothing((*self.named, *self._senses(self.mentions)), self._spelt(i, i + 3))
            elif word in words.NO and (word not in ("free", "devoid", "absence") or following == "of"):
                mention = next((m for m in self.mentions if m > i), None)
                if mention is not None and all(each in words.NEGATION_GAP for each in said[i + 1 : mention]):
                    yield from self._deny(i, self._group_of(mention), range(i, mention))
            elif word in words.NOT:
                ahead = next(
                    (k for k in range(i + 1, min(i + 4, len(said))) if said[k] in words.HAVING | words.BEING | words.TOUCH | words.AROUND),
                    None,
                )
                if ahead is not None and said[ahead] in words.HAVING:
                    mention = next((m for m in self.mentions if m > ahead), None)
                    if mention is not None and all(each in words.NEGATION_GAP for each in said[ahead + 1 : mention]):
                        yield from self._deny(i, self._group_of(mention), range(i, mention))
                elif ahead is not None and said[ahead] in words.BEING:
                    yield from self._deny_before(i, range(i, ahead + 1))
            elif word in ("absent", "missing", "nowhere"):
                yield from self._deny_before(i, range(i, i + 1))

    def _deny_before(self, place: int, taken: range) -> Iterator[Statement]:
        mention = next((m for m in reversed(self.mentions) if m < place), None)
        if mention is not None and all(word in words.COPULAS for word in self.words[self._after(mention) : place]):
            yield from self._deny(place, self._group_of(mention), taken)

    def _deny(self, place: int, group: list[int], taken: range) -> Iterator[Statement]:
        self.used.update(taken)
        self.used.update(k for k in range(group[0], group[-1]) if self.words[k] in ("nor", "or"))
        self.denied.update(group)
        yield from (Absent(sense) for sense in self._senses(group))

    def _read_whole(self) -> Iterator[Statement]:
        """The patch consists of one thing alone; or a class lies in one piece."""
        for i, word in enumerate(self.words):
            if i in self.used:
                continue
            following = next((k for k in range(i + 1, len(self.words)) if self.words[k] not in ("the", "a", "about", "around", "of")), None)
            kind = self.tokens[following].kind if following is not None else "mark"
            if word == "nothing" and self.words[i + 1 : i + 2] == ["but"]:
                mention = next((m for m in self.mentions if m > i), None)
                if mention is not None:
                    self.used |= {i, i + 1}
                    yield Nothing(self._senses(self._group_of(mention)), "nothing but")
            elif word in words.EXCLUSIVE:
                if (kind in ("share", "area", "count") and word == "only") or (
                    word == "all" and self.words[i - 1 : i] in (["in"], ["at"], ["above"])
                ):
                    self.used.add(i)
                    continue
                if kind == "sensor" and word == "only" and not any(token.kind == "sensor" for token in self.tokens[(following or 0) + 1 :]):
                    self.used.add(i)
                    yield Things("sensors", Count(1, 1), self._spelt(i, (following or 0) + 1))
                    continue
                if word in ("whole", "entire", "all") and any(token.kind in ("share", "area") for token in self.tokens):
                    self.used.add(i)
                    continue
                mention = next((m for m in self.mentions if m > i and m not in self.denied), None)
                if mention is not None and not any(
                    self.tokens[k].kind != "word" or self.words[k] in words.CLAUSE_END for k in range(i + 1, mention)
                ):
                    self.used.add(i)
                    yield Nothing(self._senses(self._group_of(mention)), self._spelt(i, mention))
            elif word in ("rest", "remainder", "remaining") and self.mentions:
                mention = next((m for m in self.mentions if m > i and m not in self.denied), None)
                if mention is not None:
                    self.used.add(i)
                    if not any(
                        each in ("includes", "include", "including", "contains", "among", "partly") for each in self.words[i:mention]
                    ):
                        told = self.named if i < self.mentions[0] else (*self.named, *self._senses(m for m in self.mentions if m < i))
                        yield Nothing((*told, *self._senses(self._group_of(mention))), self._spelt(i, mention))

    def _read_comparisons(self) -> Iterator[Statement]:
        for i, word in enumerate(self.words):
            again = next((k for k in range(i + 2, min(i + 4, len(self.words))) if self.words[k] == "as"), None) if word == "as" else None
            if again is not None and self.words[i + 1] != "well":
                yield self._unclear(i, f"says {self._spelt(i, again + 1)!r}, which cannot be followed; give the shares")
            elif word == "than":
                sign = next((k for k in range(i - 1, -1, -1) if self.words[k] in words.MORE | words.LESS), None)
                right = next((m for m in self.mentions if m > i), None)
                left = None
                if sign is not None:
                    inner = [m for m in self.mentions if sign < m < i]
                    left = inner[0] if inner else next((m for m in reversed(self.mentions) if m < sign), None)
                if sign is None or right is None or left is None or not self._open(i + 1, right) or self.denied & {left, right}:
                    continue
                if any(self.tokens[k].kind not in ("word", "class") for k in range(min(left, sign), right)):
                    continue  # more regions than, further north than
                if any(self.words[k] in words.REGIONS - {"area", "areas", "part", "parts"} for k in range(min(left, sign), i)):
                    continue
                self.used |= {sign, i, *(k for k in range(sign, i) if self.words[k] in ("extensive", "large", "much", "widespread"))}
                self.used |= {k for k in range(min(left, sign), sign) if self.words[k] == "much"}
                pair = self._senses([left]), self._senses([right])
                yield More(*(pair if self.words[sign] in words.MORE else pair[::-1]), self._spelt(min(left, sign), right + 1))
            elif word in ("exceeds", "exceed", "outweighs"):
                left, right = self._left(i), self._right(i)
                if left is not None and right is not None:
                    self.used.add(i)
                    yield More(self._senses([left]), self._senses([right]), self._spelt(left, right + 1))
            elif word == "followed" and self.words[i + 1 : i + 2] == ["by"]:
                earlier = next((group for group in reversed(self.groups) if group[-1] < i), None)
                later = next((group for group in self.groups if group[0] > i), None)
                if earlier and later:
                    self.used.add(i)
                    chain = [*earlier[-1:], *later]
                    for a, b in itertools.pairwise(chain):
                        yield More(self._senses([a]), self._senses([b]), "followed by", strict=False)
                    for a in earlier[:-1]:
                        yield More(self._senses([a]), self._senses(later[:1]), "followed by", strict=False)

    def _read_ranks(self) -> Iterator[Statement]:
        said = self.words
        for i, word in enumerate(said):
            if i in self.used:
                continue
            degree: Degree | None = None
            right_first = False
            if word == "dominated" and said[i + 1 : i + 2] == ["by"]:
                degree, right_first = "largest", True
            elif word in words.RULES:
                degree = "largest"
            elif word in words.ADVERBS:
                degree, right_first = "largest", True
            elif word == "most" and said[i + 1 : i + 2] == ["extensive"]:
                degree, right_first = "largest", True
                self.used.add(i + 1)
            elif word in ("largest", "biggest", "greatest"):
                degree = next((words.ORDINALS[each] for each in said[max(0, i - 1) : i] if each in words.ORDINALS), "largest")
                right_first = said[i - 1 : i] != ["the"] or True
            elif word in ("smallest", "least"):
                degree, right_first = "smallest", True
            elif word in words.LOWER_DEGREES and not (word == "smaller" and "than" in said[i:]):
                degree, right_first = words.LOWER_DEGREES[word], True
            if degree is None:
                continue
            if word in words.RULES and not self.mentions and any(token.kind == "climate" for token in self.tokens):
                self.used.add(i)  # of a climate
                continue
            left, right = self._left(i), self._right(i + 1)
            copula = left is not None and any(
                each
                in words.COPULAS
                | {
                    "remains",
                    "forms",
                    "form",
                    "constitutes",
                    "represents",
                    "plays",
                    "play",
                    "as",
                    "of",
                    "a",
                    "the",
                    "has",
                    "have",
                    "makes",
                    "make",
                    "covers",
                    "cover",
                    "takes",
                    "up",
                    "occupies",
                    "occupy",
                    "only",
                    "to",
                    "in",
                    "with",
                }
                for each in said[left + 1 : i]
            )
            owner = (
                left if left is not None and (not right_first or (copula and word not in words.ADVERBS and word != "dominated")) else right
            )
            if owner is None:
                owner = left if word not in words.ADVERBS and word != "dominated" else None
            senses = self._senses(self._group_of(owner)) if owner is not None else self._pronoun()
            if not senses or (owner is not None and owner in self.denied) or any(said[k] in words.NOT for k in range(max(0, i - 3), i)):
                continue  # left over, and so a finding
            self.used |= {i, *(k for k in range(max(0, i - 1), i) if said[k] in words.ORDINALS)}
            yield Ranks(senses, degree, self._spelt(max(0, i - 1) if isinstance(degree, int) else i, i + 1))

    def _read_forms(self) -> Iterator[Statement]:
        """One piece or many, one kind of ground or many."""
        for i, word in enumerate(self.words):
            if i in self.used:
                continue
            if word in words.SCATTERED | words.WHOLE:
                left, right = self._left(i), self._right(i + 1)
                owner = right if right is not None else left
                if owner is not None and owner not in self.denied and ("count", owner) not in self.taken:
                    self.used.add(i)
                    yield Regions(self.tokens[owner].value, Count(2, float("inf")) if word in words.SCATTERED else Count(1, 1), word)
            elif word in words.SAME | words.VARIED:
                self.used.update(k for k in range(max(0, i - 1), i) if self.words[k] == "mixed")
                self.used.add(i)
                yield Variety(word in words.VARIED, word)
            elif word == "diversity" and self.words[i - 1] in ("high", "low"):
                self.used.add(i)
                yield Variety(self.words[i - 1] == "high", self._spelt(i - 1, i + 1))

    def _read_rest(self) -> Iterator[Statement]:
        for i, token in enumerate(self.tokens):
            if i in self.used:
                continue
            if token.kind in ("share", "area", "count", "where", "length"):
                yield Finding(FindingKind.UNCLEAR, f"says {token.text!r}, but what it belongs to cannot be read")
            elif token.kind == "mark" and token.text not in words.MARKS:
                yield Finding(FindingKind.FORM, f"holds {token.text!r}, which has no place in a plain sentence")
            elif token.kind == "word":
                word = self.words[i].removesuffix("'s")
                if word in words.MEANINGFUL:
                    yield Finding(FindingKind.UNCLEAR, f"says {self._spelt(i - 2, i + 3)!r}, which cannot be followed; say it more plainly")
                elif not all(is_plain(part) for part in word.split("-") if part):
                    yield Finding(
                        FindingKind.WORD, f"uses {token.text!r}, a word or number that cannot be checked; leave it out or use plainer words"
                    )
