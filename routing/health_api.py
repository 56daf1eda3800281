"""For machines that watch: readiness, Prometheus metrics; and the public schemas of events."""

from datetime import datetime

import orjson
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from rest_framework.request import Request
from rest_framework.views import APIView

from routing.bundle import current_bundle
from routing.events import SCHEMA_FILE
from routing.health import FlagSafety, Outboxes, flag_safety, read_outboxes
from routing.readiness import read_readiness
from telemetry.freshness import Pipeline, read_pipeline
from telemetry.freshness_state import Freshness

ALERT_SCHEMA_FILE = SCHEMA_FILE.with_name("router-alert-v1.json")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 while this process can decide and record (routing.readiness), otherwise 503. An unsafe flag does not make
    it unready: decisions are the defaults then. ``?full=1`` tells of beat and workers, too. Public, so it names no
    tenant."""
    found = read_readiness(timezone.now(), full=request.GET.get("full") == "1")
    body = orjson.dumps({"ready": found.ready, "checks": found.checks})
    return HttpResponse(body, status=200 if found.ready else 503, content_type="application/json")


class MetricsView(APIView):
    """Prometheus metrics of this deployment; scrape with a key that may read."""

    verb = "read"

    @extend_schema(
        operation_id="read_prometheus_metrics",
        responses={
            200: OpenApiResponse(OpenApiTypes.STR, "Prometheus text format; docs/metrics.md names all.")
        },
    )
    def get(self, request: Request) -> HttpResponse:
        now = timezone.now()
        registry = collect(flag_safety(current_bundle(), now), read_pipeline(), read_outboxes(), now)
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def collect(safety: FlagSafety, pipeline: Pipeline, outboxes: Outboxes, now: datetime) -> CollectorRegistry:
    """What is known now, as gauges without labels. All of it is read from the database, so it is the same in
    every process, and restarts lose nothing."""
    registry = CollectorRegistry()
    for name, (text, value) in _gauges(safety, pipeline, outboxes, now).items():
        if value is not None:
            Gauge(name, text, registry=registry).set(float(value))
    return registry


def _gauges(
    safety: FlagSafety, pipeline: Pipeline, outboxes: Outboxes, now: datetime
) -> dict[str, tuple[str, float | None]]:
    def age(at: datetime | None) -> float | None:
        return None if at is None else (now - at).total_seconds()

    order = list(Freshness)
    return {
        "selection_flag_on": ("1 while AUTO_MODEL_SELECTION_ENABLED is on for some conversation.", safety.on),
        "selection_flag_on_without_telemetry": (
            "1 while the flag is on and telemetry is stale or blind: the alert holds.",
            not safety.is_safe,
        ),
        "selection_telemetry_freshness": (
            "0 fresh, 1 degraded, 2 stale, 3 blind.",
            order.index(safety.freshness),
        ),
        "selection_telemetry_age_seconds": ("Age of the newest scored completion.", safety.age_seconds),
        "selection_scopes": ("Scopes with scores of their own.", safety.scopes),
        "selection_scopes_stale": (
            "Of these, scopes whose metrics are too old to steer.",
            safety.scopes_stale,
        ),
        "selection_spool_events": (
            "Accepted completions that ClickHouse has not got.",
            pipeline.waiting_events,
        ),
        "selection_spool_age_seconds": ("Age of the oldest of them.", age(pipeline.oldest_waiting)),
        "selection_dirty_buckets": ("Buckets that wait for their roll-up.", pipeline.dirty_buckets),
        "selection_clickhouse_down": (
            "1 while the pipeline cannot reach ClickHouse.",
            pipeline.clickhouse_down,
        ),
        "selection_outbox_decisions": (
            "Decisions that ClickHouse has not got.",
            outboxes.decisions_for_clickhouse,
        ),
        "selection_outbox_webhook_decisions": (
            "Decisions without webhook deliveries yet.",
            outboxes.decisions_for_webhooks,
        ),
        "selection_webhook_deliveries_waiting": ("Deliveries under way.", outboxes.deliveries_waiting),
        "selection_webhook_deliveries_dead": ("Deliveries given up.", outboxes.deliveries_dead),
        "selection_journal_files": (
            "Files of decisions made while the database was away.",
            outboxes.journal_files,
        ),
    }


@require_safe
@cache_control(public=True, max_age=86_400, immutable=True)
def router_selection_schema(request: HttpRequest) -> HttpResponse:
    """The frozen JSON Schema of router.selection, v1. Public: it holds no data."""
    return HttpResponse(SCHEMA_FILE.read_bytes(), content_type="application/schema+json")


@require_safe
@cache_control(public=True, max_age=86_400, immutable=True)
def router_alert_schema(request: HttpRequest) -> HttpResponse:
    """The frozen JSON Schema of router.alert, v1. Public: it holds no data."""
    return HttpResponse(ALERT_SCHEMA_FILE.read_bytes(), content_type="application/schema+json")
