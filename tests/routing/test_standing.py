"""What people decided: the kill switch, locks, preferences and exclusions, by precedence."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine import (
    Bundle,
    BundlePersona,
    FlagState,
    Reason,
    SelectionProblem,
    Standing,
    StandingOverride,
    canonical_json,
    decide,
)
from routing.standing import Kind
from tests.routing.cases import NOW, bundle, evidence, profile, request

POOL = [
    evidence("incumbent", cost="0.01"),
    evidence("best", cost="0.002"),
    evidence("next", cost="0.003"),
    evidence("failing", cost="0.0001", success=0.3),
    evidence("new", n=5),
]
HERE: dict[str, Any] = {"tenant": "aurora", "persona": "essayist"}


def override(kind: str, slug: str, id: int = 1, **scope: Any) -> StandingOverride:
    return StandingOverride(id=id, kind=Kind(kind), profile=slug, **scope)


def policy(*overrides: StandingOverride, on: bool = True, **standing: Any) -> Bundle:
    return bundle(*POOL, standing=Standing(tuple(overrides), **standing), flag=FlagState(everyone=on))


def given_by(found: Bundle, **asked: Any) -> tuple[str, Reason]:
    decision = decide(found, request(**asked))
    return decision.profile.slug, decision.reason


@pytest.mark.parametrize("on", [True, False])
def test_a_lock_holds_whether_the_flag_is_on_or_off(on: bool) -> None:
    assert given_by(policy(override("lock", "next", **HERE), on=on)) == ("next", Reason.OVERRIDE_LOCK)


def test_a_lock_below_the_sla_holds_and_is_marked() -> None:
    decision = decide(policy(override("lock", "failing", **HERE)), request())
    assert (decision.profile.slug, decision.propensity) == ("failing", 1.0)
    assert "proved to MISS the SLA" in decision.explanation
    assert decision.fallback == ("best", "next", "incumbent")


@pytest.mark.parametrize("on", [True, False])
def test_a_preference_holds_unless_it_is_proved_to_miss_the_sla(on: bool) -> None:
    assert given_by(policy(override("prefer", "new", **HERE), on=on)) == ("new", Reason.OVERRIDE_PREFER)
    other = given_by(policy(override("prefer", "failing", **HERE), on=on))
    assert other == (("best", Reason.RANKED) if on else ("incumbent", Reason.FLAG_OFF))


def test_a_preference_for_a_disabled_profile_gives_way_to_the_next_one() -> None:
    found = policy(override("prefer", "next", 1, **HERE), override("prefer", "new", 2, tenant="aurora"))
    off = replace(found, profiles={**found.profiles, "next": profile("next", enabled=False)})
    assert given_by(off) == ("new", Reason.OVERRIDE_PREFER)


def test_a_lock_to_a_disabled_profile_is_a_problem_not_a_silent_default() -> None:
    found = policy(override("lock", "next", **HERE))
    off = replace(found, profiles={**found.profiles, "next": profile("next", enabled=False)})
    with pytest.raises(SelectionProblem, match="override_lock"):
        decide(off, request())


@pytest.mark.parametrize(("kind", "slug"), [("lock", "incumbent"), ("lock", "failing"), ("prefer", "new")])
def test_what_people_chose_holds_when_their_exclusions_leave_no_default(kind: str, slug: str) -> None:
    excluded = [override("exclude", name, id) for id, name in enumerate(("incumbent", "best", "next"), 2)]
    decision = decide(policy(override(kind, slug, 1, **HERE), *excluded), request())
    assert (decision.profile.slug, decision.fallback, decision.propensity) == (slug, (), 1.0)
    with pytest.raises(SelectionProblem, match="excludes it, and no other profile"):
        decide(policy(*excluded), request())


def test_exclusions_add_up_over_scopes_and_show_in_the_candidates() -> None:
    found = policy(override("exclude", "best", 1, persona="essayist"), override("exclude", "next", 2))
    decision = decide(found, request())
    assert (decision.profile.slug, decision.fallback) == ("incumbent", ())
    shown = {card["profile"]: card["why_not"] for card in decision.candidates}
    assert shown["best"] == shown["next"] == ["excluded by an override"]
    assert decision.overrides == {"applied": None, "excluding": [1, 2], "shadowed": []}


def test_an_excluded_default_gives_way_to_the_next_in_the_chain() -> None:
    assert given_by(policy(override("exclude", "incumbent"), on=False)) == ("best", Reason.FLAG_OFF)


def test_an_excluded_profile_is_neither_preferred_nor_explored_nor_kept() -> None:
    found = policy(override("exclude", "new", 1), override("prefer", "new", 2, **HERE))
    curious = replace(
        found, personas={"essayist": BundlePersona("essayist", True, "incumbent", 1.0, 0.0, 1.0)}
    )
    assert given_by(curious, last_profile="new") == ("best", Reason.RANKED)


def test_the_most_specific_wins_then_a_task_then_the_newest() -> None:
    ordered = [
        override("lock", "best", 9),
        override("lock", "best", 8, task="essay"),
        override("lock", "best", 7, persona="essayist"),
        override("lock", "best", 6, tenant="aurora"),
        override("lock", "best", 4, **HERE),
        override("lock", "best", 5, **HERE),
        override("lock", "next", 1, **HERE, task="essay"),
    ]
    decision = decide(policy(*ordered), request(task="essay"))
    assert decision.overrides == {"applied": 1, "excluding": [], "shadowed": [5, 4, 6, 7, 8, 9]}
    assert decide(policy(*ordered), request()).overrides["applied"] == 5


@pytest.mark.parametrize("scope", [{"tenant": "borealis"}, {"persona": "coder"}, {"task": "code"}])
def test_an_override_of_another_scope_does_nothing(scope: dict[str, Any]) -> None:
    assert given_by(policy(override("lock", "next", **scope))) == ("best", Reason.RANKED)


def test_an_override_ends_by_the_clock_without_anybody_doing_anything() -> None:
    found = policy(override("lock", "next", expires_at=NOW + timedelta(hours=1), **HERE))
    assert given_by(found, at=NOW + timedelta(minutes=4))[1] is Reason.OVERRIDE_LOCK
    assert given_by(found, at=NOW + timedelta(hours=1))[1] is Reason.TELEMETRY_STALE


def test_a_worker_that_cannot_take_the_locked_profile_gets_another() -> None:
    assert given_by(policy(override("lock", "next", **HERE)), exclude=("next",)) == ("best", Reason.RANKED)


@pytest.mark.parametrize("standing", [{"killed_all": True}, {"killed": frozenset({"aurora"})}])
def test_the_kill_switch_gives_the_default_whatever_else_stands(standing: dict[str, Any]) -> None:
    found = policy(override("lock", "next", 1, **HERE), override("prefer", "best", 2, **HERE), **standing)
    decision = decide(found, request())
    assert (decision.profile.slug, decision.reason) == ("incumbent", Reason.KILL_SWITCH)
    assert decision.overrides == {"applied": None, "excluding": [], "shadowed": [2, 1]}


def test_the_kill_switch_of_one_tenant_leaves_the_others_alone() -> None:
    assert given_by(policy(killed=frozenset({"borealis"}))) == ("best", Reason.RANKED)


def test_under_the_kill_switch_exclusions_still_protect() -> None:
    found = policy(override("exclude", "incumbent"), killed_all=True)
    assert given_by(found) == ("best", Reason.KILL_SWITCH)


slugs = st.sampled_from(["incumbent", "best", "next", "failing", "new"])
standing_overrides = st.lists(
    st.builds(
        StandingOverride,
        id=st.just(0),
        kind=st.sampled_from(Kind),
        profile=slugs,
        tenant=st.sampled_from([None, "aurora", "borealis"]),
        persona=st.sampled_from([None, "essayist", "coder"]),
        task=st.sampled_from([None, "essay", "general"]),
        expires_at=st.sampled_from([None, NOW, NOW + timedelta(seconds=1)]),
    ),
    max_size=8,
).map(lambda items: tuple(replace(item, id=number) for number, item in enumerate(items)))


def oracle(overrides: tuple[StandingOverride, ...]) -> str:
    """The rules of DESIGN.md, naively: what people's choices alone would give, or "automatic"."""
    stand = [
        o
        for o in overrides
        if o.tenant in (None, "aurora")
        and o.persona in (None, "essayist")
        and o.task in (None, "general")
        and (o.expires_at is None or o.expires_at > NOW)
    ]
    excluded = {o.profile for o in stand if o.kind is Kind.EXCLUDE}

    def strongest(kind: Kind) -> list[StandingOverride]:
        def weight(o: StandingOverride) -> int:
            level = {(True, True): 3, (True, False): 2, (False, True): 1, (False, False): 0}
            rank = level[o.tenant is not None, o.persona is not None]
            return rank * 1_000 + (o.task is not None) * 100 + o.id

        return sorted((o for o in stand if o.kind is kind), key=weight)

    if locks := strongest(Kind.LOCK):
        return locks[-1].profile
    for o in reversed(strongest(Kind.PREFER)):
        if o.profile not in excluded and o.profile != "failing":
            return o.profile
    return "automatic"


