"""Scorecards once more, under other rules or against another default, from what a snapshot keeps. Pure.

A scorecard keeps counts and rates of its 24 hours, but neither the histogram nor how many samples were priced or
graded. So other weights, limits of success, safety and cost, and another default come out exactly as the scorer
would have them; another limit of latency, accuracy, confidence or sample size does not follow from it.
"""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from routing.gates import Clause, Gate, Proof, Verdict, at_least, at_most
from routing.policy import ScopeScores
from routing.rules import ScoringRules, Terms
from routing.scoring import (
    COST_UNKNOWN,
    NO_REFERENCE,
    Scorecard,
    by_rank,
    dearest,
    excess,
    score_of,
    terms_of,
    why_dear,
)


def can_rescore(old: ScoringRules, new: ScoringRules) -> bool:
    """Whether scorecards made by ``old`` tell all that ``new`` asks."""
    return (
        (old.confidence, old.min_samples, old.sla.max_latency_p95_ms)
        == (new.confidence, new.min_samples, new.sla.max_latency_p95_ms)
    ) and new.sla.min_accuracy in (old.sla.min_accuracy, None)


def rescore(scores: ScopeScores, rules: ScoringRules, incumbent: str, borrowed: bool = False) -> ScopeScores:
    """The scope's scores by rules that ``can_rescore`` allows, measured against this default. ``borrowed``: they are
    the persona's over all tenants, for a tenant that has none of its own. No contrasts are told."""
    reference = _reference(scores.scorecards, rules, incumbent)
    judges_alike = scores.rules is not None and _judges_alike(scores.rules, rules)
    judged = [_judge(card, rules, reference, judges_alike) for card in scores.scorecards]
    judged = _keep_dear_ones_back(rules, incumbent, judged)
    limit = reference if rules.sla.max_cost_per_completion is None else None
    eligible = sorted(
        (one for one in judged if not one.why_not),
        key=lambda one: by_rank(
            one.score, one.card.tokens_per_success, one.card.profile, excess(_cost(one.card), limit)
        ),
    )
    ranked = [_card(one, rank, borrowed) for rank, one in enumerate(eligible, 1)]
    others = sorted((one for one in judged if one.why_not), key=lambda one: one.card.profile)
    cards = (*ranked, *(_card(one, None, borrowed) for one in others))
    return ScopeScores(cards, scores.as_of, incumbent, scores.rules and rules)


def _reference(cards: Iterable[Scorecard], rules: ScoringRules, incumbent: str) -> Decimal | None:
    """As ``routing.scoring.cost_reference``."""
    if rules.sla.max_cost_per_completion is not None:
        return rules.sla.max_cost_per_completion
    costs = (_cost(card) for card in cards if card.profile == incumbent)
    return next(costs, None) or None


def _cost(card: Scorecard) -> Decimal | None:
    """The cost per completion, if enough completions are priced."""
    few = any(reason.startswith(COST_UNKNOWN) for reason in card.why_not)
    return None if few else card.cost_per_completion


class _Judged(NamedTuple):
    """A card's profile by the new rules, before ranks are given."""

    card: Scorecard
    gates: tuple[Gate, ...]
    terms: Terms
    score: float | None
    why_not: tuple[str, ...]


def _judges_alike(old: ScoringRules, new: ScoringRules) -> bool:
    """Whether every gate would say what it says: of thousands of scopes that is most of the work."""
    limits = (new.confidence, new.min_samples, replace(new.sla, max_cost_per_completion=None))
    return limits == (old.confidence, old.min_samples, replace(old.sla, max_cost_per_completion=None))


def _judge(card: Scorecard, rules: ScoringRules, reference: Decimal | None, judges_alike: bool) -> _Judged:
    gates = card.gates if judges_alike else tuple(_gates(card, rules))
    cost = _cost(card)
    terms = terms_of(rules, cost, reference, gates[0].lower, card.latency_p95_ms)
    why_not = [gate.sentence() for gate in gates if gate.verdict is not Verdict.PASS]
    if cost is None:
        why_not += [reason for reason in card.why_not if reason.startswith(COST_UNKNOWN)]
    elif reference is None:
        why_not.append(NO_REFERENCE)
    return _Judged(card, gates, terms, score_of(rules.weights, terms), tuple(why_not))


def _card(judged: _Judged, rank: int | None, borrowed: bool) -> Scorecard:
    card = judged.card
    return replace(
        card,
        eligible=rank is not None,
        rank=rank,
        score=judged.score,
        terms=judged.terms,
        gates=judged.gates,
        why_not=judged.why_not,
        contrast=None,
        # What nobody has is not borrowed from anybody.
        borrowed=card.borrowed or (borrowed and card.requests > 0),
    )


def _keep_dear_ones_back(rules: ScoringRules, incumbent: str, judged: list[_Judged]) -> list[_Judged]:
    """As the scorer does."""
    default = next((one for one in judged if one.card.profile == incumbent), None)
    if default is None:
        return judged
    limit = dearest(rules, _cost(default.card), default.gates)
    told = ((one, why_dear(_cost(one.card), limit)) for one in judged)
    return [one._replace(why_not=(*one.why_not, why)) if why else one for one, why in told]


def _gates(card: Scorecard, rules: ScoringRules) -> Iterable[Gate]:
    sla, n = rules.sla, card.requests
    priors = {gate.clause: gate.prior for gate in card.gates}
    lent = priors.get(Clause.SUCCESS)
    proof = Proof(rules.confidence, rules.min_samples, lent.weight if lent else 0.0)
    successes = round((card.success_rate or 0.0) * n)
    yield at_least(Clause.SUCCESS, successes, n, sla.min_success_rate, proof, lent)
    yield from (gate for gate in card.gates if gate.clause is Clause.LATENCY_P95)
    bad = round((card.safety_violation_rate or 0.0) * n)
    yield at_most(Clause.SAFETY, bad, bad, n, sla.max_safety_violation_rate, proof, priors.get(Clause.SAFETY))
    if sla.min_accuracy is not None:
        yield from (gate for gate in card.gates if gate.clause is Clause.ACCURACY)
