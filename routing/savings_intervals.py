"""Intervals of differences between two arms whose conversations, not completions, are independent. Pure.

A ratio of sums over conversations (cost per completion, say) has no exact variance; the delta method's is

    Var(Y/X) = n/(n - 1) * sum((y_i - R x_i)^2) / X^2,    R = Y/X,

over the n conversations' own sums (W. G. Cochran, *Sampling Techniques*, 3rd ed. 1977, 6.3 and 9A; A. Deng, U. Knoblich
and J. Lu, "Applying the Delta Method in Metric Analytics", KDD 2018). Completions of one conversation are alike:
taken for independent they would make intervals too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from routing.intervals import wilson

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the bounds of its two-sided 95% interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Clustered:
    """A ratio of two sums over ``n`` >= 2 conversations: ``x`` > 0 below, ``y`` above; ``xx``, ``yy`` and ``xy`` are
    sums over conversations of squares and products."""

    n: int
    x: float
    y: float
    xx: float
    yy: float
    xy: float

    @property
    def ratio(self) -> float:
        return self.y / self.x

    @property
    def variance(self) -> float:
        """Of the ratio, by the delta method."""
        r = self.ratio
        # Differences of large sums: where all conversations are alike, rounding may leave less than nothing.
        residuals = max(self.yy - 2 * r * self.xy + r * r * self.xx, 0.0)
        return self.n / (self.n - 1) * residuals / (self.x * self.x)


@dataclass(frozen=True, slots=True)
class Part:
    """One independent share of a variance, known from ``n`` conversations."""

    variance: float
    n: int


def quantile(parts: Sequence[Part]) -> float:
    """How many standard errors reach to a two-sided 95% interval's end: Student's t with the degrees of freedom of
    Welch (*Biometrika* 34, 1947) and Satterthwaite (*Biometrics Bulletin* 2, 1946)."""
    total = sum(part.variance for part in parts)
    doubt = sum(part.variance**2 / (part.n - 1) for part in parts)
    if doubt <= 0:
        return _Z
    return _student(total * total / doubt)


def _student(df: float) -> float:
    """Abramowitz and Stegun, 26.7.5; off by less than 0.001 from 5 degrees of freedom on."""
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / df**power for power, term in enumerate(terms, 1))


def around(value: float, parts: Sequence[Part]) -> Estimate:
    """The interval of a sum or difference whose variance is the sum of these independent parts."""
    half = quantile(parts) * sqrt(sum(part.variance for part in parts))
    return Estimate(value, value - half, value + half)


def weighted_rate(strata: Sequence[tuple[float, Clustered]]) -> Estimate:
    """A rate in [0, 1] over strata with these weights (they sum to 1), with Wilson's interval at the effective sample
    size: the number of independent trials that would tell as much.

    E. L. Korn and B. I. Graubard, *Survey Methodology* 24, 1998: p(1 - p) / variance, not more than the completions
    themselves would count, and corrected for the degrees of freedom. Where every conversation is alike, so that the
    variance says nothing (no violation at all, say), a conversation counts as one trial.
    """
    rate = min(max(sum(weight * one.ratio for weight, one in strata), 0.0), 1.0)
    parts = [Part(weight * weight * one.variance, one.n) for weight, one in strata]
    variance = sum(part.variance for part in parts)
    spread = rate * (1 - rate)
    if variance > 0 and spread > 0:
        most = 1 / sum(weight * weight / one.x for weight, one in strata)
        trials = min(spread / variance, most) * (_Z / quantile(parts)) ** 2
    else:
        trials = 1 / sum(weight * weight / one.n for weight, one in strata)
    bounds = wilson(rate * trials, trials, (1 + CONFIDENCE) / 2)
    return Estimate(rate, bounds.lower, bounds.upper)


def rate_difference(first: Estimate, second: Estimate) -> Estimate:
    """``first`` less ``second``, of independent rates with intervals of their own.

    R. G. Newcombe, *Statistics in Medicine* 17, 1998, method 10; for strata X. Yan and X. G. Su, *Statistics in
    Biopharmaceutical Research* 2, 2010.
    """
    value = first.value - second.value
    down = sqrt((first.value - first.lower) ** 2 + (second.upper - second.value) ** 2)
    up = sqrt((first.upper - first.value) ** 2 + (second.value - second.lower) ** 2)
    return Estimate(value, value - down, value + up)
