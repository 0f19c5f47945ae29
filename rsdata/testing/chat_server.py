"""A server that speaks the OpenAI chat protocol as real ones do, well or badly; a process of its own, on the loopback.

It has no model: it reads the facts in the prompt, as JSON, and words them. What goes wrong is said by the name of the
model that is asked for, or chosen by the digest of a prompt, so that it does not depend on the order of requests. Every
request is written to a file before it is answered.
Run as a program it needs nothing of rsdata, and prints its port.
"""

import asyncio
import hashlib
import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# What becomes of a prompt. "First" is the first time a prompt comes in with the same messages.
BEHAVIOURS = {
    "good": "answers with what the facts hold",
    "lies": "first names another season and a class that is not there; is right when told so",
    "liar": "always does",
    "truncates": "first cuts its JSON off; is right when told so",
    "stalls": "first says nothing for a long time; then answers",
    "busy": "first answers 429 with Retry-After; then answers",
    "fails": "first answers 500; then answers",
    "breaks": "first sends half of the response's own body; then answers",
    "repeats": "says the same of every patch",
    "loops": "says the same words over and over",
    "obeys": "does what a quoted order in the data says, if there is one",
    "html": "adds a script to what is right",
    "tells": "repeats the headers of the request: first in an error, then in its answer",
}
_ORDER = re.compile(r"\b(?:write|say|answer|output)\b[^\"']*[\"'](.+?)[\"']", re.IGNORECASE)


