"""The kill switch over the API."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.access import Caller, caller
from catalog.serializers import StrictSerializer, TextField
from overrides import selectors
from overrides.api.base import DRY_RUN, KEY, WAITS, SettingsView, may_change, submit
from overrides.changes import Change


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
        parameters=[KEY, DRY_RUN],
        request=KillSwitchSerializer,
        responses={200: KillSwitchStateSerializer, **WAITS},
    )
    def put(self, request: Request) -> Response:
        asked = KillSwitchSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = dict(asked.validated_data)
        reason, tenant = wanted.pop("reason"), wanted["tenant"]
        may_change(request, "override", tenant)
        change = Change("kill_switch", tenant or "*", wanted, reason)
        return submit(request, change, tell=lambda _: _kill_switch(caller(request)))


def _kill_switch(who: Caller) -> dict[str, Any]:
    everybody, tenants = selectors.killed()
    return {"everybody": everybody, "tenants": sorted(filter(who.may_see, tenants))}
