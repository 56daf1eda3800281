"""`manage.py webhooks`: what did not arrive is told per webhook, and sent again when asked."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from routing.delivering import deliver
from routing.models import Webhook, WebhookDelivery
from routing.webhooks import new_secret

pytestmark = pytest.mark.django_db
State = WebhookDelivery.State


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("webhooks", *arguments, stdout=out)
    return out.getvalue()


def hook(name: str, enabled: bool = True) -> Webhook:
    # Nothing listens at port 1.
    return Webhook.objects.create(
        name=name, url="http://127.0.0.1:1/hook", secret=new_secret(), enabled=enabled
    )


def delivery(to: Webhook, state: str, **fields: Any) -> WebhookDelivery:
    number = WebhookDelivery.objects.count()
    return WebhookDelivery.objects.create(
        webhook=to,
        event_id=f"e-{number}",
        event_type="router.alert",
        payload="{}",
        state=state,
        created_at=timezone.now(),
        **fields,
    )


def test_each_webhook_is_told_with_what_waits_what_was_given_up_and_why() -> None:
    assert run("status") == "There are no webhooks.\n"
    pager, chat = hook("pager"), hook("chat", enabled=False)
    later = timezone.now() + timedelta(hours=8)
    delivery(pager, State.WAITING, attempts=3, error="HTTP 500", next_attempt_at=later)
    delivery(pager, State.DEAD, attempts=11, error="HTTP 404")
    delivery(chat, State.DELIVERED, delivered_at=timezone.now())
    told = run("status")
    assert "pager: 1 waiting, 1 given up, the oldest since " in told
    assert ": HTTP 500\n" in told
    assert "chat (switched off): 0 waiting, 0 given up\n" in told


def test_what_waits_and_what_was_given_up_is_due_at_once_with_all_attempts() -> None:
    pager, other = hook("pager"), hook("other")
    later = timezone.now() + timedelta(hours=8)
    waiting = delivery(pager, State.WAITING, attempts=9, next_attempt_at=later)
    dead = delivery(pager, State.DEAD, attempts=11)
    elsewhere = delivery(other, State.DEAD, attempts=11)
    assert run("retry", "--webhook", "pager").startswith("2 deliveries")
    for one in (waiting, dead):
        one.refresh_from_db()
        assert (one.state, one.attempts) == (State.WAITING, 0)
    elsewhere.refresh_from_db()
    assert elsewhere.state == State.DEAD
    # They are really tried: nobody listens, so each attempt is told.
    deliver(timezone.now())
    assert "pager: 2 waiting, 0 given up" in run("status")
    assert "ConnectError" in run("status")


def test_a_webhook_that_is_switched_off_is_left_alone_and_an_unknown_one_is_refused() -> None:
    off = delivery(hook("chat", enabled=False), State.DEAD, attempts=11)
    assert run("retry").startswith("0 deliveries")
    off.refresh_from_db()
    assert off.state == State.DEAD
    for name in ("chat", "nobody"):
        with pytest.raises(CommandError, match=f"no webhook '{name}' that is switched on"):
            run("retry", "--webhook", name)
