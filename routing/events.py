"""``router.selection`` v1: a decision as a CloudEvent, and its way from the outbox to ClickHouse.

The schema is frozen (routing/schemas/router-selection-v1.json, published by the API). Each decision is
replayed when its event is made, so every event says whether it could be reproduced byte for byte.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from django.conf import settings

from routing.models import ConversationSelection, Selection
from routing.replay import replay
from telemetry.clickhouse import ClickHouse

SCHEMA_FILE = Path(__file__).parent / "schemas" / "router-selection-v1.json"
TYPE = "router.selection"
CONTENT_TYPE = "application/cloudevents+json"

COLUMNS = (
    "decision_id",
    "decided_at",
    "decided_us",
    "tenant",
    "persona",
    "task",
    "conversation_id",
    "profile",
    "provider",
    "model",
    "reason",
    "propensity",
    "source",
    "replay",
    "bundle_version",
    "freshness",
    "event",
)


def envelope(
    event_type: str, event_id: str, subject: str, time: str, schema: str, data: Any
) -> dict[str, Any]:
    """A CloudEvents 1.0 envelope in structured JSON form."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": settings.EVENT_SOURCE,
        "type": event_type,
        "subject": subject,
        "time": time,
        "datacontenttype": "application/json",
        "dataschema": schema,
        "data": data,
    }


@dataclass(frozen=True, slots=True)
class SelectionEvent:
    """A decision's event with the verdict of the replay that it was made with."""

    row: Selection
    body: dict[str, Any]
    replay: str

    def to_json(self) -> str:
        return orjson.dumps(self.body).decode()


def event_of(row: Selection) -> SelectionEvent:
    """The event of a stored decision."""
    core: dict[str, Any] = orjson.loads(row.core)
    told = replay(row)
    candidates, profile = told.candidates, core["profile"]
    data = {
        "schema_version": 1,
        **{name: core[name] for name in _SAME},
        "profile": profile["slug"],
        "rationale": core["explanation"],
        "candidates": [_candidate(card) for card in candidates or ()],
        "candidates_complete": candidates is not None,
        "decided_by": row.source,
        "replay": told.verdict.value,
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": profile["provider"],
            "gen_ai.request.model": profile["model"],
            "gen_ai.conversation.id": core["conversation_id"],
            "server.address": urlsplit(profile["base_url"]).hostname,
        },
    }
    subject = f"{core['tenant']}/{core['persona']}"
    schema = "/api/v1/schemas/router-selection/v1"
    body = envelope(TYPE, core["decision_id"], subject, core["decided_at"], schema, data)
    return SelectionEvent(row, body, told.verdict.value)


_SAME = (
    "decision_id",
    "tenant",
    "persona",
    "task",
    "conversation_id",
    "request_id",
    "exclude",
    "last_profile",
    "reason",
    "fallback",
    "propensity",
    "bundle_version",
    "snapshot_id",
    "freshness",
    "as_of",
    "decided_at",
    "overrides",
)
_SHOWN = (
    "profile",
    "eligible",
    "rank",
    "score",
    "terms",
    "why_not",
    "requests",
    "cost_per_completion",
    "success_rate",
    "latency_p95_ms",
    "borrowed",
)


def _candidate(card: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: card[name] for name in _SHOWN},
        "gates": {gate["clause"]: gate["verdict"] for gate in card["gates"]},
        "lost": card["contrast"]["sentence"] if card["contrast"] else None,
    }


def publish(clickhouse: ClickHouse, most: int) -> int:
    """Send up to ``most`` decisions of the outbox to ClickHouse, oldest first; returns how many.

    A decision is marked after ClickHouse took it. Killed in between, it is sent again as the same row:
    the table keeps one. Raises ClickHouseError.
    """
    rows = list(Selection.objects.filter(in_clickhouse=False).order_by("id")[:most])
    if not rows:
        return 0
    events = [event_of(row) for row in rows]
    for day in sorted({event.row.decided_at.date() for event in events}):
        # A block touches one partition, whatever a long outage left waiting.
        block = [event for event in events if event.row.decided_at.date() == day]
        clickhouse.insert("selections", COLUMNS, [_values(event) for event in block])
    _mark(events)
    return len(rows)


def _values(event: SelectionEvent) -> list[object]:
    row, data = event.row, event.body["data"]
    attributes = data["attributes"]
    return [
        str(row.decision_id),
        row.decided_at,
        int(row.decided_at.timestamp() * 1_000_000),
        row.tenant,
        row.persona,
        row.task,
        row.conversation_id,
        row.profile,
        attributes["gen_ai.provider.name"],
        attributes["gen_ai.request.model"],
        row.reason,
        data["propensity"],
        row.source,
        event.replay,
        data["bundle_version"],
        data["freshness"],
        event.to_json(),
    ]


def _mark(events: Iterable[SelectionEvent]) -> None:
    verdicts: dict[str, list[int]] = {}
    for event in events:
        verdicts.setdefault(event.replay, []).append(event.row.pk)
    for verdict, keys in verdicts.items():
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            Selection.objects.filter(pk__in=some).update(in_clickhouse=True, replay=verdict)


def prune(before: datetime) -> int:
    """Delete decisions made before a time, if ClickHouse and the webhooks have them, and what conversations
    were given last before it; returns how many decisions went."""
    ConversationSelection.objects.filter(decided_at__lt=before).delete()
    done = Selection.objects.filter(decided_at__lt=before, in_clickhouse=True, fanned_out=True)
    return done.delete()[0]
