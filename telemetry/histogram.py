"""The latency distribution of a roll-up: a fixed exponential histogram, 8 buckets an octave.

Bucket ``i`` counts latencies in ``[2 ** (i / 8), 2 ** ((i + 1) / 8))`` milliseconds. The bounds never
change, so counts of any buckets, tenants or engines merge by adding them, exactly; a t-digest or a
stored p95 cannot do that (ENGINES: aggregate states do not move between ClickHouse versions).

Pure: no Django, no I/O.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from math import ceil

BUCKETS_PER_OCTAVE = 8
#: 22 octaves: 1 ms to 4,194 s, which is above the longest latency an event may carry (one hour).
BUCKETS = 22 * BUCKETS_PER_OCTAVE
#: A quantile read from the histogram is off by at most this share of its value, either way: the
#: geometric middle of a bucket is 2 ** (1 / 16) away from both of its edges.
RELATIVE_ERROR = 2 ** (1 / (2 * BUCKETS_PER_OCTAVE)) - 1

_LOWER = tuple(2 ** (i / BUCKETS_PER_OCTAVE) for i in range(BUCKETS + 1))
# Latencies are whole milliseconds, so whole bounds decide the bucket without floating point.
_WHOLE_LOWER = tuple(ceil(bound) for bound in _LOWER[:BUCKETS])


def bucket_of(latency_ms: int) -> int:
    """The bucket (0 to BUCKETS - 1) that counts a latency of whole milliseconds."""
    return max(bisect_right(_WHOLE_LOWER, latency_ms) - 1, 0)


def merge(histograms: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Add histograms bucket by bucket; shorter ones count as padded with zeros."""
    return tuple(sum(column) for column in zip_longest(*histograms, fillvalue=0))


def quantile(counts: Sequence[int], q: float) -> float | None:
    """The ``q`` quantile (0 < q <= 1) in milliseconds, within RELATIVE_ERROR; None when empty.

    It is the nearest-rank quantile: the value of the ``ceil(q * n)``-th smallest latency.
    """
    cumulative = list(accumulate(counts))
    if not cumulative or cumulative[-1] == 0:
        return None
    # The small subtraction keeps e.g. 0.95 * 20 (19.000000000000004 in floats) at rank 19.
    rank = max(ceil(q * cumulative[-1] - 1e-9), 1)
    index = bisect_left(cumulative, rank)
    return float((_LOWER[index] * _LOWER[index + 1]) ** 0.5)


@dataclass(frozen=True, slots=True)
class SlowerThan:
    """How many latencies exceed a limit: the limit falls inside one bucket, so between two counts."""

    certain: int
    possible: int


def slower_than(counts: Sequence[int], limit_ms: int) -> SlowerThan:
    """Requests slower than ``limit_ms`` (strictly): ``certain`` leaves the limit's own bucket out,
    ``possible`` counts all of it, so the truth lies between them."""
    limit_bucket = bucket_of(limit_ms)
    certain = sum(counts[limit_bucket + 1 :])
    own = counts[limit_bucket] if limit_bucket < len(counts) else 0
    return SlowerThan(certain=certain, possible=certain + own)
