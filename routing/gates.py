"""The SLA, clause by clause: PASS, FAIL or UNPROVEN. Pure.

A clause passes only when the data prove it at the persona's confidence; it fails only when they prove the
contrary; everything else, too few samples included, is unproven.
"""

from dataclasses import dataclass
from enum import StrEnum

from routing.intervals import Bounds, wilson
from telemetry.histogram import slower_than
from telemetry.totals import Totals

#: p95 <= SLA means that at most this share of requests is slower.
SLOWER_SHARE = 0.05


class Verdict(StrEnum):
    PASS = "PASS"  # noqa: S105  # a verdict
    FAIL = "FAIL"
    UNPROVEN = "UNPROVEN"


class Clause(StrEnum):
    SUCCESS = "success"
    LATENCY_P95 = "latency_p95"
    SAFETY = "safety"
    ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Gate:
    """One clause's verdict with what it rests on. Rates are 0 to 1; for latency they are the share of
    requests slower than the SLA, and ``value`` counts all that may be. None: unknown."""

    clause: Clause
    verdict: Verdict
    value: float | None
    lower: float | None
    upper: float | None
    limit: float
    n: int

    def sentence(self) -> str:
        """For people: "success UNPROVEN: 0.810 to 0.902, SLA 0.850 (n=120)"."""
        sla = f"SLA {self.limit:.3f} (n={self.n})"
        if self.lower is None or self.upper is None:
            return f"{self.clause.value}: no samples, {sla}"
        told = f"{self.clause.value} {self.verdict.value}: {self.lower:.3f} to {self.upper:.3f}"
        what = " of requests slower" if self.clause is Clause.LATENCY_P95 else ""
        few = ", too few samples" if self._proves_something and self.verdict is Verdict.UNPROVEN else ""
        return f"{told}{what}, {sla}{few}"

    @property
    def _proves_something(self) -> bool:
        """Whether the bounds lie on one side of the limit, so that only the sample size is in the way."""
        assert self.lower is not None and self.upper is not None  # noqa: S101, PT018  # looked at before
        if self.clause in (Clause.SUCCESS, Clause.ACCURACY):
            return self.lower >= self.limit or self.upper < self.limit
        return self.upper <= self.limit or self.lower > self.limit


def at_least(clause: Clause, good: float, n: int, limit: float, confidence: float, min_samples: int) -> Gate:
    """A rate that must not be below ``limit``."""
    if n == 0:
        return Gate(clause, Verdict.UNPROVEN, None, None, None, limit, 0)
    bounds = wilson(good, n, confidence)
    verdict = Verdict.UNPROVEN
    if n >= min_samples:
        if bounds.lower >= limit:
            verdict = Verdict.PASS
        elif bounds.upper < limit:
            verdict = Verdict.FAIL
    return Gate(clause, verdict, good / n, bounds.lower, bounds.upper, limit, n)


def at_most(
    clause: Clause, certain: int, possible: int, n: int, limit: float, confidence: float, min_samples: int
) -> Gate:
    """A rate that must not be above ``limit``, when between ``certain`` and ``possible`` of ``n`` count.

    It passes by the possible ones and fails by the certain ones, so rounding never decides.
    """
    if n == 0:
        return Gate(clause, Verdict.UNPROVEN, None, None, None, limit, 0)
    most = wilson(possible, n, confidence)
    least = most if certain == possible else wilson(certain, n, confidence)
    bounds = Bounds(least.lower, most.upper)
    verdict = Verdict.UNPROVEN
    if n >= min_samples:
        if bounds.upper <= limit:
            verdict = Verdict.PASS
        elif bounds.lower > limit:
            verdict = Verdict.FAIL
    return Gate(clause, verdict, possible / n, bounds.lower, bounds.upper, limit, n)


def latency_gate(totals: Totals, sla_ms: int, confidence: float, min_samples: int) -> Gate:
    """p95 <= SLA, judged by the share of requests slower than it, of those whose latency is known."""
    slower = slower_than(totals.latency, sla_ms)
    return at_most(
        Clause.LATENCY_P95,
        slower.certain,
        slower.possible,
        sum(totals.latency),
        SLOWER_SHARE,
        confidence,
        min_samples,
    )
