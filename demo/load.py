"""Load the demo: catalogue, people, a key, and telemetry up to now."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db.models import Max

from catalog.models import ServiceKey
from demo import timeline
from demo.catalogue import load_catalogue, turn_on
from routing.bundle import current_bundle
from routing.engine import Reason, SelectionRequest, decide
from routing.snapshots import write_snapshot
from telemetry import rollups, spool
from telemetry.clickhouse import get_clickhouse
from telemetry.ingest import MAX_EVENTS, accept
from telemetry.models import ScopeActivity

_HISTORY = timedelta(hours=24, minutes=10)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Made once per machine at random and kept in the data folder; nothing secret is in the code."""

    admin_password: str
    operator_password: str
    service_key: str


def load_demo(clock: Callable[[], datetime], say: Callable[[str], None]) -> Credentials:
    """Idempotent: a second call only adds what happened since the first."""
    if load_catalogue():
        turn_on()
    credentials = _credentials(settings.DATA_DIR / "demo.json")
    now = clock()
    newest = ScopeActivity.objects.aggregate(newest=Max("last_event_at"))["newest"]
    start = max(newest or now - _HISTORY, now - _HISTORY)
    say(f"replaying recorded outcomes from {start:%Y-%m-%d %H:%M} UTC to now")
    count = replay(start, now)
    say(f"{count} completion events accepted, rolling them up")
    clickhouse = get_clickhouse()
    while spool.drain(clickhouse, clock(), settings.DRAIN_BLOCK_ROWS):
        pass
    while rollups.roll_up_dirty(clickhouse, clock):
        pass
    write_snapshot(clickhouse, clock())
    return credentials


def example_conversation(tenant: str, persona: str, at: datetime) -> str:
    """A conversation id to try that is neither held out nor explores, so that the ranking shows; asks for
    none of them, so nothing is recorded."""
    bundle = current_bundle()
    for number in range(1, 100):
        name = f"try-{number}"
        if decide(bundle, SelectionRequest(tenant, persona, name, at)).reason is Reason.RANKED:
            return name
    return "try-1"


def replay(start: datetime, end: datetime) -> int:
    """Accept the timeline's events of [start, end) the way the API does; returns how many."""
    events = timeline.events(start, end)
    accepted = 0
    while batch := list(islice(events, MAX_EVENTS)):
        accepted += accept(batch, source="demo", now=end, tenants=None).accepted
    return accepted


def _credentials(path: Path) -> Credentials:
    if path.exists():
        kept = Credentials(**json.loads(path.read_text()))
        if User.objects.filter(username="admin").exists():
            return kept
    admin, operator = secrets.token_urlsafe(9), secrets.token_urlsafe(9)
    _user("admin", admin, is_superuser=True)
    person = _user("operator", operator, is_superuser=False)
    # An earlier release gave rights one by one.
    person.user_permissions.clear()
    person.groups.set([Group.objects.get(name="operator")])
    ServiceKey.objects.filter(name="demo").update(revoked=True)
    _, key = ServiceKey.objects.create_key(name="demo", verbs=list(ServiceKey.Verb.values), all_tenants=True)
    path.touch(mode=0o600)
    made = Credentials(admin, operator, key)
    path.write_text(json.dumps({name: getattr(made, name) for name in Credentials.__slots__}))
    return made


def _user(name: str, password: str, **fields: Any) -> User:
    user, _ = User.objects.update_or_create(username=name, defaults={"is_staff": True, **fields})
    user.set_password(password)
    user.save()
    return user
