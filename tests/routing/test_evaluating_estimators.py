"""IPS, SNIPS and DR by hand-computed small cases."""

from math import sqrt

import pytest

from routing.evaluating.estimators import (
    Estimator,
    Row,
    difference,
    effective_conversations,
    estimated,
    interval,
    logged,
    logged_by_model,
    student,
)
from routing.evaluating.model import FOLDS, PRIOR, cross_fit
from routing.evaluating.observations import Observation
from routing.flag_state import stable_share
from routing.intervals import wilson

#: weight, reward, modelled, expected
THREE = [
    Row(0, 2.0, 1.0, modelled=0.5, modelled_logged=0.6, expected=0.4),
    Row(1, 0.5, 0.0, modelled=0.5, modelled_logged=0.6, expected=0.4),
    Row(2, 0.0, 1.0, modelled=0.5, modelled_logged=0.6, expected=0.8),
]


@pytest.mark.parametrize(
    ("estimator", "value", "error"),
    [
        # (2 x 1 + 0.5 x 0 + 0 x 1) / 3; parts 2, 0, 0 have the standard deviation 1.1547.
        (Estimator.IPS, 2 / 3, 2 / 3),
        # 2 / 2.5; errors 3/2.5 x (2 x 0.2, 0.5 x -0.8, 0) = 0.48, -0.48, 0.
        (Estimator.SNIPS, 0.8, sqrt(2 * 0.48**2 * 3 / 2) / 3),
        # 0.5 + 2 x 0.6, 0.5 - 0.5 x 0.4, 0.5: 1.7, 0.3 and 0.5, which are 2.5 / 3 on the mean.
        (Estimator.DR, 2.5 / 3, sqrt(((1.7 - 2.5 / 3) ** 2 + (0.3 - 2.5 / 3) ** 2 + (1 / 3) ** 2) / 2 / 3)),
    ],
)
def test_three_decisions(estimator: Estimator, value: float, error: float) -> None:
    found = estimated(THREE, estimator, is_rate=False)
    assert found is not None
    told = interval(found, THREE)
    assert told.value == pytest.approx(value)
    assert told.standard_error == pytest.approx(error)
    assert (told.lower, told.upper) == (None, None)  # three conversations vouch for nothing


def test_the_logged_policy_is_the_plain_mean_and_by_the_model_what_it_did_not_expect() -> None:
    assert logged(THREE, is_rate=True).value == pytest.approx(2 / 3)
    # 0.6 + 1 - 0.4, 0.6 + 0 - 0.4, 0.6 + 1 - 0.8
    assert logged_by_model(THREE, is_rate=True).value == pytest.approx((1.2 + 0.2 + 0.8) / 3)


def test_differences_are_of_the_same_rows() -> None:
    ips = estimated(THREE, Estimator.IPS, is_rate=False)
    assert ips is not None
    told = difference(ips, logged(THREE, is_rate=False), THREE)
    # (w - 1) r: 1, 0 and -1.
    assert told.value == pytest.approx(0.0)
    assert told.standard_error == pytest.approx(1 / sqrt(3))


def test_decisions_of_one_conversation_are_one_witness() -> None:
    together = [row for row in THREE for _ in range(4)]
    apart = [Row(n, row.weight, row.reward) for n, row in enumerate(together)]
    one, four = (
        estimated(together, Estimator.IPS, is_rate=False),
        estimated(apart, Estimator.IPS, is_rate=False),
    )
    assert one is not None
    assert four is not None
    assert interval(one, together).standard_error == pytest.approx(2 / 3)
    # Were they independent, twelve decisions of the same spread: (8/9) x 12/11 / 12.
    assert interval(four, apart).standard_error == pytest.approx(sqrt(8 / 9 / 11))


def test_kishs_effective_sample_size_is_of_conversations() -> None:
    rows = [Row(0, 1, 0), Row(1, 1, 0), Row(2, 1, 0), Row(2, 1, 0)]
    assert effective_conversations(rows, [1, 1, 1, 1]) == pytest.approx(16 / 6)
    assert effective_conversations(rows, [0, 0, 0, 0]) == 0


def test_the_interval_takes_as_many_degrees_of_freedom_as_conversations_are_worth() -> None:
    rows = [Row(n, 1.0, float(n % 2)) for n in range(12)]
    told = interval(logged(rows, is_rate=True), rows)
    half = 2.200985 * sqrt(0.25 * 12 / 11 / 12)  # t at 11 degrees of freedom
    assert (told.lower, told.upper) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-3)
    assert [student(v) for v in (9, 30, 1000)] == pytest.approx([2.262157, 2.042272, 1.962339], abs=1e-3)


def test_what_never_happened_is_not_proved_impossible() -> None:
    rows = [Row(n, 1.0, 0.0) for n in range(40)]
    never = logged(rows, is_rate=True)
    told = interval(never, rows)
    assert (told.lower, told.upper) == pytest.approx((0.0, wilson(0, 40, 0.975).upper))
    ips = estimated(rows, Estimator.IPS, is_rate=True)
    assert ips is not None
    less = difference(ips, never, rows)
    assert (less.lower, less.upper) == pytest.approx((-(told.upper or 0), told.upper))
    # Of money, that all cost the same is no few's word.
    assert interval(logged(rows, is_rate=False), rows).upper == 0.0


def test_without_any_weight_nothing_is_told() -> None:
    assert estimated([Row(n, 0.0, 1.0) for n in range(20)], Estimator.SNIPS, is_rate=True) is None


def test_the_model_shrinks_and_has_never_seen_the_conversation_that_it_judges() -> None:
    def seen(conversation: str, profile: str, task: str) -> Observation:
        chances = {"a": 0.25, "b": 0.75}
        return Observation(conversation, task, profile, chances, {"b": 1.0}, 1.0, True, False, False)

    # Four decisions of one conversation, and one of another fold.
    rows = [
        seen("c-0", "a", "code"),
        seen("c-0", "b", "code"),
        seen("c-0", "b", "chat"),
        seen("c-0", "b", "chat"),
    ]
    rows.append(next(seen(f"c-{n}", "b", "code") for n in range(1, 50) if _fold(f"c-{n}") != _fold("c-0")))
    models = cross_fit(rows, [4.0, 1.0, 2.0, 3.0, 9.0])
    # The first conversation's model knows only the other's reward, 9.
    assert models[0].given == pytest.approx(9.0)
    # The other's: all 10 / 4 = 2.5; a: (4 + 10 x 2.5) / 11; b: (6 + 10 x 2.5) / 13; b at code: (1 + 10 b) / 11.
    a, b = (4 + PRIOR * 2.5) / (1 + PRIOR), (6 + PRIOR * 2.5) / (3 + PRIOR)
    at_code = {"a": (4 + PRIOR * a) / (1 + PRIOR), "b": (1 + PRIOR * b) / (1 + PRIOR)}
    assert models[4].given == models[4].candidate == pytest.approx(at_code["b"])
    assert models[4].logged == pytest.approx(0.25 * at_code["a"] + 0.75 * at_code["b"])


def _fold(conversation: str) -> int:
    return int(stable_share("evaluate/fold", "", conversation) * FOLDS)
