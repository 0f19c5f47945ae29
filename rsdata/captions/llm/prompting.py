"""What a model is told: rules, the facts of one patch as data, and what was wrong with its last answer.

The prompts are text files with a version in their name, in ``captions/prompts``. Facts are JSON whose ``<`` and ``>``
are escaped, so no name in them can end the part that is marked as data.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from string import Template
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rsdata.captions import wording
from rsdata.captions.facts import unclassified_share
from rsdata.captions.llm.findings import Draft, Finding
from rsdata.recipe import LanguageModel
from rsdata.sensors import SENSORS

PROMPT_VERSION = 1
MOST_REGIONS = 8  # largest ones shown
MOST_BORDERS = 6

Messages = list[dict[str, Any]]  # as the chat protocol has them


class Answer(BaseModel):
    """What a model is asked to return."""

    model_config = ConfigDict(extra="forbid", title="Answer")

    caption: str = Field(min_length=1)


ANSWER_SCHEMA = {"name": "answer", "strict": True, "schema": Answer.model_json_schema()}
RESPONSE_FORMATS: dict[str, dict[str, Any] | None] = {
    "json_schema": {"type": "json_schema", "json_schema": ANSWER_SCHEMA},
    "json_object": {"type": "json_object"},
    "none": None,
}


@lru_cache(maxsize=16)
def prompt_text(name: str) -> Template:
    """One of the prompt files, of this version."""
    file = resources.files("rsdata.captions") / "prompts" / f"{name}-{PROMPT_VERSION}.txt"
    return Template(file.read_text(encoding="utf-8").strip())


def first_messages(draft: Draft, task: str, picture: bytes | None = None) -> Messages:
    """What a model is sent about one patch.

    Args:
        task: paraphrase or enrich.
        picture: the patch in natural colours, PNG.
    """
    text = prompt_text(task).substitute(facts=facts_for_model(draft), draft=_escaped(draft.text))
    content: str | list[dict[str, Any]] = text
    if picture is not None:
        address = "data:image/png;base64," + base64.b64encode(picture).decode()
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": address, "detail": "low"}}]
    return [{"role": "system", "content": prompt_text("rules").template}, {"role": "user", "content": content}]


def repair_messages(answer: str, findings: Sequence[Finding]) -> Messages:
    """What follows an answer that is not used: the answer itself, and why."""
    reasons = "\n".join(f"- It {finding.sentence}." for finding in findings)
    return [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": prompt_text("repair").substitute(findings=_escaped(reasons))},
    ]


def messages_digest(messages: Messages) -> str:
    """SHA-256 of messages as JSON with sorted keys, in UTF-8."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def request_body(messages: Messages, options: LanguageModel, response_format: str) -> dict[str, Any]:
    """The body of one request to ``chat/completions``."""
    body = {
        "model": options.model,
        "messages": messages,
        "temperature": options.temperature,
        options.max_tokens_name: options.max_tokens,
    }
    stated = RESPONSE_FORMATS[response_format]
    return body | ({"response_format": stated} if stated is not None else {})


def token_bound(body: dict[str, Any], image_tokens: int) -> int:
    """More tokens than a prompt can come to: one per byte, some for each message, and pictures as the recipe counts them.

    Tokenizers over bytes make no more tokens than a text has bytes; chat templates add a few around each message.
    """
    tokens = len(json.dumps(body.get("response_format") or "").encode()) + 64
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        tokens += 32 + sum(len(part["text"].encode()) if part["type"] == "text" else image_tokens for part in parts)
    return tokens


def parse_answer(text: str) -> tuple[str | None, list[Finding]]:
    """The caption in a model's answer, or why there is none. A fence of backticks around the JSON is let pass."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```"):
        bare = bare.removesuffix("```").partition("\n")[2]
    try:
        caption = Answer.model_validate_json(bare).caption
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return None, [Finding("not_json", 'is not one whole JSON object such as {"caption": "your text"}')]
        place = ".".join(str(part) for part in first["loc"])[:40]
        return None, [Finding("schema", f"is not of the form asked for: `{_escaped(place)}` {first['msg']}")]
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in caption):
        return None, [Finding("schema", "holds half a character")]
    return caption.strip(), []


def facts_for_model(draft: Draft) -> str:
    """Facts as JSON for a model: those that the caption may tell and the check can read, shares as captions write them."""
    facts, names = draft.facts, draft.classes
    of = {each.name: each for each in facts.classes}
    rest = unclassified_share(facts)
    shown: dict[str, Any] = {"classes": [{"name": name} for name in names]}
    if draft.may_tell("area"):
        for each in shown["classes"]:
            each |= {"share": wording.percent(of[each["name"]].share), "rank": of[each["name"]].dominance}
        if rest >= 0.005 or not names:
            shown["share_of_unclassified_land"] = wording.percent(rest)
    if draft.may_tell("counting"):
        for each in shown["classes"]:
            each["separate_regions"] = of[each["name"]].regions
    if draft.may_tell("relative_position"):
        regions = [each for each in facts.regions if each.name in names]
        shown["largest_regions"] = [{"class": each.name, "where": each.position} for each in regions[:MOST_REGIONS]]
    if draft.may_tell("adjacency"):
        pairs = [each for each in facts.adjacent if each.first in names and each.second in names]
        longest = sorted(pairs, key=lambda each: (-each.border_m, each.first, each.second))[:MOST_BORDERS]
        shown["borders"] = [{"between": [each.first, each.second], "metres": round(each.border_m)} for each in longest]
    if draft.may_tell("season"):
        shown |= {"season": facts.season, "month": wording.MONTHS[facts.datetime.month - 1]}
    shown["year"] = facts.datetime.year
    shown |= {"country": facts.country} if draft.may_tell("country") else {}
    shown |= {"climate": facts.climate} if draft.may_tell("climate") else {}
    shown["sensors"] = [SENSORS[name].title for name in facts.sensors]
    return _escaped(json.dumps({name: value for name, value in shown.items() if value not in (None, [])}, indent=1, ensure_ascii=False))


def _escaped(text: str) -> str:
    """Text that cannot open or close a tag; in JSON it still means the same."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e")
