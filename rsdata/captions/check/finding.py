"""What the check finds in a text: a kind that can be counted, and words that can be shown to whoever wrote it."""

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """What a text is wrong about, or why it cannot be followed."""

    EMPTY = "empty"
    FORM = "form"  # markup, addresses, code: not a sentence about a place
    WORD = "word"  # a word the check cannot read
    UNCLEAR = "unclear"  # words it can read, in an order it cannot follow
    CLASS = "class"  # something that is not there
    NEGATION = "negation"  # something denied that is there
    SHARE = "share"
    AREA = "area"
    COUNT = "count"
    POSITION = "position"
    RELATIVE_POSITION = "relative_position"
    ADJACENCY = "adjacency"
    DOMINANCE = "dominance"
    DIVERSITY = "diversity"
    COUNTRY = "country"
    SEASON = "season"
    DATE = "date"
    PLACE = "place"
    CLIMATE = "climate"
    SENSOR = "sensor"


@dataclass(frozen=True)
class Finding:
    """One thing a text says that its facts do not hold."""

    kind: FindingKind
    message: str  # goes on from "the text"

    @property
    def sentence(self) -> str:
        """The finding as a whole sentence."""
        return f"The text {self.message}."
