"""What exists: tenants, personas with their SLA and weights, model profiles, prices, service keys."""

from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, URLValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.lookups import GreaterThan, LessThan
from rest_framework_api_key.models import AbstractAPIKey, APIKeyManager

from catalog.grants import TenantGrant
from catalog.slugs import MAX_LENGTH, validate_slug
from catalog.tenancy import EVERYBODYS, Tenancy
from catalog.versions import PolicyModel, PolicyVersion

__all__ = [
    "ModelProfile",
    "Persona",
    "PolicyVersion",
    "PriceRevision",
    "ScopeDefault",
    "ServiceKey",
    "Tenant",
    "TenantGrant",
]

_SHARE = [MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(1))]
_WEIGHT_TOLERANCE = Decimal("0.0005")


def _share_field(help_text: str, **kwargs: Any) -> models.DecimalField[Decimal, Decimal]:
    return models.DecimalField(
        max_digits=5, decimal_places=4, validators=_SHARE, help_text=help_text, **kwargs
    )


def _within_unit(field: str) -> Q:
    # Null passes a check constraint in SQL, so optional fields need no exception here.
    return Q(**{f"{field}__gte": 0, f"{field}__lte": 1})


def _four_eyes(whose: str) -> models.BooleanField[bool, bool]:
    return models.BooleanField(
        "four eyes",
        default=False,
        help_text=f"Changes {whose} (overrides, settings, flags) wait for a second person's approval.",
    )


class Slugged(PolicyModel):
    """A named thing that can be switched off without deleting its history."""

    slug = models.CharField(
        max_length=MAX_LENGTH,
        unique=True,
        validators=[validate_slug],
        help_text="Its name in the API, events and URLs. Set once: it names history.",
    )
    name = models.CharField(max_length=120, help_text="What people read.")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Tenant(Slugged):
    """An organisation or product whose conversations are routed apart from others'."""

    tenancy = Tenancy("slug")

    four_eyes = _four_eyes("of this tenant")


class ModelProfile(Slugged):
    """A model at a provider. A profile is what a decision gives."""

    tenancy = EVERYBODYS

    class Tier(models.TextChoices):
        LLM = "llm", "LLM"
        SLM = "slm", "SLM"
        MICRO = "micro", "micro"

    provider = models.CharField(max_length=60, help_text="For example openai, anthropic, google.")
    model = models.CharField(max_length=120, help_text="The model's name as the provider's API takes it.")
    base_url = models.CharField(
        max_length=300,
        validators=[URLValidator(schemes=["http", "https"])],
        help_text="The provider's OpenAI-compatible endpoint.",
    )
    tier = models.CharField(max_length=5, choices=Tier, default=Tier.LLM)
    context_window = models.PositiveIntegerField(
        validators=[MinValueValidator(1)], help_text="Tokens, prompt and completion together."
    )

    class Meta(Slugged.Meta):
        verbose_name = "model profile"
        constraints = [
            models.CheckConstraint(condition=Q(tier__in=["llm", "slm", "micro"]), name="profile_tier_known"),
            models.CheckConstraint(
                condition=Q(context_window__gte=1), name="profile_context_window_positive"
            ),
        ]

    def clean(self) -> None:
        super().clean()
        if self.enabled or self.pk is None:
            return
        users = [f"persona {slug}" for slug in self.default_of.values_list("slug", flat=True)]
        users += [f"{default}" for default in self.scope_default_of.select_related("tenant", "persona")]
        if users:
            raise ValidationError(
                {"enabled": f"This profile is the default of {', '.join(users)}: replace it there first."}
            )


