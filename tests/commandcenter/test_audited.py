"""Whatever the admin changes is in the audit log, with before and after, and nothing secret."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client

from catalog.models import ModelProfile, Persona, ServiceKey, Tenant
from commandcenter.audited import AUDITED, Audited
from overrides.audit import verify
from overrides.models import AuditEntry, Flag
from tests import factories

pytestmark = pytest.mark.django_db


def last() -> AuditEntry:
    found = AuditEntry.objects.first()
    assert found is not None
    assert verify().broken_at is None
    return found


def form(client: Client, path: str, **changes: Any) -> Any:
    """Post a page's own form, as it was shown, with changes."""
    page = client.get(path)
    assert page.status_code == 200
    shown = page.context["adminform"].form
    data = {field.html_name: field.value() for field in shown}
    for formset in page.context["inline_admin_formsets"]:
        for one in (formset.formset.management_form, *formset.formset.forms):
            data |= {field.html_name: field.value() for field in one}
    clean = {name: value for name, value in data.items() if value is not None and value is not False}
    answer = client.post(path, {**clean, **changes})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    return answer


def test_every_page_of_what_decides_or_grants_is_audited() -> None:
    for model in AUDITED:
        assert isinstance(admin.site._registry[model], Audited), model


def test_making_changing_and_deleting_a_tenant_is_told(admin_client: Client, admin_user: User) -> None:
    inline = {"scope_defaults-TOTAL_FORMS": 0, "scope_defaults-INITIAL_FORMS": 0}
    form(admin_client, "/admin/catalog/tenant/add/", slug="aurora", name="Aurora", enabled="on", **inline)
    made = last()
    assert (made.verb, made.object_type, made.tenant, made.before) == ("create", "tenant", "aurora", None)
    assert (made.actor, made.role, made.source_ip) == (f"user:{admin_user.username}", "admin", "127.0.0.1")
    path = f"/admin/catalog/tenant/{Tenant.objects.get().pk}/"
    form(admin_client, f"{path}change/", name="Borealis")
    told = last()
    assert told.before
    assert told.after
    assert (told.verb, told.before["name"], told.after["name"]) == ("update", "Aurora", "Borealis")
    admin_client.post(f"{path}delete/", {"post": "yes"})
    assert (last().verb, last().after) == ("delete", None)


def test_a_form_that_changes_nothing_tells_nothing(admin_client: Client) -> None:
    persona = factories.persona()
    form(admin_client, f"/admin/catalog/persona/{persona.pk}/change/")
    assert not AuditEntry.objects.exists()


def test_weights_and_sla_are_told_before_and_after(admin_client: Client) -> None:
    persona = factories.persona()
    form(admin_client, f"/admin/catalog/persona/{persona.pk}/change/", min_success_rate="0.7")
    told = last()
    assert told.before
    assert told.after
    changed = {name for name in told.after if told.before[name] != told.after[name]}
    assert changed == {"min_success_rate"}
    assert (told.before["min_success_rate"], told.after["min_success_rate"]) == ("0.6", "0.7")
    assert str(Persona.objects.get().min_success_rate) == "0.7000"


def test_a_price_in_a_profiles_page_is_told_with_the_profile(admin_client: Client) -> None:
    profile = factories.profile()
    form(
        admin_client,
        f"/admin/catalog/modelprofile/{profile.pk}/change/",
        **{
            "prices-TOTAL_FORMS": 1,
            "prices-0-valid_from_0": "2026-01-01",
            "prices-0-valid_from_1": "00:00:00",
            "prices-0-prompt_per_1k": "0.001",
            "prices-0-completion_per_1k": "0.002",
            "prices-0-profile": profile.pk,
        },
    )
    told = last()
    assert told.before
    assert told.after
    assert (told.before["prices"], len(told.after["prices"])) == ([], 1)
    assert told.after["prices"][0]["prompt_per_1k"] == "0.001"


def test_flipping_the_flag_is_told(admin_client: Client) -> None:
    flag = Flag.objects.get()
    form(admin_client, f"/admin/overrides/flag/{flag.pk}/change/", everyone="true")
    told = last()
    assert told.before
    assert told.after
    assert (told.before["everyone"], told.after["everyone"]) == (None, True)


def test_bulk_deletion_is_told_row_by_row(admin_client: Client) -> None:
    rows = [factories.profile(f"p-{number}") for number in range(3)]
    chosen = {"action": "delete_selected", "_selected_action": [row.pk for row in rows], "post": "yes"}
    admin_client.post("/admin/catalog/modelprofile/", chosen)
    assert not ModelProfile.objects.exists()
    assert AuditEntry.objects.filter(verb="delete", object_type="modelprofile").count() == 3
    assert verify().broken_at is None


def test_a_key_is_told_without_its_hash_and_a_password_without_itself(
    admin_client: Client, admin_user: User
) -> None:
    fields = {"name": "worker", "verbs": ["select"], "all_tenants": "on"}
    admin_client.post("/admin/catalog/servicekey/add/", fields)
    key: Any = ServiceKey.objects.get()
    told = last()
    assert told.after
    assert (told.object_id, told.after["verbs"]) == (key.prefix, ["select"])
    password = {"password1": "a-long-password-7", "password2": "a-long-password-7", "usable_password": "true"}
    answer = admin_client.post(f"/admin/auth/user/{admin_user.pk}/password/", password)
    assert answer.status_code == 302
    assert (last().object_type, last().verb) == ("user", "update")
    kept = str(list(AuditEntry.objects.values()))
    admin_user.refresh_from_db()
    for secret in (key.hashed_key, admin_user.password, "a-long-password-7"):
        assert secret not in kept


def test_granting_rights_is_told(admin_client: Client) -> None:
    fields = {"name": "viewers", "permissions": []}
    admin_client.post("/admin/auth/group/add/", fields)
    assert (last().object_type, last().verb) == ("group", "create")


def test_a_change_that_fails_tells_nothing(admin_client: Client) -> None:
    persona = factories.persona()
    path = f"/admin/catalog/persona/{persona.pk}/change/"
    assert admin_client.post(path, {"slug": "x"}).status_code == 200
    assert not AuditEntry.objects.exists()
