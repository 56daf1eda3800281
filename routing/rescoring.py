"""Scorecards once more, under other rules or against another default, from what a snapshot keeps. Pure.

A scorecard keeps counts and rates of its 24 hours, but neither the histogram nor how many samples were priced or
graded. So other weights, limits of success, safety and cost, and another default come out exactly as the scorer
would have them; another limit of latency, accuracy, confidence or sample size does not follow from it.
"""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from routing.gates import Clause, Gate, Verdict, at_least, at_most
from routing.policy import ScopeScores
from routing.rules import ScoringRules
from routing.scoring import COST_UNKNOWN, NO_REFERENCE, Scorecard, by_rank, score_of, terms_of


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
    cards = [_again(card, rules, reference, borrowed) for card in scores.scorecards]
    eligible = sorted(
        (card for card in cards if not card.why_not),
        key=lambda card: by_rank(card.score, card.tokens_per_success, card.profile),
    )
    ranked = [replace(card, eligible=True, rank=rank) for rank, card in enumerate(eligible, 1)]
    others = sorted((card for card in cards if card.why_not), key=lambda card: card.profile)
    return ScopeScores((*ranked, *others), scores.as_of, incumbent, scores.rules and rules)


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


def _again(card: Scorecard, rules: ScoringRules, reference: Decimal | None, borrowed: bool) -> Scorecard:
    gates = tuple(_gates(card, rules))
    cost = _cost(card)
    terms = terms_of(rules, cost, reference, gates[0].lower, card.latency_p95_ms)
    why_not = [gate.sentence() for gate in gates if gate.verdict is not Verdict.PASS]
    if cost is None:
        why_not += [reason for reason in card.why_not if reason.startswith(COST_UNKNOWN)]
    elif reference is None:
        why_not.append(NO_REFERENCE)
    return replace(
        card,
        eligible=False,
        rank=None,
        score=score_of(rules.weights, terms),
        terms=terms,
        gates=gates,
        why_not=tuple(why_not),
        contrast=None,
        # What nobody has is not borrowed from anybody.
        borrowed=card.borrowed or (borrowed and card.requests > 0),
    )


def _gates(card: Scorecard, rules: ScoringRules) -> Iterable[Gate]:
    sla, confidence, enough, n = rules.sla, rules.confidence, rules.min_samples, card.requests
    successes = round((card.success_rate or 0.0) * n)
    yield at_least(Clause.SUCCESS, successes, n, sla.min_success_rate, confidence, enough)
    yield from (gate for gate in card.gates if gate.clause is Clause.LATENCY_P95)
    bad = round((card.safety_violation_rate or 0.0) * n)
    yield at_most(Clause.SAFETY, bad, bad, n, sla.max_safety_violation_rate, confidence, enough)
    if sla.min_accuracy is not None:
        yield from (gate for gate in card.gates if gate.clause is Clause.ACCURACY)
