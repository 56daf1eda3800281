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

#: How long a killed runner keeps others out.
LASTS = timedelta(seconds=20)


class Held:
    """A lease that was asked for; true if it was won. ``renew`` between steps, or another may take it."""

    def __init__(self, name: str, holder: str, won: bool) -> None:
        self._name = name
        self._holder = holder
        self._won = won

    def __bool__(self) -> bool:
        return self._won

    def renew(self, now: datetime) -> None:
        """Keep it for another LASTS. A step that took longer than that may have been joined by another
        runner: work twice, no harm."""
        Lease.objects.filter(name=self._name, holder=self._holder).update(expires_at=now + LASTS)


@contextmanager
def lease(name: str, now: datetime) -> Iterator[Held]:
    """Yields the lease, won or not; gives it back at the end."""
    holder = uuid.uuid4().hex
    held = Held(name, holder, _take(name, holder, now, LASTS))
    try:
        yield held
    finally:
        if held:
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