@dataclass
class Server:
    """A running server, and what it was asked."""

    url: str
    log: Path
    process: "subprocess.Popen[bytes]"
    skip: int = 0  # requests that are not looked at

    def requests(self) -> list[dict[str, Any]]:
        """Every request so far: digest of its messages, number of the try, behaviour, status, tokens."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()[self.skip :]]

    def from_now_on(self) -> "Server":
        """The same server, without the requests until now."""
        return replace(self, skip=self.skip + len(self.requests()))

    def answered(self) -> list[dict[str, Any]]:
        return [each for each in self.requests() if each["status"] == 200]


@contextmanager
def chat_server(
    log: Path,
    behaviours: Sequence[str] = ("good",),
    *,
    formats: Sequence[str] = ("json_schema", "json_object"),
    hold_after: int | None = None,
    key: str | None = None,
    usage: bool = True,
    retry_after: str = "1",
    delay_s: float = 0.0,
) -> Iterator[Server]:
    """Start a server in a process of its own; end it in the end.

    Args:
        log: JSONL file of requests; what is there already stays.
        behaviours: each prompt gets one of them by its digest, a name given twice gets twice as many; a model whose name
            begins with that of a behaviour always behaves so.
        formats: response formats it takes; others are refused with 400.
        hold_after: answers nothing any more once it has answered this many.
        key: what requests must bring; 401 without.
        usage: whether it says how many tokens it used.
        retry_after: header of a 429, seconds or a date.
        delay_s: before every answer.
    """
    options = {
        "log": str(log), "behaviours": list(behaviours), "formats": list(formats), "hold_after": hold_after,
        "key": key, "usage": usage, "retry_after": retry_after, "delay_s": delay_s,
    }  # fmt: skip
    log.touch()
    process = subprocess.Popen([sys.executable, "-P", __file__, json.dumps(options)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        _wait_for(port, process)
        yield Server(f"http://127.0.0.1:{port}/v1", log, process)
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", patience_s: float = 60.0) -> None:
    end = time.monotonic() + patience_s
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"the chat server did not come up on port {port}")


class _Chat:
    """What the server knows and does."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.seen: Counter[str] = Counter()
        self.answers = 0
        self.log = Path(options["log"]).open("a", encoding="utf-8")  # noqa: SIM115 (open as long as the process)

    async def respond(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of the response to a request."""
        messages = body["messages"]
        digest = hashlib.sha256(json.dumps([body["model"], messages], sort_keys=True).encode()).hexdigest()
        prompt = _text_of(messages[1])
        # The first prompt decides, so that a repaired answer comes from the same model.
        kind = next((name for name in BEHAVIOURS if body["model"].startswith(name)), behaviour_of(prompt, self.options["behaviours"]))
        attempt = 1 + sum(message["role"] == "assistant" for message in messages)
        first = not self.seen[digest]
        status, extra, said, held = self._choose(kind, first, attempt, prompt, body, headers)
        if status == 200 and not held and self.options["hold_after"] is not None and self.answers >= self.options["hold_after"]:
            held = True
        self.answers += status == 200 and not held
        prompt_tokens, answer_tokens = len(json.dumps(messages)) // 4, max(1, len(said) // 4)
        entry = {
            "digest": digest, "try": attempt, "kind": kind, "status": 0 if held else status, "keys": sorted(body),
            "input": prompt_tokens, "output": answer_tokens, "format": (body.get("response_format") or {}).get("type"),
            "picture": isinstance(messages[1]["content"], list), "key": headers.get("authorization"), "headers": sorted(headers),
            "at": time.time(),
        }  # fmt: skip
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()
        self.seen[digest] += status != 400
        if held:
            await asyncio.sleep(3600)
        await asyncio.sleep(self.options["delay_s"])
        if status != 200:
            return status, extra, said
        cut = kind == "truncates" and attempt == 1
        response: dict[str, Any] = {
            "id": f"chatcmpl-{digest[:12]}", "object": "chat.completion", "created": int(time.time()), "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "length" if cut else "stop"}
            ],
        }  # fmt: skip
        if self.options["usage"]:
            total = prompt_tokens + answer_tokens
            response["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": answer_tokens, "total_tokens": total}
        text = json.dumps(response)
        return 200, {}, text[: len(text) // 2] if kind == "breaks" and first else text

    def _choose(
        self, kind: str, first: bool, attempt: int, prompt: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, dict[str, str], str, bool]:
        """Status, headers, text, and whether nothing is said at all."""
        key, form = self.options["key"], (body.get("response_format") or {}).get("type")
        if key is not None and headers.get("authorization") != f"Bearer {key}":
            return 401, {}, json.dumps({"error": {"message": f"wrong key {headers.get('authorization')}"}}), False
        if form is not None and form not in self.options["formats"]:
            return 400, {}, json.dumps({"error": {"message": f"response_format.type {form} is not supported"}}), False
        if kind == "busy" and first:
            return 429, {"retry-after": self.options["retry_after"]}, json.dumps({"error": {"message": "slow down"}}), False
        if kind == "fails" and first:
            return 500, {}, "internal error", False
        if kind == "tells" and first:
            return 503, {}, json.dumps(headers), False
        return 200, {}, self._words(kind, attempt, prompt, headers), kind == "stalls" and first

    def _words(self, kind: str, attempt: int, prompt: str, headers: dict[str, str]) -> str:
        facts = json.loads(prompt.partition("<facts>")[2].partition("</facts>")[0])
        caption = _describe(facts, attempt)
        match kind:
            case "liar":
                caption = _lie(facts)
            case "lies" if attempt == 1:
                caption = _lie(facts)
            case "repeats":
                caption = "This image shows a landscape seen from space."
            case "loops":
                caption = f"{caption} {'It shows the same once more. ' * 20}".strip()
            case "obeys" if order := _ORDER.search(json.dumps(facts, ensure_ascii=False).replace("\\", "")):
                caption = order[1]
            case "html":
                caption = f"{caption} <script>alert(1)</script>."
            case "tells":
                caption = f"{caption} {headers.get('authorization')}."
        said = json.dumps({"caption": caption}, ensure_ascii=False)
        return said[: len(said) // 2] if kind == "truncates" and attempt == 1 else said


def behaviour_of(prompt: str, behaviours: Sequence[str]) -> str:
    """What becomes of the first message of a user."""
    return behaviours[int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % len(behaviours)]


def _text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return str(content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text"))


def _describe(facts: dict[str, Any], attempt: int) -> str:
    """The facts in words; not those of the templates."""
    classes = facts.get("classes") or [{"name": "unclassified land", "share": facts.get("share_of_unclassified_land", "100%")}]
    parts = [f"{each['name']} ({each['share']})" if "share" in each else each["name"] for each in classes]
    place = f" in {facts['country']}" if "country" in facts else ""
    season = f"{facts['season']} " if "season" in facts else ""
    month = f"{facts['month']} " if "month" in facts else ""
    listed = parts[0] if len(parts) == 1 else f"{'; '.join(parts[:-1])}; and {parts[-1]}"
    openings = (
        f"In {season}{facts['year']}, what this patch{place} holds is {listed}.",
        f"This picture was taken{place} in {month}{facts['year']}. It shows {listed}.",
        f"What covers this patch{place} in {season}{facts['year']} is {listed}.",
    )
    return openings[(len(listed) + attempt) % len(openings)]


def _lie(facts: dict[str, Any]) -> str:
    season = next(each for each in ("winter", "summer", "spring") if each != facts.get("season"))
    named = facts["classes"][0]["name"] if facts.get("classes") else "unclassified land"
    return f"In {season}, {named} covers 3% of this patch, beside marine waters."


def _application(chat: _Chat) -> Any:
    from fastapi import FastAPI, Request, Response
    from starlette.requests import ClientDisconnect

    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        try:
            body = await request.json()
        except ClientDisconnect:  # the client was killed
            return Response(status_code=400)
        status, headers, text = await chat.respond(body, dict(request.headers))
        return Response(text, status, headers, media_type="application/json")

    return app


def _main() -> None:
    import uvicorn

    chat = _Chat(json.loads(sys.argv[1]))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(_application(chat), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    _main()
