"""One runner at a time for tasks that beat starts more often than they may take.

A second runner would do no harm (draining and rolling up are exact either way), only work twice. A
killed runner's lease runs out by itself.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from telemetry.models import Lease


@contextmanager
def lease(name: str, now: datetime, lasts: timedelta) -> Iterator[bool]:
    """Yields whether the lease was won; gives it back at the end."""
    holder = uuid.uuid4().hex
    won = _take(name, holder, now, lasts)
    try:
        yield won
    finally:
        if won:
            Lease.objects.filter(name=name, holder=holder).delete()


def _take(name: str, holder: str, now: datetime, lasts: timedelta) -> bool:
    free = Q(expires_at__lte=now)
    if Lease.objects.filter(free, name=name).update(holder=holder, expires_at=now + lasts):
        return True
    if Lease.objects.filter(name=name).exists():
        return False
    try:
        with transaction.atomic():
            Lease.objects.create(name=name, holder=holder, expires_at=now + lasts)
    except IntegrityError:
        return False
    return True
