"""What Celery beat runs for the Command Center (the table is in config.celery)."""

from importlib import import_module

from axes.models import AccessAttempt, AccessLog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from commandcenter.lockout import SIGN_INS_KEPT


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
