"""The preview of a change: what it says will be is what is, once the change has been made."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from catalog.models import ModelProfile, Persona
from overrides.audit import Actor
from overrides.flags import read_flag
from overrides.precedence import Hypothetical
from overrides.previewing import Proposal, preview
from overrides.services import Wish, create_override, revoke_override, set_kill_switch
from routing.bundle import current_bundle, forget_bundle
from routing.engine import Reason, SelectionProblem, SelectionRequest, decide
from routing.models import ConversationSelection, Selection
from routing.snapshots import Windows, read_catalogue, score_all, store_snapshot, write_snapshot
from telemetry.clickhouse import ClickHouse, close_clickhouse
from telemetry.totals import Totals
from tests import factories
from tests.routing.cases import totals
from tests.routing.scenes import flip, totals_at
from tests.services import free_ports
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db
ACTOR = Actor("user:ops", "operator")
REASON = "tried in a test, ticket 1"
HERE: dict[str, Any] = {"tenant": "aurora", "persona": "essayist"}
TENANTS, PERSONAS = ("aurora", "borealis"), ("coder", "essayist")
POOL = {
    "incumbent": totals(cost="0.02", success=0.9, latency_ms=1000),
    "cheap": totals(cost="0.002", success=0.8, latency_ms=2000),
    "good": totals(cost="0.015", success=0.99, latency_ms=500),
    "failing": totals(cost="0.001", success=0.3),
    "new": totals(n=5, cost="0.001"),
}


def score(pool: Mapping[str, Totals] = POOL) -> None:
    """Store scores of all scopes, each from these totals."""
    now = timezone.now()
    found = {slug: totals_at(item, now) for slug, item in pool.items()}
    scopes = product((None, *TENANTS), PERSONAS)
    store_snapshot(score_all(read_catalogue(), Windows(dict.fromkeys(scopes, found), {})), 1, now)
    forget_bundle()


@pytest.fixture(autouse=True)
def _catalogue() -> None:
    for slug in TENANTS:
        factories.tenant(slug)
    for slug in PERSONAS:
        factories.persona(slug, default_profile=factories.profile("incumbent"))
    for slug in POOL:
        factories.profile(slug)
    factories.profile("off", enabled=False)
    flip(100)
    score()


def told(proposal: Proposal, tenants: frozenset[str] | None = None) -> dict[str, Any]:
    return preview(proposal, tenants, timezone.now())


def wished(kind: str, profile: str, **scope: Any) -> Proposal:
    return Proposal(add=(Hypothetical(None, kind, profile, **scope),))


def make(kind: str, profile: str, **scope: Any) -> int:
    made: int = create_override(Wish(kind, profile, REASON, **scope), ACTOR, timezone.now()).pk
    forget_bundle()
    return made


def sides(scope: dict[str, Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    return tuple((scope[side]["profile"], scope[side]["reason"]) for side in ("old", "new"))  # type: ignore[return-value]


def converse(count: int, task: str = "general", at: datetime | None = None, **scope: str) -> None:
    """Conversations whose last decision was made then."""
    at = at or timezone.now() - timedelta(minutes=1)
    for _ in range(count):
        decision = uuid4()
        Selection.objects.create(
            **{**HERE, **scope},
            decision_id=decision,
            decided_at=at,
            recorded_at=at,
            task=task,
            conversation_id=str(decision),
            profile="cheap",
            reason="ranked",
            source="remote",
            caller="key:x",
            policy="1-x",
            core="{}",
        )
        ConversationSelection.objects.create(
            **{**HERE, **scope},
            conversation_id=str(decision),
            profile="cheap",
            reason="ranked",
            decision_id=decision,
            decided_at=at,
        )


def test_a_lock_shows_old_and_new_with_their_figures_and_what_changes() -> None:
    converse(48)
    converse(24, tenant="borealis")
    answer = told(wished("lock", "good", **HERE))
    assert (answer["scopes_checked"], answer["scopes_changed"], answer["profiles_changed"]) == (1, 1, 1)
    assert (answer["conversations_per_hour"], answer["share_of_traffic"]) == (2.0, pytest.approx(2 / 3))
    assert (answer["breaches"], answer["problems"], answer["more"], answer["unknown"]) == (0, 0, 0, None)
    [scope] = answer["scopes"]
    assert sides(scope) == (("cheap", "ranked"), ("good", "override_lock"))
    assert (scope["tenant"], scope["persona"], scope["task"]) == ("aurora", "essayist", None)
    assert (Decimal(scope["old"]["cost_per_completion"]), scope["old"]["n"]) == (Decimal("0.002"), 400)
    change = scope["change"]
    assert Decimal(change["cost_per_completion"]) == Decimal("0.013")
    assert (change["cost_ratio"], change["success_rate"]) == (7.5, pytest.approx(0.19))
    assert change["latency_p95_ms"] == pytest.approx(-1500, rel=0.05)
    assert (scope["conversations_per_hour"], scope["sla"], scope["shares"]) == (2.0, [], {})


def test_a_change_without_effect_changes_no_scope() -> None:
    make("lock", "good", **HERE)
    answer = told(wished("prefer", "cheap", **HERE))
    assert (answer["scopes_checked"], answer["scopes_changed"], answer["scopes"]) == (1, 0, [])
    assert told(Proposal()) == answer | {"scopes_checked": 0}


def test_a_profile_below_the_sla_is_a_breach_with_its_clauses() -> None:
    answer = told(wished("lock", "failing", **HERE))
    assert answer["breaches"] == 1
    [clause] = answer["scopes"][0]["sla"]
    assert (clause["clause"], clause["verdict"], clause["limit"], clause["n"]) == (
        "success",
        "FAIL",
        0.6,
        400,
    )
    unproven = told(wished("lock", "new", **HERE))
    assert unproven["breaches"] == 0
    assert {clause["verdict"] for clause in unproven["scopes"][0]["sla"]} == {"UNPROVEN"}


def test_a_scope_that_would_be_a_409_says_so() -> None:
    answer = told(wished("lock", "off", **HERE))
    [scope] = answer["scopes"]
    assert (answer["problems"], scope["new"]["profile"], scope["sla"]) == (1, None, None)
    assert scope["new"]["problem"]["code"] == "profile_disabled"
    assert "disabled" in scope["new"]["problem"]["detail"]
    assert set(scope["change"].values()) == {None}


def test_a_profile_without_a_scorecard_has_unknown_figures_not_zeros() -> None:
    factories.profile("brand-new")
    forget_bundle()
    [scope] = told(wished("lock", "brand-new", **HERE))["scopes"]
    figures = {
        scope["new"][name]
        for name in ("cost_per_completion", "success_rate", "latency_p95_ms", "n", "borrowed")
    }
    assert (figures, scope["sla"]) == ({None}, None)


def test_revoking_shows_what_comes_back() -> None:
    pk = make("lock", "good", **HERE)
    [scope] = told(Proposal(remove=frozenset({pk})))["scopes"]
    assert sides(scope) == (("good", "override_lock"), ("cheap", "ranked"))
    moved = replace(wished("lock", "good", tenant="borealis", persona="essayist"), remove=frozenset({pk}))
    assert [scope["tenant"] for scope in told(moved)["scopes"]] == ["aurora", "borealis"]


def test_tasks_that_overrides_name_are_scopes_of_their_own_with_their_traffic() -> None:
    make("lock", "good", task="essay", **HERE)
    converse(24, task="essay")
    converse(72, task="code")
    answer = told(wished("exclude", "cheap", **HERE))
    assert (answer["scopes_checked"], answer["scopes_changed"]) == (2, 1)
    assert (answer["scopes"][0]["task"], answer["scopes"][0]["conversations_per_hour"]) == (None, 3.0)
    answer = told(wished("lock", "incumbent", **HERE, task="essay"))
    assert (answer["scopes"][0]["task"], answer["conversations_per_hour"]) == ("essay", 1.0)


def test_conversations_of_other_days_do_not_count() -> None:
    converse(5, at=timezone.now() - timedelta(hours=25))
    answer = told(wished("lock", "good", **HERE))
    assert (answer["conversations_per_hour"], answer["share_of_traffic"]) == (0.0, None)


def test_the_kill_switch_shows_the_defaults_that_come() -> None:
    answer = told(Proposal(kill_switch={"aurora": True}))
    assert {sides(scope) for scope in answer["scopes"]} == {
        (("cheap", "ranked"), ("incumbent", "kill_switch"))
    }
    assert [scope["tenant"] for scope in answer["scopes"]] == ["aurora", "aurora"]
    assert told(Proposal(kill_switch={None: True}))["scopes_changed"] == 4
    assert told(Proposal(kill_switch={None: False}))["scopes_changed"] == 0


def test_a_flag_shows_the_share_and_what_the_treated_get() -> None:
    flip(0)
    flag = read_flag()
    answer = told(Proposal(flag=replace(flag, tenants={"aurora": 5.0})))
    assert answer["scopes_changed"] == 2
    scope = answer["scopes"][0]
    assert sides(scope) == (("incumbent", "flag_off"), ("cheap", "ranked"))
    assert scope["shares"] == {"flag": {"old": 0.0, "new": 0.05}}
    flip(5)
    more = told(Proposal(flag=replace(read_flag(), percent=50.0)))
    assert (more["scopes_changed"], more["profiles_changed"]) == (4, 0)
    assert more["scopes"][0]["shares"]["flag"] == {"old": 0.05, "new": 0.5}


def test_other_weights_and_limits_are_scored_from_scorecards_without_clickhouse(settings: Settings) -> None:
    away(settings)
    weights = {"weight_cost": "0.05", "weight_success": "0.75", "weight_latency": "0.2"}
    answer = told(Proposal(personas={"essayist": weights}))
    assert [sides(scope) for scope in answer["scopes"]] == [(("cheap", "ranked"), ("good", "ranked"))] * 2
    strict = told(Proposal(personas={"essayist": {"min_success_rate": 0.85}}))
    assert sides(strict["scopes"][0])[1] == ("good", "ranked")
    held = told(Proposal(personas={"coder": {"holdout_share": "0.25", "name": "Programmer"}}))
    assert held["scopes"][0]["shares"] == {"holdout": {"old": 0.0, "new": 0.25}}
    assert (held["scopes_changed"], held["profiles_changed"]) == (2, 0)


def away(settings: Settings) -> None:
    settings.CLICKHOUSE_URL = f"clickhouse://127.0.0.1:{free_ports(1)[0]}/nowhere"
    close_clickhouse()


def test_another_default_is_scored_as_the_next_snapshot_would() -> None:
    flip(0)
    answer = told(Proposal(scope_defaults={("aurora", "essayist"): "good"}))
    assert [sides(scope) for scope in answer["scopes"]] == [(("incumbent", "flag_off"), ("good", "flag_off"))]
    flip(100)
    Persona.objects.update(weight_cost="0.1", weight_success="0.8", weight_latency="0.1")
    score()
    both = told(Proposal(personas={"essayist": {"default_profile": "failing"}}))
    # All cost more than the failing one: it is the cheapest that meets the SLA, whatever the weights.
    assert [sides(scope) for scope in both["scopes"]] == [(("good", "ranked"), ("cheap", "ranked"))] * 2


def test_a_limit_that_scorecards_cannot_judge_is_judged_by_the_metrics(door: ClickHouse) -> None:
    now = timezone.now()
    at = (now - timedelta(minutes=3)).isoformat()
    events = [
        factories.event(profile=slug, occurred_at=at, latency_ms=ms, cost_usd=cost)
        for slug, ms, cost in (("incumbent", 1000, "0.02"), ("cheap", 4000, "0.002"), ("good", 1000, "0.015"))
        for _ in range(60)
    ]
    run_pipeline(door, events, now)
    write_snapshot(door, now)
    forget_bundle()
    answer = told(Proposal(personas={"essayist": {"max_latency_p95_ms": 2000}}))
    expected = [(("cheap", "ranked"), ("good", "ranked"))] * 2  # borealis borrows
    assert [sides(scope) for scope in answer["scopes"]] == expected
    Persona.objects.filter(slug="essayist").update(max_latency_p95_ms=2000)
    write_snapshot(door, now)
    forget_bundle()
    assert really("aurora", "essayist", "general") == ("good", "ranked")


def test_without_clickhouse_such_a_limit_is_unknown_and_says_why(settings: Settings) -> None:
    away(settings)
    answer = told(Proposal(personas={"essayist": {"max_latency_p95_ms": 2000}}))
    unknown = (
        "scopes_checked",
        "scopes_changed",
        "breaches",
        "conversations_per_hour",
        "share_of_traffic",
        "problems",
    )
    assert {answer[name] for name in unknown} == {None}
    assert "cannot be read" in answer["unknown"]


def test_foreign_tenants_are_neither_shown_nor_counted() -> None:
    converse(24)
    converse(24, tenant="borealis")
    answer = told(wished("lock", "good", persona="essayist"), frozenset({"aurora"}))
    assert [scope["tenant"] for scope in answer["scopes"]] == ["aurora"]
    assert (answer["scopes_checked"], answer["conversations_per_hour"]) == (1, 1.0)
    assert answer["share_of_traffic"] == 1.0
    assert told(wished("lock", "good", **HERE), frozenset({"borealis"}))["scopes_checked"] == 0


@pytest.mark.parametrize(
    ("proposal", "message"),
    [
        (wished("lock", "nobody", **HERE), "the profile 'nobody'"),
        (wished("lock", "cheap", tenant="nobody"), "the tenant 'nobody'"),
        (Proposal(personas={"nobody": {}}), "the persona 'nobody'"),
        (Proposal(personas={"essayist": {"default_profile": "nobody"}}), "the profile 'nobody'"),
        (Proposal(scope_defaults={("aurora", "essayist"): "nobody"}), "the profile 'nobody'"),
    ],
)
def test_what_the_policy_does_not_know_yet_is_unknown_not_without_effect(
    proposal: Proposal, message: str
) -> None:
    answer = told(proposal)
    assert (answer["scopes_checked"], answer["scopes_changed"]) == (None, None)
    assert message in answer["unknown"]


def test_a_field_that_personas_do_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match="no 'charm'"):
        told(Proposal(personas={"essayist": {"charm": 1}}))


@pytest.mark.parametrize(
    "values", [{"min_success_rate": "1.5"}, {"weight_cost": "0.9"}, {"min_samples": "x"}]
)
def test_values_that_no_persona_may_have_are_errors(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        told(Proposal(personas={"essayist": values}))


def test_the_queries_do_not_grow_with_the_scopes(django_assert_num_queries: Any) -> None:
    proposals = [
        (wished("lock", "good", task="essay"), 2),
        (Proposal(kill_switch={None: True}), 1),
        (Proposal(personas={"essayist": {"weight_cost": "0.3", "weight_success": "0.5"}}), 2),
    ]
    for more in (0, 60):
        for number in range(more):
            factories.tenant(f"tenant-{number}")
        forget_bundle()
        current_bundle()
        for proposal, queries in proposals:
            with django_assert_num_queries(queries):
                answer = told(proposal)
        assert answer["scopes_checked"] == 2 + more
    many = told(Proposal(kill_switch={None: True}))
    assert (many["scopes_changed"], len(many["scopes"]), many["more"]) == (124, 50, 74)


def really(tenant: str, persona: str, task: str) -> tuple[str | None, str]:
    """What a conversation really gets now: the profile and the reason, or the problem's code."""
    asked = SelectionRequest(tenant, persona, f"c-{tenant}", timezone.now(), task=task)
    try:
        decision = decide(current_bundle(), asked)
    except SelectionProblem as problem:
        return None, problem.code
    return decision.profile.slug, decision.reason.value


