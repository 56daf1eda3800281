"""Overrides over the API: list, make, replace, revoke, undo, and what was done to one."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.access import caller
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from overrides import selectors
from overrides.api.audit import AuditEntrySerializer, told_to
from overrides.api.base import (
    DRY_RUN,
    IF_MATCH,
    KEY,
    WAITS,
    BySequence,
    NewestFirst,
    PreviewSerializer,
    ReasonSerializer,
    SettingsView,
    may_change,
    seen_version,
    submit,
)
from overrides.changes import Change, wish_values
from overrides.models import Override
from overrides.precedence import Hypothetical
from overrides.services import OBJECT_TYPE, Wish, describe
from overrides.shadowing import shadowing


class WishSerializer(StrictSerializer):
    kind = serializers.ChoiceField(choices=Override.Kind.choices)
    profile = TextField(max_length=63)
    tenant = TextField(max_length=63, allow_null=True, default=None, help_text="null: all tenants.")
    persona = TextField(max_length=63, allow_null=True, default=None, help_text="null: all.")
    task = TextField(max_length=63, allow_null=True, default=None, help_text="null: all.")
    reason = TextField(min_length=10, max_length=500)
    expires_at = serializers.DateTimeField(allow_null=True, default=None, help_text="null: until revoked.")


class OverrideSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    tenant = serializers.CharField(allow_null=True)
    persona = serializers.CharField(allow_null=True)
    task = serializers.CharField(allow_null=True)
    profile = serializers.CharField()
    reason = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    version = serializers.IntegerField()
    revoked_at = serializers.DateTimeField(allow_null=True)


class OverrideQuery(serializers.Serializer[Any]):
    tenant = serializers.CharField(max_length=63, required=False)
    persona = serializers.CharField(max_length=63, required=False)
    profile = serializers.CharField(max_length=63, required=False)
    kind = serializers.ChoiceField(choices=Override.Kind.choices, required=False)
    standing = serializers.BooleanField(default=False, help_text="Only those that stand now.")
    cursor = serializers.CharField(required=False)


class MadeSerializer(OverrideSerializer):
    shadowing = serializers.DictField(
        help_text="Ids of standing overrides that it shadows, or is shadowed by."
    )


def _visible(request: Request, pk: int) -> Override:
    found = selectors.visible(caller(request).tenants).filter(pk=pk).first()
    if found is None:
        raise Problem(404, "unknown_override", "There is no such override that this caller may see.")
    return found


def _wish(request: Request) -> Wish:
    asked = WishSerializer(data=request.data)
    asked.is_valid(raise_exception=True)
    wish = Wish(**asked.validated_data)
    may_change(request, "override", wish.tenant)
    if wish.expires_at is None and not caller(request).may("no_expiry", wish.tenant):
        raise Problem(
            403,
            "permission_denied",
            "An override without an end takes the verb 'no_expiry': give expires_at.",
        )
    return wish


def _tenant_of(override: Override) -> str | None:
    return override.tenant.slug if override.tenant else None


class OverridesView(SettingsView):
    """Overrides, newest first; make one."""

    @extend_schema(
        operation_id="list_overrides", parameters=[OverrideQuery], responses=OverrideSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        query = OverrideQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        found = selectors.visible(caller(request).tenants)
        if asked["standing"]:
            found = selectors.standing(timezone.now(), caller(request).tenants)
        for name, path in (
            ("tenant", "tenant__slug"),
            ("persona", "persona__slug"),
            ("profile", "profile__slug"),
        ):
            if name in asked:
                found = found.filter(**{path: asked[name]})
        if "kind" in asked:
            found = found.filter(kind=asked["kind"])
        pages = NewestFirst()
        page = pages.paginate_queryset(found, request, view=self) or []
        return pages.get_paginated_response([describe(override) for override in page])

    @extend_schema(
        operation_id="create_override",
        parameters=[KEY, DRY_RUN],
        request=WishSerializer,
        responses={200: PreviewSerializer, 201: MadeSerializer, **WAITS},
    )
    def post(self, request: Request) -> Response:
        wish = _wish(request)
        who = caller(request)

        def tell(state: dict[str, Any]) -> dict[str, Any]:
            new = Hypothetical.of(wish, state["id"])
            return state | {"shadowing": shadowing(new, timezone.now(), who.tenants)}

        change = Change("override.create", "", wish_values(wish), wish.reason)
        return submit(request, change, 201, tell)


class OverrideView(SettingsView):
    """One override; replace it."""

    @extend_schema(operation_id="read_override", responses=OverrideSerializer)
    def get(self, request: Request, pk: int) -> Response:
        found = _visible(request, pk)
        return Response(describe(found), headers={"ETag": f'"{found.version}"'})

    @extend_schema(
        operation_id="replace_override",
        parameters=[IF_MATCH, KEY, DRY_RUN],
        request=WishSerializer,
        responses={200: OverrideSerializer, **WAITS},
    )
    def put(self, request: Request, pk: int) -> Response:
        found, version = _visible(request, pk), seen_version(request)
        may_change(request, "override", _tenant_of(found))
        wish = _wish(request)
        wanted = wish_values(wish) | {"version": version}
        return submit(request, Change("override.replace", str(pk), wanted, wish.reason))


class _ReasonedView(SettingsView):
    """A change that takes a reason and nothing else."""

    kind: str

    def _change(self, request: Request, pk: int) -> Response:
        found, version = _visible(request, pk), seen_version(request)
        may_change(request, "override", _tenant_of(found))
        asked = ReasonSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        reason = asked.validated_data["reason"]
        return submit(request, Change(self.kind, str(pk), {"version": version}, reason))


class RevokeView(_ReasonedView):
    """End an override."""

    kind = "override.revoke"

    @extend_schema(
        operation_id="revoke_override",
        parameters=[IF_MATCH, KEY, DRY_RUN],
        request=ReasonSerializer,
        responses={200: OverrideSerializer, **WAITS},
    )
    def post(self, request: Request, pk: int) -> Response:
        return self._change(request, pk)


class UndoView(_ReasonedView):
    """Take the last change of an override back, by a new change."""

    kind = "override.undo"

    @extend_schema(
        operation_id="undo_override",
        parameters=[IF_MATCH, KEY, DRY_RUN],
        request=ReasonSerializer,
        responses={200: OverrideSerializer, **WAITS},
    )
    def post(self, request: Request, pk: int) -> Response:
        return self._change(request, pk)


class HistoryView(SettingsView):
    """What was done to an override, newest first: its entries in the audit log."""

    @extend_schema(operation_id="read_override_history", responses=AuditEntrySerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        _visible(request, pk)
        entries = selectors.audit_entries(caller(request).tenants)
        pages = BySequence()
        mine = entries.filter(object_type=OBJECT_TYPE, object_id=str(pk))
        page = pages.paginate_queryset(mine, request, view=self) or []
        return pages.get_paginated_response(told_to(request, page))
