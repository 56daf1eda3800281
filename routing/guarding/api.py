"""Guarded rollouts over the API: list, start, look at one, pause, resume, roll back, acknowledge, cancel."""

from collections.abc import Callable
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.access import caller
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from catalog.tenancy import within
from overrides import idempotency
from overrides.api.base import (
    DRY_RUN,
    IF_MATCH,
    KEY,
    WAITS,
    NewestFirst,
    PreviewSerializer,
    ReasonSerializer,
    SettingsView,
    actor_of,
    may_change,
    respond,
    seen_version,
    submit,
)
from routing.guarding import kinds, services
from routing.guarding.models import Rollout
from routing.guarding.services import Wish
from routing.guarding.telling import told
from routing.rollout.evidence import Measure

Act = Callable[..., Rollout]


class SharesSerializer(StrictSerializer):
    """A share by measure: 0.02 is two points. What is left out has its default."""

    success = serializers.FloatField(required=False)
    safety_violations = serializers.FloatField(required=False)
    escalations = serializers.FloatField(required=False)
    slow = serializers.FloatField(required=False)


class PlanSerializer(StrictSerializer):
    """What is left out has its default (docs/rollout.md)."""

    steps = serializers.ListField(
        child=serializers.FloatField(),
        required=False,
        help_text="Percentages, rising, with two decimals at most.",
    )
    min_minutes = serializers.IntegerField(required=False, help_text="Of each step.")
    min_conversations = serializers.IntegerField(required=False, help_text="In each arm, per step.")
    margins = SharesSerializer(required=False, help_text="The harm that must be ruled out to go on.")
    tolerances = SharesSerializer(required=False, help_text="Harm proved to be larger rolls back.")
    alpha = serializers.FloatField(
        required=False, help_text="Chance of a false roll-back in the whole rollout."
    )


class StartSerializer(StrictSerializer):
    tenant = TextField(max_length=63)
    persona = TextField(
        max_length=63, allow_null=True, default=None, help_text="null: all without a share of their own."
    )
    plan = PlanSerializer(required=False)
    step = serializers.IntegerField(default=0, min_value=0, help_text="Where to begin, from 0.")
    reason = TextField(min_length=10, max_length=500)


class ResumeSerializer(StrictSerializer):
    step = serializers.IntegerField(
        allow_null=True,
        default=None,
        min_value=0,
        help_text="Begin there anew, with new evidence. null: go on with the step as it stands; after a roll-back, "
        "begin at the first.",
    )
    reason = TextField(min_length=10, max_length=500)


class BoundSerializer(serializers.Serializer[Any]):
    estimate = serializers.FloatField(
        allow_null=True, help_text="Harm: treated less control, above 0 is worse."
    )
    lower = serializers.FloatField(help_text="The harm is proved to be larger.")
    upper = serializers.FloatField(help_text="The harm is proved to be smaller.")
    margin = serializers.FloatField(help_text="Goes on once upper is below it.")
    tolerance = serializers.FloatField(help_text="Rolls back once lower is above it.")
    state = serializers.CharField(help_text="non_inferior, unproven or regression.")


class VerdictSerializer(serializers.Serializer[Any]):
    action = serializers.CharField(help_text="hold, advance, complete or roll_back.")
    reason = serializers.CharField()
    treated = serializers.IntegerField(help_text="Conversations.")
    control = serializers.IntegerField()
    waits_for = serializers.ListField(child=serializers.CharField())
    bounds = serializers.DictField(
        child=BoundSerializer(), help_text=f"By measure: {', '.join(one.value for one in Measure)}."
    )


class RolloutSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    tenant = serializers.CharField()
    persona = serializers.CharField(allow_null=True)
    state = serializers.ChoiceField(choices=Rollout.State.values)
    by_itself = serializers.BooleanField(help_text="Whether no person brought it into this state.")
    reason = serializers.CharField()
    plan = serializers.DictField()
    attempt = serializers.IntegerField()
    step = serializers.IntegerField(help_text="Of the plan, from 0.")
    share = serializers.FloatField(help_text="The percentage that it set the flag to.")
    step_began_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    changed_by = serializers.CharField()
    changed_at = serializers.DateTimeField()
    version = serializers.IntegerField()
    looked_at = serializers.DateTimeField(allow_null=True)
    evidence_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When the verdict's evidence was read; older than looked_at while it cannot be.",
    )
    newest_completion = serializers.DateTimeField(allow_null=True)
    verdict = VerdictSerializer(allow_null=True)
    waits_for = serializers.ListField(child=serializers.CharField(), help_text="A phrase each.")


class RolloutStepSerializer(serializers.Serializer[Any]):
    attempt = serializers.IntegerField()
    index = serializers.IntegerField()
    percent = serializers.FloatField()
    began_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    ended_as = serializers.CharField(
        allow_null=True, help_text="advance, complete, roll_back, resume or cancel."
    )
    verdict = VerdictSerializer(allow_null=True)


