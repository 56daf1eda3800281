"""Undo over the API: of one entry of the audit log, and of everything by an actor since a time."""

from dataclasses import asdict
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.access import caller
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from overrides import idempotency, selectors, undoing
from overrides.api.base import DRY_RUN, KEY, ReasonSerializer, SettingsView, actor_of, is_dry_run, respond
from overrides.foreign import seen
from overrides.models import AuditEntry
from overrides.rights import VERB_OF, needed
from overrides.undoing import Plan


class UndoSerializer(StrictSerializer):
    actor = TextField(max_length=160, help_text="As in the audit log: user:anna, key:abc.")
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(required=False, default=None, allow_null=True)
    plan_hash = TextField(
        max_length=64, required=False, help_text="Of the plan that dry_run=1 gave: that is what is done."
    )
    reason = TextField(min_length=10, max_length=500)


class StepSerializer(serializers.Serializer[Any]):
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    tenant = serializers.CharField(allow_null=True)
    entries = serializers.ListField(child=serializers.IntegerField(), help_text="What is taken back.")
    now = serializers.DictField(allow_null=True)
    to = serializers.DictField(allow_null=True, help_text="null: it was not there, so it is switched off.")
    problem = serializers.CharField(allow_null=True, help_text="Why it stays as it is.")


class DoneSerializer(serializers.Serializer[Any]):
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    entries = serializers.ListField(child=serializers.IntegerField())
    outcome = serializers.ChoiceField(choices=["undone", "waits", "unchanged", "kept"])
    why = serializers.CharField(required=False)
    change_request = serializers.IntegerField(required=False)


class UndoneSerializer(serializers.Serializer[Any]):
    plan_hash = serializers.CharField()
    steps = StepSerializer(many=True, required=False, help_text="With dry_run=1.")
    results = DoneSerializer(many=True, required=False, help_text="Without.")


class UndoActorView(SettingsView):
    """Take back everything that an actor did since a time. Ask with ``dry_run=1`` first: what it answers is the plan,
    and its ``plan_hash`` has just that done."""

    @property
    def verb(self) -> str:
        return "read"

    @extend_schema(
        operation_id="undo_actor",
        parameters=[KEY, DRY_RUN],
        request=UndoSerializer,
        responses=UndoneSerializer,
    )
    def post(self, request: Request) -> Response:
        asked = UndoSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        told = asked.validated_data
        if not caller(request).verbs & {"override", "personas", "flags", "catalogue", "access"}:
            raise Problem(
                403, "permission_denied", "This needs a verb that changes something, such as 'override'."
            )

        def plan() -> Plan:
            try:
                entries = undoing.by_actor(told["actor"], told["since"], told["until"])
            except undoing.TooMany as error:
                raise Problem(400, "invalid", str(error)) from None
            return _limited(request, _seen(request, entries))

        if is_dry_run(request):
            made = plan()
            steps = [asdict(step) for step in made.steps]
            return Response({"plan_hash": made.plan_hash, "steps": seen(steps, caller(request).tenants)})
        if "plan_hash" not in told:
            raise Problem(
                428, "plan_needed", "Ask with dry_run=1 first, and send the plan_hash of what you saw."
            )

        def act() -> idempotency.Answer:
            made = plan()
            if made.plan_hash != told["plan_hash"]:
                raise Problem(409, "plan_changed", "Something changed since that plan was made: look again.")
            done = undoing.take_back(made, told["reason"], actor_of(request), timezone.now())
            return 200, {"plan_hash": made.plan_hash, "results": done}

        return respond(request, act)


class UndoEntryView(SettingsView):
    """Take back what one entry of the audit log tells, unless the object was changed afterwards."""

    @property
    def verb(self) -> str:
        return "read"

    @extend_schema(
        operation_id="undo_audit_entry",
        parameters=[KEY, DRY_RUN],
        request=ReasonSerializer,
        responses=UndoneSerializer,
    )
    def post(self, request: Request, seq: int) -> Response:
        entry = selectors.audit_entries(caller(request).tenants).filter(seq=seq).first()
        if entry is None:
            raise Problem(404, "unknown_entry", "There is no such audit entry that this caller may see.")
        asked = ReasonSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        reason = asked.validated_data["reason"]
        if not _may(request, entry.object_type, entry.tenant):
            raise Problem(403, "permission_denied", _needs(entry.object_type))
        if is_dry_run(request):
            made = undoing.plan_of([entry])
            steps = seen([asdict(step) for step in made.steps], caller(request).tenants)
            return Response({"plan_hash": made.plan_hash, "steps": steps})

        def act() -> idempotency.Answer:
            made = undoing.plan_of([entry])
            done = undoing.take_back(made, reason, actor_of(request), timezone.now())
            if not done or done[0]["outcome"] == "kept":
                raise Problem(409, "not_undone", done[0]["why"] if done else "This entry is no change.")
            return 200, {"plan_hash": made.plan_hash, "results": done}

        return respond(request, act)


def _seen(request: Request, entries: list[AuditEntry]) -> Plan:
    """Only what the caller may see at all is told of."""
    seqs = [entry.seq for entry in entries]
    visible = set(
        selectors.audit_entries(caller(request).tenants).filter(seq__in=seqs).values_list("seq", flat=True)
    )
    return undoing.plan_of([entry for entry in entries if entry.seq in visible])


def _limited(request: Request, plan: Plan) -> Plan:
    """What the caller may not change stays, and says so."""
    return undoing.with_problems(
        plan, lambda step: None if _may(request, step.object_type, step.tenant) else _needs(step.object_type)
    )


def _may(request: Request, object_type: str, tenant: str | None) -> bool:
    return object_type in VERB_OF and needed(caller(request), object_type, tenant) is None


def _needs(object_type: str) -> str:
    verb = VERB_OF.get(object_type)
    return f"This needs the verb '{verb}' for it." if verb else "It cannot be taken back from here."
