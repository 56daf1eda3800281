"""Telemetry's endpoints: report completions, read metrics and freshness, read the event schema."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import caller, visible_tenant
from catalog.bodies import read_body
from catalog.models import Persona
from catalog.problems import Problem
from telemetry import freshness, ingest, metrics
from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.events import SCHEMA_FILE
from telemetry.freshness_state import Freshness, state
from telemetry.totals import Totals

_JSON_TYPES = ("application/json", "application/x-ndjson", "application/ndjson", "text/plain")


class RejectionSerializer(serializers.Serializer[Any]):
    index = serializers.IntegerField(help_text="Position in the batch, from 0.")
    code = serializers.CharField()
    detail = serializers.CharField()


class IngestResultSerializer(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    rejected = RejectionSerializer(many=True)


class CompletionsView(APIView):
    """Report completions: a JSON array or NDJSON of completion events (v1), gzip accepted."""

    verb = "ingest"

    @extend_schema(
        operation_id="report_completions",
        description="Each event is judged alone. 202: the accepted ones are durable. 422: none was accepted.",
        request={"application/json": OpenApiTypes.OBJECT, "application/x-ndjson": OpenApiTypes.STR},
        responses={202: IngestResultSerializer},
    )
    def post(self, request: Request) -> Response:
        try:
            items = ingest.split(_body(request._request))
        except ingest.BadBatch as error:
            raise Problem(error.status, error.code, error.detail) from None
        who = caller(request)
        outcome = ingest.accept(items, source=who.name, now=timezone.now(), tenants=who.tenants)
        rejected = ingest.describe(outcome.rejected)
        if not outcome.accepted:
            raise Problem(
                422, "all_rejected", "No event of the batch was accepted.", accepted=0, rejected=rejected
            )
        return Response({"accepted": outcome.accepted, "rejected": rejected}, status=202)


def _body(request: HttpRequest) -> bytes:
    if request.content_type and request.content_type not in _JSON_TYPES:
        raise ingest.BadBatch(415, "unsupported_media_type", f"Send {' or '.join(_JSON_TYPES[:2])}.")
    return read_body(request)


class MetricsQuery(serializers.Serializer[Any]):
    tenant = serializers.CharField(max_length=63)
    persona = serializers.CharField(max_length=63)
    task = serializers.CharField(max_length=63, required=False, help_text="Default: all tasks.")
    window = serializers.ChoiceField(choices=[window.value for window in metrics.Window], default="24h")


class ProfileMetricsSerializer(serializers.Serializer[Any]):
    profile = serializers.CharField()
    requests = serializers.IntegerField(help_text="n: completions in the window.")
    priced = serializers.IntegerField(help_text="Completions whose cost is known.")
    cost_usd = serializers.CharField(help_text="Sum over priced completions.")
    cost_per_1k_tokens = serializers.CharField(allow_null=True)
    cost_per_completion = serializers.CharField(allow_null=True)
    cost_per_success = serializers.CharField(allow_null=True)
    tokens_per_success = serializers.FloatField(allow_null=True)
    success_rate = serializers.FloatField(allow_null=True)
    success_rate_24h = serializers.FloatField(allow_null=True, help_text="Only in the 24h window.")
    latency_p50_ms = serializers.FloatField(allow_null=True)
    latency_p95_ms = serializers.FloatField(allow_null=True)
    safety_violation_rate = serializers.FloatField(allow_null=True)
    escalation_rate = serializers.FloatField(allow_null=True)
    accuracy = serializers.FloatField(allow_null=True)
    accuracy_count = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    served_other = serializers.IntegerField(help_text="Answers by another model than was asked for.")
    as_of = serializers.DateTimeField(allow_null=True, help_text="Newest completion of the profile.")


class MetricsSerializer(serializers.Serializer[Any]):
    tenant = serializers.CharField()
    persona = serializers.CharField()
    task = serializers.CharField(allow_null=True)
    window = serializers.CharField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    as_of = serializers.DateTimeField(allow_null=True)
    freshness = serializers.ChoiceField(choices=[(item.value, item.value) for item in Freshness])
    cause = serializers.CharField(allow_null=True)
    profiles = ProfileMetricsSerializer(many=True)


def describe(profile: str, totals: Totals, window: metrics.Window) -> dict[str, Any]:
    """One profile's metrics as the API shows them; money as decimal strings, unknown as null."""
    return {
        "profile": profile,
        "requests": totals.requests,
        "priced": totals.priced,
        "cost_usd": totals.cost_usd,
        "cost_per_1k_tokens": totals.cost_per_1k_tokens,
        "cost_per_completion": totals.cost_per_completion,
        "cost_per_success": totals.cost_per_success,
        "tokens_per_success": totals.tokens_per_success,
        "success_rate": totals.success_rate,
        "success_rate_24h": totals.success_rate if window is metrics.Window.H24 else None,
        "latency_p50_ms": totals.latency_p50_ms,
        "latency_p95_ms": totals.latency_p95_ms,
        "safety_violation_rate": totals.safety_violation_rate,
        "escalation_rate": totals.escalation_rate,
        "accuracy": totals.accuracy,
        "accuracy_count": totals.accuracy_count,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "cached_tokens": totals.cached_tokens,
        "served_other": totals.served_other,
        "as_of": totals.last_event_at,
    }


