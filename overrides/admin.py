"""Admin page of feature flags. Waffle registers none for a custom flag model."""

from typing import Any

from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest
from waffle.models import Sample, Switch

from catalog.lookonly import LookOnly
from overrides.models import AuditEntry, ChangeRequest, Flag, FlagScope, FlagTenant, KillSwitch, Override

# Only flags are used here; a switch or sample page would promise what nothing reads.
for unused in (Sample, Switch):
    if admin.site.is_registered(unused):
        admin.site.unregister(unused)


class FlagTenantInline(admin.TabularInline[FlagTenant, Any]):
    model = FlagTenant
    extra = 0
    autocomplete_fields = ["tenant"]


class FlagScopeInline(admin.TabularInline[FlagScope, Any]):
    model = FlagScope
    extra = 0
    autocomplete_fields = ["tenant", "persona"]


@admin.register(Flag)
class FlagAdmin(admin.ModelAdmin[Flag]):
    list_display = ["name", "everyone", "rollout_percent", "tenant_rows", "note", "modified"]
    search_fields = ["name", "note"]
    fields = ["name", "everyone", "rollout_percent", "note"]
    inlines = [FlagTenantInline, FlagScopeInline]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(tenant_count=Count("tenant_rollouts"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # nothing reads a flag that nobody knows

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # off is a setting, not an absence

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["name"]

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name == "everyone":
            field.widget.choices = [
                ("unknown", "By the percentages below"),
                ("true", "Yes, for everybody"),
                ("false", "No, for nobody"),
            ]
        return field

    @admin.display(description="tenants with their own share", ordering="tenant_count")
    def tenant_rows(self, flag: Any) -> int:
        return int(flag.tenant_count)


# Changed through the settings service only, which audits; here to look.
@admin.register(Override)
class OverrideAdmin(LookOnly):
    list_display = [
        "id",
        "kind",
        "profile",
        "tenant",
        "persona",
        "task",
        "expires_at",
        "revoked_at",
        "created_by",
    ]
    # Tenants are searched for: a filter would list every one of them beside each page.
    list_filter = ["kind", "persona", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["profile", "tenant", "persona"]
    search_fields = ["=tenant__slug", "=profile__slug", "=created_by", "reason"]
    search_help_text = "A tenant, a profile or an actor, exactly; or words of the reason."
    show_full_result_count = False


@admin.register(KillSwitch)
class KillSwitchAdmin(LookOnly):
    list_display = ["tenant", "on", "changed_by", "changed_at", "reason"]
    list_select_related = ["tenant"]


@admin.register(ChangeRequest)
class ChangeRequestAdmin(LookOnly):
    list_display = ["id", "kind", "target", "tenant", "state", "requested_by", "requested_at", "reason"]
    list_filter = ["state", "kind"]
    search_fields = ["=tenant", "=requested_by"]
    search_help_text = "A tenant or who asked, exactly."


@admin.register(AuditEntry)
class AuditEntryAdmin(LookOnly):
    list_display = ["seq", "at", "actor", "verb", "object_type", "object_id", "tenant", "reason"]
    list_filter = ["verb", "object_type", "role"]
    search_fields = ["=actor", "=tenant", "=object_id"]
    search_help_text = "An actor, a tenant or an object's id, exactly."
    date_hierarchy = "at"
