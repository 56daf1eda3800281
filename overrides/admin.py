"""Admin page of feature flags. Waffle registers none for a custom flag model."""

from typing import Any

from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest
from waffle.models import Sample, Switch

from overrides.models import Flag, FlagTenant

# Only flags are used here; a switch or sample page would promise what nothing reads.
for unused in (Sample, Switch):
    if admin.site.is_registered(unused):
        admin.site.unregister(unused)


class FlagTenantInline(admin.TabularInline[FlagTenant, Any]):
    model = FlagTenant
    extra = 0
    autocomplete_fields = ["tenant"]


@admin.register(Flag)
class FlagAdmin(admin.ModelAdmin[Flag]):
    list_display = ["name", "everyone", "rollout_percent", "tenant_rows", "note", "modified"]
    search_fields = ["name", "note"]
    fields = ["name", "everyone", "rollout_percent", "note"]
    inlines = [FlagTenantInline]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(tenant_count=Count("tenant_rollouts"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["name"] if obj else []

    @admin.display(description="tenants with their own share", ordering="tenant_count")
    def tenant_rows(self, flag: Any) -> int:
        return int(flag.tenant_count)
