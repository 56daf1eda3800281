"""The SLA, clause by clause: PASS, FAIL or UNPROVEN. Pure.

A clause passes only when the data prove it at the persona's confidence; it fails only when they prove the
contrary; everything else, too few samples included, is unproven.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from routing.intervals import Bounds, wilson
from routing.priors import Prior
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
    requests slower than the SLA, and ``value`` counts all that may be. ``value`` and ``n`` are this scope's own;
    the bounds hold what the profile's record under other personas adds, its ``prior``. None: unknown."""

    clause: Clause
    verdict: Verdict
    value: float | None
    lower: float | None
    upper: float | None
    limit: float
    n: int
    prior: Prior | None = None

    def sentence(self) -> str:
        """For people: "success UNPROVEN: 0.810 to 0.902, SLA 0.850 (n=120)"."""
        lent = f" and {self.prior.weight:.0f} lent by other personas" if self.prior else ""
        sla = f"SLA {self.limit:.3f} (n={self.n}{lent})"
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


def own_minimum(min_samples: int) -> int:
    """So many samples must be the scope's own, however much the profile's record elsewhere lends: a sixth."""
    return ceil(min_samples / 6)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verdict takes: bounds at ``confidence`` from ``min_samples`` or more, of which other personas lend
    ``lent``. That is one number for all clauses of a profile: how many samples its record elsewhere is worth for
    success. For rare events a record is worth few samples however much is known; their bounds tell by themselves."""

    confidence: float
    min_samples: int
    lent: float = 0.0

    def is_enough(self, n: int) -> bool:
        """Whether ``n`` samples of the scope's own prove anything: enough by themselves, or with what is lent."""
        if not self.lent or n >= self.min_samples:
            return n >= self.min_samples
        return n >= own_minimum(self.min_samples) and n + self.lent >= self.min_samples


def at_least(
    clause: Clause, good: float, n: int, limit: float, proof: Proof, prior: Prior | None = None
) -> Gate:
    """A rate that must not be below ``limit``."""
    if n == 0:
        return Gate(clause, Verdict.UNPROVEN, None, None, None, limit, 0)
    bounds = _bounds(good, n, proof.confidence, prior)
    verdict = Verdict.UNPROVEN
    if proof.is_enough(n):
        if bounds.lower >= limit:
            verdict = Verdict.PASS
        elif bounds.upper < limit:
            verdict = Verdict.FAIL
    return Gate(clause, verdict, good / n, bounds.lower, bounds.upper, limit, n, prior)


def at_most(
    clause: Clause,
    certain: int,
    possible: int,
    n: int,
    limit: float,
    proof: Proof,
    prior: Prior | None = None,
) -> Gate:
    """A rate that must not be above ``limit``, when between ``certain`` and ``possible`` of ``n`` count.

    It passes by the possible ones and fails by the certain ones, so rounding never decides.
    """
    if n == 0:
        return Gate(clause, Verdict.UNPROVEN, None, None, None, limit, 0)
    most = _bounds(possible, n, proof.confidence, prior)
    least = most if certain == possible else _bounds(certain, n, proof.confidence, prior)
    bounds = Bounds(least.lower, most.upper)
    verdict = Verdict.UNPROVEN
    if proof.is_enough(n):
        if bounds.upper <= limit:
            verdict = Verdict.PASS
        elif bounds.lower > limit:
            verdict = Verdict.FAIL
    return Gate(clause, verdict, possible / n, bounds.lower, bounds.upper, limit, n, prior)


def _bounds(counted: float, n: int, confidence: float, prior: Prior | None) -> Bounds:
    """Wilson's, where a prior counts like samples of its own (a conjugate prior of a rate does)."""
    if prior is None:
        return wilson(counted, n, confidence)
    return wilson(counted + prior.mean * prior.weight, n + prior.weight, confidence)


def latency_gate(totals: Totals, sla_ms: int, proof: Proof, prior: Prior | None = None) -> Gate:
    """p95 <= SLA, judged by the share of requests slower than it, of those whose latency is known."""
    slower = slower_than(totals.latency, sla_ms)
    return at_most(
        Clause.LATENCY_P95,
        slower.certain,
        slower.possible,
        sum(totals.latency),
        SLOWER_SHARE,
        proof,
        prior,
    )