@given(standing_overrides)
def test_precedence_is_that_of_a_naive_oracle(overrides: tuple[StandingOverride, ...]) -> None:
    expected = oracle(overrides)
    try:
        decision = decide(policy(*overrides), request())
    except SelectionProblem as problem:
        assert (problem.code, expected) == ("all_excluded", "automatic")  # noqa: PT017
        return
    people = decision.reason in (Reason.OVERRIDE_LOCK, Reason.OVERRIDE_PREFER)
    assert (decision.profile.slug if people else "automatic") == expected
    told = decision.overrides
    ids = [*told["excluding"], *told["shadowed"], *([] if told["applied"] is None else [told["applied"]])]
    assert len(ids) == len(set(ids))


@given(standing_overrides, st.sets(st.sampled_from(["aurora", "borealis"])), st.booleans())
def test_what_stands_survives_json_and_a_tenants_view(
    overrides: tuple[StandingOverride, ...], killed: set[str], killed_all: bool
) -> None:
    standing = Standing(overrides, frozenset(killed), killed_all)
    assert Standing.from_dict(orjson.loads(canonical_json(standing.to_dict()))) == standing
    mine = standing.for_tenants({"aurora"})
    assert mine.of("aurora", "essayist", "general", NOW) == standing.of("aurora", "essayist", "general", NOW)
    assert mine.is_killed("aurora") == standing.is_killed("aurora")
    assert all(o.tenant != "borealis" for o in mine.overrides)
