import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.intervals import one_sided_z, wilson


@pytest.mark.parametrize(
    ("confidence", "z"), [(0.5, 0.0), (0.9, 1.281552), (0.95, 1.644854), (0.975, 1.959964), (0.99, 2.326348)]
)
def test_z_is_the_normal_quantile_of_one_side(confidence: float, z: float) -> None:
    assert one_sided_z(confidence) == pytest.approx(z, abs=1e-6)


@pytest.mark.parametrize(
    ("successes", "n", "lower", "upper"),
    # The 95% two-sided Wilson intervals of Newcombe, Statistics in Medicine 17 (1998), table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_bounds_are_those_published(successes: int, n: int, lower: float, upper: float) -> None:
    bounds = wilson(successes, n, 0.975)
    assert bounds.lower == pytest.approx(lower, abs=1e-4)
    assert bounds.upper == pytest.approx(upper, abs=1e-4)


def test_nothing_in_n_trials_has_a_closed_form() -> None:
    z2 = one_sided_z(0.9) ** 2
    assert wilson(0, 100, 0.9).upper == pytest.approx(z2 / (100 + z2))
    assert wilson(0, 100, 0.9).lower == 0.0
    assert wilson(100, 100, 0.9).upper == 1.0
    assert wilson(100, 100, 0.9).lower == pytest.approx(100 / (100 + z2))


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_bounds_hold_the_rate_and_lie_within_zero_and_one(n: int, share: float, confidence: float) -> None:
    successes = math.floor(n * share)
    bounds = wilson(successes, n, confidence)
    assert 0 <= bounds.lower <= successes / n + 1e-12
    assert successes / n - 1e-12 <= bounds.upper <= 1


@given(st.integers(1, 500), st.integers(0, 499))
def test_one_more_success_never_lowers_a_bound(n: int, successes: int) -> None:
    successes = min(successes, n - 1)
    less, more = wilson(successes, n, 0.9), wilson(successes + 1, n, 0.9)
    assert less.lower <= more.lower
    assert less.upper <= more.upper
