"""Scorecards: each profile's gates, terms and score in one scope. Pure: no Django, no I/O, no clock.

Gate first, then rank. Terms lie in [0, 1] with bounds fixed by the SLA and the incumbent, so that adding
or removing a candidate never reorders two others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from routing.contrast import Contrast, contrast
from routing.gates import Clause, Gate, Verdict, at_least, at_most, latency_gate
from routing.rules import ScoringRules, Sla, Terms, Weights
from telemetry.totals import Totals

__all__ = [
    "Evidence",
    "Scorecard",
    "ScoringRules",
    "Sla",
    "Terms",
    "Weights",
    "choose_evidence",
    "cost_reference",
    "score_scope",
]

#: How the reasons begin by which a profile cannot win whatever its score: without them it has a cost term.
COST_UNKNOWN = "cost unknown"
NO_REFERENCE = "no cost reference: the default's cost is unknown or zero, and no maximum is set"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A profile's totals of the trailing 24 hours and of the trailing hour; ``borrowed``: over all tenants."""

    profile: str
    day: Totals
    hour: Totals
    borrowed: bool = False


def choose_evidence(
    profile: str, own_day: Totals, own_hour: Totals, all_day: Totals, all_hour: Totals, min_samples: int
) -> Evidence:
    """The tenant's own totals; with too few samples the persona's over all tenants, if those are more."""
    if own_day.requests < min_samples and all_day.requests > own_day.requests:
        return Evidence(profile, all_day, all_hour, borrowed=True)
    return Evidence(profile, own_day, own_hour)


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Everything about one profile in one scope that a decision or a person needs.

    Rates 0 to 1, latency in milliseconds, cost in US dollars. ``why_not`` names what keeps it from winning
    by rank; ``contrast`` what would make an eligible loser win. None: unknown.
    """

    profile: str
    eligible: bool
    rank: int | None
    score: float | None
    terms: Terms
    gates: tuple[Gate, ...]
    why_not: tuple[str, ...]
    contrast: Contrast | None
    requests: int
    success_rate: float | None
    cost_per_completion: Decimal | None
    tokens_per_success: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    safety_violation_rate: float | None
    escalation_rate: float | None
    accuracy: float | None
    latency_window: str
    borrowed: bool
    as_of: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values; money as text, times as ISO 8601 UTC. ``from_dict`` gives back an equal scorecard."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "cost_per_completion": _text(self.cost_per_completion),
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "terms": {"cost": self.terms.cost, "success": self.terms.success, "latency": self.terms.latency},
            "gates": [gate_to_dict(gate) for gate in self.gates],
            "why_not": list(self.why_not),
            "contrast": self.contrast.to_dict() if self.contrast else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Scorecard":
        cost, as_of, told = data["cost_per_completion"], data["as_of"], data["contrast"]
        return cls(
            **{name: data[name] for name in _PLAIN},
            cost_per_completion=None if cost is None else Decimal(cost),
            as_of=datetime.fromisoformat(as_of) if as_of else None,
            terms=Terms(**data["terms"]),
            gates=tuple(_gate_from_dict(gate) for gate in data["gates"]),
            why_not=tuple(data["why_not"]),
            contrast=Contrast.from_dict(told) if told else None,
        )


_PLAIN = (
    "profile",
    "eligible",
    "rank",
    "score",
    "requests",
    "success_rate",
    "tokens_per_success",
    "latency_p50_ms",
    "latency_p95_ms",
    "safety_violation_rate",
    "escalation_rate",
    "accuracy",
    "latency_window",
    "borrowed",
)
_GATE_FIELDS = ("value", "lower", "upper", "limit", "n")


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def gate_to_dict(gate: Gate) -> dict[str, Any]:
    """JSON values, with the sentence for people."""
    numbers = {name: getattr(gate, name) for name in _GATE_FIELDS}
    return {
        "clause": gate.clause.value,
        "verdict": gate.verdict.value,
        **numbers,
        "sentence": gate.sentence(),
    }


def _gate_from_dict(data: Mapping[str, Any]) -> Gate:
    return Gate(Clause(data["clause"]), Verdict(data["verdict"]), *(data[name] for name in _GATE_FIELDS))


@dataclass(frozen=True, slots=True)
class _Standing:
    """A profile's figures before ranks are given."""

    profile: str
    evidence: Evidence
    gates: tuple[Gate, ...]
    terms: Terms
    score: float | None
    why_not: tuple[str, ...]
    tokens_per_success: float | None
    latency_p95_ms: float | None
    recent: Totals
    latency_window: str


def score_scope(rules: ScoringRules, incumbent: str, evidence: Iterable[Evidence]) -> tuple[Scorecard, ...]:
    """Score profiles of one scope, best first: the eligible by rank, then the others by slug.

    Ties go to fewer tokens per success, then to the slug. The order of ``evidence`` does not matter.
    """
    ordered = sorted(evidence, key=lambda item: item.profile)
    reference = cost_reference(rules, incumbent, ordered)
    standings = [_stand(rules, item, reference) for item in ordered]
    eligible = sorted(
        (standing for standing in standings if not standing.why_not),
        key=lambda s: by_rank(s.score, s.tokens_per_success, s.profile),
    )
    best = eligible[0].score if eligible else None
    cards = [
        _card(standing, rank, None if rank == 1 else _contrast(rules, standing, best, reference, incumbent))
        for rank, standing in enumerate(eligible, 1)
    ]
    cards += [_card(standing, None, None) for standing in standings if standing.why_not]
    return tuple(cards)