class RolloutWithStepsSerializer(RolloutSerializer):
    steps = RolloutStepSerializer(many=True)


class RolloutQuery(serializers.Serializer[Any]):
    tenant = serializers.CharField(max_length=63, required=False)
    persona = serializers.CharField(max_length=63, required=False)
    state = serializers.ChoiceField(choices=Rollout.State.values, required=False)
    cursor = serializers.CharField(required=False)


def _rows(request: Request) -> Any:
    rows = Rollout.objects.select_related("tenant", "persona")
    return within(rows, caller(request).tenants)


def _visible(request: Request, pk: int) -> Rollout:
    found: Rollout | None = _rows(request).filter(pk=pk).first()
    if found is None:
        raise Problem(404, "unknown_rollout", "There is no such rollout that this caller may see.")
    return found


def _told(state: dict[str, Any]) -> dict[str, Any]:
    return told(Rollout.objects.select_related("tenant", "persona").get(pk=state["id"]))


class RolloutsView(SettingsView):
    """Rollouts, newest first; start one."""

    changing = "flags"

    @extend_schema(
        operation_id="list_rollouts", parameters=[RolloutQuery], responses=RolloutSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        query = RolloutQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked, found = query.validated_data, _rows(request)
        for name, path in (("tenant", "tenant__slug"), ("persona", "persona__slug"), ("state", "state")):
            if name in asked:
                found = found.filter(**{path: asked[name]})
        pages = NewestFirst()
        page: list[Rollout] = pages.paginate_queryset(found, request, view=self) or []
        return pages.get_paginated_response([told(rollout) for rollout in page])

    @extend_schema(
        operation_id="start_rollout",
        parameters=[KEY, DRY_RUN],
        request=StartSerializer,
        responses={200: PreviewSerializer, 201: RolloutSerializer, **WAITS},
    )
    def post(self, request: Request) -> Response:
        asked = StartSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        values = asked.validated_data
        may_change(request, "flags", values["tenant"])
        plan = {name: _plain(value) for name, value in values.get("plan", {}).items()}
        wish = Wish(values["tenant"], values["persona"], values["reason"], plan, values["step"])
        return submit(request, kinds.to_start(wish), 201, _told)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


class RolloutView(SettingsView):
    """One rollout with the steps of all its attempts."""

    @extend_schema(operation_id="read_rollout", responses=RolloutWithStepsSerializer)
    def get(self, request: Request, pk: int) -> Response:
        found = _visible(request, pk)
        return Response(told(found, history=True), headers={"ETag": f'"{found.version}"'})


class _ActView(SettingsView):
    changing = "flags"

    def _act(self, request: Request, pk: int, act: Act) -> Response:
        found, version = _visible(request, pk), seen_version(request)
        may_change(request, "flags", found.tenant.slug)
        asked = ReasonSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        reason = asked.validated_data["reason"]

        def answer() -> idempotency.Answer:
            return 200, told(act(pk, version, reason, actor_of(request), timezone.now()))

        return respond(request, answer)


class PauseView(_ActView):
    """Stay at the step; a proved regression still rolls back."""

    @extend_schema(
        operation_id="pause_rollout",
        parameters=[IF_MATCH, KEY],
        request=ReasonSerializer,
        responses=RolloutSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self._act(request, pk, services.pause)


class RollBackView(_ActView):
    """Turn the flag off there, at once."""

    @extend_schema(
        operation_id="roll_back_rollout",
        parameters=[IF_MATCH, KEY],
        request=ReasonSerializer,
        responses=RolloutSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self._act(request, pk, services.roll_back)


class AcknowledgeView(_ActView):
    """Say that one knows of a roll-back: it stays, and its alert ends."""

    @extend_schema(
        operation_id="acknowledge_rollout",
        parameters=[IF_MATCH, KEY],
        request=ReasonSerializer,
        responses=RolloutSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self._act(request, pk, services.acknowledge)


class CancelView(_ActView):
    """End it; the flag's share stays as it is."""

    @extend_schema(
        operation_id="cancel_rollout",
        parameters=[IF_MATCH, KEY],
        request=ReasonSerializer,
        responses=RolloutSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self._act(request, pk, services.cancel)


class ResumeView(SettingsView):
    """Go on after a pause or a roll-back."""

    changing = "flags"

    @extend_schema(
        operation_id="resume_rollout",
        parameters=[IF_MATCH, KEY, DRY_RUN],
        request=ResumeSerializer,
        responses={200: RolloutSerializer, **WAITS},
    )
    def post(self, request: Request, pk: int) -> Response:
        found, version = _visible(request, pk), seen_version(request)
        may_change(request, "flags", found.tenant.slug)
        asked = ResumeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        values = asked.validated_data
        change = kinds.to_resume(pk, version, values["step"], values["reason"])
        return submit(request, change, 200, _told)
