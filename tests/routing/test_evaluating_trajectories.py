"""Conversations followed through their decisions: the chances are those of all ways that they could have gone."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import sqrt
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from routing.engine import Bundle, SelectionProblem, SelectionRequest, outcome
from routing.evaluating.chances import Split, chances
from routing.evaluating.estimators import Estimate, Estimator
from routing.evaluating.evaluation import evaluate
from routing.evaluating.observations import Observation
from routing.evaluating.trajectories import BEGINNING, Policy, step
from tests.routing.cases import request
from tests.routing.lotteries import lotteries, lottery

COST = {"incumbent": 0.02, "main": 0.01, "other": 0.006, "new": 0.003}


def policy(bundle: Bundle) -> Policy:
    return Policy(bundle, "aurora", "essayist")


@given(lotteries())
@hypothesis_settings(max_examples=60)
def test_a_first_decisions_chances_are_its_own(case: tuple[Bundle, SelectionRequest]) -> None:
    bundle, asked = case
    first = asked._replace(last_profile=None)
    try:
        alone = chances(bundle, first)
    except SelectionProblem:
        return
    split, parts = step(BEGINNING, policy(bundle), first)
    known = {slug: chance for slug, chance in split.profiles.items() if chance > 1e-12}
    assert known == pytest.approx(dict(alone.profiles), abs=1e-9)
    assert split.refused == pytest.approx(alone.refused, abs=1e-9)
    assert sum(part.size for part in parts) == pytest.approx(1)


def followed(bundles: Sequence[Bundle]) -> list[Split]:
    found, parts = [], BEGINNING
    for number, bundle in enumerate(bundles):
        # What the logged conversation had last is passed over.
        split, parts = step(parts, policy(bundle), request(last_profile="other" if number else None))
        found.append(split)
    return found


def walked(bundles: Sequence[Bundle], name: str) -> Iterator[str]:
    last = None
    for bundle in bundles:
        last = outcome(bundle, request(name, last_profile=last)).profile
        yield last


@pytest.mark.parametrize("margin", [0.0, 0.9])
def test_later_decisions_are_given_as_often_as_their_chances_say(margin: float) -> None:
    # Shares, the flag and the ranking change between decisions, and new is proved at the last.
    bundles = [
        lottery("main", 0.3, 0.2, margin, 80),
        lottery("other", 0.1, 0.4, margin, 60),
        lottery("main", 0.5, 0.1, margin, 90, seen=400),
    ]
    found = followed(bundles)
    got: list[Counter[str]] = [Counter() for _ in bundles]
    for number in range(4000):
        for turn, slug in enumerate(walked(bundles, f"c-{number}")):
            got[turn][slug] += 1
    for split, counted in zip(found, got, strict=True):
        assert set(counted) == set(split.profiles)
        for slug, chance in split.profiles.items():
            assert counted[slug] / 4000 == pytest.approx(chance, abs=4 * sqrt(chance * (1 - chance) / 4000))


def test_a_last_profile_that_was_not_known_is_nobodys() -> None:
    bundles = [lottery("main", margin=0.9), lottery("other", margin=0.9)]
    _, parts = step(BEGINNING, policy(bundles[0]), request())
    split, _ = step(parts, policy(bundles[1]), request(last_profile=None))
    assert split.profiles == pytest.approx(dict(chances(bundles[1], request()).profiles))


def talk(
    logged: Sequence[Policy], candidate: Sequence[Policy], name: str, draw: random.Random
) -> Iterator[Observation]:
    """One to four decisions, each by one of the policies."""
    turns = [draw.randrange(len(logged)) for _ in range(draw.choice((1, 2, 4)))]
    here = there = BEGINNING
    for turn, slug in zip(turns, walked([logged[n].bundle for n in turns], name), strict=True):
        asked = request(last_profile=None if here is BEGINNING else "any")
        was, here = step(here, logged[turn], asked)
        then, there = step(there, candidate[turn], asked)
        cost = COST[slug] * draw.uniform(0.2, 1.8)
        yield Observation(name, "code", slug, was.profiles, then.profiles, cost, True, False, False)


def naive(observations: Sequence[Observation], logged: Bundle, candidate: Bundle) -> Iterator[Observation]:
    """The same with each decision's own propensities, its last profile taken as given."""
    last: dict[str, str] = {}
    for one in observations:
        asked = request(last_profile=last.get(one.conversation))
        last[one.conversation] = one.profile
        yield replace(
            one, logged=chances(logged, asked).profiles, candidate=chances(candidate, asked).profiles
        )


def test_estimates_of_the_engines_own_conversations_are_right_where_single_propensities_are_not() -> None:
    # Conversations stay with whatever they had first: the default of the held out, too.
    was, then = lottery("main", 0.3, 0.3, 0.9), lottery("main", 0.05, 0.1, 0.9)
    logged, candidate = [policy(was)], [policy(then)]
    draw, estimates, others, hits = random.Random(8), [], [], 0
    true = COST["incumbent"] * 0.1 + 0.9 * (0.05 * COST["new"] + 0.95 * COST["main"])
    for run in range(60):
        talks = (talk(logged, candidate, f"r{run}-{n}", draw) for n in range(60))
        observations = [one for of in talks for one in of]
        told = estimate(observations)
        assert told.lower is not None
        assert told.upper is not None
        hits += told.lower <= true <= told.upper
        estimates.append(told.value or 0.0)
        if run < 15:
            others.append(estimate(list(naive(observations, was, then))).value or 0.0)
    assert mean(estimates) == pytest.approx(true, abs=4 * stdev(estimates) / sqrt(60))
    assert hits / 60 >= 0.86
    assert mean(others) > 1.1 * true


def estimate(observations: Sequence[Observation]) -> Estimate:
    return evaluate(observations).figures["cost_per_decision"].told[Estimator.DR].value
