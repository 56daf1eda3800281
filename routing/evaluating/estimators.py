"""Estimators of a policy's mean reward from logged decisions, with intervals. Pure.

- IPS: the mean of w r (Horvitz & Thompson, JASA 47, 1952). w is the candidate's chance of what was given divided by the
  logged one, r the reward.
- SNIPS: the sum of w r over the sum of w (Hajek's estimator; Swaminathan & Joachims, NeurIPS 2015).
- DR: the mean of m + w (r - q), where the model expects q of what was given and m under the candidate (Dudik, Langford
  & Li, ICML 2011).

Standard errors are of the linearised estimator with sums by conversation, for a conversation's decisions depend on
each other (the sandwich of Liang & Zeger, Biometrika 73, 1986). Intervals take Student's t with as many degrees of
freedom as there are effective conversations, less one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from routing.intervals import wilson

#: Fewer effective conversations than this give no interval: nothing would vouch for it.
MIN_EFFECTIVE = 10.0
#: Of a rate: with fewer effective conversations than this on one side (with the event, or without) the normal interval
#: is too narrow, so that Wilson's must lie within it.
FEW = 5.0
_Z = 1.959963984540054


class Estimator(StrEnum):
    IPS = "ips"
    SNIPS = "snips"
    DR = "dr"


@dataclass(frozen=True, slots=True)
class Row:
    """One decision: the number of its conversation, its weight, its reward, and what a model expects under the
    candidate's chances (``modelled``), under the logged ones (``modelled_logged``), and of what was given
    (``expected``)."""

    conversation: int
    weight: float
    reward: float
    modelled: float = 0.0
    modelled_logged: float = 0.0
    expected: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its standard error and 95% interval; None: cannot be told."""

    value: float | None
    standard_error: float | None = None
    lower: float | None = None
    upper: float | None = None


UNTOLD = Estimate(None)


@dataclass(frozen=True, slots=True)
class Linear:
    """An estimate as a sum of one small error per decision (its influence values), and how many conversations that is
    worth; ``few``: a rate that so few conversations speak for or against that the normal interval is too narrow."""

    value: float
    errors: tuple[float, ...]
    effective: float
    few: bool


def logged(rows: Sequence[Row], is_rate: bool) -> Linear:
    """What the decisions came to as they were made: the plain mean."""
    mean = sum(row.reward for row in rows) / len(rows)
    return _linear(rows, mean, [row.reward - mean for row in rows], [1.0] * len(rows), is_rate)


def logged_by_model(rows: Sequence[Row], is_rate: bool) -> Linear:
    """What the logged policy comes to, doubly robust: of what it happened to draw only what the model did not expect
    counts. To set DR beside: where both policies do alike, nothing of it is left."""
    parts = [row.modelled_logged + row.reward - row.expected for row in rows]
    mean = sum(parts) / len(rows)
    return _linear(rows, mean, [part - mean for part in parts], [1.0] * len(rows), is_rate)


def estimated(rows: Sequence[Row], estimator: Estimator, is_rate: bool) -> Linear | None:
    """By one estimator. None: no weight at all."""
    weights = [row.weight for row in rows]
    total = sum(weights)
    if not rows or total <= 0:
        return None
    match estimator:
        case Estimator.SNIPS:
            value = sum(row.weight * row.reward for row in rows) / total
            scale = len(rows) / total
            errors = [scale * row.weight * (row.reward - value) for row in rows]
        case Estimator.IPS:
            parts = [row.weight * row.reward for row in rows]
            value = sum(parts) / len(rows)
            errors = [part - value for part in parts]
        case Estimator.DR:
            parts = [row.modelled + row.weight * (row.reward - row.expected) for row in rows]
            value = sum(parts) / len(rows)
            errors = [part - value for part in parts]
    return _linear(rows, value, errors, weights, is_rate)


def _linear(
    rows: Sequence[Row], value: float, errors: Sequence[float], weights: Sequence[float], is_rate: bool
) -> Linear:
    effective = effective_conversations(rows, weights)
    few = is_rate and min(value, 1 - value) * effective < FEW
    return Linear(value, tuple(errors), effective, few)


def effective_conversations(rows: Sequence[Row], weights: Sequence[float]) -> float:
    """Kish's effective sample size (Survey Sampling, 1965) of the conversations' summed weights."""
    sums: dict[int, float] = {}
    for row, weight in zip(rows, weights, strict=True):
        sums[row.conversation] = sums.get(row.conversation, 0.0) + weight
    squares = sum(weight * weight for weight in sums.values())
    return sum(sums.values()) ** 2 / squares if squares else 0.0


def interval(found: Linear, rows: Sequence[Row]) -> Estimate:
    """The estimate with its interval."""
    error = _standard_error(found.errors, rows)
    if found.effective < MIN_EFFECTIVE or error is None:
        return Estimate(found.value, error)
    half = student(found.effective - 1) * error
    lower, upper = found.value - half, found.value + half
    if found.few:
        n = int(found.effective)
        bounds = wilson(found.value * n, n, 0.975)
        lower, upper = min(lower, bounds.lower), max(upper, bounds.upper)
    return Estimate(found.value, error, lower, upper)


def difference(candidate: Linear, made: Linear, rows: Sequence[Row]) -> Estimate:
    """The candidate's estimate less the logged policy's (``made``), from the same rows: what both share cancels."""
    value = candidate.value - made.value
    errors = [one - other for one, other in zip(candidate.errors, made.errors, strict=True)]
    error = _standard_error(errors, rows)
    effective = min(candidate.effective, made.effective)
    if effective < MIN_EFFECTIVE or error is None:
        return Estimate(value, error)
    half = student(effective - 1) * error
    lower, upper = value - half, value + half
    if candidate.few or made.few:
        one, other = interval(candidate, rows), interval(made, rows)
        lower = min(lower, _known(one.lower) - _known(other.upper))
        upper = max(upper, _known(one.upper) - _known(other.lower))
    return Estimate(value, error, lower, upper)


def _known(bound: float | None) -> float:
    assert bound is not None  # noqa: S101  # there are effective conversations enough for both
    return bound


def _standard_error(errors: Sequence[float], rows: Sequence[Row]) -> float | None:
    sums: dict[int, float] = {}
    for error, row in zip(errors, rows, strict=True):
        sums[row.conversation] = sums.get(row.conversation, 0.0) + error
    count = len(sums)
    if count < 2:
        return None
    return sqrt(sum(error * error for error in sums.values()) * count / (count - 1)) / len(rows)


def student(freedom: float) -> float:
    """The 97.5% quantile of Student's t with this many degrees of freedom, 5 or more (Abramowitz & Stegun, Handbook of
    Mathematical Functions, 26.7.5; within 0.001 there)."""
    z, v = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
