"""Flags, rollout and kill switch on their page: as they are, what a change would do, who may, conflicts, undo."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.test import Client

from catalog.models import Tenant
from commandcenter.switching import percentage
from overrides import services
from overrides.audit import Actor
from overrides.flags import AUTO_MODEL_SELECTION, read_flag
from overrides.models import AuditEntry, ChangeRequest, Flag, FlagTenant, KillSwitch
from routing.bundle import forget_bundle
from tests import factories
from tests.commandcenter.html import hidden
from tests.overrides.people import REASON, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
FLAGS, PANEL, PREVIEW = (f"/admin/center/flags/{name}" for name in ("", "panel", "preview"))
HTMX = {"HX-Request": "true"}
Budget = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def admin() -> Client:
    ranked_scope()
    factories.tenant("borealis")
    forget_bundle()
    return someone("anna", role="admin", may=("override_all_tenants",))


@pytest.fixture
def operator(admin: Client) -> Client:
    return someone("olga", at={"aurora": "operator"})


def form(client: Client, **about: Any) -> dict[str, Any]:
    """The hidden fields of a panel as it is shown, with a reason."""
    answer = client.get(PANEL, about, headers=HTMX)
    assert answer.status_code == 200, answer.content
    return {**hidden(answer.content.decode()), "reason": REASON}


def words(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def seq_to_undo(page: str) -> int:
    found = re.search(r"/audit/(\d+)/undo", page)
    assert found, page
    return int(found.group(1))


def test_the_page_says_how_the_flag_is_and_lists_own_shares(admin: Client) -> None:
    FlagTenant.objects.create(flag=Flag.objects.get(), tenant=factories.tenant("borealis"), rollout_percent=5)
    forget_bundle()
    page = words(admin.get(FLAGS))
    assert AUTO_MODEL_SELECTION in page
    assert "100% of conversations, 1 tenant with a share of its own" in page
    assert "5%" in page
    own = words(admin.get(FLAGS, {"show": "own"}))
    assert "borealis" in own
    assert ">aurora<" not in own
    assert "No tenant matches" in words(admin.get(FLAGS, {"q": "nobody"}))


@pytest.mark.parametrize("tenants", [2, 200])
def test_the_page_takes_few_queries_however_many_tenants(
    admin: Client, admin_client: Client, django_assert_max_num_queries: Budget, tenants: int
) -> None:
    flag = Flag.objects.get()
    for number in range(tenants):
        made = factories.tenant(f"tenant-{number}")
        FlagTenant.objects.create(flag=flag, tenant=made, rollout_percent=5)
        services.set_kill_switch(made.slug, True, REASON, Actor("user:x", "admin"), made.created_at)
    forget_bundle()
    admin_client.get(FLAGS)
    for headers in ({}, HTMX):
        with django_assert_max_num_queries(12):
            page = admin_client.get(FLAGS, headers=headers).content.decode()
    assert page.count("data-row") <= 25 + 20


def test_a_preview_tells_scopes_cost_and_conversations_and_changes_nothing(admin: Client) -> None:
    told = words(admin.get(PREVIEW, {"what": "flag", "mode": "off"}, headers=HTMX))
    for word in ("2 scopes change, 2 switch profile", "$0.002000 → $0.0200", "conversations/h"):
        assert word in told
    assert f"Type <strong>{AUTO_MODEL_SELECTION}</strong>" in told
    assert not AuditEntry.objects.exists()
    bad = words(admin.get(PREVIEW, {"what": "flag", "mode": "percent", "percent": "101"}, headers=HTMX))
    assert "A percentage: 0 to 100" in bad


def test_flipping_it_takes_its_name_typed_and_can_be_undone(admin: Client) -> None:
    body = {**form(admin, what="flag"), "mode": "off"}
    refused = admin.post(PANEL, body, headers=HTMX)
    assert (refused.status_code, read_flag().everyone) == (400, None)
    assert f"type {AUTO_MODEL_SELECTION} to confirm" in words(refused)
    assert REASON in refused.content.decode()
    answer = admin.post(PANEL, {**body, "confirm": AUTO_MODEL_SELECTION}, headers=HTMX)
    assert answer.status_code == 200, answer.content
    assert read_flag().everyone is False
    assert "governed-changed" in answer["HX-Trigger-After-Settle"]
    undo = hidden(answer.content.decode())
    path = f"/admin/center/audit/{seq_to_undo(answer.content.decode())}/undo"
    assert "is taken back" in words(admin.post(path, undo, headers=HTMX))
    assert (read_flag().everyone, read_flag().percent) == (None, 100)
    assert list(AuditEntry.objects.values_list("verb", "actor")) == [
        ("undo", "user:anna"),
        ("update", "user:anna"),
    ]


def test_a_double_click_is_one_change_and_another_form_of_the_same_key_is_none(admin: Client) -> None:
    body = {**form(admin, what="flag"), "mode": "off", "confirm": AUTO_MODEL_SELECTION}
    assert [admin.post(PANEL, body, headers=HTMX).status_code for _ in range(2)] == [200, 200]
    assert AuditEntry.objects.count() == 1
    other = admin.post(PANEL, {**body, "mode": "on"}, headers=HTMX)
    assert other.status_code == 400
    assert "used for another request" in words(other)
    assert read_flag().everyone is False
    keyless = admin.post(PANEL, {**body, "key": "", "mode": "on", "seen": ""}, headers=HTMX)
    assert (keyless.status_code, read_flag().everyone) == (400, False)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"reason": "short"}, "10 characters"),
        ({"percent": "100.5"}, "A percentage: 0 to 100"),
        ({"percent": "1.234"}, "at most two decimals"),
        ({"percent": "NaN"}, "A percentage"),
        ({"percent": "a lot"}, "A percentage"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(
    admin: Client, more: dict[str, str], told: str
) -> None:
    body = {**form(admin, what="flag"), "mode": "percent", "percent": "25", "confirm": AUTO_MODEL_SELECTION}
    answer = admin.post(PANEL, {**body, **more}, headers=HTMX)
    assert answer.status_code == 400
    assert told in words(answer)
    assert next(iter(more.values())) in words(answer)
    assert not AuditEntry.objects.exists()


def test_percentages_are_read_exactly() -> None:
    assert [percentage(text) for text in ("0", "100", "12.50", "1e1")] == ["0", "100", "12.50", "10"]
    for text in ("", "-1", "Infinity", "100.001"):
        with pytest.raises(ValueError, match="0 to 100"):
            percentage(text)


def test_what_somebody_did_meanwhile_is_shown_beside_ones_own(admin: Client) -> None:
    body = {
        **form(admin, what="flag"),
        "mode": "percent",
        "percent": "50",
        "confirm": AUTO_MODEL_SELECTION,
    }
    carl = someone("carl", role="admin", may=("override_all_tenants",))
    theirs = {**form(carl, what="flag"), "mode": "off", "confirm": AUTO_MODEL_SELECTION}
    carl.post(PANEL, {**theirs, "reason": "I know better than that"}, headers=HTMX)
    late = admin.post(PANEL, body, headers=HTMX)
    assert (late.status_code, read_flag().everyone) == (409, False)
    for word in ("Changed by user:carl", "I know better than that", "everyone: no", "rollout_percent: 50"):
        assert word in words(late), word
    again = admin.post(PANEL, {**body, **hidden(late.content.decode())}, headers=HTMX)
    assert (again.status_code, read_flag().percent) == (200, 50)


def test_a_tenant_gets_its_own_share_and_loses_it(operator: Client) -> None:
    flag = Flag.objects.get()
    FlagTenant.objects.create(flag=flag, tenant=factories.tenant("borealis"), rollout_percent=5)
    assert operator.get(PANEL, {"what": "share", "tenant": "aurora"}).status_code == 403
    anna = someone("berta", role="admin")
    body = {**form(anna, what="share", tenant="aurora"), "percent": "12.5", "confirm": "aurora"}
    assert "aurora: 12.5% of conversations" in words(anna.post(PANEL, body, headers=HTMX))
    assert read_flag().tenants == {"aurora": 12.5, "borealis": 5}
    body = {**form(anna, what="share", tenant="aurora"), "percent": "", "confirm": "aurora"}
    assert "no share of its own" in words(anna.post(PANEL, body, headers=HTMX))
    assert read_flag().tenants == {"borealis": 5}
    same = {**form(anna, what="share", tenant="aurora"), "percent": ""}
    assert "it was so already" in words(anna.post(PANEL, same, headers=HTMX))


def test_another_tenant_s_share_is_no_conflict(admin: Client) -> None:
    body = {**form(admin, what="share", tenant="aurora"), "percent": "10", "confirm": "aurora"}
    other = {**form(admin, what="share", tenant="borealis"), "percent": "20", "confirm": "borealis"}
    assert admin.post(PANEL, other, headers=HTMX).status_code == 200
    assert admin.post(PANEL, body, headers=HTMX).status_code == 200
    assert read_flag().tenants == {"aurora": 10, "borealis": 20}


def test_stopping_everybody_takes_the_word_typed(admin: Client) -> None:
    body = form(admin, what="kill")
    assert body["on"] == "1"
    refused = admin.post(PANEL, {**body, "confirm": "all"}, headers=HTMX)
    assert (refused.status_code, KillSwitch.objects.exists()) == (400, False)
    done = admin.post(PANEL, {**body, "confirm": "everybody"}, headers=HTMX)
    assert "automatic selection is stopped for everybody" in words(done)
    page = words(admin.get(FLAGS))
    assert "Kill switch on" in page  # the banner, on every page
    assert "turned on by user:anna" in page
    path = f"/admin/center/audit/{seq_to_undo(done.content.decode())}/undo"
    admin.post(path, hidden(done.content.decode()), headers=HTMX)
    assert not KillSwitch.objects.get().on


def test_a_tenant_is_stopped_by_its_operator_and_listed(operator: Client) -> None:
    body = {**form(operator, what="kill", tenant="aurora"), "confirm": "aurora"}
    assert operator.post(PANEL, body, headers=HTMX).status_code == 200
    page = words(operator.get(FLAGS))
    assert "Tenants for which it is on" in page
    assert "user:olga" in page
    assert "borealis" not in page
    off = form(operator, what="kill", tenant="aurora")
    assert off["on"] == "0"


def test_a_kill_switch_that_somebody_else_turned_meanwhile_is_a_conflict(admin: Client) -> None:
    body = {**form(admin, what="kill", tenant="aurora"), "confirm": "aurora"}
    carl = someone("carl", at={"aurora": "operator"})
    carl.post(PANEL, {**form(carl, what="kill", tenant="aurora"), "confirm": "aurora"}, headers=HTMX)
    late = admin.post(PANEL, body, headers=HTMX)
    assert late.status_code == 409
    assert "Changed by user:carl" in words(late)
    assert KillSwitch.objects.get().changed_by == "user:carl"


def test_who_may_not_sees_the_control_disabled_and_gets_a_403(operator: Client) -> None:
    page = words(operator.get(FLAGS))
    assert "This takes the rights “flags” and “all tenants at once”." in page
    assert "This takes the right “flags” at aurora." in page
    assert 'id="kill-aurora"' in page
    for about in ({"what": "flag"}, {"what": "kill"}, {"what": "share", "tenant": "aurora"}):
        assert operator.get(PANEL, about).status_code == 403
        assert operator.get(PREVIEW, about).status_code == 403
        assert operator.post(PANEL, {**about, "reason": REASON, "key": "k", "mode": "off"}).status_code == 403
    viewer = someone("vera", at={"aurora": "viewer"})
    assert viewer.post(PANEL, {"what": "kill", "tenant": "aurora", "reason": REASON}).status_code == 403
    assert not AuditEntry.objects.exists()


def test_a_foreign_tenant_is_not_there(operator: Client) -> None:
    for what in ("share", "kill"):
        about = {"what": what, "tenant": "borealis"}
        assert operator.get(PANEL, about).status_code == 404
        assert operator.get(PREVIEW, about).status_code == 404
        assert operator.post(PANEL, about).status_code == 404
    assert operator.get(PANEL, {"what": "kill", "tenant": "nobody"}).status_code == 404
    assert "borealis" not in words(operator.get(FLAGS, {"q": "bor"}))


def test_what_is_no_panel_is_refused(admin: Client) -> None:
    for about in ({}, {"what": "x"}, {"what": "share"}, {"what": "flag", "tenant": "aurora"}):
        assert admin.get(PANEL, about).status_code == 400


def test_under_four_eyes_it_waits(admin: Client) -> None:
    Tenant.objects.filter(slug="aurora").update(four_eyes=True)
    told = words(admin.get(PREVIEW, {"what": "flag", "mode": "off"}, headers=HTMX))
    assert "under four eyes" in told
    body = {**form(admin, what="flag"), "mode": "off", "confirm": AUTO_MODEL_SELECTION}
    answer = words(admin.post(PANEL, body, headers=HTMX))
    assert f"change request {ChangeRequest.objects.get().pk} waits for somebody else" in answer
    assert read_flag().everyone is None
    # Stopping never waits.
    assert "under four eyes" not in words(admin.get(PREVIEW, {"what": "kill", "tenant": "aurora"}))


def test_a_fragment_that_did_not_change_is_a_304(admin: Client) -> None:
    first = admin.get(FLAGS, headers=HTMX)
    again = admin.get(FLAGS, headers={**HTMX, "If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
