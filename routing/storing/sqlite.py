"""SQLite's statements: it runs in the process, so that one a row costs little. A group is one transaction, one sync."""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from routing.storing.rows import ORIGIN, Key, News, Row, Stored, key_of, newest_by_conversation

_NAMES = ", ".join(Row._fields)
_PUT = f"""
INSERT INTO routing_selection ({_NAMES}, recorded_at, in_clickhouse, fanned_out)
VALUES ({", ".join("?" * len(Row._fields))}, ?, 0, 0) ON CONFLICT DO NOTHING
"""  # noqa: S608  # all of it is constant
_REMEMBER = """
INSERT INTO routing_conversationselection
    (tenant, persona, conversation_id, profile, reason, decision_id, decided_at, origin)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, conversation_id, persona) DO UPDATE
SET profile = excluded.profile, reason = excluded.reason, decision_id = excluded.decision_id,
    decided_at = excluded.decided_at, origin = excluded.origin
WHERE decided_at <= excluded.decided_at
"""
_LAST = """
SELECT profile FROM routing_conversationselection WHERE tenant = ? AND persona = ? AND conversation_id = ?
"""


_NEWS = """
SELECT tenant, persona, conversation_id, profile, decided_at FROM routing_conversationselection
WHERE decided_at > ? AND (origin IS NULL OR origin <> ?) ORDER BY decided_at DESC LIMIT ?
"""


class SqliteStore:
    """On one connection of sqlite3. ``in_transaction``: somebody else begins and commits. ``as_stored`` gives a time as
    Django stores it."""

    def __init__(
        self, connection: Any, as_stored: Callable[[datetime], Any], *, in_transaction: bool
    ) -> None:
        self._connection = connection
        self._as_stored = as_stored
        self._in_transaction = in_transaction

    def news(self, since: float, besides: str, most: int) -> list[News]:
        start = self._as_stored(datetime.fromtimestamp(since, UTC))
        rows = self._connection.execute(_NEWS, (start, besides, most)).fetchall()
        return [(*names, _seconds(at)) for *names, at in rows]

    def put(self, rows: Sequence[Row], at: datetime, believed: Sequence[str | None] | None = None) -> Stored:
        recorded_at = self._as_stored(at)
        if self._in_transaction:
            return self._put(rows, recorded_at, believed)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            stored = self._put(rows, recorded_at, believed)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise
        return stored

    def _put(self, rows: Sequence[Row], recorded_at: Any, believed: Sequence[str | None] | None) -> Stored:
        run = self._connection.execute
        last = self._otherwise(rows, believed) if believed is not None else {}
        new = [
            row
            for row in rows
            if key_of(row) not in last and run(_PUT, (*self._values(row), recorded_at)).rowcount == 1
        ]
        for row in newest_by_conversation(new):
            values = (row.tenant, row.persona, row.conversation_id, row.profile, row.reason)
            at = self._as_stored(row.decided_at)
            run(_REMEMBER, (*values, uuid.UUID(row.decision_id).hex, at, ORIGIN))
        return Stored({row.decision_id for row in new}, last)

    def _otherwise(self, rows: Sequence[Row], believed: Sequence[str | None]) -> dict[Key, str | None]:
        """What the conversations were given last of which something else is believed."""
        found: dict[Key, str | None] = {}
        for row, belief in zip(rows, believed, strict=True):
            given = self._connection.execute(_LAST, key_of(row)).fetchone()
            if (given[0] if given else None) != belief:
                found[key_of(row)] = given[0] if given else None
        return found

    def _values(self, row: Row) -> tuple[Any, ...]:
        return (uuid.UUID(row.decision_id).hex, self._as_stored(row.decided_at), *row[2:])


def _seconds(at: Any) -> float:
    """Django's own converter may have made a time of the text already."""
    told = at if isinstance(at, datetime) else datetime.fromisoformat(at)
    return told.replace(tzinfo=UTC).timestamp()
