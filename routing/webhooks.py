"""Events to webhooks: signed, retried with growing pauses, given up in sight of everybody (the admin).

Signatures are those of the Standard Webhooks specification 1.0: an HMAC-SHA256 of ``id.timestamp.body``
under the webhook's secret. Delivery is at least once; ``webhook-id`` is the event's id.
"""

import base64
import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

import httpx
from django.db import transaction
from django.db.models import Q

from routing.events import CONTENT_TYPE, TYPE, event_of
from routing.models import Selection, Webhook, WebhookDelivery

log = logging.getLogger(__name__)

ALERT_TYPE = "router.alert"
#: Pauses after each failed attempt; after the last one the delivery is dead. About a day in all.
PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
)
_TIMEOUT = httpx.Timeout(5.0, connect=1.0)


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


def deliver(now: datetime, most: int = 50) -> int:
    """Try the deliveries that are due, up to ``most`` a webhook; returns how many arrived.

    At a webhook's first failure all that is due for it waits as long as the one that failed, so that a dead
    receiver costs one timeout a run and holds up nobody else's.
    """
    due = WebhookDelivery.objects.filter(
        Q(next_attempt_at__lte=now), state=WebhookDelivery.State.WAITING, webhook__enabled=True
    )
    arrived = 0
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=False) as client:
        for hook in due.order_by().values_list("webhook_id", flat=True).distinct():
            mine = due.filter(webhook_id=hook)
            for delivery in mine.select_related("webhook").order_by("id")[:most]:
                error = _send(client, delivery, now)
                if error is not None and delivery.attempts == 0:
                    log.warning("webhook %s: %s; trying again", delivery.webhook, error)
                _note(delivery, error, now)
                if error is not None:
                    mine.update(next_attempt_at=delivery.next_attempt_at or now + PAUSES[-1])
                    break
                arrived += 1
    return arrived


def _send(client: httpx.Client, delivery: WebhookDelivery, now: datetime) -> str | None:
    """Why it did not arrive; None when it did."""
    body, timestamp = delivery.payload.encode(), int(now.timestamp())
    headers = {
        "Content-Type": CONTENT_TYPE,
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(delivery.webhook.secret, delivery.event_id, timestamp, body),
    }
    try:
        answer = client.post(delivery.webhook.url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {error}"[:300]
    # A redirect is a refusal: the body must not go where no admin sent it.
    return None if answer.is_success else f"HTTP {answer.status_code}"


def _note(delivery: WebhookDelivery, error: str | None, now: datetime) -> None:
    delivery.attempts += 1
    if error is None:
        delivery.state, delivery.delivered_at = WebhookDelivery.State.DELIVERED, now
        delivery.error, delivery.next_attempt_at = "", None
    elif delivery.attempts > len(PAUSES):
        delivery.state, delivery.error, delivery.next_attempt_at = WebhookDelivery.State.DEAD, error, None
        log.error("webhook %s: given up %s after %d attempts", delivery.webhook, delivery, delivery.attempts)
    else:
        delivery.error, delivery.next_attempt_at = error, now + PAUSES[delivery.attempts - 1]
    delivery.save(update_fields=["attempts", "state", "error", "next_attempt_at", "delivered_at"])


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
