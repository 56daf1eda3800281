"""A scope's profiles by the hour, for charts and for the table beside them. From roll-ups only."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from routing.engine import Bundle
from routing.rules import Sla
from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.totals import Totals
from telemetry.trends import Series, read_hourly

log = logging.getLogger(__name__)

#: A page does without charts sooner than it waits.
_TIMEOUT_SECONDS = 2.0
_HOUR = timedelta(hours=1)
#: Value in the address to hours shown and label.
RANGES: Mapping[str, tuple[int, str]] = {"24h": (24, "24 hours"), "7d": (168, "7 days")}
#: As many lines as can be told apart.
MOST_LINES = 8
#: As many as are drawn before anybody asks for more.
DRAWN_LINES = 4
METRICS = (
    ("cost", "Cost per completion"),
    ("success", "Success rate"),
    ("p95", "p95 latency"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One profile's hours that had completions, by their start (UTC). ``n``: its completions in all of them."""

    profile: str
    n: int
    hours: Mapping[datetime, Totals]


@dataclass(frozen=True, slots=True)
class Charts:
    """``hours``: all of the range, each by its start (UTC); the last one is still running. ``lines``: profiles, those
    first that one looks for; ``others``: those that there is no room for."""

    hours: Sequence[datetime]
    lines: Sequence[Line]
    others: Sequence[str]

    def data(self, sla: Sla | None) -> dict[str, Any]:
        """JSON values to draw: hours as seconds since 1970, one value an hour and profile (null: unknown); cost in US
        dollars, success 0 to 1, p95 in milliseconds. ``limits`` are the SLA's (null: none)."""
        cap = sla.max_cost_per_completion if sla else None
        return {
            "hours": [int(hour.timestamp()) for hour in self.hours],
            "lines": [self._drawn(line) for line in self.lines],
            "limits": {
                "cost": None if cap is None else float(cap),
                "success": sla.min_success_rate if sla else None,
                "p95": sla.max_latency_p95_ms if sla else None,
            },
        }

    def _drawn(self, line: Line) -> dict[str, Any]:
        hours = [line.hours.get(hour) for hour in self.hours]
        costs = [hour.cost_per_completion if hour else None for hour in hours]
        return {
            "profile": line.profile,
            "cost": [None if cost is None else float(cost) for cost in costs],
            "success": [hour.success_rate if hour else None for hour in hours],
            "p95": [hour.latency_p95_ms if hour else None for hour in hours],
            "n": [hour.requests if hour else 0 for hour in hours],
        }

    def table(self) -> list[tuple[datetime, str, Totals]]:
        """The same figures as rows, the newest hour first; hours without completions are left out."""
        return [
            (hour, line.profile, line.hours[hour])
            for hour in reversed(self.hours)
            for line in self.lines
            if hour in line.hours
        ]


def read_charts(
    bundle: Bundle, tenant: str, persona: str, hours: int, now: datetime, first: Sequence[str | None] = ()
) -> Charts | None:
    """Of every profile of the catalogue, over the last whole hours and the running one, in one query. Those of
    ``first`` come before the others, which come by their completions. None: ClickHouse cannot be asked now."""
    end = now.replace(minute=0, second=0, microsecond=0) + _HOUR
    start = end - _HOUR * hours
    series = {Series(tenant, persona, slug) for slug in bundle.profiles}
    try:
        found = read_hourly(get_clickhouse(), series, start, end, timeout=_TIMEOUT_SECONDS)
    except ClickHouseError as error:
        log.warning("a scope without charts: %s", error)
        return None
    lines = [
        Line(one.profile, sum(totals.requests for totals in by_hour.values()), by_hour)
        for one, by_hour in found.items()
    ]
    order = {slug: place for place, slug in reversed(list(enumerate(first)))}
    lines.sort(key=lambda line: (order.get(line.profile, len(first)), -line.n, line.profile))
    return Charts(
        hours=[start + _HOUR * index for index in range(hours)],
        lines=lines[:MOST_LINES],
        others=[line.profile for line in lines[MOST_LINES:]],
    )
