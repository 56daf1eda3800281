"""Personas and flags over the API: versioned by what was seen, audited, previewed, bound to rights."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog.models import Persona, Tenant
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import AuditEntry, Flag, KillSwitch, Override
from routing.bundle import current_bundle, forget_bundle
from tests import factories
from tests.overrides.people import REASON, call, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
PERSONA = "/settings/personas/essayist"
FLAG = f"/settings/flags/{AUTO_MODEL_SELECTION}"


@pytest.fixture
def key() -> dict[str, str]:
    ranked_scope()
    factories.tenant("borealis")
    return factories.key(tenants=())


def changed(client: Client, path: str, body: dict[str, Any], key: dict[str, str] | None = None) -> Any:
    seen = call(client, "get", path, key=key)["ETag"]
    return call(client, "patch", path, {"reason": REASON, **body}, key, If_Match=seen)


def test_a_persona_s_sla_and_weights_are_changed_and_audited(client: Client, key: dict[str, str]) -> None:
    answer = changed(client, PERSONA, {"min_success_rate": "0.75", "max_latency_p95_ms": 9000}, key)
    assert answer.status_code == 200, answer.content
    assert (answer.json()["min_success_rate"], answer.json()["max_latency_p95_ms"]) == ("0.75", 9000)
    assert answer["ETag"] == call(client, "get", PERSONA, key=key)["ETag"]
    entry = AuditEntry.objects.get()
    assert entry.before
    assert entry.after
    assert (entry.object_type, entry.verb, entry.reason) == ("persona", "update", REASON)
    assert (entry.before["min_success_rate"], entry.after["min_success_rate"]) == ("0.6", "0.75")


def test_what_was_not_seen_is_not_overwritten(client: Client, key: dict[str, str]) -> None:
    seen = call(client, "get", PERSONA, key=key)["ETag"]
    changed(client, PERSONA, {"min_samples": 99}, key)
    late = call(client, "patch", PERSONA, {"min_samples": 10, "reason": REASON}, key, If_Match=seen)
    assert (late.status_code, late.json()["code"]) == (409, "version_conflict")
    assert (late.json()["current"]["min_samples"], late.json()["yours"]["min_samples"]) == (99, 10)
    assert call(client, "patch", PERSONA, {"min_samples": 10, "reason": REASON}, key).status_code == 428
    assert Persona.objects.get().min_samples == 99


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"weight_cost": "0.9"}, "weights must sum to 1"),
        ({"min_success_rate": "1.5"}, "less than or equal to 1"),
        ({"min_success_rate": "NaN"}, "valid number"),
        ({"default_profile": "nobody"}, "There is no model profile 'nobody'"),
        ({"slug": "other"}, "Unknown members: slug"),
        ({"min_samples": 0}, "greater than or equal to 1"),
        ({"min_samples": -1}, "min_samples"),
        ({}, "at least one member"),
        ({"min_samples": 5, "reason": "short"}, "at least 10 characters"),
    ],
)
def test_a_bad_persona_is_refused_by_field_and_changes_nothing(
    client: Client, key: dict[str, str], body: dict[str, Any], told: str
) -> None:
    answer = changed(client, PERSONA, body, key)
    assert answer.status_code == 400
    assert told in answer.json()["detail"]
    assert not AuditEntry.objects.exists()


def test_setting_what_is_set_changes_nothing(client: Client, key: dict[str, str]) -> None:
    assert changed(client, PERSONA, {"min_samples": 30}, key).status_code == 200
    assert not AuditEntry.objects.exists()


def test_a_persona_is_everybody_s_so_a_caller_of_one_tenant_only_looks(
    client: Client, key: dict[str, str]
) -> None:
    bound = factories.key(tenants=("aurora",))
    assert changed(client, PERSONA, {"min_samples": 5}, bound).status_code == 403
    assert call(client, "get", "/settings/personas", key=bound).json()["results"][0]["slug"] == "essayist"
    assert call(client, "get", "/settings/personas/nobody", key=bound).status_code == 404


def test_the_flag_is_flipped_and_a_tenant_gets_a_share_of_its_own(
    client: Client, key: dict[str, str]
) -> None:
    answer = changed(
        client, FLAG, {"everyone": None, "rollout_percent": "5", "tenants": {"borealis": "50"}}, key
    )
    assert answer.status_code == 200, answer.content
    assert answer.json()["tenants"] == {"borealis": "50"}
    flag = Flag.objects.get()
    assert (flag.everyone, flag.rollout_percent) == (None, 5)
    taken = changed(client, FLAG, {"tenants": {"borealis": None, "aurora": "1.5"}}, key)
    assert taken.json()["tenants"] == {"aurora": "1.5"}
    assert AuditEntry.objects.filter(object_type="flag").count() == 2


def test_a_tenant_s_own_caller_sets_its_own_share_and_sees_no_other(
    client: Client, key: dict[str, str]
) -> None:
    changed(client, FLAG, {"tenants": {"borealis": "50"}}, key)
    own = factories.key("read", "flags")
    assert changed(client, FLAG, {"tenants": {"aurora": "10"}}, own).json()["tenants"] == {"aurora": "10"}
    assert call(client, "get", "/settings/flags", key=own).json()["results"][0]["tenants"] == {"aurora": "10"}
    assert changed(client, FLAG, {"tenants": {"borealis": "0"}}, own).status_code == 404
    assert changed(client, FLAG, {"everyone": False}, own).status_code == 403
    assert Flag.objects.get().tenant_rollouts.count() == 2


def test_a_scope_gets_a_share_of_its_own_and_what_is_left_out_stays(
    client: Client, key: dict[str, str]
) -> None:
    def scopes(shares: dict[str, Any], by: dict[str, str] = key) -> Any:
        return changed(client, FLAG, {"scopes": shares}, by)

    told = scopes({"aurora": {"essayist": "25"}, "borealis": {"essayist": "0"}}).json()
    assert told["scopes"] == {"aurora": {"essayist": "25"}, "borealis": {"essayist": "0"}}
    forget_bundle()
    assert current_bundle().flag.share("aurora", "essayist") == 0.25
    own = factories.key("read", "flags")
    assert scopes({"aurora": {"essayist": "2.5"}}, own).json()["scopes"] == {"aurora": {"essayist": "2.5"}}
    assert scopes({"borealis": {"essayist": "1"}}, own).status_code == 404
    assert b"borealis" not in call(client, "get", "/settings/flags", key=own).content
    assert scopes({"borealis": {"essayist": None}}).json()["scopes"] == {"aurora": {"essayist": "2.5"}}
    # Of one persona four eyes are wanted; others are changed at once.
    Persona.objects.filter(slug="essayist").update(four_eyes=True)
    factories.persona("coder")
    assert scopes({"aurora": {"essayist": "3"}}).status_code == 202
    assert scopes({"aurora": {"coder": "3"}}).status_code == 200


def test_a_dry_run_of_a_scopes_share_touches_that_scope_alone(client: Client, key: dict[str, str]) -> None:
    changed(client, FLAG, {"rollout_percent": "0"}, key)
    factories.persona("coder", default_profile=factories.profile("incumbent"))
    forget_bundle()
    seen = call(client, "get", FLAG, key=key)["ETag"]
    body = {"scopes": {"aurora": {"essayist": "5"}}, "reason": REASON}
    told = call(client, "patch", f"{FLAG}?dry_run=1", body, key, If_Match=seen).json()
    [scope] = told["preview"]["scopes"]
    assert (scope["tenant"], scope["persona"]) == ("aurora", "essayist")
    assert scope["shares"]["flag"] == {"old": 0.0, "new": 0.05}


@pytest.mark.parametrize(
    "body",
    [
        {"rollout_percent": "101"},
        {"scopes": {"aurora": {"essayist": "101"}}},
        {"scopes": {"aurora": {"nobody": "1"}}},
        {"scopes": {"aurora": "1"}},
        {"scopes": {"nobody": {"essayist": "1"}}},
        {"tenants": {"aurora": "-1"}},
        {"tenants": {"nobody": "1"}},
        {"tenants": []},
        {"everyone": "perhaps"},
        {"percent": "5"},
        {},
    ],
)
def test_a_bad_flag_is_refused(client: Client, key: dict[str, str], body: dict[str, Any]) -> None:
    assert changed(client, FLAG, body, key).status_code in (400, 404)
    assert not AuditEntry.objects.exists()
    assert call(client, "get", "/settings/flags/NO_SUCH_FLAG", key=key).json()["code"] == "unknown_flag"


DRY = [
    (
        "post",
        "/settings/overrides",
        {"kind": "lock", "profile": "incumbent", "tenant": "aurora", "persona": "essayist"},
    ),
    ("patch", PERSONA, {"min_success_rate": "0.99"}),
    ("patch", FLAG, {"everyone": False}),
    ("put", "/settings/kill-switch", {"tenant": "aurora", "on": True}),
]


@pytest.mark.parametrize(("method", "path", "body"), DRY)
def test_a_dry_run_tells_what_a_change_would_do_and_changes_nothing(
    client: Client, key: dict[str, str], method: str, path: str, body: dict[str, Any]
) -> None:
    Flag.objects.update(everyone=True)
    seen = {"If_Match": call(client, "get", path, key=key)["ETag"]} if method == "patch" else {}
    answer = call(client, method, f"{path}?dry_run=1", {**body, "reason": REASON}, key, **seen)
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["dry_run"], told["needs_approval"]) == (True, False)
    # What is for all tenants changes borealis too, which borrows its metrics.
    assert told["preview"]["scopes_changed"] == (1 if "aurora" in body.values() else 2)
    [scope] = [one for one in told["preview"]["scopes"] if one["tenant"] == "aurora"]
    assert (scope["old"]["profile"], scope["new"]["profile"]) == ("cheap", "incumbent")
    assert not AuditEntry.objects.exists()
    assert not Override.objects.exists()
    assert not KillSwitch.objects.exists()


def test_a_dry_run_refuses_what_the_change_would_refuse(client: Client, key: dict[str, str]) -> None:
    bad = {"kind": "lock", "profile": "nobody", "reason": REASON}
    assert call(client, "post", "/settings/overrides?dry_run=1", bad, key).status_code == 400
    assert call(client, "post", "/settings/overrides?dry_run=perhaps", bad, key).status_code == 400


def test_a_new_override_says_what_it_shadows(client: Client, key: dict[str, str]) -> None:
    wide = {"kind": "lock", "profile": "cheap", "tenant": "aurora", "reason": REASON}
    first = call(client, "post", "/settings/overrides", wide, key).json()
    second = call(client, "post", "/settings/overrides", {**wide, "persona": "essayist"}, key).json()
    assert second["shadowing"]["shadows"] == [first["id"]]


def test_the_history_of_an_override_is_its_entries(client: Client, key: dict[str, str]) -> None:
    made = call(
        client, "post", "/settings/overrides", {"kind": "exclude", "profile": "cheap", "reason": REASON}, key
    ).json()
    call(
        client,
        "post",
        f"/settings/overrides/{made['id']}/revoke",
        {"reason": "it is sane again"},
        key,
        If_Match="1",
    )
    found = call(client, "get", f"/settings/overrides/{made['id']}/history", key=key).json()["results"]
    assert [entry["verb"] for entry in found] == ["revoke", "create"]


def test_rights_beyond_overriding_are_asked_one_by_one(client: Client, key: dict[str, str]) -> None:
    body = {"kind": "exclude", "profile": "cheap", "reason": REASON}
    soon = {"expires_at": (timezone.now() + timedelta(hours=1)).isoformat()}
    plain = factories.key("read", "override", tenants=())
    assert call(client, "post", "/settings/overrides", {**body, **soon}, plain).status_code == 403
    assert (
        call(client, "post", "/settings/overrides", {**body, **soon, "tenant": "aurora"}, plain).status_code
        == 201
    )
    assert call(client, "post", "/settings/overrides", {**body, "tenant": "aurora"}, plain).status_code == 403
    both = factories.key("read", "override", "no_expiry", "global_scope", tenants=())
    assert call(client, "post", "/settings/overrides", body, both).status_code == 201


def test_an_operator_of_one_tenant_only_looks_at_the_other(key: dict[str, str]) -> None:
    olga = someone("olga", at={"aurora": "operator", "borealis": "viewer"})
    soon = (timezone.now() + timedelta(hours=1)).isoformat()
    body = {"kind": "exclude", "profile": "cheap", "reason": REASON, "expires_at": soon}
    assert call(olga, "post", "/settings/overrides", {**body, "tenant": "aurora"}).status_code == 201
    assert call(olga, "post", "/settings/overrides", {**body, "tenant": "borealis"}).status_code == 403
    factories.tenant("cygnus")
    assert call(olga, "post", "/settings/overrides", {**body, "tenant": "cygnus"}).status_code == 404
    assert call(olga, "post", "/settings/overrides", body).status_code == 403
    assert AuditEntry.objects.get().role == "operator"


def test_tenant_and_actor_in_a_body_are_not_taken_over(client: Client, key: dict[str, str]) -> None:
    body = {"kind": "exclude", "profile": "cheap", "tenant": "aurora", "reason": REASON}
    for more in ({"created_by": "user:root"}, {"actor": "user:root"}, {"id": 7}, {"version": 9}):
        assert call(client, "post", "/settings/overrides", {**body, **more}, key).status_code == 400
    assert not Override.objects.exists()


def test_a_change_of_one_tenant_s_share_tells_its_people_nothing_of_others(
    client: Client, key: dict[str, str]
) -> None:
    changed(client, FLAG, {"tenants": {"borealis": "50"}}, key)
    Tenant.objects.filter(slug="aurora").update(four_eyes=True)
    own = factories.key("read", "flags", "override")
    asked = changed(client, FLAG, {"tenants": {"aurora": "10"}}, own)
    assert asked.status_code == 202
    seen = call(client, "get", FLAG, key=own)["ETag"]
    dry = call(
        client,
        "patch",
        f"{FLAG}?dry_run=1",
        {"tenants": {"aurora": "9"}, "reason": REASON},
        own,
        If_Match=seen,
    )
    late = call(client, "patch", FLAG, {"tenants": {"aurora": "9"}, "reason": REASON}, own, If_Match='"x"')
    one = f"/settings/change-requests/{asked.json()['id']}"
    answers = [
        asked,
        dry,
        late,
        *(call(client, "get", path, key=own) for path in (one, "/settings/change-requests", "/audit")),
    ]
    assert [answer.status_code for answer in answers] == [202, 200, 409, 200, 200, 200]
    for answer in answers:
        assert b"borealis" not in answer.content
    assert b"borealis" in call(client, "get", one, key=key).content
