"""What Celery beat runs for overrides (the table is in config.celery)."""

from celery import shared_task
from django.utils import timezone

from overrides import idempotency, services


@shared_task
def record_expiries() -> int:
    """Tell the audit log of overrides that ended by the clock. They ended without this."""
    return services.record_expiries(timezone.now())


@shared_task
def prune_idempotency_keys() -> int:
    """Forget keys after a day: who repeats a request that late means a new one."""
    return idempotency.prune(timezone.now())
