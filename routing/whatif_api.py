"""``POST /api/v1/whatif``: what other weights, SLAs, prices or profiles would do, before anybody saves them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import caller, visible_tenant
from catalog.prices import Price, PriceBook, load_price_book
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from overrides.api.settings import PersonaChangeSerializer
from routing.bundle import current_bundle
from routing.engine import Bundle
from routing.proposed import NotKnownYet
from routing.whatif import Hypothesis
from routing.whatif_answer import LISTED, MOST, CannotSay, tell, what_if

#: More at once than this is a new catalogue, not a question about this one.
_MOST_NAMED = 50


class PersonaValuesSerializer(PersonaChangeSerializer):
    """As in ``PATCH settings/personas/{slug}``; what is left out stays."""

    # What decides nothing, and what is told when it is saved.
    name = four_eyes = reason = None  # type: ignore[assignment]


class PriceValuesSerializer(StrictSerializer):
    """US dollars per 1,000 tokens; what is left out stays as it is in force now."""

    prompt_per_1k = serializers.DecimalField(14, 9, required=False, min_value=0)
    completion_per_1k = serializers.DecimalField(14, 9, required=False, min_value=0)
    cached_per_1k = serializers.DecimalField(
        14, 9, required=False, min_value=0, allow_null=True, help_text="null: as prompt tokens."
    )


def _slugs(help_text: str) -> serializers.ListField:
    return serializers.ListField(
        child=TextField(max_length=63), required=False, max_length=_MOST_NAMED, help_text=help_text
    )


class WhatIfSerializer(StrictSerializer):
    """At least one change."""

    personas = serializers.DictField(
        child=PersonaValuesSerializer(), required=False, help_text="Slug to the values that it would have."
    )
    prices = serializers.DictField(
        child=PriceValuesSerializer(), required=False, help_text="Profile to its new price."
    )
    add = _slugs("Profiles as if they were enabled.")
    remove = _slugs("Profiles as if they were disabled.")
    tenant = TextField(
        max_length=63, required=False, allow_null=True, help_text="Only its scopes. Default: all."
    )
    limit = serializers.IntegerField(
        required=False,
        default=LISTED,
        min_value=0,
        max_value=MOST,
        help_text="Scopes listed; sums are of all.",
    )


class UsdSerializer(serializers.Serializer[Any]):
    old = serializers.CharField(allow_null=True)
    new = serializers.CharField(allow_null=True)
    difference = serializers.CharField(allow_null=True, help_text="Negative: less is spent.")


class TotalUsdSerializer(UsdSerializer):
    scopes_known = serializers.IntegerField()
    scopes_unknown = serializers.IntegerField(help_text="In no sum: a cost or their completions are unknown.")


class NowUsdSerializer(serializers.Serializer[Any]):
    difference = serializers.CharField(allow_null=True)
    scopes_unknown = serializers.IntegerField()


class OldNewSerializer(serializers.Serializer[Any]):
    old = serializers.IntegerField()
    new = serializers.IntegerField()


class ExploredSerializer(serializers.Serializer[Any]):
    old = serializers.FloatField(allow_null=True)
    new = serializers.FloatField(allow_null=True)


class ProfileStandingSerializer(serializers.Serializer[Any]):
    profile = serializers.CharField()
    meets = serializers.IntegerField(help_text="Scopes where it is proved to meet the SLA.")
    unproven = serializers.IntegerField()
    fails = serializers.IntegerField()
    cost_unknown = serializers.IntegerField()
    no_data = serializers.IntegerField()
    borrowed = serializers.IntegerField(help_text="Scopes that judge it by the metrics of all tenants.")
    wins_old = serializers.IntegerField()
    wins_new = serializers.IntegerField()


class WhatIfScopeSerializer(serializers.Serializer[Any]):
    tenant = serializers.CharField()
    persona = serializers.CharField()
    flips = serializers.BooleanField()
    old = serializers.DictField(help_text="The winner: profile, reason, cost, success, p95, n, borrowed.")
    new = serializers.DictField()
    change = serializers.DictField()
    sla = serializers.ListField(
        child=serializers.DictField(), allow_null=True, help_text="Clauses not passed."
    )
    completions_per_day = serializers.IntegerField(allow_null=True)
    usd_per_day = UsdSerializer()
    now = serializers.DictField(help_text="What is given with flag, overrides and kill switch as they are.")


class WhatIfAnswerSerializer(serializers.Serializer[Any]):
    bundle_version = serializers.CharField()
    snapshot_id = serializers.CharField(allow_null=True)
    measured_from = serializers.DateTimeField(allow_null=True)
    measured_to = serializers.DateTimeField(allow_null=True)
    scopes_checked = serializers.IntegerField()
    scopes_changed = serializers.IntegerField()
    scopes_flipped = serializers.IntegerField()
    scopes_flipped_now = serializers.IntegerField()
    usd_per_day = TotalUsdSerializer()
    usd_per_day_now = NowUsdSerializer()
    explored_per_day = ExploredSerializer(help_text="Completions that try an unproven profile, now.")
    breaches = OldNewSerializer()
    unproven = OldNewSerializer()
    problems = OldNewSerializer()
    profiles = ProfileStandingSerializer(many=True)
    scopes = WhatIfScopeSerializer(many=True)
    more = serializers.IntegerField()
    unknown = serializers.CharField(allow_null=True, help_text="What cannot be told, and why.")


class WhatIfView(APIView):
    """What it would do to the winners of the caller's scopes. Nothing is changed, and nothing is recorded."""

    verb = "read"

    @extend_schema(
        operation_id="what_if",
        request=WhatIfSerializer,
        responses=WhatIfAnswerSerializer,
        examples=[
            OpenApiExample(
                "Cost counts more, and one profile is gone",
                {
                    "personas": {
                        "essayist": {"weight_cost": "0.7", "weight_success": "0.2", "weight_latency": "0.1"}
                    },
                    "prices": {"gpt-5.4": {"completion_per_1k": "0.012"}},
                    "remove": ["gpt-5.4-mini"],
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        asked = WhatIfSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        fields, now = asked.validated_data, timezone.now()
        tenants = caller(request).tenants
        if (tenant := fields.get("tenant")) is not None:
            tenants = frozenset({visible_tenant(request, tenant).slug})
        hypothesis = hypothesis_of(fields, current_bundle(), load_price_book, now)
        try:
            found = what_if(hypothesis, tenants, now)
        except ValidationError as error:
            told = getattr(error, "message_dict", {"": error.messages})
            raise serializers.ValidationError({"personas": told}) from None
        except NotKnownYet as name:
            told = f"The policy that this process decides by does not know {name} yet."
            raise Problem(404, "not_found", told) from None
        except CannotSay as error:
            raise Problem(503, "clickhouse_unavailable", str(error)) from None
        return Response(tell(found, fields["limit"]))


def hypothesis_of(
    fields: dict[str, Any], bundle: Bundle, load: Callable[[], PriceBook], now: datetime
) -> Hypothesis:
    """Checked members as a hypothesis; ``load`` is asked for prices in force only when there are new ones. Raises
    Problem."""
    personas, prices = fields.get("personas", {}), fields.get("prices", {})
    add, remove = frozenset(fields.get("add", ())), frozenset(fields.get("remove", ()))
    _check(bundle, personas, {*prices, *add, *remove})
    if both := sorted(add & remove):
        raise Problem(400, "invalid", f"add, remove: {both[0]} is in both.")
    book = load() if prices else PriceBook({})
    priced = {slug: _price(slug, told, book.in_force(slug, now)) for slug, told in prices.items()}
    hypothesis = Hypothesis({slug: dict(told) for slug, told in personas.items()}, priced, add, remove)
    if hypothesis.is_empty:
        raise Problem(400, "invalid", "Name at least one change: personas, prices, add or remove.")
    return hypothesis


def _check(bundle: Bundle, personas: dict[str, Any], profiles: set[str]) -> None:
    defaults = {told["default_profile"] for told in personas.values() if "default_profile" in told}
    if unknown := sorted(personas.keys() - bundle.personas.keys()):
        raise Problem(404, "unknown_persona", f"There is no persona '{unknown[0][:80]}'.")
    if unknown := sorted((profiles | defaults) - bundle.profiles.keys()):
        raise Problem(404, "unknown_profile", f"There is no profile '{unknown[0][:80]}'.")
    if len(profiles) > _MOST_NAMED:
        raise Problem(400, "invalid", f"At most {_MOST_NAMED} profiles at once.")


def _price(slug: str, told: dict[str, Any], standing: Price | None) -> Price:
    """The new price; what is not told is as it stands."""
    if not told:
        raise Problem(
            400, "invalid", f"prices: {slug}: name prompt_per_1k, completion_per_1k or cached_per_1k."
        )
    if standing is None and not {"prompt_per_1k", "completion_per_1k"} <= told.keys():
        raise Problem(
            400,
            "invalid",
            f"prices: {slug} has no price in force, so that prompt_per_1k and completion_per_1k are both needed.",
        )
    known = (
        {}
        if standing is None
        else {
            "prompt_per_1k": standing.prompt_per_1k,
            "completion_per_1k": standing.completion_per_1k,
            "cached_per_1k": standing.cached_per_1k,
        }
    )
    return Price(**{"cached_per_1k": None, **known, **told})
