"""Whether a step of a rollout goes on, holds or rolls back. Pure (docs/rollout-statistics.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import ceil, log

from routing.rollout.evidence import Measure, StepEvidence, counts_of
from routing.rollout.plan import Plan
from routing.rollout.sequential import (
    Counts,
    Null,
    evidence_against,
    evidence_of_steps,
    lower_bound,
    upper_bound,
)
from routing.rollout.verdict import Action, Bound, State, Verdict

_HARM = {
    Measure.SUCCESS: "a fall of success",
    Measure.SAFETY: "a rise of safety violations",
    Measure.ESCALATION: "a rise of escalations",
    Measure.SLOW: "a rise of completions slower than the SLA's p95",
}


def judge(
    plan: Plan, step_index: int, evidence: Sequence[StepEvidence], now: datetime, *, holdout: bool = True
) -> Verdict:
    """Judge the step by its own evidence and by that of the steps before it in the same attempt.

    ``evidence`` holds one entry per step, in order, the last of which is ``step_index``; give an arm without
    conversations as ``ArmSums.empty()``. ``holdout``: whether some conversations are kept on the default even
    at 100%; without, that step has no control. Raises ValueError on evidence that does not fit.
    """
    _check(plan, step_index, evidence, now)
    step = evidence[-1]
    alone = step.percent >= 100 and not holdout
    bounds = {measure: _bound(plan, step_index, evidence, measure) for measure in Measure}
    regressions = [measure for measure in Measure if bounds[measure].state is State.REGRESSION]
    waits: tuple[str, ...] = ()
    if regressions:
        action, reason = Action.ROLL_BACK, _worse(bounds, regressions)
    else:
        waits = (*_minimum(plan, step, now, alone), *(() if alone else _unproven(bounds)))
        action, reason = _go_on(plan, step_index, waits, alone)
    return Verdict(action, reason, bounds, step.treated.conversations, step.control.conversations, waits)


def harm_threshold(plan: Plan) -> float:
    """Log evidence at which one measure rolls back: alpha is shared by the measures (Bonferroni), and by nothing else,
    since looks and steps are all within one e-process."""
    return log(len(Measure) / plan.alpha)


def safe_threshold(plan: Plan) -> float:
    """Log evidence at which one measure is non-inferior. All have to be, so alpha need not be shared: whichever is
    truly harmed passes with probability alpha at most (R. L. Berger, *Technometrics* 24, 1982)."""
    return log(1 / plan.alpha)


@dataclass(frozen=True, slots=True)
class Proof:
    """What is proved of one measure, before its bounds are worked out."""

    regression: bool
    non_inferior: bool

    @property
    def state(self) -> State:
        if self.regression:
            return State.REGRESSION
        return State.NON_INFERIOR if self.non_inferior else State.UNPROVEN


def proof(plan: Plan, step: int, counts: Sequence[Counts], measure: Measure) -> Proof:
    """``counts`` of the steps so far, the last of which is ``step``."""
    harmed = evidence_of_steps(plan.tolerances[measure], counts, len(plan.steps))
    safe = evidence_against(Null.AT_LEAST, plan.margin(step, measure), counts[-1])
    return Proof(harmed >= harm_threshold(plan), safe >= safe_threshold(plan))


def _bound(plan: Plan, step: int, evidence: Sequence[StepEvidence], measure: Measure) -> Bound:
    counts = [counts_of(one, measure) for one in evidence]
    margin, tolerance = plan.margin(step, measure), plan.tolerances[measure]
    proved = proof(plan, step, counts, measure)
    return Bound(
        estimate=counts[-1].harm,
        lower=lower_bound(counts, len(plan.steps), harm_threshold(plan), tolerance),
        upper=upper_bound(counts[-1], safe_threshold(plan), margin),
        margin=margin,
        tolerance=tolerance,
        state=proved.state,
    )


def _check(plan: Plan, step_index: int, evidence: Sequence[StepEvidence], now: datetime) -> None:
    if not 0 <= step_index < len(plan.steps):
        raise ValueError(f"the plan has no step {step_index}")
    if not evidence or evidence[-1].index != step_index:
        raise ValueError(f"the last evidence must be of step {step_index}")
    if any(before.index >= after.index for before, after in pairwise(evidence)):
        raise ValueError("evidence must have one entry per step, in the order of the steps")
    if evidence[0].index < 0:
        raise ValueError("steps count from 0")
    if now.tzinfo is None or any(one.began_at.tzinfo is None for one in evidence):
        raise ValueError("times must be aware")


def _minimum(plan: Plan, step: StepEvidence, now: datetime, alone: bool) -> list[str]:
    """What is lacking to the step's least time and conversations."""
    waits = []
    minutes = ceil(plan.min_minutes - (now - step.began_at).total_seconds() / 60)
    if minutes > 0:
        waits.append(f"{minutes:,} more minute{'s' if minutes > 1 else ''}")
    arms = [("treated", step.treated)] if alone else [("treated", step.treated), ("control", step.control)]
    for name, arm in arms:
        lacking = plan.min_conversations - arm.conversations
        if lacking > 0:
            waits.append(f"{lacking:,} more {name} conversation{'s' if lacking > 1 else ''}")
    return waits


def _unproven(bounds: Mapping[Measure, Bound]) -> list[str]:
    return [
        f"proof that {_HARM[measure]} is below {_points(bound.margin)} ({_so_far(bound)})"
        for measure, bound in bounds.items()
        if bound.state is State.UNPROVEN
    ]


def _so_far(bound: Bound) -> str:
    return "nothing known yet" if bound.upper >= 1 else f"now below {_points(bound.upper)}"


def _worse(bounds: Mapping[Measure, Bound], regressions: Sequence[Measure]) -> str:
    proved = " and ".join(
        f"{_HARM[measure]} of more than {_points(max(bounds[measure].lower, 0.0))}" for measure in regressions
    )
    return f"Rolls back: {proved} against control is proved."


def _go_on(plan: Plan, step_index: int, waits: Sequence[str], alone: bool) -> tuple[Action, str]:
    if waits:
        more = f", and {len(waits) - 1} more" if len(waits) > 1 else ""
        return Action.HOLD, f"Holds: waits for {waits[0]}{more}."
    proved = "no measure is worse than control by its margin"
    if alone:
        proved = "its time and conversations are through; without a holdout nothing is compared at 100%"
    if step_index == len(plan.steps) - 1:
        return Action.COMPLETE, f"Completes: {proved}."
    return Action.ADVANCE, f"Advances to {plan.steps[step_index + 1]:g}%: {proved}."


def _points(share: float) -> str:
    points = f"{share * 100:.2f}".rstrip("0").rstrip(".")
    return f"{points} point{'' if points == '1' else 's'}"
