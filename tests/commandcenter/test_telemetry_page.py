"""Telemetry health on its page: freshness and its cause, what waits, what was refused; without asking ClickHouse."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from routing.bundle import forget_bundle
from telemetry import spool
from telemetry.clickhouse import ClickHouseUnavailable, close_clickhouse
from telemetry.models import DirtyBucket, QuarantineCount, QuarantinedEvent, ScopeActivity, SpoolBatch
from tests import factories
from tests.commandcenter.test_flags import HTMX, words
from tests.overrides.people import someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
PAGE, REFUSED = "/admin/center/telemetry/", "/admin/center/telemetry/quarantine"
XSS = '<img src=x onerror="alert(1)">'
Budget = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def scopes() -> None:
    ranked_scope()
    now = timezone.now()
    for slug, minutes in (("borealis", 60), ("cygnus", 10), ("draco", 1)):
        factories.tenant(slug)
        ScopeActivity.objects.create(
            tenant=slug, persona="essayist", last_event_at=now - timedelta(minutes=minutes)
        )
    forget_bundle()


def test_scopes_are_listed_the_worst_first(scopes: None, admin_client: Client) -> None:
    page = words(admin_client.get(PAGE))
    places = [page.index(f"{slug} × essayist</a>") for slug in ("borealis", "cygnus", "draco", "aurora")]
    assert places == sorted(places)
    for told in ("1 stale", "1 degraded", "1 fresh", "1 blind", "never"):
        assert told in page
    only = words(admin_client.get(PAGE, {"state": "stale"}))
    assert "borealis × essayist" in only
    assert "draco × essayist" not in only
    assert "No scope matches" in words(admin_client.get(PAGE, {"q": "nobody"}))


def test_it_says_where_it_is_held_up(scopes: None, admin_client: Client) -> None:
    ScopeActivity.objects.filter(tenant="draco").delete()
    assert "no completions were reported" in words(admin_client.get(PAGE))
    old = timezone.now() - timedelta(minutes=5)
    DirtyBucket.objects.create(start=old, token="t", marked_at=old)
    page = words(admin_client.get(PAGE))
    assert "Roll-ups are late" in page
    assert "5 min ago</time> (late)" in page
    SpoolBatch.objects.create(received_at=old, source="key:x", events=1234, payload=b"[]")
    page = words(admin_client.get(PAGE))
    assert "Accepted events wait to be written" in page
    assert "1,234 events in 1 batches" in page
    error = ClickHouseUnavailable(f"nobody answers at clickhouse-7 {XSS}")
    spool.note_failure("drain", timezone.now(), error)
    page = words(admin_client.get(PAGE))
    assert "ClickHouse is down" in page
    assert "drain failed" in page
    assert "nobody answers at clickhouse-7" in page
    assert XSS not in page


def test_it_stands_while_clickhouse_is_away(scopes: None, admin_client: Client, settings: Any) -> None:
    settings.CLICKHOUSE_URL = "clickhouse://127.0.0.1:1/selection"
    close_clickhouse()
    began = timezone.now()
    assert admin_client.get(PAGE).status_code == 200
    assert admin_client.get(REFUSED).status_code == 200
    close_clickhouse()
    assert (timezone.now() - began).total_seconds() < 5


def test_unknown_is_a_dash_and_no_traffic_names_the_next_step(admin_client: Client) -> None:
    page = words(admin_client.get(PAGE))
    assert "No event was ever rolled up" in page
    assert "POST /api/v1/telemetry/completions" in page
    assert "last drained</dt> <dd> — </dd>" in page


def test_retention_is_told(admin_client: Client, settings: Any) -> None:
    settings.RETENTION_DAYS = {**settings.RETENTION_DAYS, "completions": 17}
    settings.QUARANTINE_KEEP = 123
    page = words(admin_client.get(PAGE))
    assert "raw completions</dt> <dd> 17 days" in page
    assert "the newest 123" in page


@pytest.mark.parametrize("n", [1, 300])
def test_the_pages_take_few_queries(
    scopes: None, admin_client: Client, django_assert_max_num_queries: Budget, n: int
) -> None:
    now = timezone.now()
    ScopeActivity.objects.update(last_event_at=now - timedelta(hours=1))
    rows = [
        ScopeActivity(tenant=f"t-{i}", persona="essayist", last_event_at=now - timedelta(hours=2))
        for i in range(n)
    ]
    ScopeActivity.objects.bulk_create(rows)
    for number in range(n):
        refused("bad", "aurora", f"number {number}")
    admin_client.get(PAGE)
    for path in (PAGE, REFUSED):
        for headers in ({}, HTMX):
            with django_assert_max_num_queries(12):
                page = admin_client.get(path, headers=headers).content.decode()
    assert page.count("<details") <= 20


def refused(code: str, tenant: str, detail: str = "what is wrong", raw: str = "{}") -> None:
    now = timezone.now()
    QuarantinedEvent.objects.create(
        received_at=now, source="key:x", tenant=tenant, code=code, detail=detail, raw=raw
    )


def test_refused_events_are_counted_by_code_and_shown_inert(scopes: None, admin_client: Client) -> None:
    today = timezone.now().date()
    for days, count in ((0, 40), (3, 2), (30, 1000)):
        QuarantineCount.objects.create(day=today - timedelta(days=days), code="bad", count=count)
    QuarantineCount.objects.create(day=today, code="worse", count=1)
    refused("bad", "aurora", XSS, XSS)
    refused("worse", "", "cannot be read", "{")
    page = words(admin_client.get(REFUSED))
    assert "bad: 42" in page
    assert page.index("bad: 42") < page.index("worse: 1")
    assert XSS not in page
    assert "&lt;img src=x" in page
    one = words(admin_client.get(REFUSED, {"code": "worse"}))
    assert "cannot be read" in one
    assert "&lt;img" not in one
    assert "was refused for nothing" in words(admin_client.get(REFUSED, {"code": "nothing"}))


def test_nothing_refused_is_said(admin_client: Client) -> None:
    assert "Nothing was refused" in words(admin_client.get(REFUSED))


def test_people_of_one_tenant_see_that_tenant_s(scopes: None) -> None:
    refused("bad", "aurora", "of mine")
    refused("bad", "borealis", "of theirs")
    refused("bad", "", "of nobody known")
    QuarantineCount.objects.create(day=timezone.now().date(), code="bad", count=3)
    spool.note_failure("drain", timezone.now(), ClickHouseUnavailable("nobody answers at clickhouse-7"))
    vera = someone("vera", at={"aurora": "viewer"})
    page = words(vera.get(PAGE)) + words(vera.get(REFUSED))
    assert "aurora × essayist" in page
    assert "borealis" not in page
    assert "of mine" in page
    assert "of theirs" not in page
    assert "of nobody known" not in page
    assert "bad: 1" in page
    assert "clickhouse-7" not in page


def test_what_did_not_change_is_a_304(scopes: None, admin_client: Client) -> None:
    refused("bad", "aurora")
    first = admin_client.get(REFUSED, headers=HTMX)
    again = admin_client.get(REFUSED, headers={**HTMX, "If-None-Match": first["ETag"]})
    assert again.status_code == 304
    refused("bad", "aurora", "another")
    assert admin_client.get(REFUSED, headers={**HTMX, "If-None-Match": first["ETag"]}).status_code == 200
