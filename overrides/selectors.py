"""Reads of overrides: what stands, for the policy bundle and for people."""

from datetime import datetime

from django.db.models import Q, QuerySet

from overrides.models import AuditEntry, KillSwitch, Override


def visible(tenants: frozenset[str] | None) -> QuerySet[Override]:
    """The one place that filters overrides by tenant. None: all; else the tenants' own and those of all
    tenants, which concern them too."""
    found = Override.objects.select_related("tenant", "persona", "profile")
    if tenants is None:
        return found
    return found.filter(Q(tenant=None) | Q(tenant__slug__in=tenants))


def standing(now: datetime) -> QuerySet[Override]:
    """Neither revoked nor expired."""
    return visible(None).filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


def audit_entries(tenants: frozenset[str] | None) -> QuerySet[AuditEntry]:
    """Entries that concern these tenants (None: all): their own, and those of all tenants."""
    found = AuditEntry.objects.all()
    return found if tenants is None else found.filter(Q(tenant=None) | Q(tenant__in=tenants))


def killed() -> tuple[bool, frozenset[str]]:
    """Whether the kill switch is on for everybody, and for which tenants."""
    on = KillSwitch.objects.filter(on=True).values_list("tenant__slug", flat=True)
    slugs = set(on)
    return None in slugs, frozenset(slug for slug in slugs if slug is not None)
