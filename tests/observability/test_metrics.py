"""/metrics: what is there is documented and bounded, and what happens is counted."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.signals import task_postrun, task_prerun
from celery.worker.request import Request
from django.db import OperationalError
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from catalog.outage import outage
from config.celery import app
from observability import heartbeats
from observability.meters import Meters, meters
from observability.models import Heartbeat
from observability.requests import count_request, route_of
from observability.tally import tally
from overrides import checkpoints
from overrides.models import AuditEntry
from routing.engine import Reason
from routing.gauges import ALERTS, readings
from routing.models import Alert
from routing.storing.lanes import Lanes
from telemetry.clickhouse import ClickHouseUnavailable, connect
from tests import factories
from tests.overrides.people import REASON, call
from tests.routing.scenes import ASKED, ranked_scope
from tests.routing.test_policy_api import local, report

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def _own_meters() -> None:
    tally.forget()
    meters.cache_clear()


def scrape(client: Client) -> Series:
    text = client.get("/metrics", headers=factories.key("read")).content.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Series, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def documented() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `(selection_\w+)` \|([^|]*)\|", DOCS.read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def exported() -> dict[str, set[str]]:
    found = {one.name: {"alert"} if one.alert else set() for one in readings(timezone.now())}
    for collector in Meters().registry._collector_to_names:
        metric: Any = collector
        name = metric._name + ("_total" if metric._type == "counter" else "")
        found[name] = set(metric._labelnames)
    return found


@pytest.mark.django_db
def test_every_metric_and_its_labels_are_documented_and_none_else() -> None:
    ranked_scope()
    assert exported() == documented()


@pytest.mark.django_db
def test_a_scrape_tells_of_nothing_that_is_not_documented(client: Client) -> None:
    ranked_scope()
    scrape(client)
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in scrape(client)}
    assert "selection_http_request_seconds" in names
    assert names <= set(documented())


def test_no_label_can_hold_what_comes_from_data() -> None:
    known = {
        "alert",
        "reason",
        "source",
        "method",
        "route",
        "status",
        "result",
        "state",
        "operation",
        "error",
        "task",
    }
    assert set().union(*documented().values()) == known


def _routes(resolver: URLResolver, prefix: str = "") -> set[str]:
    found = set()
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            found |= _routes(pattern, prefix + (f"{pattern.namespace}:" if pattern.namespace else ""))
        elif isinstance(pattern, URLPattern):
            found.add(f"{prefix}{pattern.name}")
    return found


def test_routes_and_tasks_are_as_few_as_is_documented() -> None:
    class Asked:
        def __init__(self, name: str) -> None:
            self.resolver_match = type("Match", (), {"view_name": name})()

    routes: set[str] = {route_of(Asked(name)) for name in _routes(get_resolver())}  # type: ignore[arg-type]
    assert {"selections", "admin:change", "admin:overview"} <= routes
    assert not any("_changelist" in route for route in routes)
    assert len(routes) <= 140
    app.loader.import_default_modules()
    assert len(app.tasks) <= 40


@pytest.mark.django_db
def test_decisions_and_requests_are_counted_by_rule_and_route(client: Client) -> None:
    ranked_scope()
    key = factories.key("select")
    for number in range(3):
        assert (
            call(client, "post", "/selections", {**ASKED, "conversation_id": f"c-{number}"}, key).status_code
            == 200
        )
    again = {**ASKED, "request_id": "r-1"}
    answers = [call(client, "post", "/selections", again, key).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert call(client, "post", "/selections", {**ASKED, "persona": "nobody"}, key).status_code == 404
    assert client.generic("BREW", "/no/such/address").status_code == 404
    found = scrape(client)
    assert value(found, "selection_decisions_total", reason="ranked", source="remote") == 4
    assert value(found, "selection_decision_seconds_count") == 5
    asked = {"route": "selections", "method": "POST"}
    assert value(found, "selection_http_requests_total", status="2xx", **asked) == 5
    assert value(found, "selection_http_requests_total", status="4xx", **asked) == 1
    assert value(found, "selection_http_request_seconds_count", route="selections") == 6
    assert value(found, "selection_http_requests_total", method="other", route="none", status="4xx") == 1


@pytest.mark.django_db
def test_decisions_without_the_database_and_those_of_workers_have_sources_of_their_own(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked_scope()
    key = factories.key("select", "read")
    answer = report(client, key, local(client, key, conversation_id="c-of-a-worker"))
    assert answer.status_code == 202, answer.content

    def away(*_: Any) -> Any:
        raise OperationalError("away")

    with monkeypatch.context() as patched:
        patched.setattr(Lanes, "run", away)
        assert (
            call(client, "post", "/selections", {**ASKED, "conversation_id": "c-9"}, key).status_code == 200
        )
    outage.end()
    found = scrape(client)
    for source in ("local", "journal"):
        assert value(found, "selection_decisions_total", reason="ranked", source=source) == 1


@pytest.mark.django_db
def test_events_are_counted_by_what_became_of_them(client: Client) -> None:
    factories.scope()
    good = factories.event(occurred_at=timezone.now().isoformat())
    answer = call(client, "post", "/telemetry/completions", [good, {"no": "event"}], factories.key("ingest"))
    assert answer.status_code == 202, answer.content
    found = scrape(client)
    assert value(found, "selection_events_ingested_total", result="accepted") == 1
    assert value(found, "selection_events_ingested_total", result="rejected") == 1


@pytest.mark.django_db
def test_tasks_are_counted_by_how_they_ended(client: Client) -> None:
    app.loader.import_default_modules()
    task = app.tasks["telemetry.tasks.drain_spool"]
    for number, state in enumerate(("SUCCESS", "FAILURE", "RETRY")):
        task_prerun.send(sender=task, task_id=str(number), task=task)
        task_postrun.send(sender=task, task_id=str(number), task=task, state=state)
    _expire(task)
    found = scrape(client)
    for state in ("succeeded", "failed", "retried", "expired"):
        assert value(found, "selection_tasks_total", task=task.name, state=state) == 1
    assert value(found, "selection_task_seconds_count", task=task.name) == 3
    assert value(found, "selection_worker_silent_seconds") is not None


def _expire(task: Any) -> None:
    """As a worker does that takes a message which is too late."""
    headers = {"id": "late", "task": task.name, "expires": "2020-01-01T00:00:00+00:00"}
    message = type(
        "Message",
        (),
        {
            "headers": headers,
            "body": ((), {}, {}),
            "payload": ((), {}, {}),
            "properties": {},
            "delivery_info": {},
        },
    )()
    request = Request(message, app=app, task=task, on_ack=lambda *_: None, headers=headers, decoded=True)
    assert request.revoked()


@pytest.mark.django_db
def test_calls_of_clickhouse_are_timed_and_their_failures_counted(client: Client) -> None:
    nobody = connect("clickhouse://127.0.0.1:1/selection")
    with pytest.raises(ClickHouseUnavailable):
        nobody.query("SELECT 1")
    found = scrape(client)
    assert value(found, "selection_clickhouse_query_seconds_count", operation="query") == 1
    assert value(found, "selection_clickhouse_errors_total", operation="query", error="unavailable") == 1


@pytest.mark.django_db
def test_alerts_are_told_by_family_and_never_by_tenant(client: Client) -> None:
    now = timezone.now()
    for name in (
        "rollout_rolled_back:aurora/essayist",
        "rollout_rolled_back:borealis",
        "disk_full",
        "Weird name",
    ):
        Alert.objects.create(name=name, detail="x", since=now, told_at=now)
    Alert.objects.create(name="profile_quarantined:gpt", detail="x", since=now, told_at=now, cleared_at=now)
    found = scrape(client)
    told = {
        dict(labels)["alert"]: count for (name, labels), count in found.items() if name == "selection_alerts"
    }
    assert told == {**dict.fromkeys(ALERTS, 0.0), "rollout_rolled_back": 2.0, "disk_full": 1.0, "other": 1.0}


@pytest.mark.django_db
def test_alerts_of_many_names_are_not_many_series(client: Client) -> None:
    now = timezone.now()
    for number in range(60):
        name = f"made_up_{chr(97 + number % 26)}{chr(97 + number // 26)}"
        Alert.objects.create(name=name, detail="x", since=now, told_at=now)
    found = scrape(client)
    told = [count for (name, _), count in found.items() if name == "selection_alerts"]
    assert (len(told) <= 24, sum(told)) == (True, 60.0)


@pytest.mark.django_db
def test_beat_and_worker_are_absent_until_they_were_heard_of(client: Client) -> None:
    assert value(scrape(client), "selection_beat_silent_seconds") is None
    heartbeats.tell(Heartbeat.Kind.BEAT, timezone.now() - timedelta(seconds=100), "x", 3.0)
    found = scrape(client)
    assert (value(found, "selection_beat_silent_seconds") or 0) >= 100
    assert value(found, "selection_beat_lag_seconds") == 3.0


@pytest.mark.django_db
def test_an_audit_log_that_was_cut_is_told(client: Client) -> None:
    from overrides.audit import SYSTEM, append

    def note(name: str) -> None:
        append(
            SYSTEM,
            AuditEntry.Verb.CREATE,
            "thing",
            name,
            tenant=None,
            before=None,
            after=None,
            reason=REASON,
            at=timezone.now(),
        )

    assert value(scrape(client), "selection_audit_broken") is None
    note("a")
    checkpoints.write(timezone.now())
    note("b")
    found = scrape(client)
    assert value(found, "selection_audit_broken") == 0
    assert value(found, "selection_audit_unsigned_entries") == 1
    assert (value(found, "selection_audit_checkpoint_age_seconds") or 0) >= 0
    path = checkpoints.checkpoint_file()
    forged = checkpoints.sign(1, "0" * 64, timezone.now(), _key())
    path.write_text(path.read_text() + forged.line() + "\n")
    assert value(scrape(client), "selection_audit_broken") == 1


def _key() -> Any:
    from django.conf import settings

    return checkpoints.private_key(settings.AUDIT_SIGNING_KEY)


def test_every_rule_has_a_counter_of_its_own() -> None:
    for reason in Reason:
        meters().decisions(reason.value, "remote").inc()
    count_request(None, "selections", 503, 0.1)
    count_request("BREW", "selections", 503, 0.1)
    tally.fold()
    found = {
        tuple(sample.labels.values()): sample.value
        for family in meters().registry.collect()
        for sample in family.samples
        if sample.name in ("selection_decisions_total", "selection_http_requests_total")
    }
    assert len(found) == len(Reason) + 1
    assert found["other", "selections", "5xx"] == 2
