"""A candidate policy evaluated on logged decisions: every figure by every estimator, and what they rest on. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from routing.evaluating.estimators import (
    UNTOLD,
    Estimate,
    Estimator,
    Row,
    difference,
    estimated,
    interval,
    logged,
    logged_by_model,
)
from routing.evaluating.model import cross_fit
from routing.evaluating.observations import FIGURES, RATES, Observation, pooled, reward
from routing.evaluating.overlap import Overlap, overlap, unsupported_by_profile, weight

#: The largest part of the candidate's choices that the log may lack. Weights say nothing of those. DR's model does, but
#: nothing checks it there, so its interval grows by all that they could come to.
ALLOWED = {Estimator.IPS: 0.0, Estimator.SNIPS: 0.0, Estimator.DR: 0.05}


@dataclass(frozen=True, slots=True)
class Told:
    """By one estimator: the candidate's figure, and that less the logged one."""

    value: Estimate
    difference: Estimate


_NOTHING = Told(UNTOLD, UNTOLD)


@dataclass(frozen=True, slots=True)
class Figure:
    """``decisions``: those that it is known of. ``logged``: what they came to as they were made."""

    decisions: int
    logged: Estimate
    told: Mapping[Estimator, Told]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``figures`` by the names of FIGURES, US dollars and rates 0 to 1. ``gives`` and ``gave``: the candidate's and the
    logged policy's mean chances by profile."""

    overlap: Overlap
    figures: Mapping[str, Figure]
    gives: Mapping[str, float]
    gave: Mapping[str, float]


def evaluate(
    observations: Sequence[Observation], *, clip: float | None = None, pool: bool = False
) -> Evaluation:
    """``clip`` cuts weights to at most this, which biases towards what was logged and steadies; ``pool`` as
    ``observations.pooled`` explains. Raises ValueError without observations."""
    if not observations:
        raise ValueError("there are no observations to evaluate")
    used = pooled(observations) if pool else list(observations)
    conversations = {name: n for n, name in enumerate(dict.fromkeys(one.conversation for one in used))}
    plain = [Row(conversations[one.conversation], _clipped(one, clip), 0.0) for one in used]
    return Evaluation(
        overlap=overlap(used, plain, clip),
        figures={name: _figure(name, used, conversations, clip) for name in FIGURES},
        gives=_shares([one.candidate for one in used]),
        gave=_shares([one.logged for one in used]),
    )


def _clipped(observation: Observation, clip: float | None) -> float:
    found = weight(observation)
    return found if clip is None else min(found, clip)


def _figure(
    name: str, observations: Sequence[Observation], conversations: Mapping[str, int], clip: float | None
) -> Figure:
    pairs = [(one, reward(one, name)) for one in observations]
    known = [one for one, value in pairs if value is not None]
    rewards = [value for _, value in pairs if value is not None]
    if not known:
        return Figure(0, UNTOLD, dict.fromkeys(Estimator, _NOTHING))
    rows = [
        Row(
            conversations[one.conversation],
            _clipped(one, clip),
            value,
            model.candidate,
            model.logged,
            model.given,
        )
        for one, value, model in zip(known, rewards, cross_fit(known, rewards), strict=True)
    ]
    unsupported = sum(unsupported_by_profile(known).values())
    most = 1.0 if name in RATES else max(rewards)
    is_rate = name in RATES
    told = {
        one: _told(rows, one, is_rate, unsupported * most) if unsupported <= allowed else _NOTHING
        for one, allowed in ALLOWED.items()
    }
    return Figure(len(rows), interval(logged(rows, is_rate), rows), told)


def _told(rows: Sequence[Row], estimator: Estimator, is_rate: bool, slack: float) -> Told:
    found = estimated(rows, estimator, is_rate)
    if found is None:
        return _NOTHING
    made = (logged_by_model if estimator is Estimator.DR else logged)(rows, is_rate)
    return Told(_widened(interval(found, rows), slack), _widened(difference(found, made, rows), slack))


def _widened(estimate: Estimate, slack: float) -> Estimate:
    if estimate.lower is None or estimate.upper is None:
        return estimate
    return Estimate(estimate.value, estimate.standard_error, estimate.lower - slack, estimate.upper + slack)


def _shares(chances: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in chances:
        for profile, chance in one.items():
            total[profile] = total.get(profile, 0.0) + chance
    means = {profile: value / len(chances) for profile, value in total.items() if value > 0}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))
