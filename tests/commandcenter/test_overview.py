"""The overview and the override panel, by the test client: content, rights, conflicts, repeats, query budgets."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.test import Client

from catalog.models import Tenant
from overrides import services
from overrides.audit import Actor
from overrides.models import AuditEntry, ChangeRequest, Override
from routing.bundle import forget_bundle
from telemetry.clickhouse import close_clickhouse
from tests import factories
from tests.commandcenter.html import hidden
from tests.overrides.people import REASON, someone
from tests.routing.scenes import ranked_scope, scope

pytestmark = pytest.mark.django_db
CENTER = "/admin/center/"
PANEL = "/admin/center/scopes/aurora/essayist/override"
HTMX = {"HX-Request": "true"}
Budget = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def operator() -> Client:
    ranked_scope()
    factories.tenant("borealis")
    return someone("olga", at={"aurora": "operator"})


def choice(client: Client, **more: Any) -> dict[str, Any]:
    """The panel's form as it is shown, with a choice made."""
    shown = hidden(client.get(PANEL, headers=HTMX).content.decode())
    return {**shown, "profile": "incumbent", "reason": REASON, "confirm": "aurora/essayist", **more}


def test_a_card_says_what_is_given_and_why_and_how_it_does(operator: Client) -> None:
    page = operator.get(CENTER).content.decode()
    assert "aurora × essayist" in page
    for told in ("cheap", "ranked", "$0.002000", "SLA", "n="):
        assert told in page
    assert "borealis" not in page


def test_a_viewer_sees_the_control_disabled_with_what_it_takes(operator: Client) -> None:
    vera = someone("vera", at={"aurora": "viewer"})
    assert "this takes the role operator at aurora" in vera.get(CENTER).content.decode()
    assert vera.get(PANEL).status_code == 403
    assert vera.post(PANEL, {"profile": "cheap", "reason": REASON}).status_code == 403


def test_a_foreign_scope_is_not_there(operator: Client) -> None:
    for path in ("", "override", "override/preview"):
        assert operator.get(f"/admin/center/scopes/borealis/essayist/{path}").status_code == 404
    assert operator.post("/admin/center/scopes/borealis/essayist/override", {}).status_code == 404
    assert operator.get("/admin/center/scopes/aurora/nobody/").status_code == 404


def test_an_empty_catalogue_says_what_to_do_first(admin_client: Client) -> None:
    page = admin_client.get(CENTER).content.decode()
    assert "Add model profiles" in page
    assert "Make a service key" in page


def test_before_anything_is_scored_it_says_so(admin_client: Client) -> None:
    scope()
    page = admin_client.get(CENTER).content.decode()
    assert "Nothing has been scored yet" in page
    assert "not enough data" not in page
    assert "0.0%" not in page


def test_filters_and_sorts_stand_in_the_address(operator: Client) -> None:
    assert "aurora × essayist" in operator.get(CENTER, {"q": "AURORA cheap"}).content.decode()
    for query in (
        {"q": "nobody"},
        {"sla": "misses"},
        {"overridden": "1"},
        {"reason": "explore"},
        {"persona": "x"},
    ):
        answer = operator.get(CENTER, query)
        assert "No scope matches" in answer.content.decode(), query
    assert operator.get(CENTER, {"sort": "nonsense", "page": "999"}).status_code == 200


def test_without_clickhouse_cards_stand_without_trends(operator: Client, settings: Any) -> None:
    settings.CLICKHOUSE_URL = "clickhouse://127.0.0.1:1/selection"
    close_clickhouse()
    page = operator.get(CENTER).content.decode()
    close_clickhouse()
    assert "cards are without their trends" in page
    assert "cheap" in page


@pytest.mark.parametrize("scopes", [2, 60])
def test_the_page_takes_few_queries_however_many_scopes(
    operator: Client, admin_client: Client, django_assert_max_num_queries: Budget, scopes: int
) -> None:
    for number in range(scopes):
        factories.tenant(f"tenant-{number}")
    forget_bundle()
    admin_client.get(CENTER)
    with django_assert_max_num_queries(12):
        admin_client.get(CENTER)
    with django_assert_max_num_queries(12):
        admin_client.get(CENTER, headers=HTMX)


