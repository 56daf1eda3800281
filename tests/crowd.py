"""Very many tenants and overrides, made in bulk."""

from datetime import timedelta

from django.utils import timezone

from catalog.models import Tenant
from overrides.models import Override
from tests import factories

PERSONAS = 3
PROFILES = 20
_KINDS = ("prefer", "exclude", "lock")


def crowd(overrides: int, tenants: int = 5_000) -> None:
    """``overrides`` that stand, spread evenly over ``tenants`` ("tenant-0", ...) and PERSONAS personas ("persona-0",
    ...), each scope's with tasks of their own; every second one expires tomorrow. Adds to what is there."""
    profiles = [factories.profile(f"profile-{number}") for number in range(PROFILES)]
    personas = [factories.persona(f"persona-{n}", default_profile=profiles[0]) for n in range(PERSONAS)]
    # Of whatever tenants there are besides, none is one of these.
    ours = Tenant.objects.filter(slug__startswith="tenant-")
    Tenant.objects.bulk_create(
        [Tenant(slug=f"tenant-{n}", name=f"Tenant {n}") for n in range(ours.count(), tenants)],
        batch_size=5_000,
    )
    rows = list(ours)
    now = timezone.now()
    Override.objects.bulk_create(
        [
            Override(
                kind=_KINDS[n % len(_KINDS)],
                tenant=rows[n % tenants],
                persona=personas[n // tenants % PERSONAS],
                task=f"task-{n // tenants // PERSONAS}",
                profile=profiles[n % PROFILES],
                reason="one of very many",
                created_by="user:crowd",
                created_at=now,
                expires_at=now + timedelta(days=1) if n % 2 else None,
            )
            for n in range(overrides)
        ],
        batch_size=5_000,
    )
