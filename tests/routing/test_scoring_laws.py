"""Laws that hold for any figures."""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from routing.gates import Verdict
from routing.intervals import wilson
from routing.reranking import leave_out
from routing.scoring import Evidence, Scorecard, ScoringRules, Weights, excess, score_scope
from telemetry.histogram import BUCKETS, quantile
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


EVEN, FAST = replace(RULES, weights=Weights(0.34, 0.33, 0.33)), replace(RULES, weights=Weights(0.1, 0.2, 0.7))
CAPPED = replace(RULES, sla=replace(RULES.sla, max_cost_per_completion=Decimal("0.02")))


def levers(item: Evidence, sentence: str) -> Iterator[Evidence]:
    """The loser after each change that the sentence names, and nothing else."""
    day = item.day
    if cut := re.search(r"cost -(\d+)%", sentence):
        yield replace(item, day=replace(day, cost_usd=day.cost_usd * (100 - int(cut[1])) / 100))
    if below := re.search(r"p95 < ([\d.]+) (m?s)", sentence):
        limit = float(below[1]) * (1 if below[2] == "ms" else 1000)
        middles = [quantile([0] * bucket + [1], 0.95) or 0.0 for bucket in range(BUCKETS)]
        if fast := [bucket for bucket, middle in enumerate(middles) if middle < limit]:
            yield replace(item, day=replace(day, latency=(0,) * fast[-1] + (day.requests,)))
    if re.search(r"proven success >", sentence):
        # Proof near 1 takes samples: everything a hundred thousand times, all of it successful.
        times = 100_000
        yield replace(
            item,
            day=replace(
                day,
                requests=day.requests * times,
                successes=day.requests * times,
                priced=day.priced * times,
                cost_usd=day.cost_usd * times,
                latency=tuple(count * times for count in day.latency),
            ),
        )


@given(st.sampled_from([RULES, EVEN, FAST, CAPPED]), pools())
def test_each_change_that_an_explanation_names_really_wins(
    rules: ScoringRules, items: list[Evidence]
) -> None:
    for card in score_scope(rules, "incumbent", items):
        if card.contrast is None:
            continue
        others = [item for item in items if item.profile != card.profile]
        loser = next(item for item in items if item.profile == card.profile)
        for changed in levers(loser, card.contrast.sentence()):
            assert score_scope(rules, "incumbent", [*others, changed])[0].profile == card.profile


@given(any_rules(), pools())
def test_exactly_the_eligible_losers_are_told_what_would_make_them_win(
    rules: ScoringRules, items: list[Evidence]
) -> None:
    default = next((i.known_cost(rules.min_samples) for i in items if i.profile == "incumbent"), None)
    limit = default if rules.sla.max_cost_per_completion is None else None
    for card in score_scope(rules, "incumbent", items):
        # Who costs more than the default lost by that, whatever its score.
        is_dear = excess(card.cost_per_completion, limit) is not None
        assert (card.contrast is not None) == (card.eligible and card.rank != 1 and not is_dear)


@given(any_rules(), pools())
def test_who_costs_more_than_the_default_wins_only_where_that_is_proved_to_fail_or_no_yardstick(
    rules: ScoringRules, items: list[Evidence]
) -> None:
    cards = score_scope(rules, "incumbent", items)
    default = next((card for card in cards if card.profile == "incumbent"), None)
    if default is None or rules.sla.max_cost_per_completion is not None:
        return
    fails = any(gate.verdict is Verdict.FAIL and gate.n >= rules.min_samples for gate in default.gates)
    able = [card for card in cards if card.eligible]
    cost = default.cost_per_completion
    dear = [
        c
        for c in able
        if cost is not None and c.cost_per_completion is not None and c.cost_per_completion > cost
    ]
    assert fails or not dear
    # Then the cheapest first, after all who cost no more.
    assert able == [
        *(c for c in able if c not in dear),
        *sorted(dear, key=lambda c: c.cost_per_completion or 0),
    ]


@given(any_rules(), pools(), st.sets(st.sampled_from(["p0", "p1", "p2"])))
def test_leaving_profiles_out_afterwards_ranks_as_if_they_had_never_been_scored(
    rules: ScoringRules, items: list[Evidence], forbidden: set[str]
) -> None:
    cards = score_scope(rules, "incumbent", items)
    left = leave_out(cards, dict.fromkeys(forbidden, "disabled"), rules, "incumbent")
    allowed = [item for item in items if item.profile not in forbidden]
    scored = score_scope(rules, "incumbent", allowed)
    assert tuple(card for card in left if card.profile not in forbidden) == scored
    assert [card.rank for card in left if card.eligible] == list(range(1, sum(c.eligible for c in left) + 1))
    for card in left:
        if card.profile in forbidden:
            assert (card.eligible, card.rank, card.why_not[0]) == (False, None, "disabled")


@given(any_rules())
def test_rules_survive_json(rules: ScoringRules) -> None:
    assert ScoringRules.from_dict(orjson.loads(orjson.dumps(rules.to_dict()))) == rules


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
