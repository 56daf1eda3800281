"""Guarded rollouts over the API: what starting, pausing, resuming, rolling back and cancelling do to the flag, who may,
and what is refused."""

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from catalog.models import Tenant
from overrides.flags import read_flag
from overrides.models import AuditEntry, Flag, FlagScope, FlagTenant
from routing.bundle import current_bundle, forget_bundle
from routing.guarding import services
from routing.guarding.models import Rollout, RolloutStep
from tests import factories
from tests.overrides.people import REASON, call, someone
from tests.routing.scenes import flip, ranked_scope

pytestmark = pytest.mark.django_db
SCOPE = {"tenant": "aurora", "persona": "essayist"}
WISH = {**SCOPE, "reason": REASON}
WHOLE = {"tenant": "aurora", "reason": REASON}


@pytest.fixture
def key() -> dict[str, str]:
    ranked_scope()
    # With one salt conversations lie on the same sides in every run.
    Flag.objects.update(salt="s")
    flip(0)
    return factories.key("read", "flags")


def start(client: Client, key: dict[str, str], body: Any = WISH, **headers: str) -> Any:
    return call(client, "post", "/rollouts", body, key, **headers)


def act(client: Client, key: dict[str, str], row: Any, what: str, **body: Any) -> Any:
    """An action on a rollout as it was seen."""
    body = {"reason": REASON, **body}
    return call(client, "post", f"/rollouts/{row['id']}/{what}", body, key, If_Match=f'"{row["version"]}"')


def done(answer: Any) -> dict[str, Any]:
    assert answer.status_code in (200, 201), answer.content
    told: dict[str, Any] = answer.json()
    return told


def share(persona: str = "essayist") -> float:
    forget_bundle()
    return current_bundle().flag.share("aurora", persona)


def entries() -> list[tuple[str, str, str]]:
    return list(AuditEntry.objects.order_by("seq").values_list("actor", "verb", "object_type"))


def test_a_rollout_of_a_scope_begins_at_its_first_step(client: Client, key: dict[str, str]) -> None:
    answer = start(client, key)
    assert answer.status_code == 201
    told = done(answer)
    assert answer["ETag"] == '"1"'
    assert (told["state"], told["step"], told["share"], told["plan"]["steps"]) == (
        "running",
        0,
        1.0,
        [1, 5, 25, 50, 100],
    )
    assert told["waits_for"] == ["the first look at its evidence, within a minute"]
    assert read_flag().scopes == {"aurora": {"essayist": 1.0}}
    assert (share(), share("coder")) == (0.01, 0.0)
    assert [entry[1:] for entry in entries()] == [("update", "flag"), ("start", "rollout")]
    one = done(call(client, "get", f"/rollouts/{told['id']}", key=key))
    assert [(step["index"], step["percent"], step["ended_at"]) for step in one["steps"]] == [(0, 1.0, None)]


def test_decisions_under_a_scopes_share_replay_byte_for_byte(client: Client, key: dict[str, str]) -> None:
    done(start(client, key, {**WISH, "plan": {"steps": [50, 100]}}))
    forget_bundle()
    asking = factories.key("select", "read")
    reasons = set()
    for number in range(12):
        body = {**SCOPE, "conversation_id": f"c-{number}"}
        made = call(client, "post", "/selections", body, asking).json()
        reasons.add(made["reason"])
        again = call(client, "get", f"/selections/{made['decision_id']}", key=asking).json()
        assert again["replay"]["verdict"] == "equal"
    assert reasons == {"ranked", "flag_off"}


def test_a_rollout_of_a_whole_tenant_sets_the_tenants_share(client: Client, key: dict[str, str]) -> None:
    told = done(start(client, key, {**WHOLE, "plan": {"steps": [2.5, 100]}}))
    assert (told["persona"], told["share"]) == (None, 2.5)
    assert read_flag().tenants == {"aurora": 2.5}
    assert (share(), share("coder")) == (0.025, 0.025)


def test_it_begins_at_a_later_step_rather_than_take_the_flag_from_conversations(
    client: Client, key: dict[str, str]
) -> None:
    FlagTenant.objects.create(flag=Flag.objects.get(), tenant=Tenant.objects.get(), rollout_percent=10)
    refused = start(client, key)
    assert (refused.status_code, refused.json()["code"]) == (409, "share_above_step")
    assert "10% there already, and this would lower it to 1%" in refused.json()["detail"]
    assert not Rollout.objects.exists()
    assert done(start(client, key, {**WISH, "step": 2}))["share"] == 25


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": "short"}, "reason"),
        ({"persona": "nobody"}, "persona"),
        ({"step": 5}, "step"),
        ({"plan": {"steps": [5, 1]}}, "plan.steps"),
        ({"plan": {"steps": [0.001]}}, "plan.steps"),
        ({"plan": {"alpha": 2}}, "plan.alpha"),
        ({"plan": {"margins": {"success": 0}}}, "plan.margins"),
        ({"plan": {"min_conversations": 0}}, "plan.min_conversations"),
        ({"plan": {"speed": 1}}, "plan"),
        ({"steps": [1]}, "Unknown members"),
    ],
)
def test_what_is_wrong_with_a_wish_is_told_by_field_and_nothing_begins(
    client: Client, key: dict[str, str], body: dict[str, Any], field: str
) -> None:
    answer = start(client, key, {**WISH, **body})
    assert answer.status_code == 400, answer.content
    assert field in answer.content.decode()
    assert all(not model.objects.exists() for model in (Rollout, AuditEntry, FlagScope))


