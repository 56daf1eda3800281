"""Whether logged decisions can tell of a candidate at all: weights, and what the log never gave. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from routing.evaluating.estimators import MIN_EFFECTIVE, Row, effective_conversations
from routing.evaluating.observations import Observation

#: With fewer effective conversations, or one decision that has a larger part of all weight, few decisions tell it all.
POOR_EFFECTIVE = 50.0
POOR_PART = 0.1
#: The mean weight lies further from what it should be than this many of its standard errors: propensities are wrong.
OFF = 4.0
#: Chances are rounded to twelve digits.
_ROUNDING = 1e-9


class Verdict(StrEnum):
    """``none``: the log tells nothing of a part of the candidate's choices; ``poor``: intervals may be too narrow."""

    ADEQUATE = "adequate"
    POOR = "poor"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Overlap:
    """``unsupported`` is the candidate's mean probability of profiles that the log could not give there, by profile.
    ``mean_weight`` should be 1 less their sum; ``off`` says that it is not. ``effective`` are conversations (Kish).
    ``clipped`` counts decisions whose weight was cut. ``certain``: no logged decision left anything to chance."""

    decisions: int
    conversations: int
    effective: float
    largest_weight: float
    largest_part: float
    mean_weight: float
    clipped: int
    unsupported: Mapping[str, float]
    certain: bool
    off: bool

    @property
    def unsupported_share(self) -> float:
        return sum(self.unsupported.values())

    @property
    def verdict(self) -> Verdict:
        if self.unsupported or self.effective < MIN_EFFECTIVE:
            return Verdict.NONE
        poor = self.effective < POOR_EFFECTIVE or self.largest_part > POOR_PART or self.off
        return Verdict.POOR if poor else Verdict.ADEQUATE


def weight(observation: Observation) -> float:
    """The candidate's chance of what was given, divided by the logged one."""
    chance = observation.candidate.get(observation.profile, 0.0)
    return chance / observation.logged[observation.profile] if chance else 0.0


def overlap(observations: Sequence[Observation], rows: Sequence[Row], clip: float | None) -> Overlap:
    """Of these observations, whose ``rows`` have weights that were clipped."""
    weights = [row.weight for row in rows]
    whole = [weight(one) for one in observations]
    total, unsupported = sum(weights), unsupported_by_profile(observations)
    largest = max(weights, default=0.0)
    return Overlap(
        decisions=len(rows),
        conversations=len({row.conversation for row in rows}),
        effective=effective_conversations(rows, weights),
        largest_weight=largest,
        largest_part=largest / total if total else 0.0,
        mean_weight=total / len(rows) if rows else 0.0,
        clipped=0 if clip is None else sum(one > clip for one in whole),
        unsupported=unsupported,
        certain=all(max(one.logged.values(), default=0.0) > 1 - _ROUNDING for one in observations),
        off=_is_off(rows, whole, 1 - sum(unsupported.values())),
    )


def unsupported_by_profile(observations: Sequence[Observation]) -> dict[str, float]:
    """The candidate's mean probability of each profile where the log had none, the largest first."""
    found: dict[str, float] = {}
    for one in observations:
        for profile, chance in one.candidate.items():
            if chance > 0 and one.logged.get(profile, 0.0) <= 0:
                found[profile] = found.get(profile, 0.0) + chance
    means = {profile: total / len(observations) for profile, total in found.items()}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))


def _is_off(rows: Sequence[Row], whole: Sequence[float], expected: float) -> bool:
    sums: dict[int, float] = {}
    for row, one in zip(rows, whole, strict=True):
        sums[row.conversation] = sums.get(row.conversation, 0.0) + one - expected
    error = sqrt(sum(value * value for value in sums.values()))
    return abs(sum(sums.values())) > OFF * error + _ROUNDING * len(rows)
