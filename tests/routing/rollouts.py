"""Evidence of rollouts for tests."""

from datetime import UTC, datetime, timedelta

from routing.rollout.evidence import ArmSums, Measure, StepEvidence
from routing.rollout.plan import Plan

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PLAN = Plan()


def arm(n: int, *, failed: int = 0, unsafe: int = 0, escalated: int = 0, slow: int = 0) -> ArmSums:
    """Conversations of one completion each."""
    sums = {
        Measure.SUCCESS: float(n - failed),
        Measure.SAFETY: float(unsafe),
        Measure.ESCALATION: float(escalated),
        Measure.SLOW: float(slow),
    }
    return ArmSums(n, sums, sums)


def usual(n: int, *, fail: float = 0.1) -> ArmSums:
    """As it is: 10% fail, 3% escalate, 4% are slow."""
    return arm(n, failed=round(n * fail), escalated=round(n * 0.03), slow=round(n * 0.04))


def step(index: int, treated: ArmSums, control: ArmSums, *, minutes: float = 120) -> StepEvidence:
    return StepEvidence(index, PLAN.steps[index], NOW - timedelta(minutes=minutes), treated, control)