class ProfileMetricsView(APIView):
    """Every metric of every profile in one scope, over a trailing window, from roll-ups."""

    verb = "read"

    @extend_schema(
        operation_id="read_profile_metrics", parameters=[MetricsQuery], responses=MetricsSerializer
    )
    def get(self, request: Request) -> Response:
        query = MetricsQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        tenant = visible_tenant(request, asked["tenant"])
        if not Persona.objects.filter(slug=asked["persona"]).exists():
            raise Problem(404, "unknown_persona", f"There is no persona '{asked['persona']}'.")
        window = metrics.Window(asked["window"])
        now = timezone.now()
        span = metrics.trailing(window, now)
        try:
            found = metrics.read_totals(
                get_clickhouse(), span, tenant=tenant.slug, persona=asked["persona"], task=asked.get("task")
            )
        except ClickHouseError as error:
            raise Problem(503, "clickhouse_unavailable", "Metrics cannot be read right now.") from error
        scopes = freshness.read_scopes(now, frozenset({tenant.slug}))
        as_of = next((scope.as_of for scope in scopes if scope.persona == asked["persona"]), None)
        is_fresh = state(as_of, now) is Freshness.FRESH
        return Response(
            {
                "tenant": tenant.slug,
                "persona": asked["persona"],
                "task": asked.get("task"),
                "window": window.value,
                "start": span.start,
                "end": span.end,
                "as_of": as_of,
                "freshness": state(as_of, now).value,
                "cause": None if is_fresh else freshness.read_pipeline().cause(now).value,
                "profiles": [
                    describe(key.profile, found[key], window)
                    for key in sorted(found, key=lambda key: key.profile)
                ],
            }
        )


class ScopeFreshnessSerializer(serializers.Serializer[Any]):
    tenant = serializers.CharField()
    persona = serializers.CharField()
    as_of = serializers.DateTimeField()
    freshness = serializers.CharField()


class FreshnessSerializer(serializers.Serializer[Any]):
    freshness = serializers.CharField()
    cause = serializers.CharField(allow_null=True)
    pipeline = serializers.DictField()
    scopes = ScopeFreshnessSerializer(many=True)


class FreshnessView(APIView):
    """How fresh each scope's metrics are, and why they are not. Never asks ClickHouse."""

    verb = "read"

    @extend_schema(
        operation_id="read_freshness",
        parameters=[OpenApiParameter("tenant", str, description="Only this tenant's scopes.")],
        responses=FreshnessSerializer,
    )
    def get(self, request: Request) -> Response:
        now = timezone.now()
        tenants = caller(request).tenants
        if wanted := request.query_params.get("tenant"):
            tenants = frozenset({visible_tenant(request, wanted).slug})
        scopes = freshness.read_scopes(now, tenants)
        pipeline = freshness.read_pipeline()
        overall = freshness.overall(scopes, now)
        return Response(
            {
                "freshness": overall.value,
                "cause": None if overall is Freshness.FRESH else pipeline.cause(now).value,
                "pipeline": {
                    "waiting_events": pipeline.waiting_events,
                    "oldest_waiting": pipeline.oldest_waiting,
                    "dirty_buckets": pipeline.dirty_buckets,
                    "oldest_dirty": pipeline.oldest_dirty,
                    "drained_at": pipeline.drained_at,
                    "rolled_up_at": pipeline.rolled_up_at,
                    "clickhouse_down": pipeline.clickhouse_down,
                },
                "scopes": [
                    {
                        "tenant": scope.tenant,
                        "persona": scope.persona,
                        "as_of": scope.as_of,
                        "freshness": scope.state.value,
                    }
                    for scope in scopes
                ],
            }
        )


@require_safe
@cache_control(public=True, max_age=86_400, immutable=True)
def completion_event_schema(request: HttpRequest) -> HttpResponse:
    """The frozen JSON Schema of the completion event, v1. Public: it holds no data."""
    return HttpResponse(SCHEMA_FILE.read_bytes(), content_type="application/schema+json")
