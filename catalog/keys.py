"""Service keys that end and are followed by others. Callers audit what these do, in the same transaction."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from catalog.models import ServiceKey

#: How long the old key goes on beside the new one, unless told otherwise.
OVERLAP = timedelta(hours=24)
#: As long as anybody should need to give a new key to every service.
LONGEST_OVERLAP = timedelta(days=90)


class KeyEnded(Exception):
    """The key is revoked or has expired already: there is nothing to rotate or revoke."""


def rotate(key: ServiceKey, now: datetime, overlap: timedelta = OVERLAP) -> tuple[ServiceKey, str]:
    """Make a key of the same name, verbs and tenants, and let the old one end after ``overlap`` (zero: at once), or
    when it would have ended anyway. Returns the new key and its plain text, which is nowhere else. The new one
    expires as long after ``now`` as the old one was made for; None: never. Raises KeyEnded, ValueError."""
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise ValueError(f"The overlap is from 0 to {LONGEST_OVERLAP.days} days.")
    with transaction.atomic():
        old = _locked(key, now)
        lifetime = old.expiry_date - old.created if old.expiry_date else None
        new: Any
        new, secret = ServiceKey.objects.create_key(
            name=old.name,
            verbs=list(old.verbs),
            all_tenants=old.all_tenants,
            expiry_date=now + lifetime if lifetime else None,
        )
        new.tenants.set(old.tenants.all())
        end = now + overlap
        old.expiry_date = min(end, old.expiry_date) if old.expiry_date else end
        old.save(update_fields=["expiry_date"])
    key.expiry_date = old.expiry_date
    return new, secret


def revoke(key: ServiceKey, now: datetime) -> None:
    """End a key for good. Every process refuses it within SERVICE_KEY_CACHE_SECONDS. Raises KeyEnded."""
    with transaction.atomic():
        row = _locked(key, now)
        row.revoked = True
        row.save(update_fields=["revoked"])
    key.revoked = True


def has_ended(key: ServiceKey, now: datetime) -> bool:
    """Whether a key is revoked or has expired."""
    return key.revoked or (key.expiry_date is not None and key.expiry_date <= now)


def _locked(key: ServiceKey, now: datetime) -> Any:
    """The key as it is, while nobody else changes it."""
    row: Any = ServiceKey.objects.select_for_update(of=("self",)).get(pk=key.pk)
    if has_ended(row, now):
        raise KeyEnded(f"The key {row.prefix} ({row.name}) is revoked or has expired.")
    return row
