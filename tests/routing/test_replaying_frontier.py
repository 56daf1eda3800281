"""AIQ by cases computed by hand."""

from dataclasses import astuple
from decimal import Decimal

import pytest

from routing.replaying.frontier import SWEEP, aiq, frontier, hull, tilted
from routing.replaying.outcomes import record
from routing.replaying.run import Policy
from routing.rules import ScoringRules, Sla, Weights
from tests.routing.recorded import TRUSTING, at_random, call


def test_the_hull_keeps_what_mixing_cannot_beat() -> None:
    # (2, 0.3) costs more for less; (3, 0.6) lies under the line from (1, 0.5) to (4, 0.9).
    assert hull([(4, 0.9), (2, 0.3), (1, 0.5), (3, 0.6), (5, 0.8)]) == [(0, 0), (1, 0.5), (4, 0.9)]


def test_of_two_points_at_one_cost_the_better_counts() -> None:
    assert hull([(1, 0.2), (1, 0.5)]) == [(0, 0), (1, 0.5)]


def test_aiq_is_the_mean_height_between_two_costs() -> None:
    # From 1 to 3 the hull rises from 0.5 to 0.9 (mean 0.7), and stays there from 3 to 5.
    assert aiq([(1, 0.5), (3, 0.9)], 1, 5) == pytest.approx((2 * 0.7 + 2 * 0.9) / 4)
    # Below its first point a router mixes with answering nothing: 0.45 at half the cost of 0.9.
    assert aiq([(2, 0.9)], 1, 3) == pytest.approx(((0.45 + 0.9) / 2 + 0.9) / 2)


def test_a_free_model_lifts_the_hull_from_its_start() -> None:
    assert aiq([(0, 0.4), (2, 0.8)], 0, 2) == pytest.approx(0.6)


def test_without_points_or_a_range_there_is_no_aiq() -> None:
    assert aiq([], 1, 2) is aiq([(1, 1)], 1, 1) is aiq([(1, 1)], None, None) is None


def test_the_sweep_keeps_the_proportion_of_success_and_latency() -> None:
    assert astuple(tilted(Weights(0.5, 0.3, 0.2), 0.0)) == pytest.approx((0.0, 0.6, 0.4))
    assert tilted(Weights(1.0, 0.0, 0.0), 0.5) == Weights(0.5, 0.25, 0.25)
    for cost in SWEEP:
        weights = tilted(Weights(), cost)
        assert weights.cost + weights.success + weights.latency == pytest.approx(1)


def test_the_zero_router_is_all_single_models_mixed() -> None:
    recording = record(
        [
            call(f"p{n:02d}", model, cost_usd=Decimal(cost), success=model == "dear" or n % 2 == 0)
            for n in range(40)
            for model, cost in (("cheap", "0.01"), ("dear", "0.03"))
        ]
    )
    found = frontier(recording, Policy(ScoringRules(Sla(0.9, 10_000, 1.0)), "dear"))
    assert (found.cheapest, found.dearest) == pytest.approx((0.01, 0.03))
    assert found.zero_router == pytest.approx(0.75)
    # "cheap" is never proved, so the policy gives "dear" at every weight, and mixes it with nothing below.
    assert [weight for weight, _ in found.points] == list(SWEEP)
    for _, point in found.points:
        assert point == pytest.approx((0.03, 1.0))
    assert found.policy == pytest.approx((1 / 3 + 1) / 2)


def test_a_frontier_is_the_same_for_one_seed() -> None:
    recording = at_random(40, ["a", "b", "inc"])
    policy = Policy(TRUSTING, "inc", exploration=0.2)
    assert frontier(recording, policy, splits=3, seed=1) == frontier(recording, policy, splits=3, seed=1)
