"""The chances of a policy are the engine's: they hold every decision's propensity, and add up."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from routing.engine import Bundle, SelectionProblem, SelectionRequest, decide
from routing.evaluating.chances import chances
from tests.routing.cases import profile, request
from tests.routing.lotteries import lotteries, lottery


@given(lotteries())
@hypothesis_settings(max_examples=60)
def test_they_hold_each_decisions_propensity_and_add_up_to_all(case: tuple[Bundle, SelectionRequest]) -> None:
    policy, asked = case
    try:
        decision = decide(policy, asked)
    except SelectionProblem:
        return
    split = chances(policy, asked)
    assert split.profiles[decision.profile.slug] == decision.propensity
    assert sum(split.profiles.values()) + split.refused == pytest.approx(1, abs=1e-9)
    assert all(chance > 0 for chance in split.profiles.values())


def test_they_are_what_conversations_get() -> None:
    policy = lottery(exploration=1 / 3, holdout=0.25, percent=60)
    split = chances(policy, request())
    assert split.profiles == pytest.approx({"incumbent": 0.55, "main": 0.3, "new": 0.15})
    got = Counter(decide(policy, request(f"c-{n}")).profile.slug for n in range(3000))
    for slug, chance in split.profiles.items():
        assert got[slug] / 3000 == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 3000) ** 0.5)


def test_what_a_share_would_be_refused_is_told() -> None:
    # The default is disabled: who is held out, or off the flag, gets a problem.
    policy = lottery(holdout=0.25, percent=60)
    off = replace(policy, profiles={**policy.profiles, "incumbent": profile("incumbent", enabled=False)})
    split = chances(off, request())
    assert split.refused == pytest.approx(0.55)
    assert "incumbent" not in split.profiles
