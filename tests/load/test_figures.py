"""What a load test says of requests and ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load.figures import Asked, count_ids, count_of, lowest_rate, percentile, summaries


def test_a_percentile_is_the_nearest_rank() -> None:
    ordered = [float(n) for n in range(1, 21)]
    assert [percentile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0)] == [10, 19, 20, 20]
    assert percentile([7.0], 0.5) == 7.0


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_at_least_that_share_lies_at_or_below_a_percentile_and_less_below(
    values: list[float], share: float
) -> None:
    found = percentile(sorted(values), share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


def test_requests_are_told_by_name_with_errors_and_rate() -> None:
    asked = [Asked("select", n / 10, ms=5.0, error="status 500" if n == 3 else None) for n in range(101)]
    select, ready = summaries([Asked("ready", 0, ms=1.0), *asked])
    assert (select.name, select.count, select.errors, select.rps) == ("select", 101, 1, 10.0)
    assert (select.p50, select.p99, select.most) == (5.0, 5.0, 5.0)
    assert (ready.count, ready.rps, ready.lowest_rps) == (1, None, None)


def test_a_stall_shows_in_the_lowest_rate_though_the_average_hides_it() -> None:
    times = [n / 10 for n in range(600) if not 20 <= n / 10 < 28]
    assert lowest_rate(times) == pytest.approx(2.0)


def test_a_run_of_less_than_two_windows_has_no_lowest_rate() -> None:
    assert lowest_rate([n / 10 for n in range(150)]) is None
    assert lowest_rate([]) is None


def test_ids_that_are_all_there_once_are_exact() -> None:
    assert count_ids("x", ["a", "b"], ["b", "a"]).is_exact


@pytest.mark.parametrize(
    ("found", "missing", "extra", "twice"),
    [
        (["a"], 1, 0, 0),
        (["a", "b", "c"], 0, 1, 0),
        (["a", "b", "b"], 0, 0, 1),
        # As many as expected, and yet wrong.
        (["a", "c"], 1, 1, 0),
        (["a", "a"], 1, 0, 1),
    ],
)
def test_ids_that_are_lost_unknown_or_doubled_are_told_apart(
    found: list[str], missing: int, extra: int, twice: int
) -> None:
    count = count_ids("decisions", ["a", "b"], found)
    assert (count.missing, count.extra, count.twice, count.is_exact) == (missing, extra, twice, False)
    assert f"{missing} missing" in count.sentence()


def test_an_id_that_was_acknowledged_twice_is_told_too() -> None:
    assert count_ids("x", ["a", "a"], ["a"]).twice == 1


def test_of_numbers_alone_too_few_are_missing_and_too_many_were_counted_twice() -> None:
    assert count_of("x", 5, 5).is_exact
    assert count_of("x", 5, 3).missing == 2
    assert count_of("x", 5, 6).twice == 1
