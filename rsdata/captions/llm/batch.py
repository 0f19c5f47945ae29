"""Batches: requests as JSONL in the form of the OpenAI batch API, and the results in the form it returns them.

The id of a request is the digest of its question, so results can come back in any order, from anywhere. Servers without a
batch API are served by the runner here, which sends the lines of such a file one by one and may be stopped at any point.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rsdata.captions.llm.budget import Budget
from rsdata.captions.llm.client import ChatClient, NoAnswer, read_reply
from rsdata.captions.llm.engine import Pending
from rsdata.captions.llm.prompting import RESPONSE_FORMATS, request_body
from rsdata.captions.llm.store import ResponseStore, Tokens
from rsdata.errors import CaptionError
from rsdata.foreign import load_json
from rsdata.recipe import LanguageModel

URL = "/v1/chat/completions"
_AT_ONCE = 1000  # questions noted in one go


def batch_lines(pending: Iterable[Pending], options: LanguageModel, store: ResponseStore) -> Iterator[str]:
    """One line of JSON for each open question; the store remembers which were asked."""
    response_format = "json_schema" if options.response_format == "auto" else options.response_format
    questions = iter(pending)
    while portion := list(islice(questions, _AT_ONCE)):
        store.note_batched([each.question for each in portion])
        for each in portion:
            body = request_body(each.messages, options, response_format)
            yield json.dumps({"custom_id": each.question.digest, "method": "POST", "url": URL, "body": body}, ensure_ascii=False) + "\n"


def read_batch(path: Path, store: ResponseStore) -> dict[str, int]:
    """Take the results of a batch into the store.

    Returns: how many answers are new, were known before, and how many requests the server failed.
    Raises: CaptionError if a line is no result, or answers what no batch of this store asked; those before it are kept.
    """
    counts = {"new": 0, "known before": 0, "failed": 0}
    for number, line in enumerate(_lines(path), start=1):
        said = _result(line, path, number)
        question = store.batched(said["custom_id"])
        if question is None:
            raise CaptionError(
                f"{path} line {number} answers {said['custom_id'][:80]!r}, which no batch written for this dataset asked; "
                "read the results of its own batch",
                path=str(path),
                line=number,
            )
        raw = _answer_in(said)
        if raw is None:
            counts["failed"] += 1
        elif store.answer(question) is not None:
            counts["known before"] += 1
        else:
            used = read_reply(raw).used or Tokens()
            store.end_call(store.begin_call(question, used), used, used, "answered", question, raw)
            counts["new"] += 1
    return counts


def run_batch(source: Path, target: Path, options: LanguageModel, advance: Callable[[int], None] = lambda n: None) -> dict[str, int]:
    """Send the requests of a batch file to a server, and write its results as they come; what the target holds is not sent again.

    The budget covers what the target says was used, and this run.

    Args:
        options: server, key, limits; the model is as each line says.

    Returns: how many were answered now, before, and failed; the target holds a line with an error for those.
    Raises: CaptionError if a line is no request; BudgetSpent or ServerRefuses, once what is under way has been written.
    """
    counts = {"answered": 0, "answered before": 0, "failed": 0}
    done, spent = _results_so_far(target)
    for _ in _requests(source):  # sees every line before the first is sent
        pass
    client = ChatClient(options, Budget(options.budget, spent))
    under_way: set[Future[bool]] = set()
    turn = threading.Lock()
    try:
        with target.open("ab") as stream, ThreadPoolExecutor(options.concurrency) as workers:

            def gather(at_most: int) -> None:
                while len(under_way) > at_most:
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        under_way.discard(future)
                        counts["answered" if future.result() else "failed"] += 1
                        advance(1)

            try:
                for name, body in _requests(source):
                    if name in done:
                        counts["answered before"] += 1
                        continue
                    done.add(name)
                    under_way.add(workers.submit(_run_one, client, name, body, stream, turn))
                    gather(4 * options.concurrency)
                gather(0)
            finally:
                workers.shutdown(cancel_futures=True)
    finally:
        client.close()
    return counts


def _requests(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id and body of every request in a batch file."""
    for number, line in enumerate(_lines(path), start=1):
        request = _parsed(line, path, number)
        name, body = request.get("custom_id"), request.get("body")
        if not (isinstance(name, str) and isinstance(body, dict) and isinstance(body.get("messages"), list)):
            raise CaptionError(f"{path} line {number} is no request of a batch", path=str(path), line=number)
        yield name, body


def _run_one(client: ChatClient, name: str, body: dict[str, Any], stream: IO[bytes], turn: threading.Lock) -> bool:
    asked = {key: value for key, value in body.items() if key != "response_format"}
    most = int(body.get(client.options.max_tokens_name) or client.options.max_tokens)

    def body_of(response_format: str) -> dict[str, Any]:
        stated = RESPONSE_FORMATS[response_format]
        return asked | {client.options.max_tokens_name: most} | ({"response_format": stated} if stated is not None else {})

    try:
        reply = client.ask(body_of, lambda most: 0, lambda *said: None)
    except NoAnswer as error:
        result: dict[str, Any] = {"custom_id": name, "response": None, "error": {"code": "no_answer", "message": str(error)}}
    else:
        result = {"custom_id": name, "response": {"status_code": 200, "body": json.loads(reply.raw)}, "error": None}
    with turn:
        stream.write(json.dumps(result, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    return result["error"] is None


def _results_so_far(target: Path) -> tuple[set[str], Tokens]:
    """Requests that are answered already, and what they took; the end of a line that was cut off is removed."""
    if not target.exists():
        return set(), Tokens()
    content = target.read_bytes()
    if not content.endswith(b"\n"):
        with target.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)
    done, spent = set(), Tokens()
    for number, line in enumerate(_lines(target), start=1):
        said = _result(line, target, number)
        if (raw := _answer_in(said)) is not None:
            done.add(said["custom_id"])
            spent += read_reply(raw).used or Tokens()
    return done, spent


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as stream:
            yield from (line for line in stream if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise CaptionError(f"{path} cannot be read ({error}); name a JSONL file of a batch", path=str(path)) from error


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        said = load_json(line)
    except ValueError as error:
        raise CaptionError(f"{path} line {number} is not JSON; name a JSONL file of a batch", path=str(path), line=number) from error
    return said if isinstance(said, dict) else {}


def _result(line: str, path: Path, number: int) -> dict[str, Any]:
    said = _parsed(line, path, number)
    if not isinstance(said.get("custom_id"), str) or "response" not in said:
        raise CaptionError(f"{path} line {number} is no result of a batch", path=str(path), line=number)
    return said


def _answer_in(result: dict[str, Any]) -> str | None:
    """The raw response in a line of results, or None if the request failed."""
    response = result["response"]
    if not isinstance(response, dict) or response.get("status_code") != 200:
        return None
    raw = json.dumps(response.get("body"), ensure_ascii=False)
    try:
        read_reply(raw)
    except ValueError:
        return None
    return raw
