"""What is broken for a runbook, and put right again if the runbook did not. Each really breaks it."""

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from routing.engine import Bundle, Reason, SelectionRequest, decide
from telemetry.clickhouse import connect
from tests.runbooks.product import ASKED, SCOPE, Product, events
from tests.services import wait_until
from worker.outbox import Kind, Outbox

_LOCK = {**ASKED, "kind": "lock", "profile": "gpt-5.5"}
FLAG = "/settings/flags/AUTO_MODEL_SELECTION_ENABLED"
_DEFAULT = (
    '{"slug": "gpt-5.4", "provider": "openai", "model": "gpt-5.4", "base_url": "https://api.example.com/v1"}'
)


@dataclass(frozen=True)
class Broken:
    """``variables``: what the alert or the caller told on-call. ``others``: what is not on-call's to do, done after the
    checks, such as a receiver's coming back."""

    variables: dict[str, str] = field(default_factory=dict)
    others: Callable[[], None] = lambda: None


def post(product: Product, path: str, body: dict[str, Any], key: str = "") -> dict[str, Any]:
    with product.client(key) as client:
        answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    told: dict[str, Any] = answer.json()
    return told


def recent(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Completions of the scope that just ended."""
    now = datetime.now(UTC)
    sample = events(now - timedelta(minutes=30), now)
    return [
        {
            **sample[number % len(sample)],
            "event_id": str(uuid.uuid4()),
            "occurred_at": now.isoformat(),
            **fields,
        }
        for number in range(count)
    ]


def rolled_up(product: Product, profile: str, count: int) -> None:
    """Wait until so many completions of the last minutes are in the metrics, and score them."""

    def told() -> bool:
        with product.client() as client:
            found = client.get("/metrics/profiles", params={**ASKED, "window": "5m"}).json()["profiles"]
        return any(row["profile"] == profile and row["requests"] >= count for row in found)

    wait_until(told, "completions are rolled up", timeout=60)
    product.manage("telemetry", "score")


def end_overrides(product: Product) -> None:
    with product.client() as client:
        for one in client.get("/settings/overrides", params={"standing": True}).json()["results"]:
            headers = {"If-Match": f'"{one["version"]}"'}
            body = {"reason": "the scene is over"}
            client.post(f"/settings/overrides/{one['id']}/revoke", json=body, headers=headers)


@contextmanager
def no_traffic(product: Product) -> Iterator[Broken]:
    """A worker has completions and does not send them: the newest that arrived is 16 minutes old."""
    assert not product.fresh, "telemetry grows old in a quarter of an hour: this scene comes first"
    state = product.folder / "worker-state"
    state.mkdir()
    now = datetime.now(UTC)
    outbox = Outbox(state)
    outbox.put_all(Kind.COMPLETION, events(now - timedelta(minutes=30), now))
    outbox.close()
    yield Broken(
        {
            "WORKER_API_URL": f"http://127.0.0.1:{product.apart.port}",
            "WORKER_API_KEY": product.key,
            "WORKER_STATE_DIR": str(state),
            "WORKER_DEFAULT_PROFILE": _DEFAULT,
        }
    )


@contextmanager
def clickhouse_down(product: Product) -> Iterator[Broken]:
    product.clickhouse.server.stop()
    try:
        product.report(recent(20))
        yield Broken()
    finally:
        product.ensure("clickhouse-server")


@contextmanager
def redis_down(product: Product) -> Iterator[Broken]:
    product.redis.server.stop()
    try:
        product.report(recent(20))
        yield Broken()
    finally:
        product.ensure("redis-server")


@contextmanager
def postgresql_down(product: Product) -> Iterator[Broken]:
    """Conversations go on meanwhile: their decisions are in the journal."""
    product.postgres.server.stop(signal.SIGINT)
    try:
        for number in range(5):
            assert product.ask(f"journalled-{number}")["reason"] == "ranked"
        yield Broken()
    finally:
        product.ensure("postgresql")


@contextmanager
def processes_silent(product: Product) -> Iterator[Broken]:
    """Worker and beat are killed as by the kernel when memory runs out."""
    for name in ("worker", "beat"):
        os.killpg(product.running[name].pid, signal.SIGKILL)
        product.running[name].wait()
    try:
        product.report(recent(20))
        yield Broken()
    finally:
        product.ensure("selection-worker", "selection-beat")


@contextmanager
def wrong_model(product: Product) -> Iterator[Broken]:
    """A conversation is given the best profile by rank, and people complain of its answers."""
    decision = product.ask("complaint-1")
    try:
        yield Broken(
            {
                "CONVERSATION": "complaint-1",
                "PROFILE": decision["profile"]["slug"],
                "DECISION": decision["decision_id"],
            }
        )
    finally:
        end_overrides(product)


@contextmanager
def cost_spike(product: Product) -> Iterator[Broken]:
    """The profile that is given now costs forty times what it did."""
    slug = product.ask("spike")["profile"]["slug"]
    product.report(recent(300, profile=slug, served_model=slug, cost_usd="0.1", success=True))
    rolled_up(product, slug, 300)
    try:
        yield Broken({"PROFILE": slug})
    finally:
        end_overrides(product)


@contextmanager
def sla_breach(product: Product) -> Iterator[Broken]:
    """Somebody stopped automatic selection, and the default has begun to fail."""
    product.report(recent(400, profile="gpt-5.4", served_model="gpt-5.4", success=False, accuracy=0.1))
    rolled_up(product, "gpt-5.4", 400)
    reason = ("--reason", "a colleague's doubt")
    product.manage("kill_switch", "on", *reason)
    try:
        yield Broken()
    finally:
        product.manage("kill_switch", "off", *reason)


@contextmanager
def override_stuck(product: Product) -> Iterator[Broken]:
    """A lock without an end that nobody remembers."""
    post(product, "/settings/overrides", {**_LOCK, "reason": "trying it out for a while"})
    try:
        yield Broken()
    finally:
        end_overrides(product)


@contextmanager
def selection_errors(product: Product) -> Iterator[Broken]:
    """A profile that a scope is locked to was disabled in the catalogue."""
    post(product, "/settings/overrides", {**_LOCK, "reason": "the best one for now"})
    switch = (
        "from catalog.models import ModelProfile as M; M.objects.filter(slug='gpt-5.5').update(enabled={})"
    )
    try:
        product.manage("shell", "--no-imports", "-c", switch.format(False))
        yield Broken()
    finally:
        end_overrides(product)
        product.manage("shell", "--no-imports", "-c", switch.format(True))


@contextmanager
def key_leak(product: Product) -> Iterator[Broken]:
    """A key was found in a public place, and somebody has used it."""
    make = (
        "from catalog.models import ServiceKey as K; "
        "print(K.objects.create_key(name='ci', verbs=['select', 'read', 'override'], all_tenants=True)[1])"
    )
    since = datetime.now(UTC)
    secret = product.manage("shell", "--no-imports", "-c", make).split()[-1]
    until = (since + timedelta(hours=8)).isoformat()
    post(product, "/settings/overrides", {**_LOCK, "expires_at": until, "reason": "no reason at all"}, secret)
    try:
        yield Broken(
            {
                "LEAKED": secret,
                "PREFIX": secret.partition(".")[0],
                "SINCE": since.isoformat(timespec="seconds"),
            }
        )
    finally:
        end_overrides(product)


@contextmanager
def audit_chain_broken(product: Product) -> Iterator[Broken]:
    """The owner of the database has rewritten the reason of an entry, behind the trigger's back."""
    export = product.folder / "audit-nightly.ndjson"
    product.manage("audit", "export", "--output", str(export))
    # Between two entries that stand: number 5 is one of the catalogue's.
    rewrite = "UPDATE overrides_auditentry SET reason = 'nothing to see' WHERE seq = 5"
    trigger = "ALTER TABLE overrides_auditentry {} TRIGGER audit_append_only"
    product.sql(trigger.format("DISABLE"), rewrite, trigger.format("ENABLE"))
    yield Broken({"EXPORT": str(export)})


@contextmanager
def webhook_failing(product: Product) -> Iterator[Broken]:
    """A receiver that answers 500, until its people mend it."""
    status = [500]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    make = (
        "from routing.models import Webhook; from routing.webhooks import new_secret; "
        f"Webhook.objects.create(name='pager', url='http://127.0.0.1:{server.server_port}/', secret=new_secret())"
    )
    product.manage("shell", "--no-imports", "-c", make)
    product.ask("webhook-1")
    try:
        yield Broken(
            {"HOOK_URL": f"http://127.0.0.1:{server.server_port}/"}, lambda: status.__setitem__(0, 200)
        )
    finally:
        gone = "from routing.models import Webhook; Webhook.objects.all().delete()"
        product.manage("shell", "--no-imports", "-c", gone)
        server.shutdown()
        server.server_close()


@contextmanager
def rollout_rolled_back(product: Product) -> Iterator[Broken]:
    """Of 300 conversations half were selected for; all of these fail, and the others do well. They were decided a
    quarter of an hour ago, by workers of their own, which is when the rollout began, too: a step's conversations
    settle for minutes before they count."""
    none, back = ({"aurora": {"essayist": share}} for share in ("0", None))
    set_shares(product, none)
    before = product.ask()["bundle_version"]
    plan = '{"steps": [50, 100], "min_minutes": 0}'
    whose = ("--tenant", "aurora", "--persona", "essayist")
    product.manage("rollout", "start", *whose, "--plan", plan, "--reason", "first step, ticket 42")
    try:
        wait_until(lambda: product.ask()["bundle_version"] != before, "the first step's share", timeout=20)
        at = datetime.now(UTC) - timedelta(minutes=15)
        product.sql("UPDATE routing_rollout SET step_began_at = step_began_at - interval '20 minutes'")
        product.report(list(conversations(product, 300, at)))
        wait_until(lambda: product.published() == 300, "all of it is in ClickHouse", timeout=60)
        advance = "from routing.tasks import advance_rollouts; advance_rollouts()"
        product.manage("shell", "--no-imports", "-c", advance)
        wait_until(lambda: product.rollout()["state"] == "rolled_back", "it rolled back", timeout=90)
        yield Broken()
    finally:
        set_shares(product, back)


def conversations(product: Product, count: int, at: datetime) -> Iterator[dict[str, Any]]:
    """Decided as a worker decides locally, and reported; a completion of each."""
    with product.client() as client:
        bundle = Bundle.from_dict(client.get("/policy").json())
        asked = [SelectionRequest(*SCOPE, f"rollout-{number}", at) for number in range(count)]
        decisions = [decide(bundle, request) for request in asked]
        body = {"decisions": [decision.core() for decision in decisions]}
        answer = client.post("/selections/batch", json=body)
        assert answer.json()["rejected"] == [], answer.text
    for event, decision in zip(recent(count), decisions, strict=True):
        yield {
            **event,
            "occurred_at": (at + timedelta(seconds=5)).isoformat(),
            "conversation_id": decision.request.conversation_id,
            "decision_id": decision.decision_id,
            "profile": decision.profile.slug,
            "served_model": None,
            "success": decision.reason is Reason.FLAG_OFF,
        }


def set_shares(product: Product, scopes: dict[str, Any]) -> None:
    with product.client() as client:
        seen = client.get(FLAG).headers["ETag"]
        body = {"scopes": scopes, "reason": "as the scene wants it"}
        answer = client.patch(FLAG, json=body, headers={"If-Match": seen})
    assert answer.is_success, answer.text


@contextmanager
def profile_quarantined(product: Product) -> Iterator[Broken]:
    """Somebody put a profile into quarantine by hand; what a sentinel does is no different afterwards."""
    body = {"profile": "gpt-5.5", "reason": "its provider announces an outage"}
    post(product, "/quarantines", body)
    yield Broken()


@contextmanager
def data_lost(product: Product) -> Iterator[Broken]:
    """A backup was made; then somebody dropped what is in both databases."""
    backups = product.folder / "backups"
    backups.mkdir()
    product.manage("backup", "--to", str(backups), "--no-progress")
    product.sql("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    with closing(connect(product.clickhouse.url("selection"))) as door:
        # It waits for what worker and beat are doing.
        door.execute("DROP DATABASE selection", timeout=60)
    yield Broken({"BACKUPS": str(backups)})


Scene = Callable[[Product], AbstractContextManager[Broken]]

#: In the order in which they are run.
SCENES: dict[str, Scene] = {
    "no-traffic": no_traffic,
    "clickhouse-down": clickhouse_down,
    "redis-down": redis_down,
    "postgresql-down": postgresql_down,
    "processes-silent": processes_silent,
    "audit-chain-broken": audit_chain_broken,
    "override-stuck": override_stuck,
    "key-leak": key_leak,
    "selection-errors": selection_errors,
    "webhook-failing": webhook_failing,
    "wrong-model": wrong_model,
    "cost-spike": cost_spike,
    "sla-breach": sla_breach,
    "profile-quarantined": profile_quarantined,
    "rollout-rolled-back": rollout_rolled_back,
    "data-lost": data_lost,
}
#: What a check finds wrong there stays to be seen after the fix (costs of the last hour, say): its good answer is asked
#: for before.
SEEN_AFTERWARDS = {"cost-spike"}
