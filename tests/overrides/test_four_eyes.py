"""Four eyes: a change of something protected waits for somebody else, is bound to its difference, and there is no way
round it."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from catalog.models import Persona, ScopeDefault, Tenant
from overrides import four_eyes, services
from overrides.audit import Actor, verify
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import AuditEntry, ChangeRequest, Flag, KillSwitch, Override
from tests import factories
from tests.commandcenter.test_audited import form
from tests.overrides.people import REASON, call, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
REQUESTS = "/settings/change-requests"
LOCK = {"kind": "lock", "profile": "incumbent", "tenant": "aurora", "persona": "essayist", "reason": REASON}
EXTRA = ("override_without_expiry", "override_all_tenants", "change_flagtenant", "change_persona")
APPROVER = ("approve_changerequest", *EXTRA)


@pytest.fixture
def anna() -> Client:
    """Asks."""
    ranked_scope()
    Tenant.objects.update(four_eyes=True)
    factories.tenant("borealis")
    return someone("anna", role="operator", may=EXTRA)


@pytest.fixture
def bob(anna: Client) -> Client:
    """Approves."""
    return someone("bob", role="operator", may=APPROVER)


def proposed(client: Client, body: Any = LOCK) -> Any:
    answer = call(client, "post", "/settings/overrides", body)
    assert answer.status_code == 202, answer.content
    return answer.json()


def approve(client: Client, request: Any) -> Any:
    body = {"diff_hash": request["diff_hash"], "reason": "looked at it well"}
    return call(client, "post", f"{REQUESTS}/{request['id']}/approve", body)


def apply(client: Client, request: Any) -> Any:
    return call(client, "post", f"{REQUESTS}/{request['id']}/apply", {})


def test_a_change_waits_until_somebody_else_approves_it(anna: Client, bob: Client) -> None:
    request = proposed(anna)
    assert (request["state"], request["before"], request["after"]["profile"]) == ("open", None, "incumbent")
    assert not Override.objects.exists()
    assert apply(anna, request).json()["code"] == "not_approved"
    assert approve(bob, request).json()["approved_by"] == ["user:bob"]
    done = apply(anna, request)
    assert (done.status_code, done.json()["state"], done.json()["closed_by"]) == (200, "applied", "user:anna")
    assert Override.objects.get().profile.slug == "incumbent"
    entry = AuditEntry.objects.get(object_type="override")
    assert entry.reason == f"{REASON} (change request {request['id']} by user:anna, approved by user:bob)"
    assert list(AuditEntry.objects.order_by("seq").values_list("verb", flat=True)) == [
        "propose",
        "approve",
        "create",
    ]
    assert apply(anna, request).json()["code"] == "not_open"


def test_who_asks_cannot_approve_nor_can_who_edits(anna: Client, bob: Client) -> None:
    anna_too = User.objects.get(username="anna")
    anna_too.user_permissions.add(*User.objects.get(username="bob").user_permissions.all())
    request = proposed(anna)
    assert approve(anna, request).json()["code"] == "own_change"
    edited = call(
        bob, "patch", f"{REQUESTS}/{request['id']}", {"reason": "more to the point"}, If_Match="1"
    ).json()
    assert edited["authors"] == ["user:anna", "user:bob"]
    assert approve(bob, edited).json()["code"] == "own_change"
    assert apply(bob, edited).json()["code"] == "not_approved"


def test_an_edit_voids_approval(anna: Client, bob: Client) -> None:
    request = proposed(anna)
    approve(bob, request)
    wanted = {**request["wanted"], "profile": "cheap"}
    path = f"{REQUESTS}/{request['id']}"
    edited = call(anna, "patch", path, {"wanted": wanted, "reason": REASON}, If_Match="1").json()
    assert (edited["approved_by"], edited["after"]["profile"]) == ([], "cheap")
    assert apply(anna, edited).json()["code"] == "not_approved"
    assert approve(bob, request).json()["code"] == "diff_changed"  # the difference he saw first
    assert approve(bob, edited).status_code == 200
    assert apply(anna, edited).status_code == 200
    assert Override.objects.get().profile.slug == "cheap"


def test_even_another_reason_is_another_change(anna: Client, bob: Client) -> None:
    request = proposed(anna)
    approve(bob, request)
    edited = call(
        anna, "patch", f"{REQUESTS}/{request['id']}", {"reason": "no, because of this"}, If_Match="1"
    ).json()
    assert edited["approved_by"] == []
    back = call(anna, "patch", f"{REQUESTS}/{request['id']}", {"reason": REASON}, If_Match="2").json()
    assert back["approved_by"] == ["user:bob"]  # just what he approved, again


def test_a_change_of_the_object_behind_it_voids_approval(anna: Client, bob: Client) -> None:
    Tenant.objects.update(four_eyes=False)
    made = call(anna, "post", "/settings/overrides", LOCK).json()
    Tenant.objects.update(four_eyes=True)
    path = f"/settings/overrides/{made['id']}"
    request = call(anna, "post", f"{path}/revoke", {"reason": "it is sane again"}, If_Match="1").json()
    approve(bob, request)
    Tenant.objects.update(four_eyes=False)
    call(bob, "put", path, {**LOCK, "profile": "cheap"}, If_Match="1")
    Tenant.objects.update(four_eyes=True)
    late = apply(anna, request)
    assert (late.status_code, late.json()["code"]) == (409, "diff_changed")
    renewed = call(
        anna, "patch", f"{REQUESTS}/{request['id']}", {"reason": "it is sane again"}, If_Match="1"
    ).json()
    assert renewed["before"]["profile"] == "cheap"
    approve(bob, renewed)
    assert apply(anna, renewed).status_code == 200
    assert Override.objects.get().revoked_at


def test_approval_takes_its_right_at_the_tenant(anna: Client) -> None:
    request = proposed(anna)
    factories.tenant("cygnus")
    for client, status in (
        (someone("olga", role="operator"), 403),
        (someone("vera", role="viewer", may=("approve_changerequest",)), 200),
        (someone("carl", at={"borealis": "operator"}, may=("approve_changerequest",)), 404),
    ):
        assert approve(client, request).status_code == status


def test_a_request_is_rejected_by_an_approver_and_withdrawn_by_its_author(anna: Client, bob: Client) -> None:
    for client, state in ((bob, "rejected"), (anna, "withdrawn")):
        request = proposed(anna)
        done = call(client, "post", f"{REQUESTS}/{request['id']}/reject", {"reason": "we do not need it"})
        assert done.json()["state"] == state
        assert approve(bob, request).json()["code"] == "not_open"
    listed = call(anna, "get", f"{REQUESTS}?state=rejected").json()["results"]
    assert [item["state"] for item in listed] == ["rejected"]
    assert not Override.objects.exists()


def test_what_is_for_all_tenants_touches_the_protected_one(anna: Client) -> None:
    for body in (
        {"kind": "exclude", "profile": "cheap", "reason": REASON},
        {"kind": "exclude", "profile": "cheap", "persona": "essayist", "reason": REASON},
    ):
        proposed(anna, body)
    other = {"kind": "exclude", "profile": "cheap", "tenant": "borealis", "reason": REASON}
    assert call(anna, "post", "/settings/overrides", other).status_code == 201


def test_a_protected_persona_is_protected_at_every_tenant(anna: Client) -> None:
    Tenant.objects.update(four_eyes=False)
    Persona.objects.update(four_eyes=True)
    proposed(anna, {**LOCK, "tenant": "borealis"})
    proposed(anna, {**LOCK, "persona": None})


def test_a_protected_override_is_not_moved_away_without_approval(anna: Client) -> None:
    Tenant.objects.update(four_eyes=False)
    made = call(anna, "post", "/settings/overrides", LOCK).json()
    Tenant.objects.filter(slug="aurora").update(four_eyes=True)
    path = f"/settings/overrides/{made['id']}"
    moved = call(anna, "put", path, {**LOCK, "tenant": "borealis"}, If_Match="1")
    assert moved.status_code == 202
    assert call(anna, "post", f"{path}/undo", {"reason": "not this one"}, If_Match="1").status_code == 202


def test_stopping_never_waits_and_going_on_does(anna: Client) -> None:
    stop = {"tenant": "aurora", "on": True, "reason": "it went mad, stop"}
    assert call(anna, "put", "/settings/kill-switch", stop).status_code == 200
    go = call(anna, "put", "/settings/kill-switch", {**stop, "on": False})
    assert go.status_code == 202
    assert KillSwitch.objects.get().on


def test_personas_and_flags_wait_too(anna: Client, bob: Client) -> None:
    for path, body in (
        ("/settings/personas/essayist", {"min_samples": 99}),
        (f"/settings/flags/{AUTO_MODEL_SELECTION}", {"everyone": False}),
        (f"/settings/flags/{AUTO_MODEL_SELECTION}", {"tenants": {"aurora": "1"}}),
    ):
        seen = call(anna, "get", path)["ETag"]
        request = call(anna, "patch", path, {**body, "reason": REASON}, If_Match=seen)
        assert request.status_code == 202, request.content
        approve(bob, request.json())
        assert apply(bob, request.json()).status_code == 200
    assert Persona.objects.get().min_samples == 99
    assert Flag.objects.get().everyone is False
    free = call(
        anna,
        "patch",
        f"/settings/flags/{AUTO_MODEL_SELECTION}",
        {"tenants": {"borealis": "1"}, "reason": REASON},
        If_Match=call(anna, "get", f"/settings/flags/{AUTO_MODEL_SELECTION}")["ETag"],
    )
    assert free.status_code == 200


def test_the_services_themselves_refuse(anna: Client) -> None:
    somebody = Actor("user:mallory", "operator")
    wish = services.Wish(
        "lock", "incumbent", REASON, "aurora", "essayist", None, timezone.now() + timedelta(days=1)
    )
    with pytest.raises(four_eyes.NeedsApproval):
        services.create_override(wish, somebody, timezone.now())
    assert not Override.objects.exists()


def test_the_admin_s_pages_propose_instead(anna: Client, bob: Client, admin_client: Client) -> None:
    path = f"/admin/catalog/persona/{Persona.objects.get().pk}/change/"
    form(admin_client, path, min_samples=99, _reason="we need more of them")
    assert Persona.objects.get().min_samples == 30
    request = ChangeRequest.objects.get()
    assert (request.reason, request.wanted["set"]) == ("we need more of them", {"min_samples": 99})
    shown = call(bob, "get", f"{REQUESTS}/{request.pk}").json()
    approve(bob, shown)
    assert apply(bob, shown).status_code == 200
    assert Persona.objects.get().min_samples == 99
    assert verify().broken_at is None


def test_the_protection_itself_is_lifted_by_two(anna: Client, bob: Client, admin_client: Client) -> None:
    tenant = Tenant.objects.get(slug="aurora")
    form(admin_client, f"/admin/catalog/tenant/{tenant.pk}/change/", four_eyes="")
    tenant.refresh_from_db()
    assert tenant.four_eyes
    assert ChangeRequest.objects.get().wanted["set"] == {"four_eyes": False}


def test_defaults_of_a_protected_tenant_wait_on_its_page_and_are_refused_on_their_own(
    anna: Client, admin_client: Client
) -> None:
    tenant, persona = Tenant.objects.get(slug="aurora"), Persona.objects.get()
    cheap = factories.profile("cheap")
    fields = {"tenant": tenant.pk, "persona": persona.pk, "profile": cheap.pk}
    form(admin_client, "/admin/catalog/scopedefault/add/", **fields)
    assert not ScopeDefault.objects.exists()
    row = {f"scope_defaults-0-{name}": value for name, value in fields.items() if name != "tenant"}
    form(
        admin_client, f"/admin/catalog/tenant/{tenant.pk}/change/", **row, **{"scope_defaults-TOTAL_FORMS": 1}
    )
    assert not ScopeDefault.objects.exists()
    assert ChangeRequest.objects.get().wanted["set"]["defaults"][0]["profile"] == "cheap"


@pytest.mark.parametrize("bulk", [False, True])
def test_what_is_protected_is_not_deleted_by_page_or_in_bulk(
    anna: Client, admin_client: Client, bulk: bool
) -> None:
    tenant = Tenant.objects.get(slug="aurora")
    if bulk:
        body = {"action": "delete_selected", "_selected_action": [tenant.pk], "post": "yes"}
        answer = admin_client.post("/admin/catalog/tenant/", body)
    else:
        answer = admin_client.post(f"/admin/catalog/tenant/{tenant.pk}/delete/", {"post": "yes"})
    assert "under four eyes" in answer.content.decode()
    assert Tenant.objects.filter(slug="aurora").exists()


def test_a_repeated_proposal_with_one_key_is_one_request(anna: Client) -> None:
    for _ in range(2):
        answer = call(anna, "post", "/settings/overrides", LOCK, Idempotency_Key="once")
        assert answer.status_code == 202
    assert ChangeRequest.objects.count() == 1


def test_a_dry_run_says_that_it_would_wait(anna: Client) -> None:
    assert call(anna, "post", "/settings/overrides?dry_run=1", LOCK).json()["needs_approval"] is True
    assert not ChangeRequest.objects.exists()
