"""For workers that decide by themselves: the policy bundle, and their decisions back."""

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import caller
from catalog.problems import Problem
from routing import reports
from routing.bundle import current_bundle
from routing.serving import policy_server
from telemetry.api import IngestResultSerializer
from telemetry.ingest import describe


class PolicyView(APIView):
    """The policy bundle, for the tenants of the key. Ask with ``If-None-Match``: 304 while nothing changed."""

    verb = "select"

    @extend_schema(
        operation_id="read_policy",
        responses={
            200: OpenApiResponse(OpenApiTypes.OBJECT, "What routing.policy.Bundle.from_dict reads."),
            304: OpenApiResponse(description="The bundle that you have is the newest."),
        },
    )
    def get(self, request: Request) -> HttpResponse:
        served = policy_server.serve(current_bundle(), caller(request).tenants)
        known = {
            tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")
        }
        if served.etag in known:
            response = HttpResponse(status=304)
        elif "gzip" in request.headers.get("Accept-Encoding", ""):
            response = HttpResponse(served.gzipped, content_type="application/json")
            response["Content-Encoding"] = "gzip"
        else:
            response = HttpResponse(served.body, content_type="application/json")
        response["ETag"] = served.etag
        response["Cache-Control"] = "private, no-cache"
        patch_vary_headers(response, ["Accept-Encoding", "Authorization"])
        return response


class BatchSerializer(serializers.Serializer[Any]):
    decisions = serializers.ListField(
        child=serializers.JSONField(allow_null=True),
        min_length=1,
        max_length=reports.MAX_DECISIONS,
        help_text="Each as the engine's Decision.core gives it.",
    )


class BatchView(APIView):
    """Report decisions that were made by the policy bundle. Each is judged alone; 422: none was accepted."""

    verb = "select"

    @extend_schema(
        operation_id="report_selections", request=BatchSerializer, responses={202: IngestResultSerializer}
    )
    def post(self, request: Request) -> Response:
        batch = BatchSerializer(data=request.data)
        batch.is_valid(raise_exception=True)
        who = caller(request)
        accepted, refused = reports.accept(
            batch.validated_data["decisions"], who.name, who.tenants, timezone.now()
        )
        rejected = describe(refused)
        if not accepted:
            raise Problem(
                422, "all_rejected", "No decision of the batch was accepted.", accepted=0, rejected=rejected
            )
        return Response({"accepted": accepted, "rejected": rejected}, status=202)
