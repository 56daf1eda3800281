"""Requests made from the OpenAPI schema itself: whatever it allows or forbids, never a 5xx but the one
that says that ClickHouse is away."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, given
from pytest_django.fixtures import Settings

from config.wsgi import application
from telemetry.clickhouse import close_clickhouse
from tests import factories

pytestmark = pytest.mark.django_db


OPERATIONS = (
    "GET /api/v1/audit",
    "GET /api/v1/conversations/{conversation_id}/selection",
    "GET /api/v1/metrics/freshness",
    "GET /api/v1/metrics/profiles",
    "GET /api/v1/policy",
    "GET /api/v1/quarantines",
    "GET /api/v1/quarantines/{id}",
    "GET /api/v1/rankings",
    "GET /api/v1/rollouts",
    "GET /api/v1/rollouts/{id}",
    "GET /api/v1/savings",
    "GET /api/v1/selections/{decision_id}",
    "GET /api/v1/settings/change-requests",
    "GET /api/v1/settings/change-requests/{id}",
    "GET /api/v1/settings/flags",
    "GET /api/v1/settings/flags/{name}",
    "GET /api/v1/settings/kill-switch",
    "GET /api/v1/settings/overrides",
    "GET /api/v1/settings/overrides/{id}",
    "GET /api/v1/settings/overrides/{id}/history",
    "GET /api/v1/settings/overrides/{id}/regret",
    "GET /api/v1/settings/personas",
    "GET /api/v1/settings/personas/{slug}",
    "GET /metrics",
    "PATCH /api/v1/settings/change-requests/{id}",
    "PATCH /api/v1/settings/flags/{name}",
    "PATCH /api/v1/settings/personas/{slug}",
    "POST /api/v1/audit/{seq}/undo",
    "POST /api/v1/rollouts",
    "POST /api/v1/rollouts/{id}/acknowledge",
    "POST /api/v1/rollouts/{id}/cancel",
    "POST /api/v1/rollouts/{id}/pause",
    "POST /api/v1/rollouts/{id}/resume",
    "POST /api/v1/rollouts/{id}/roll-back",
    "POST /api/v1/quarantines",
    "POST /api/v1/quarantines/{id}/release",
    "POST /api/v1/selections",
    "POST /api/v1/selections/batch",
    "POST /api/v1/settings/change-requests/{id}/apply",
    "POST /api/v1/settings/change-requests/{id}/approve",
    "POST /api/v1/settings/change-requests/{id}/reject",
    "POST /api/v1/settings/overrides",
    "POST /api/v1/settings/overrides/{id}/revoke",
    "POST /api/v1/settings/overrides/{id}/undo",
    "POST /api/v1/settings/undo",
    "POST /api/v1/telemetry/completions",
    "POST /api/v1/whatif",
    "PUT /api/v1/settings/kill-switch",
    "PUT /api/v1/settings/overrides/{id}",
)


@pytest.fixture(autouse=True)
def _one_connection() -> Iterator[None]:
    """Requests come through WSGI itself, whose ends would close the connection that the test's transaction is on."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def operations(settings: Settings) -> dict[str, Any]:
    # Nothing listens there: every metrics query fails, which must be a clear 503.
    settings.CLICKHOUSE_URL = "clickhouse://127.0.0.1:1/selection"
    close_clickhouse()
    factories.scope()
    schema = schemathesis.openapi.from_wsgi("/api/schema/?format=json", application)
    results: list[Any] = list(schema.get_all_operations())
    found = [result.ok() for result in results]
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


def test_every_operation_is_tried(operations: dict[str, Any]) -> None:
    assert set(OPERATIONS) == set(operations)


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_is_answered_by_a_server_error(operations: dict[str, Any], name: str) -> None:
    key = factories.key(tenants=())

    @given(case=operations[name].as_strategy())
    @hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def attempt(case: Any) -> None:
        answer = case.call(headers=key)
        if answer.status_code == 503:
            assert answer.json()["code"] == "clickhouse_unavailable"
        else:
            assert answer.status_code < 500, answer.text

    attempt()
    close_clickhouse()
