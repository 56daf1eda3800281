"""Whether a step of a rollout goes on, holds or rolls back. Pure."""

from collections.abc import Sequence
from datetime import datetime

from routing.rollout.evidence import StepEvidence
from routing.rollout.plan import Plan
from routing.rollout.verdict import Verdict


def judge(
    plan: Plan, step_index: int, evidence: Sequence[StepEvidence], now: datetime, *, holdout: bool = True
) -> Verdict:
    """Judge the step by its own evidence and by that of the steps before it in the same attempt.

    ``evidence`` holds one entry per step in their order, the last of which is ``step_index``; give an arm
    without conversations as ``ArmSums.empty()``. ``holdout``: whether some conversations are kept on the default even at 100%;
    without, that step has no control. Raises ValueError on evidence that does not fit.
    """
    raise NotImplementedError
