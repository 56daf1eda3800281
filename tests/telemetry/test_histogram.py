import math

from hypothesis import given
from hypothesis import strategies as st

from telemetry import histogram

LATENCIES = st.lists(st.integers(1, 3_600_000), min_size=1, max_size=200)


def counts(latencies: list[int]) -> tuple[int, ...]:
    table = [0] * histogram.BUCKETS
    for latency in latencies:
        table[histogram.bucket_of(latency)] += 1
    return tuple(table)


def test_bucket_bounds_double_every_eight_buckets() -> None:
    assert [histogram.bucket_of(2**power) for power in range(21)] == [8 * power for power in range(21)]


def test_zero_falls_into_the_first_bucket_and_an_hour_into_a_real_one() -> None:
    assert histogram.bucket_of(0) == 0
    assert histogram.bucket_of(3_600_000) < histogram.BUCKETS


def test_no_latencies_have_no_quantile() -> None:
    assert histogram.quantile((), 0.95) is None
    assert histogram.quantile((0, 0), 0.5) is None


@given(LATENCIES, st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_the_stated_error_of_the_nearest_rank(latencies: list[int], q: float) -> None:
    exact = sorted(latencies)[max(math.ceil(q * len(latencies) - 1e-9), 1) - 1]
    told = histogram.quantile(counts(latencies), q)
    assert told is not None
    # Below 11 ms a bucket is narrower than a millisecond, so rounding to whole ones adds up to 1 ms.
    assert abs(told - exact) <= exact * histogram.RELATIVE_ERROR + 1e-6


@given(LATENCIES, LATENCIES)
def test_merging_counts_is_counting_all_at_once(one: list[int], other: list[int]) -> None:
    assert histogram.merge([counts(one), counts(other)]) == counts(one + other)


def test_histograms_of_different_lengths_merge() -> None:
    assert histogram.merge([(1,), (0, 2), ()]) == (1, 2)


@given(LATENCIES, st.integers(1, 3_600_000))
def test_the_number_of_slower_requests_lies_between_certain_and_possible(
    latencies: list[int], limit: int
) -> None:
    slower = histogram.slower_than(counts(latencies), limit)
    assert slower.certain <= sum(latency > limit for latency in latencies) <= slower.possible
