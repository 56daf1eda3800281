"""The settings service: overrides and the kill switch, and the audit log of both."""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import Caller, caller, visible_tenant
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from overrides import idempotency, selectors, services
from overrides.audit import Actor
from overrides.models import AuditEntry, Override
from overrides.services import Conflict, NotStanding, Wish, describe

_IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, required=True, description="The ETag you saw."
)
_KEY = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="Makes a repeat safe.")


class WishSerializer(StrictSerializer):
    kind = serializers.ChoiceField(choices=Override.Kind.choices)
    profile = TextField(max_length=63)
    tenant = TextField(max_length=63, allow_null=True, default=None, help_text="null: all tenants.")
    persona = TextField(max_length=63, allow_null=True, default=None, help_text="null: all.")
    task = TextField(max_length=63, allow_null=True, default=None, help_text="null: all.")
    reason = TextField(min_length=10, max_length=500)
    expires_at = serializers.DateTimeField(allow_null=True, default=None, help_text="null: until revoked.")


class ReasonSerializer(StrictSerializer):
    reason = TextField(min_length=10, max_length=500)


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


class NewestFirst(CursorPagination):
    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"
    ordering = "-id"


class BySequence(NewestFirst):
    ordering = "-seq"


def actor_of(request: Request) -> Actor:
    """Who asks, for the audit log."""
    who = caller(request)
    user: Any = request.user
    role = "service" if isinstance(user, Caller) else "admin" if user.is_superuser else "operator"
    return Actor.asking(who.name, role, request)


def _may_change(request: Request, tenant: str | None) -> None:
    """A foreign tenant is a 404, everybody's scope takes a caller of all tenants."""
    if tenant is not None:
        visible_tenant(request, tenant)
    elif caller(request).tenants is not None:
        raise Problem(
            403, "permission_denied", "Overrides of all tenants take a caller that is bound to none."
        )


def _visible(request: Request, pk: int) -> Override:
    found = selectors.visible(caller(request).tenants).filter(pk=pk).first()
    if found is None:
        raise Problem(404, "unknown_override", "There is no such override that this caller may see.")
    return found


def _wish(data: Any) -> Wish:
    asked = WishSerializer(data=data)
    asked.is_valid(raise_exception=True)
    return Wish(**asked.validated_data)


def _version(request: Request) -> int:
    tag = request.headers.get("If-Match", "").strip().strip('"')
    if not tag:
        raise Problem(
            428, "if_match_needed", "Send If-Match with the ETag that you saw, so that nobody is overwritten."
        )
    if not tag.isdecimal() or len(tag) > 9:
        raise Problem(400, "invalid", 'If-Match: an ETag as this service gives it, such as "3".')
    return int(tag)


def _answer(override: Override, status: int = 200) -> idempotency.Answer:
    return status, describe(override)


def _respond(request: Request, act: Any) -> Response:
    """Act once per Idempotency-Key, with the service's refusals as problems."""
    who = caller(request)
    seen = request.headers.get("If-Match")
    print_ = idempotency.fingerprint(request.method, request.path, seen, request.data)
    key = request.headers.get("Idempotency-Key")
    try:
        status, body = idempotency.once(who.name, key, print_, timezone.now(), act)
    except ValidationError as error:
        raise serializers.ValidationError(getattr(error, "message_dict", {"": error.messages})) from None
    except Conflict as conflict:
        raise Problem(
            409, "version_conflict", str(conflict), current=describe(conflict.current), yours=request.data
        ) from None
    except NotStanding as error:
        raise Problem(409, "not_standing", str(error)) from None
    headers = {"ETag": f'"{body["version"]}"'} if "version" in body else {}
    return Response(body, status=status, headers=headers)