def _contrast(
    rules: ScoringRules, standing: _Standing, best: float | None, reference: Decimal | None, incumbent: str
) -> Contrast:
    is_reference = rules.sla.max_cost_per_completion is None and standing.profile == incumbent
    return contrast(
        rules,
        standing.terms,
        standing.evidence.day.cost_per_completion,
        max(_known(best) - _known(standing.score), 0.0),
        reference,
        cost_moves_alone=not is_reference,
    )


def cost_reference(rules: ScoringRules, incumbent: str, evidence: Iterable[Evidence]) -> Decimal | None:
    """What the cost term is measured by: the persona's maximum, else the incumbent's cost over the same 24
    hours; None when neither is known well enough, or the incumbent is free: no share of nothing can be told.
    """
    if rules.sla.max_cost_per_completion is not None:
        return rules.sla.max_cost_per_completion
    for item in evidence:
        if item.profile == incumbent and item.day.priced >= rules.min_samples:
            return item.day.cost_per_completion or None
    return None


def by_rank(score: float | None, tokens_per_success: float | None, profile: str) -> tuple[float, float, str]:
    """The key that sorts eligible profiles, best first."""
    return (-_known(score), _or_infinite(tokens_per_success), profile)


def _known(value: float | None) -> float:
    assert value is not None  # noqa: S101  # an eligible profile has a score
    return value


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value


def _stand(rules: ScoringRules, item: Evidence, reference: Decimal | None) -> _Standing:
    use_hour = sum(item.hour.latency) >= rules.min_samples
    recent = item.hour if use_hour else item.day
    gates = _judge(rules, item.day, recent)
    cost = item.day.cost_per_completion if item.day.priced >= rules.min_samples else None
    latency = recent.latency_p95_ms
    terms = terms_of(rules, cost, reference, gates[0].lower, latency)
    why_not = [gate.sentence() for gate in gates if gate.verdict is not Verdict.PASS]
    if cost is None:
        why_not.append(f"{COST_UNKNOWN}: {item.day.priced} priced completions, {rules.min_samples} needed")
    elif reference is None:
        why_not.append(NO_REFERENCE)
    return _Standing(
        profile=item.profile,
        evidence=item,
        gates=gates,
        terms=terms,
        score=score_of(rules.weights, terms),
        why_not=tuple(why_not),
        tokens_per_success=item.day.tokens_per_success,
        latency_p95_ms=latency,
        recent=recent,
        latency_window="1h" if use_hour else "24h",
    )


def _judge(rules: ScoringRules, day: Totals, recent: Totals) -> tuple[Gate, ...]:
    sla, confidence, enough = rules.sla, rules.confidence, rules.min_samples
    bad = day.safety_violations
    gates = (
        at_least(Clause.SUCCESS, day.successes, day.requests, sla.min_success_rate, confidence, enough),
        latency_gate(recent, sla.max_latency_p95_ms, confidence, enough),
        at_most(Clause.SAFETY, bad, bad, day.requests, sla.max_safety_violation_rate, confidence, enough),
    )
    if sla.min_accuracy is None:
        return gates
    graded, total = day.accuracy_count, float(day.accuracy_sum)
    return (*gates, at_least(Clause.ACCURACY, total, graded, sla.min_accuracy, confidence, enough))


def terms_of(
    rules: ScoringRules,
    cost: Decimal | None,
    reference: Decimal | None,
    success_lower: float | None,
    latency_p95_ms: float | None,
) -> Terms:
    """The terms of a profile whose cost per completion (US dollars), proved success rate and p95 are these; None:
    unknown."""
    return Terms(
        cost=None if cost is None or reference is None else _clip(1 - float(cost / reference)),
        success=_success_term(success_lower, rules.sla.min_success_rate),
        latency=None if latency_p95_ms is None else _clip(1 - latency_p95_ms / rules.sla.max_latency_p95_ms),
    )


def _success_term(lower: float | None, limit: float) -> float | None:
    if lower is None:
        return None
    if limit >= 1:
        # Nothing lies above an SLA of 1, so whoever meets it has the full term.
        return 1.0 if lower >= 1 else 0.0
    return _clip((lower - limit) / (1 - limit))


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def score_of(weights: Weights, terms: Terms) -> float | None:
    """The weighted sum; None while a term is unknown."""
    if terms.cost is None or terms.success is None or terms.latency is None:
        return None
    total = weights.cost * terms.cost + weights.success * terms.success + weights.latency * terms.latency
    # Differences below a trillionth are rounding, and rounding must not beat the tie rule.
    return round(total, 12)


def _card(standing: _Standing, rank: int | None, told: Contrast | None) -> Scorecard:
    day = standing.evidence.day
    return Scorecard(
        profile=standing.profile,
        eligible=rank is not None,
        rank=rank,
        score=standing.score,
        terms=standing.terms,
        gates=standing.gates,
        why_not=standing.why_not,
        contrast=told,
        requests=day.requests,
        success_rate=day.success_rate,
        cost_per_completion=day.cost_per_completion,
        tokens_per_success=standing.tokens_per_success,
        latency_p50_ms=standing.recent.latency_p50_ms,
        latency_p95_ms=standing.latency_p95_ms,
        safety_violation_rate=day.safety_violation_rate,
        escalation_rate=day.escalation_rate,
        accuracy=day.accuracy,
        latency_window=standing.latency_window,
        borrowed=standing.evidence.borrowed,
        as_of=day.last_event_at,
    )
