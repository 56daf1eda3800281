"""The savings ledger over the API, as JSON or CSV."""

from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import caller, visible_tenant
from catalog.models import Persona
from catalog.problems import Problem
from catalog.rendering import OrjsonRenderer
from routing.savings import MINIMUM, Verdict
from routing.savings_report import (
    USUAL_DAYS,
    BadRange,
    Ledger,
    csv_lines,
    days_of,
    described,
    read_ledger,
)
from telemetry.arm_sums import Arm
from telemetry.arms import TooManyRows
from telemetry.clickhouse import ClickHouseError, get_clickhouse


class CsvRenderer(BaseRenderer):
    """Text that the view has written; problems stay JSON."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> str | bytes:
        return data if isinstance(data, str) else OrjsonRenderer().render(data)


class SavingsQuery(serializers.Serializer[Any]):
    tenant = serializers.CharField(max_length=63, required=False, help_text="Default: all of the caller's.")
    persona = serializers.CharField(max_length=63, required=False, help_text="Default: all.")
    to = serializers.DateField(required=False, help_text="Last day (UTC), included. Default: today.")
    group = serializers.ChoiceField(choices=["total", "day"], default="total")
    format = serializers.ChoiceField(choices=["json", "csv"], default="json")

    def get_fields(self) -> dict[str, Any]:
        # No member of a class can be called so.
        first = serializers.DateField(
            required=False, help_text=f"First day (UTC). Default: {USUAL_DAYS} days up to the last."
        )
        return {**super().get_fields(), "from": first}


class MoneySerializer(serializers.Serializer[Any]):
    value = serializers.CharField(help_text="US dollars; negative: it cost more.")
    lower = serializers.CharField(help_text="Of the 95% interval.")
    upper = serializers.CharField()


class EstimateSerializer(serializers.Serializer[Any]):
    value = serializers.FloatField()
    lower = serializers.FloatField(help_text="Of the 95% interval.")
    upper = serializers.FloatField()


class RateSerializer(serializers.Serializer[Any]):
    control = serializers.FloatField(help_text="0 to 1, weighted like the treated's.")
    treated = serializers.FloatField()
    difference = EstimateSerializer(help_text="Treated less control.")


class ArmSerializer(serializers.Serializer[Any]):
    conversations = serializers.IntegerField(
        help_text="Of each day; one that goes on the next day counts again."
    )
    completions = serializers.IntegerField()
    priced = serializers.IntegerField(help_text="Completions whose cost is known.")
    cost_usd = serializers.CharField(help_text="Their cost.")


class SavingsSerializer(serializers.Serializer[Any]):
    verdict = serializers.CharField(help_text=f"{', '.join(Verdict)}; docs/savings.md explains them.")
    saved_usd = MoneySerializer(allow_null=True)
    saved_share = EstimateSerializer(
        allow_null=True, help_text="Of what the compared completions would have cost."
    )
    success = RateSerializer(allow_null=True)
    escalation = RateSerializer(allow_null=True)
    safety = RateSerializer(allow_null=True)
    harms = serializers.ListField(child=serializers.CharField(), help_text="What is proved to be worse.")
    completions_per_conversation = EstimateSerializer(allow_null=True, help_text="Treated less control.")
    control = ArmSerializer()
    treated = ArmSerializer()
    days = serializers.IntegerField(help_text="Days with treated completions.")
    strata = serializers.IntegerField(help_text="Groups whose arms were compared.")
    compared = serializers.FloatField(allow_null=True, help_text="Share of treated priced completions.")
    unadjusted = serializers.FloatField(
        allow_null=True, help_text="Of these, compared without regard to task."
    )
    priced = serializers.FloatField(allow_null=True, help_text="Share of treated completions of known cost.")


class EntrySerializer(SavingsSerializer):
    tenant = serializers.CharField()
    persona = serializers.CharField()
    day = serializers.DateField(allow_null=True)


class LedgerSerializer(serializers.Serializer[Any]):
    first = serializers.DateField()
    last = serializers.DateField()
    group = serializers.CharField()
    minimum_conversations = serializers.IntegerField(help_text="In each arm, to be compared.")
    completions = serializers.DictField(
        child=serializers.IntegerField(), help_text="By arm: control, treated, outside, undecided."
    )
    total = SavingsSerializer()
    entries = EntrySerializer(many=True)


class SavingsView(APIView):
    """What automatic selection saved, from the holdout: with intervals, and "not enough data" where there is not."""

    verb = "read"
    renderer_classes = [OrjsonRenderer, CsvRenderer]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # A format that there is not is told in words, as JSON, by the query's own check.
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        operation_id="read_savings",
        parameters=[SavingsQuery],
        responses={
            (200, "application/json"): LedgerSerializer,
            (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, "A header, and a line per entry."),
        },
    )
    def get(self, request: Request) -> Response:
        query = SavingsQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        ledger = _read(request, asked)
        by_day = asked["group"] == "day"
        entries = ledger.by_scope_and_day() if by_day else ledger.by_scope()
        if request.accepted_renderer.format == "csv":
            answer = Response("".join(csv_lines(ledger, entries)))
            name = f"savings-{ledger.first}-{ledger.last}.csv"
            answer["Content-Disposition"] = f'attachment; filename="{name}"'
            return answer
        return Response(
            {
                "first": ledger.first,
                "last": ledger.last,
                "group": asked["group"],
                "minimum_conversations": MINIMUM,
                "completions": {arm.value: ledger.completions(arm) for arm in Arm},
                "total": described(ledger.total()),
                "entries": [
                    {
                        "tenant": one.tenant,
                        "persona": one.persona,
                        "day": one.day,
                        **described(one.savings),
                    }
                    for one in entries
                ],
            }
        )


def _read(request: Request, asked: Mapping[str, Any]) -> Ledger:
    tenants = caller(request).tenants
    if "tenant" in asked:
        tenants = frozenset({visible_tenant(request, asked["tenant"]).slug})
    persona = asked.get("persona")
    if persona is not None and not Persona.objects.filter(slug=persona).exists():
        raise Problem(404, "unknown_persona", f"There is no persona '{persona}'.")
    try:
        first, last = days_of(asked.get("from"), asked.get("to"), timezone.now().date())
        return read_ledger(get_clickhouse(), first, last, tenants=tenants, persona=persona)
    except BadRange as error:
        raise Problem(400, "bad_range", f"{error}.") from None
    except TooManyRows as error:
        raise Problem(
            400, "too_much", f"That is {error}: ask for one tenant, one persona or fewer days."
        ) from None
    except ClickHouseError as error:
        raise Problem(503, "clickhouse_unavailable", "Savings cannot be read right now.") from error
