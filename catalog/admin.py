"""Admin pages of the catalogue."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from rest_framework_api_key.models import APIKey

from catalog import keys
from catalog.models import ModelProfile, Persona, PriceRevision, ScopeDefault, ServiceKey, Tenant

# The library's own model has no verbs or tenants; ServiceKey takes its place.
admin.site.unregister(APIKey)


class SlugOnce(admin.ModelAdmin[Any]):
    """A slug names history in ClickHouse, so it is set once."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*super().get_readonly_fields(request, obj), *(["slug"] if obj else [])]


class ScopeDefaultInline(admin.TabularInline[ScopeDefault, Any]):
    model = ScopeDefault
    extra = 0
    autocomplete_fields = ["persona", "profile"]
    verbose_name = "default profile of its own"
    verbose_name_plural = "default profiles of its own"


@admin.register(Tenant)
class TenantAdmin(SlugOnce):
    list_display = ["slug", "name", "enabled", "updated_at"]
    list_filter = ["enabled"]
    search_fields = ["slug", "name"]
    inlines = [ScopeDefaultInline]


class PriceRevisionInline(admin.TabularInline[PriceRevision, Any]):
    model = PriceRevision
    extra = 0
    fields = ["valid_from", "prompt_per_1k", "completion_per_1k", "cached_per_1k"]


