"""For machines that watch: readiness, Prometheus metrics; and the public schemas of events."""

import orjson
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from rest_framework.request import Request
from rest_framework.views import APIView

from observability.meters import meters
from observability.sharing import registry_of_all
from routing.events import SCHEMA_FILE
from routing.gauges import collect
from routing.readiness import read_readiness

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
            (200, "text/plain"): OpenApiResponse(
                OpenApiTypes.STR, "Prometheus text format; docs/metrics.md names all."
            )
        },
    )
    def get(self, request: Request) -> HttpResponse:
        counted = generate_latest(registry_of_all(meters().registry))
        return HttpResponse(
            generate_latest(collect(timezone.now())) + counted, content_type=CONTENT_TYPE_LATEST
        )


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
