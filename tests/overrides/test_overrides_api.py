"""The settings service: overrides and the kill switch change decisions, are audited, and conflict loudly."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from overrides.models import AuditEntry, IdempotencyKey, KillSwitch, Override
from overrides.tasks import prune_idempotency_keys, record_expiries
from routing.bundle import forget_bundle
from tests import factories
from tests.routing.scenes import ASKED, ranked_scope

pytestmark = pytest.mark.django_db
URL = "/api/v1/settings/overrides"
REASON = "the cheap one went mad"
LOCK = {"kind": "lock", "profile": "incumbent", "tenant": "aurora", "persona": "essayist", "reason": REASON}


@pytest.fixture
def key() -> dict[str, str]:
    ranked_scope()
    factories.tenant("borealis")
    return factories.key("select", "read", "override", "no_expiry")


def send(client: Client, key: dict[str, str], path: str = "", body: Any = None, **headers: str) -> Any:
    data = LOCK if body is None else body
    return client.post(URL + path, data, content_type="application/json", headers={**key, **headers})


def put(client: Client, key: dict[str, str], pk: int, body: Any, **headers: str) -> Any:
    return client.put(f"{URL}/{pk}", body, content_type="application/json", headers={**key, **headers})


def decided(client: Client, key: dict[str, str]) -> tuple[str, str]:
    forget_bundle()
    body = client.post("/api/v1/selections", ASKED, content_type="application/json", headers=key).json()
    return body["reason"], body["profile"]["slug"]


def test_a_lock_decides_until_it_is_revoked(client: Client, key: dict[str, str]) -> None:
    made = send(client, key)
    assert (made.status_code, made["ETag"], made.json()["version"]) == (201, '"1"', 1)
    assert decided(client, key) == ("override_lock", "incumbent")
    pk = made.json()["id"]
    ended = send(client, key, f"/{pk}/revoke", {"reason": "it is sane again"}, **{"If-Match": '"1"'})
    assert (ended.status_code, ended["ETag"]) == (200, '"2"')
    assert decided(client, key) == ("ranked", "cheap")


def test_undo_takes_back_the_last_change_by_a_new_one(client: Client, key: dict[str, str]) -> None:
    pk = send(client, key).json()["id"]
    changed = put(client, key, pk, {**LOCK, "kind": "exclude", "profile": "cheap"}, **{"If-Match": '"1"'})
    assert changed.status_code == 200, changed.content
    assert decided(client, key) == ("ranked", "incumbent")
    undone = send(client, key, f"/{pk}/undo", {"reason": "that was wrong"}, **{"If-Match": '"2"'}).json()
    assert (undone["kind"], undone["profile"], undone["version"]) == ("lock", "incumbent", 3)
    send(client, key, f"/{pk}/revoke", {"reason": "it is sane again"}, **{"If-Match": '"3"'})
    again = send(client, key, f"/{pk}/undo", {"reason": "no, it is not"}, **{"If-Match": '"4"'}).json()
    assert again["revoked_at"] is None
    assert decided(client, key) == ("override_lock", "incumbent")
    verbs = AuditEntry.objects.order_by("seq").values_list("verb", flat=True)
    assert list(verbs) == ["create", "replace", "undo", "revoke", "undo"]


def test_undoing_a_new_override_revokes_it(client: Client, key: dict[str, str]) -> None:
    pk = send(client, key).json()["id"]
    send(client, key, f"/{pk}/undo", {"reason": "not this one"}, **{"If-Match": '"1"'})
    assert decided(client, key) == ("ranked", "cheap")


def test_each_change_has_its_entry_with_who_what_and_why(client: Client, key: dict[str, str]) -> None:
    send(client, key, **{"X-Request-ID": "req-7"})
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.object_type, entry.tenant, entry.reason) == (
        "create",
        "override",
        "aurora",
        REASON,
    )
    assert (entry.role, entry.source_ip, entry.request_id) == ("service", "127.0.0.1", "req-7")
    assert entry.actor.startswith("key:")
    assert entry.before is None
    assert entry.after
    assert entry.after["profile"] == "incumbent"
    shown = client.get("/api/v1/audit", {"object_type": "override"}, headers=key).json()["results"]
    assert [(one["seq"], one["verb"]) for one in shown] == [(1, "create")]


def test_a_fault_between_change_and_entry_leaves_neither(
    client: Client, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("pulled the plug")

    monkeypatch.setattr("overrides.services.audit.append", fail)
    with pytest.raises(RuntimeError):
        send(client, key)
    assert not Override.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_stale_version_is_a_conflict_that_shows_both(client: Client, key: dict[str, str]) -> None:
    pk = send(client, key).json()["id"]
    put(client, key, pk, {**LOCK, "profile": "cheap"}, **{"If-Match": '"1"'})
    late = put(client, key, pk, {**LOCK, "kind": "prefer"}, **{"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"]) == (409, "version_conflict")
    assert (late.json()["current"]["profile"], late.json()["yours"]["kind"]) == ("cheap", "prefer")
    assert AuditEntry.objects.count() == 2


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 428), ({"If-Match": "x"}, 400), ({"If-Match": '"9"'}, 409)]
)
def test_a_change_needs_the_version_that_was_seen(
    client: Client, key: dict[str, str], headers: dict[str, str], status: int
) -> None:
    pk = send(client, key).json()["id"]
    assert send(client, key, f"/{pk}/revoke", {"reason": "it is sane again"}, **headers).status_code == status


def test_the_same_idempotency_key_changes_once_and_answers_twice(client: Client, key: dict[str, str]) -> None:
    answers = [send(client, key, **{"Idempotency-Key": "k-1"}) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert (Override.objects.count(), AuditEntry.objects.count()) == (1, 1)
    other = send(client, key, body={**LOCK, "kind": "prefer"}, **{"Idempotency-Key": "k-1"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_a_failed_request_does_not_use_up_its_key(client: Client, key: dict[str, str]) -> None:
    bad = send(client, key, body={**LOCK, "profile": "nobody"}, **{"Idempotency-Key": "k-1"})
    assert (bad.status_code, "profile" in bad.json()["errors"]) == (400, True)
    assert send(client, key, **{"Idempotency-Key": "k-1"}).status_code == 201
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(days=2))
    assert prune_idempotency_keys() == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": "short"}, "reason"),
        ({"reason": "          "}, "reason"),
        ({"kind": "pin"}, "kind"),
        ({"profile": "nobody"}, "profile"),
        ({"persona": "nobody"}, "persona"),
        ({"task": "Essay!"}, "task"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"created_by": "somebody else"}, ""),
        ({"version": 7}, ""),
        ({"profile": "a\x00b"}, "profile"),
    ],
)
def test_a_bad_wish_is_a_400_that_names_the_field(
    client: Client, key: dict[str, str], change: dict[str, Any], field: str
) -> None:
    answer = send(client, key, body={**LOCK, **change})
    assert answer.status_code == 400, answer.content
    assert field in answer.json()["errors"]
    assert not AuditEntry.objects.exists()


def test_a_lock_to_a_disabled_profile_is_refused(client: Client, key: dict[str, str]) -> None:
    factories.profile("off", enabled=False)
    answer = send(client, key, body={**LOCK, "profile": "off"})
    assert "would answer nobody" in answer.json()["errors"]["profile"][0]


def test_a_foreign_tenants_override_is_like_one_that_is_not_there(
    client: Client, key: dict[str, str]
) -> None:
    pk = send(client, key).json()["id"]
    foreign = factories.key(tenants=("borealis",))
    for path, absent in (
        (f"/{pk}", "/99999"),
        (f"/{pk}/revoke", "/99999/revoke"),
        (f"/{pk}/undo", "/99999/undo"),
    ):
        call = client.get if path == f"/{pk}" else client.post
        options: Any = {"headers": {**foreign, "If-Match": '"1"', "X-Request-ID": "the-same"}}
        there, missing = call(URL + path, **options), call(URL + absent, **options)
        assert (there.status_code, there.content) == (404, missing.content)
    assert send(client, foreign).status_code == 404
    assert client.get(URL, headers=foreign).json()["results"] == []
    assert client.get("/api/v1/audit", headers=foreign).json()["results"] == []


def test_overrides_of_all_tenants_take_a_caller_bound_to_none(client: Client, key: dict[str, str]) -> None:
    everywhere = {**LOCK, "tenant": None}
    assert send(client, key, body=everywhere).status_code == 403
    everybody = factories.key(tenants=())
    assert send(client, everybody, body=everywhere).status_code == 201
    assert decided(client, key) == ("override_lock", "incumbent")
    # It concerns the bound caller too, so it is shown; changing it is not theirs.
    [shown] = client.get(URL, headers=key).json()["results"]
    revoked = send(
        client, key, f"/{shown['id']}/revoke", {"reason": "not mine to end"}, **{"If-Match": '"1"'}
    )
    assert revoked.status_code == 403


def test_without_the_verb_nothing_changes(client: Client, key: dict[str, str]) -> None:
    assert send(client, factories.key("read", "select", "ingest")).status_code == 403
    assert send(client, {}).status_code == 401
    assert client.get(URL, headers=factories.key("override")).status_code == 403


def test_a_signed_in_operator_overrides_and_a_viewer_does_not(client: Client, key: dict[str, str]) -> None:
    person = User.objects.create_user("olga", is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename="view_tenant"))
    client.force_login(person)
    assert send(client, {}).status_code == 403
    person.user_permissions.add(Permission.objects.get(codename="change_override"))
    assert send(client, {}).status_code == 403  # without an end takes a right of its own
    soon = (timezone.now() + timedelta(hours=1)).isoformat()
    assert send(client, {}, body={**LOCK, "expires_at": soon}).status_code == 201
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.role) == ("user:olga", "operator")


def test_the_list_is_filtered_and_paged_by_cursor(
    client: Client, key: dict[str, str], django_assert_max_num_queries: Any
) -> None:
    for number in range(120):
        send(client, key, body={**LOCK, "kind": "exclude" if number % 2 else "prefer"})
    with django_assert_max_num_queries(12):
        first = client.get(URL, {"kind": "exclude", "tenant": "aurora"}, headers=key).json()
    assert (len(first["results"]), first["results"][0]["id"] > first["results"][-1]["id"]) == (50, True)
    second = client.get(first["next"], headers=key).json()
    assert len(second["results"]) == 10
    send(
        client, key, f"/{first['results'][0]['id']}/revoke", {"reason": "enough of it"}, **{"If-Match": '"1"'}
    )
    ids = {
        one["id"] for one in client.get(URL, {"standing": 1, "page_size": 200}, headers=key).json()["results"]
    }
    assert first["results"][0]["id"] not in ids
    assert len(ids) == 119


def test_an_override_ends_by_the_clock_and_is_recorded_once(client: Client, key: dict[str, str]) -> None:
    soon = timezone.now() + timedelta(hours=1)
    pk = send(client, key, body={**LOCK, "expires_at": soon.isoformat()}).json()["id"]
    assert decided(client, key) == ("override_lock", "incumbent")
    Override.objects.filter(pk=pk).update(expires_at=timezone.now())
    assert decided(client, key) == ("ranked", "cheap")
    assert [record_expiries(), record_expiries()] == [1, 0]
    last = AuditEntry.objects.first()
    assert last is not None
    assert (last.verb, last.actor, last.role) == ("expire", "system", "system")
    late = send(client, key, f"/{pk}/revoke", {"reason": "too late for that"}, **{"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"]) == (409, "not_standing")


SWITCH = "/api/v1/settings/kill-switch"


def switch(client: Client, key: dict[str, str], tenant: str | None, on: bool) -> Any:
    body = {"tenant": tenant, "on": on, "reason": "models are misbehaving"}
    return client.put(SWITCH, body, content_type="application/json", headers=key)


def test_the_kill_switch_gives_defaults_and_deletes_nothing(client: Client, key: dict[str, str]) -> None:
    send(client, key, body={**LOCK, "profile": "cheap"})
    assert switch(client, key, "aurora", True).json() == {"everybody": False, "tenants": ["aurora"]}
    assert decided(client, key) == ("kill_switch", "incumbent")
    switch(client, key, "aurora", True)
    assert AuditEntry.objects.filter(verb="switch").count() == 1
    switch(client, key, "aurora", False)
    assert decided(client, key) == ("override_lock", "cheap")
    assert client.get(SWITCH, headers=key).json() == {"everybody": False, "tenants": []}


def test_everybodys_kill_switch_takes_a_caller_bound_to_none(client: Client, key: dict[str, str]) -> None:
    assert switch(client, key, None, True).status_code == 403
    assert switch(client, key, "borealis", True).status_code == 404
    everybody = factories.key(tenants=())
    assert switch(client, everybody, None, True).json()["everybody"] is True
    assert decided(client, key) == ("kill_switch", "incumbent")
    assert KillSwitch.objects.count() == 1
