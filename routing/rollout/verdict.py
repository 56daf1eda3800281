"""What is to be done at a step of a rollout, and why. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from routing.rollout.evidence import Measure


class Action(StrEnum):
    HOLD = "hold"
    ADVANCE = "advance"
    COMPLETE = "complete"
    ROLL_BACK = "roll_back"


class State(StrEnum):
    NON_INFERIOR = "non_inferior"
    UNPROVEN = "unproven"
    REGRESSION = "regression"


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known of the harm to one measure: the treated's bad share less control's, so above 0 is worse.

    For success it is the fall of success, for the others the rise of the rate; shares, 0.01 is one point.
    """

    estimate: float | None
    """Of this step; None while an arm is empty."""
    lower: float
    """Harm is larger, with all steps' evidence; -1 when nothing is known. Above ``tolerance``: a regression."""
    upper: float
    """Harm is smaller, with this step's evidence; 1 when nothing is known. Below ``margin``: non-inferior."""
    margin: float
    """What this step must rule out."""
    tolerance: float
    """What rolls back once proved to be exceeded."""
    state: State


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    reason: str
    """One sentence."""
    bounds: Mapping[Measure, Bound]
    treated: int
    """Conversations of this step, as ``control``."""
    control: int
    waits_for: tuple[str, ...]
    """What a step that holds still needs, a phrase each: ``37 more treated conversations``."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "action": self.action.value,
            "reason": self.reason,
            "treated": self.treated,
            "control": self.control,
            "waits_for": list(self.waits_for),
            "bounds": {
                measure.value: {
                    "estimate": bound.estimate,
                    "lower": bound.lower,
                    "upper": bound.upper,
                    "margin": bound.margin,
                    "tolerance": bound.tolerance,
                    "state": bound.state.value,
                }
                for measure, bound in self.bounds.items()
            },
        }
