"""Requests to a server that speaks the OpenAI chat protocol, sent again until it answers or is given up.

The key is read from the environment when a client is made, goes into the header and nowhere else: whatever a server
sends back is freed of it before anybody sees it.
"""

import email.utils
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

from rsdata.captions.llm.budget import Budget
from rsdata.captions.llm.prompting import RESPONSE_FORMATS, token_bound
from rsdata.captions.llm.store import Tokens
from rsdata.errors import CaptionError
from rsdata.foreign import load_json
from rsdata.recipe import LanguageModel

LONGEST_WAIT_S = 600.0  # a server that asks for more is given up
LARGEST_RESPONSE = 1_000_000  # characters
_OF_FORMATS = ("response_format", "json_schema", "json_object", "schema", "grammar", "guided")


class NoAnswer(CaptionError):
    """A server did not answer a request, whatever was tried."""


class ServerRefuses(CaptionError):
    """A server will not answer any request of this kind: wrong key, no such model, no such address."""


class Trouble(Exception):
    """One attempt that failed and may be made again; ``charged`` if the server may have worked on it."""

    def __init__(self, message: str, charged: bool = False) -> None:
        super().__init__(message)
        self.charged = charged


class _FormatRefused(Exception):
    """The server does not know the response format, and there is another."""


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    raw: str  # the response's body, JSON
    content: str  # of the message
    cut_off: bool  # the answer is longer than was asked for
    used: Tokens | None  # as the server counts; None if it does not say


def read_reply(raw: str) -> Reply:
    """Read the body of a response.

    Raises: ValueError if it is no chat completion.
    """
    if len(raw) > LARGEST_RESPONSE:
        raise ValueError(f"{len(raw):,} characters long")
    body = load_json(raw)
    try:
        choice, usage = body["choices"][0], body.get("usage") or {}
        content = choice["message"].get("content") or ""
        counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        cut_off = choice.get("finish_reason") == "length"
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("not a chat completion") from error
    if not isinstance(content, str):
        raise ValueError("no text")
    known = [count for count in counts if type(count) is int and count >= 0]
    return Reply(raw, content, cut_off, Tokens(*known) if len(known) == 2 else None)


def llm_packages() -> tuple[ModuleType, ModuleType]:
    """The client's and the retry package.

    Raises: CaptionError if they are not installed.
    """
    try:
        import openai
        import stamina
    except ImportError as error:
        raise CaptionError("language models need more packages; run `pip install 'rsdata[llm]'`", missing=str(error.name)) from error
    logging.getLogger("stamina").addHandler(logging.NullHandler())  # it tells of each retry where nobody has asked for a log
    return openai, stamina


def key_of(options: LanguageModel) -> str:
    """The key as the environment has it; empty if the recipe names no variable.

    Raises: CaptionError if the variable is not set.
    """
    if options.api_key_env is None:
        return ""
    key = os.environ.get(options.api_key_env, "").strip()
    if not key:
        raise CaptionError(
            f"the environment variable {options.api_key_env} is not set; put the key for {options.base_url} into it",
            variable=options.api_key_env,
        )
    return key


