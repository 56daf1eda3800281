"""Scorecards under other rules: exactly the scorer's, or not claimed."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine import ScopeScores
from routing.rescoring import can_rescore, rescore
from routing.scoring import Evidence, ScoringRules, Weights, score_scope
from tests.routing.cases import NOW, RULES, any_rules, pools, wild_evidence


@st.composite
def changed(draw: st.DrawFn, old: ScoringRules) -> ScoringRules:
    """Rules that ask something else of what scorecards keep."""
    sla = replace(
        old.sla,
        min_success_rate=draw(st.sampled_from([0.0, 0.5, 0.62, 0.9, 1.0])),
        max_safety_violation_rate=draw(st.sampled_from([0.0, 0.03, 0.5])),
        max_cost_per_completion=draw(st.sampled_from([None, Decimal("0.02")])),
        min_accuracy=draw(st.sampled_from([None, old.sla.min_accuracy])),
    )
    cost = draw(st.sampled_from([0.0, 0.2, 0.9]))
    return replace(old, sla=sla, weights=Weights(cost, 0.1, 0.9 - cost))


@given(st.data(), any_rules(), st.one_of(pools(), pools(wild_evidence)), st.sampled_from(["incumbent", "p0"]))
def test_it_is_what_the_scorer_would_say(
    data: st.DataObject, old: ScoringRules, items: list[Evidence], default: str
) -> None:
    new = data.draw(changed(old))
    assert can_rescore(old, new)
    scores = ScopeScores(score_scope(old, "incumbent", items), NOW, "incumbent")
    again = rescore(scores, new, default)
    expected = [replace(card, contrast=None) for card in score_scope(new, default, items)]
    assert (list(again.scorecards), again.incumbent, again.as_of) == (expected, default, NOW)


@pytest.mark.parametrize(
    "new",
    [
        replace(RULES, confidence=0.99),
        replace(RULES, min_samples=10),
        replace(RULES, sla=replace(RULES.sla, max_latency_p95_ms=9_000)),
        replace(RULES, sla=replace(RULES.sla, min_accuracy=0.5)),
    ],
)
def test_what_scorecards_do_not_keep_is_not_claimed(new: ScoringRules) -> None:
    assert not can_rescore(RULES, new)
