"""What the machine knows of people's settings: the regret of an override."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import caller
from catalog.problems import Problem
from overrides import selectors
from routing.metering import regret
from routing.regret import Source, Verdict
from telemetry.clickhouse import ClickHouseError, get_clickhouse

# Plain text in the schema: a replay has verdicts, too, and one name cannot mean both.
_VERDICTS = f"One of {', '.join(Verdict)}."


class GivenSerializer(serializers.Serializer[Any]):
    profile = serializers.CharField(allow_null=True)
    n = serializers.IntegerField(help_text="Completions counted.")
    priced = serializers.IntegerField(help_text="Completions whose cost is known.")
    cost_per_completion = serializers.CharField(allow_null=True)
    success_rate = serializers.FloatField(allow_null=True)
    latency_p95_ms = serializers.FloatField(allow_null=True)


class InsteadSerializer(GivenSerializer):
    reason = serializers.CharField(help_text="The rule that would give it, or the problem.")
    # A member of that name hides an argument of the base class that nobody uses here.
    source = serializers.ChoiceField(  # type: ignore[assignment]
        choices=[(source.value, source.value) for source in Source], allow_null=True
    )


class RegretScopeSerializer(serializers.Serializer[Any]):
    tenant = serializers.CharField()
    persona = serializers.CharField()
    task = serializers.CharField(allow_null=True, help_text="null: all that no override names.")
    verdict = serializers.CharField(help_text=_VERDICTS)
    regret_usd = serializers.CharField(allow_null=True)
    min_samples = serializers.IntegerField()
    given = GivenSerializer()
    instead = InsteadSerializer()
    difference = serializers.DictField(help_text="Given less instead: cost_per_completion, success_rate, ...")


class RegretSerializer(serializers.Serializer[Any]):
    override = serializers.IntegerField()
    kind = serializers.CharField()
    profile = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True, help_text="null: it stands.")
    measured_from = serializers.DateTimeField(allow_null=True)
    measured_to = serializers.DateTimeField(allow_null=True)
    measured_at = serializers.DateTimeField()
    verdict = serializers.CharField(help_text=_VERDICTS)
    regret_usd = serializers.CharField(allow_null=True, help_text="Negative: saved.")
    regret_interval = serializers.CharField(allow_null=True, help_text="null: a point estimate.")
    estimate = serializers.CharField()
    n = serializers.IntegerField(help_text="Completions of the scopes that could be measured.")
    difference = serializers.DictField()
    scopes_measured = serializers.IntegerField()
    scopes_not_enough_data = serializers.IntegerField()
    scopes_same_choice = serializers.IntegerField()
    scopes_shadowed = serializers.IntegerField()
    scopes = RegretScopeSerializer(many=True)
    more = serializers.IntegerField()
    problem = serializers.CharField(allow_null=True)


class RegretView(APIView):
    """What an override has cost or saved since it began, in the caller's scopes, measured now."""

    verb = "read"

    @extend_schema(operation_id="read_override_regret", responses=RegretSerializer)
    def get(self, request: Request, pk: int) -> Response:
        tenants = caller(request).tenants
        override = selectors.visible(tenants).filter(pk=pk).first()
        if override is None:
            raise Problem(404, "unknown_override", "There is no such override that this caller may see.")
        try:
            return Response(regret(override, get_clickhouse(), timezone.now(), tenants))
        except ClickHouseError as error:
            raise Problem(503, "clickhouse_unavailable", "Metrics cannot be read right now.") from error
