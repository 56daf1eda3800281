"""The reference worker: select a profile, call it, walk the chain when it fails, report every call.

``Conversations.answer`` is the whole of it; worker/tasks.py takes messages from a queue.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from worker.chat import ChatAnswer, Usage
from worker.client import Selected
from worker.outbox import Kind, Outbox, OutboxUnavailable
from worker.providers import Completion, ProviderError, Providers, RateLimited
from worker.settings import Profile, Settings
from worker.traces import span

log = logging.getLogger(__name__)

_NAMESPACE = uuid.UUID("6a1f0d4e-3c0b-5b52-9a7e-5d2f4c8e9b10")
#: The share of the time left that a try may take while there are others to fall back on.
_SHARE = 0.6
#: Less than this is not worth another try.
_LEAST_SECONDS = 0.25
_LONGEST_REST_SECONDS = 60.0
_CHARACTERS_PER_TOKEN = 4

Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Message(BaseModel):
    """One turn of a conversation: ``messages`` as the provider takes them, the newest last. A message that is
    delivered again has the same ``message_id``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tenant: Slug
    persona: Slug
    conversation_id: Line
    message_id: Line
    messages: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    task: Slug = "general"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer is worth; ``accuracy`` 0 to 1, None: not graded."""

    success: bool
    accuracy: float | None = None
    escalated: bool = False
    safety_violation: bool = False


Judge = Callable[[Message, Completion], Judgement]


def not_empty(_: Message, completion: Completion) -> Judgement:
    """The judge when there is no other: any answer is a success."""
    return Judgement(success=bool(completion.answer.text.strip()))


@dataclass(frozen=True, slots=True)
class Try:
    """One call that was made."""

    profile: str
    latency_ms: int
    error_code: str | None
    event_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """``text`` and ``profile`` are None when everything failed: then ``tries`` say how."""

    text: str | None
    profile: Profile | None
    tries: tuple[Try, ...]
    selected: Selected
    completion: Completion | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "text": self.text,
            "profile": self.profile.slug if self.profile else None,
            "reason": self.selected.reason,
            "source": self.selected.source.value,
            "decision_id": self.selected.decision_id,
            "problem": self.selected.problem.code if self.selected.problem else None,
            "tries": [
                {"profile": one.profile, "latency_ms": one.latency_ms, "error_code": one.error_code}
                for one in self.tries
            ],
        }


class Selector(Protocol):
    """What is needed of a SelectionClient."""

    def select(
        self, tenant: str, persona: str, conversation_id: str, task: str, *, request_id: str | None
    ) -> Selected: ...


OnText = Callable[[int, Profile, str], None]


class Conversations:
    """Thread-safe. ``judge`` decides what an answer is worth; ``clock`` is now in UTC."""

    def __init__(
        self,
        settings: Settings,
        selector: Selector,
        providers: Providers,
        outbox: Outbox,
        judge: Judge = not_empty,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._settings = settings
        self._selector = selector
        self._providers = providers
        self._outbox = outbox
        self._judge = judge
        self._clock = clock or (lambda: datetime.now(UTC))
        # Until when (monotonic) a provider that said "too many requests" is left alone, by profile.
        self._resting: dict[str, float] = {}

    def answer(self, message: Message, on_text: OnText | None = None) -> Answer:
        """Within BUDGET_SECONDS and what the last try takes to be given up; never raises for what a provider
        or the service does. With ``on_text`` the answer is streamed as (number of the try from 1, profile,
        piece): a higher number means that what came before is void."""
        with span("conversation"):
            return self._answer(message, on_text)

    def _answer(self, message: Message, on_text: OnText | None) -> Answer:
        deadline = time.monotonic() + self._settings.budget_seconds
        selected = self._selector.select(
            message.tenant,
            message.persona,
            message.conversation_id,
            message.task,
            request_id=request_id_of(message),
        )
        tries: list[Try] = []
        for profile, seconds in self._plan(selected, deadline):
            number = len(tries) + 1
            began = time.monotonic()
            try:
                completion = self._providers.complete(
                    profile, message.messages, seconds, _piece(on_text, number, profile), self._about(message)
                )
            except ProviderError as error:
                elapsed = round((time.monotonic() - began) * 1000)
                self._rest(profile, error)
                tries.append(self._report_failure(message, selected, number, profile, error, elapsed))
                continue
            tries.append(self._report_answer(message, selected, number, profile, completion))
            return Answer(completion.answer.text, profile, tuple(tries), selected, completion)
        log.error("no profile answered: %s", ", ".join(f"{one.profile} {one.error_code}" for one in tries))
        return Answer(None, None, tuple(tries), selected)

    def _plan(self, selected: Selected, deadline: float) -> Iterator[tuple[Profile, float]]:
        """Profiles to try and the seconds that each may take; at least one, and none when time is up."""
        chain = self._awake(selected.chain)
        for place, profile in enumerate(chain):
            left = deadline - time.monotonic()
            if place and left < _LEAST_SECONDS:
                return
            is_last = place == len(chain) - 1
            seconds = left if is_last else left * _SHARE
            yield profile, min(max(seconds, _LEAST_SECONDS), self._settings.provider_timeout_seconds)

    def _awake(self, chain: tuple[Profile, ...]) -> tuple[Profile, ...]:
        now = time.monotonic()
        # If all rest, one of them is still better than no answer.
        return tuple(one for one in chain if self._resting.get(one.slug, 0) <= now) or chain

    def _rest(self, profile: Profile, error: ProviderError) -> None:
        if isinstance(error, RateLimited) and error.retry_after:
            rest = min(error.retry_after, _LONGEST_REST_SECONDS)
            self._resting[profile.slug] = time.monotonic() + rest

    def _about(self, message: Message) -> Mapping[str, str] | None:
        if not self._settings.provider_metadata:
            return None
        return {"tenant": message.tenant, "persona": message.persona, "task": message.task}

    def _report_answer(
        self, message: Message, selected: Selected, number: int, profile: Profile, completion: Completion
    ) -> Try:
        try:
            judged = self._judge(message, completion)
        except Exception:
            # The call was made and paid for, and is reported whatever the judge does.
            log.exception("the judge failed; the answer counts by whether there is one")
            judged = not_empty(message, completion)
        outcome = {
            "success": judged.success,
            "latency_ms": completion.latency_ms,
            "escalated": judged.escalated,
            "safety_violation": judged.safety_violation,
            **({} if judged.accuracy is None else {"accuracy": judged.accuracy}),
            **_usage_of(message, completion.answer),
        }
        return self._report(message, selected, number, profile, outcome)

    def _report_failure(
        self,
        message: Message,
        selected: Selected,
        number: int,
        profile: Profile,
        error: ProviderError,
        elapsed_ms: int,
    ) -> Try:
        log.warning("%s failed: %s: %s", profile.slug, error.code, error)
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        if error.answer is not None:
            usage = _usage_of(message, error.answer)
        outcome = {"success": False, "error_code": error.code, "latency_ms": elapsed_ms, **usage}
        return self._report(message, selected, number, profile, outcome)

    def _report(
        self, message: Message, selected: Selected, number: int, profile: Profile, outcome: dict[str, Any]
    ) -> Try:
        event_id = event_id_of(message, number, profile.slug)
        event = {
            "event_id": event_id,
            "occurred_at": self._clock().isoformat(),
            "tenant": message.tenant,
            "persona": message.persona,
            "profile": profile.slug,
            "conversation_id": message.conversation_id,
            "task": message.task,
            **({"decision_id": selected.decision_id} if selected.decision_id else {}),
            **outcome,
            "schema_version": 1,
        }
        try:
            self._outbox.put(Kind.COMPLETION, event, key=event_id)
        except OutboxUnavailable as error:
            # The answer matters more than its report; this is the one way to lose one, and it is told.
            log.error("a completion event is lost: %s", error)
        return Try(profile.slug, outcome["latency_ms"], outcome.get("error_code"), event_id)


def request_id_of(message: Message) -> str:
    """A message that is delivered again gets the decision that it got."""
    content = f"{message.tenant}/{message.conversation_id}/{message.message_id}"
    return str(uuid.uuid5(_NAMESPACE, content))


def event_id_of(message: Message, number: int, slug: str) -> str:
    """From the content: a message that is delivered again reports under the same ids."""
    content = f"{message.tenant}/{message.conversation_id}/{message.message_id}/{number}/{slug}"
    return str(uuid.uuid5(_NAMESPACE, content))


def _piece(on_text: OnText | None, number: int, profile: Profile) -> Callable[[str], None] | None:
    return (lambda text: on_text(number, profile, text)) if on_text else None


def _usage_of(message: Message, answer: ChatAnswer) -> dict[str, Any]:
    """The event's tokens, cost and served model. The cost only if the provider billed it: else the service
    derives it from its prices."""
    usage = answer.usage or _estimated(message, answer)
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        **({} if usage.cached_tokens is None else {"cached_tokens": usage.cached_tokens}),
        **({} if usage.cost_usd is None else {"cost_usd": format(usage.cost_usd, "f")}),
        **({} if answer.served_model is None else {"served_model": answer.served_model}),
    }


def _estimated(message: Message, answer: ChatAnswer) -> Usage:
    # No tokens would read as no cost, which is further from the truth than four characters a token.
    prompt = sum(len(str(one.get("content") or "")) for one in message.messages)
    return Usage(
        prompt_tokens=-(-prompt // _CHARACTERS_PER_TOKEN),
        completion_tokens=-(-len(answer.text) // _CHARACTERS_PER_TOKEN),
    )