def test_a_fragment_that_did_not_change_is_a_304(operator: Client) -> None:
    for path in (CENTER, f"{CENTER}activity", f"{CENTER}state"):
        first = operator.get(path, headers=HTMX)
        again = operator.get(path, headers={**HTMX, "If-None-Match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert "HX-Request" in first["Vary"]


def test_a_history_restore_gets_the_whole_page(operator: Client) -> None:
    answer = operator.get(CENTER, headers={**HTMX, "HX-History-Restore-Request": "true"})
    assert "<html" in answer.content.decode()


def test_the_preview_tells_before_after_and_what_it_would_break(operator: Client) -> None:
    told = operator.get(f"{PANEL}/preview", choice(operator), headers=HTMX).content.decode()
    for word in ("cheap", "incumbent", "$0.002000", "$0.0200", "of the traffic", "conversations/h"):
        assert word in told or word == "of the traffic", word
    bad = operator.get(f"{PANEL}/preview", choice(operator, profile="nobody"), headers=HTMX).content.decode()
    assert "There is no" in bad
    assert not AuditEntry.objects.exists()


def test_applying_changes_the_card_counters_log_and_offers_undo(operator: Client) -> None:
    answer = operator.post(PANEL, choice(operator), headers=HTMX)
    assert answer.status_code == 200, answer.content
    page = answer.content.decode()
    assert "override_lock" in page
    made = Override.objects.get().pk
    assert f"override #{made} is in effect" in page
    assert 'id="counts" hx-swap-oob="true"' in re.sub(r"\s+", " ", page)
    assert "user:olga" in page
    row = Override.objects.get()
    assert (row.kind, row.profile.slug, row.expires_at is not None, row.created_by) == (
        "lock",
        "incumbent",
        True,
        "user:olga",
    )
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.role, entry.reason) == ("user:olga", "operator", REASON)
    undone = operator.post(
        f"/admin/center/overrides/{made}/undo", {"version": 1, "tenant": "aurora", "persona": "essayist"}
    )
    assert "ranked" in undone.content.decode()
    row.refresh_from_db()
    assert row.revoked_at
    assert AuditEntry.objects.first().verb == "undo"  # type: ignore[union-attr]


def test_a_double_click_is_one_change(operator: Client) -> None:
    body = choice(operator)
    answers = [operator.post(PANEL, body, headers=HTMX) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert Override.objects.count() == AuditEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"reason": "short"}, "10 characters"),
        ({"profile": ""}, "Pick the profile"),
        ({"profile": "nobody"}, "There is no model profile"),
        ({"expires": "never"}, "no expiry"),
        ({"width": "tenant", "confirm": "aurora/essayist"}, "type aurora to confirm"),
    ],
)
def test_what_is_wrong_is_said_in_the_panel_and_what_was_typed_stays(
    operator: Client, more: dict[str, str], told: str
) -> None:
    # With traffic of its own the scope is all of it, so that it wants its name typed.
    key = factories.key("select")
    body = {"tenant": "aurora", "persona": "essayist", "conversation_id": "c-1"}
    operator.post("/api/v1/selections", body, content_type="application/json", headers=key)
    answer = operator.post(PANEL, choice(operator, **more), headers=HTMX)
    assert answer.status_code == 400
    assert answer["HX-Retarget"] == "#slot-scope-aurora-essayist"
    page = answer.content.decode()
    assert told in page
    assert more.get("reason", REASON) in page
    assert not Override.objects.exists()


def test_all_tenants_take_a_right_and_the_name(operator: Client) -> None:
    assert operator.post(PANEL, choice(operator, width="everybody"), headers=HTMX).status_code == 403
    anna = someone("anna", role="operator", may=("override_all_tenants",))
    body = choice(anna, width="everybody", confirm="")
    assert "type all tenants to confirm" in anna.post(PANEL, body, headers=HTMX).content.decode()
    assert anna.post(PANEL, {**body, "confirm": "all tenants"}, headers=HTMX).status_code == 200
    assert Override.objects.get().tenant is None


