"""Routing's endpoints: ask for a profile, look a decision up, read the rankings behind it."""

import uuid
from typing import Any

import orjson
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import caller, own_tenant, visible_tenant
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from catalog.slugs import validate_slug
from routing.bundle import current_bundle
from routing.engine import SelectionProblem
from routing.explaining import explained
from routing.models import ConversationSelection, Selection
from routing.repeats import Asked
from routing.selection import select
from telemetry.freshness_state import state


class SelectionSerializer(StrictSerializer):
    tenant = TextField(max_length=63)
    persona = TextField(max_length=63)
    conversation_id = TextField(
        max_length=200, help_text="Yours; one conversation always gets the same side of the flag."
    )
    task = TextField(max_length=63, default="general", validators=[validate_slug])
    exclude = serializers.ListField(
        child=TextField(max_length=63, validators=[validate_slug]),
        max_length=50,
        default=list,
        help_text="Profiles that you will not take, such as one that just failed.",
    )
    request_id = TextField(
        max_length=100,
        default=None,
        allow_null=True,
        help_text="Yours; the same one gives the same answer again.",
    )
    candidates = serializers.BooleanField(
        default=True,
        help_text="Whether the answer lists the candidates, which are most of its bytes; the stored decision has them.",
    )


class ProfileSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    base_url = serializers.CharField()
    tier = serializers.CharField()
    context_window = serializers.IntegerField()


class DecisionSerializer(serializers.Serializer[Any]):
    decision_id = serializers.UUIDField()
    tenant = serializers.CharField()
    persona = serializers.CharField()
    conversation_id = serializers.CharField()
    task = serializers.CharField()
    profile = ProfileSerializer()
    reason = serializers.CharField(help_text="docs/decisions.md explains each.")
    explanation = serializers.CharField()
    candidates = serializers.ListField(
        child=serializers.DictField(), required=False, help_text="Left out when the request says so."
    )
    fallback = serializers.ListField(child=serializers.CharField())
    propensity = serializers.FloatField()
    bundle_version = serializers.CharField()
    snapshot_id = serializers.CharField(allow_null=True)
    freshness = serializers.CharField()
    as_of = serializers.DateTimeField(allow_null=True)
    decided_at = serializers.DateTimeField()
    exclude = serializers.ListField(child=serializers.CharField())
    last_profile = serializers.CharField(allow_null=True)
    request_id = serializers.CharField(allow_null=True)
    candidates_sha256 = serializers.CharField()
    overrides = serializers.DictField(help_text="Ids of operators' overrides: applied, excluding, shadowed.")


class SelectionsView(APIView):
    """Ask which profile a conversation should use. The answer says why."""

    verb = "select"

    @extend_schema(
        operation_id="select_profile",
        request=SelectionSerializer,
        responses={200: DecisionSerializer},
        examples=[
            OpenApiExample(
                "Ask",
                {"tenant": "aurora", "persona": "essayist", "conversation_id": "c-1", "task": "essay"},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        asked = SelectionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        fields = asked.validated_data
        who = caller(request)
        if not who.may_see(fields["tenant"]):
            # Word for word what the engine says of a tenant that does not exist.
            raise Problem(404, "unknown_tenant", f"There is no tenant '{fields['tenant']}'.")
        # One order whatever the worker's: the same request is the same bytes.
        exclude, in_full = tuple(sorted(set(fields.pop("exclude")))), fields.pop("candidates")
        try:
            answer = select(Asked(**fields, exclude=exclude), who.name, timezone.now())
        except SelectionProblem as problem:
            raise Problem(problem.status, problem.code, problem.detail) from None
        return Response(orjson.Fragment(answer.json if in_full else answer.core))


class ReplaySerializer(serializers.Serializer[Any]):
    verdict = serializers.ChoiceField(choices=Selection.Replay.choices)
    detail = serializers.CharField()
    differences = serializers.ListField(child=serializers.CharField())


class ExplainedSerializer(DecisionSerializer):
    decided_by = serializers.ChoiceField(choices=Selection.Source.choices)
    replay = ReplaySerializer()


class SelectionView(APIView):
    """A stored decision, explained: it is decided again from the archived policy and snapshot, and compared
    byte for byte."""

    verb = "read"

    @extend_schema(operation_id="explain_selection", responses=ExplainedSerializer)
    def get(self, request: Request, decision_id: uuid.UUID) -> Response:
        row = Selection.objects.filter(decision_id=decision_id).first()
        if row is None or not caller(request).may_see(row.tenant):
            raise Problem(404, "unknown_selection", "There is no such selection that this caller may see.")
        return Response(explained(row))


class ConversationQuery(serializers.Serializer[Any]):
    tenant = serializers.CharField(
        max_length=63, required=False, help_text="May be left out when the key is bound to one tenant."
    )
    persona = serializers.CharField(max_length=63, required=False, help_text="Default: the latest one used.")


class ConversationView(APIView):
    """What a conversation was given last, explained."""

    verb = "read"

    @extend_schema(
        operation_id="read_conversation_selection",
        parameters=[ConversationQuery],
        responses=ExplainedSerializer,
    )
    def get(self, request: Request, conversation_id: str) -> Response:
        query = ConversationQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        tenant = own_tenant(request, query.validated_data.get("tenant"))
        found = ConversationSelection.objects.filter(tenant=tenant.slug, conversation_id=conversation_id)
        if persona := query.validated_data.get("persona"):
            found = found.filter(persona=persona)
        last = found.order_by("-decided_at").first()
        row = Selection.objects.filter(decision_id=last.decision_id).first() if last else None
        if row is None:
            raise Problem(
                404, "unknown_conversation", "Nothing was selected for this conversation, as far as is kept."
            )
        return Response(explained(row))


class RankingsQuery(serializers.Serializer[Any]):
    tenant = serializers.CharField(max_length=63)
    persona = serializers.CharField(max_length=63)


class RankingsSerializer(serializers.Serializer[Any]):
    tenant = serializers.CharField()
    persona = serializers.CharField()
    snapshot_id = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField(allow_null=True)
    as_of = serializers.DateTimeField(allow_null=True)
    freshness = serializers.CharField()
    incumbent = serializers.CharField()
    scorecards = serializers.ListField(child=serializers.DictField())


class RankingsView(APIView):
    """The scorecards of a scope, best first, as of the snapshot that steers now."""

    verb = "read"

    @extend_schema(operation_id="read_rankings", parameters=[RankingsQuery], responses=RankingsSerializer)
    def get(self, request: Request) -> Response:
        query = RankingsQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        tenant = visible_tenant(request, query.validated_data["tenant"])
        persona = query.validated_data["persona"]
        bundle = current_bundle()
        if persona not in bundle.personas:
            raise Problem(404, "unknown_persona", f"There is no persona '{persona}'.")
        scores = bundle.scores(tenant.slug, persona)
        snapshot = bundle.snapshot
        as_of = scores.as_of if scores else None
        return Response(
            {
                "tenant": tenant.slug,
                "persona": persona,
                "snapshot_id": snapshot.id if snapshot else None,
                "created_at": snapshot.created_at if snapshot else None,
                "as_of": as_of,
                "freshness": state(as_of, timezone.now()).value,
                "incumbent": bundle.default_profile(tenant.slug, persona),
                "scorecards": [card.to_dict() for card in scores.scorecards] if scores else [],
            }
        )
