"""What Celery runs for the Command Center (beat's table is in config.celery)."""

import logging
from importlib import import_module

from axes.models import AccessAttempt, AccessLog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

import config.celery  # noqa: F401  # whose broker they are sent to
from commandcenter import verifying
from commandcenter.lockout import SIGN_INS_KEPT

log = logging.getLogger(__name__)


@shared_task
def prune_sign_ins() -> int:
    """Forget failures that lock nobody any more, and sign-ins of long ago; returns how many."""
    now = timezone.now()
    failed = AccessAttempt.objects.filter(attempt_time__lt=now - settings.AXES_COOLOFF_TIME).delete()
    made = AccessLog.objects.filter(attempt_time__lt=now - SIGN_INS_KEPT).delete()
    return int(failed[0] + made[0])


@shared_task
def clear_sessions() -> None:
    """Delete sessions that ended."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


@shared_task
def verify_audit_log(check_id: str, by: str) -> str:
    """Go over a long audit log, as somebody asked from its page; returns what came of it in a word."""
    now = timezone.now()
    known = verifying.last_check()
    if known is None or known.id != check_id:
        return "superseded"  # somebody began another one meanwhile, or the cache forgot it
    log.info("checking the audit log, as %s asked at %s", by, now.isoformat())
    return verifying.run(known, timezone.now).state
