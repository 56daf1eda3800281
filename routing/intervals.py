"""One-sided confidence bounds of a rate. Pure.

Wilson's score interval (E. B. Wilson, JASA 22, 1927; recommended by Brown, Cai, DasGupta, Statistical
Science 16, 2001): unlike the textbook interval it stays within [0, 1] and holds for small samples and
rates near 0 or 1, which is where SLAs live.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Bounds:
    """Each holds by itself at the confidence asked for."""

    lower: float
    upper: float


@lru_cache(maxsize=1024)
def one_sided_z(confidence: float) -> float:
    """The normal quantile of a one-sided confidence, 0.5 to below 1: 0.9 -> 1.2816."""
    return NormalDist().inv_cdf(confidence)


def wilson(successes: float, n: float, confidence: float) -> Bounds:
    """Lower and upper one-sided bounds of a rate seen ``successes`` times in ``n`` > 0 trials.

    ``n`` may be an effective number of trials, and ``successes`` the sum of scores in [0, 1]: the variance of such
    a mean is at most p (1 - p), so the bounds are then wider than need be, never narrower.
    """
    z = one_sided_z(confidence)
    p = min(max(successes / n, 0.0), 1.0)
    z2n = z * z / n
    centre = p + z2n / 2
    half = z * sqrt(p * (1 - p) / n + z2n / (4 * n))
    scale = 1 + z2n
    lower = (centre - half) / scale
    upper = (centre + half) / scale
    # At the ends the formula is exact but for rounding.
    return Bounds(
        lower=0.0 if p == 0.0 else max(lower, 0.0),
        upper=1.0 if p == 1.0 else min(upper, 1.0),
    )
