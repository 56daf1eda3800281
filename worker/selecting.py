"""What sync and async clients share: reading the service's answer, deciding here instead, and the default.

Nothing in here waits or does I/O.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pybreaker import CircuitBreaker, CircuitBreakerError

from routing.engine import Decision, SelectionProblem, SelectionRequest, decide
from worker.policy_cache import Policy, PolicyCache
from worker.settings import Profile, Settings
from worker.wire import NotAnswered, Problem, Reply, problem_of

log = logging.getLogger(__name__)

CLIENT_DEFAULT = "client_default"
#: Conversations whose last profile is remembered, for decisions made here to be sticky.
_CONVERSATIONS = 100_000
#: Local decisions that wait for the flusher; more than this would be a disk that has not taken any for long.
_WAITING = 100_000
#: Problems that are about this request, so that deciding it here would find the same.
_ABOUT_THE_REQUEST = (400, 404, 409)


class Source(StrEnum):
    """Who chose the profile."""

    REMOTE = "remote"
    LOCAL = "local"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of ``select``."""

    tenant: str
    persona: str
    conversation_id: str
    task: str
    exclude: tuple[str, ...]
    request_id: str | None

    def body(self) -> dict[str, Any]:
        """As the service takes it."""
        body: dict[str, Any] = {
            "tenant": self.tenant,
            "persona": self.persona,
            "conversation_id": self.conversation_id,
            "task": self.task,
        }
        if self.exclude:
            body["exclude"] = list(self.exclude)
        if self.request_id is not None:
            body["request_id"] = self.request_id
        return body


@dataclass(frozen=True, slots=True)
class Selected:
    """A profile to call, and what to call when it fails.

    ``reason`` is the engine's, or ``client_default``; ``decision_id`` goes into the completion event, and is
    None when nobody decided; ``problem`` says what went wrong, also when a profile was found nevertheless.
    """

    profile: Profile
    fallback: tuple[Profile, ...]
    decision_id: str | None
    reason: str
    source: Source
    explanation: str
    problem: Problem | None = None

    @property
    def chain(self) -> tuple[Profile, ...]:
        """Everything to call, in order."""
        return (self.profile, *self.fallback)


class Conversations:
    """The last profile of each conversation, the least recently used forgotten first."""

    def __init__(self, most: int = _CONVERSATIONS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._last: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def last(self, ask: Ask) -> str | None:
        return self._last.get((ask.tenant, ask.persona, ask.conversation_id))

    def remember(self, ask: Ask, slug: str) -> None:
        key = (ask.tenant, ask.persona, ask.conversation_id)
        with self._lock:
            self._last[key] = slug
            self._last.move_to_end(key)
            if len(self._last) > self._most:
                self._last.popitem(last=False)


def _now() -> datetime:
    return datetime.now(UTC)


class Selecting:
    """Thread-safe. ``decided`` holds the decisions made here until the flusher takes them."""

    def __init__(
        self, settings: Settings, policy: PolicyCache, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.breaker = CircuitBreaker(
            fail_max=settings.breaker_failures, reset_timeout=settings.breaker_seconds, name="selections"
        )
        self.decided: deque[Decision] = deque(maxlen=_WAITING)
        self._clock = clock or _now
        self._conversations = Conversations()
        self._complained = ""

    def answered(self, ask: Ask, reply: Reply) -> Selected:
        """What the service's answer means. Raises NotAnswered for what is none."""
        if reply.status == 200:
            return self._from_decision(ask, reply.json())
        problem = problem_of(reply)
        self._complain(f"{problem.status} {problem.code}", problem.detail)
        if problem.status in _ABOUT_THE_REQUEST:
            return self.default(ask, problem)
        # It does not let us ask (a key that ended, say). Conversations go on meanwhile.
        return self.here(ask, problem)

    def here(self, ask: Ask, problem: Problem | None = None) -> Selected:
        """Decide with the last-known-good bundle, else give the default."""
        policy = self.policy.current
        if policy is None:
            return self.default(
                ask, problem or Problem(0, "no_policy", "No policy bundle was ever received.")
            )
        request = SelectionRequest(
            tenant=ask.tenant,
            persona=ask.persona,
            conversation_id=ask.conversation_id,
            at=self._clock(),
            task=ask.task,
            exclude=ask.exclude,
            last_profile=self._conversations.last(ask),
            request_id=ask.request_id,
        )
        try:
            decision = decide(policy.bundle, request)
        except SelectionProblem as found:
            return self.default(ask, problem or Problem(found.status, found.code, found.detail))
        self.decided.append(decision)
        slug = decision.profile.slug
        self._conversations.remember(ask, slug)
        return Selected(
            profile=policy.profiles[slug],
            fallback=self._fallback(ask, slug, decision.fallback, policy),
            decision_id=decision.decision_id,
            reason=decision.reason.value,
            source=Source.LOCAL,
            explanation=decision.explanation,
            problem=problem,
        )

    def instead(self, ask: Ask, error: Exception) -> Selected:
        """What is given when asking the service ended in ``error``. Never raises."""
        try:
            if isinstance(error, (NotAnswered, CircuitBreakerError, TimeoutError)):
                why = str(error) or "no answer in time"
                self._complain("not answered", why)
                return self.here(ask, Problem(0, "not_answered", why))
            raise error
        except Exception:
            # A defect, here or in what the caller gave. It is told in full, and the conversation goes on.
            log.exception("selecting failed; the default is given")
            return self.default(
                ask, Problem(0, "client_error", "Selecting failed; the worker's log says how.")
            )

    def default(self, ask: Ask, problem: Problem) -> Selected:
        """The first configured default that the request does not exclude; when it excludes all, the first."""
        usable = [profile for profile in self.settings.defaults if profile.slug not in ask.exclude]
        first, *others = usable or self.settings.defaults
        return Selected(
            profile=first,
            fallback=tuple(others),
            decision_id=None,
            reason=CLIENT_DEFAULT,
            source=Source.DEFAULT,
            explanation=f"Nobody could decide ({problem.code}), so {first.slug}, this worker's own default.",
            problem=problem,
        )

    def _from_decision(self, ask: Ask, data: Any) -> Selected:
        try:
            given = data["profile"]
            profile = Profile(**{name: given[name] for name in ("slug", "provider", "model", "base_url")})
            selected = Selected(
                profile=profile,
                fallback=self._fallback(ask, profile.slug, data["fallback"], self.policy.current),
                decision_id=str(data["decision_id"]),
                reason=str(data["reason"]),
                source=Source.REMOTE,
                explanation=str(data["explanation"]),
            )
        except (KeyError, TypeError, ValueError):
            raise NotAnswered("the answer is no decision") from None
        if self._complained:
            self._complained = ""
            log.warning("the selection service decides again")
        self._conversations.remember(ask, profile.slug)
        return selected

    def _fallback(
        self, ask: Ask, chosen: str, slugs: Iterable[str], policy: Policy | None
    ) -> tuple[Profile, ...]:
        # A decision names its fallback by slug only: the bundle knows them, and who it does not is skipped.
        known = policy.profiles if policy else {}
        chain = [known[slug] for slug in slugs if slug in known]
        taken = {chosen, *ask.exclude, *(profile.slug for profile in chain)}
        chain += [profile for profile in self.settings.defaults if profile.slug not in taken]
        return tuple(chain)

    def _complain(self, kind: str, why: str) -> None:
        # Once per kind: an outage is one line, not one per message.
        if kind != self._complained:
            self._complained = kind
            log.warning("the selection service gave no decision (%s): %s", kind, why)
