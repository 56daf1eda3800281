"""The flag is on and telemetry cannot be trusted: the check, readiness, the metric and the alert say so."""

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from catalog.outage import outage
from catalog.versions import current_version
from routing import health, webhooks
from routing.bundle import current_bundle, forget_bundle
from routing.health import check_alert
from routing.models import Alert, Webhook, WebhookDelivery
from tests import factories
from tests.routing.cases import totals
from tests.routing.scenes import flip, ranked_scope, scope, snapshot
from tests.routing.test_selection_events import validate

pytestmark = pytest.mark.django_db
REPEAT = timedelta(minutes=5)
FRESH = {"incumbent": totals(cost="0.02"), "cheap": totals(cost="0.002")}


def stale() -> None:
    scope()
    flip(100)
    snapshot(timedelta(minutes=20), **FRESH)


def blind() -> None:
    scope()
    flip(10)


@pytest.mark.parametrize(("scene", "word"), [(stale, "stale"), (blind, "blind")])
def test_it_is_said_everywhere(
    client: Client,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    scene: Any,
    word: str,
) -> None:
    scene()
    call_command("check", databases=["default"])
    told = capsys.readouterr()
    assert "routing.W001" in told.err + told.out
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["flag"]["ok"]) == (200, False)
    assert ready.json()["checks"]["flag"]["telemetry"] == word
    assert "selection_flag_on_without_telemetry 1.0" in metrics(client)
    with caplog.at_level(logging.ERROR):
        assert check_alert(timezone.now(), REPEAT) is not None
    assert f"telemetry is {word}" in caplog.text


def metrics(client: Client) -> str:
    return client.get("/metrics", headers=factories.key("read")).content.decode()


@pytest.mark.parametrize("scene", [ranked_scope, scope])
def test_while_all_is_well_or_the_flag_is_off_nobody_is_alarmed(
    client: Client, capsys: pytest.CaptureFixture[str], scene: Any
) -> None:
    scene()
    call_command("check", databases=["default"])
    told = capsys.readouterr()
    assert "routing.W001" not in told.err + told.out
    assert client.get("/readyz").json()["checks"]["flag"]["ok"] is True
    assert "selection_flag_on_without_telemetry 0.0" in metrics(client)
    assert check_alert(timezone.now(), REPEAT) is None


def test_the_alert_begins_repeats_and_is_cleared_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stale()
    Webhook.objects.create(name="ops", url="https://example.com/", secret=webhooks.new_secret())
    Webhook.objects.create(
        name="one", url="https://example.com/", secret=webhooks.new_secret(), tenant=factories.tenant()
    )
    now = timezone.now()
    for minutes in (0, 1, 4, 5, 6, 10):
        check_alert(now + timedelta(minutes=minutes), REPEAT)
    assert Alert.objects.get().times_told == 3
    flip(0)
    for minutes in (11, 12):
        check_alert(now + timedelta(minutes=minutes), REPEAT)
    alert = Alert.objects.get()
    assert alert.cleared_at == now + timedelta(minutes=11)
    told = [json.loads(one.payload) for one in WebhookDelivery.objects.order_by("id")]
    assert [event["data"]["status"] for event in told] == ["began", "holds", "holds", "cleared"]
    for event in told:
        validate(event, "router-alert-v1.json")
    assert [record.levelname for record in caplog.records if "alert" in record.message] == [
        *["ERROR"] * 3,
        "INFO",
    ]


def test_after_it_was_cleared_it_can_begin_again() -> None:
    stale()
    now = timezone.now()
    check_alert(now, REPEAT)
    flip(0)
    check_alert(now, REPEAT)
    flip(100)
    check_alert(now, REPEAT)
    assert [alert.cleared_at for alert in Alert.objects.order_by("id")] == [now, None]


def test_a_tenants_own_rollout_counts_as_on() -> None:
    from overrides.models import Flag, FlagTenant

    scope()
    FlagTenant.objects.create(flag=Flag.objects.get(), tenant=factories.tenant(), rollout_percent=5)
    forget_bundle()
    assert health.flag_is_on(current_bundle())


def test_metrics_need_a_key_that_may_read(client: Client) -> None:
    scope()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=factories.key("select")).status_code == 403


def test_without_the_database_it_is_not_ready_and_names_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked_scope()
    current_bundle()

    def away() -> int:
        raise OperationalError("password=secret host=db-1")

    monkeypatch.setattr("routing.readiness.current_version", away)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["checks"]["policy"]["ok"] is True
    assert b"secret" not in answer.content


def test_the_flag_store_down_the_last_known_flag_goes_on(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 0
    ranked_scope()
    known = current_bundle()

    def away() -> int:
        raise OperationalError("away")

    monkeypatch.setattr("routing.bundle.current_version", away)
    assert current_bundle() is known
    assert outage.is_on
    monkeypatch.setattr("routing.bundle.current_version", current_version)
    outage.end()
    flip(0)
    assert not health.flag_is_on(current_bundle())
