"""Scores at other prices: what the scorer would say of the same tokens, or unknown."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.prices import Price
from routing.engine import ScopeScores
from routing.scoring import Evidence, ScoringRules, score_scope
from routing.whatif import NoRules, cost_at, repriced
from telemetry.metrics import Key
from telemetry.totals import Totals
from telemetry.usage import Usage
from tests.routing.cases import NOW, RULES, any_rules, pools, totals, wild_evidence


def usage_of(found: Totals) -> Usage:
    return Usage(found.requests, found.prompt_tokens, found.completion_tokens, found.cached_tokens)


def at_price(found: Totals, price: Price) -> Totals:
    """What the telemetry would hold if each completion had cost so."""
    if not found.requests or not found.prompt_tokens + found.completion_tokens:
        return replace(found, priced=0, priced_successes=0, cost_usd=Decimal(0))
    cost = price.cost(found.prompt_tokens, found.completion_tokens, found.cached_tokens)
    return replace(found, priced=found.requests, priced_successes=found.successes, cost_usd=cost)


prices = st.builds(
    Price,
    st.integers(0, 100).map(lambda n: Decimal(n) / 1000),
    st.integers(0, 100).map(lambda n: Decimal(n) / 1000),
    st.one_of(st.none(), st.just(Decimal("0.0001"))),
)


@given(any_rules(), st.one_of(pools(), pools(wild_evidence)), prices, st.sampled_from(["incumbent", "p0"]))
def test_repriced_scores_are_what_the_scorer_would_say(
    rules: ScoringRules, items: list[Evidence], price: Price, slug: str
) -> None:
    scores = ScopeScores(score_scope(rules, "incumbent", items), NOW, "incumbent", rules)
    used = {
        Key(None if item.borrowed else "aurora", "essayist", item.profile): usage_of(item.day)
        for item in items
    }
    again = repriced(scores, {slug: price}, used, "aurora", "essayist")
    dearer = [
        replace(item, day=at_price(item.day, price)) if item.profile == slug else item for item in items
    ]
    expected = [replace(card, contrast=None) for card in score_scope(rules, "incumbent", dearer)]
    assert list(again.scorecards) == expected


def test_cost_at_a_price_by_hand() -> None:
    used = Usage(requests=4, prompt_tokens=3_000, completion_tokens=1_000, cached_tokens=1_000)
    # (2,000 at 0.002 + 1,000 cached at 0.0005 + 1,000 at 0.01) per 1,000, over 4 completions
    assert cost_at(Price(Decimal("0.002"), Decimal("0.01"), Decimal("0.0005")), used) == Decimal("0.003625")
    assert cost_at(Price(Decimal("0.002"), Decimal("0.01"), None), used) == Decimal("0.004")
    assert cost_at(Price(Decimal(0), Decimal(0), None), used) == 0


@pytest.mark.parametrize("used", [None, Usage(0, 0, 0, 0), Usage(40, 0, 0, 0)])
def test_without_tokens_a_cost_is_unknown_not_nought(used: Usage | None) -> None:
    price = Price(Decimal("0.002"), Decimal("0.01"), None)
    assert cost_at(price, used) is None
    items = [Evidence("incumbent", totals(), Totals()), Evidence("p0", totals(cost="0.001"), Totals())]
    scores = ScopeScores(score_scope(RULES, "incumbent", items), NOW, "incumbent", RULES)
    tokens = {} if used is None else {Key("aurora", "essayist", "p0"): used}
    again = repriced(scores, {"p0": price}, tokens, "aurora", "essayist")
    assert [card.profile for card in again.ranked] == ["incumbent"]
    card = next(card for card in again.scorecards if card.profile == "p0")
    assert card.cost_per_completion is None
    assert card.why_not == ("cost unknown: 0 priced completions, 30 needed",)


def test_scores_of_an_older_release_are_not_guessed_at() -> None:
    scores = ScopeScores((), NOW, "incumbent", None)
    with pytest.raises(NoRules):
        repriced(scores, {"p0": Price(Decimal(1), Decimal(1), None)}, {}, "aurora", "essayist")