class SettingsView(APIView):
    """Reading takes the verb ``read``, changing ``override``."""

    @property
    def verb(self) -> str:
        return "read" if self.request.method in ("GET", "HEAD", "OPTIONS") else "override"


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
            found = found.filter(pk__in=selectors.standing(timezone.now()).values("pk"))
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
        parameters=[_KEY],
        request=WishSerializer,
        responses={201: OverrideSerializer},
    )
    def post(self, request: Request) -> Response:
        wish = _wish(request.data)
        _may_change(request, wish.tenant)
        return _respond(
            request,
            lambda: _answer(services.create_override(wish, actor_of(request), timezone.now()), 201),
        )


class OverrideView(SettingsView):
    """One override; replace it."""

    @extend_schema(operation_id="read_override", responses=OverrideSerializer)
    def get(self, request: Request, pk: int) -> Response:
        found = _visible(request, pk)
        return Response(describe(found), headers={"ETag": f'"{found.version}"'})

    @extend_schema(
        operation_id="replace_override",
        parameters=[_IF_MATCH, _KEY],
        request=WishSerializer,
        responses=OverrideSerializer,
    )
    def put(self, request: Request, pk: int) -> Response:
        found, version, wish = _visible(request, pk), _version(request), _wish(request.data)
        for tenant in (found.tenant.slug if found.tenant else None, wish.tenant):
            _may_change(request, tenant)
        return _respond(
            request,
            lambda: _answer(services.replace_override(pk, version, wish, actor_of(request), timezone.now())),
        )


class _ReasonedView(SettingsView):
    """A change that takes a reason and nothing else."""

    change: Any

    def _change(self, request: Request, pk: int) -> Response:
        found, version = _visible(request, pk), _version(request)
        _may_change(request, found.tenant.slug if found.tenant else None)
        asked = ReasonSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        reason = asked.validated_data["reason"]
        return _respond(
            request,
            lambda: _answer(type(self).change(pk, version, reason, actor_of(request), timezone.now())),
        )


class RevokeView(_ReasonedView):
    """End an override."""

    change = staticmethod(services.revoke_override)

    @extend_schema(
        operation_id="revoke_override",
        parameters=[_IF_MATCH, _KEY],
        request=ReasonSerializer,
        responses=OverrideSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self._change(request, pk)


class UndoView(_ReasonedView):
    """Take the last change of an override back, by a new change."""

    change = staticmethod(services.undo_override)

    @extend_schema(
        operation_id="undo_override",
        parameters=[_IF_MATCH, _KEY],
        request=ReasonSerializer,
        responses=OverrideSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self._change(request, pk)


class KillSwitchSerializer(StrictSerializer):
    tenant = TextField(max_length=63, allow_null=True, default=None, help_text="null: everybody.")
    on = serializers.BooleanField(help_text="true stops automatic selection: scopes get their defaults.")
    reason = TextField(min_length=10, max_length=500)


class KillSwitchStateSerializer(serializers.Serializer[Any]):
    everybody = serializers.BooleanField()
    tenants = serializers.ListField(child=serializers.CharField())


class KillSwitchView(SettingsView):
    """Whether automatic selection is stopped, for everybody or for tenants; stop it, or let it go on."""

    @extend_schema(operation_id="read_kill_switch", responses=KillSwitchStateSerializer)
    def get(self, request: Request) -> Response:
        return Response(_kill_switch(caller(request)))

    @extend_schema(
        operation_id="set_kill_switch",
        parameters=[_KEY],
        request=KillSwitchSerializer,
        responses=KillSwitchStateSerializer,
    )
    def put(self, request: Request) -> Response:
        asked = KillSwitchSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data
        _may_change(request, wanted["tenant"])

        def act() -> idempotency.Answer:
            services.set_kill_switch(**wanted, actor=actor_of(request), now=timezone.now())
            return 200, _kill_switch(caller(request))

        return _respond(request, act)


def _kill_switch(who: Caller) -> dict[str, Any]:
    everybody, tenants = selectors.killed()
    return {"everybody": everybody, "tenants": sorted(filter(who.may_see, tenants))}


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
        return pages.get_paginated_response(AuditEntrySerializer(page, many=True).data)
