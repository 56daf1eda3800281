"""The audit log over the API."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import caller
from overrides import selectors
from overrides.api.base import BySequence
from overrides.foreign import seen
from overrides.models import AuditEntry


class AuditQuery(serializers.Serializer[Any]):
    tenant = serializers.CharField(max_length=63, required=False)
    actor = serializers.CharField(max_length=160, required=False)
    verb = serializers.ChoiceField(choices=AuditEntry.Verb.choices, required=False)
    object_type = serializers.CharField(max_length=40, required=False)
    object_id = serializers.CharField(max_length=40, required=False)
    since = serializers.DateTimeField(required=False)
    cursor = serializers.CharField(required=False)


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    class Meta:
        model = AuditEntry
        exclude = ["id"]


class AuditView(APIView):
    """The audit log, newest first: entries of the caller's tenants, and of all tenants."""

    verb = "read"

    @extend_schema(
        operation_id="read_audit", parameters=[AuditQuery], responses=AuditEntrySerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        query = AuditQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = dict(query.validated_data)
        asked.pop("cursor", None)
        found = selectors.audit_entries(caller(request).tenants)
        if since := asked.pop("since", None):
            found = found.filter(at__gte=since)
        pages = BySequence()
        page = pages.paginate_queryset(found.filter(**asked), request, view=self) or []
        return pages.get_paginated_response(told_to(request, page))


def told_to(request: Request, entries: Any) -> list[dict[str, Any]]:
    """Entries as the caller may see them."""
    found: list[dict[str, Any]] = seen(
        list(AuditEntrySerializer(entries, many=True).data), caller(request).tenants
    )
    return found
