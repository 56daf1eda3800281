"""``Idempotency-Key``: the same request sent again changes nothing, and gets the first answer."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import IntegrityError, transaction

from catalog.problems import Problem
from overrides.models import IdempotencyKey

KEPT = timedelta(days=1)

Answer = tuple[int, dict[str, Any]]


def fingerprint(*parts: Any) -> str:
    """SHA-256 of JSON values: what makes two requests the same one."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def once(caller: str, key: str | None, print_: str, now: datetime, act: Callable[[], Answer]) -> Answer:
    """``act``'s (status, body), or the ones that the key got before. The key is stored in the transaction of
    the change: of many at once one acts, and a failed one leaves nothing. Raises Problem 409 for a key that
    was used for something else, and what ``act`` raises."""
    if key is None:
        return act()
    if not 1 <= len(key) <= 100 or not key.isprintable():
        raise Problem(400, "invalid", "Idempotency-Key: 1 to 100 printable characters.")
    if known := _known(caller, key, print_):
        return known
    try:
        with transaction.atomic():
            status, body = act()
            IdempotencyKey.objects.create(
                caller=caller, key=key, fingerprint=print_, status=status, body=_text(body), created_at=now
            )
            return status, body
    except IntegrityError:
        if known := _known(caller, key, print_):
            return known
        raise


def _text(body: dict[str, Any]) -> str:
    return orjson.dumps(body).decode()


def _known(caller: str, key: str, print_: str) -> Answer | None:
    row = IdempotencyKey.objects.filter(caller=caller, key=key).first()
    if row is None:
        return None
    if row.fingerprint != print_:
        raise Problem(409, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
    return row.status, orjson.loads(row.body)


def prune(now: datetime) -> int:
    """Delete keys older than KEPT; returns how many went."""
    return IdempotencyKey.objects.filter(created_at__lt=now - KEPT).delete()[0]
