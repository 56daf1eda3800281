"""The decision: ordered rules, the first that applies. Pure: no Django, no I/O, no clock, no chance.

The same bundle and request give the same decision, byte for byte. docs/decisions.md explains each rule,
reason and problem.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from routing.policy import (
    Bundle,
    BundlePersona,
    BundleProfile,
    BundleSnapshot,
    BundleTenant,
    FlagState,
    ScopeScores,
    canonical_json,
)
from routing.reranking import leave_out
from routing.scoring import Scorecard
from telemetry.freshness_state import Freshness, state

__all__ = [
    "Bundle",
    "BundlePersona",
    "BundleProfile",
    "BundleSnapshot",
    "BundleTenant",
    "Decision",
    "FlagState",
    "Reason",
    "ScopeScores",
    "SelectionProblem",
    "SelectionRequest",
    "canonical_json",
    "decide",
]

_NAMESPACE = uuid.UUID("c2b7f9a4-6f1e-5d38-9f60-0c8a5d5f7e11")


class Reason(StrEnum):
    """Which rule decided."""

    FLAG_OFF = "flag_off"
    TELEMETRY_STALE = "telemetry_stale"
    RANKED = "ranked"
    NO_ELIGIBLE_CANDIDATE = "no_eligible_candidate"


class SelectionProblem(Exception):
    """No profile can be given, and a silent default would hide why. ``status`` is the HTTP status."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class SelectionRequest:
    """What a worker asks, and when (UTC): time is an input, so that a decision can be replayed."""

    tenant: str
    persona: str
    conversation_id: str
    at: datetime
    task: str = "general"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer: which profile, why, and what to try next. ``candidates`` are in order of rank."""

    decision_id: str
    request: SelectionRequest
    profile: BundleProfile
    reason: Reason
    explanation: str
    candidates: list[dict[str, Any]]
    fallback: tuple[str, ...]
    propensity: float
    bundle_version: str
    snapshot_id: str | None
    freshness: Freshness
    as_of: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as the API shows them."""
        return {
            "decision_id": self.decision_id,
            "tenant": self.request.tenant,
            "persona": self.request.persona,
            "conversation_id": self.request.conversation_id,
            "task": self.request.task,
            "profile": self.profile.to_dict(),
            "reason": self.reason.value,
            "explanation": self.explanation,
            "candidates": self.candidates,
            "fallback": list(self.fallback),
            "propensity": self.propensity,
            "bundle_version": self.bundle_version,
            "snapshot_id": self.snapshot_id,
            "freshness": self.freshness.value,
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "decided_at": self.request.at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class _Case:
    """One request before the rules: what they look at, looked up once."""

    bundle: Bundle
    request: SelectionRequest
    default: str
    scores: ScopeScores | None
    freshness: Freshness
    ranked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a rule that applies says."""

    profile: str
    reason: Reason
    explanation: str


def decide(bundle: Bundle, request: SelectionRequest) -> Decision:
    """Raises SelectionProblem when there is nothing that may be given."""
    case = _examine(bundle, request)
    for rule in RULES:
        choice = rule(case)
        if choice is not None:
            return _decision(case, choice)
    raise AssertionError("the last rule always applies")


def _examine(bundle: Bundle, request: SelectionRequest) -> _Case:
    tenant = bundle.tenants.get(request.tenant)
    if tenant is None:
        raise SelectionProblem(404, "unknown_tenant", f"There is no tenant '{request.tenant}'.")
    persona = bundle.personas.get(request.persona)
    if persona is None:
        raise SelectionProblem(404, "unknown_persona", f"There is no persona '{request.persona}'.")
    if not tenant.enabled:
        raise SelectionProblem(409, "tenant_disabled", f"The tenant '{tenant.slug}' is disabled.")
    if not persona.enabled:
        raise SelectionProblem(409, "persona_disabled", f"The persona '{persona.slug}' is disabled.")
    scores = bundle.scores(tenant.slug, persona.slug)
    return _Case(
        bundle=bundle,
        request=request,
        default=bundle.default_profile(tenant.slug, persona.slug),
        scores=scores,
        freshness=state(scores.as_of if scores else None, request.at),
        ranked=tuple(card.profile for card in scores.ranked if card.profile in bundle.usable)
        if scores
        else (),
    )


def _flag_off(case: _Case) -> _Choice | None:
    request = case.request
    if case.bundle.flag.is_on(request.tenant, request.conversation_id):
        return None
    why = "Automatic selection is off for this conversation"
    return _Choice(case.default, Reason.FLAG_OFF, f"{why}; {case.default} is the scope's default.")


def _telemetry_stale(case: _Case) -> _Choice | None:
    if case.freshness in (Freshness.FRESH, Freshness.DEGRADED):
        return None
    if case.scores is None:
        why = "This scope has no scores measured against its default yet"
    elif case.scores.as_of is None:
        why = "There are no metrics for this scope yet"
    else:
        minutes = int((case.request.at - case.scores.as_of).total_seconds() // 60)
        why = f"The scope's metrics are {minutes} minutes old, which is too old to steer by"
    return _Choice(case.default, Reason.TELEMETRY_STALE, f"{why}; {case.default} is the scope's default.")


def _ranked(case: _Case) -> _Choice | None:
    if not case.ranked or case.scores is None:
        return None
    best = case.ranked[0]
    card = next(card for card in case.scores.ranked if card.profile == best)
    cost = f"${card.cost_per_completion:.6f}" if card.cost_per_completion is not None else "unknown"
    p95 = f"{card.latency_p95_ms / 1000:.1f} s" if card.latency_p95_ms is not None else "unknown"
    lower = card.gates[0].lower or 0.0
    return _Choice(
        best,
        Reason.RANKED,
        f"{best} has the best score ({card.score:.3f}) of {len(case.ranked)} profiles that meet the SLA: "
        f"{cost} per completion, success at least {lower:.3f}, p95 {p95}, n={card.requests}"
        f"{', borrowed from all tenants' if card.borrowed else ''}.",
    )


def _no_eligible_candidate(case: _Case) -> _Choice | None:
    return _Choice(
        case.default,
        Reason.NO_ELIGIBLE_CANDIDATE,
        f"No enabled profile is proved to meet the SLA; {case.default} is the scope's default.",
    )


#: In this order; the first that applies decides.
RULES: tuple[Callable[[_Case], _Choice | None], ...] = (
    _flag_off,
    _telemetry_stale,
    _ranked,
    _no_eligible_candidate,
)


def _decision(case: _Case, choice: _Choice) -> Decision:
    bundle, request = case.bundle, case.request
    profile = bundle.usable.get(choice.profile)
    if profile is None:
        raise SelectionProblem(
            409,
            "profile_disabled",
            f"'{choice.profile}' would be used ({choice.reason.value}), but: {bundle.why_unusable(choice.profile)}.",
        )
    chain = [slug for slug in case.ranked if slug != choice.profile]
    if case.default != choice.profile and case.default in bundle.usable and case.default not in chain:
        chain.append(case.default)
    elif case.default in chain:
        # The chain ends in the default, whatever its rank: it is what people trust.
        chain.remove(case.default)
        chain.append(case.default)
    return Decision(
        decision_id=_decision_id(bundle.version, request),
        request=request,
        profile=profile,
        reason=choice.reason,
        explanation=choice.explanation,
        candidates=_candidates(case),
        fallback=tuple(chain),
        propensity=1.0,
        bundle_version=bundle.version,
        snapshot_id=bundle.snapshot.id if bundle.snapshot else None,
        freshness=case.freshness,
        as_of=case.scores.as_of if case.scores else None,
    )


def _decision_id(version: str, request: SelectionRequest) -> str:
    """From the content, so that a replay gives the same id."""
    parts = (version, request.tenant, request.persona, request.task, request.at.isoformat())
    # The conversation comes last: the others cannot hold a line break, so no two contents look alike.
    return str(uuid.uuid5(_NAMESPACE, "\n".join((*parts, request.conversation_id))))


def _candidates(case: _Case) -> list[dict[str, Any]]:
    if case.scores is None:
        return []
    key = (case.request.tenant, case.request.persona)
    rendered = case.bundle.rendered.get(key)
    if rendered is None:
        rendered = [card.to_dict() for card in _shown(case.bundle, case.scores)]
        case.bundle.rendered[key] = rendered
    return rendered


def _shown(bundle: Bundle, scores: ScopeScores) -> tuple[Scorecard, ...]:
    """The catalogue may be newer than the scores: what it forbids cannot win, so nobody lost to it."""
    reasons = ((card.profile, bundle.why_unusable(card.profile)) for card in scores.scorecards)
    forbidden = {slug: reason for slug, reason in reasons if reason is not None}
    return leave_out(scores.scorecards, forbidden, scores.rules, scores.incumbent)
