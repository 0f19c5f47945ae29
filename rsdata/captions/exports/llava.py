"""Conversations as LLaVA is tuned on them: one question and one answer about one picture each."""

from collections.abc import Mapping
from typing import Any

from rsdata.captions.exports.spelling import spelled_answer, spelled_question


def llava_conversation(row: Mapping[str, Any], image: str | None) -> dict[str, Any]:
    """One row as a conversation.

    Args:
        row: fields of ``TextRow``.
        image: path of the picture, relative to the file of conversations; without one the question stands alone.
    """
    question = spelled_question(row)
    return {
        "id": row["row_id"],
        **({"image": image} if image is not None else {}),
        "conversations": [
            {"from": "human", "value": question if image is None else f"<image>\n{question}"},
            {"from": "gpt", "value": spelled_answer(row)},
        ],
        "split": row["split"],
        "category": row["category"],
        "type": row["type"],
    }