@admin.register(ModelProfile)
class ModelProfileAdmin(SlugOnce):
    list_display = ["slug", "provider", "model", "tier", "enabled", "prompt_price", "completion_price"]
    list_filter = ["enabled", "tier", "provider"]
    search_fields = ["slug", "name", "model", "provider"]
    inlines = [PriceRevisionInline]
    fieldsets = [
        (None, {"fields": ["slug", "name", "enabled", "tier"]}),
        ("Provider", {"fields": ["provider", "model", "base_url", "context_window"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        newest = PriceRevision.objects.filter(profile=OuterRef("pk")).order_by("-valid_from")
        profiles: QuerySet[Any] = super().get_queryset(request)
        priced: QuerySet[Any] = profiles.annotate(
            newest_prompt=Subquery(newest.values("prompt_per_1k")[:1]),
            newest_completion=Subquery(newest.values("completion_per_1k")[:1]),
        )
        return priced

    @admin.display(description="prompt $/1k", ordering="newest_prompt", empty_value="no price")
    def prompt_price(self, profile: Any) -> Any:
        return _plain(profile.newest_prompt)

    @admin.display(description="completion $/1k", ordering="newest_completion", empty_value="no price")
    def completion_price(self, profile: Any) -> Any:
        return _plain(profile.newest_completion)


def _plain(price: Decimal | None) -> str | None:
    """Without the zeros that the column's scale adds."""
    return None if price is None else format(price.normalize(), "f")


@admin.register(PriceRevision)
class PriceRevisionAdmin(admin.ModelAdmin[PriceRevision]):
    list_display = ["profile", "valid_from", "prompt_per_1k", "completion_per_1k", "cached_per_1k"]
    list_select_related = ["profile"]
    list_filter = ["profile__provider"]
    search_fields = ["profile__slug", "profile__name"]
    autocomplete_fields = ["profile"]
    date_hierarchy = "valid_from"


@admin.register(Persona)
class PersonaAdmin(SlugOnce):
    list_display = [
        "slug",
        "name",
        "enabled",
        "default_profile",
        "min_success_rate",
        "max_latency_p95_ms",
        "max_safety_violation_rate",
    ]
    list_select_related = ["default_profile"]
    list_filter = ["enabled"]
    search_fields = ["slug", "name"]
    autocomplete_fields = ["default_profile"]
    fieldsets = [
        (None, {"fields": ["slug", "name", "enabled", "default_profile"]}),
        (
            "SLA",
            {
                "fields": [
                    "min_success_rate",
                    "max_latency_p95_ms",
                    "max_safety_violation_rate",
                    "min_accuracy",
                    "max_cost_per_completion",
                ]
            },
        ),
        ("Weights", {"fields": [("weight_cost", "weight_success", "weight_latency")]}),
        (
            "Proof and change",
            {"fields": ["confidence", "min_samples", "exploration_share", "holdout_share", "switch_margin"]},
        ),
    ]


@admin.register(ScopeDefault)
class ScopeDefaultAdmin(admin.ModelAdmin[ScopeDefault]):
    list_display = ["tenant", "persona", "profile"]
    list_select_related = ["tenant", "persona", "profile"]
    list_filter = ["persona"]
    search_fields = ["tenant__slug", "persona__slug", "profile__slug"]
    autocomplete_fields = ["tenant", "persona", "profile"]


_TENANTS_SHOWN = 5


class ServiceKeyForm(forms.ModelForm[ServiceKey]):
    verbs = forms.MultipleChoiceField(choices=ServiceKey.Verb, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = ServiceKey
        fields = ["name", "verbs", "all_tenants", "tenants", "expiry_date", "revoked"]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if cleaned and not cleaned.get("all_tenants") and not cleaned.get("tenants"):
            raise forms.ValidationError("Choose tenants, or all tenants: a key without any can do nothing.")
        return cleaned


@admin.register(ServiceKey)
class ServiceKeyAdmin(admin.ModelAdmin[ServiceKey]):
    """The key is shown once, in the message after it is made; only its hash is stored."""

    form = ServiceKeyForm
    list_display = ["prefix", "name", "verb_list", "tenant_list", "created", "expiry_date", "revoked"]
    list_filter = ["revoked", "all_tenants"]
    search_fields = ["prefix", "name"]
    autocomplete_fields = ["tenants"]
    actions = ["rotate", "rotate_at_once", "revoke"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServiceKey]:
        return (
            super().get_queryset(request).prefetch_related(Prefetch("tenants", Tenant.objects.only("slug")))
        )

    def save_model(self, request: HttpRequest, obj: ServiceKey, form: Any, change: bool) -> None:
        if not change:
            key = ServiceKey.objects.assign_key(obj)
            messages.warning(request, f"Copy the key now, it is not shown again: {key}")
        super().save_model(request, obj, form, change)

    @admin.action(description="Rotate: a new key each, the old one ends in 24 hours", permissions=["rotate"])
    def rotate(self, request: HttpRequest, chosen: QuerySet[ServiceKey]) -> None:
        self._rotate(request, chosen, keys.OVERLAP)

    @admin.action(description="Rotate: a new key each, the old one ends now", permissions=["rotate"])
    def rotate_at_once(self, request: HttpRequest, chosen: QuerySet[ServiceKey]) -> None:
        self._rotate(request, chosen, timedelta(0))

    def _rotate(self, request: HttpRequest, chosen: QuerySet[ServiceKey], overlap: timedelta) -> None:
        def rotate(key: ServiceKey) -> str:
            new, secret = keys.rotate(key, timezone.now(), overlap)
            self.log_addition(request, new, f"Rotated from {key.prefix}.")
            return f"{key.name}: copy the new key now, it is not shown again: {secret}"

        self._each(request, chosen, rotate, messages.WARNING)

    @admin.action(description="Revoke: end them for good", permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ServiceKey]) -> None:
        def revoke(key: ServiceKey) -> str:
            keys.revoke(key, timezone.now())
            return f"{key.prefix} ({key.name}) is revoked; every process refuses it within 5 seconds."

        self._each(request, chosen, revoke, messages.SUCCESS)

    def _each(
        self,
        request: HttpRequest,
        chosen: QuerySet[ServiceKey],
        change: Callable[[ServiceKey], str],
        level: int,
    ) -> None:
        """Change each of the keys, audited as a change on its page is: both or neither."""
        for pk in chosen.values_list("pk", flat=True):
            try:
                with transaction.atomic():
                    key = self.get_object(request, pk)
                    if key is None:
                        continue  # deleted a moment ago
                    told = change(key)
                    self.log_change(request, key, told if level == messages.SUCCESS else "Rotated.")
            except keys.KeyEnded as ended:
                messages.error(request, str(ended))
            else:
                messages.add_message(request, level, told)

    def has_rotate_permission(self, request: HttpRequest) -> bool:
        return self.has_add_permission(request) and self.has_change_permission(request)

    @admin.display(description="verbs")
    def verb_list(self, key: ServiceKey) -> str:
        return ", ".join(key.verbs)

    @admin.display(description="tenants")
    def tenant_list(self, key: ServiceKey) -> str:
        if key.all_tenants:
            return "all"
        slugs = [tenant.slug for tenant in key.tenants.all()]
        more = f" and {len(slugs) - _TENANTS_SHOWN} more" if len(slugs) > _TENANTS_SHOWN else ""
        return ", ".join(slugs[:_TENANTS_SHOWN]) + more or "none"
