"""What the log cannot tell of a candidate, and that it is said."""

from collections.abc import Mapping
from typing import Any

import pytest

from routing.evaluating.estimators import Estimator
from routing.evaluating.evaluation import evaluate
from routing.evaluating.observations import Observation, pooled
from routing.evaluating.overlap import Verdict

HALF = {"a": 0.5, "b": 0.5}


def seen(
    n: int, profile: str, logged: Mapping[str, float], candidate: Mapping[str, float], **fields: Any
) -> Observation:
    values = {
        "cost_usd": 0.01,
        "success": True,
        "safety_violation": False,
        "escalated": False,
        "task": "code",
    }
    return Observation(
        conversation=f"c-{n}", profile=profile, logged=logged, candidate=candidate, **{**values, **fields}
    )


def test_a_candidate_that_the_log_has_tried_enough_overlaps() -> None:
    found = evaluate([seen(n, "ab"[n % 2], HALF, {"a": 1.0}) for n in range(200)]).overlap
    assert found.verdict is Verdict.ADEQUATE
    assert (found.effective, found.largest_weight, found.mean_weight) == pytest.approx((100, 2, 1))
    assert (found.unsupported, found.certain, found.off) == ({}, False, False)


def test_what_the_log_could_not_have_given_is_named_and_not_imputed() -> None:
    certain = [seen(n, "a", {"a": 1.0}, {"b": 0.75, "c": 0.25}) for n in range(60)]
    found = evaluate(certain)
    assert (found.overlap.verdict, found.overlap.certain) == (Verdict.NONE, True)
    assert found.overlap.unsupported == {"b": 0.75, "c": 0.25}
    for figure in found.figures.values():
        assert all(
            told.value.value is None and told.difference.value is None for told in figure.told.values()
        )
        assert figure.logged.value is not None


def test_a_small_part_is_left_to_the_model_and_widens_by_all_that_it_could_come_to() -> None:
    here = [seen(n, "ab"[n % 2], HALF, {"a": 1.0}, success=n % 3 > 0, cost_usd=0.02) for n in range(400)]
    missing = [seen(n, "a", {"a": 1.0}, {"b": 1.0}, cost_usd=0.05) for n in range(400, 408)]
    found, less = evaluate(here + missing), evaluate(here)
    assert found.overlap.unsupported_share == pytest.approx(8 / 408)
    rate, cost = found.figures["success_rate"], found.figures["cost_per_decision"]
    for figure in (rate, cost):
        assert figure.told[Estimator.IPS].value.value is figure.told[Estimator.SNIPS].value.value is None
    for name, most in (("success_rate", 1.0), ("cost_per_decision", 0.05)):
        wide, narrow = (one.figures[name].told[Estimator.DR].value for one in (found, less))
        assert wide.upper is not None
        assert narrow.upper is not None
        assert wide.value is not None
        assert wide.upper - wide.value > 8 / 408 * most
    # One part in twelve is too much.
    assert evaluate(here[:88] + missing).figures["success_rate"].told[Estimator.DR].value.value is None


def test_few_decisions_that_tell_it_all_are_poor_overlap() -> None:
    rare = {"a": 0.9, "b": 0.1}
    found = evaluate([seen(n, "b" if n % 10 == 0 else "a", rare, {"b": 1.0}) for n in range(200)]).overlap
    assert found.verdict is Verdict.POOR
    assert found.effective == pytest.approx(20)
    none = evaluate([seen(n, "b" if n % 10 == 0 else "a", rare, {"b": 1.0}) for n in range(60)])
    assert none.overlap.verdict is Verdict.NONE
    assert none.figures["success_rate"].told[Estimator.SNIPS].value.lower is None


def test_cut_weights_are_counted_and_their_loss_shows_in_the_mean() -> None:
    rare = {"a": 0.9, "b": 0.1}
    rows = [seen(n, "b" if n % 10 == 0 else "a", rare, {"b": 1.0}) for n in range(200)]
    found = evaluate(rows, clip=4.0).overlap
    assert (found.clipped, found.largest_weight, found.mean_weight) == pytest.approx((20, 4.0, 0.4))


def test_propensities_that_do_not_fit_what_was_given_are_noticed() -> None:
    # Said to be even, but nine of ten got a.
    lying = [seen(n, "b" if n % 10 == 0 else "a", HALF, {"a": 1.0}) for n in range(300)]
    found = evaluate(lying).overlap
    assert (found.off, found.verdict) == (True, Verdict.POOR)


def test_pooling_takes_the_mean_chances_of_the_same_task() -> None:
    rows = [
        seen(0, "a", {"a": 1.0}, {"b": 1.0}),
        seen(1, "b", HALF, {"b": 0.5, "c": 0.5}),
        seen(2, "d", {"d": 1.0}, {"d": 1.0}, task="chat"),
    ]
    first, second, other = pooled(rows)
    assert first.logged == second.logged == {"a": 0.75, "b": 0.25}
    assert first.candidate == second.candidate == {"b": 0.75, "c": 0.25}
    assert (other.logged, other.candidate) == ({"d": 1.0}, {"d": 1.0})
    # Alone the first could not tell of b; together they can.
    told = [seen(n, "ab"[n % 2], {"ab"[n % 2]: 1.0}, {"b": 1.0}, success=bool(n % 2)) for n in range(200)]
    assert evaluate(told).figures["success_rate"].told[Estimator.IPS].value.value is None
    assert evaluate(told, pool=True).figures["success_rate"].told[Estimator.IPS].value.value == pytest.approx(
        1.0
    )


def test_costs_are_of_decisions_whose_cost_is_known() -> None:
    rows = [seen(n, "ab"[n % 2], HALF, HALF, cost_usd=None if n < 40 else 0.03) for n in range(100)]
    cost = evaluate(rows).figures["cost_per_decision"]
    assert (cost.decisions, cost.logged.value) == pytest.approx((60, 0.03))
    unknown = evaluate([seen(n, "a", HALF, HALF, cost_usd=None) for n in range(20)]).figures[
        "cost_per_decision"
    ]
    assert (unknown.decisions, unknown.logged.value) == (0, None)


def test_the_same_policy_differs_by_nothing() -> None:
    rows = [seen(n, "ab"[n % 2], HALF, HALF, success=n % 3 > 0) for n in range(100)]
    for told in evaluate(rows).figures["success_rate"].told.values():
        assert (told.difference.value, told.difference.standard_error) == pytest.approx((0, 0))


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no observations"):
        evaluate([])
