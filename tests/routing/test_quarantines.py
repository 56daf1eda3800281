"""From calls to a quarantine and out of it: through ingest and ClickHouse, by probes, by the clock and by people."""

import json
import logging
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog.models import PriceRevision
from overrides import audit
from overrides.models import AuditEntry
from routing import tasks, webhooks
from routing.bundle import current_bundle, forget_bundle
from routing.engine import SelectionRequest, decide
from routing.models import Alert, ProfileQuarantine, Webhook, WebhookDelivery
from routing.quarantining import services, watching
from telemetry import spool
from telemetry.clickhouse import ClickHouse
from telemetry.ingest import accept
from telemetry.recent import read_recent
from telemetry.tasks import drain_spool
from tests import factories
from tests.routing.scenes import ranked_scope
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db
TENANTS = ("aurora", "borealis")
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _no_baseline_kept() -> Iterator[None]:
    watching.usuals.forget()
    yield
    watching.usuals.forget()


def calls(n: int, at: datetime, tenants: Any = TENANTS, profile: str = "cheap", **fields: Any) -> list[Any]:
    """``n`` calls of each tenant, each of a conversation of its own."""
    return [
        factories.event(
            tenant=tenant,
            profile=profile,
            occurred_at=at.isoformat(),
            conversation_id=str(uuid.uuid4()),
            **{"cost_usd": None, **fields},
        )
        for tenant in tenants
        for _ in range(n)
    ]


def send(events: list[Any], now: datetime) -> list[Any]:
    """As the API takes them, and on to ClickHouse without roll-ups."""
    assert accept(events, source="test", now=now, tenants=None).rejected == ()
    return events


def world(door: ClickHouse, now: datetime) -> None:
    """A scope that cheap wins, a foreign tenant, prices, and a day of calls that hardly ever failed."""
    ranked_scope()
    factories.tenant("borealis")
    for slug in ("incumbent", "cheap"):
        factories.price(factories.profile(slug), prompt="0.01", completion="0.02")
    past = now - timedelta(hours=2)
    run_pipeline(door, calls(95, past) + calls(5, past, success=False), now)


def seen(door: ClickHouse, now: datetime) -> list[ProfileQuarantine]:
    while spool.drain(door, now, block_rows=10_000):
        pass
    return watching.watch(door, now)


def given(at: datetime, conversation: str = "c-1") -> str:
    forget_bundle()
    return decide(current_bundle(), SelectionRequest("aurora", "essayist", conversation, at)).profile.slug


