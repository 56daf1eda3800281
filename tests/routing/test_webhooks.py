"""Webhooks: signed, once per event, retried, given up in sight, tenants apart. A real server receives."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from routing import tasks, webhooks
from routing.delivering import PAUSES, deliver
from routing.health import read_outboxes
from routing.models import Selection, Webhook, WebhookDelivery
from routing.webhooks import fan_out
from tests import factories
from tests.routing.scenes import ASKED, ranked_scope

pytestmark = pytest.mark.django_db
State = WebhookDelivery.State


@dataclass
class Receiver:
    """Answers every POST with ``status`` and keeps what came."""

    status: int = 200
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(kept.status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kept.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield kept
    server.shutdown()
    server.server_close()


def hook(url: str, **fields: Any) -> Webhook:
    fields.setdefault("name", f"hook-{Webhook.objects.count()}")
    return Webhook.objects.create(url=url, secret=webhooks.new_secret(), **fields)


@pytest.fixture
def decided(client: Client) -> dict[str, Any]:
    ranked_scope()
    answer = client.post(
        "/api/v1/selections", ASKED, content_type="application/json", headers=factories.key("select")
    )
    body: dict[str, Any] = answer.json()
    return body


def test_a_decision_arrives_signed_as_the_specification_says(
    decided: dict[str, Any], receiver: Receiver
) -> None:
    one = hook(receiver.url)
    now = timezone.now()
    assert (fan_out(now, 10), deliver(now)) == (1, 1)
    [(headers, body)] = receiver.came
    assert json.loads(body)["id"] == headers["webhook-id"] == decided["decision_id"]
    assert headers["content-type"] == "application/cloudevents+json"
    key = base64.b64decode(one.secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_an_event_is_sent_once_however_often_the_task_runs(
    decided: dict[str, Any], receiver: Receiver
) -> None:
    hook(receiver.url)
    for _ in range(3):
        tasks.send_webhooks()
        Selection.objects.update(fanned_out=False)
    assert len(receiver.came) == 1
    assert WebhookDelivery.objects.get().state == State.DELIVERED


def test_each_webhook_gets_the_events_of_its_tenant_and_kind(
    decided: dict[str, Any], receiver: Receiver
) -> None:
    aurora, borealis = factories.tenant(), factories.tenant("borealis")
    wanted = {hook(receiver.url, tenant=aurora).pk, hook(receiver.url).pk}
    hook(receiver.url, tenant=borealis)
    hook(receiver.url, selections=False)
    hook(receiver.url, enabled=False)
    tasks.send_webhooks()
    assert set(WebhookDelivery.objects.values_list("webhook", flat=True)) == wanted
    assert len(receiver.came) == 2


@pytest.mark.parametrize("status", [500, 404, 302, 429])
def test_a_refusal_is_tried_again_after_growing_pauses_then_given_up(
    decided: dict[str, Any], receiver: Receiver, status: int
) -> None:
    hook(receiver.url)
    receiver.status = status
    now = timezone.now()
    fan_out(now, 10)
    for pause in PAUSES:
        assert deliver(now) == 0
        waiting = WebhookDelivery.objects.get()
        assert (waiting.state, waiting.next_attempt_at) == (State.WAITING, now + pause)
        assert deliver(now + pause / 2) == 0
        now += pause
    deliver(now)
    dead = WebhookDelivery.objects.get()
    assert (dead.state, dead.attempts, dead.error) == (State.DEAD, len(PAUSES) + 1, f"HTTP {status}")
    assert len(receiver.came) == len(PAUSES) + 1
    assert sum(PAUSES, timedelta()) > timedelta(hours=12)


def test_a_receiver_that_comes_back_gets_what_waited(decided: dict[str, Any], receiver: Receiver) -> None:
    hook(receiver.url)
    receiver.status = 503
    now = timezone.now()
    fan_out(now, 10)
    deliver(now)
    receiver.status = 204
    assert deliver(now + PAUSES[0]) == 1
    assert WebhookDelivery.objects.get().error == ""


def test_a_dead_receiver_costs_one_try_a_run_and_holds_up_nobody(
    decided: dict[str, Any], receiver: Receiver
) -> None:
    dead, alive = hook("http://127.0.0.1:1/"), hook(receiver.url)
    now = timezone.now()
    fan_out(now, 10)
    payload = WebhookDelivery.objects.filter(webhook=dead).get().payload
    for number in range(5):
        for one in (dead, alive):
            WebhookDelivery.objects.create(
                webhook=one,
                event_id=str(number),
                event_type="router.selection",
                payload=payload,
                created_at=now,
                next_attempt_at=now,
            )
    assert deliver(now) == 6
    assert WebhookDelivery.objects.filter(webhook=dead, attempts=1).count() == 1
    assert not WebhookDelivery.objects.filter(webhook=dead, next_attempt_at__lte=now).exists()
    assert "ConnectError" in WebhookDelivery.objects.get(webhook=dead, attempts=1).error


def test_an_admin_sees_dead_deliveries_and_sends_them_again(
    decided: dict[str, Any], receiver: Receiver, admin_client: Client
) -> None:
    hook(receiver.url)
    fan_out(timezone.now(), 10)
    WebhookDelivery.objects.update(state=State.DEAD, attempts=11, next_attempt_at=None, error="HTTP 500")
    page = "/admin/routing/webhookdelivery/"
    shown = admin_client.get(page, {"state__exact": "dead"}).content.decode()
    assert "HTTP 500" in shown
    chosen = {"action": "send_again", "_selected_action": [str(WebhookDelivery.objects.get().pk)]}
    told = admin_client.post(page, chosen, follow=True).content.decode()
    assert "1 deliveries wait to be sent again" in told
    assert deliver(timezone.now()) == 1


def test_an_admin_deletes_a_webhook_with_its_deliveries(
    decided: dict[str, Any], admin_client: Client
) -> None:
    one = hook("http://127.0.0.1:1/")
    fan_out(timezone.now(), 10)
    page = f"/admin/routing/webhook/{one.pk}/delete/"
    assert "doesn't have permission" not in admin_client.get(page).content.decode()
    admin_client.post(page, {"post": "yes"})
    assert not Webhook.objects.exists()
    assert not WebhookDelivery.objects.exists()


def test_what_waits_for_a_webhook_that_is_off_is_neither_sent_nor_counted_and_goes_in_time(
    decided: dict[str, Any], receiver: Receiver
) -> None:
    one = hook(receiver.url)
    now = timezone.now()
    fan_out(now, 10)
    Webhook.objects.update(enabled=False)
    assert (deliver(now), read_outboxes().deliveries_waiting) == (0, 0)
    Webhook.objects.update(enabled=True)
    assert (read_outboxes().deliveries_waiting, deliver(now)) == (1, 1)
    WebhookDelivery.objects.update(state=State.WAITING, delivered_at=None)
    one.enabled = False
    one.save()
    assert webhooks.prune(now + timedelta(seconds=1)) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/", "http://u:p@example.com/", "ftp://example.com/", "x"]
)
def test_an_address_that_cannot_be_or_must_not_be_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Webhook(name="x", url=url, secret=webhooks.new_secret()).full_clean()


def test_who_may_only_look_cannot_send_again(decided: dict[str, Any], client: Client) -> None:
    from django.contrib.auth.models import Permission

    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename="view_webhookdelivery"))
    client.force_login(viewer)
    hook("http://127.0.0.1:1/")
    fan_out(timezone.now(), 10)
    chosen = {"action": "send_again", "_selected_action": [str(WebhookDelivery.objects.get().pk)]}
    client.post("/admin/routing/webhookdelivery/", chosen, follow=True)
    assert WebhookDelivery.objects.get().attempts == 0
    assert "Send again" not in client.get("/admin/routing/webhookdelivery/").content.decode()


def test_a_new_webhooks_secret_is_shown_once(admin_client: Client) -> None:
    fields = {"name": "ops", "url": "https://example.com/hook", "enabled": "on", "alerts": "on"}
    told = admin_client.post("/admin/routing/webhook/add/", fields, follow=True).content.decode()
    made = Webhook.objects.get()
    assert made.secret.startswith("whsec_")
    assert made.secret in told
    assert made.secret not in admin_client.get(f"/admin/routing/webhook/{made.pk}/change/").content.decode()


def test_in_production_events_go_over_https_only(settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"deployment_mode": "PRODUCTION"})
    with pytest.raises(ValidationError, match="https only"):
        hook("http://example.com/hook").full_clean()


def test_delivered_events_go_with_time_and_dead_ones_stay(
    decided: dict[str, Any], receiver: Receiver
) -> None:
    hook(receiver.url)
    tasks.send_webhooks()
    one = WebhookDelivery.objects.get()
    WebhookDelivery.objects.create(
        webhook=one.webhook,
        event_id="x",
        event_type="t",
        payload="{}",
        state=State.DEAD,
        created_at=one.created_at,
    )
    assert webhooks.prune(timezone.now() + timedelta(seconds=1)) == 1
    assert WebhookDelivery.objects.get().state == State.DEAD
