"""Profile quarantines on the telemetry page, on the scope's and on the providers' page."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from overrides import audit
from overrides.models import AuditEntry
from routing.models import ProfileQuarantine
from routing.quarantining import services
from routing.sentinels.findings import Finding, Sentinel, Verdict
from tests.commandcenter.test_flags import HTMX, words
from tests.overrides.people import REASON, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
LIST, PUT = "/admin/center/quarantines", "/admin/center/quarantines/put"


@pytest.fixture(autouse=True)
def _world(settings: Any) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 0
    ranked_scope()


def opened(sentence: str = "24 of 24 calls failed.") -> ProfileQuarantine:
    finding = Finding(Sentinel.ERROR_BURST, Verdict.FIRED, sentence, {"calls": 24, "usual_markup": None})
    row = services.open_by_sentinel("cheap", finding, timezone.now())
    assert row is not None
    return row


def key_in(page: Any) -> str:
    found = re.search(r'name="key"\s+value="([0-9a-f]+)"', page.content.decode())
    assert found is not None
    return found[1]


def test_it_says_what_is_in_quarantine_why_and_until_when(admin_client: Client) -> None:
    assert "No profile is in quarantine" in words(admin_client.get(LIST, headers=HTMX))
    row = opened("<script>alert(1)</script> failed")
    page = admin_client.get(LIST, headers=HTMX)
    told = words(page)
    for part in ("cheap", "error_burst", "ends", "in 59 min", "probed", "in 1 min", "calls", "24"):
        assert part in told
    assert b"<script>" not in page.content
    # Half-open by the clock.
    ProfileQuarantine.objects.filter(pk=row.pk).update(probe_at=timezone.now())
    assert "half-open: being probed" in words(admin_client.get(LIST, headers=HTMX))
    services.release(row.pk, 1, "the provider mended it", audit.SYSTEM, timezone.now())
    told = words(admin_client.get(LIST, headers=HTMX))
    assert "closed" in told
    assert "the provider mended it" in told
    ProfileQuarantine.objects.update(closed_at=timezone.now() - timedelta(hours=25))
    assert "No profile is in quarantine" in words(admin_client.get(LIST, headers=HTMX))


def test_with_sentinels_switched_off_it_says_so(admin_client: Client, settings: Any) -> None:
    settings.SENTINELS_ENABLED = False
    assert "Sentinels are switched off" in words(admin_client.get(LIST, headers=HTMX))


def test_an_entry_of_the_audit_log_is_shown_and_cannot_be_undone(admin_client: Client) -> None:
    opened()
    seq = AuditEntry.objects.get(object_type="profile_quarantine").seq
    assert "profile_quarantine" in words(admin_client.get("/admin/center/audit/"))
    answer = admin_client.post(
        f"/admin/center/audit/{seq}/undo", {"key": "k", "reason": REASON}, headers=HTMX
    )
    assert answer.status_code in (403, 409)
    assert services.standing(timezone.now()).exists()


def test_the_same_list_again_is_a_304(admin_client: Client) -> None:
    tag = admin_client.get(LIST, headers=HTMX)["ETag"]
    again = admin_client.get(LIST, headers={**HTMX, "If-None-Match": tag})
    assert again.status_code == 304


def test_figures_are_for_who_may_see_all_tenants() -> None:
    opened()
    mine = words(someone("at one", at={"aurora": "admin"}).get(LIST, headers=HTMX))
    assert "24 of 24" not in mine
    assert "Sentinel error_burst fired; its figures are of all tenants." in mine


def test_a_person_puts_a_profile_into_quarantine_and_releases_it() -> None:
    boss = someone("boss", role="admin")
    body = {
        "key": key_in(boss.get(PUT, headers=HTMX)),
        "profile": "cheap",
        "reason": REASON,
        "confirm": "cheap",
    }
    done = boss.post(PUT, body, headers=HTMX)
    assert (done.status_code, "cheap is in quarantine." in words(done)) == (200, True)
    # The same form again does it no second time.
    assert boss.post(PUT, body, headers=HTMX).status_code == 200
    row = ProfileQuarantine.objects.get()
    assert (row.sentinel, row.reason, row.opened_by) == ("by_hand", REASON, "user:boss")
    address = f"{LIST}/{row.pk}/release"
    panel = boss.get(address, headers=HTMX)
    assert 'name="version" value="1"' in " ".join(panel.content.decode().split())
    body = {"key": key_in(panel), "version": "1", "reason": "it was another one"}
    done = boss.post(address, body, headers=HTMX)
    assert (done.status_code, "cheap is released." in words(done)) == (200, True)
    verbs = AuditEntry.objects.filter(object_type="profile_quarantine", actor="user:boss").order_by("seq")
    assert list(verbs.values_list("verb", flat=True)) == ["create", "revoke"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reason": "short"}, "Say why, in 10 characters or more"),
        ({"profile": "nobody"}, "Choose a profile."),
        ({"confirm": "other"}, "type cheap to confirm it"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_typed_is_lost(fields: dict[str, str], said: str) -> None:
    boss = someone("boss", role="admin")
    body = {"key": "k", "profile": "cheap", "reason": REASON, "confirm": "cheap", **fields}
    answer = boss.post(PUT, body, headers=HTMX)
    assert (answer.status_code, said in words(answer)) == (400, True)
    assert f'value="{body["reason"]}"' in answer.content.decode()
    assert not ProfileQuarantine.objects.exists()


def test_what_somebody_changed_meanwhile_is_not_released_unseen() -> None:
    boss, row = someone("boss", role="admin"), opened()
    services.reopen(row.pk, "probes are bad", timezone.now())
    body = {"key": "k", "version": "1", "reason": REASON}
    answer = boss.post(f"{LIST}/{row.pk}/release", body, headers=HTMX)
    assert (answer.status_code, "is at version 2 now" in words(answer)) == (409, True)
    assert services.standing(timezone.now()).exists()


def test_who_may_not_sees_the_buttons_disabled_with_what_they_take() -> None:
    row = opened()
    viewer = someone("viewer", role="viewer")
    page = viewer.get("/admin/center/telemetry/").content.decode()
    assert "Quarantine a profile" in page
    needed = "This takes the rights “override” and “all tenants at once”."
    assert needed in page
    assert needed in viewer.get(LIST, headers=HTMX).content.decode()
    assert viewer.post(PUT, {"key": "k"}, headers=HTMX).status_code == 403
    assert viewer.post(f"{LIST}/{row.pk}/release", {"key": "k"}, headers=HTMX).status_code == 403


def test_candidates_and_providers_are_marked(admin_client: Client) -> None:
    scope = "/admin/center/scopes/aurora/essayist/"
    assert "in quarantine" not in words(admin_client.get(scope))
    opened()
    page = words(admin_client.get(scope))
    assert "in quarantine" in page
    assert "quarantined by sentinel error_burst until" in page
    assert "in quarantine" in words(admin_client.get("/admin/center/providers/"))
