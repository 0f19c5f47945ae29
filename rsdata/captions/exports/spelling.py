"""A row as one question and one answer in plain text, for formats that have no place for options."""

from collections.abc import Mapping
from typing import Any

LETTERS = "ABCDEFGH"


def spelled_question(row: Mapping[str, Any]) -> str:
    """The question; if there are options, each on a line of its own behind its letter."""
    if not row["options"]:
        return str(row["input"])
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, row["options"], strict=False)]
    return "\n".join([row["input"], *lines, "Answer with the letter of the right option."])


def spelled_answer(row: Mapping[str, Any]) -> str:
    """The answer; of a question with options, the letter."""
    return LETTERS[row["answer_index"]] if row["options"] else str(row["output"])
