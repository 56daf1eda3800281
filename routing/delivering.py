"""Deliveries to webhooks: retried with growing pauses, given up in sight of everybody (the admin). At least once;
``webhook-id`` is the event's id.

Apart from what queues them, because a web process sends nothing, and does not need the HTTP client.
"""

import logging
from datetime import datetime, timedelta

import httpx
from django.db.models import Q

from routing.events import CONTENT_TYPE
from routing.models import WebhookDelivery
from routing.webhooks import sign

log = logging.getLogger(__name__)

#: Pauses after each failed attempt; after the last one the delivery is dead. About a day in all.
PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
)
_TIMEOUT = httpx.Timeout(5.0, connect=1.0)


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