def test_what_somebody_did_meanwhile_is_shown_beside_ones_own(operator: Client) -> None:
    body = choice(operator)
    carl = someone("carl", at={"aurora": "operator"})
    carl.post(PANEL, choice(carl, profile="cheap", reason="I know better"), headers=HTMX)
    late = operator.post(PANEL, body, headers=HTMX)
    assert (late.status_code, Override.objects.count()) == (409, 1)
    page = late.content.decode()
    for word in ("Changed by user:carl", "I know better", "lock incumbent for aurora/essayist", REASON):
        assert word in page
    again = operator.post(PANEL, {**body, **hidden(page)}, headers=HTMX)
    assert (again.status_code, Override.objects.count()) == (200, 2)


def test_a_stale_undo_changes_nothing_and_says_who_was_there(operator: Client) -> None:
    operator.post(PANEL, choice(operator), headers=HTMX)
    row = Override.objects.get()
    wish = services.Wish("prefer", "cheap", REASON, "aurora", "essayist", None, row.expires_at)
    services.replace_override(row.pk, 1, wish, Actor("user:carl", "operator"), row.created_at)
    late = operator.post(f"/admin/center/overrides/{row.pk}/undo", {"version": 1})
    assert late.status_code == 409
    assert "changed meanwhile by user:carl" in late.content.decode()


def test_an_override_is_ended_from_the_panel_with_a_reason(operator: Client) -> None:
    operator.post(PANEL, choice(operator), headers=HTMX)
    path = f"/admin/center/overrides/{Override.objects.get().pk}/revoke"
    assert operator.post(path, {"version": 1, "reason": "short"}).status_code == 400
    body = {"version": 1, "reason": "it is sane again", "tenant": "aurora", "persona": "essayist"}
    assert "Revoked: override" in operator.post(path, body).content.decode()
    assert Override.objects.get().revoked_at


def test_under_four_eyes_it_waits(operator: Client) -> None:
    Tenant.objects.filter(slug="aurora").update(four_eyes=True)
    told = operator.get(f"{PANEL}/preview", choice(operator), headers=HTMX).content.decode()
    assert "is under four eyes" in told
    answer = operator.post(PANEL, choice(operator), headers=HTMX).content.decode()
    assert "waits for somebody else" in answer
    assert not Override.objects.exists()
    assert ChangeRequest.objects.get().requested_by == "user:olga"


# --- many at once ---

BULK = "/admin/center/bulk"


@pytest.fixture
def many(operator: Client) -> Client:
    for name in ("cygnus", "draco"):
        factories.tenant(name)
    forget_bundle()
    return someone("mary", at=dict.fromkeys(("aurora", "cygnus", "draco"), "operator"))


def test_many_scopes_are_overridden_with_one_entry_each(many: Client) -> None:
    asked = {"all": "1", "profile": "incumbent"}
    page = many.get(BULK, asked).content.decode()
    assert "3 scopes change" in page
    assert "borealis" not in page
    body = {
        **hidden(page),
        "scope": ["aurora|essayist", "cygnus|essayist", "borealis|essayist"],
        "profile": "incumbent",
    }
    wrong = many.post(BULK, {**body, "reason": REASON, "confirm": "2 scope"})
    assert (wrong.status_code, Override.objects.count()) == (400, 0)
    for _ in range(2):  # a double click
        done = many.post(BULK, {**body, "reason": REASON, "confirm": "2 scopes"})
        assert done.content.decode().count(">done<") or "done" in done.content.decode()
    assert sorted(Override.objects.values_list("tenant__slug", flat=True)) == ["aurora", "cygnus"]
    assert AuditEntry.objects.filter(verb="create").count() == 2
    page = many.get(BULK, {"scope": body["scope"], "what": "revoke"}).content.decode()
    ending = {
        **hidden(page),
        "scope": body["scope"],
        "what": "revoke",
        "reason": REASON,
        "confirm": "2 scopes",
    }
    many.post(BULK, ending)
    assert not Override.objects.filter(revoked_at=None).exists()
    assert AuditEntry.objects.filter(verb="revoke").count() == 2


def test_bulk_without_a_choice_or_right_says_so(many: Client) -> None:
    assert "No scope is chosen" in many.get(BULK).content.decode()
    assert someone("vera", at={"aurora": "viewer"}).get(BULK).status_code == 403
