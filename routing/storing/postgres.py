"""PostgreSQL's statements: one to read, one to write, whatever the number of decisions."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from routing.storing.rows import ORIGIN, News, Row, Stored, key_of

# A column is one text: the driver's lists cost ten times as much as all else it does here. No value holds these two
# characters: requests are refused that do, and JSON writes them as escapes.
_BETWEEN, _NULL = "\x1f", "\x1e"


def _array(kind: str) -> str:
    return f"string_to_array(%s, E'\\x1f', E'\\x1e')::{kind}[]"


_KINDS = (
    "uuid", "timestamptz", "text", "text", "text", "text", "text", "text", "text", "text", "text",
    "text", "bigint", "text",
)  # fmt: skip
_NAMES = ", ".join(Row._fields)
_REQUEST_ID = Row._fields.index("request_id")

_ARRAYS = ", ".join(map(_array, _KINDS))

_STORE = f"""
put AS (
    INSERT INTO routing_selection ({_NAMES}, recorded_at, in_clickhouse, fanned_out)
    SELECT {_NAMES}, %s::timestamptz, false, false FROM told {{condition}}
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
SELECT decision_id::text, true, NULL FROM put
"""  # noqa: S608  # all of it is constant

_PUT = f"WITH told AS (SELECT * FROM unnest({_ARRAYS}) AS told ({_NAMES})), {_STORE.format(condition='')}"  # noqa: S608
#: Of conversations that were given something else than believed, nothing is stored.
_PUT_IF = f"""
WITH told AS (
    SELECT told.*, last.profile AS given
    FROM unnest({_ARRAYS}, {_array("text")}) AS told ({_NAMES}, believed)
    LEFT JOIN routing_conversationselection AS last
    ON last.tenant = told.tenant AND last.conversation_id = told.conversation_id AND last.persona = told.persona
), {_STORE.format(condition="WHERE given IS NOT DISTINCT FROM believed")}
UNION ALL SELECT decision_id::text, false, given FROM told WHERE given IS DISTINCT FROM believed
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

    def news(self, since: float, besides: str, most: int) -> list[News]:
        rows: list[News] = self._connection.execute(_NEWS, (since, besides, most)).fetchall()
        return rows

    def put(self, rows: Sequence[Row], at: datetime, believed: Sequence[str | None] | None = None) -> Stored:
        told = [_told(row) for row in rows]
        if believed is not None:
            told = [(*values, belief) for values, belief in zip(told, believed, strict=True)]
        if any(row.request_id is not None for row in rows):
            # In one order for all processes: two that meet in several rows cannot lock each other out.
            told.sort(key=_by_name)
        columns = [_text(column) for column in zip(*told, strict=True)]
        statement = _PUT if believed is None else _PUT_IF
        found = self._connection.execute(statement, [*columns, at, ORIGIN], prepare=True).fetchall()
        new = {decision for decision, is_stored, _ in found if is_stored}
        if len(new) == len(found):
            return Stored(new, {})
        keys = {row.decision_id: key_of(row) for row in rows}
        return Stored(new, {keys[decision]: given for decision, is_stored, given in found if not is_stored})


def _by_name(told: tuple[str | None, ...]) -> tuple[str, ...]:
    decision, _, tenant, *_ = told
    return tenant or "", told[_REQUEST_ID] or "", decision or ""


def _told(row: Row) -> tuple[str | None, ...]:
    """As text, in the order of its fields."""
    snapshot = None if row.snapshot is None else str(row.snapshot)
    return (row[0], row.decided_at.isoformat(), *row[2:12], snapshot, row.core)


def _text(column: Iterable[str | None]) -> str:
    return _BETWEEN.join([_NULL if value is None else value for value in column])
