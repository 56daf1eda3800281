"""Evidence of a difference, valid at every look: what each factor is, and that its mean is at most 1."""

from math import exp, isclose, log

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from routing.rollout.sequential import (
    BASELINES,
    ODDS_RATIOS,
    Counts,
    Null,
    evidence_against,
    evidence_of_steps,
    factors,
    lower_bound,
    rounded_share,
    stake,
    upper_bound,
)

rates = st.floats(0, 1)
harms = st.sampled_from([0.0, 0.005, 0.01, 0.02, 0.1]) | st.floats(-0.9, 0.9)
shares = st.sampled_from([0.0098, 0.049, 0.245, 0.49, 0.5, 0.98]) | st.floats(0.001, 0.999)
CELL = st.integers(0, len(BASELINES) * len(ODDS_RATIOS) - 1)


def mean(cell: tuple[float, float, float, float], share: float, treated: float, control: float) -> float:
    """Of the factor of one conversation, where these are the rates."""
    bad_t, good_t, bad_c, good_c = (exp(one) for one in cell)
    return share * (treated * bad_t + (1 - treated) * good_t) + (1 - share) * (
        control * bad_c + (1 - control) * good_c
    )


@given(st.sampled_from(Null), harms, shares, CELL, rates, rates)
def test_while_the_null_is_true_a_factor_is_at_most_1_in_the_mean(
    null: Null, harm: float, share: float, cell: int, treated: float, control: float
) -> None:
    assume((treated - control - harm) * null.value <= 0)
    assert mean(factors(null, harm, share)[cell], share, treated, control) <= 1 + 1e-8


@given(st.floats(0, 1), rates, rates, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_share_between_good_and_bad_counts_at_most_as_their_mean(
    share: float, bad: float, good: float, outcomes: list[float]
) -> None:
    for x in outcomes:
        assert (bad + 0.01) ** x * (good + 0.01) ** (1 - x) <= x * (bad + 0.01) + (1 - x) * (
            good + 0.01
        ) + 1e-12


def by_hand(base: float, ratio: float) -> float:
    """Of one failed conversation of the treated and one good one of control, half each: with no harm at all the
    nearest null gives both arms the mean of the alternative's rates."""
    odds = base / (1 - base) * ratio
    treated = odds / (1 + odds)
    both = (treated + base) / 2
    return treated / both * (1 - base) / (1 - both)


def test_one_failure_against_one_success_worked_out_by_hand() -> None:
    wanted = sum(by_hand(base, ratio) for base in BASELINES for ratio in ODDS_RATIOS) / 84
    assert exp(evidence_against(Null.AT_MOST, 0.0, Counts(1, 1, 1, 0))) == pytest.approx(wanted)


def divergence(
    share: float, treated: float, control: float, null_treated: float, null_control: float
) -> float:
    def of(p: float, q: float) -> float:
        return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))

    return share * of(treated, null_treated) + (1 - share) * of(control, null_control)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.98])
def test_the_null_is_the_one_nearest_to_the_alternative(share: float) -> None:
    # Control 12.8%, treated 14.8% with its odds down by 1.25, against a harm of at least 2 points.
    at = BASELINES.index(0.128) * len(ODDS_RATIOS) + ODDS_RATIOS.index(1.25)
    odds = 0.148 / 0.852 / 1.25
    treated = odds / (1 + odds)
    log_bad_treated, _, log_bad_control, _ = factors(Null.AT_LEAST, 0.02, share)[at]
    null_treated, null_control = treated / exp(log_bad_treated), 0.128 / exp(log_bad_control)
    assert null_treated - null_control == pytest.approx(0.02)
    nearest = min(range(1, 97_999), key=lambda n: divergence(share, treated, 0.128, n / 1e5 + 0.02, n / 1e5))
    assert null_control == pytest.approx(nearest / 1e5, abs=1.1e-5)


def test_without_one_of_the_arms_nothing_is_known() -> None:
    for counts in (Counts(0, 0, 0, 0), Counts(500, 50, 0, 0), Counts(0, 0, 500, 50)):
        assert evidence_against(Null.AT_MOST, 0.0, counts) == pytest.approx(0)
        assert evidence_against(Null.AT_LEAST, 0.02, counts) == pytest.approx(0)
        assert lower_bound([counts], 5, log(80), 0.0) == -1
        assert upper_bound(counts, log(20), 0.02) == 1
        assert counts.harm is None


COUNTED = st.tuples(
    st.integers(1, 3000), st.integers(1, 3000), st.floats(0, 1, width=16), st.floats(0, 1, width=16)
).map(lambda t: Counts(t[0], round(t[0] * t[2]), t[1], round(t[1] * t[3])))


@settings(max_examples=15)
@given(COUNTED)
def test_bounds_lie_where_the_evidence_reaches_the_threshold(counts: Counts) -> None:
    low, high = lower_bound([counts], 5, log(80), 0.0), upper_bound(counts, log(20), 0.02)
    assert counts.harm is not None
    assert low <= counts.harm <= high
    assert low == -1 or evidence_of_steps(low, [counts], 5) >= log(80)
    assert high == 1 or evidence_against(Null.AT_LEAST, high, counts) >= log(20)
    if -0.9 < low < 0.9:
        assert evidence_of_steps(low + 2e-4, [counts], 5) < log(80)
    if -0.9 < high < 0.9:
        assert evidence_against(Null.AT_LEAST, high - 2e-4, counts) < log(20)


@given(COUNTED)
def test_more_bad_outcomes_of_the_treated_are_more_evidence_of_harm(counts: Counts) -> None:
    assume(counts.bad_treated < counts.treated)
    worse = Counts(counts.treated, counts.bad_treated + 1, counts.control, counts.bad_control)
    assert evidence_of_steps(0.01, [worse], 5) >= evidence_of_steps(0.01, [counts], 5)
    assert evidence_against(Null.AT_LEAST, 0.02, worse) <= evidence_against(Null.AT_LEAST, 0.02, counts)


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_a_share_is_rounded_to_half_a_percent_of_the_smaller_arm(treated: float, control: float) -> None:
    share = rounded_share(treated, control)
    assert share is not None
    smaller = min(treated, control) / (treated + control)
    assert isclose(share if treated <= control else 1 - share, smaller, rel_tol=0.00502)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_the_stakes_of_all_steps_are_one_unit(steps: int) -> None:
    assert sum(stake(begin, steps) for begin in range(steps)) == pytest.approx(1)


def test_arms_are_compared_within_a_step_never_across_them() -> None:
    """Simpson's paradox: twice as many fail on the days of the second step, when far more are treated."""
    steps = [Counts(300, 30, 29_700, 2_970), Counts(4_000, 800, 4_000, 800)]
    together = [Counts(4_300, 830, 33_700, 3_770)]
    assert evidence_of_steps(0.0, together, 5) > log(80)
    assert evidence_of_steps(0.0, steps, 5) < 0


def test_harm_that_begins_with_a_later_step_is_not_drowned_by_the_good_days_before() -> None:
    good = [Counts(5_000, 500, 95_000, 9_500)] * 3
    bad = Counts(4_000, 580, 4_000, 400)
    assert evidence_of_steps(0.01, [*good, bad], 5) > log(80)
    assert evidence_of_steps(0.01, [*good, Counts(4_000, 400, 4_000, 400)], 5) < 0
