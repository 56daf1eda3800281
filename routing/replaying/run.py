"""One replay: conversations in order, each decided by the engine from what was seen before it.

A conversation's own outcomes are shown only after its choice, so no outcome can reach an earlier choice, nor its own.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from routing.engine import (
    Bundle,
    BundlePersona,
    BundleProfile,
    BundleSnapshot,
    BundleTenant,
    FlagState,
    ScopeScores,
    SelectionRequest,
    outcome,
)
from routing.replaying.outcomes import Conversation, Outcome, when
from routing.replaying.seen import Seen
from routing.scoring import ScoringRules, score_scope

#: The replay has one scope, and a clock that stands: recorded days say nothing of freshness.
TENANT = PERSONA = "replay"
AT = datetime(2000, 1, 1, tzinfo=UTC)


class Feedback(StrEnum):
    """Which outcomes of a past conversation the policy has seen: all that were ``recorded``, as if every model were
    in use elsewhere, or only of what it ``chosen`` itself."""

    RECORDED = "recorded"
    CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides. ``exploration`` is a share, 0 to 1; scores are made anew every ``rescore_every`` conversations,
    as a snapshot is every minute. ``within`` (0 to 1): the SLA is one that the incumbent meets as the training half
    shows it, with success at most so much below its own (``study`` sees to it)."""

    rules: ScoringRules
    incumbent: str
    exploration: float = 0.0
    feedback: Feedback = Feedback.RECORDED
    rescore_every: int = 1
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a conversation was given, and why; ``outcome`` None: this (prompt, model) was never recorded."""

    conversation: Conversation
    model: str
    reason: str
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Half:
    """Conversations of the replayed scope, and those that other personas had meanwhile; both in order of time."""

    here: Sequence[Conversation]
    elsewhere: Sequence[Conversation] = ()


def seen_of(models: Sequence[str], half: Half) -> Seen:
    """What a policy knows that saw all of a half."""
    seen = Seen(models)
    for past in half.here:
        seen.show(past.outcomes.values())
    for past in half.elsewhere:
        seen.show_elsewhere(past.outcomes.values())
    return seen


def replay(
    policy: Policy, models: Sequence[str], before: Half, conversations: Half, salt: str
) -> Iterator[Choice]:
    """Decide the scope's conversations in the order given, after all recorded outcomes of ``before`` were seen; those
    elsewhere are seen once their time has come. ``salt`` draws which conversations explore. ``models`` must hold the
    incumbent."""
    seen = seen_of(models, before)
    waiting = deque(conversations.elsewhere)
    profiles = {model: _profile(model) for model in models}
    bundle = None
    for number, conversation in enumerate(conversations.here):
        while waiting and when(waiting[0]) < when(conversation):
            seen.show_elsewhere(waiting.popleft().outcomes.values())
        if bundle is None or number % policy.rescore_every == 0:
            bundle = _bundle(policy, profiles, seen, salt)
        given = outcome(bundle, SelectionRequest(TENANT, PERSONA, conversation.prompt_id, AT))
        found = conversation.outcomes.get(given.profile)
        yield Choice(conversation, given.profile, given.reason.value, found)
        if policy.feedback is Feedback.RECORDED:
            seen.show(conversation.outcomes.values())
        elif found is not None:
            seen.show([found])


def fixed(
    conversations: Iterable[Conversation], pick: Callable[[Conversation], str], reason: str
) -> Iterator[Choice]:
    """Choices that need no engine, for baselines."""
    for conversation in conversations:
        model = pick(conversation)
        yield Choice(conversation, model, reason, conversation.outcomes.get(model))


def _bundle(policy: Policy, profiles: dict[str, BundleProfile], seen: Seen, salt: str) -> Bundle:
    cards = score_scope(
        policy.rules, policy.incumbent, seen.evidence(AT, policy.rules.sla.max_latency_p95_ms)
    )
    as_of = AT if any(card.requests for card in cards) else None
    scores = ScopeScores(cards, as_of, policy.incumbent, policy.rules)
    return Bundle(
        version="replay",
        tenants={TENANT: BundleTenant(TENANT, enabled=True)},
        personas={
            PERSONA: BundlePersona(
                PERSONA,
                enabled=True,
                default_profile=policy.incumbent,
                exploration_share=policy.exploration,
            )
        },
        scope_defaults={},
        profiles=profiles,
        enabled_tiers=frozenset({"llm"}),
        flag=FlagState(everyone=True, salt=salt),
        snapshot=BundleSnapshot("replay", AT, {(TENANT, PERSONA): scores}, {}),
    )


def _profile(model: str) -> BundleProfile:
    return BundleProfile(
        slug=model, provider="", model=model, base_url="", tier="llm", enabled=True, context_window=0
    )