@pytest.mark.parametrize(("first", "second"), [(WISH, WISH), (WHOLE, WISH), (WISH, WHOLE), (WHOLE, WHOLE)])
def test_two_that_overlap_cannot_be(
    client: Client, key: dict[str, str], first: dict[str, str], second: dict[str, str]
) -> None:
    row = done(start(client, key, first))
    other = start(client, key, second)
    assert (other.status_code, other.json()["code"]) == (409, "overlap")
    assert f"Rollout {row['id']} of aurora" in other.json()["detail"]
    done(act(client, key, row, "cancel"))
    done(start(client, key, second))


@pytest.mark.parametrize("body", [WISH, WHOLE])
def test_of_two_that_begin_at_one_moment_the_database_keeps_one(
    client: Client, key: dict[str, str], body: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done(start(client, key, body))
    # As for somebody who looked before the other's was there.
    monkeypatch.setattr(services, "_check_overlap", lambda tenant, persona: None)
    late = start(client, key, body)
    assert (late.status_code, late.json()["code"]) == (409, "overlap")
    assert Rollout.objects.count() == 1
    assert AuditEntry.objects.filter(object_type="rollout").count() == 1


def test_two_personas_of_one_tenant_roll_out_apart(client: Client, key: dict[str, str]) -> None:
    factories.persona("coder")
    done(start(client, key))
    done(start(client, key, {**WISH, "persona": "coder", "plan": {"steps": [10]}}))
    assert (share(), share("coder")) == (0.01, 0.1)


@pytest.mark.parametrize("everyone", [True, False])
def test_it_cannot_begin_while_the_flag_is_set_for_everybody(
    client: Client, key: dict[str, str], everyone: bool
) -> None:
    Flag.objects.update(everyone=everyone)
    assert start(client, key).json()["code"] == "flag_not_by_percentages"


def test_a_pause_keeps_the_share_and_resuming_goes_on_with_the_step(
    client: Client, key: dict[str, str]
) -> None:
    row = done(start(client, key))
    paused = done(act(client, key, row, "pause"))
    assert (paused["state"], paused["version"], share()) == ("paused", 2, 0.01)
    assert paused["waits_for"] == ["a person to resume or cancel it"]
    assert act(client, key, row, "pause").json()["code"] == "version_conflict"
    assert act(client, key, paused, "pause").json()["code"] == "not_possible"
    resumed = done(act(client, key, paused, "resume"))
    assert (resumed["state"], resumed["attempt"], resumed["step_began_at"]) == (
        "running",
        1,
        row["step_began_at"],
    )
    assert [verb for _, verb, kind in entries() if kind == "rollout"] == ["start", "pause", "resume"]


def test_rolled_back_by_a_person_it_stays_off_until_it_is_resumed_with_new_evidence(
    client: Client, key: dict[str, str]
) -> None:
    row = done(start(client, key, {**WISH, "step": 1}))
    back = done(act(client, key, row, "roll-back"))
    assert (back["state"], back["by_itself"], back["share"], share()) == ("rolled_back", False, 0, 0.0)
    assert act(client, key, back, "resume", step=2).json()["code"] == "step_not_reached"
    again = done(act(client, key, back, "resume"))
    assert (again["state"], again["step"], again["attempt"], share()) == ("running", 0, 2, 0.01)
    steps = done(call(client, "get", f"/rollouts/{row['id']}", key=key))["steps"]
    assert [(step["attempt"], step["index"], step["ended_as"]) for step in steps] == [
        (1, 1, "roll_back"),
        (2, 0, None),
    ]


def test_cancelled_it_leaves_the_share_and_makes_room_for_another(
    client: Client, key: dict[str, str]
) -> None:
    row = done(start(client, key, {**WISH, "step": 1}))
    assert done(act(client, key, row, "cancel"))["state"] == "cancelled"
    assert share() == 0.05
    done(start(client, key, {**WISH, "step": 1}))


def test_a_rollout_after_a_share_was_changed_by_hand_begins_anew_only_at_a_step_that_is_named(
    client: Client, key: dict[str, str]
) -> None:
    row = done(act(client, key, done(start(client, key)), "pause"))
    FlagScope.objects.update(rollout_percent=Decimal(7))
    refused = act(client, key, row, "resume")
    assert refused.json()["code"] == "share_changed"
    assert "was set to 7% by hand; the rollout had set it to 1%" in refused.json()["detail"]
    assert (done(act(client, key, row, "resume", step=0))["attempt"], share()) == (2, 0.01)


def test_a_repeat_with_one_key_is_one_rollout(client: Client, key: dict[str, str]) -> None:
    first, second = (start(client, key, Idempotency_Key="once") for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert Rollout.objects.count() == 1


def test_an_action_without_if_match_or_with_a_short_reason_is_refused(
    client: Client, key: dict[str, str]
) -> None:
    row = done(start(client, key))
    path = f"/rollouts/{row['id']}/pause"
    assert call(client, "post", path, {"reason": REASON}, key).status_code == 428
    assert act(client, key, row, "pause", reason="no").status_code == 400
    assert Rollout.objects.get().state == "running"


def test_it_takes_the_verb_and_a_foreign_tenants_is_not_there(client: Client, key: dict[str, str]) -> None:
    row = done(start(client, key))
    reader = factories.key("read")
    assert start(client, reader).status_code == 403
    assert act(client, reader, row, "roll-back").status_code == 403
    assert len(done(call(client, "get", "/rollouts", key=reader))["results"]) == 1
    factories.tenant("borealis")
    foreign = factories.key("read", "flags", tenants=("borealis",))
    for answer in (
        call(client, "get", f"/rollouts/{row['id']}", key=foreign),
        act(client, foreign, row, "cancel"),
        start(client, foreign),
    ):
        assert answer.status_code == 404
    assert done(call(client, "get", "/rollouts", key=foreign))["results"] == []


def test_the_list_is_filtered_by_scope_and_state(client: Client, key: dict[str, str]) -> None:
    done(act(client, key, done(start(client, key)), "cancel"))
    done(start(client, key, {**WISH, "step": 1}))

    def found(query: str) -> list[str]:
        return [row["state"] for row in done(call(client, "get", f"/rollouts?{query}", key=key))["results"]]

    assert found("") == ["running", "cancelled"]
    assert found("state=running&tenant=aurora&persona=essayist") == ["running"]
    assert found("persona=coder") == []
    assert call(client, "get", "/rollouts?state=odd", key=key).status_code == 400


def test_a_dry_run_tells_what_the_first_step_would_switch_and_changes_nothing(
    client: Client, key: dict[str, str]
) -> None:
    told = done(call(client, "post", "/rollouts?dry_run=1", WISH, key))
    assert (told["needs_approval"], told["before"], told["after"]["share"]) == (False, None, 1.0)
    [scope] = told["preview"]["scopes"]
    assert (scope["tenant"], scope["persona"], scope["old"]["profile"], scope["new"]["profile"]) == (
        "aurora",
        "essayist",
        "incumbent",
        "cheap",
    )
    assert all(not model.objects.exists() for model in (Rollout, AuditEntry, FlagScope))


def test_under_four_eyes_starting_and_resuming_wait_and_stopping_does_not(key: dict[str, str]) -> None:
    Tenant.objects.update(four_eyes=True)
    may = ("override_all_tenants", "change_flagtenant")
    anna = someone("anna", role="operator", may=may)
    bob = someone("bob", role="operator", may=("approve_changerequest", *may))
    waiting = call(anna, "post", "/rollouts", WISH)
    assert waiting.status_code == 202, waiting.content
    assert (waiting.json()["kind"], read_flag().scopes) == ("rollout.start", {})

    def passed(request: Any) -> Any:
        body = {"diff_hash": request["diff_hash"], "reason": "looked at it well"}
        path = f"/settings/change-requests/{request['id']}"
        assert call(bob, "post", f"{path}/approve", body).status_code == 200
        answer = call(bob, "post", f"{path}/apply", {})
        assert answer.status_code == 200, answer.content
        return answer.json()

    passed(waiting.json())
    row = done(call(anna, "get", "/rollouts"))["results"][0]
    assert (row["state"], read_flag().scopes) == ("running", {"aurora": {"essayist": 1.0}})
    back = done(act(anna, {}, row, "roll-back"))
    assert read_flag().scopes == {"aurora": {"essayist": 0.0}}
    again = act(anna, {}, back, "resume")
    assert (again.status_code, again.json()["kind"]) == (202, "rollout.resume")
    passed(again.json())
    assert RolloutStep.objects.filter(attempt=2, ended_at=None).count() == 1
