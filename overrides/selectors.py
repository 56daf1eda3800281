"""Reads of overrides: what stands, for the policy bundle and for people."""

from datetime import datetime

from django.db.models import Q, QuerySet

from catalog.tenancy import within
from overrides.models import AuditEntry, ChangeRequest, KillSwitch, Override


def visible(tenants: frozenset[str] | None) -> QuerySet[Override]:
    """None: all; else the tenants' own and those of all tenants, which concern them too."""
    return within(Override.objects.select_related("tenant", "persona", "profile"), tenants)


def standing(now: datetime, tenants: frozenset[str] | None = None) -> QuerySet[Override]:
    """Neither revoked nor expired; of these tenants (None: all)."""
    return visible(tenants).filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


def audit_entries(tenants: frozenset[str] | None) -> QuerySet[AuditEntry]:
    """Entries that concern these tenants (None: all): their own, and of those of all tenants what names no others."""
    return within(AuditEntry.objects.all(), tenants)


def change_requests(tenants: frozenset[str] | None) -> QuerySet[ChangeRequest]:
    """Change requests that concern these tenants (None: all)."""
    return within(ChangeRequest.objects.prefetch_related("approvals"), tenants)


def killed() -> tuple[bool, frozenset[str]]:
    """Whether the kill switch is on for everybody, and for which tenants."""
    on = KillSwitch.objects.filter(on=True).values_list("tenant__slug", flat=True)
    slugs = set(on)
    return None in slugs, frozenset(slug for slug in slugs if slug is not None)
