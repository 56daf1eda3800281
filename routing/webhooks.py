"""Events to webhooks: queued, signed; routing.delivering sends them.

Signatures are those of the Standard Webhooks specification 1.0: an HMAC-SHA256 of ``id.timestamp.body``
under the webhook's secret.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from routing.events import TYPE, event_of
from routing.models import Selection, Webhook, WebhookDelivery

ALERT_TYPE = "router.alert"


def new_secret() -> str:
    """A secret in the specification's form: ``whsec_`` and 32 random bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The ``webhook-signature`` header's value; ``timestamp`` is Unix seconds."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def fan_out(now: datetime, most: int) -> int:
    """Make a delivery per webhook of up to ``most`` decisions of the outbox; returns the decisions.

    Deliveries and marks are committed together, so each is made once.
    """
    rows = list(Selection.objects.filter(fanned_out=False).order_by("id")[:most])
    if not rows:
        return 0
    hooks = list(Webhook.objects.filter(enabled=True, selections=True).select_related("tenant"))
    made: list[WebhookDelivery] = []
    for row in rows if hooks else ():
        wanted = [hook for hook in hooks if hook.tenant is None or hook.tenant.slug == row.tenant]
        if wanted:
            payload = event_of(row).to_json()
            made += [_delivery(hook, str(row.decision_id), TYPE, payload, now) for hook in wanted]
    with transaction.atomic():
        WebhookDelivery.objects.bulk_create(made, ignore_conflicts=True, batch_size=100)
        keys = [row.pk for row in rows]
        for start in range(0, len(keys), 500):
            Selection.objects.filter(pk__in=keys[start : start + 500]).update(fanned_out=True)
    return len(rows)


def tell(event_id: str, event_type: str, payload: str, now: datetime) -> None:
    """Queue an alert for every webhook that wants alerts. Alerts are about the deployment as a whole, so
    only webhooks of all tenants get them."""
    hooks = Webhook.objects.filter(enabled=True, alerts=True, tenant=None)
    WebhookDelivery.objects.bulk_create(
        [_delivery(hook, event_id, event_type, payload, now) for hook in hooks], ignore_conflicts=True
    )


def _delivery(hook: Webhook, event_id: str, event_type: str, payload: str, now: datetime) -> WebhookDelivery:
    return WebhookDelivery(
        webhook=hook,
        event_id=event_id,
        event_type=event_type,
        payload=payload,
        created_at=now,
        next_attempt_at=now,
    )


def send_again(deliveries: Iterable[WebhookDelivery], now: datetime) -> int:
    """Give deliveries a new start, all attempts included; returns how many."""
    keys = [delivery.pk for delivery in deliveries]
    return WebhookDelivery.objects.filter(pk__in=keys).update(
        state=WebhookDelivery.State.WAITING, attempts=0, next_attempt_at=now, error=""
    )


def prune(before: datetime) -> int:
    """Delete deliveries that arrived before a time, and what has waited since before it for a webhook that is
    switched off; dead ones stay until a person looked."""
    waits_for_nobody = Q(state=WebhookDelivery.State.WAITING, webhook__enabled=False, created_at__lt=before)
    return WebhookDelivery.objects.filter(Q(delivered_at__lt=before) | waits_for_nobody).delete()[0]
