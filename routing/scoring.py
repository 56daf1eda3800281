"""Scorecards: each profile's gates, terms and score in one scope. Pure: no Django, no I/O, no clock.

Gate first, then rank. Terms lie in [0, 1] with bounds fixed by the SLA and the incumbent, so that adding
or removing a candidate never reorders two others.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from routing.contrast import Contrast, contrast
from routing.gates import Clause, Gate, Proof, Verdict, at_least, at_most, latency_gate, own_minimum
from routing.priors import Prior, Priors
from routing.rules import ScoringRules, Sla, Terms, Weights
from routing.scorecard import COST_UNKNOWN, DEARER, NO_REFERENCE, Scorecard, gate_to_dict
from telemetry.totals import Totals

__all__ = [
    "COST_UNKNOWN",
    "DEARER",
    "NO_REFERENCE",
    "Evidence",
    "Scorecard",
    "ScoringRules",
    "Sla",
    "Terms",
    "Weights",
    "choose_evidence",
    "cost_reference",
    "gate_to_dict",
    "score_scope",
]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A profile's totals of the trailing 24 hours and of the trailing hour; ``borrowed``: over all tenants. ``priors``
    are what its record under other personas adds."""

    profile: str
    day: Totals
    hour: Totals
    borrowed: bool = False
    priors: Priors = field(default_factory=Priors)

    def known_cost(self, min_samples: int) -> Decimal | None:
        """US dollars per completion, if enough completions are priced."""
        needed = cost_minimum(min_samples, self.priors.success)
        return self.day.cost_per_completion if self.day.priced >= needed else None


def cost_minimum(min_samples: int, success: Prior | None) -> int:
    """So many completions must be priced for their cost to count: where success needs fewer of the scope's own, so
    does cost."""
    return min_samples if success is None else own_minimum(min_samples)


def why_unpriced(priced: int, needed: int) -> str:
    """What keeps a profile of unknown cost from winning."""
    return f"{COST_UNKNOWN}: {priced} priced completions, {needed} needed"


def choose_evidence(
    profile: str,
    own_day: Totals,
    own_hour: Totals,
    all_day: Totals,
    all_hour: Totals,
    min_samples: int,
    priors: Priors | None = None,
) -> Evidence:
    """The tenant's own totals; with too few samples the persona's over all tenants, if those are more."""
    known = priors or Priors()
    if own_day.requests < min_samples and all_day.requests > own_day.requests:
        return Evidence(profile, all_day, all_hour, borrowed=True, priors=known)
    return Evidence(profile, own_day, own_hour, priors=known)


@dataclass(frozen=True, slots=True)
class _Standing:
    """A profile's figures before ranks are given."""

    profile: str
    evidence: Evidence
    gates: tuple[Gate, ...]
    terms: Terms
    score: float | None
    cost: Decimal | None
    why_not: tuple[str, ...]
    tokens_per_success: float | None
    latency_p95_ms: float | None
    recent: Totals
    latency_window: str


def score_scope(rules: ScoringRules, incumbent: str, evidence: Iterable[Evidence]) -> tuple[Scorecard, ...]:
    """Score profiles of one scope, best first: the eligible by rank, then the others by slug.

    Ties go to fewer tokens per success, then to the slug. Who costs more than the default comes after all who do not,
    the cheapest first: measured by the default's cost, their terms of cost are all 0. The order of ``evidence`` does
    not matter.
    """
    ordered = sorted(evidence, key=lambda item: item.profile)
    reference = cost_reference(rules, incumbent, ordered)
    standings = _keep_dear_ones_back(rules, incumbent, [_stand(rules, item, reference) for item in ordered])
    limit = reference if rules.sla.max_cost_per_completion is None else None
    eligible = sorted(
        (standing for standing in standings if not standing.why_not),
        key=lambda s: by_rank(s.score, s.tokens_per_success, s.profile, excess(s.cost, limit)),
    )
    best = eligible[0].score if eligible else None
    cards = [
        _card(standing, rank, _contrast(rules, standing, best, reference, incumbent) if rank > 1 else None)
        for rank, standing in enumerate(eligible, 1)
    ]
    cards += [_card(standing, None, None) for standing in standings if standing.why_not]
    return tuple(cards)


def _contrast(
    rules: ScoringRules, standing: _Standing, best: float | None, reference: Decimal | None, incumbent: str
) -> Contrast | None:
    by_default = rules.sla.max_cost_per_completion is None
    if by_default and excess(standing.cost, reference) is not None:
        return None  # it lost by costing more than the default, whatever its score
    is_reference = by_default and standing.profile == incumbent
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
        if item.profile == incumbent:
            return item.known_cost(rules.min_samples) or None
    return None


