"""Roll-ups: recomputed from distinct raw events for every dirty bucket, never incremented.

Each run writes new rows with a higher version; the newest version of a row is the one that counts
(ReplacingMergeTree, read with FINAL). So duplicates, disorder, late events, repeated and killed runs
cannot change a total. An event is one (tenant, event_id) within its 5-minute bucket; of several copies
the last received counts.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from django.db import transaction

from telemetry.clickhouse import ClickHouse
from telemetry.models import DirtyBucket, RollupClock, ScopeActivity

#: A recompute reads raw events, so it may take longer than a page's query, in seconds.
_TIMEOUT = 120.0
#: Raw events that one statement reads, about: finding the distinct ones takes the server a gigabyte a million.
EVENTS_AT_ONCE = 1_000_000
_BUCKET = timedelta(minutes=5)
_MEASURES = (
    "requests",
    "successes",
    "escalations",
    "safety_violations",
    "accuracy_sum",
    "accuracy_count",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "served_other",
    "priced",
    "priced_tokens",
    "priced_successes",
    "cost_usd",
)
_KEYS = "bucket, tenant, persona, task, profile"
_COLUMNS = f"{_KEYS}, {', '.join(_MEASURES)}, latency, last_event_at, version"

# Events are first counted per latency bucket; each such group then adds its count at its own place in
# the histogram, so no row-sized array is ever built.
_FROM_RAW = f"""
INSERT INTO rollup_5m ({_COLUMNS})
SELECT {_KEYS}, {", ".join(f"sum(g_{m})" for m in _MEASURES)},
    sumForEach(arrayConcat(arrayResize(emptyArrayUInt64(), latency_bucket), [g_requests])),
    max(g_last_event_at), toUInt64(%(version)s)
FROM (
    SELECT {_KEYS}, latency_bucket,
        count() AS g_requests,
        sum(success) AS g_successes,
        sum(escalated) AS g_escalations,
        sum(safety_violation) AS g_safety_violations,
        sum(ifNull(accuracy, toDecimal32(0, 6))) AS g_accuracy_sum,
        countIf(isNotNull(accuracy)) AS g_accuracy_count,
        sum(toUInt64(prompt_tokens)) AS g_prompt_tokens,
        sum(toUInt64(completion_tokens)) AS g_completion_tokens,
        sum(toUInt64(ifNull(cached_tokens, 0))) AS g_cached_tokens,
        sum(served_other) AS g_served_other,
        countIf(isNotNull(cost_usd)) AS g_priced,
        sumIf(toUInt64(prompt_tokens) + completion_tokens, isNotNull(cost_usd)) AS g_priced_tokens,
        countIf(isNotNull(cost_usd) AND success = 1) AS g_priced_successes,
        sum(ifNull(cost_usd, toDecimal64(0, 9))) AS g_cost_usd,
        max(occurred_at) AS g_last_event_at
    FROM (
        SELECT toStartOfFiveMinute(occurred_at) AS bucket, tenant, persona, task, profile, event_id,
            occurred_at, success, escalated, safety_violation, accuracy, prompt_tokens, completion_tokens,
            cached_tokens, served_other, cost_usd, latency_bucket
        FROM completions
        WHERE occurred_at >= %(start)s AND occurred_at < %(end)s
            AND toStartOfFiveMinute(occurred_at) IN %(buckets)s
        ORDER BY bucket, tenant, event_id, received_us DESC
        LIMIT 1 BY bucket, tenant, event_id
    )
    GROUP BY {_KEYS}, latency_bucket
)
GROUP BY {_KEYS}
"""

# A resent event may have moved to another profile or task. What it left must not keep its old count.
_TOMBSTONES = f"""
INSERT INTO rollup_5m ({_COLUMNS})
SELECT {_KEYS}, 0, 0, 0, 0, toDecimal128(0, 6), 0, 0, 0, 0, 0, 0, 0, 0, toDecimal128(0, 9),
    emptyArrayUInt64(), toDateTime(0, 'UTC'), toUInt64(%(version)s)
