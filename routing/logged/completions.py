"""Completion events of one scope, each once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from routing.logged.scope import Scope, Span
from telemetry.clickhouse import ClickHouse
from telemetry.rollups import floor

#: Seconds that one day's raw events may take: more than a page's query may.
TIMEOUT = 120.0
_BUCKET = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Completion:
    """One LLM call as it was reported. Cost in US dollars, latency in milliseconds, accuracy 0 to 1; None: unknown."""

    event_id: UUID
    occurred_at: datetime
    task: str
    profile: str
    conversation_id: str
    decision_id: UUID | None
    success: bool
    error_code: str | None
    latency_ms: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal | None
    accuracy: Decimal | None
    escalated: bool
    safety_violation: bool


# An event is one (tenant, event_id) within its 5-minute bucket, the last received counts: as in roll-ups. So the inner
# range is in whole buckets, or the copy that counts could lie outside.
_SQL = """
SELECT event_id, occurred_at, task, profile, conversation_id, decision_id, success, error_code, latency_ms,
    prompt_tokens, completion_tokens, cost_usd, accuracy, escalated, safety_violation
FROM (
    SELECT event_id, occurred_at, persona, task, profile, conversation_id, decision_id, success, error_code,
        latency_ms, prompt_tokens, completion_tokens, cost_usd, accuracy, escalated, safety_violation,
        toStartOfFiveMinute(occurred_at) AS bucket
    FROM completions
    WHERE occurred_at >= toDateTime(%(first)s, 'UTC') AND occurred_at < toDateTime(%(last)s, 'UTC')
        AND tenant = %(tenant)s
    ORDER BY bucket, event_id, received_us DESC
    LIMIT 1 BY bucket, event_id
)
WHERE persona = %(persona)s
    AND occurred_at >= toDateTime(%(start)s, 'UTC') AND occurred_at < toDateTime(%(end)s, 'UTC')
"""


def read_completions(clickhouse: ClickHouse, scope: Scope, span: Span) -> list[Completion]:
    """Of this scope and span, in order of time. Reads raw events, so give it a day at most. Raises ClickHouseError."""
    rows = clickhouse.query(
        _SQL,
        {
            "tenant": scope.tenant,
            "persona": scope.persona,
            "start": span.start,
            "end": span.end,
            "first": floor(span.start, _BUCKET),
            "last": floor(span.end - timedelta(seconds=1), _BUCKET) + _BUCKET,
        },
        timeout=TIMEOUT,
    )
    return sorted(map(_completion, rows), key=lambda one: (one.occurred_at, one.event_id))


def completions_by_day(clickhouse: ClickHouse, scope: Scope, span: Span) -> Iterator[list[Completion]]:
    """A list per day of the span."""
    for day in span.days():
        yield read_completions(clickhouse, scope, day)


def _completion(row: dict[str, Any]) -> Completion:
    flags = {name: bool(row[name]) for name in ("success", "escalated", "safety_violation")}
    return Completion(**{**row, **flags})