wishes = st.builds(
    Wish,
    kind=st.sampled_from(["lock", "prefer", "exclude"]),
    profile=st.sampled_from([*POOL, "off"]),
    reason=st.just(REASON),
    tenant=st.sampled_from([None, "aurora", "borealis"]),
    persona=st.sampled_from([None, *PERSONAS]),
    task=st.sampled_from([None, None, "essay", "code"]),
)
SCOPES = list(product(TENANTS, PERSONAS, ("essay", "code", "chat")))


class _Tried(Exception):
    """Nothing stays."""


@hypothesis_settings(max_examples=60)
@given(st.lists(wishes, max_size=6), wishes, st.sampled_from([0, 100]), st.booleans(), st.booleans())
def test_what_it_says_will_be_is_what_is_once_the_change_is_made(
    standing: list[Wish], wish: Wish, percent: int, killed: bool, revoked: bool
) -> None:
    with suppress(_Tried), transaction.atomic():
        flip(percent)
        ModelProfile.objects.filter(slug="off").update(enabled=True)
        for item in standing:
            create_override(item, ACTOR, timezone.now())
        if killed:
            set_kill_switch("aurora", True, REASON, ACTOR, timezone.now())
        last = create_override(wish, ACTOR, timezone.now()).pk if revoked else None
        ModelProfile.objects.filter(slug="off").update(enabled=False)
        forget_bundle()
        before = {scope: really(*scope) for scope in SCOPES}
        if last is not None:
            answer = told(Proposal(remove=frozenset({last})))
            revoke_override(last, 1, REASON, ACTOR, timezone.now())
        else:
            answer = told(Proposal(add=(Hypothetical.of(wish),)))
            ModelProfile.objects.filter(slug="off").update(enabled=True)
            create_override(wish, ACTOR, timezone.now())
            ModelProfile.objects.filter(slug="off").update(enabled=False)
        forget_bundle()
        shown = {(s["tenant"], s["persona"], s["task"]): s for s in answer["scopes"]}
        named = {(item.tenant, item.persona, item.task) for item in (*standing, wish)}
        for scope in SCOPES:
            tenant, persona, task = scope
            is_named = any(t in (None, tenant) and p in (None, persona) and k == task for t, p, k in named)
            entry = shown.get((tenant, persona, task if is_named else None))
            after = really(*scope)
            if entry is None:
                assert before[scope] == after, scope
            else:
                assert (told_of(entry["old"]), told_of(entry["new"])) == (before[scope], after), scope
        raise _Tried
    forget_bundle()


def told_of(side: dict[str, Any]) -> tuple[str | None, str]:
    return side["profile"], side["reason"] or side["problem"]["code"]


def test_the_reasons_are_the_engines() -> None:
    reasons = {sides(scope)[1][1] for scope in told(wished("prefer", "new"))["scopes"]}
    assert reasons == {Reason.OVERRIDE_PREFER.value}
