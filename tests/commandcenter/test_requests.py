"""Change requests on their pages: listed, told as a difference, approved for what was shown, applied, rejected."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog.models import Persona, Tenant
from overrides import approvals, services
from overrides.audit import Actor
from overrides.changes import Change, wish_values
from overrides.models import AuditEntry, ChangeRequest, Flag, FlagTenant, Override
from overrides.settings import change_settings
from routing.bundle import forget_bundle
from tests import factories
from tests.commandcenter.html import hidden
from tests.commandcenter.test_flags import HTMX, words
from tests.overrides.people import REASON, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
LIST = "/admin/center/requests/"
OLGA = Actor("user:olga", "operator")
Budget = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def request_(db: None) -> ChangeRequest:
    """An exclusion that olga wants for aurora, which is under four eyes."""
    ranked_scope()
    factories.tenant("borealis")
    Tenant.objects.filter(slug="aurora").update(four_eyes=True)
    forget_bundle()
    return wanted_by_olga()


def wanted_by_olga(tenant: str = "aurora") -> ChangeRequest:
    now = timezone.now()
    wish = services.Wish("exclude", "cheap", REASON, tenant, "essayist", None, now + timedelta(hours=1))
    change = Change("override.create", "", wish_values(wish), REASON)
    return approvals.propose(change, OLGA, now)


@pytest.fixture
def olga(request_: ChangeRequest) -> Client:
    return someone("olga", at={"aurora": "operator"})


@pytest.fixture
def paul(request_: ChangeRequest) -> Client:
    """May approve, and override."""
    return someone("paul", role="operator", may=("approve_changerequest",))


def step(client: Client, row: ChangeRequest, name: str, **more: Any) -> Any:
    shown = hidden(client.get(f"{LIST}{row.pk}/").content.decode())
    return client.post(f"{LIST}{row.pk}/{name}", {**shown, "reason": REASON, **more}, headers=HTMX)


def test_open_ones_come_first_and_filters_stand_in_the_address(
    request_: ChangeRequest, olga: Client, paul: Client
) -> None:
    newer = wanted_by_olga()
    approvals.close(newer.pk, REASON, Actor("user:paul", "operator"), timezone.now())
    page = olga.get(LIST).content.decode()
    assert page.index(f"#{request_.pk}</a>") < page.index(f"#{newer.pk}</a>")
    assert "user:olga" in page
    only = olga.get(LIST, {"state": "rejected"}).content.decode()
    assert f"#{newer.pk}</a>" in only
    assert f"#{request_.pk}</a>" not in only
    for query in ({"kind": "flag"}, {"by": "user:nobody"}, {"tenant": "x"}):
        assert "No change request matches" in olga.get(LIST, query).content.decode()


def test_without_any_the_page_says_how_one_comes_about(admin_client: Client) -> None:
    assert "under four eyes on its page" in words(admin_client.get(LIST))


@pytest.mark.parametrize("n", [1, 40])
def test_the_pages_take_few_queries(
    request_: ChangeRequest, admin_client: Client, django_assert_max_num_queries: Budget, n: int
) -> None:
    for _ in range(n):
        wanted_by_olga()
    admin_client.get(LIST)
    for path in (LIST, f"{LIST}{request_.pk}/"):
        with django_assert_max_num_queries(12):
            assert admin_client.get(path).status_code == 200


def test_a_request_is_told_as_a_difference_with_who_why_and_what_it_would_do(
    request_: ChangeRequest, olga: Client, paul: Client
) -> None:
    page = words(paul.get(f"{LIST}{request_.pk}/"))
    for word in ("exclude", "cheap", "user:olga", REASON, request_.diff_hash[:12], "Nobody has approved it"):
        assert word in page
    told = words(paul.get(f"{LIST}{request_.pk}/preview", headers=HTMX))
    assert "1 scope changes, 1 switch profile" in told
    assert "Somebody else must approve it" in words(olga.get(f"{LIST}{request_.pk}/"))


def test_it_is_approved_by_another_and_then_applied(
    request_: ChangeRequest, olga: Client, paul: Client
) -> None:
    assert step(olga, request_, "apply").status_code == 409
    answer = step(paul, request_, "approve")
    assert answer.status_code == 200, answer.content
    assert "✓ of this difference" in words(answer)
    assert "You have approved it" in words(answer)
    applied = step(olga, request_, "apply", reason="")
    assert "is applied" in words(applied)
    assert Override.objects.get().kind == "exclude"
    request_.refresh_from_db()
    assert (request_.state, request_.closed_by) == ("applied", "user:olga")


def test_what_was_shown_is_what_is_approved(request_: ChangeRequest, paul: Client) -> None:
    shown = hidden(paul.get(f"{LIST}{request_.pk}/").content.decode())
    approvals.edit(request_.pk, 1, request_.wanted, "for another reason now", OLGA, timezone.now())
    late = paul.post(f"{LIST}{request_.pk}/approve", {**shown, "reason": REASON}, headers=HTMX)
    assert late.status_code == 409
    assert "edited since you saw it" in words(late)
    assert "for another reason now" in words(late)
    assert not request_.approvals.exists()


def test_an_edit_voids_the_approval_and_says_so(request_: ChangeRequest, paul: Client, olga: Client) -> None:
    step(paul, request_, "approve")
    renewed = words(step(olga, request_, "renew"))
    assert "Approvals of what it was count no more" in renewed
    approvals.edit(request_.pk, 2, request_.wanted, "for another reason now", OLGA, timezone.now())
    assert "void: of another difference" in words(paul.get(f"{LIST}{request_.pk}/"))
    assert step(olga, request_, "apply").status_code == 409


def test_after_a_change_of_the_object_it_is_renewed(request_: ChangeRequest, paul: Client) -> None:
    Persona.objects.update(four_eyes=True)
    persona = Persona.objects.get()
    change = Change("persona", str(persona.pk), {"set": {"min_samples": 50}, "seen": None}, REASON)
    row = approvals.propose(change, Actor("user:rita", "admin"), timezone.now())
    step(paul, row, "approve")
    four = Actor("user:x", "admin", change_request=0)
    change_settings("persona", str(persona.pk), {"name": "Another"}, REASON, four, timezone.now())
    admin = someone("anna", role="admin", may=("override_all_tenants",))
    late = step(admin, row, "apply")
    assert late.status_code == 409
    assert "changed since this was proposed" in words(late)
    assert step(admin, row, "renew").status_code == 200
    row.refresh_from_db()
    assert (row.before or {})["name"] == "Another"


def test_it_is_rejected_or_withdrawn_with_a_reason(
    request_: ChangeRequest, olga: Client, paul: Client
) -> None:
    assert step(paul, request_, "reject", reason="short").status_code == 400
    assert "is rejected" in words(step(paul, request_, "reject"))
    own = wanted_by_olga()
    assert "is withdrawn" in words(step(olga, own, "reject"))
    closed = olga.post(f"{LIST}{own.pk}/reject", {"key": "another", "reason": REASON}, headers=HTMX)
    assert closed.status_code == 409
    assert "This change request is withdrawn" in words(closed)


def test_a_double_click_is_one_step(request_: ChangeRequest, paul: Client) -> None:
    shown = hidden(paul.get(f"{LIST}{request_.pk}/").content.decode())
    body = {**shown, "reason": REASON}
    answers = [paul.post(f"{LIST}{request_.pk}/reject", body, headers=HTMX) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert AuditEntry.objects.filter(verb="reject").count() == 1


def test_who_may_not_gets_a_403_and_is_told_what_it_takes(request_: ChangeRequest, olga: Client) -> None:
    viewer = someone("vera", at={"aurora": "viewer"})
    page = words(viewer.get(f"{LIST}{request_.pk}/"))
    assert "This takes the right “approve” at aurora." in page
    assert "This takes the right “override” at aurora." in page
    for name in ("approve", "apply", "reject", "renew"):
        assert viewer.post(f"{LIST}{request_.pk}/{name}", {"reason": REASON, "key": "k"}).status_code == 403
    assert olga.post(f"{LIST}{request_.pk}/approve", {"reason": REASON, "key": "k"}).status_code == 403
    assert olga.post(f"{LIST}{request_.pk}/nonsense", {"key": "k"}).status_code == 404


def test_a_foreign_tenant_s_request_is_not_there(request_: ChangeRequest) -> None:
    bert = someone("bert", at={"borealis": "operator"}, may=())
    assert "aurora" not in bert.get(LIST).content.decode()
    for path in ("", "preview"):
        assert bert.get(f"{LIST}{request_.pk}/{path}").status_code == 404
    for name in ("approve", "apply", "reject", "renew"):
        assert bert.post(f"{LIST}{request_.pk}/{name}", {"reason": REASON, "key": "k"}).status_code == 404


def test_shares_of_foreign_tenants_are_not_told(request_: ChangeRequest) -> None:
    flag = Flag.objects.get()
    FlagTenant.objects.create(flag=flag, tenant=factories.tenant("borealis"), rollout_percent=7)
    wanted = {"set": {"tenants": {"borealis": "7", "aurora": "5"}}}
    row = approvals.propose(Change("flag", str(flag.pk), wanted, REASON), OLGA, timezone.now())
    assert row.tenant == "aurora"
    viewer = someone("vera", at={"aurora": "viewer"})
    assert "aurora" in viewer.get(f"{LIST}{row.pk}/").content.decode()
    for path in (f"{LIST}{row.pk}/", "/admin/center/audit/", "/admin/center/audit/export?format=ndjson"):
        answer: Any = viewer.get(path)
        told = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert "borealis" not in told.decode(), path
