"""Selection events of one scope, each once."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from routing.logged.completions import TIMEOUT
from routing.logged.scope import Scope, Span
from telemetry.clickhouse import ClickHouse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LoggedSelection:
    """A decision as it was published. ``propensity`` is the probability with which ``profile`` was given; ``exclude``
    and ``last_profile`` are what was asked besides."""

    decision_id: UUID
    decided_at: datetime
    task: str
    conversation_id: str
    profile: str
    reason: str
    propensity: float
    bundle_version: str
    exclude: tuple[str, ...]
    last_profile: str | None


# Of the event two members are wanted, which stand before any text of people's that could hold their names: quotes in
# text are escaped. The whole event, with all its candidates, is kilobytes.
_SQL = """
SELECT decision_id, decided_us, task, conversation_id, profile, reason, propensity, bundle_version,
    visitParamExtractRaw(event, 'exclude') AS exclude, visitParamExtractRaw(event, 'last_profile') AS last_profile
FROM (
    SELECT decision_id, decided_us, task, conversation_id, profile, reason, propensity, bundle_version, event
    FROM selections
    WHERE decided_at >= toDateTime(%(start)s, 'UTC') AND decided_at < toDateTime(%(end)s, 'UTC')
        AND tenant = %(tenant)s AND persona = %(persona)s
    LIMIT 1 BY decision_id
)
"""


def read_selections(clickhouse: ClickHouse, scope: Scope, span: Span) -> list[LoggedSelection]:
    """Of this scope and span, in order of time; give it a day at most. Raises ClickHouseError."""
    rows = clickhouse.query(
        _SQL,
        {"tenant": scope.tenant, "persona": scope.persona, "start": span.start, "end": span.end},
        timeout=TIMEOUT,
    )
    return sorted(map(_selection, rows), key=lambda one: (one.decided_at, one.decision_id))


def _selection(row: dict[str, Any]) -> LoggedSelection:
    rest = {
        name: value for name, value in row.items() if name not in ("decided_us", "exclude", "last_profile")
    }
    return LoggedSelection(
        **rest,
        decided_at=_EPOCH + timedelta(microseconds=row["decided_us"]),
        exclude=tuple(orjson.loads(row["exclude"])),
        last_profile=orjson.loads(row["last_profile"]),
    )
