"""What the conversations of a rollout's steps came to, in sums. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from routing.rollout.sequential import Counts

# Sums over conversations are not exact in binary.
_ROUNDING = 1e-6
# Bad outcomes in the smaller arm at which a variance is half believed.
BELIEVED = 50.0
LEAST_SPREAD = 0.05


class Measure(StrEnum):
    """What a rollout must not make worse. Each is a share of a conversation's completions."""

    SUCCESS = "success"
    SAFETY = "safety_violations"
    ESCALATION = "escalations"
    SLOW = "slow"
    """Slower than the persona's ``max_latency_p95_ms``: p95 <= SLA means that at most 5% are."""


@dataclass(frozen=True, slots=True)
class ArmSums:
    """One arm's conversations with a completion. Conversations are what the hash draws, so they are the unit:
    x in [0, 1] is the share of a conversation's completions that succeeded, violated, escalated or were slow.

    Raises ValueError when the sums cannot be of so many values in [0, 1].
    """

    conversations: int
    sums: Mapping[Measure, float]
    """Of x."""
    squares: Mapping[Measure, float]
    """Of x * x."""

    def __post_init__(self) -> None:
        if self.conversations < 0:
            raise ValueError(f"{self.conversations} conversations cannot be")
        for measure in Measure:
            if measure not in self.sums or measure not in self.squares:
                raise ValueError(f"the sums of {measure.value} are missing")
            total, squares = self.sums[measure], self.squares[measure]
            room = _ROUNDING * max(self.conversations, 1)
            if not (-room <= squares <= total + room and total <= self.conversations + room):
                raise ValueError(
                    f"{measure.value}: sums {total} and {squares} are not of {self.conversations} shares from 0 to 1"
                )

    @classmethod
    def empty(cls) -> Self:
        nothing = dict.fromkeys(Measure, 0.0)
        return cls(0, nothing, nothing)


@dataclass(frozen=True, slots=True)
class StepEvidence:
    """Of one step, only conversations that began in it. ``began_at`` is aware, ``percent`` 0 to 100."""

    index: int
    percent: float
    began_at: datetime
    treated: ArmSums
    control: ArmSums


def harms(arm: ArmSums, measure: Measure) -> tuple[float, float]:
    """Sum and sum of squares of the bad share per conversation: of failures, where the measure is success."""
    total, squares = arm.sums[measure], arm.squares[measure]
    if measure is Measure.SUCCESS:
        total, squares = arm.conversations - total, arm.conversations - 2 * total + squares
    total = min(max(total, 0.0), float(arm.conversations))
    return total, min(max(squares, 0.0), total)


def counts_of(step: StepEvidence, measure: Measure) -> Counts:
    """The step's conversations as independent trials that turned out well or badly.

    A conversation that is all good or all bad is one trial, and the counts are exact. Of longer, mixed ones
    each tells as much as several trials: counts are divided by (variance / variance of all or nothing), as Korn and
    Graubard (*Survey Methodology* 24, 1998) do. That ratio is believed as bad outcomes come in: few tell
    little of a variance, so rare violations are counted as what they are.
    """
    treated, treated_squares = harms(step.treated, measure)
    control, control_squares = harms(step.control, measure)
    nt, nc = step.treated.conversations, step.control.conversations
    spread_treated = treated - treated * treated / nt if nt else 0.0
    spread_control = control - control * control / nc if nc else 0.0
    most = spread_treated + spread_control
    ratio = 1.0
    if most > 0:
        seen = max(most - (treated - treated_squares) - (control - control_squares), 0.0) / most
        known = min(spread_treated, spread_control)
        ratio = max((seen * known + BELIEVED) / (known + BELIEVED), LEAST_SPREAD)
    return Counts(nt / ratio, treated / ratio, nc / ratio, control / ratio)
