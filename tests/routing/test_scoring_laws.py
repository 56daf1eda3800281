"""Laws that hold for any figures."""

import random
from dataclasses import replace
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from routing.intervals import wilson
from routing.scoring import Evidence, Scorecard, ScoringRules, Weights, score_scope
from tests.routing.cases import RULES, any_rules, likely_evidence, pools, wild_evidence


def ranks(rules: ScoringRules, items: list[Evidence]) -> dict[str, int | None]:
    return {card.profile: card.rank for card in score_scope(rules, "incumbent", items)}


@given(any_rules(), pools(wild_evidence), st.randoms())
def test_the_order_of_the_evidence_does_not_matter(
    rules: ScoringRules, items: list[Evidence], chance: random.Random
) -> None:
    shuffled = list(items)
    chance.shuffle(shuffled)
    assert score_scope(rules, "incumbent", items) == score_scope(rules, "incumbent", shuffled)


@given(any_rules(), pools(), likely_evidence("newcomer"))
def test_adding_a_candidate_never_reorders_two_others(
    rules: ScoringRules, items: list[Evidence], newcomer: Evidence
) -> None:
    before = [card.profile for card in score_scope(rules, "incumbent", items) if card.eligible]
    after = [card.profile for card in score_scope(rules, "incumbent", [*items, newcomer]) if card.eligible]
    assert [profile for profile in after if profile != "newcomer"] == before


@given(any_rules(), pools(), st.data())
def test_lowering_only_the_cost_never_worsens_a_rank(
    rules: ScoringRules, items: list[Evidence], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(items) - 1))
    item = items[index]
    share = data.draw(st.integers(1, 99))
    cheaper = replace(item, day=replace(item.day, cost_usd=item.day.cost_usd * share / 100))
    before = ranks(rules, items)[item.profile]
    after = ranks(rules, [*items[:index], cheaper, *items[index + 1 :]])[item.profile]
    if before is not None:
        assert after is not None
        assert after <= before


@given(any_rules(), pools(wild_evidence))
def test_the_ineligible_have_no_rank_and_come_last(rules: ScoringRules, items: list[Evidence]) -> None:
    cards = score_scope(rules, "incumbent", items)
    assert len(cards) == len(items)
    eligible = [card for card in cards if card.eligible]
    assert list(cards[: len(eligible)]) == eligible
    assert [card.rank for card in eligible] == list(range(1, len(eligible) + 1))
    for card in cards:
        passed = all(gate.verdict == "PASS" for gate in card.gates)
        assert card.eligible == (passed and card.score is not None)
        assert card.eligible == (not card.why_not)


@given(any_rules(), pools(wild_evidence))
def test_terms_and_scores_lie_within_zero_and_one(rules: ScoringRules, items: list[Evidence]) -> None:
    for card in score_scope(rules, "incumbent", items):
        for value in (card.terms.cost, card.terms.success, card.terms.latency, card.score):
            assert value is None or 0 <= value <= 1 + 1e-9


@given(st.sampled_from([RULES, replace(RULES, weights=Weights(0.1, 0.2, 0.7))]), pools())
def test_each_lever_of_an_explanation_really_draws_level(rules: ScoringRules, items: list[Evidence]) -> None:
    cards = score_scope(rules, "incumbent", items)
    best = cards[0].score or 0.0
    reference = rules.sla.max_cost_per_completion or next(
        card.cost_per_completion for card in cards if card.profile == "incumbent"
    )
    for card in cards[1:]:
        contrast, weights, terms = card.contrast, rules.weights, card.terms
        if not card.eligible or contrast is None:
            continue
        assert terms.cost is not None
        assert terms.success is not None
        assert terms.latency is not None
        assert card.score is not None
        if contrast.cost_change is not None:
            assert reference is not None
            cost = float(card.cost_per_completion or 0) * (1 + contrast.cost_change)
            gained = min(max(1 - cost / float(reference), 0), 1) - terms.cost
            assert card.score + weights.cost * gained >= best - 1e-9
        if contrast.latency_p95_below_ms is not None:
            gained = 1 - contrast.latency_p95_below_ms / rules.sla.max_latency_p95_ms - terms.latency
            assert card.score + weights.latency * gained >= best - 1e-9
        if contrast.success_lower_above is not None:
            limit = rules.sla.min_success_rate
            gained = (contrast.success_lower_above - limit) / (1 - limit) - terms.success
            assert card.score + weights.success * gained >= best - 1e-9


@given(pools())
def test_a_profile_that_is_proved_below_the_sla_never_ranks(items: list[Evidence]) -> None:
    for card in score_scope(RULES, "incumbent", items):
        day = next(item.day for item in items if item.profile == card.profile)
        if wilson(day.successes, day.requests, RULES.confidence).upper < RULES.sla.min_success_rate:
            assert card.rank is None


@given(any_rules(), pools(wild_evidence))
def test_a_scorecard_survives_json(rules: ScoringRules, items: list[Evidence]) -> None:
    for card in score_scope(rules, "incumbent", items):
        data: Any = orjson.loads(orjson.dumps(card.to_dict()))
        assert Scorecard.from_dict(data) == card
