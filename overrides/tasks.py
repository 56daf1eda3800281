"""What Celery beat runs for overrides (the table is in config.celery)."""

import logging

from celery import shared_task
from django.utils import timezone

import config.celery  # noqa: F401  # whose broker they are sent to
from overrides import checkpoints, idempotency, services

log = logging.getLogger(__name__)


@shared_task
def record_expiries() -> int:
    """Tell the audit log of overrides that ended by the clock. They ended without this."""
    return services.record_expiries(timezone.now())


@shared_task
def prune_idempotency_keys() -> int:
    """Forget keys after a day: who repeats a request that late means a new one."""
    return idempotency.prune(timezone.now())


@shared_task
def write_audit_checkpoint() -> int:
    """Sign what was added to the audit log since the last checkpoint; returns the last entry's number, 0: nothing
    was. What goes wrong is told every time until it is mended: the task is run again anyway."""
    try:
        made = checkpoints.write(timezone.now())
    except checkpoints.Misfit as misfit:
        log.error("THE AUDIT LOG WAS TAMPERED WITH, no checkpoint is signed: %s", misfit)
    except OSError as error:
        log.error("no audit checkpoint: %s: %s", checkpoints.checkpoint_file(), error.strerror)
    else:
        return made.seq if made else 0
    return 0
