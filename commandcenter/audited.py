"""Changes made in the admin's own pages, audited in the transaction that makes them, bulk deletions included.

``AdminSite.register`` mixes this in, so that no page of these models can forget it.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.http import HttpRequest
from django.utils import timezone

from catalog.models import ModelProfile, Persona, PriceRevision, ScopeDefault, ServiceKey, Tenant
from overrides import audit
from overrides.audit import Actor
from overrides.models import AuditEntry, Flag
from routing.models import Webhook

#: What is told of each model: its own fields, and lists of what hangs on it. Never hashes or secrets.
_HIDDEN = {
    "id",
    "password",
    "hashed_key",
    "secret",
    "last_login",
    "created_at",
    "updated_at",
    "modified",
    "created",
}


def _profile_prices(profile: Any) -> Any:
    rows = PriceRevision.objects.filter(profile=profile).order_by("valid_from")
    return [_fields(row) for row in rows]


def _tenant_defaults(tenant: Any) -> Any:
    return [_fields(row) for row in ScopeDefault.objects.filter(tenant=tenant).order_by("pk")]


def _flag_tenants(flag: Any) -> Any:
    rows = flag.tenant_rollouts.values_list("tenant__slug", "rollout_percent")
    return {slug: _plain(percent) for slug, percent in rows}


def _slugs(of: str) -> Callable[[Any], Any]:
    return lambda row: sorted(getattr(row, of).values_list("slug", flat=True))


def _user_rights(user: Any) -> Any:
    return {
        "groups": sorted(user.groups.values_list("name", flat=True)),
        "permissions": sorted(user.user_permissions.values_list("codename", flat=True)),
    }


def _group_rights(group: Any) -> Any:
    return sorted(group.permissions.values_list("codename", flat=True))


AUDITED: dict[type[models.Model], dict[str, Callable[[Any], Any]]] = {
    Tenant: {"defaults": _tenant_defaults},
    Persona: {},
    ModelProfile: {"prices": _profile_prices},
    PriceRevision: {},
    ScopeDefault: {},
    ServiceKey: {"tenants": _slugs("tenants")},
    Flag: {"tenants": _flag_tenants},
    Webhook: {},
    User: {"rights": _user_rights},
    Group: {"permissions": _group_rights},
}


def describe(row: models.Model) -> dict[str, Any]:
    """JSON values: the row's fields by name, related rows by their names, and what hangs on it."""
    return _fields(row) | {name: of(row) for name, of in AUDITED[type(row)].items()}


def _fields(row: models.Model) -> dict[str, Any]:
    return {
        field.name: _plain(getattr(row, field.name))
        for field in row._meta.concrete_fields
        if field.name not in _HIDDEN
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, models.Model) else value


def _stored(row: models.Model) -> dict[str, Any]:
    """As the database has it now: a form leaves values of other types on the row."""
    return describe(type(row)._default_manager.get(pk=row.pk))


def _tenant_of(row: models.Model) -> str | None:
    if isinstance(row, Tenant):
        return row.slug
    tenant = getattr(row, "tenant", None)
    return tenant.slug if isinstance(tenant, Tenant) else None


def actor_of(request: HttpRequest) -> Actor:
    user: Any = request.user
    role = "admin" if user.is_superuser else "operator"
    return Actor.asking(f"user:{user.get_username()}", role, request)


class Audited(admin.ModelAdmin[Any]):
    """Tells the audit log what its pages change: the state before is read when the page's object is."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None and request.method == "POST":
            row._audit_before = describe(row)
        return row

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._tell(request, AuditEntry.Verb.CREATE, obj, None, _stored(obj), "made")
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        before, after = getattr(obj, "_audit_before", None), _stored(obj)
        # A password's change shows in no field, and is told nevertheless.
        if before != after or message:
            self._tell(request, AuditEntry.Verb.UPDATE, obj, before, after, "changed")
        return super().log_change(request, obj, message)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self._delete(request, [obj], lambda: super(Audited, self).delete_model(request, obj))

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        self._delete(request, queryset, lambda: super(Audited, self).delete_queryset(request, queryset))

    def _delete(self, request: HttpRequest, rows: Iterable[Any], delete: Callable[[], None]) -> None:
        with transaction.atomic():
            for row in rows:
                self._tell(request, AuditEntry.Verb.DELETE, row, describe(row), None, "deleted")
            delete()

    def _tell(
        self,
        request: HttpRequest,
        verb: AuditEntry.Verb,
        row: Any,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
        what: str,
    ) -> None:
        audit.append(
            actor_of(request),
            verb,
            row._meta.model_name,
            str(getattr(row, "prefix", row.pk)),
            tenant=_tenant_of(row),
            before=before,
            after=after,
            reason=f"{what} in the admin: {row}"[:500],
            at=timezone.now(),
        )