class ChatClient:
    """One server, one model, one budget; any thread may ask."""

    def __init__(self, options: LanguageModel, budget: Budget) -> None:
        """Raises: CaptionError if the packages are missing, or the variable that should hold the key."""
        self.options = options
        self.budget = budget
        self._openai, self._stamina = llm_packages()
        self._key = key_of(options)
        self._client = self._openai.OpenAI(api_key=self._key or "none", base_url=options.base_url, timeout=options.timeout_s, max_retries=0)
        # The package takes more from the environment, meant for its maker's own server and no business of this one.
        self._client.organization = self._client.project = self._client.admin_api_key = None
        self._formats = [options.response_format] if options.response_format != "auto" else list(RESPONSE_FORMATS)
        self._answered = False
        self._not_before = 0.0
        self._turn = threading.Lock()

    def close(self) -> None:
        self._client.close()

    def ask(
        self,
        body_of: Callable[[str], dict[str, Any]],
        begin: Callable[[Tokens], int],
        end: Callable[[int, Tokens, Tokens, str, str | None], None],
    ) -> Reply:
        """Send a request until it is answered.

        Args:
            body_of: the body of the request, given the response format that the server takes.
            begin: told before every call what it may take at most; returns a number for it.
            end: told that number, that most, what was taken, how it ended, and the raw response if there is one.

        Raises: BudgetSpent before a call that might exceed the budget; NoAnswer if no attempt brings an answer;
            ServerRefuses if more attempts are of no use.
        """
        tried = self._stamina.retry_context(
            on=Trouble, attempts=self.options.retries + 1, timeout=None, wait_initial=0.5, wait_max=60.0, wait_jitter=0.5
        )
        try:
            for attempt in tried:
                with attempt:
                    while True:
                        response_format = self._formats[0]
                        try:
                            return self._call(body_of(response_format), begin, end)
                        except _FormatRefused:
                            with self._turn:
                                if self._formats[0] == response_format:
                                    self._formats.pop(0)
        except Trouble as error:
            raise NoAnswer(
                f"{error}, {self.options.retries + 1} times in a row; what was answered before is kept, "
                "see that the server is up and run the same command again",
                base_url=self.options.base_url,
            ) from None
        raise RuntimeError("no attempt was made")

    def _call(
        self,
        body: dict[str, Any],
        begin: Callable[[Tokens], int],
        end: Callable[[int, Tokens, Tokens, str, str | None], None],
    ) -> Reply:
        """One call, with room set aside for it."""
        while (wait := self._not_before - time.monotonic()) > 0:
            time.sleep(wait)
        most = Tokens(token_bound(body, self.budget.limits.image_tokens), body[self.options.max_tokens_name])
        self.budget.set_aside(most)
        used, state, raw = Tokens(), "refused", None
        try:
            call = begin(most)
            try:
                used, state = most, "unanswered"  # unless it is known to be less
                reply = self._post(body)
                used, state, raw = reply.used or most, "answered", reply.raw
            except (Trouble, ServerRefuses, _FormatRefused) as error:
                if not (isinstance(error, Trouble) and error.charged):
                    used, state = Tokens(), "refused"
                raise
            finally:
                end(call, most, used, state, raw)
        finally:
            self.budget.settle(most, used)
        self._answered = True
        return reply

    def _post(self, body: dict[str, Any]) -> Reply:
        openai, where = self._openai, self.options.base_url
        try:
            raw = self._clean(self._client.chat.completions.with_raw_response.create(**body).text)
        except openai.APITimeoutError:
            raise Trouble(f"{where} was silent for {self.options.timeout_s:g} s", charged=True) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise Trouble(self._clean(f"{where} cannot be reached: {cause}"), charged=type(cause).__name__ != "ConnectError") from None
        except openai.APIStatusError as error:
            said = self._clean(" ".join(error.response.text.split()))[:300]
            status, wait = error.status_code, _seconds(error.response.headers.get("retry-after"))
        else:
            try:
                return read_reply(raw)
            except ValueError as error:
                raise Trouble(f"{where} sent what is no chat completion: {error}", charged=True) from None
        raise self._judged(status, said, wait)

    def _judged(self, status: int, said: str, wait_s: float | None) -> Exception:
        """What a response that is an error comes to."""
        where, options = self.options.base_url, self.options
        of_format = any(word in said.lower() for word in _OF_FORMATS) or (status in (400, 422) and not self._answered)
        if len(self._formats) > 1 and status in (400, 404, 415, 422, 500, 501) and of_format:
            return _FormatRefused()
        if status in (408, 409, 425, 429) or status >= 500:
            if wait_s is not None and wait_s > LONGEST_WAIT_S:
                return ServerRefuses(f"{where} asks to come back in {wait_s:,.0f} s; run the same command again then", status=status)
            if wait_s is not None:
                self._not_before = max(self._not_before, time.monotonic() + wait_s)
            return Trouble(f"{where} answered {status}: {said}")
        if status in (401, 403):
            named = options.api_key_env
            remedy = f"see that {named} holds the right key" if named else "name the variable that holds the key in `api_key_env`"
        elif status == 404:
            remedy = f"see that it serves {options.model!r} and that the address ends as its makers say, often in /v1"
        else:
            remedy = "see which options of `captions.llm` it does not know"
        return ServerRefuses(f"{where} refuses the request with {status}: {said}; {remedy}", status=status)

    def _clean(self, text: str) -> str:
        """A text of the server without the key, should it repeat it."""
        return text.replace(self._key, "[key]") if self._key else text


def _seconds(retry_after: str | None) -> float | None:
    """How long a Retry-After header asks to wait: seconds, or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        then = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, ((then if then.tzinfo else then.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
