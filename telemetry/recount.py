"""Finds 5-minute buckets whose roll-ups do not add up to their raw events, and asks for them again. For clusters.

Replicas copy from each other a moment later. What a replica had taken just before it was killed is nowhere else until
it is back; a roll-up made meanwhile counts without it, and nothing marks the bucket when the events return. So they are
counted again: the last hours in every run, and one day of all that are kept, in turn.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from telemetry import spool
from telemetry.clickhouse import ClickHouse
from telemetry.rollups import floor

#: How often it runs; a day is looked at again after this many times as there are days.
EVERY = timedelta(minutes=5)
_RECENT = timedelta(hours=2)
_DAY = timedelta(days=1)
#: Seconds for one window.
_TIMEOUT = 60.0

# As roll-ups take them: of several copies of an event the last received, within its bucket.
_DIFFERENT = """
SELECT DISTINCT bucket FROM (
    SELECT bucket, tenant, persona, task, profile, sum(n) AS missing FROM (
        SELECT bucket, tenant, persona, task, profile, toInt64(1) AS n FROM (
            SELECT toStartOfFiveMinute(occurred_at) AS bucket, tenant, persona, task, profile, event_id, received_us
            FROM completions
            WHERE occurred_at >= %(start)s AND occurred_at < %(end)s
            ORDER BY bucket, tenant, event_id, received_us DESC
            LIMIT 1 BY bucket, tenant, event_id
        )
        UNION ALL
        SELECT bucket, tenant, persona, task, profile, -toInt64(requests) AS n
        FROM rollup_5m FINAL
        WHERE bucket >= %(start)s AND bucket < %(end)s
    )
    GROUP BY bucket, tenant, persona, task, profile
    HAVING missing != 0
)
"""


def recount(clickhouse: ClickHouse, now: datetime, keep_days: int) -> int:
    """Mark buckets that do not add up; returns how many. ``keep_days``: of raw events. Raises ClickHouseError."""
    found = {
        bucket for start, end in _windows(now, keep_days) for bucket in _different(clickhouse, start, end)
    }
    spool.mark_dirty(found, now)
    return len(found)


def _windows(now: datetime, keep_days: int) -> Iterable[tuple[datetime, datetime]]:
    end = floor(now, EVERY) + EVERY
    # The oldest day is left out: retention may be dropping it.
    back = int(now.timestamp() // EVERY.total_seconds()) % max(keep_days - 1, 1)
    day = floor(now, _DAY) - back * _DAY
    return (end - _RECENT, end), (day, day + _DAY)


def _different(clickhouse: ClickHouse, start: datetime, end: datetime) -> list[datetime]:
    rows = clickhouse.query(_DIFFERENT, {"start": start, "end": end}, timeout=_TIMEOUT)
    return [row["bucket"] for row in rows]
