"""ClickHouse's rows go out and come back on every engine: every table, every type, every partition."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ops.backup import BackupError, rows
from ops.backup.manifest import Rows
from telemetry.clickhouse import ClickHouse
from telemetry.clickhouse_migrations import runner
from tests.telemetry.engines import database_at

NOON = datetime(2026, 10, 31, 12, tzinfo=UTC)
BIG = Decimal("12345678901234567890123456789.123456789")
NASTY = 'it\'s "quoted" \\ and \n\t é 漢 😀'


def none(table: str, count: int) -> None:
    pass


def fill(door: ClickHouse) -> None:
    """Rows in every table, over days and months, in several versions of which one counts."""
    at = [NOON + timedelta(days=day) for day in range(-1, 3)]
    ids = [uuid.UUID(int=n) for n in range(8)]
    door.insert(
        "completions",
        [
            "event_id",
            "occurred_at",
            "received_us",
            "tenant",
            "error_code",
            "decision_id",
            "cost_usd",
            "accuracy",
        ],
        [
            (
                ids[n],
                when,
                received,
                NASTY,
                None if n % 2 else "timeout",
                None if n % 2 else ids[n],
                cost,
                None,
            )
            for n, when in enumerate(at)
            for received, cost in ((1, None), (2**53 + 1, Decimal("0.000000001")))
        ],
    )
    for table in ("rollup_5m", "rollup_1h", "rollup_24h"):
        door.insert(
            table,
            ["bucket", "tenant", "requests", "cost_usd", "accuracy_sum", "latency", "version"],
            [(when, "a", 2**63, BIG, Decimal("0.5"), [0, 2**40], v) for when in at for v in (1, 2)],
        )
    door.insert(
        "selections",
        ["decision_id", "decided_at", "decided_us", "tenant", "propensity", "event"],
        [(ids[n], when, 7, "a", 0.1 + n, '{"id": "é"}') for n, when in enumerate(at)],
    )
    door.insert(
        "arms_24h",
        ["bucket", "tenant", "cost_usd", "cost_squared", "seen", "version"],
        [(when, "a", BIG, 1e-300, NASTY, v) for when in at for v in (1, 2)],
    )


def everything(door: ClickHouse) -> dict[str, list[dict[str, Any]]]:
    return {table: sorted(door.query(f"SELECT * FROM {table} FINAL"), key=repr) for table in rows.TABLES}


@pytest.fixture
def another(clickhouse_url: str) -> Iterator[ClickHouse]:
    """A database without tables on the same engine."""
    with ExitStack() as stack:
        yield stack.enter_context(database_at(clickhouse_url.replace("test_", "other_")))


def test_every_row_comes_back_as_it_was_and_only_the_version_that_counts(
    clickhouse: ClickHouse, another: ClickHouse, tmp_path: Path
) -> None:
    fill(clickhouse)
    saved, parts = rows.save(clickhouse, tmp_path, none)
    assert {name: table.rows for name, table in saved.tables.items()} == dict.fromkeys(rows.TABLES, 4)
    assert len(parts) == 4 + 2 + 2 + 4 + 4 + 2  # days or months
    rows.load(another, tmp_path, saved, none)
    assert everything(another) == everything(clickhouse)
    assert runner.plan(another) == []


def test_restored_twice_nothing_counts_twice(clickhouse: ClickHouse, tmp_path: Path) -> None:
    fill(clickhouse)
    before = everything(clickhouse)
    saved, _ = rows.save(clickhouse, tmp_path, none)
    for _ in range(2):
        rows.load(clickhouse, tmp_path, saved, none)
    assert everything(clickhouse) == before


def test_every_table_of_the_schema_is_backed_up(clickhouse: ClickHouse) -> None:
    told = clickhouse.query(
        "SELECT name FROM system.tables WHERE database = %(database)s", {"database": clickhouse.database}
    )
    # The last is written anew by the migrations themselves.
    assert {row["name"] for row in told} == {*rows.TABLES, "schema_migrations"}


def test_a_table_that_does_not_hold_what_was_saved_is_told(clickhouse: ClickHouse, tmp_path: Path) -> None:
    fill(clickhouse)
    saved, _ = rows.save(clickhouse, tmp_path, none)
    tables = {**saved.tables, "selections": saved.tables["selections"].model_copy(update={"rows": 5})}
    lying = Rows(server=saved.server, migrations=saved.migrations, tables=tables)
    with pytest.raises(BackupError, match="ClickHouse's selections holds 4 rows; 5 were backed up"):
        rows.load(clickhouse, tmp_path, lying, none)


def test_an_empty_schema_is_backed_up_and_restored_too(clickhouse: ClickHouse, tmp_path: Path) -> None:
    saved, parts = rows.save(clickhouse, tmp_path, none)
    assert parts == []
    rows.load(clickhouse, tmp_path, saved, none)
    assert rows.used(clickhouse) == []
