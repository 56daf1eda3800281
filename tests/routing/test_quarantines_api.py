"""Profile quarantines over the API: who sees what, putting a profile into one, releasing it."""

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
from tests import factories
from tests.overrides.people import REASON, call, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
ASKED = {"tenant": "aurora", "persona": "essayist", "conversation_id": "c-1"}


@pytest.fixture(autouse=True)
def _world(settings: Any) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 0
    ranked_scope()


def everybodys(*verbs: str) -> dict[str, str]:
    return factories.key(*verbs, tenants=())


def opened() -> ProfileQuarantine:
    finding = Finding(Sentinel.ERROR_BURST, Verdict.FIRED, "24 of 24 calls failed.", {"calls": 24})
    row = services.open_by_sentinel("cheap", finding, timezone.now())
    assert row is not None
    return row


def selected(client: Client) -> str:
    answer = call(client, "post", "/selections", ASKED, everybodys("select"))
    return str(answer.json()["profile"]["slug"])


def test_a_person_puts_a_profile_into_quarantine_and_releases_it(client: Client) -> None:
    assert selected(client) == "cheap"
    key = everybodys()
    made = call(client, "post", "/quarantines", {"profile": "cheap", "reason": REASON}, key)
    assert (made.status_code, made.json()["state"], made.json()["sentinel"]) == (201, "open", "by_hand")
    assert made["ETag"] == '"1"'
    assert selected(client) == "incumbent"
    path = f"/quarantines/{made.json()['id']}"
    done = call(client, "post", f"{path}/release", {"reason": REASON}, key, If_Match='"1"')
    assert (done.status_code, done.json()["state"], done.json()["version"]) == (200, "closed", 2)
    assert selected(client) == "cheap"
    told = AuditEntry.objects.filter(object_type="profile_quarantine").order_by("seq")
    assert [(one.verb, one.actor[:4], one.reason) for one in told] == [
        ("create", "key:", REASON),
        ("revoke", "key:", REASON),
    ]
    assert audit.verify().broken_at is None


def test_a_decision_made_in_a_quarantine_replays_byte_for_byte_when_that_is_over(
    client: Client, settings: Any
) -> None:
    settings.PROFILE_QUARANTINE_PROBE_SHARE = 0.5
    row = opened()
    # Half-open by the clock, so that who probes and who does not are both replayed.
    ProfileQuarantine.objects.filter(pk=row.pk).update(probe_at=timezone.now())
    key = everybodys()
    made = [
        call(client, "post", "/selections", {**ASKED, "conversation_id": f"c-{n}"}, key).json()
        for n in range(40)
    ]
    assert {one["profile"]["slug"] for one in made} == {"cheap", "incumbent"}
    services.release(row.pk, row.version, REASON, audit.SYSTEM, timezone.now())
    for slug in ("cheap", "incumbent"):
        one = next(one for one in made if one["profile"]["slug"] == slug)
        told = call(client, "get", f"/selections/{one['decision_id']}", key=key).json()
        assert (told["replay"]["verdict"], told["explanation"]) == ("equal", one["explanation"])


def test_figures_are_of_all_tenants_and_shown_to_who_may_see_all(client: Client) -> None:
    opened()
    whole = call(client, "get", "/quarantines?standing=1", key=everybodys("read")).json()["results"]
    assert (whole[0]["figures"], whole[0]["reason"]) == ({"calls": 24}, "24 of 24 calls failed.")
    mine = call(client, "get", "/quarantines", key=factories.key("read")).json()["results"]
    assert mine[0]["figures"] is None
    assert mine[0]["reason"] == "Sentinel error_burst fired; its figures are of all tenants."
    assert (mine[0]["profile"], mine[0]["state"]) == ("cheap", "open")
    # The audit entry tells the figures, too.
    entries = call(client, "get", "/audit?object_type=profile_quarantine", key=factories.key("read"))
    assert entries.json()["results"] == []


def test_the_list_is_of_one_profile_or_of_those_that_hold(client: Client) -> None:
    row = opened()
    services.release(row.pk, 1, REASON, audit.SYSTEM, timezone.now())
    factories.profile("other")
    services.open_by_hand("other", REASON, audit.SYSTEM, timezone.now())
    key = everybodys("read")

    def listed(query: str) -> list[str]:
        return [
            one["profile"] for one in call(client, "get", f"/quarantines{query}", key=key).json()["results"]
        ]

    assert listed("") == ["other", "cheap"]
    assert listed("?standing=1") == ["other"]
    assert listed("?profile=cheap") == ["cheap"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"profile": "cheap", "reason": "short"}, "reason"),
        ({"profile": "nobody", "reason": REASON}, "profile"),
        ({"profile": "cheap", "reason": REASON, "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"profile": "cheap", "reason": REASON, "expires_at": "2099-01-01T00:00:00Z"}, "expires_at"),
        ({"profile": "cheap", "reason": REASON, "probe_at": None}, "probe_at"),
    ],
)
def test_what_is_wrong_is_told_by_field_and_nothing_is_made(
    client: Client, body: dict[str, Any], field: str
) -> None:
    answer = call(client, "post", "/quarantines", body, everybodys())
    assert answer.status_code == 400
    assert field in str(answer.json()["errors"])
    assert not ProfileQuarantine.objects.exists()


def test_twice_is_a_conflict_and_a_repeat_with_the_same_key_is_none(client: Client) -> None:
    body, key = {"profile": "cheap", "reason": REASON}, everybodys()
    first = call(client, "post", "/quarantines", body, key, Idempotency_Key="k-1")
    again = call(client, "post", "/quarantines", body, key, Idempotency_Key="k-1")
    assert (again.status_code, again.json()) == (201, first.json())
    other = call(client, "post", "/quarantines", body, key)
    assert (other.status_code, other.json()["code"]) == (409, "not_standing")
    # A sentinel's is another one.
    assert opened().pk


def test_releasing_takes_the_version_that_one_saw(client: Client) -> None:
    row, key = opened(), everybodys()
    path = f"/quarantines/{row.pk}"
    assert call(client, "post", f"{path}/release", {"reason": REASON}, key).status_code == 428
    services.reopen(row.pk, "probes are bad", timezone.now())
    stale = call(client, "post", f"{path}/release", {"reason": REASON}, key, If_Match='"1"')
    assert (stale.status_code, stale.json()["current"]["version"]) == (409, 2)
    seen = call(client, "get", path, key=key)["ETag"]
    assert call(client, "post", f"{path}/release", {"reason": REASON}, key, If_Match=seen).status_code == 200
    over = call(client, "post", f"{path}/release", {"reason": REASON}, key, If_Match='"3"')
    assert (over.status_code, over.json()["code"]) == (409, "not_standing")
    gone = call(client, "post", "/quarantines/999999/release", {"reason": REASON}, key, If_Match='"1"')
    assert gone.status_code == 404


def test_changing_takes_the_right_at_all_tenants() -> None:
    row = opened()
    body = {"profile": "cheap", "reason": REASON}
    for who, status in (
        (someone("viewer", role="viewer"), 403),
        (someone("at one", at={"aurora": "operator"}), 403),
        (someone("operator", role="operator"), 403),
        (someone("admin", role="admin"), 201),
    ):
        assert call(who, "post", "/quarantines", body).status_code == status
        assert call(who, "get", f"/quarantines/{row.pk}").status_code == 200


def test_what_expired_reads_as_closed_before_anybody_tells(client: Client) -> None:
    row = opened()
    ProfileQuarantine.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    told = call(client, "get", f"/quarantines/{row.pk}", key=everybodys("read")).json()
    assert (told["state"], told["closed_at"]) == ("closed", None)