FROM rollup_5m FINAL
WHERE bucket >= %(start)s AND bucket < %(end)s AND bucket IN %(buckets)s
    AND version < %(version)s AND requests > 0
"""


def _coarser(source: str, target: str, start_of: str) -> str:
    return f"""
INSERT INTO {target} ({_COLUMNS})
SELECT coarse AS bucket, tenant, persona, task, profile, {", ".join(f"sum({m})" for m in _MEASURES)},
    sumForEach(latency), max(last_event_at), toUInt64(%(version)s)
FROM (
    SELECT {start_of}(bucket) AS coarse, tenant, persona, task, profile, {", ".join(_MEASURES)},
        latency, last_event_at
    FROM {source} FINAL
    WHERE bucket >= %(start)s AND bucket < %(end)s AND {start_of}(bucket) IN %(buckets)s
)
GROUP BY coarse, tenant, persona, task, profile
"""


@dataclass(frozen=True, slots=True)
class Grain:
    """One resolution: its table, the length of a bucket, and the statements that fill it."""

    table: str
    length: timedelta
    statements: Sequence[str]


#: 18.16 has toStartOfDay only as DateTime of the argument's zone, which is UTC here.
GRAINS = (
    Grain("rollup_5m", _BUCKET, (_FROM_RAW, _TOMBSTONES)),
    Grain("rollup_1h", timedelta(hours=1), (_coarser("rollup_5m", "rollup_1h", "toStartOfHour"),)),
    Grain("rollup_24h", timedelta(days=1), (_coarser("rollup_1h", "rollup_24h", "toStartOfDay"),)),
)


def floor(at: datetime, length: timedelta) -> datetime:
    """The start of the bucket that holds a time (UTC)."""
    seconds = int(length.total_seconds())
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)


def roll_up_dirty(clickhouse: ClickHouse, clock: Callable[[], datetime], most: int = 2_000) -> int:
    """Recompute up to ``most`` dirty 5-minute buckets, newest first, and what they belong to.

    Returns how many there were. The marks are read before the version is taken and the raw events after:
    whichever of two runs has the higher version has seen everything that the lower one was asked for.
    """
    started = clock()
    marks = list(DirtyBucket.objects.order_by("-start").values_list("start", "token")[:most])
    if not marks:
        return 0
    for day, group in _by_day(marks):
        starts = [start for start, _ in group]
        recompute(clickhouse, starts, clock())
        remember_activity(clickhouse, starts)
        _unmark(day, group, started)
    return len(marks)


def _by_day(
    marks: Iterable[tuple[datetime, str]],
) -> Iterator[tuple[datetime, list[tuple[datetime, str]]]]:
    for day, group in groupby(marks, key=lambda mark: floor(mark[0], timedelta(days=1))):
        yield day, list(group)


def _unmark(day: datetime, group: list[tuple[datetime, str]], started: datetime) -> None:
    within = DirtyBucket.objects.filter(start__gte=day, start__lt=day + timedelta(days=1))
    tokens = {token for _, token in group}
    # At most 288 starts a day, so both lists stay below SQLite's 999 parameters.
    starts = [start for start, _ in group]
    with transaction.atomic():
        within.filter(start__in=starts, token__in=tokens).delete()
        # Marked again meanwhile: what was there before this run began is done.
        within.filter(start__in=starts, marked_at__lt=started).update(marked_at=started)


def recompute(clickhouse: ClickHouse, buckets: Collection[datetime], now: datetime) -> None:
    """Recompute these 5-minute buckets from raw events, then their hours and days."""
    version = next_version(now)
    for grain in GRAINS:
        starts = sorted({floor(bucket, grain.length) for bucket in buckets})
        for portion in _portions(clickhouse, starts) if grain.length == _BUCKET else [starts]:
            parameters: dict[str, Any] = {
                "start": portion[0],
                "end": portion[-1] + grain.length,
                "buckets": tuple(portion),
                "version": version,
            }
            for statement in grain.statements:
                clickhouse.execute(statement, parameters, timeout=_TIMEOUT)


def _portions(clickhouse: ClickHouse, starts: list[datetime]) -> list[list[datetime]]:
    """5-minute buckets, in order, so many together that about EVENTS_AT_ONCE lie in them; one bucket at least."""
    if len(starts) == 1:
        return [starts]
    events = _events_by_bucket(clickhouse, starts[0], starts[-1] + _BUCKET)
    portions: list[list[datetime]] = [[]]
    most = 0
    for start in starts:
        most += events.get(start, 0)
        if most > EVENTS_AT_ONCE and portions[-1]:
            portions.append([])
            most = events.get(start, 0)
        portions[-1].append(start)
    return portions


def next_version(now: datetime) -> int:
    """A version above every earlier one: microseconds now, or one more than the last when the clock
    went back."""
    with transaction.atomic():
        RollupClock.objects.get_or_create(id=1)
        clock = RollupClock.objects.select_for_update().get(id=1)
        clock.last_version = max(clock.last_version + 1, int(now.timestamp() * 1_000_000))
        clock.save()
    return clock.last_version


def remember_activity(clickhouse: ClickHouse, buckets: Collection[datetime]) -> None:
    """Keep, per scope, the newest event that roll-ups have seen; freshness is judged by it."""
    rows = clickhouse.query(
        """
        SELECT tenant, persona, max(last_event_at) AS last_event_at
        FROM rollup_5m FINAL
        WHERE bucket >= %(start)s AND bucket <= %(end)s AND requests > 0
        GROUP BY tenant, persona
        """,
        {"start": min(buckets), "end": max(buckets)},
    )
    known = {
        (tenant, persona): last
        for tenant, persona, last in ScopeActivity.objects.values_list("tenant", "persona", "last_event_at")
    }
    newer = [row for row in rows if _is_newer(row, known)]
    ScopeActivity.objects.bulk_create(
        [ScopeActivity(**row) for row in newer],
        update_conflicts=True,
        update_fields=["last_event_at"],
        unique_fields=["tenant", "persona"],
        batch_size=300,
    )


def _is_newer(row: dict[str, Any], known: dict[tuple[str, str], datetime]) -> bool:
    last = known.get((row["tenant"], row["persona"]))
    return last is None or row["last_event_at"] > last


def backfill(
    clickhouse: ClickHouse,
    start: datetime,
    end: datetime,
    clock: Callable[[], datetime],
    progress: Callable[[int, int], None],
) -> int:
    """Recompute every 5-minute bucket of [start, end) that has raw events, a day at a time.

    Days whose raw events are gone are left as they are. Returns how many buckets were recomputed.
    """
    day = floor(start, timedelta(days=1))
    days = [day + timedelta(days=n) for n in range((end - day).days + 1) if day + timedelta(days=n) < end]
    done = 0
    for number, first in enumerate(days, 1):
        buckets = _events_by_bucket(clickhouse, max(first, start), min(first + timedelta(days=1), end))
        if buckets:
            recompute(clickhouse, buckets, clock())
            remember_activity(clickhouse, buckets)
            done += len(buckets)
        progress(number, len(days))
    return done


def _events_by_bucket(clickhouse: ClickHouse, start: datetime, end: datetime) -> dict[datetime, int]:
    """How many raw events, copies and all, the 5-minute buckets of [start, end) hold that hold any."""
    rows = clickhouse.query(
        """
        SELECT toStartOfFiveMinute(occurred_at) AS bucket, count() AS events FROM completions
        WHERE occurred_at >= %(start)s AND occurred_at < %(end)s GROUP BY bucket
        """,
        # Whole buckets: a bound time loses its fraction of a second, and the last event with it.
        {"start": floor(start, _BUCKET), "end": floor(end - timedelta(microseconds=1), _BUCKET) + _BUCKET},
        timeout=_TIMEOUT,
    )
    return {row["bucket"]: int(row["events"]) for row in rows}