class Persona(Slugged):
    """A kind of conversation with its SLA, scoring weights and default profile, shared by all tenants."""

    tenancy = EVERYBODYS

    default_profile = models.ForeignKey(
        ModelProfile,
        on_delete=models.PROTECT,
        related_name="default_of",
        help_text="The incumbent: used when nothing else may be, and the yardstick of cost.",
    )
    min_success_rate = _share_field("SLA: the least share of completions that succeed, 0 to 1.")
    max_latency_p95_ms = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(3_600_000)],
        help_text="SLA: at most 5% of completions may take longer, in milliseconds.",
    )
    max_safety_violation_rate = _share_field(
        "SLA: the largest share of completions that violate safety, 0 to 1."
    )
    min_accuracy = _share_field("SLA: the least mean grader score, 0 to 1.", null=True, blank=True)
    max_cost_per_completion = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal("0.000001"))],
        help_text="US dollars; the yardstick of the cost term. Empty: the incumbent's own cost is.",
    )
    weight_cost = _share_field("The three weights sum to 1.", default=Decimal("0.5"))
    weight_success = _share_field("", default=Decimal("0.3"))
    weight_latency = _share_field("", default=Decimal("0.2"))
    confidence = models.DecimalField(
        max_digits=5,
        decimal_places=4,
        default=Decimal("0.9"),
        validators=[MinValueValidator(Decimal("0.5")), MaxValueValidator(Decimal("0.9999"))],
        help_text="Of the one-sided bounds that the SLA is judged by, 0.5 to 0.9999.",
    )
    min_samples = models.PositiveIntegerField(
        default=30,
        validators=[MinValueValidator(1)],
        help_text="With fewer completions a profile is unproven, whatever its figures.",
    )
    exploration_share = _share_field(
        "Share of conversations that may try an unproven profile.", default=Decimal("0.02")
    )
    holdout_share = _share_field(
        "Share of conversations kept on the default, to measure savings.", default=Decimal("0.02")
    )
    switch_margin = _share_field(
        "A running conversation keeps its profile while it is less than this behind the best.",
        default=Decimal("0.05"),
    )
    four_eyes = _four_eyes("of this persona")

    class Meta(Slugged.Meta):
        constraints = [
            *(
                models.CheckConstraint(condition=_within_unit(field), name=f"persona_{field}_share")
                for field in (
                    "min_success_rate",
                    "max_safety_violation_rate",
                    "min_accuracy",
                    "weight_cost",
                    "weight_success",
                    "weight_latency",
                    "exploration_share",
                    "holdout_share",
                    "switch_margin",
                )
            ),
            models.CheckConstraint(
                condition=Q(confidence__gte=Decimal("0.5"), confidence__lte=Decimal("0.9999")),
                name="persona_confidence_range",
            ),
            models.CheckConstraint(condition=Q(min_samples__gte=1), name="persona_min_samples_positive"),
            models.CheckConstraint(
                condition=Q(max_latency_p95_ms__gte=1, max_latency_p95_ms__lte=3_600_000),
                name="persona_max_latency_p95_range",
            ),
            models.CheckConstraint(
                condition=Q(max_cost_per_completion__gt=0), name="persona_max_cost_per_completion_positive"
            ),
            # SQLite adds decimals as floats, hence a tolerance far below the smallest step.
            models.CheckConstraint(
                condition=Q(
                    GreaterThan(
                        F("weight_cost") + F("weight_success") + F("weight_latency"),
                        Decimal(1) - _WEIGHT_TOLERANCE / 10,
                    )
                )
                & Q(
                    LessThan(
                        F("weight_cost") + F("weight_success") + F("weight_latency"),
                        Decimal(1) + _WEIGHT_TOLERANCE / 10,
                    )
                ),
                name="persona_weights_sum_to_one",
                violation_error_message="The three weights must sum to 1.",
            ),
        ]

    def clean(self) -> None:
        super().clean()
        weights = (self.weight_cost, self.weight_success, self.weight_latency)
        if None not in weights and sum(weights) != 1:
            raise ValidationError(
                {"weight_cost": f"The three weights must sum to 1; these sum to {sum(weights)}."}
            )
        _refuse_disabled_default(self, "default_profile")


