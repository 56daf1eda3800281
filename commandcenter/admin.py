"""Admin pages of people, their roles and their sign-ins."""

from typing import Any

from axes.models import AccessAttempt, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from catalog.lookonly import LookOnly
from catalog.models import TenantGrant
from commandcenter.audited import actor_of
from commandcenter.roles import ROLES
from overrides import audit
from overrides.models import AuditEntry

for known in (User, Group):
    admin.site.unregister(known)


class TenantGrantInline(admin.TabularInline[TenantGrant, Any]):
    model = TenantGrant
    extra = 0
    autocomplete_fields = ["tenant", "group"]
    verbose_name = "role at one tenant"
    verbose_name_plural = "roles at single tenants"


@admin.register(User)
class PeopleAdmin(UserAdmin[User]):
    """Only a superuser makes superusers, or touches one: an admin could otherwise become one."""

    list_display = ["username", "email", "is_staff", "is_active", "is_superuser", "last_login"]
    inlines = [TenantGrantInline]

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return list(self.inlines) if obj else []  # the page of a new person asks for name and password only

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        own = [*super().get_readonly_fields(request, obj)]
        return own if _is_super(request) else [*own, "is_superuser"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        shown, counts, needed, kept = super().get_deleted_objects(objs, request)
        kept = [*kept, *(f"{user}: a superuser" for user in objs if not _may_touch(request, user))]
        # Grants go with the person; there is no page of them to be allowed to.
        return shown, counts, needed - {str(TenantGrant._meta.verbose_name)}, kept


@admin.register(Group)
class RoleAdmin(GroupAdmin):
    """The three roles are what the release says; other groups are one's own."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["name", "permissions"] if obj is not None and obj.name in ROLES else []

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.name not in ROLES)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        shown, counts, needed, kept = super().get_deleted_objects(objs, request)
        kept = [*kept, *(f"{group}: a role of this product" for group in objs if group.name in ROLES)]
        return shown, counts, needed - {str(TenantGrant._meta.verbose_name)}, kept


def _is_super(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


def _may_touch(request: HttpRequest, user: Any) -> bool:
    return user is None or _is_super(request) or not user.is_superuser


@admin.register(AccessAttempt)
class FailedSignInAdmin(LookOnly):
    """Deleting a row takes its failures back, and so ends a lockout; that is audited."""

    list_display = ["attempt_time", "username", "ip_address", "failures_since_start", "user_agent"]
    fields = ["attempt_time", "username", "ip_address", "failures_since_start", "user_agent", "path_info"]
    search_fields = ["=username", "=ip_address"]
    search_help_text = "A name or an address, exactly."

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("axes.delete_accessattempt")

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_queryset(request, AccessAttempt.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset.select_for_update():
                before = {"username": row.username, "ip_address": row.ip_address}
                audit.append(
                    actor_of(request),
                    AuditEntry.Verb.DELETE,
                    "failed_sign_in",
                    str(row.pk),
                    tenant=None,
                    before={**before, "failures": row.failures_since_start},
                    after=None,
                    reason=f"deleted in the admin: failed sign-ins of {row.username}"[:500],
                    at=timezone.now(),
                )
                row.delete()


@admin.register(AccessLog)
class SignInAdmin(LookOnly):
    list_display = ["attempt_time", "logout_time", "username", "ip_address", "user_agent"]
    fields = ["attempt_time", "logout_time", "username", "ip_address", "user_agent", "path_info"]
    search_fields = ["=username", "=ip_address"]
    search_help_text = "A name or an address, exactly."
    date_hierarchy = "attempt_time"
