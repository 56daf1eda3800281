"""The rules one by one, the problems, and the flag."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine import (
    BundlePersona,
    BundleSnapshot,
    BundleTenant,
    FlagState,
    Reason,
    SelectionProblem,
    decide,
)
from routing.flag_state import stable_share
from telemetry.freshness_state import Freshness, state
from tests.routing.cases import NOW, bundle, evidence, profile, request, scope

CHEAP = evidence("cheap", cost="0.002")
CHEAPER_BUT_BAD = evidence("bad", cost="0.0001", success=0.4)
POOL = (evidence("incumbent"), CHEAP, CHEAPER_BUT_BAD, evidence("middling", cost="0.005"))


def test_the_best_profile_that_meets_the_sla_is_ranked_first_and_the_chain_ends_in_the_default() -> None:
    decision = decide(bundle(*POOL), request())
    assert (decision.profile.slug, decision.reason) == ("cheap", Reason.RANKED)
    assert decision.fallback == ("middling", "incumbent")
    assert decision.propensity == 1.0
    assert decision.explanation.startswith("cheap has the best score")
    assert [card["profile"] for card in decision.candidates] == ["cheap", "middling", "incumbent", "bad"]
    assert (decision.bundle_version, decision.snapshot_id, decision.freshness) == (
        "1.1",
        "7",
        Freshness.FRESH,
    )


def test_with_the_flag_off_it_is_the_default_with_the_ranking_as_fallback() -> None:
    decision = decide(bundle(*POOL, flag=FlagState(everyone=False)), request())
    assert (decision.profile.slug, decision.reason) == ("incumbent", Reason.FLAG_OFF)
    assert decision.fallback == ("cheap", "middling")


def test_nobody_proved_gives_the_default() -> None:
    decision = decide(
        bundle(evidence("incumbent"), CHEAPER_BUT_BAD, scores=scope([CHEAPER_BUT_BAD])), request()
    )
    assert (decision.profile.slug, decision.reason) == ("incumbent", Reason.NO_ELIGIBLE_CANDIDATE)


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(0), Reason.RANKED),
        (timedelta(minutes=-3), Reason.RANKED),
        (timedelta(minutes=15), Reason.RANKED),
        (timedelta(minutes=15, microseconds=1), Reason.TELEMETRY_STALE),
    ],
)
def test_metrics_older_than_fifteen_minutes_never_steer(age: timedelta, reason: Reason) -> None:
    assert decide(bundle(*POOL), request(at=NOW + age)).reason is reason


def test_without_snapshot_or_events_it_is_blind_and_gives_the_default() -> None:
    for blind in (bundle(*POOL, snapshot=None), bundle(*POOL, scores=scope(POOL, as_of=None))):
        decision = decide(blind, request())
        assert (decision.reason, decision.freshness) == (Reason.TELEMETRY_STALE, Freshness.BLIND)
        assert decision.profile.slug == "incumbent"


@pytest.mark.parametrize(
    ("minutes", "expected"), [(0, "fresh"), (5, "fresh"), (6, "degraded"), (15, "degraded"), (16, "stale")]
)
def test_freshness_follows_age(minutes: int, expected: str) -> None:
    assert state(NOW, NOW + timedelta(minutes=minutes)) == expected


@pytest.mark.parametrize(
    ("changes", "asked", "status", "code"),
    [
        ({}, {"tenant": "nowhere"}, 404, "unknown_tenant"),
        ({}, {"persona": "nobody"}, 404, "unknown_persona"),
        ({"tenants": {"aurora": BundleTenant("aurora", enabled=False)}}, {}, 409, "tenant_disabled"),
        (
            {"personas": {"essayist": BundlePersona("essayist", enabled=False, default_profile="incumbent")}},
            {},
            409,
            "persona_disabled",
        ),
        (
            {"flag": FlagState(), "profiles": [profile("incumbent", enabled=False)]},
            {},
            409,
            "profile_disabled",
        ),
        ({"flag": FlagState(), "profiles": [profile("incumbent", tier="slm")]}, {}, 409, "profile_disabled"),
    ],
)
def test_what_cannot_be_given_is_a_problem_never_a_silent_default(
    changes: dict[str, Any], asked: dict[str, Any], status: int, code: str
) -> None:
    with pytest.raises(SelectionProblem) as problem:
        decide(bundle(*POOL, **changes), request(**asked))
    assert (problem.value.status, problem.value.code) == (status, code)


def test_a_ranked_decision_goes_on_without_a_disabled_default() -> None:
    decision = decide(bundle(*POOL, profiles=[profile("incumbent", enabled=False)]), request())
    assert (decision.profile.slug, decision.fallback) == ("cheap", ("middling",))


@pytest.mark.parametrize(
    ("forbidden", "why"),
    [
        ({"enabled": False}, "disabled"),
        ({"tier": "slm"}, "tier slm is not enabled"),
        ({"tier": "micro"}, "tier micro is not enabled"),
    ],
)
def test_what_the_catalogue_forbids_cannot_win_though_the_snapshot_ranks_it(
    forbidden: dict[str, Any], why: str
) -> None:
    decision = decide(bundle(*POOL, profiles=[profile("cheap", **forbidden)]), request())
    assert decision.profile.slug == "middling"
    assert "cheap" not in decision.fallback
    shown = next(card for card in decision.candidates if card["profile"] == "cheap")
    assert (shown["eligible"], shown["rank"], shown["why_not"]) == (False, None, [why])


def test_nobody_loses_to_a_profile_that_the_catalogue_forbids() -> None:
    shown = decide(bundle(*POOL, profiles=[profile("cheap", enabled=False)]), request()).candidates
    assert [(card["profile"], card["rank"]) for card in shown] == [
        ("middling", 1),
        ("incumbent", 2),
        ("bad", None),
        ("cheap", None),
    ]
    assert shown[0]["contrast"] is None
    assert shown[1]["contrast"]["lost_by"] == pytest.approx(0.25)


def test_without_the_rules_of_the_scoring_run_no_loser_is_told_what_would_make_it_win() -> None:
    unkept = replace(scope(POOL), rules=None)
    shown = decide(bundle(*POOL, scores=unkept, profiles=[profile("cheap", enabled=False)]), request())
    assert [card["contrast"] for card in shown.candidates] == [None] * 4


def test_a_profile_that_is_no_longer_in_the_catalogue_cannot_win() -> None:
    known = {slug: profile(slug) for slug in ("incumbent", "middling", "bad")}
    decision = decide(replace(bundle(*POOL), profiles=known), request())
    assert decision.profile.slug == "middling"
    assert decision.candidates[-1]["why_not"] == ["not in the catalogue"]


def test_enabling_a_tier_needs_nothing_else() -> None:
    enabled = bundle(*POOL, profiles=[profile("cheap", tier="slm")], enabled_tiers=frozenset({"llm", "slm"}))
    assert decide(enabled, request()).profile.slug == "cheap"


def test_a_scope_without_scores_of_its_own_uses_its_personas() -> None:
    shared = BundleSnapshot("8", NOW, {}, {"essayist": scope(POOL)})
    assert decide(bundle(*POOL, snapshot=shared), request()).profile.slug == "cheap"


def test_scores_measured_by_another_default_do_not_steer() -> None:
    changed = bundle(*POOL, scope_defaults={("aurora", "essayist"): "middling"})
    decision = decide(changed, request())
    assert (decision.profile.slug, decision.reason) == ("middling", Reason.TELEMETRY_STALE)
    assert decision.explanation.startswith("This scope has no scores measured against its default yet")


def test_the_flag_looks_at_everyone_then_the_tenant_then_its_own_percentage() -> None:
    def is_on(tenant: str = "aurora", persona: str = "essayist", **flag: Any) -> bool:
        return FlagState(**flag).is_on(tenant, persona, "c")

    assert is_on(everyone=True, percent=0, scopes={"aurora": {"essayist": 0}})
    assert not is_on(everyone=False, percent=100, scopes={"aurora": {"essayist": 100}})
    assert is_on(everyone=None, percent=0, tenants={"aurora": 100})
    assert not is_on(everyone=None, percent=100, tenants={"aurora": 0})
    assert is_on("borealis", everyone=None, percent=100)
    one: Any = {"everyone": None, "tenants": {"aurora": 0}, "scopes": {"aurora": {"essayist": 100}}}
    assert is_on(**one)
    assert not is_on(persona="coder", **one)
    assert not is_on("borealis", **one)


def test_a_share_for_one_scope_turns_the_flag_on_somewhere_and_for_others_nowhere() -> None:
    flag = FlagState(everyone=None, scopes={"aurora": {"essayist": 1.0}, "borealis": {"essayist": 0.0}})
    assert flag.is_on_somewhere("aurora")
    assert not flag.is_on_somewhere("borealis")
    assert not FlagState(everyone=False, scopes={"aurora": {"essayist": 1.0}}).is_on_somewhere("aurora")


def test_a_scope_with_a_share_of_its_own_keeps_the_conversations_that_the_tenants_share_gave_it() -> None:
    tenant = FlagState(everyone=None, tenants={"aurora": 20.0}, salt="s")
    scope = FlagState(everyone=None, scopes={"aurora": {"essayist": 20.0}}, salt="s")
    for number in range(200):
        conversation = f"c-{number}"
        given = [flag.is_on("aurora", "essayist", conversation) for flag in (tenant, scope)]
        assert given[0] == given[1]


def test_a_flag_without_shares_of_scopes_reads_as_it_did_before_there_were_any() -> None:
    plain = FlagState(everyone=None, percent=5.0, tenants={"aurora": 1.0}, salt="s")
    told: Any = {"everyone": None, "percent": 5.0, "tenants": {"aurora": 1.0}, "salt": "s"}
    assert plain.to_dict() == told
    assert FlagState(**told) == plain
    scoped = replace(plain, scopes={"aurora": {"essayist": 25.0}})
    assert FlagState(**scoped.to_dict()) == scoped


@given(st.text(min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_raising_a_percentage_never_takes_a_conversation_out(
    conversation: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    for shares in ("percent", "tenants", "scopes"):
        on = []
        for percent in (low, high):
            wanted: Any = {
                "percent": percent,
                "tenants": {"aurora": percent},
                "scopes": {"aurora": {"essayist": percent}},
            }[shares]
            flag = FlagState(everyone=None, salt="s", **{shares: wanted})
            on.append(flag.is_on("aurora", "essayist", conversation))
        assert on != [True, False]


def test_shares_are_spread_evenly_and_independent_between_salts() -> None:
    shares = [stable_share("s", "aurora", f"c-{number}") for number in range(10_000)]
    for tenth in range(10):
        assert 900 < sum(tenth / 10 <= share < (tenth + 1) / 10 for share in shares) < 1100
    both = sum(share < 0.5 and stable_share("t", "aurora", f"c-{n}") < 0.5 for n, share in enumerate(shares))
    assert 2300 < both < 2700


def test_decision_ids_differ_with_anything_that_was_asked() -> None:
    found = bundle(*POOL)
    asked = [
        request(),
        request("c-2"),
        request(task="code"),
        request(at=NOW + timedelta(microseconds=1)),
    ]
    ids = {decide(found, one).decision_id for one in asked}
    ids.add(decide(replace(found, version="2.1"), request()).decision_id)
    assert len(ids) == 5
