"""Rollouts of a known truth: rolled back without need in few, with need soon, and as the product would judge them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from routing.rollout.evidence import Measure, StepEvidence
from routing.rollout.judging import judge
from routing.rollout.plan import Plan
from routing.rollout.simulating import Outcome, Outcomes, Scene, Simulation
from routing.rollout.verdict import Action

RATES = {Measure.SUCCESS: 0.1, Measure.SAFETY: 0.002, Measure.ESCALATION: 0.03, Measure.SLOW: 0.04}
QUICK = Plan(steps=(10.0, 50.0, 100.0), min_minutes=30, min_conversations=100)


def simulated(harms: Mapping[Measure, float], runs: int, seed: int, **scene: float) -> Outcomes:
    """Looked at every 50 conversations or so, by the quick plan."""
    simulation = Simulation(QUICK, Scene(RATES, harms, per_hour=600, **scene), runs, seed)  # type: ignore[arg-type]
    while simulation.minutes < 5_000 and (simulation.outcome == Outcome.UNFINISHED).any():
        simulation.look(5)
    return simulation.outcomes()


def share(found: Outcomes, outcome: Outcome) -> float:
    return float((found.outcome == outcome).mean())


@pytest.mark.slow
@pytest.mark.parametrize("scene", [{}, {"drift": 0.5}, {"completions": 4, "holdout": 0.05}])
def test_without_harm_few_rollouts_are_rolled_back_and_the_others_complete(scene: dict[str, float]) -> None:
    """At most 5% may be. About 0.5% are: more than 10 of 200 would come up once in 100 million.
    Seeds are fixed, too."""
    found = simulated({}, 200, 7, **scene)
    assert share(found, Outcome.ROLLED_BACK) <= 0.05
    assert share(found, Outcome.COMPLETED) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("measure", "harm", "most"),
    [
        (Measure.SUCCESS, 0.05, 4_000),
        (Measure.SAFETY, 0.02, 2_500),
        (Measure.ESCALATION, 0.05, 2_500),
        (Measure.SLOW, 0.05, 3_000),
    ],
)
def test_harm_is_caught_before_it_is_let_on_to_all(measure: Measure, harm: float, most: int) -> None:
    found = simulated({measure: harm}, 100, 8)
    assert share(found, Outcome.ROLLED_BACK) == 1
    assert not found.advanced[:, 1:].any()
    assert float(np.percentile(found.treated, 95)) <= most


def test_what_runs_side_by_side_is_judged_as_the_product_judges_it() -> None:
    runs, harms = 3, {Measure.SUCCESS: 0.02}
    simulation = Simulation(QUICK, Scene(RATES, harms, per_hour=2_000, completions=3), runs, 3)
    seen = set()
    while simulation.minutes < 3_000 and (simulation.outcome == Outcome.UNFINISHED).any():
        steps, began = simulation.step.copy(), simulation.began.copy()
        live = np.flatnonzero(simulation.outcome == Outcome.UNFINISHED)
        simulation.look(150)
        for run in live.tolist():
            index = int(steps[run])
            evidence = began_at(simulation.evidence(run)[: index + 1], simulation, int(began[run]))
            action = action_of(simulation, run, index)
            assert judge(QUICK, index, evidence, simulation.now).action is action
            seen.add(action)
    assert {Action.HOLD, Action.ADVANCE, Action.ROLL_BACK} <= seen


def began_at(evidence: list[StepEvidence], simulation: Simulation, began: int) -> list[StepEvidence]:
    """A run that was let on has begun anew; what was judged had begun before."""
    then = simulation.now - timedelta(minutes=simulation.minutes - began)
    return [replace(one, began_at=then) for one in evidence]


def action_of(simulation: Simulation, run: int, before: int) -> Action:
    if simulation.outcome[run] == Outcome.ROLLED_BACK:
        return Action.ROLL_BACK
    if simulation.outcome[run] == Outcome.COMPLETED:
        return Action.COMPLETE
    return Action.ADVANCE if simulation.step[run] > before else Action.HOLD


def test_the_same_seed_gives_the_same_runs_and_another_others() -> None:
    def treated(seed: int) -> object:
        simulation = Simulation(QUICK, Scene(RATES), 5, seed)
        for _ in range(5):
            simulation.look(10)
        return simulation.outcomes().treated.tolist()

    assert treated(1) == treated(1)
    assert treated(1) != treated(2)


def test_conversations_of_several_completions_have_the_variance_that_was_asked_for() -> None:
    scene = Scene({**RATES, Measure.SLOW: 0.2}, completions=5, likeness=0.3, per_hour=600_000)
    simulation = Simulation(QUICK, scene, 1, 4)
    simulation.look(10)
    control = simulation.evidence(0)[0].control
    n, total, squares = control.conversations, control.sums[Measure.SLOW], control.squares[Measure.SLOW]
    assert n > 80_000
    assert total / n == pytest.approx(0.2, abs=0.006)
    assert squares / n - (total / n) ** 2 == pytest.approx(0.2 * 0.8 * (1 + 4 * 0.3) / 5, rel=0.05)
