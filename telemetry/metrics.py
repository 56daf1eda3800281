"""Metrics of profiles over trailing windows, read from roll-ups only."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from telemetry.clickhouse import ClickHouse
from telemetry.partition import CONDITION, Partition
from telemetry.rollups import floor
from telemetry.totals import Totals

_FIVE_MINUTES = timedelta(minutes=5)
_HOUR = timedelta(hours=1)


class Window(StrEnum):
    """Trailing windows."""

    M5 = "5m"
    H1 = "1h"
    H24 = "24h"

    @property
    def length(self) -> timedelta:
        return {Window.M5: _FIVE_MINUTES, Window.H1: _HOUR, Window.H24: timedelta(hours=24)}[self]


@dataclass(frozen=True, slots=True)
class Span:
    """Whole 5-minute buckets, ``start`` inclusive, ``end`` exclusive, UTC."""

    start: datetime
    end: datetime


def trailing(window: Window, now: datetime) -> Span:
    """The window that ends now, widened to whole 5-minute buckets on both sides, so that it always holds
    the full window and the running bucket."""
    start = floor(now - window.length, _FIVE_MINUTES)
    running = floor(now, _FIVE_MINUTES)
    return Span(start, running if running == now else running + _FIVE_MINUTES)


#: What totals are summed from, in SQL.
SUMS = ", ".join(
    f"sum({field.name}) AS s_{field.name}"
    for field in fields(Totals)
    if field.name not in ("latency", "last_event_at")
)


def _part(table: str, number: int, columns: str) -> str:
    measures = ", ".join(field.name for field in fields(Totals))
    return f"""
        SELECT {columns}, {measures} FROM {table} FINAL
        WHERE bucket >= %(from{number})s AND bucket < %(to{number})s AND requests > 0 {{conditions}}
    """


@dataclass(frozen=True, slots=True)
class Key:
    """What totals are of. ``tenant`` None: over all tenants; ``task`` None: over all tasks asked for."""

    tenant: str | None
    persona: str
    profile: str
    task: str | None = None


def read_totals(
    clickhouse: ClickHouse,
    span: Span,
    *,
    by_tenant: bool = True,
    by_task: bool = False,
    tenant: str | None = None,
    persona: str | None = None,
    task: str | None = None,
    profiles: Collection[str] | None = None,
    partition: Partition | None = None,
) -> dict[Key, Totals]:
    """Exact totals per profile and scope; with ``by_tenant`` False per persona over all tenants, with ``by_task`` per
    task, too. ``profiles``: only these (at least one; None: all). ``partition``: only scopes of this share.

    Whole hours come from rollup_1h, the ends from rollup_5m: the same sums, far fewer rows. Raises
    ClickHouseError.
    """
    columns = ("tenant, " if by_tenant else "") + "persona, profile" + (", task" if by_task else "")
    parts, parameters = parts_of(span, columns)
    conditions = ""
    for name, value in (("tenant", tenant), ("persona", persona), ("task", task)):
        if value is not None:
            conditions += f" AND {name} = %({name})s"
            parameters[name] = value
    if profiles is not None:
        conditions += " AND profile IN %(profiles)s"
        parameters["profiles"] = tuple(sorted(profiles))
    if partition is not None:
        conditions += f" AND {CONDITION}"
        parameters |= partition.parameters
    union = " UNION ALL ".join(parts).replace("{conditions}", conditions)
    rows = clickhouse.query(
        f"""
        SELECT {columns}, {SUMS}, sumForEach(latency) AS s_latency, max(last_event_at) AS s_last_event_at
        FROM ({union}) GROUP BY {columns}
        """,
        parameters,
    )
    return {
        Key(row.get("tenant"), row["persona"], row["profile"], row.get("task")): totals_of(row)
        for row in rows
    }


def parts_of(span: Span, columns: str) -> tuple[list[str], dict[str, Any]]:
    """SELECTs of the span's roll-ups, to be joined by UNION ALL and given ``{conditions}``, with their parameters:
    whole hours from rollup_1h, the ends from rollup_5m. ``columns`` are those of the key."""
    first_hour = -(-int(span.start.timestamp()) // 3600) * 3600
    whole_from = span.start + timedelta(seconds=first_hour - span.start.timestamp())
    whole_to = floor(span.end, _HOUR)
    if whole_from >= whole_to:
        pieces = [("rollup_5m", span.start, span.end)]
    else:
        pieces = [
            ("rollup_5m", span.start, whole_from),
            ("rollup_1h", whole_from, whole_to),
            ("rollup_5m", whole_to, span.end),
        ]
    parameters: dict[str, Any] = {}
    parts = []
    for number, (table, start, end) in enumerate(piece for piece in pieces if piece[1] < piece[2]):
        parameters |= {f"from{number}": start, f"to{number}": end}
        parts.append(_part(table, number, columns))
    return parts, parameters


def totals_of(row: Mapping[str, Any]) -> Totals:
    """From a row of ``SUMS``."""
    return Totals(**{field.name: row[f"s_{field.name}"] for field in fields(Totals)})
