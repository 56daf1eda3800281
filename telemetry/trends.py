"""How profiles did over time in given scopes: by the hour, from roll-ups only."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from telemetry.clickhouse import ClickHouse
from telemetry.metrics import SUMS, totals_of
from telemetry.totals import Totals


class Series(NamedTuple):
    """What a series is of."""

    tenant: str
    persona: str
    profile: str


def read_hourly(
    clickhouse: ClickHouse,
    series: Collection[Series],
    start: datetime,
    end: datetime,
    *,
    timeout: float | None = None,
) -> dict[Series, dict[datetime, Totals]]:
    """Exact totals by hour (its start, UTC), ``start`` inclusive and ``end`` exclusive, of each series over all tasks.
    Hours without completions are left out. One query. Raises ClickHouseError."""
    if not series:
        return {}
    rows = clickhouse.query(
        f"""
        SELECT tenant, persona, profile, bucket AS hour, {SUMS},
               sumForEach(latency) AS s_latency, max(last_event_at) AS s_last_event_at
        FROM (
            SELECT * FROM rollup_1h FINAL
            WHERE bucket >= %(start)s AND bucket < %(end)s AND requests > 0
              AND tenant IN %(tenants)s AND persona IN %(personas)s AND profile IN %(profiles)s
        )
        GROUP BY tenant, persona, profile, hour
        """,
        {
            "start": start,
            "end": end,
            "tenants": tuple(sorted({one.tenant for one in series})),
            "personas": tuple(sorted({one.persona for one in series})),
            "profiles": tuple(sorted({one.profile for one in series})),
        },
        timeout=timeout,
    )
    wanted = set(series)
    found: dict[Series, dict[datetime, Totals]] = {}
    for row in rows:
        key = Series(row["tenant"], row["persona"], row["profile"])
        if key in wanted:
            found.setdefault(key, {})[row["hour"]] = totals_of(row)
    return found