class ScopeDefault(PolicyModel):
    """A tenant's own default profile for a persona, in place of the persona's."""

    tenancy = Tenancy("tenant__slug")

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="scope_defaults")
    persona = models.ForeignKey(Persona, on_delete=models.CASCADE, related_name="scope_defaults")
    profile = models.ForeignKey(ModelProfile, on_delete=models.PROTECT, related_name="scope_default_of")

    class Meta:
        ordering = ["tenant__slug", "persona__slug"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "persona"], name="scope_default_once_per_scope")
        ]

    def __str__(self) -> str:
        return f"{self.tenant} x {self.persona}"

    def clean(self) -> None:
        super().clean()
        _refuse_disabled_default(self, "profile")


def _refuse_disabled_default(instance: models.Model, field: str) -> None:
    profile: ModelProfile | None = getattr(instance, field) if getattr(instance, f"{field}_id") else None
    if profile is not None and not profile.enabled:
        raise ValidationError({field: f"The profile {profile} is disabled: a default must be usable."})


class PriceRevision(PolicyModel):
    """What a profile costs from a time on, until its next revision. Past revisions price past events."""

    tenancy = EVERYBODYS

    profile = models.ForeignKey(ModelProfile, on_delete=models.CASCADE, related_name="prices")
    valid_from = models.DateTimeField(help_text="UTC.")
    prompt_per_1k = models.DecimalField(
        max_digits=14, decimal_places=9, validators=[MinValueValidator(Decimal(0))], help_text="US dollars."
    )
    completion_per_1k = models.DecimalField(
        max_digits=14, decimal_places=9, validators=[MinValueValidator(Decimal(0))], help_text="US dollars."
    )
    cached_per_1k = models.DecimalField(
        max_digits=14,
        decimal_places=9,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text="US dollars per 1,000 prompt tokens read from cache. Empty: as prompt tokens.",
    )

    class Meta:
        ordering = ["profile__slug", "-valid_from"]
        constraints = [
            models.UniqueConstraint(fields=["profile", "valid_from"], name="price_once_per_time"),
            models.CheckConstraint(
                condition=Q(prompt_per_1k__gte=0, completion_per_1k__gte=0)
                & (Q(cached_per_1k__gte=0) | Q(cached_per_1k=None)),
                name="price_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.profile} from {self.valid_from:%Y-%m-%d %H:%M} UTC"


class ServiceKeyManager(APIKeyManager):
    """Makes keys whose id is their prefix: the library's own has the hash in it, and ids stand in addresses."""

    def assign_key(self, obj: Any) -> str:
        key: str = super().assign_key(obj)
        obj.id = obj.prefix
        return key


class ServiceKey(AbstractAPIKey):
    """A machine's key: hashed, bound to verbs and tenants. The key itself is shown once, when made."""

    objects: ClassVar[ServiceKeyManager] = ServiceKeyManager()

    class Verb(models.TextChoices):
        SELECT = "select", "select: ask for a profile"
        INGEST = "ingest", "ingest: report completions"
        READ = "read", "read: metrics, rankings, freshness"
        OVERRIDE = "override", "override: change overrides and the kill switch"
        NO_EXPIRY = "no_expiry", "no_expiry: make overrides that never expire"
        GLOBAL_SCOPE = "global_scope", "global_scope: make changes for all tenants at once"
        PERSONAS = "personas", "personas: change SLA and weights"
        FLAGS = "flags", "flags: flip flags"

    verbs = models.JSONField(default=list, help_text="What the key may do.")
    all_tenants = models.BooleanField(default=False, help_text="For the operator's own services only.")
    tenants = models.ManyToManyField(Tenant, blank=True, related_name="service_keys")

    class Meta(AbstractAPIKey.Meta):
        verbose_name = "service key"
        verbose_name_plural = "service keys"

    def clean(self) -> None:
        super().clean()
        known = set(self.Verb.values)
        if not isinstance(self.verbs, list) or not self.verbs or not set(self.verbs) <= known:
            raise ValidationError({"verbs": f"Choose at least one of {', '.join(sorted(known))}."})
