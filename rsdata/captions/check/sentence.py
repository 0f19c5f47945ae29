"""One sentence as tokens, and how to look around in it: lists, clauses, brackets, and what a place belongs to."""

from collections.abc import Iterable, Sequence

from rsdata.captions.check import words
from rsdata.captions.check.finding import Finding, FindingKind
from rsdata.captions.check.lexicon import Sense
from rsdata.captions.check.statements import Scope, Senses
from rsdata.captions.check.tokens import Token


class Sentence:
    """Reads one sentence; ``used`` are the tokens that statements have taken."""

    def __init__(self, tokens: list[Token], before: Senses, named: Sequence[Sense]) -> None:
        self.tokens = [*tokens]
        self.words = [token.text if token.kind in ("word", "mark") else "\x00" for token in tokens]
        self.words = [word.removesuffix("n't") + " not" if word.endswith("n't") else word for word in self.words]
        self.words = ["not" if word.endswith(" not") else word for word in self.words]
        self.before, self.named = before, named
        self.mentions = [i for i, token in enumerate(tokens) if token.kind == "class"]
        self.used: set[int] = set()
        self.denied: set[int] = set()  # places of classes said to be absent
        self.taken: set[tuple[str, int]] = set()  # what kind of amount a mention has already
        self.objects: set[int] = set()  # "of the lake" in "forest north of the lake": what comes after is said of the forest
        self.brackets = self._find_brackets()
        self.groups = self._find_groups()

    def _find_brackets(self) -> dict[int, int]:
        """Place of each opening bracket whose inside names no class, right after a class, to its closing one."""
        found = {}
        for i, word in enumerate(self.words):
            if word == "(" and i and self.tokens[i - 1].kind == "class":
                close = next((k for k in range(i + 1, len(self.words)) if self.words[k] in "()"), None)
                if close is not None and self.words[close] == ")" and not any(i < m < close for m in self.mentions):
                    found[i] = close
        return found

    def _after(self, mention: int) -> int:
        """The place after a mention and its brackets."""
        return self.brackets.get(mention + 1, mention) + 1

    def _find_groups(self) -> list[list[int]]:
        """Mentions that stand in one list, "pastures (45%), water and forest"."""
        groups: list[list[int]] = []
        for mention in self.mentions:
            if groups:
                start = self._after(groups[-1][-1])
                between = self.words[start:mention]
                joined = all(word in words.JOINS for word in between) and any(word in words.SEPARATORS for word in between)
                after = self._after(mention)
                splits = after < len(self.words) and self.words[after] in words.VERBS and self._governed(groups[-1][0])
                if joined and not splits and "as" not in set(between) - {"as", "well"} - words.JOINS:
                    groups[-1].append(mention)
                    continue
            groups.append([mention])
        return groups

    def _governed(self, place: int) -> bool:
        """Whether a verb or preposition stands before a list, so that the list is no subject."""
        for i in range(place - 1, -1, -1):
            if self.words[i] in words.CLAUSE_END:
                return False
            if self.words[i] in words.GOVERNS:
                return True
        return False

    def _group_of(self, mention: int) -> list[int]:
        return next(group for group in self.groups if mention in group)

    def _senses(self, places: Iterable[int]) -> Senses:
        return tuple(self.tokens[i].value for i in places)

    def _open(self, start: int, end: int) -> bool:
        """Whether nothing between two places ends a clause or is another class; brackets after a class do not count."""
        i = start
        while i < end:
            if i in self.brackets and self.brackets[i] < end:
                i = self.brackets[i] + 1
                continue
            if self.words[i] == "," and self.words[i + 1 : i + 2] and self.words[i + 1] in words.CARRIES and i + 1 < end:
                i += 2  # ", which covers", ", covering"
                continue
            if self.words[i : i + 2] == [",", "the"] and self._of_which(i + 2):
                i += 5  # ", the largest of which"
                continue
            if self.words[i] in words.CLAUSE_END or self.tokens[i].kind == "class":
                return False
            i += 1
        return True

    def _left(self, place: int) -> int | None:
        """The class that a clause names before a place; not one that only says where another lies."""
        found = next((m for m in reversed(self.mentions) if m < place and m not in self.denied | self.objects), None)
        if found is not None and any(found < m < place for m in self.objects):
            return found if self._open(max(m for m in self.objects if m < place) + 1, place) else None
        return found if found is not None and self._open(found + 1, place) else None

    def _right(self, place: int, comma: bool = False) -> int | None:
        """The class that a clause names from a place on; past a comma, where a sentence begins with a place."""
        found = next((m for m in self.mentions if m >= place and m not in self.denied), None)
        if found is None:
            return None
        if comma and not any(m < place for m in self.mentions):
            start = next((k + 1 for k in range(place, found) if self.words[k] == ","), place)
            if self._open(place, max(place, start - 1)):
                return found if self._open(start, found) else None
        return found if self._open(place, found) else None

    def _part(self, place: int) -> range:
        """The stretch between commas, brackets and the like around a place."""
        start, end = place, place
        while start > 0 and self.words[start - 1] not in ",;:()":
            start -= 1
        while end < len(self.words) and self.words[end] not in ",;:()":
            end += 1
        return range(start, end)

    def _owner(self, kind: str, start: int, end: int, right_first: bool = False, anchor: int | None = None) -> int | None:
        """The class that something between two places belongs to, if it has none of that kind yet."""
        place = start if anchor is None else anchor
        opened = next((a for a, b in self.brackets.items() if a < place < b), None)
        if opened is not None:
            return opened - 1
        left, right = self._left(place), self._right(end, comma=self.words[:1] == ["with"])
        order = (right, left) if right_first else (left, right)
        return next((each for each in order if each is not None and (kind, each) not in self.taken), None)

    def _next_group(self, group: list[int]) -> list[int]:
        found = next((each for each in self.groups if each[0] > group[-1]), [])
        start = next((k + 1 for k in range(self._after(group[-1]), found[0]) if self.words[k] == ","), None) if found else None
        if found and (self._open(self._after(group[-1]), found[0]) or (start is not None and self._open(start, found[0]))):
            return found
        return []

    def _spelt(self, start: int, end: int) -> str:
        return " ".join(token.text for token in self.tokens[max(0, start) : end])

    def _pronoun(self) -> Senses:
        """What "they" means: the one class of the sentence before."""
        return self.before if not self.mentions and any(word in words.PRONOUNS for word in self.words) else ()

    def _pronoun_before(self) -> Sense | None:
        return self.before[0] if self.before and self.words and self.words[0] in words.PRONOUNS else None

    def _scope(self, place: int, without: Scope) -> Scope:
        """Which of a class's regions the words around a place speak of."""
        part = self._part(place)
        for k in part:
            if self.words[k] in words.SUPERLATIVES and self._names_region(k):
                self.used.add(k)
                return words.SUPERLATIVES[self.words[k]]
        if any(self.words[k] in ("a", "another") and self._names_region(k) for k in part):
            return "any"
        if without == "largest" and any(self.words[k] in words.SOME for k in part):
            self.used.update(k for k in part if self.words[k] in words.SOME)
            return "any"
        return without

    def _of_which(self, place: int) -> bool:
        """Whether "largest of which" or the like begins at a place."""
        said = self.words[place : place + 3]
        return len(said) == 3 and said[0] in words.SUPERLATIVES and said[1:] in (["of", "which"], ["of", "them"], ["of", "these"])

    def _names_region(self, place: int) -> bool:
        """Whether an article or superlative is about one region: "the largest lake", "a region of pastures"."""
        k = place + 1
        while k < len(self.words) and self.words[k] in words.COUNT_GAP - {"land", "cover", "use", "of"}:
            k += 1
        if k >= len(self.words):
            return False
        if self._of_which(place):
            return True
        if self.words[place] in ("a", "another"):
            return self.words[k] in words.REGIONS and self.words[k + 1 : k + 2] in (["of"], ["covers"], ["in"])
        return self.words[k] in words.REGION or self.tokens[k].kind == "class"

    def _unclear(self, place: int, what: str) -> Finding:
        self.used.add(place)
        return Finding(FindingKind.UNCLEAR, what)