def _keep_dear_ones_back(
    rules: ScoringRules, incumbent: str, standings: list["_Standing"]
) -> list["_Standing"]:
    default = next((standing for standing in standings if standing.profile == incumbent), None)
    if default is None:
        return standings
    limit = dearest(rules, default.cost, default.gates)
    told = ((standing, why_dear(standing.cost, limit)) for standing in standings)
    return [replace(s, why_not=(*s.why_not, why)) if why else s for s, why in told]


def dearest(
    rules: ScoringRules, default_cost: Decimal | None, default_gates: Iterable[Gate]
) -> Decimal | None:
    """The most that a completion may cost on the machine's choice, US dollars; None: no limit. That is the default's
    cost, unless the persona names another yardstick, or the default's own samples prove that it misses the SLA: to
    spend more, what other personas lend is no proof."""
    if rules.sla.max_cost_per_completion is not None:
        return None
    if any(gate.verdict is Verdict.FAIL and gate.n >= rules.min_samples for gate in default_gates):
        return None
    return (
        default_cost or None
    )  # what a free default is a share of cannot be told; then nobody has a cost term


def why_dear(cost: Decimal | None, limit: Decimal | None) -> str | None:
    """What keeps a profile of this cost from winning under a limit of ``dearest``."""
    if (cost := excess(cost, limit)) is None or limit is None:
        return None
    return f"{DEARER} (${cost:.6f} per completion, not ${limit:.6f}), which is not proved to miss the SLA"


def excess(cost: Decimal | None, limit: Decimal | None) -> Decimal | None:
    """The cost of who costs more than ``limit``, the default's cost; None: it does not, or that cannot be told."""
    return None if cost is None or limit is None or cost <= limit else cost


def by_rank(
    score: float | None, tokens_per_success: float | None, profile: str, dear: Decimal | None = None
) -> tuple[bool, Decimal, float, float, str]:
    """The key that sorts eligible profiles, best first; ``dear``: what ``excess`` gives."""
    return (
        dear is not None,
        dear or Decimal(0),
        -_known(score),
        _or_infinite(tokens_per_success),
        profile,
    )


def _known(value: float | None) -> float:
    assert value is not None  # noqa: S101  # an eligible profile has a score
    return value


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value


def _stand(rules: ScoringRules, item: Evidence, reference: Decimal | None) -> _Standing:
    use_hour = sum(item.hour.latency) >= rules.min_samples
    recent = item.hour if use_hour else item.day
    gates = _judge(rules, item, recent)
    cost = item.known_cost(rules.min_samples)
    latency = recent.latency_p95_ms
    terms = terms_of(rules, cost, reference, gates[0].lower, latency)
    why_not = [gate.sentence() for gate in gates if gate.verdict is not Verdict.PASS]
    if cost is None:
        why_not.append(why_unpriced(item.day.priced, cost_minimum(rules.min_samples, item.priors.success)))
    elif reference is None:
        why_not.append(NO_REFERENCE)
    return _Standing(
        profile=item.profile,
        evidence=item,
        gates=gates,
        terms=terms,
        score=score_of(rules.weights, terms),
        cost=cost,
        why_not=tuple(why_not),
        tokens_per_success=item.day.tokens_per_success,
        latency_p95_ms=latency,
        recent=recent,
        latency_window="1h" if use_hour else "24h",
    )


def _judge(rules: ScoringRules, item: Evidence, recent: Totals) -> tuple[Gate, ...]:
    sla, day, priors = rules.sla, item.day, item.priors
    proof = Proof(rules.confidence, rules.min_samples, priors.success.weight if priors.success else 0.0)
    bad = day.safety_violations
    gates = (
        at_least(Clause.SUCCESS, day.successes, day.requests, sla.min_success_rate, proof, priors.success),
        latency_gate(recent, sla.max_latency_p95_ms, proof, priors.slower),
        at_most(Clause.SAFETY, bad, bad, day.requests, sla.max_safety_violation_rate, proof, priors.unsafe),
    )
    if sla.min_accuracy is None:
        return gates
    graded, total = day.accuracy_count, float(day.accuracy_sum)
    return (*gates, at_least(Clause.ACCURACY, total, graded, sla.min_accuracy, proof, priors.accuracy))


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
