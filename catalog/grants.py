"""What people may do, and for which tenants.

A permission that somebody holds the ordinary way (by group, or directly) holds for all tenants. A ``TenantGrant``
gives the permissions of a group for one tenant only: operator at one, viewer at another.
"""

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import Group
from django.db import models

from catalog.tenancy import Tenants, tenancy_of


class TenantGrant(models.Model):
    """A group's permissions for one person at one tenant."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tenant_grants")
    group = models.ForeignKey(
        Group, on_delete=models.CASCADE, related_name="tenant_grants", verbose_name="role"
    )
    tenant = models.ForeignKey("catalog.Tenant", on_delete=models.CASCADE, related_name="grants")

    class Meta:
        ordering = ["tenant__slug", "group__name"]
        constraints = [
            models.UniqueConstraint(fields=["user", "group", "tenant"], name="grant_once_per_tenant")
        ]

    def __str__(self) -> str:
        return f"{self.group.name} at {self.tenant}"


def granted(user: Any) -> Mapping[str, frozenset[str]]:
    """Permission (``app.codename``) to the tenants that it is granted for. One query, kept on the user for the
    request, as Django keeps permissions."""
    if not user.is_active or user.is_anonymous:
        return {}
    kept: Mapping[str, frozenset[str]] | None = getattr(user, "_granted", None)
    if kept is None:
        kept = user._granted = _read(user)
    return kept


def _read(user: Any) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    rows = TenantGrant.objects.filter(user=user).values_list(
        "tenant__slug",
        "group__permissions__content_type__app_label",
        "group__permissions__content_type__model",
        "group__permissions__codename",
    )
    for tenant, app, model, codename in rows:
        if codename is not None and _grantable(app, model, codename):
            found.setdefault(f"{app}.{codename}", set()).add(tenant)
    return {permission: frozenset(tenants) for permission, tenants in found.items()}


def _grantable(app: str, model: str, codename: str) -> bool:
    """Whether a permission makes sense for one tenant: what is everybody's can be looked at, and what belongs to
    no tenant takes a permission that holds for all."""
    try:
        tenancy = tenancy_of(apps.get_model(app, model))
    except LookupError:
        return False  # of an app that was there once
    if tenancy is None:
        return False
    return tenancy.path is not None or codename.startswith("view_")


def reach(user: Any, permission: str) -> Tenants:
    """The tenants that somebody holds a permission for. None: all; empty: it is not held."""
    if user.is_active and user.is_superuser:
        return None
    if ModelBackend().has_perm(user, permission):
        return None
    return granted(user).get(permission, frozenset())


class GrantBackend(BaseBackend):
    """Lets ``user.has_perm`` know of grants: true when a permission is held for any tenant. Which rows it holds for
    is the pages' to ask (``reach``)."""

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        return set() if obj is not None else set(granted(user_obj))

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return perm in self.get_all_permissions(user_obj, obj)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        return any(perm.startswith(f"{app_label}.") for perm in granted(user_obj))