def test_a_burst_of_errors_sent_to_the_api_changes_the_next_decision(
    door: ClickHouse, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    now = timezone.now()
    world(door, now)
    key = factories.key("ingest", "select", "read", tenants=TENANTS)
    asked = {"tenant": "aurora", "persona": "essayist", "conversation_id": "c-1"}

    def selected() -> Any:
        forget_bundle()
        return client.post("/api/v1/selections", asked, "application/json", headers=key).json()

    assert selected()["profile"]["slug"] == "cheap"
    burst = calls(12, now, success=False, error_code="server_error", completion_tokens=0)
    sent = client.post("/api/v1/telemetry/completions", burst, "application/json", headers=key)
    assert sent.status_code == 202
    drain_spool()
    with caplog.at_level(logging.ERROR):
        assert tasks.watch_profiles() == 1
    told = selected()
    assert told["profile"]["slug"] == "incumbent"
    why = next(card["why_not"] for card in told["candidates"] if card["profile"] == "cheap")
    assert why[0].startswith("quarantined by sentinel error_burst until ")
    row = ProfileQuarantine.objects.get()
    assert row.reason == "24 of 24 calls (100%) in 24 conversations failed; usual for the same work is 5.0%."
    entry = AuditEntry.objects.get(object_type="profile_quarantine")
    assert (entry.actor, entry.role, entry.verb, entry.tenant) == ("system", "system", "create", None)
    assert audit.verify().broken_at is None
    assert Alert.objects.get(name="profile_quarantined:cheap", cleared_at=None).detail.startswith(
        "cheap is not given to anybody. error_burst: 24 of 24 calls"
    )
    assert "cheap is in quarantine" in caplog.text
    # It is in it already.
    assert tasks.watch_profiles() == 0


def test_bad_probes_open_it_again_for_twice_as_long_and_good_ones_close_it(door: ClickHouse) -> None:
    now = timezone.now()
    world(door, now)
    Webhook.objects.create(name="ops", url="https://example.com/", secret=webhooks.new_secret())
    send(calls(12, now, success=False), now)
    [row] = seen(door, now)
    watching.tell_alerts(now, MINUTE)
    assert (given(now), row.probe_at) == ("incumbent", now + 2 * MINUTE)

    # Half-open by the clock; four probes fail.
    later = now + 3 * MINUTE
    conversations = [f"c-{n}" for n in range(300)]
    assert 0 < sum(given_many(later, conversations).values()) < 40
    assert services.record_clock(later) == 1
    send(calls(4, later, ("aurora",), success=False), later)
    assert seen(door, later) == []
    row.refresh_from_db()
    assert (row.state, row.probes, row.probe_at) == ("open", 1, later + 4 * MINUTE)
    assert sum(given_many(later, conversations).values()) == 0

    # Half-open again; ten are well.
    last = later + 5 * MINUTE
    send(calls(10, last, ("aurora",)), last)
    assert seen(door, last) == []
    row.refresh_from_db()
    assert (row.state, row.closed_at, row.closed_by) == ("closed", last, "system")
    assert given(last) == "cheap"
    watching.tell_alerts(last, MINUTE)
    told = [json.loads(one.payload)["data"] for one in WebhookDelivery.objects.order_by("id")]
    assert [(one["name"], one["status"]) for one in told] == [
        ("profile_quarantined:cheap", "began"),
        ("profile_quarantined:cheap", "cleared"),
    ]
    verbs = AuditEntry.objects.filter(object_type="profile_quarantine").order_by("seq")
    assert list(verbs.values_list("verb", flat=True)) == ["create", "update", "update", "revoke"]
    assert audit.verify().broken_at is None


def given_many(at: datetime, conversations: list[str]) -> dict[str, bool]:
    forget_bundle()
    bundle = current_bundle()
    return {
        name: decide(bundle, SelectionRequest("aurora", "essayist", name, at)).profile.slug == "cheap"
        for name in conversations
    }


def test_what_failed_before_it_was_closed_does_not_open_it_again(door: ClickHouse) -> None:
    now = timezone.now()
    world(door, now)
    send(calls(12, now, success=False), now)
    [row] = seen(door, now)
    services.release(row.pk, row.version, "the provider says it is mended", audit.SYSTEM, now + MINUTE)
    assert seen(door, now + MINUTE) == []
    send(calls(12, now + 2 * MINUTE, success=False), now + 2 * MINUTE)
    assert [one.profile.slug for one in seen(door, now + 2 * MINUTE)] == ["cheap"]


@pytest.mark.parametrize(
    ("sentinel", "fields"),
    [
        ("served_other", {"served_model": "another-model"}),
        ("token_inflation", {"completion_tokens": 200}),
        ("price_change", {"cost_usd": "0.003"}),
    ],
)
def test_each_sentinel_sees_its_own_fault(door: ClickHouse, sentinel: str, fields: dict[str, Any]) -> None:
    now = timezone.now()
    world(door, now)
    send(calls(20, now), now)
    assert seen(door, now) == []
    send(calls(40, now, **fields), now)
    assert [one.sentinel for one in seen(door, now)] == [sentinel]
    assert given(now) == "incumbent"


def test_a_price_that_an_admin_raised_is_no_surprise(door: ClickHouse) -> None:
    now = timezone.now()
    world(door, now)
    factories.price(
        factories.profile("cheap"), prompt="0.05", completion="0.1", valid_from=now - timedelta(minutes=10)
    )
    send(calls(20, now), now)
    assert seen(door, now) == []
    assert PriceRevision.objects.filter(profile__slug="cheap").count() == 2


def test_the_same_failure_sent_ten_times_is_one(door: ClickHouse) -> None:
    now = timezone.now()
    world(door, now)
    few = calls(2, now, success=False)
    for _ in range(10):
        send(few, now)
    assert seen(door, now) == []
    assert sum(one.requests for one in read_recent(door, now - MINUTE, now)) == 4


def test_one_tenants_failures_leave_a_profile_that_serves_others_well(door: ClickHouse) -> None:
    now = timezone.now()
    world(door, now)
    send(calls(100, now, ("aurora",), success=False) + calls(10, now, ("borealis",)), now)
    assert seen(door, now) == []


def test_it_ends_by_the_clock_without_anybody_doing_anything(door: ClickHouse) -> None:
    now = timezone.now()
    world(door, now)
    send(calls(12, now, success=False), now)
    [row] = seen(door, now)
    row.probe_at = None
    row.save()
    ends = now + timedelta(hours=1)
    # The scores are an hour old by then, so the bundle is asked what is barred.
    forget_bundle()
    circuits = current_bundle().standing.circuits
    assert circuits.bars(ends - timedelta(seconds=1)).always
    assert not circuits.bars(ends).all
    assert services.record_clock(ends) == 1
    assert services.record_clock(ends) == 0
    row.refresh_from_db()
    assert (row.state, row.close_reason) == ("closed", "It expired.")
    assert AuditEntry.objects.filter(object_type="profile_quarantine").first().verb == "expire"  # type: ignore[union-attr]


def test_an_expired_one_that_nobody_told_of_does_not_keep_the_next_from_opening(door: ClickHouse) -> None:
    now = timezone.now()
    world(door, now)
    send(calls(12, now, success=False), now)
    [row] = seen(door, now)
    ProfileQuarantine.objects.filter(pk=row.pk).update(expires_at=now)
    send(calls(12, now + MINUTE, success=False), now + MINUTE)
    assert len(seen(door, now + MINUTE)) == 1
    assert list(ProfileQuarantine.objects.order_by("id").values_list("state", flat=True)) == [
        "closed",
        "open",
    ]


def test_while_clickhouse_is_away_the_clock_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    ranked_scope()
    now = timezone.now()
    factories.profile("cheap")
    row = services.open_by_hand("cheap", "seen to answer rubbish", audit.SYSTEM, now)
    ProfileQuarantine.objects.filter(pk=row.pk).update(expires_at=now)
    with caplog.at_level(logging.WARNING):
        assert tasks.watch_profiles() == 0
    assert "sentinels: " in caplog.text
    assert ProfileQuarantine.objects.get().state == "closed"


def test_sentinels_can_be_switched_off(settings: Any) -> None:
    settings.SENTINELS_ENABLED = False
    ranked_scope()
    # Nothing listens at this test's ClickHouse, and nobody asks it.
    assert tasks.watch_profiles() == 0
