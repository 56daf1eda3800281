"""Metrics over many events: 24 hours from roll-ups, beside the same question put to raw events."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bench.table import Line, timed

_STATEMENT = """
INSERT INTO completions (event_id, occurred_at, received_us, tenant, persona, task, profile, conversation_id,
    success, latency_ms, latency_bucket, prompt_tokens, completion_tokens, cost_usd, cost_source, accuracy,
    escalated, safety_violation, schema_version)
SELECT toUUID(concat('00000000-0000-4000-8000-', leftPad_)), toDateTime(%(start)s, 'UTC') + number %% 86000, 1,
    concat('tenant-', toString(intHash32(number) %% 20)), concat('persona-', toString(intHash32(number + 7) %% 4)),
    'essay', concat('profile-', toString(intHash32(number + 13) %% 14)), 'c', rand() %% 10 > 1,
    latency, toUInt8(floor(8 * log2(latency))), 300, 400, toDecimal64(0.002, 9), 'reported',
    toDecimal32(0.8, 6), 0, 0, 1
FROM (
    SELECT number, toUInt32(500 + rand(number) %% 20000) AS latency,
        substring(concat('000000000000', toString(number)), length(toString(number)) + 1, 12) AS leftPad_
    FROM numbers(%(first)s, %(count)s)
)
"""


def metrics(name: str, events: int, rounds: int) -> list[Line]:
    """Fill, roll up, ask."""
    from telemetry import metrics, rollups
    from telemetry.clickhouse import get_clickhouse

    clickhouse = get_clickhouse()
    clickhouse.execute("TRUNCATE TABLE completions")
    now = rollups.floor(datetime.now(UTC), timedelta(minutes=5))
    start = now - timedelta(seconds=86_000)
    step = 500_000
    for first in range(0, events, step):
        parameters = {"start": start, "first": first, "count": min(step, events - first)}
        clickhouse.execute(_STATEMENT, parameters, timeout=120)
    backfill = timed(
        lambda: rollups.backfill(clickhouse, start, now, lambda: datetime.now(UTC), lambda *_: None), 1
    )
    span = metrics.trailing(metrics.Window.H24, now)
    scope: dict[str, Any] = {"tenant": "tenant-3", "persona": "persona-1"}
    found = metrics.read_totals(clickhouse, span, **scope)
    assert len(found) == 14, len(found)
    one = timed(lambda: metrics.read_totals(clickhouse, span, **scope), rounds)
    every = timed(lambda: metrics.read_totals(clickhouse, span), rounds)
    raw = timed(lambda: clickhouse.query(_RAW, {"start": span.start, "end": span.end, **scope}), rounds)
    million = f"{events / 1_000_000:g}M events"
    return [
        Line(f"24h metrics of one scope, {million}, {name}", "ms", _ms(one), 100),
        Line(f"24h metrics of all 80 scopes, {million}, {name}", "ms", _ms(every)),
        Line(f"the same scope from raw events (baseline), {million}, {name}", "ms", _ms(raw)),
        Line(f"roll-up of all {million} at once, {name}", "s", backfill),
    ]


_RAW = """
SELECT profile, count() AS n, sum(cost_usd) AS cost, quantileTDigest(0.95)(latency_ms) AS p95
FROM completions
WHERE occurred_at >= %(start)s AND occurred_at < %(end)s AND tenant = %(tenant)s AND persona = %(persona)s
GROUP BY profile
"""


def _ms(seconds: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(second * 1000 for second in seconds)
