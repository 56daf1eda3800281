"""What simulated rollouts came to: how often they were rolled back, and how soon. Pure, with numpy."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from routing.intervals import wilson
from routing.rollout.evidence import Measure
from routing.rollout.plan import Plan
from routing.rollout.simulating import Outcome, Outcomes, Scene, Simulation

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """Of runs, with Wilson's two-sided 95% interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 95th percentile over the runs that it is told of."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Finding:
    """All runs of one harm to one measure."""

    harm: float
    runs: int
    rolled_back: Share
    completed: Share
    unfinished: Share
    falsely_advanced: Share
    """Let on, or completed, by a step whose margin the harm reaches."""
    caught_treated: Spread | None
    """Treated conversations until rolled back; None where no run was."""
    caught_conversations: Spread | None
    """All conversations until rolled back."""
    caught_hours: Spread | None
    completed_hours: Spread | None
    completed_conversations: Spread | None
    advanced: tuple[float, ...]
    """Share of runs that were let on by each step."""
    caught_curve: tuple[float, ...]
    """Share of runs rolled back by ``CURVE`` treated conversations."""


CURVE = (50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800)


def study(
    plan: Plan,
    scene: Scene,
    measure: Measure,
    harms: Iterable[float],
    *,
    runs: int,
    seed: int,
    look_minutes: int,
    max_hours: float,
    told: Callable[[float, int, int], None],
) -> list[Finding]:
    """Simulate each harm to ``measure``. ``told`` hears the harm, runs that are over and hours, now and then."""
    findings = []
    for number, harm in enumerate(harms):
        harmed = replace(scene, harms={**scene.harms, measure: harm})
        simulation = Simulation(plan, harmed, runs, seed + number)
        while simulation.minutes < max_hours * 60:
            simulation.look(look_minutes)
            over = int((simulation.outcome != Outcome.UNFINISHED).sum())
            if simulation.minutes % 60 < look_minutes:
                told(harm, over, simulation.minutes // 60)
            if over == runs:
                break
        told(harm, runs, simulation.minutes // 60)
        findings.append(_finding(plan, measure, harm, simulation.outcomes()))
    return findings


def _finding(plan: Plan, measure: Measure, harm: float, found: Outcomes) -> Finding:
    back = found.outcome == Outcome.ROLLED_BACK
    done = found.outcome == Outcome.COMPLETED
    too_much = np.array([harm >= plan.margin(step, measure) for step in range(len(plan.steps))])
    return Finding(
        harm=harm,
        runs=len(back),
        rolled_back=_share(back),
        completed=_share(done),
        unfinished=_share(found.outcome == Outcome.UNFINISHED),
        falsely_advanced=_share((found.advanced & too_much).any(axis=1)),
        caught_treated=_spread(found.treated[back]),
        caught_conversations=_spread(found.conversations[back]),
        caught_hours=_spread(found.minutes[back] / 60),
        completed_hours=_spread(found.minutes[done] / 60),
        completed_conversations=_spread(found.conversations[done]),
        advanced=tuple(float(one) for one in found.advanced.mean(axis=0)),
        caught_curve=tuple(float((back & (found.treated <= most)).mean()) for most in CURVE),
    )


def _share(which: npt.NDArray[np.bool_]) -> Share:
    seen, runs = int(which.sum()), len(which)
    bounds = wilson(seen, runs, (1 + CONFIDENCE) / 2)
    return Share(seen / runs, bounds.lower, bounds.upper)


def _spread(values: npt.NDArray[np.generic]) -> Spread | None:
    if not len(values):
        return None
    median, p95 = np.percentile(values.astype(np.float64), [50, 95])
    return Spread(float(median), float(p95))
