"""PostgreSQL's statements: one to read, one to write, whatever the number of decisions."""

from collections.abc import Iterable, Sequence
from typing import Any

from routing.storing.rows import ORIGIN, Key, News, Row

# A column is one text: the driver's lists cost ten times as much as all else it does here. No value holds these two
# characters: requests are refused that do, and JSON writes them as escapes.
_BETWEEN, _NULL = "\x1f", "\x1e"


def _array(kind: str) -> str:
    return f"string_to_array(%s, E'\\x1f', E'\\x1e')::{kind}[]"


_LAST = f"""
SELECT last.tenant, last.persona, last.conversation_id, last.profile
FROM unnest({_array("text")}, {_array("text")}, {_array("text")}) AS asked (tenant, persona, conversation_id)
JOIN routing_conversationselection AS last
    ON last.tenant = asked.tenant AND last.conversation_id = asked.conversation_id AND last.persona = asked.persona
"""  # noqa: S608  # all of it is constant

_KINDS = (
    "uuid", "timestamptz", "timestamptz", "text", "text", "text", "text", "text", "text", "text", "text", "text",
    "text", "bigint", "text",
)  # fmt: skip
_NAMES = ", ".join(Row._fields)

_PUT = f"""
WITH put AS (
    INSERT INTO routing_selection ({_NAMES}, in_clickhouse, fanned_out)
    SELECT {_NAMES}, false, false FROM unnest({", ".join(map(_array, _KINDS))}) AS told ({_NAMES})
    ON CONFLICT DO NOTHING
    RETURNING decision_id, decided_at, tenant, persona, conversation_id, profile, reason
), remembered AS (
    INSERT INTO routing_conversationselection AS last
        (tenant, persona, conversation_id, profile, reason, decision_id, decided_at, origin)
    SELECT DISTINCT ON (tenant, conversation_id, persona)
        tenant, persona, conversation_id, profile, reason, decision_id, decided_at, %s
    FROM put ORDER BY tenant, conversation_id, persona, decided_at DESC
    ON CONFLICT (tenant, conversation_id, persona) DO UPDATE
    SET profile = excluded.profile, reason = excluded.reason, decision_id = excluded.decision_id,
        decided_at = excluded.decided_at, origin = excluded.origin
    WHERE last.decided_at <= excluded.decided_at
)
SELECT decision_id::text FROM put
"""  # noqa: S608  # all of it is constant


_NEWS = """
SELECT tenant, persona, conversation_id, profile, extract(epoch FROM decided_at)::float8
FROM routing_conversationselection
WHERE decided_at > to_timestamp(%s) AND (origin IS NULL OR origin <> %s)
ORDER BY decided_at DESC LIMIT %s
"""


class PostgresStore:
    """On one connection of psycopg that commits each statement by itself, or takes part in a transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def last_profiles(self, keys: Sequence[Key]) -> dict[Key, str]:
        columns = [_text(column) for column in zip(*keys, strict=True)]
        rows = self._connection.execute(_LAST, columns, prepare=True).fetchall()
        return {(tenant, persona, conversation): profile for tenant, persona, conversation, profile in rows}

    def news(self, since: float, besides: str, most: int) -> list[News]:
        rows: list[News] = self._connection.execute(_NEWS, (since, besides, most)).fetchall()
        return rows

    def put(self, rows: Sequence[Row]) -> set[str]:
        # In one order for all processes: two that meet in several rows cannot lock each other out.
        ordered = sorted(rows, key=_by_name) if any(row.request_id is not None for row in rows) else rows
        columns = [_text(column) for column in zip(*map(_told, ordered), strict=True)]
        return {
            found for (found,) in self._connection.execute(_PUT, [*columns, ORIGIN], prepare=True).fetchall()
        }


def _by_name(row: Row) -> tuple[str, str, str]:
    return row.tenant, row.request_id or "", row.decision_id


def _told(row: Row) -> tuple[str | None, ...]:
    """As text, in the order of its fields."""
    snapshot = None if row.snapshot is None else str(row.snapshot)
    return (row[0], row.decided_at.isoformat(), row.recorded_at.isoformat(), *row[3:13], snapshot, row.core)


def _text(column: Iterable[str | None]) -> str:
    return _BETWEEN.join([_NULL if value is None else value for value in column])
