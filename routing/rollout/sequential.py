"""Evidence about the difference of two arms' rates that may be looked at after every conversation. Pure.

The harm is the treated's rate of bad outcomes less control's. Against "the harm is at most d" (or "at least d") stands
an e-process: a product with one factor per conversation whose mean is at most 1 while that is true. By Ville's
inequality it ever reaches 1/alpha with probability alpha or less, whenever and however often one looks.

The factor is the likelihood ratio of an alternative to the distribution of the null hypothesis nearest to it, in the
sense of Kullback and Leibler: R. Turner, A. Ly and P. Grünwald, "Generic E-variables for exact sequential k-sample
tests that allow for optional stopping", *J. Statistical Planning and Inference* 230, 2024; for nulls of a difference
R. Turner and P. Grünwald, "Exact anytime-valid confidence intervals for contingency tables and beyond", *Statistics and
Probability Letters* 198, 2023. Here a conversation is drawn into an arm, so a factor is of one arm and one outcome:
there are four, and the product depends on four sums alone. For a share x between good and bad the factor is bad**x *
good**(1-x): by convexity no more than the mean of the two, so a mean is all that is assumed of x. An average of
e-processes is one, which is how alternatives are joined (H. Robbins, *Annals of Mathematical Statistics* 41, 1970: the
method of mixtures).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from math import exp, inf, log

Logs = tuple[float, float, float, float]
"""Logarithms of the factors of one conversation: treated bad, treated good, control bad, control good."""

# Control's rates and odds ratios of the alternatives: evenly spaced by logarithm, so that one is near any truth.
BASELINES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.5, 0.75)
ODDS_RATIOS = (1.05, 1.1, 1.25, 1.55, 2.2, 4.0, 9.0)
_LEAST = 5e-5
_SHARE_STEP = 0.01
# What a slope that is not quite 0 adds to a factor's mean, at most: nothing after a million conversations.
_FLAT = 1e-10
_NOTHING: Logs = (0.0, 0.0, 0.0, 0.0)
# A search for a bound: to a hundredth of a point, which is what is shown, and by evidence of this much off.
_BOUND_TO = 1e-4
_FAR = 9.0
_MOST = 0.995


class Null(Enum):
    """What an e-process is evidence against."""

    AT_MOST = 1
    AT_LEAST = -1


@dataclass(frozen=True, slots=True)
class Counts:
    """Trials of both arms and how many turned out badly; fractions are allowed."""

    treated: float
    bad_treated: float
    control: float
    bad_control: float

    @property
    def harm(self) -> float | None:
        """None while an arm is empty."""
        if self.treated <= 0 or self.control <= 0:
            return None
        return self.bad_treated / self.treated - self.bad_control / self.control


def evidence_against(null: Null, harm: float, counts: Counts) -> float:
    """Log of the e-value of one step's counts against the harm being at most, or at least, ``harm`` (-1 to 1)."""
    return _mean(_cells(null, harm, counts))


def evidence_of_steps(harm: float, counts: Sequence[Counts], steps: int) -> float:
    """Log of the e-value against the harm having been at most ``harm`` in all of these steps, out of ``steps`` planned.

    Steps are multiplied, never pooled: each compares arms of its own days, so a share that changes as rates
    drift misleads nobody (Simpson's paradox). Half of the stake is on a harm from the first step on, the rest
    on one that begins with some step, as when a provider does not bear the load.
    """
    total = 0.0
    since = [0.0] * (len(BASELINES) * len(ODDS_RATIOS))
    parts: list[float] = []
    for one in reversed(counts):
        since = [sum(pair) for pair in zip(since, _cells(Null.AT_MOST, harm, one), strict=True)]
        parts.append(_mean(since))
    # In the order of the steps a harm may begin with; those to come have won and lost nothing.
    parts = parts[::-1] + [0.0] * (steps - len(counts))
    highest = max(parts)
    for begin, part in enumerate(parts):
        total += stake(begin, steps) * exp(part - highest)
    return highest + log(total)


def stake(begin: int, steps: int) -> float:
    """The share of the first unit that is put on a harm beginning with this step (from 0)."""
    return (0.5 if begin == 0 else 0.0) + 0.5 / steps


def lower_bound(counts: Sequence[Counts], steps: int, threshold: float, known: float) -> float:
    """Harms below this are ruled out at log evidence ``threshold``; -1 where nothing is known.

    ``known`` is a harm to start from: the bound lies on the side of it on which the evidence puts it, to the last
    digit.
    """

    def lacking(harm: float) -> float:
        return evidence_of_steps(harm, counts, steps) - threshold

    if lacking(known) >= 0:
        return _search(known, _MOST, lacking)[0]
    low, _ = _search(-_MOST, known, lacking)
    return low if low > -_MOST else -1.0


def upper_bound(counts: Counts, threshold: float, known: float) -> float:
    """Harms above this are ruled out; 1 where nothing is known. See ``lower_bound``."""

    def lacking(harm: float) -> float:
        return evidence_against(Null.AT_LEAST, harm, counts) - threshold

    if lacking(known) >= 0:
        return _search(-_MOST, known, lacking)[1]
    _, high = _search(known, _MOST, lacking)
    return high if high < _MOST else 1.0


