"""A product in use, to be backed up and looked at again; run by ``manage.py shell`` in a process of its own."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.utils import timezone

from catalog.models import Persona
from demo import timeline
from demo.catalogue import load_catalogue, turn_on
from ops.backup.making import Told, make
from overrides import services
from overrides.audit import Actor
from overrides.services import Wish
from routing import events as selections
from routing import snapshots
from routing.models import Selection
from routing.repeats import Asked
from routing.replay import replay
from routing.selection import select
from telemetry import rollups, spool
from telemetry.clickhouse import get_clickhouse
from telemetry.ingest import accept

ME = Actor("user:me", "admin")
#: How far the events go back, and on: those that come while the backup is being made.
BEFORE, AFTER = timedelta(minutes=90), timedelta(minutes=1)


def fill(into: str) -> None:
    """Use the product, then back it up while it goes on being used; prints what was done, as JSON."""
    call_command("migrate", verbosity=0)
    call_command("clickhouse_migrate", verbosity=0)
    load_catalogue()
    turn_on()
    Persona.objects.update(holdout_share=0)
    now = timezone.now()
    events = list(timeline.events(now - BEFORE, now))
    third = len(events) // 3
    _accept(events[: 2 * third], now)
    _drain()
    _roll_up()
    snapshots.write_snapshot(get_clickhouse(), now)
    _override("gpt-5.4", now)
    decisions = [_decide(f"c-{number}") for number in range(12)]
    selections.publish(get_clickhouse(), 8)
    # Twice: some are sent again. In ClickHouse, but not rolled up; and only in the spool.
    _accept(events[:700] + events[2 * third : -third // 2], now)
    _drain()
    _accept(events[-third // 2 :], now)

    copied = {"Django database", "ClickHouse"}

    def meanwhile(step: str) -> None:
        copied.discard(step)
        # One of the two was copied, the other not yet: now everything moves on.
        if not copied:
            _accept(list(timeline.events(now, now + AFTER)), timezone.now())
            _drain()
            _roll_up()

    made = make(Path(into), get_clickhouse(), timezone.now, Told(step=meanwhile))
    print(  # noqa: T201
        json.dumps({"now": now.isoformat(), "folder": str(made.folder), "decisions": dict(decisions)})
    )


def go_on() -> None:
    """What happens after the backup, and is lost with what it happened to."""
    _override("gpt-5.4-mini", timezone.now())
    call_command("audit", "checkpoint")
    _decide("c-late")


def look() -> None:
    """What is there once everything that waits has been worked off; prints it as JSON."""
    _drain()
    _roll_up()
    door = get_clickhouse()
    while selections.publish(door, 100):
        pass
    found = {
        "grains": {grain.table: _sums(grain.table) for grain in rollups.GRAINS},
        "raw": door.query("SELECT count() AS n FROM completions FINAL")[0]["n"],
        "published": door.query("SELECT count() AS n FROM selections FINAL")[0]["n"],
        "decisions": {str(row.decision_id): row.core for row in Selection.objects.all()},
        "replayed": [replay(row).verdict for row in Selection.objects.all()],
        "next": snapshots.write_snapshot(door, timezone.now()).pk,
    }
    call_command("audit", "verify")
    print(json.dumps(found))  # noqa: T201


def _sums(table: str) -> list[list[Any]]:
    rows = get_clickhouse().query(
        f"SELECT tenant, persona, profile, sum(requests) AS n, sum(prompt_tokens) AS tokens "
        f"FROM {table} FINAL GROUP BY tenant, persona, profile HAVING n > 0 ORDER BY tenant, persona, profile"
    )
    return [list(row.values()) for row in rows]


def _accept(events: list[dict[str, Any]], now: datetime) -> None:
    for first in range(0, len(events), 1000):
        outcome = accept(events[first : first + 1000], source="scene", now=now, tenants=None)
        assert outcome.rejected == (), outcome.rejected


def _drain() -> None:
    while spool.drain(get_clickhouse(), timezone.now(), block_rows=10_000):
        pass


def _roll_up() -> None:
    while rollups.roll_up_dirty(get_clickhouse(), timezone.now):
        pass


def _override(profile: str, now: datetime) -> None:
    services.create_override(Wish("prefer", profile, "a reason that will do", tenant="cumulus"), ME, now)


def _decide(conversation: str) -> tuple[str, str]:
    answer = select(Asked("aurora", "essayist", conversation), "scene", timezone.now()).to_dict()
    return answer["decision_id"], Selection.objects.get(decision_id=answer["decision_id"]).core
