"""Simulations with known truth: how often 95% intervals hold it."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

import pytest

from routing.evaluating.estimators import Estimator
from routing.evaluating.evaluation import Evaluation, evaluate
from routing.evaluating.observations import Observation
from routing.evaluating.overlap import Verdict

RUNS, CONVERSATIONS = 200, 130
TASKS = {"code": 0.5, "essay": 0.3, "chat": 0.2}
COST = {"inc": 0.02, "main": 0.01, "new": 0.004}
SUCCESS = {"inc": 0.9, "main": 0.8, "new": 0.7}
#: Costs of a task are so many times a profile's, and its rate of success is so much higher.
DEAR = {"code": 1.0, "essay": 2.0, "chat": 0.5}
EASY = {"code": 0.0, "essay": -0.1, "chat": 0.05}
#: Conversations are harder or easier by this, and dearer or cheaper by this factor, in all their decisions.
MOODS = ((-0.05, 0.5), (0.05, 1.5))


class World(NamedTuple):
    """How likely each profile is given, by task, as logged and by the candidate."""

    logged: Mapping[str, Mapping[str, float]]
    candidate: Mapping[str, Mapping[str, float]]


def world(holdout: float, explored: float) -> World:
    """The default ``inc`` is held out, ``new`` explored; at chat the default itself wins. The candidate gives ``new``
    instead of ``main``, as often as the default."""
    main = (1 - holdout) * (1 - explored)
    usual = {"inc": holdout, "main": main, "new": (1 - holdout) * explored}
    chat = {"inc": holdout + main, "new": (1 - holdout) * explored}
    wanted = {"inc": 0.5, "new": 0.5}
    return World({"code": usual, "essay": usual, "chat": chat}, dict.fromkeys(TASKS, wanted))


def truth(chances_of: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    parts = [(TASKS[task] * p, profile, task) for task in TASKS for profile, p in chances_of[task].items()]
    return {
        "cost_per_decision": sum(p * COST[profile] * DEAR[task] for p, profile, task in parts),
        "success_rate": sum(p * (SUCCESS[profile] + EASY[task]) for p, profile, task in parts),
    }


def log(made: World, conversations: int, draw: random.Random) -> Iterator[Observation]:
    """Conversations of one or three decisions: each is drawn its profile and its mood once, for all of them."""
    for number in range(conversations):
        task = draw.choices(list(TASKS), list(TASKS.values()))[0]
        logged = made.logged[task]
        given = draw.choices(list(logged), list(logged.values()))[0]
        easier, dearer = draw.choice(MOODS)
        for _ in range(draw.choice((1, 1, 3))):
            cost = COST[given] * DEAR[task] * dearer * draw.uniform(0.2, 1.8)
            succeeded = draw.random() < SUCCESS[given] + EASY[task] + easier
            yield Observation(
                *(f"c-{number}", task, given, logged, made.candidate[task]),
                *(cost, succeeded, draw.random() < 0.01, False),
            )


@cache
def runs() -> list[Evaluation]:
    made, draw = world(0.4, 0.5), random.Random(20261125)
    return [evaluate(list(log(made, CONVERSATIONS, draw))) for _ in range(RUNS)]


def held(evaluations: list[Evaluation], figure: str, estimator: Estimator, true: float, what: str) -> float:
    """The share of intervals that hold the truth."""
    hits = 0
    for one in evaluations:
        told = getattr(one.figures[figure].told[estimator], what)
        assert told.lower is not None
        hits += told.lower <= true <= told.upper
    return hits / len(evaluations)


@pytest.mark.parametrize(
    ("figure", "estimator"), [*product(("cost_per_decision", "success_rate"), Estimator)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(figure: str, estimator: Estimator) -> None:
    made = world(0.4, 0.5)
    found, true, was = runs(), truth(made.candidate), truth(made.logged)
    # Of 200 intervals that hold it with 95%, all but one in some thousands of series lie within 3.5 errors of it.
    margin = 3.5 * sqrt(0.95 * 0.05 / RUNS)
    for what, value in (("value", true[figure]), ("difference", true[figure] - was[figure])):
        assert 0.95 - margin <= held(found, figure, estimator, value, what) <= 1.0
    middle, spread = moments(found, figure, estimator)
    assert middle == pytest.approx(true[figure], abs=4 * spread / sqrt(RUNS))


def moments(evaluations: list[Evaluation], figure: str, estimator: Estimator) -> tuple[float, float]:
    """Mean and standard deviation of the estimates."""
    values = [one.figures[figure].told[estimator].value.value or 0.0 for one in evaluations]
    return mean(values), stdev(values)


def error(evaluations: list[Evaluation], figure: str, estimator: Estimator) -> float:
    """The mean standard error that is told."""
    return mean(one.figures[figure].told[estimator].value.standard_error or 0.0 for one in evaluations)


def test_rare_events_do_not_fool_the_interval() -> None:
    found = runs()
    for estimator in Estimator:
        assert held(found, "safety_violation_rate", estimator, 0.01, "value") >= 0.93


def test_the_doubly_robust_difference_is_the_narrowest() -> None:
    def width(estimator: Estimator) -> float:
        told = [one.figures["cost_per_decision"].told[estimator].difference for one in runs()]
        return sum((one.upper or 0.0) - (one.lower or 0.0) for one in told)

    assert width(Estimator.DR) < width(Estimator.SNIPS) < width(Estimator.IPS)


def test_standard_errors_are_the_spread_and_would_be_too_small_without_clusters() -> None:
    made, draw = world(0.4, 0.5), random.Random(4)
    apart = []
    for _ in range(20):
        decisions = log(made, CONVERSATIONS, draw)
        apart.append(evaluate([replace(one, conversation=f"d-{n}") for n, one in enumerate(decisions)]))
    for estimator in Estimator:
        _, spread = moments(runs(), "cost_per_decision", estimator)
        assert error(runs(), "cost_per_decision", estimator) == pytest.approx(spread, rel=0.15)
        assert error(apart, "cost_per_decision", estimator) < 0.85 * spread


def test_poor_overlap_is_warned_of() -> None:
    assert {one.overlap.verdict for one in runs()} == {Verdict.ADEQUATE}
    made, draw = world(0.02, 0.02), random.Random(3)
    verdicts = {evaluate(list(log(made, CONVERSATIONS, draw))).overlap.verdict for _ in range(20)}
    assert Verdict.ADEQUATE not in verdicts