def _search(low: float, high: float, lacking: Callable[[float], float]) -> tuple[float, float]:
    """Where evidence that falls or rises from ``low`` to ``high`` crosses the threshold, to a hundredth of a point.

    ``lacking`` is the evidence less the threshold. False position (Illinois), with values far off cut, since evidence
    against an absurd harm runs into the thousands. The ends stay on their sides of the threshold.
    """

    def cut(harm: float) -> float:
        return min(max(lacking(harm), -_FAR), _FAR)

    at_low, at_high = cut(low), cut(high)
    kept = 0
    while high - low > _BOUND_TO and at_low * at_high < 0:
        middle = (at_high * low - at_low * high) / (at_high - at_low)
        # Not too near an end: the other one has to come in, too.
        inset = min(_BOUND_TO / 2, (high - low) / 4)
        middle = min(max(middle, low + inset), high - inset)
        at = cut(middle)
        if (at > 0) == (at_low > 0):
            low, at_low = middle, at
            at_high = at_high / 2 if kept == -1 else at_high
            kept = -1
        else:
            high, at_high = middle, at
            at_low = at_low / 2 if kept == 1 else at_low
            kept = 1
    return low, high


def _cells(null: Null, harm: float, counts: Counts) -> list[float]:
    """Log evidence of each alternative."""
    share = rounded_share(counts.treated, counts.control)
    if share is None:
        return [0.0] * (len(BASELINES) * len(ODDS_RATIOS))
    bad_t, good_t = counts.bad_treated, counts.treated - counts.bad_treated
    bad_c, good_c = counts.bad_control, counts.control - counts.bad_control
    return [
        bad_t * log_bt + good_t * log_gt + bad_c * log_bc + good_c * log_gc
        for log_bt, log_gt, log_bc, log_gc in factors(null, harm, share)
    ]


def _mean(logs: Sequence[float]) -> float:
    """Log of the mean of what these are the logarithms of."""
    highest = max(logs)
    return highest + log(sum(exp(one - highest) for one in logs) / len(logs)) if highest > -inf else -inf


def rounded_share(treated: float, control: float) -> float | None:
    """The treated's share, the smaller arm's to half a percent of itself, so that factors are worked out once for many
    looks; None when an arm is empty."""
    if treated <= 0 or control <= 0:
        return None
    smaller = min(treated, control) / (treated + control)
    smaller = min(exp(round(log(smaller) / _SHARE_STEP) * _SHARE_STEP), 0.5)
    return smaller if treated <= control else 1 - smaller


@lru_cache(maxsize=256)
def factors(null: Null, harm: float, share: float) -> tuple[Logs, ...]:
    """Of all alternatives, while ``share`` of conversations are treated (above 0, below 1)."""
    return tuple(_factor(null, harm, share, base, ratio) for base in BASELINES for ratio in ODDS_RATIOS)


def _factor(null: Null, harm: float, share: float, base: float, ratio: float) -> Logs:
    treated = _clipped(base + harm)
    odds = treated / (1 - treated) * (ratio if null is Null.AT_MOST else 1 / ratio)
    treated = _clipped(odds / (1 + odds))
    if (treated - base - harm) * null.value <= 0:
        return _NOTHING  # no rate that the arm may have lies beyond the null
    control = _nearest(treated, base, harm, share)
    null_treated = control + harm
    return (
        log(treated / null_treated),
        log((1 - treated) / (1 - null_treated)),
        log(base / control),
        log((1 - base) / (1 - control)),
    )


def _nearest(treated: float, control: float, harm: float, share: float) -> float:
    """Control's rate in the null's distribution nearest to an alternative: rates that differ by ``harm``.

    There the divergence's slope is 0: share (c + d - t) / ((c + d)(1 - c - d)) + (1 - share) (c - b) / (c (1 - c)). It
    lies between the alternative's control and its treated less the harm. Newton's method, by halves where it leaves.
    """
    if harm == 0:
        return share * treated + (1 - share) * control
    low, high = sorted((control, treated - harm))
    low, high = max(low, -harm, 0.0), min(high, 1 - harm, 1.0)
    c = min(max(share * (treated - harm) + (1 - share) * control, low), high)
    for _ in range(60):
        if not low < c < high:
            c = (low + high) / 2
        t = c + harm
        of_t, of_c = t * (1 - t), c * (1 - c)
        slope = share * (t - treated) / of_t + (1 - share) * (c - control) / of_c
        if abs(slope) < _FLAT:
            break
        low, high = (low, c) if slope > 0 else (c, high)
        bend_t = share * (of_t - (t - treated) * (1 - 2 * t)) / (of_t * of_t)
        bend_c = (1 - share) * (of_c - (c - control) * (1 - 2 * c)) / (of_c * of_c)
        c -= slope / (bend_t + bend_c)
    return c


def _clipped(rate: float) -> float:
    return min(max(rate, _LEAST), 1 - _LEAST)
