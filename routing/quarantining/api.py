"""Profile quarantines over the API: list them, put a profile into one, release it."""

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.access import caller
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from overrides.api.base import (
    IF_MATCH,
    KEY,
    NewestFirst,
    ReasonSerializer,
    SettingsView,
    actor_of,
    may_change,
    respond,
    seen_version,
)
from overrides.idempotency import Answer
from routing.quarantining import services
from routing.quarantining.models import ProfileQuarantine
from routing.quarantining.services import Conflict, describe


class ProfileQuarantineSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    profile = serializers.CharField()
    sentinel = serializers.CharField(help_text="by_hand: a person.")
    state = serializers.CharField(help_text="open, half_open or closed, now.")
    opened_at = serializers.DateTimeField()
    opened_by = serializers.CharField()
    reason = serializers.CharField(help_text="Without figures for a caller that is bound to tenants.")
    figures = serializers.DictField(
        allow_null=True, help_text="What the sentinel saw, over all tenants; null for a caller bound to some."
    )
    probe_at = serializers.DateTimeField(
        allow_null=True, help_text="Half-open from then on. null: not probed."
    )
    probes = serializers.IntegerField(help_text="How often probes were bad.")
    expires_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    closed_by = serializers.CharField(allow_null=True)
    close_reason = serializers.CharField(allow_null=True)
    version = serializers.IntegerField()


class QuarantineQuery(serializers.Serializer[Any]):
    profile = serializers.CharField(max_length=63, required=False)
    standing = serializers.BooleanField(default=False, help_text="Only those that hold now.")


class PutIntoSerializer(StrictSerializer):
    profile = TextField(max_length=63)
    reason = TextField(min_length=10, max_length=500)
    expires_at = serializers.DateTimeField(
        allow_null=True, default=None, help_text="null: after PROFILE_QUARANTINE_EXPIRY_SECONDS, the longest."
    )


def _told(request: Request, row: ProfileQuarantine) -> dict[str, Any]:
    return describe(row, timezone.now(), figures=caller(request).tenants is None)


def _found(pk: int) -> ProfileQuarantine:
    # Profiles are everybody's, and so is whether they are given.
    row = ProfileQuarantine.objects.select_related("profile").filter(pk=pk).first()
    if row is None:
        raise Problem(404, "unknown_quarantine", "There is no such profile quarantine.")
    return row


class QuarantinesView(SettingsView):
    """Profile quarantines, newest first; put a profile into one by hand."""

    @extend_schema(
        operation_id="list_quarantines",
        parameters=[QuarantineQuery],
        responses=ProfileQuarantineSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        query = QuarantineQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        rows: QuerySet[ProfileQuarantine] = ProfileQuarantine.objects.select_related("profile")
        if asked["standing"]:
            rows = services.standing(timezone.now())
        if "profile" in asked:
            rows = rows.filter(profile__slug=asked["profile"])
        pages = NewestFirst()
        page = pages.paginate_queryset(rows, request, view=self) or []
        return pages.get_paginated_response([_told(request, row) for row in page])

    @extend_schema(
        operation_id="quarantine_profile",
        parameters=[KEY],
        request=PutIntoSerializer,
        responses={201: ProfileQuarantineSerializer},
    )
    def post(self, request: Request) -> Response:
        may_change(request, "override", None)
        asked = PutIntoSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data

        def act() -> Answer:
            row = services.open_by_hand(
                wanted["profile"], wanted["reason"], actor_of(request), timezone.now(), wanted["expires_at"]
            )
            return 201, _told(request, row)

        return respond(request, act)


class QuarantineView(SettingsView):
    """One profile quarantine."""

    @extend_schema(operation_id="read_quarantine", responses=ProfileQuarantineSerializer)
    def get(self, request: Request, pk: int) -> Response:
        row = _found(pk)
        return Response(_told(request, row), headers={"ETag": f'"{row.version}"'})


class ReleaseView(SettingsView):
    """End a profile quarantine, whoever began it."""

    @extend_schema(
        operation_id="release_quarantine",
        parameters=[IF_MATCH, KEY],
        request=ReasonSerializer,
        responses=ProfileQuarantineSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        may_change(request, "override", None)
        _found(pk)
        version = seen_version(request)
        asked = ReasonSerializer(data=request.data)
        asked.is_valid(raise_exception=True)

        def act() -> Answer:
            reason = asked.validated_data["reason"]
            try:
                row = services.release(pk, version, reason, actor_of(request), timezone.now())
            except Conflict as conflict:
                current = _told(request, conflict.current)
                raise Problem(
                    409, "version_conflict", str(conflict), current=current, yours=request.data
                ) from None
            return 200, _told(request, row)

        return respond(request, act)
