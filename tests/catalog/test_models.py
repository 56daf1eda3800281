"""What the catalogue refuses, in the model (with a sentence) and in the database (whatever the path)."""

from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from catalog.models import ModelProfile, Persona, PriceRevision, ScopeDefault, ServiceKey, Tenant
from tests import factories

pytestmark = pytest.mark.django_db


def test_a_complete_catalogue_is_valid() -> None:
    factories.scope()
    factories.price(factories.profile())
    for model in (Tenant, Persona, ModelProfile, PriceRevision):
        for row in model.objects.all():
            row.full_clean()


@pytest.mark.parametrize("slug", ["", "Aurora", "-a", "a b", "a\n", "a/b", "ä", "a" * 64])
def test_a_slug_that_events_could_not_carry_is_refused(slug: str) -> None:
    with pytest.raises(ValidationError, match="slug"):
        Tenant(slug=slug, name="x").full_clean()


BAD_PERSONAS: list[dict[str, Any]] = [
    {"min_success_rate": Decimal("1.1")},
    {"min_success_rate": Decimal("-0.1")},
    {"max_safety_violation_rate": Decimal("1.1")},
    {"min_accuracy": Decimal("2")},
    {"weight_cost": Decimal("0.6")},
    {"weight_cost": Decimal("0.5001")},
    {"weight_cost": Decimal("-0.5"), "weight_success": Decimal("1.3")},
    {"confidence": Decimal("0.4")},
    {"confidence": Decimal("1")},
    {"min_samples": 0},
    {"max_latency_p95_ms": 0},
    {"max_latency_p95_ms": 3_600_001},
    {"max_cost_per_completion": Decimal("0")},
    {"exploration_share": Decimal("1.5")},
    {"holdout_share": Decimal("-0.1")},
    {"switch_margin": Decimal("1.01")},
]


@pytest.mark.parametrize("fields", BAD_PERSONAS, ids=str)
def test_a_persona_out_of_bounds_is_refused_by_model_and_database(fields: dict[str, Any]) -> None:
    persona = factories.persona()
    for name, value in fields.items():
        setattr(persona, name, value)
    with pytest.raises(ValidationError):
        persona.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        Persona.objects.filter(pk=persona.pk).update(**fields)


@pytest.mark.parametrize("weights", [("0.1", "0.2", "0.7"), ("1", "0", "0"), ("0.3333", "0.3333", "0.3334")])
def test_weights_that_sum_to_one_in_decimals_are_taken(weights: tuple[str, str, str]) -> None:
    persona = factories.persona()
    persona.weight_cost, persona.weight_success, persona.weight_latency = map(Decimal, weights)
    persona.full_clean()
    persona.save()


def test_weights_that_do_not_sum_to_one_are_told_what_they_sum_to() -> None:
    persona = factories.persona()
    persona.weight_cost = Decimal("0.7")
    with pytest.raises(ValidationError, match=r"sum to 1\.2"):
        persona.full_clean()


def test_a_profile_that_is_a_default_cannot_be_disabled() -> None:
    persona = factories.persona()
    profile = persona.default_profile
    profile.enabled = False
    with pytest.raises(ValidationError, match="default of persona essayist"):
        profile.full_clean()
    ScopeDefault.objects.create(
        tenant=factories.tenant(), persona=persona, profile=factories.profile("haiku")
    )
    haiku = factories.profile("haiku")
    haiku.enabled = False
    with pytest.raises(ValidationError, match="aurora x essayist"):
        haiku.full_clean()


def test_a_disabled_profile_cannot_become_a_default() -> None:
    off = factories.profile("off", enabled=False)
    persona = factories.persona()
    persona.default_profile = off
    with pytest.raises(ValidationError, match="disabled"):
        persona.full_clean()
    with pytest.raises(ValidationError, match="disabled"):
        ScopeDefault(tenant=factories.tenant(), persona=persona, profile=off).full_clean()


def test_a_tenant_has_at_most_one_default_of_its_own_per_persona() -> None:
    scope = {"tenant": factories.tenant(), "persona": factories.persona()}
    ScopeDefault.objects.create(**scope, profile=factories.profile())
    with pytest.raises(IntegrityError), transaction.atomic():
        ScopeDefault.objects.create(**scope, profile=factories.profile("haiku"))


@pytest.mark.parametrize("field", ["prompt_per_1k", "completion_per_1k", "cached_per_1k"])
def test_a_price_is_never_negative(field: str) -> None:
    price = factories.price(factories.profile())
    setattr(price, field, Decimal("-0.001"))
    with pytest.raises(ValidationError, match=field):
        price.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        price.save()


def test_a_profile_has_one_price_at_a_time() -> None:
    factories.price(factories.profile())
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.price(factories.profile())


@pytest.mark.parametrize(
    "fields", [{"base_url": "ftp://x"}, {"tier": "huge"}, {"context_window": 0}], ids=str
)
def test_a_profile_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    profile = factories.profile()
    for name, value in fields.items():
        setattr(profile, name, value)
    with pytest.raises(ValidationError):
        profile.full_clean()


@pytest.mark.parametrize("verbs", [[], ["fly"], "select", None])
def test_a_key_needs_known_verbs(verbs: object) -> None:
    with pytest.raises(ValidationError, match="verbs"):
        ServiceKey(name="x", verbs=verbs).full_clean(exclude=["id", "prefix", "hashed_key"])
