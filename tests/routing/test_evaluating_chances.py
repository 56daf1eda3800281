"""The chances of a policy are the engine's: they hold every decision's propensity, and add up."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from routing.engine import (
    Bundle,
    BundlePersona,
    FlagState,
    SelectionProblem,
    SelectionRequest,
    Standing,
    StandingOverride,
    decide,
)
from routing.evaluating.chances import chances
from routing.scoring import Evidence
from routing.standing import Kind
from tests.routing.cases import bundle, evidence, pools, profile, request, wild_evidence

SHARES = st.sampled_from([0.0, 0.02, 0.3, 1.0])


@st.composite
def policies(draw: st.DrawFn) -> tuple[Bundle, SelectionRequest]:
    """Any scores, shares, flag and overrides, and a request that may exclude, and may have had a profile before."""
    items: list[Evidence] = draw(st.one_of(pools(), pools(wild_evidence)))
    slugs = [item.profile for item in items]
    persona = BundlePersona("essayist", True, "incumbent", draw(SHARES), draw(SHARES), draw(SHARES))
    kinds = draw(st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from(slugs)), max_size=2))
    overrides = tuple(StandingOverride(n, kind, slug) for n, (kind, slug) in enumerate(kinds))
    killed = draw(st.sampled_from([False, False, False, True]))
    made = bundle(
        *items,
        personas={"essayist": persona},
        flag=FlagState(None, percent=draw(st.sampled_from([0.0, 40.0, 100.0]))),
        standing=Standing(overrides, killed_all=killed),
        profiles=[profile(slug, enabled=slug != draw(st.sampled_from([None, "p0"]))) for slug in slugs],
    )
    return made, request(
        f"c-{draw(st.integers(0, 10_000))}",
        exclude=tuple(draw(st.lists(st.sampled_from(slugs), max_size=2, unique=True))),
        last_profile=draw(st.sampled_from([None, *slugs])),
    )


@given(policies())
@hypothesis_settings(max_examples=150)
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


def shared() -> Bundle:
    """The flag is on for 60%, 25% of those are held out, and a third of the rest explores two profiles."""
    return bundle(
        evidence("incumbent", cost="0.02"),
        evidence("cheap", cost="0.002"),
        evidence("new", n=5),
        evidence("newer", n=6),
        personas={"essayist": BundlePersona("essayist", True, "incumbent", 1 / 3, 0.25)},
        flag=FlagState(None, percent=60, salt="s"),
    )


def test_they_are_what_conversations_get() -> None:
    policy = shared()
    split = chances(policy, request())
    assert split.profiles == pytest.approx({"incumbent": 0.55, "cheap": 0.3, "new": 0.075, "newer": 0.075})
    got = Counter(decide(policy, request(f"c-{n}")).profile.slug for n in range(3000))
    for slug, chance in split.profiles.items():
        assert got[slug] / 3000 == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 3000) ** 0.5)


def test_what_a_share_would_be_refused_is_told() -> None:
    # The default is disabled: who is held out, or off the flag, gets a problem.
    policy = replace(
        shared(), profiles={**shared().profiles, "incumbent": profile("incumbent", enabled=False)}
    )
    split = chances(policy, request())
    assert split.refused == pytest.approx(0.55)
    assert "incumbent" not in split.profiles
