"""What came of requests: counts, percentiles, rates. Pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

#: Seconds over which the lowest rate is looked for.
WINDOW = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it was sent (Unix time), how long its answer took, and what was wrong with it."""

    name: str
    at: float
    ms: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one kind of request; times in milliseconds, of all requests, failed ones too. ``lowest_rps`` is the rate of
    the slowest WINDOW seconds, None for a run shorter than two windows; ``rps`` is None for one shorter than one."""

    name: str
    count: int
    errors: int
    rps: float | None
    lowest_rps: float | None
    p50: float
    p95: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Count:
    """Ids that had to be found somewhere, and those that were: all of them, no other, none twice."""

    what: str
    expected: int
    missing: int
    extra: int
    twice: int

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.extra or self.twice)

    def sentence(self) -> str:
        return f"{self.what}: of {self.expected} {self.missing} missing, {self.extra} unknown, {self.twice} twice"


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value with at least ``share`` of all at or below it. ValueError: no values."""
    if not ordered:
        raise ValueError("no values have no percentile")
    # Products such as 0.95 * 20 lie a hair above the whole number.
    return ordered[max(ceil(share * len(ordered) - 1e-9), 1) - 1]


def summaries(asked: Iterable[Asked]) -> list[Summary]:
    """By name, the most frequent first."""
    groups: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        groups[one.name].append(one)
    return sorted((_summary(name, group) for name, group in groups.items()), key=lambda one: -one.count)


def _summary(name: str, group: Sequence[Asked]) -> Summary:
    ordered = sorted(one.ms for one in group)
    first, last = min(one.at for one in group), max(one.at for one in group)
    return Summary(
        name=name,
        count=len(group),
        errors=sum(one.error is not None for one in group),
        # Of n requests n - 1 lie between the first and the last.
        rps=(len(group) - 1) / (last - first) if last - first >= WINDOW else None,
        lowest_rps=lowest_rate([one.at for one in group]),
        p50=percentile(ordered, 0.5),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        most=ordered[-1],
    )


def lowest_rate(times: Iterable[float], window: int = WINDOW) -> float | None:
    """Of whole windows since the first request, the lowest number per second; the last, cut off, is left out."""
    ordered = sorted(times)
    windows = int((ordered[-1] - ordered[0]) // window) if ordered else 0
    if windows < 2:
        return None
    counts = Counter(int((at - ordered[0]) // window) for at in ordered)
    return min(counts[number] for number in range(windows)) / window


def count_ids(what: str, expected: Collection[str], found: Iterable[str]) -> Count:
    """``twice``: ids that were found, or expected, more than once."""
    wanted, there = Counter(expected), Counter(found)
    return Count(
        what=what,
        expected=len(expected),
        missing=len(wanted.keys() - there.keys()),
        extra=len(there.keys() - wanted.keys()),
        twice=sum(n > 1 for n in wanted.values()) + sum(n > 1 for n in there.values()),
    )


def count_of(what: str, expected: int, found: int) -> Count:
    """Where only numbers are known: too few are missing, too many were counted twice."""
    return Count(what, expected, missing=max(expected - found, 0), extra=0, twice=max(found - expected, 0))
