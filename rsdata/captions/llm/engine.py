"""Captions by a language model: asked, checked, asked again with what was wrong, and the template's after all.

Everything follows from the answers in the store: with the same ones, the same captions come out, in the same order,
whatever the number of requests under way. The model starts from facts and from a text that is already correct.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from rsdata.captions.diversity import diversity_of
from rsdata.captions.facts import facts_digest
from rsdata.captions.llm.budget import Budget, BudgetSpent
from rsdata.captions.llm.client import ChatClient, NoAnswer, Reply, read_reply
from rsdata.captions.llm.findings import Check, Draft, Finding, form_findings
from rsdata.captions.llm.prompting import Messages, first_messages, messages_digest, parse_answer, repair_messages, request_body
from rsdata.captions.llm.store import Question, ResponseStore
from rsdata.errors import CaptionError
from rsdata.recipe import LanguageModel
from rsdata.records import CaptionOutcome, ModelCaption, TextReport

Picture = Callable[[str], bytes]  # PNG of a patch in natural colours, by its id


@dataclass(frozen=True)
class Written:
    """A caption that its facts support."""

    patch_id: str
    text: str
    outcome: CaptionOutcome
    tries: int
    findings: tuple[tuple[Finding, ...], ...]  # of each answer that was sent back
    prompt_digest: str

    def record(self) -> ModelCaption:
        flat = [finding for answer in self.findings for finding in answer]
        return ModelCaption(
            patch_id=self.patch_id,
            outcome=self.outcome,
            tries=self.tries,
            kinds=[finding.kind for finding in flat],
            findings=[finding.sentence for finding in flat],
            prompt_digest=self.prompt_digest,
        )


@dataclass(frozen=True)
class Pending:
    """A question without an answer yet."""

    question: Question
    messages: Messages


class ModelCaptioner:
    """One model behind one server, with the answers it gave."""

    name = "llm"

    def __init__(
        self, options: LanguageModel, store: ResponseStore, check: Check, picture: Picture | None = None, ask: bool = True
    ) -> None:
        """Nothing is sent before a caption is written.

        Args:
            check: what a text says that its facts do not hold, or that it may not tell.
            picture: shows a patch, if the options ask for it.
            ask: whether the server may be asked; without, everything must be in the store.

        Raises: CaptionError if the model is to see pictures and there are none, or if the key or a package is missing.
        """
        if options.image and picture is None:
            raise CaptionError("`captions.llm.image` asks for pictures, but there are none here; leave it out")
        self.options = options
        self.store = store
        self.budget = Budget(options.budget, store.spent)
        self._check = check
        self._picture = picture if options.image else None
        self._client = ChatClient(options, self.budget) if ask else None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def write(self, drafts: Iterable[Draft], advance: Callable[[int], None] = lambda n: None) -> Iterator[Written]:
        """Write a caption for every draft, in their order; at most ``concurrency`` requests are under way.

        Raises: BudgetSpent or NoAnswer where the options say to stop at one, once what is under way has been answered and
            kept; ServerRefuses; CaptionError at a draft that is not correct itself.
        """
        ahead = 4 * self.options.concurrency
        waiting: deque[Future[Written]] = deque()
        workers = ThreadPoolExecutor(self.options.concurrency, thread_name_prefix="caption")
        try:
            for draft in drafts:
                waiting.append(workers.submit(self._write, draft))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
                    advance(1)
            while waiting:
                yield waiting.popleft().result()
                advance(1)
        finally:
            workers.shutdown(cancel_futures=True)

    def pending(self, drafts: Iterable[Draft]) -> Iterator[Pending]:
        """The next question for each draft whose caption the stored answers do not settle."""
        for draft in drafts:
            try:
                self._follow(draft, lambda question, messages: self._stored(question))
            except _Unanswered as unanswered:
                yield unanswered.pending

    def _write(self, draft: Draft) -> Written:
        try:
            return self._follow(draft, self._answer)
        except _Unanswered as unanswered:
            raise CaptionError(
                f"the model's answer for {draft.facts.patch_id} is not there yet (try {unanswered.pending.question.attempt}); "
                "read the results of a batch, or let the server be asked",
                patch_id=draft.facts.patch_id,
            ) from None

    def _follow(self, draft: Draft, answer: Callable[[Question, Messages], Reply | None]) -> Written:
        """Go from try to try until an answer is supported."""
        facts, options = draft.facts, self.options
        picture = self._picture(facts.patch_id) if self._picture else None
        messages = first_messages(draft, options.task, picture)
        digests = facts_digest(facts), messages_digest(messages)
        sent_back: list[tuple[Finding, ...]] = []
        for attempt in range(1, options.tries + 1):
            question = Question.of(*digests, options.model, options.parameters(), attempt)
            try:
                reply = answer(question, messages)
            except (BudgetSpent, NoAnswer) as error:
                if options.without_answer == "stop":
                    raise
                sent_back.append((Finding("budget" if isinstance(error, BudgetSpent) else "no_answer", str(error)),))
                break
            if reply is None:
                raise _Unanswered(Pending(question, messages))
            text, findings = self._judge(reply, draft)
            if text is not None and not findings:
                return Written(facts.patch_id, text, "repaired" if sent_back else "first", attempt, tuple(sent_back), digests[1])
            sent_back.append(tuple(findings))
            messages = [*messages, *repair_messages(reply.content, findings)]
        if wrong := self._check(draft.text, draft):
            raise CaptionError(
                f"the text to fall back on for {facts.patch_id} {'; '.join(each.sentence for each in wrong)}; it is not used",
                patch_id=facts.patch_id,
                text=draft.text,
            )
        return Written(facts.patch_id, draft.text, "template", len(sent_back), tuple(sent_back), digests[1])

    def _judge(self, reply: Reply, draft: Draft) -> tuple[str | None, list[Finding]]:
        text, findings = parse_answer(reply.content)
        if text is None:
            return None, [Finding("cut_off", "is longer than allowed and was cut off"), *findings] if reply.cut_off else findings
        return text, [*form_findings(text, draft), *self._check(text, draft)]

    def _stored(self, question: Question) -> Reply | None:
        raw = self.store.answer(question)
        return None if raw is None else read_reply(raw)

    def _answer(self, question: Question, messages: Messages) -> Reply | None:
        """The answer in the store, or else the server's, which is stored first."""
        stored = self._stored(question)
        if stored is not None or self._client is None:
            return stored
        return self._client.ask(
            lambda response_format: request_body(messages, self.options, response_format),
            lambda most: self.store.begin_call(question, most),
            lambda call, most, used, state, raw: self.store.end_call(call, most, used, state, question, raw),
        )


class _Unanswered(Exception):
    """A question that the store has no answer to."""

    def __init__(self, pending: Pending) -> None:
        super().__init__(pending.question.digest)
        self.pending = pending


@dataclass
class Tally:
    """Counts of captions as they are written, for the report."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)

    def add(self, written: Written) -> None:
        self.outcomes[written.outcome] += 1
        self.kinds.update(kind for answer in written.findings for kind in {finding.kind for finding in answer})
        self.texts.append(written.text)

    def report(self, captioner: ModelCaptioner) -> TextReport:
        spent = captioner.store.spent
        return TextReport(
            engine=captioner.name,
            model=captioner.options.model,
            task=captioner.options.task,
            captions=len(self.texts),
            accepted_at_first=self.outcomes["first"],
            accepted_after_repair=self.outcomes["repaired"],
            fallen_back=self.outcomes["template"],
            findings=dict(sorted(self.kinds.items())),
            input_tokens=spent.input,
            output_tokens=spent.output,
            cost=captioner.budget.cost(spent),
            diversity=diversity_of(self.texts),
        )
