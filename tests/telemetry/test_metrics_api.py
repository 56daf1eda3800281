"""GET /api/v1/metrics/profiles and /metrics/freshness, through the front door."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from telemetry.clickhouse import ClickHouse, close_clickhouse
from telemetry.models import DirtyBucket, PipelineStage, ScopeActivity, SpoolBatch
from tests import factories
from tests.services import free_ports
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db
PROFILES = "/api/v1/metrics/profiles"
FRESHNESS = "/api/v1/metrics/freshness"


def get(client: Client, url: str, key: dict[str, str], **query: str) -> Any:
    return client.get(url, query, headers=key)


def events(now: datetime) -> list[dict[str, Any]]:
    at = (now - timedelta(minutes=1)).isoformat()
    common = {"occurred_at": at, "prompt_tokens": 300, "completion_tokens": 100}
    return [
        factories.event(**common, latency_ms=1000, cost_usd="0.01", accuracy=0.5, task="essay"),
        factories.event(**common, latency_ms=2000, cost_usd="0.03", success=False, escalated=True),
        factories.event(**common, latency_ms=4000, cost_usd=None, safety_violation=True, accuracy=1.0),
        factories.event(**common, latency_ms=8000, cost_usd="0.02", cached_tokens=50),
    ]


def test_every_metric_of_the_design_is_there_and_right(client: Client, door: ClickHouse) -> None:
    factories.scope()
    now = timezone.now()
    run_pipeline(door, events(now), now)
    answer = get(client, PROFILES, factories.key("read"), tenant="aurora", persona="essayist")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["window"], body["freshness"], body["cause"]) == ("24h", "fresh", None)
    [row] = body["profiles"]
    assert row["profile"] == "gpt-5.4"
    assert (row["requests"], row["priced"], Decimal(row["cost_usd"])) == (4, 3, Decimal("0.06"))
    assert float(row["cost_per_completion"]) == pytest.approx(0.02)
    assert float(row["cost_per_1k_tokens"]) == pytest.approx(0.05)
    assert float(row["cost_per_success"]) == pytest.approx(0.03)
    assert row["tokens_per_success"] == pytest.approx(1600 / 3)
    assert row["success_rate"] == row["success_rate_24h"] == 0.75
    assert row["latency_p50_ms"] == pytest.approx(2000, rel=0.045)
    assert row["latency_p95_ms"] == pytest.approx(8000, rel=0.045)
    assert (row["safety_violation_rate"], row["escalation_rate"]) == (0.25, 0.25)
    assert (row["accuracy"], row["accuracy_count"], row["cached_tokens"]) == (0.75, 2, 50)
    assert row["as_of"] == body["as_of"]


def test_a_task_narrows_and_a_window_shortens(client: Client, door: ClickHouse) -> None:
    factories.scope()
    now = timezone.now()
    old = factories.event(occurred_at=(now - timedelta(hours=3)).isoformat())
    run_pipeline(door, [*events(now), old], now)
    scope = {"tenant": "aurora", "persona": "essayist"}
    key = factories.key("read")

    def requests(**query: str) -> int:
        profiles = get(client, PROFILES, key, **scope, **query).json()["profiles"]
        return sum(row["requests"] for row in profiles)

    assert requests() == 5
    assert requests(window="1h") == 4
    assert requests(window="5m") == 4
    assert requests(task="essay") == 1
    assert requests(task="unheard-of") == 0


def test_what_is_unknown_is_null_never_zero(client: Client, door: ClickHouse) -> None:
    factories.scope()
    now = timezone.now()
    failed = factories.event(occurred_at=now.isoformat(), success=False, cost_usd=None)
    run_pipeline(door, [failed], now)
    query = {"tenant": "aurora", "persona": "essayist", "window": "1h"}
    [row] = get(client, PROFILES, factories.key("read"), **query).json()["profiles"]
    for name in (
        "cost_per_completion",
        "cost_per_success",
        "tokens_per_success",
        "accuracy",
        "success_rate_24h",
    ):
        assert row[name] is None


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"tenant": "aurora"}, 400),
        ({"tenant": "aurora", "persona": "essayist", "window": "2h"}, 400),
        ({"tenant": "aurora", "persona": "nobody"}, 404),
        ({"tenant": "borealis", "persona": "essayist"}, 404),
        ({"tenant": "nowhere", "persona": "essayist"}, 404),
        ({"tenant": "a\x00b", "persona": "essayist"}, 400),
    ],
)
def test_a_bad_or_foreign_question_is_a_clear_problem(
    client: Client, query: dict[str, str], status: int
) -> None:
    factories.scope()
    factories.tenant("borealis")
    answer = get(client, PROFILES, factories.key("read"), **query)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"


def test_metrics_need_the_read_verb(client: Client) -> None:
    for url in (PROFILES, FRESHNESS):
        assert get(client, url, {}).status_code == 401
        assert get(client, url, factories.key("select", "ingest")).status_code == 403


def test_while_clickhouse_is_away_metrics_are_a_503_and_freshness_still_answers(
    client: Client, settings: Settings
) -> None:
    factories.scope()
    [port] = free_ports(1)
    settings.CLICKHOUSE_URL = f"clickhouse://127.0.0.1:{port}/selection"
    close_clickhouse()
    key = factories.key("read")
    answer = get(client, PROFILES, key, tenant="aurora", persona="essayist")
    assert (answer.status_code, answer.json()["code"]) == (503, "clickhouse_unavailable")
    assert get(client, FRESHNESS, key).status_code == 200
    close_clickhouse()


@pytest.mark.parametrize(
    ("age", "expected"),
    [(timedelta(minutes=4), "fresh"), (timedelta(minutes=6), "degraded"), (timedelta(minutes=16), "stale")],
)
def test_freshness_follows_the_age_of_the_newest_event(client: Client, age: timedelta, expected: str) -> None:
    factories.scope()
    ScopeActivity.objects.create(tenant="aurora", persona="essayist", last_event_at=timezone.now() - age)
    body = get(client, FRESHNESS, factories.key("read")).json()
    assert body["freshness"] == expected
    assert [scope["freshness"] for scope in body["scopes"]] == [expected]


def test_without_any_event_it_is_blind(client: Client) -> None:
    assert get(client, FRESHNESS, factories.key("read")).json()["freshness"] == "blind"


def test_freshness_tells_no_traffic_clickhouse_down_and_roll_up_late_apart(client: Client) -> None:
    key = factories.key("read")
    now = timezone.now()
    late = now - timedelta(minutes=3)

    def cause() -> str:
        return str(get(client, FRESHNESS, key).json()["cause"])

    assert cause() == "no_traffic"
    DirtyBucket.objects.create(start=late, token="t", marked_at=late)
    assert cause() == "rollup_late"
    SpoolBatch.objects.create(received_at=late, source="test", events=1, payload=b"[]")
    assert cause() == "drain_late"
    stage = PipelineStage.objects.create(name="drain", failed_at=now, error_code="ClickHouseUnavailable")
    assert cause() == "clickhouse_down"
    stage.succeeded_at = now + timedelta(seconds=1)
    stage.save()
    assert cause() == "drain_late"


def test_a_key_sees_the_freshness_of_its_own_tenants_only(client: Client) -> None:
    factories.tenant("borealis")
    for tenant in ("aurora", "borealis"):
        ScopeActivity.objects.create(tenant=tenant, persona="essayist", last_event_at=timezone.now())
    key = factories.key("read")
    assert {scope["tenant"] for scope in get(client, FRESHNESS, key).json()["scopes"]} == {"aurora"}
    assert get(client, FRESHNESS, key, tenant="borealis").status_code == 404
    everything = factories.key("read", tenants=())
    assert len(get(client, FRESHNESS, everything).json()["scopes"]) == 2
