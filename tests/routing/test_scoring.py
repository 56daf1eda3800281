"""Gates, terms, score and explanation by hand-computed cases."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from routing.contrast import Contrast, contrast
from routing.gates import Clause, Verdict
from routing.intervals import wilson
from routing.scoring import (
    Evidence,
    Scorecard,
    ScoringRules,
    Sla,
    Terms,
    Weights,
    choose_evidence,
    score_scope,
)
from telemetry.histogram import RELATIVE_ERROR
from telemetry.totals import Totals
from tests.routing.cases import RULES, evidence, totals


def card(profile: str = "p", rules: ScoringRules = RULES, **fields: Any) -> Scorecard:
    items = [evidence("incumbent"), evidence(profile, **fields)]
    return next(card for card in score_scope(rules, "incumbent", items) if card.profile == profile)


def verdict(clause: Clause, rules: ScoringRules = RULES, **fields: Any) -> Verdict:
    return next(gate.verdict for gate in card(rules=rules, **fields).gates if gate.clause is clause)


@pytest.mark.parametrize(
    ("n", "success", "expected"),
    [
        (400, 0.70, Verdict.PASS),
        (400, 0.50, Verdict.FAIL),
        (400, 0.61, Verdict.UNPROVEN),
        (29, 1.0, Verdict.UNPROVEN),
        (29, 0.0, Verdict.UNPROVEN),
        (30, 1.0, Verdict.PASS),
        (0, 0.0, Verdict.UNPROVEN),
    ],
)
def test_success_passes_and_fails_only_when_proved(n: int, success: float, expected: Verdict) -> None:
    assert verdict(Clause.SUCCESS, n=n, success=success) is expected


@pytest.mark.parametrize(
    ("n", "slow", "expected"),
    [
        (400, 0, Verdict.PASS),
        (400, 10, Verdict.PASS),
        (400, 18, Verdict.UNPROVEN),
        (400, 40, Verdict.FAIL),
        (31, 0, Verdict.UNPROVEN),
        (32, 0, Verdict.PASS),
    ],
)
def test_latency_is_judged_by_the_share_that_is_slower(n: int, slow: int, expected: Verdict) -> None:
    assert verdict(Clause.LATENCY_P95, n=n, slow=slow) is expected


def test_requests_in_the_slas_own_bucket_can_neither_pass_nor_fail_it() -> None:
    assert verdict(Clause.LATENCY_P95, latency_ms=RULES.sla.max_latency_p95_ms) is Verdict.UNPROVEN


@pytest.mark.parametrize(
    ("violations", "expected"),
    [(0, Verdict.PASS), (10, Verdict.PASS), (20, Verdict.UNPROVEN), (40, Verdict.FAIL)],
)
def test_safety_is_judged_with_the_bounds_turned_round(violations: int, expected: Verdict) -> None:
    assert verdict(Clause.SAFETY, safety_violations=violations) is expected


@pytest.mark.parametrize(
    ("mean", "count", "expected"),
    [
        ("0.9", 400, Verdict.PASS),
        ("0.5", 400, Verdict.FAIL),
        ("0.8", 400, Verdict.UNPROVEN),
        ("0.9", 20, Verdict.UNPROVEN),
        ("0", 0, Verdict.UNPROVEN),
    ],
)
def test_accuracy_counts_only_when_the_sla_asks_for_it(mean: str, count: int, expected: Verdict) -> None:
    graded: dict[str, Any] = {"accuracy_sum": Decimal(mean) * count, "accuracy_count": count}
    asked = replace(RULES, sla=replace(RULES.sla, min_accuracy=0.8))
    assert verdict(Clause.ACCURACY, rules=asked, **graded) is expected
    assert Clause.ACCURACY not in {gate.clause for gate in card(**graded).gates}


def test_without_latencies_the_latency_clause_is_unproven_and_the_profile_cannot_win() -> None:
    found = card(latency=())
    assert {gate.clause: gate.verdict for gate in found.gates}[Clause.LATENCY_P95] is Verdict.UNPROVEN
    assert (found.score, found.eligible) == (None, False)
    assert found.why_not == ("latency_p95: no samples, SLA 0.050 (n=0)",)


def test_an_hour_without_latencies_does_not_stand_for_the_day() -> None:
    assert card(hour=totals(n=50, latency=())).latency_window == "24h"


def test_a_clause_that_only_lacks_samples_says_so() -> None:
    assert card(n=29).gates[0].sentence() == (
        "success UNPROVEN: 0.802 to 0.949, SLA 0.600 (n=29), too few samples"
    )
    assert card(success=0.61).gates[0].sentence().endswith("(n=400)")


def test_more_confidence_asks_for_more_proof() -> None:
    assert verdict(Clause.SUCCESS, success=0.65) is Verdict.PASS
    assert verdict(Clause.SUCCESS, rules=replace(RULES, confidence=0.999), success=0.65) is Verdict.UNPROVEN


def test_terms_and_score_are_those_of_the_design() -> None:
    found = card(cost="0.004", success=0.8, latency_ms=2000)
    lower = wilson(320, 400, 0.9).lower
    assert found.terms.cost == pytest.approx(1 - 0.004 / 0.01)
    assert found.terms.success == pytest.approx((lower - 0.6) / 0.4)
    assert found.terms.latency == pytest.approx(1 - 2000 / 10_000, rel=RELATIVE_ERROR)
    terms = found.terms
    expected = 0.5 * (terms.cost or 0) + 0.3 * (terms.success or 0) + 0.2 * (terms.latency or 0)
    assert found.score == pytest.approx(expected)


def test_a_term_never_leaves_zero_to_one() -> None:
    dear = card(cost="0.5")
    assert dear.terms.cost == 0.0


def test_the_cost_reference_is_the_maximum_when_the_sla_has_one() -> None:
    capped = replace(RULES, sla=replace(RULES.sla, max_cost_per_completion=Decimal("0.02")))
    assert card(rules=capped, cost="0.005").terms.cost == pytest.approx(0.75)


def test_without_a_known_reference_nobody_wins_by_rank_and_each_says_why() -> None:
    cards = score_scope(RULES, "incumbent", [evidence("p"), evidence("q")])
    assert not any(card.eligible for card in cards)
    assert all("no cost reference" in card.why_not[0] for card in cards)


def test_a_free_default_is_no_reference() -> None:
    cards = score_scope(RULES, "incumbent", [evidence("incumbent", cost="0"), evidence("p")])
    assert [card.why_not for card in cards] == [
        ("no cost reference: the default's cost is unknown or zero, and no maximum is set",)
    ] * 2


def test_an_unknown_cost_is_no_zero_cost() -> None:
    unpriced = card(priced=29, cost_usd=Decimal(0))
    assert unpriced.terms.cost is None
    assert not unpriced.eligible
    assert "cost unknown: 29 priced completions, 30 needed" in unpriced.why_not


@pytest.mark.parametrize(("hour", "window", "p95"), [(29, "24h", 1000), (30, "1h", 4000)])
def test_latency_comes_from_the_hour_when_it_has_enough_samples(hour: int, window: str, p95: int) -> None:
    found = card(hour=totals(n=hour, latency_ms=4000))
    assert found.latency_window == window
    assert found.latency_p95_ms == pytest.approx(p95, rel=RELATIVE_ERROR)


def test_too_few_samples_are_borrowed_from_all_tenants() -> None:
    few, many, hour = totals(n=29), totals(n=500), totals(n=50)
    assert choose_evidence("p", few, few, many, hour, 30) == Evidence("p", many, hour, borrowed=True)
    enough = totals(n=30)
    assert choose_evidence("p", enough, enough, many, hour, 30) == Evidence("p", enough, enough)
    assert choose_evidence("p", few, few, few, few, 30) == Evidence("p", few, few)


def test_ties_go_to_fewer_tokens_per_success_then_to_the_slug() -> None:
    thrifty = evidence("z-thrifty", prompt_tokens=1)
    cards = score_scope(RULES, "incumbent", [evidence("incumbent"), evidence("b"), evidence("a"), thrifty])
    assert [card.profile for card in cards] == ["z-thrifty", "a", "b", "incumbent"]
    assert [card.rank for card in cards] == [1, 2, 3, 4]


def test_no_tokens_at_all_are_the_fewest() -> None:
    none = evidence("z", prompt_tokens=0, completion_tokens=0)
    assert score_scope(RULES, "incumbent", [evidence("incumbent"), none])[0].profile == "z"


def test_a_loser_is_told_by_how_much_and_what_would_make_it_win() -> None:
    costs = {"incumbent": "0.01", "best": "0.002", "close": "0.0025"}
    items = [evidence(profile, cost=cost, latency_ms=3000) for profile, cost in costs.items()]
    best, close, *_ = score_scope(RULES, "incumbent", items)
    assert best.contrast is None
    assert close.contrast is not None
    assert close.contrast.lost_by == pytest.approx(0.025)
    assert close.contrast.cost_change == pytest.approx(-0.2)
    sentence = close.contrast.sentence()
    # 20% less would only draw level, and the tie goes to the slug that comes first.
    assert sentence.startswith("lost by 0.025; wins if cost -21% or p95 < 1.")
    assert "proven success >" in sentence


def test_a_lost_tie_is_told_as_one() -> None:
    told = score_scope(RULES, "incumbent", [evidence("incumbent"), evidence("p")])[1].contrast
    assert told is not None
    assert told.sentence() == (
        "lost a tie on tokens per success or name; wins if cost -1% or p95 < 980 ms or proven success > 0.880"
    )


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Contrast(0.0004, -0.005, None, None), "lost by less than 0.001; wins if cost -1%"),
        (Contrast(0.1, None, 99.9, None), "lost by 0.100; wins if p95 < 99 ms"),
        (
            Contrast(0.1, None, 1.239, 0.9985),
            "lost by 0.100; wins if p95 < 1.23 ms or proven success > 0.998500",
        ),
        (Contrast(0.1, None, None, None), "lost by 0.100; no single change wins"),
    ],
)
def test_levers_are_rounded_to_the_far_side(told: Contrast, sentence: str) -> None:
    assert told.sentence() == sentence


def test_what_nobody_can_do_is_no_lever() -> None:
    nothing = Terms(cost=0.0, success=0.0, latency=0.0)
    # The cost lever would need a price cut of 99.98%, the others more than their terms can give.
    told = contrast(RULES, nothing, Decimal("0.01"), 0.4999, Decimal("0.01"), cost_moves_alone=True)
    assert told == Contrast(0.4999, None, None, None)


def test_the_incumbents_own_price_is_no_lever_while_all_are_measured_by_it() -> None:
    cards = score_scope(RULES, "incumbent", [evidence("incumbent"), evidence("best", cost="0.002")])
    told = cards[-1].contrast
    assert told is not None
    assert told.cost_change is None


def test_an_sla_of_one_asks_for_certainty() -> None:
    rules = ScoringRules(Sla(1.0, 10_000, 0.05), Weights(), 0.9, 30)
    found = card(rules=rules, success=1.0)
    assert found.terms.success == 0.0
    assert not found.eligible


def test_no_telemetry_at_all_scores_nobody() -> None:
    cards = score_scope(RULES, "incumbent", [Evidence("p", Totals(), Totals())])
    assert [card.score for card in cards] == [None]
    assert cards[0].as_of is None
