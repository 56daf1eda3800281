"""Personas (SLA, weights, shares) and flags over the API."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.access import caller
from catalog.models import Persona
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from catalog.tenancy import Tenants
from overrides.api.base import (
    DRY_RUN,
    IF_MATCH,
    KEY,
    WAITS,
    SettingsView,
    may_change,
    seen_tag,
    submit,
)
from overrides.changes import Change
from overrides.models import Flag
from overrides.states import State, describe, tag_of


def _decimal(digits: int, places: int, **more: Any) -> serializers.DecimalField:
    return serializers.DecimalField(digits, places, required=False, **more)


class PersonaChangeSerializer(StrictSerializer):
    """What is left out stays. The model's own rules (ranges, weights that sum to 1) are told by field."""

    name = TextField(max_length=120, required=False)
    enabled = serializers.BooleanField(required=False)
    default_profile = TextField(max_length=63, required=False)
    min_success_rate = _decimal(5, 4)
    max_latency_p95_ms = serializers.IntegerField(required=False)
    max_safety_violation_rate = _decimal(5, 4)
    min_accuracy = _decimal(5, 4, allow_null=True)
    max_cost_per_completion = _decimal(12, 6, allow_null=True)
    weight_cost = _decimal(5, 4)
    weight_success = _decimal(5, 4)
    weight_latency = _decimal(5, 4)
    confidence = _decimal(5, 4)
    min_samples = serializers.IntegerField(required=False)
    exploration_share = _decimal(5, 4)
    holdout_share = _decimal(5, 4)
    switch_margin = _decimal(5, 4)
    four_eyes = serializers.BooleanField(required=False)
    reason = TextField(min_length=10, max_length=500)


class PersonaSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    enabled = serializers.BooleanField()
    default_profile = serializers.CharField(help_text="Slug; the incumbent.")
    min_success_rate = serializers.CharField()
    max_latency_p95_ms = serializers.IntegerField()
    max_safety_violation_rate = serializers.CharField()
    min_accuracy = serializers.CharField(allow_null=True)
    max_cost_per_completion = serializers.CharField(allow_null=True, help_text="US dollars.")
    weight_cost = serializers.CharField()
    weight_success = serializers.CharField()
    weight_latency = serializers.CharField()
    confidence = serializers.CharField()
    min_samples = serializers.IntegerField()
    exploration_share = serializers.CharField()
    holdout_share = serializers.CharField()
    switch_margin = serializers.CharField()
    four_eyes = serializers.BooleanField()


class PersonasView(SettingsView):
    """All personas: they are shared by all tenants."""

    @extend_schema(operation_id="list_personas", responses=PersonaSerializer(many=True))
    def get(self, request: Request) -> Response:
        rows = Persona.objects.select_related("default_profile")
        return Response({"results": [describe(persona) for persona in rows]})


class PersonaView(SettingsView):
    """One persona's SLA, weights and shares; change them."""

    changing = "personas"

    @extend_schema(operation_id="read_persona", responses=PersonaSerializer)
    def get(self, request: Request, slug: str) -> Response:
        return _tagged(describe(_persona(slug)))

    @extend_schema(
        operation_id="change_persona",
        parameters=[IF_MATCH, KEY, DRY_RUN],
        request=PersonaChangeSerializer,
        responses={200: PersonaSerializer, **WAITS},
    )
    def patch(self, request: Request, slug: str) -> Response:
        may_change(request, "personas", None)
        persona, seen = _persona(slug), seen_tag(request)
        asked = PersonaChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = dict(asked.validated_data)
        reason = wanted.pop("reason")
        if not wanted:
            raise Problem(400, "invalid", "Name at least one member to change.")
        # JSON values, as a change request keeps them.
        told = {name: _json(value) for name, value in wanted.items()}
        return _submit_settings(
            request, Change("persona", str(persona.pk), {"set": told, "seen": seen}, reason)
        )


class FlagChangeSerializer(StrictSerializer):
    """What is left out stays."""

    everyone = serializers.BooleanField(
        required=False,
        allow_null=True,
        help_text="true: on for all; false: off for all; null: by percentages.",
    )
    rollout_percent = _decimal(
        5, 2, min_value=0, max_value=100, help_text="Of tenants without a share of their own."
    )
    tenants = serializers.DictField(
        child=serializers.DecimalField(5, 2, min_value=0, max_value=100, allow_null=True),
        required=False,
        help_text="Tenant to its own percentage; null takes it away. Tenants left out stay as they are.",
    )
    scopes = serializers.DictField(
        child=serializers.DictField(
            child=serializers.DecimalField(5, 2, min_value=0, max_value=100, allow_null=True)
        ),
        required=False,
        help_text="Tenant to persona to a percentage of that scope alone; null takes it away. "
        "Scopes left out stay as they are.",
    )
    reason = TextField(min_length=10, max_length=500)


class FlagSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    everyone = serializers.BooleanField(allow_null=True)
    rollout_percent = serializers.CharField()
    tenants = serializers.DictField(child=serializers.CharField(), help_text="Those that the caller may see.")
    scopes = serializers.DictField(
        child=serializers.DictField(child=serializers.CharField()),
        help_text="Tenant to persona to percentage; of tenants that the caller may see.",
    )
    note = serializers.CharField()


class FlagsView(SettingsView):
    """All flags, with the shares of the caller's tenants."""

    @extend_schema(operation_id="list_flags", responses=FlagSerializer(many=True))
    def get(self, request: Request) -> Response:
        flags = Flag.objects.all()
        return Response({"results": [_shown(describe(flag), caller(request).tenants) for flag in flags]})


class FlagView(SettingsView):
    """One flag; flip it, or set a tenant's share."""

    changing = "flags"

    @extend_schema(operation_id="read_flag", responses=FlagSerializer)
    def get(self, request: Request, name: str) -> Response:
        state = describe(_flag(name))
        return Response(_shown(state, caller(request).tenants), headers={"ETag": f'"{tag_of(state)}"'})

    @extend_schema(
        operation_id="change_flag",
        parameters=[IF_MATCH, KEY, DRY_RUN],
        request=FlagChangeSerializer,
        responses={200: FlagSerializer, **WAITS},
    )
    def patch(self, request: Request, name: str) -> Response:
        flag, seen = _flag(name), seen_tag(request)
        asked = FlagChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = dict(asked.validated_data)
        reason, own, scopes = wanted.pop("reason"), wanted.pop("tenants", {}), wanted.pop("scopes", {})
        if not wanted and not own and not scopes:
            raise Problem(400, "invalid", "Name at least one member to change.")
        for tenant in (*own, *scopes):
            may_change(request, "flags", tenant)
        if wanted:
            may_change(request, "flags", None)
        told = {key: _json(value) for key, value in wanted.items()}
        standing = describe(flag)
        if own:
            told["tenants"] = _shares(standing["tenants"], own)
        if scopes:
            told["scopes"] = dict(standing["scopes"])
            for tenant, shares in scopes.items():
                told["scopes"][tenant] = _shares(told["scopes"].get(tenant, {}), shares)
        return _submit_settings(request, Change("flag", str(flag.pk), {"set": told, "seen": seen}, reason))


def _shares(standing: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    shares = standing | {slug: _json(percent) for slug, percent in wanted.items()}
    return {slug: percent for slug, percent in shares.items() if percent is not None}


def _submit_settings(request: Request, change: Change) -> Response:
    tenants = caller(request).tenants
    tags: list[str] = []

    def tell(state: State) -> State:
        tags.append(tag_of(state))
        return _shown(state, tenants)

    answer = submit(request, change, tell=tell)
    if tags:
        answer["ETag"] = f'"{tags[0]}"'
    return answer


def _shown(state: State, tenants: Tenants) -> State:
    """Of a flag, the shares of foreign tenants are left out."""
    told = {name: value for name, value in state.items() if name in _SHOWN or "slug" in state}
    for member in ("tenants", "scopes"):
        if member in told and tenants is not None:
            told[member] = {slug: share for slug, share in told[member].items() if slug in tenants}
    return told


_SHOWN = ("name", "everyone", "rollout_percent", "tenants", "scopes", "note")


def _json(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | str) else format(value, "f")


def _tagged(state: State) -> Response:
    return Response(state, headers={"ETag": f'"{tag_of(state)}"'})


def _persona(slug: str) -> Persona:
    found = Persona.objects.select_related("default_profile").filter(slug=slug).first()
    if found is None:
        raise Problem(404, "unknown_persona", f"There is no persona '{slug[:80]}'.")
    return found


def _flag(name: str) -> Any:
    found = Flag.objects.filter(name=name).first()
    if found is None:
        raise Problem(404, "unknown_flag", f"There is no flag '{name[:80]}'.")
    return found
