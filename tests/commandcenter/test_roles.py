"""Roles as groups, grants at single tenants, and what they let people do in the admin."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client

from catalog.access import person
from catalog.grants import granted, reach
from catalog.models import Tenant, TenantGrant
from commandcenter.roles import ROLES
from overrides.models import AuditEntry
from tests import factories
from tests.commandcenter.test_audited import form
from tests.overrides.people import someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
JOINED = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00"}


def user_of(client: Client) -> Any:
    return User.objects.get(pk=client.session["_auth_user_id"])


def test_the_three_roles_are_there_after_every_migrate_with_just_their_permissions() -> None:
    assert set(ROLES) <= set(Group.objects.values_list("name", flat=True))
    viewer = Group.objects.get(name="viewer")
    viewer.permissions.set(Permission.objects.filter(codename="delete_user"))
    call_command("migrate", verbosity=0)
    codes = set(viewer.permissions.values_list("codename", flat=True))
    assert "delete_user" not in codes
    assert all(code.startswith("view_") for code in codes)
    operator = set(Group.objects.get(name="operator").permissions.values_list("codename", flat=True))
    assert operator - codes == frozenset({"change_override", "change_killswitch"})


@pytest.mark.parametrize(
    ("role", "verbs"),
    [
        ("viewer", {"read"}),
        ("operator", {"read", "override"}),
        (
            "admin",
            {
                "read",
                "override",
                "no_expiry",
                "global_scope",
                "approve",
                "personas",
                "flags",
                "catalogue",
                "access",
            },
        ),
    ],
)
def test_a_role_s_verbs_over_the_api(role: str, verbs: set[str]) -> None:
    caller = person(user_of(someone("olga", role=role)))
    assert (caller.role, caller.verbs, caller.tenants) == (role, frozenset(verbs), None)


def test_a_grant_gives_a_role_at_one_tenant_only() -> None:
    olga = user_of(someone("olga", at={"aurora": "operator", "borealis": "viewer"}))
    caller = person(olga)
    assert caller.tenants == frozenset({"aurora", "borealis"})
    assert caller.reach("override") == frozenset({"aurora"})
    assert (caller.may("override", "aurora"), caller.may("override", "borealis")) == (True, False)
    assert not caller.may("override", None)
    assert olga.has_perm(
        "overrides.change_override"
    )  # somewhere, which opens the page; rows are asked one by one


def test_a_grant_changes_nothing_that_is_everybody_s() -> None:
    olga = user_of(someone("olga", at={"aurora": "admin"}))
    assert reach(olga, "catalog.view_persona") == frozenset({"aurora"})
    for permission in (
        "catalog.change_persona",
        "auth.change_user",
        "catalog.add_servicekey",
        "routing.view_alert",
    ):
        assert reach(olga, permission) == frozenset()
        assert not olga.has_perm(permission)


def test_the_inactive_and_unknown_hold_nothing() -> None:
    client = someone("olga", at={"aurora": "operator"})
    olga = user_of(client)
    olga.is_active = False
    olga.save()
    assert granted(User.objects.get(pk=olga.pk)) == {}
    assert client.get("/admin/catalog/tenant/").status_code == 302


def test_a_right_that_is_taken_away_is_gone_with_the_next_request() -> None:
    client = someone("olga", at={"aurora": "viewer"})
    assert client.get("/admin/catalog/tenant/").status_code == 200
    TenantGrant.objects.all().delete()
    assert client.get("/admin/catalog/tenant/").status_code == 403


def test_somebody_of_one_tenant_sees_its_rows_and_what_is_shared() -> None:
    ranked_scope()
    factories.tenant("borealis")
    client = someone("olga", at={"aurora": "viewer"})
    listed = client.get("/admin/catalog/tenant/").content.decode()
    assert "aurora" in listed
    assert "borealis" not in listed
    assert "essayist" in client.get("/admin/catalog/persona/").content.decode()
    assert client.get("/admin/catalog/servicekey/").status_code == 403


def test_an_admin_grants_a_role_at_a_tenant_and_that_is_audited(admin_client: Client) -> None:
    tenant, olga = factories.tenant(), User.objects.create_user("olga", is_staff=True)
    operator = Group.objects.get(name="operator")
    row = {
        "tenant_grants-TOTAL_FORMS": 1,
        "tenant_grants-0-tenant": tenant.pk,
        "tenant_grants-0-group": operator.pk,
    }
    form(admin_client, f"/admin/auth/user/{olga.pk}/change/", **row, **JOINED, _reason="she joins the team")
    assert reach(User.objects.get(pk=olga.pk), "overrides.change_override") == frozenset({"aurora"})
    entry = AuditEntry.objects.latest("seq")
    assert entry.after
    assert (entry.object_type, entry.after["rights"]["grants"], entry.reason) == (
        "user",
        ["operator at aurora"],
        "she joins the team",
    )


def test_an_admin_makes_no_superuser_and_touches_none() -> None:
    client = someone("anna", role="admin")
    root = User.objects.create_superuser("root")
    olga = User.objects.create_user("olga")
    form(client, f"/admin/auth/user/{olga.pk}/change/", is_superuser="on", is_staff="on", **JOINED)
    olga.refresh_from_db()
    assert (olga.is_staff, olga.is_superuser) == (True, False)
    assert client.post(f"/admin/auth/user/{root.pk}/change/", {"username": "mine"}).status_code == 403
    assert client.get(f"/admin/auth/user/{root.pk}/password/").status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [root.pk, olga.pk], "post": "yes"}
    assert "Cannot delete users" in client.post("/admin/auth/user/", bulk).content.decode()
    assert User.objects.filter(username="root").exists()


def test_the_roles_of_the_product_are_not_changed_in_the_admin(admin_client: Client) -> None:
    viewer = Group.objects.get(name="viewer")
    path = f"/admin/auth/group/{viewer.pk}/"
    before = set(viewer.permissions.values_list("pk", flat=True))
    form(admin_client, f"{path}change/", name="watcher", permissions=[])
    viewer.refresh_from_db()
    assert (viewer.name, set(viewer.permissions.values_list("pk", flat=True))) == ("viewer", before)
    assert admin_client.post(f"{path}delete/", {"post": "yes"}).status_code == 403


def test_people_with_grants_and_tenants_with_people_are_deleted_by_an_admin() -> None:
    client = someone("anna", role="admin")
    olga = user_of(someone("olga", at={"aurora": "operator"}))
    assert client.post(f"/admin/auth/user/{olga.pk}/delete/", {"post": "yes"}).status_code == 302
    someone("carl", at={"aurora": "operator"})
    aurora = Tenant.objects.get(slug="aurora")
    assert client.post(f"/admin/catalog/tenant/{aurora.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not TenantGrant.objects.exists()
