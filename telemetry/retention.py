"""Retention: whole partitions older than their table's RETENTION_DAYS are dropped."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from telemetry.clickhouse import ClickHouse
from telemetry.clickhouse_migrations.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Dropped:
    table: str
    partition: int


#: The partition expression of each table (telemetry/clickhouse_migrations) and the column it is of.
PARTITIONS = {
    "completions": ("toYYYYMMDD", "occurred_at"),
    "rollup_5m": ("toYYYYMMDD", "bucket"),
    "rollup_1h": ("toYYYYMM", "bucket"),
    "rollup_24h": ("toYYYYMM", "bucket"),
    "selections": ("toYYYYMMDD", "decided_at"),
    "arms_24h": ("toYYYYMM", "bucket"),
}


def apply_retention(clickhouse: ClickHouse, now: datetime, days: Mapping[str, int]) -> list[Dropped]:
    """Drop every partition that holds nothing younger than ``days[table]`` days; returns them."""
    dialect = Dialect(clickhouse.version(), clickhouse.database, clickhouse.cluster)
    on_cluster = f" ON CLUSTER {clickhouse.cluster}" if clickhouse.cluster else ""
    dropped = []
    for table, keep in days.items():
        for partition in _expired(clickhouse, table, now - timedelta(days=keep)):
            clickhouse.execute(f"ALTER TABLE {dialect.local(table)}{on_cluster} DROP PARTITION {partition:d}")
            dropped.append(Dropped(table, partition))
    return dropped


def _expired(clickhouse: ClickHouse, table: str, edge: datetime) -> list[int]:
    function, column = PARTITIONS[table]
    # A partition goes when the edge lies in a later one, so nothing younger than the edge is lost.
    first_kept = datetime(edge.year, edge.month, edge.day if function == "toYYYYMMDD" else 1, tzinfo=UTC)
    rows = clickhouse.query(
        f"SELECT DISTINCT toUInt32({function}({column})) AS part FROM {table} "
        f"WHERE {column} < %(edge)s ORDER BY part",
        {"edge": first_kept},
    )
    return [row["part"] for row in rows]
