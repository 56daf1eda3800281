"""ClickHouse's schema: forward, backward, again after a failure, and never changed once landed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from telemetry import histogram
from telemetry.clickhouse import ClickHouse, ClickHouseQueryError, close_clickhouse, connect
from telemetry.clickhouse_migrations import freeze, runner
from telemetry.clickhouse_migrations.dialect import Dialect
from tests.services import free_ports
from tests.telemetry.engines import database_at

TABLES = {"completions", "rollup_5m", "rollup_1h", "rollup_24h", "selections", "arms_24h"}
ALL = [migration.name for migration in runner.migrations()]
OLD, NEW = (18, 16), (26, 9)


def tables(clickhouse: ClickHouse) -> set[str]:
    rows = clickhouse.query(
        "SELECT name FROM system.tables WHERE database = %(db)s", {"db": clickhouse.database}
    )
    return {row["name"] for row in rows}


def applied(clickhouse: ClickHouse) -> list[str]:
    return [one.migration.name for one in runner.status(clickhouse) if one.applied_at is not None]


def names(steps: list[runner.Step]) -> list[tuple[str, str]]:
    return [(step.direction.value, step.migration.name) for step in steps]


def test_migrating_creates_the_database_and_every_table(clickhouse_url: str) -> None:
    door = connect(clickhouse_url)
    assert applied(door) == []
    assert names(runner.migrate(door)) == [("forward", name) for name in ALL]
    try:
        assert tables(door) == TABLES | {"schema_migrations"}
        assert applied(door) == ALL
        [first, *_] = runner.status(door)
        assert first.applied_at is not None
        assert abs(first.applied_at - datetime.now(UTC)) < timedelta(minutes=1)
    finally:
        door.execute(f"DROP DATABASE {door.database}")
        door.close()


def test_migrating_again_does_nothing(clickhouse: ClickHouse) -> None:
    assert runner.plan(clickhouse) == []
    assert runner.migrate(clickhouse) == []


def test_a_dry_run_writes_nothing_not_even_the_database(clickhouse_url: str) -> None:
    door = connect(clickhouse_url)
    steps = runner.migrate(door, dry_run=True)
    assert [step.migration.name for step in steps] == ALL
    assert all(step.statements for step in steps)
    with pytest.raises(ClickHouseQueryError, match="code 81"):
        door.ping()
    door.close()


def test_every_migration_can_be_undone_and_done_again(clickhouse: ClickHouse) -> None:
    assert names(runner.migrate(clickhouse, 0)) == [("backward", name) for name in reversed(ALL)]
    assert tables(clickhouse) == {"schema_migrations"}
    assert applied(clickhouse) == []
    runner.migrate(clickhouse)
    assert tables(clickhouse) >= TABLES


def test_to_a_number_goes_forward_or_backward_to_it(empty_clickhouse: ClickHouse) -> None:
    assert names(runner.migrate(empty_clickhouse, 1)) == [("forward", ALL[0])]
    assert tables(empty_clickhouse) == {"completions", "schema_migrations"}
    runner.migrate(empty_clickhouse)
    assert ("backward", ALL[1]) in names(runner.migrate(empty_clickhouse, 1))
    assert applied(empty_clickhouse) == ALL[:1]


def test_an_unknown_number_is_refused(empty_clickhouse: ClickHouse) -> None:
    with pytest.raises(ValueError, match="no migration number 9999"):
        runner.migrate(empty_clickhouse, 9999)


@contextmanager
def failing_at(door: ClickHouse, monkeypatch: pytest.MonkeyPatch, text: str) -> Iterator[None]:
    """Statements that contain the text fail, as they would when the server goes away before them."""
    execute = door.execute

    def fail(sql: str, *args: Any, **options: Any) -> None:
        if text in sql:
            raise ClickHouseQueryError("made to fail")
        execute(sql, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(door, "execute", fail)
        yield


@pytest.mark.parametrize("statement", ["schema_migrations", "completions", "rollup_5m", "rollup_24h"])
def test_what_failed_midway_is_run_once_more(
    empty_clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    door = empty_clickhouse
    with failing_at(door, monkeypatch, statement), pytest.raises(ClickHouseQueryError, match="made to fail"):
        runner.migrate(door)
    assert applied(door) != ALL
    runner.migrate(door)
    assert applied(door) == ALL
    with failing_at(door, monkeypatch, statement), pytest.raises(ClickHouseQueryError, match="made to fail"):
        runner.migrate(door, 0)
    runner.migrate(door, 0)
    assert applied(door) == []
    assert tables(door) == {"schema_migrations"}


def test_of_several_copies_of_an_event_the_last_received_remains(clickhouse: ClickHouse) -> None:
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    columns = ["event_id", "occurred_at", "received_us", "tenant", "cost_usd", "latency_ms"]
    event = "6d3c2a5e-7d0a-4d3b-8a55-0c8d4a7b5a11"
    for received_us, cost in [(2, Decimal("0.002")), (3, None), (1, Decimal("0.001"))]:
        clickhouse.insert("completions", columns, [(event, moment, received_us, "acme", cost, 5)])
    rows = clickhouse.query("SELECT received_us, cost_usd, latency_ms FROM completions FINAL")
    assert rows == [{"received_us": 3, "cost_usd": None, "latency_ms": 5}]


def test_of_several_versions_of_a_roll_up_the_newest_counts(clickhouse: ClickHouse) -> None:
    bucket = datetime(2024, 5, 1, tzinfo=UTC)
    columns = ["bucket", "tenant", "persona", "version", "requests", "cost_usd", "latency", "last_event_at"]
    counts = tuple(range(histogram.BUCKETS))
    big = Decimal("12345678901234567890.000000001")
    for table in ("rollup_5m", "rollup_1h", "rollup_24h"):
        for version in (1, 3, 2):
            row = (bucket, "acme", "support", version, version * 10, big, counts, bucket)
            clickhouse.insert(table, columns, [row])
        [counted] = clickhouse.query(
            f"SELECT requests, sum(cost_usd) AS cost, sumForEach(latency) AS counts FROM {table} FINAL"
            " GROUP BY requests"
        )
        assert counted == {"requests": 30, "cost": big, "counts": counts}


def test_landed_migrations_are_frozen() -> None:
    assert freeze.changed() == [], "landed migrations are frozen: add a new one"
    assert list(runner.frozen()) == ALL, "run python -m telemetry.clickhouse_migrations.freeze"


def test_a_changed_migration_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "hash_of", lambda migration: "0" * 64)
    assert freeze.changed() == ALL
    assert freeze.main() == 1


def statements(dialect: Dialect) -> str:
    return ";\n".join(
        statement for migration in runner.migrations() for statement in migration.forward(dialect)
    )


def test_old_servers_get_the_portable_core_and_new_ones_the_extras() -> None:
    old, new = (statements(Dialect(version, "db")) for version in (OLD, NEW))
    for extra in ("CODEC", "LowCardinality", "INDEX"):
        assert extra not in old
        assert extra in new


@pytest.mark.parametrize("version", [OLD, NEW])
def test_on_a_cluster_tables_are_replicated_and_reached_through_a_distributed_one(
    version: tuple[int, int],
) -> None:
    for migration in runner.migrations():
        for statement in migration.forward(Dialect(version, "db", "prod")):
            assert " ON CLUSTER prod" in statement
    sql = statements(Dialect(version, "db", "prod"))
    assert (
        "ENGINE = ReplicatedReplacingMergeTree("
        "'/clickhouse/tables/{shard}/db/completions', '{replica}', received_us)" in sql
    )
    assert "Distributed(prod, db, completions_local, cityHash64(tenant, toString(event_id)))" in sql
    for table in ("rollup_5m", "rollup_1h", "rollup_24h"):
        assert f"Distributed(prod, db, {table}_local, cityHash64(tenant, persona, task, profile))" in sql


def test_undoing_on_a_cluster_drops_both_tables_and_frees_their_replica_paths_at_once() -> None:
    [first, *_] = runner.migrations()
    assert first.backward(Dialect(OLD, "db", "prod")) == [
        "DROP TABLE IF EXISTS db.completions ON CLUSTER prod",
        "DROP TABLE IF EXISTS db.completions_local ON CLUSTER prod",
    ]
    assert all(sql.endswith(" SYNC") for sql in first.backward(Dialect(NEW, "db", "prod")))
    assert first.backward(Dialect(NEW, "db")) == ["DROP TABLE IF EXISTS db.completions"]


def test_the_local_table_is_the_one_with_the_partitions() -> None:
    assert Dialect(NEW, "db").local("completions") == "db.completions"
    assert Dialect(NEW, "db", "prod").local("completions") == "db.completions_local"


@pytest.fixture
def command(clickhouse_url: str, settings: Settings) -> Iterator[ClickHouse]:
    settings.CLICKHOUSE_URL = clickhouse_url
    with database_at(clickhouse_url) as door:
        yield door
        close_clickhouse()


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("clickhouse_migrate", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_applies_undoes_and_shows_migrations(command: ClickHouse) -> None:
    assert run("--status").splitlines() == [f"[ ] {name}" for name in ALL]
    dry = run("--dry-run")
    assert "CREATE TABLE" in dry
    assert tables(command) == set()
    assert run().splitlines() == [f"Applied {name}" for name in ALL]
    assert run() == "Nothing to do.\n"
    assert all(line.startswith("[X] ") and line.endswith(" UTC") for line in run("--status").splitlines())
    assert run("--to", "1").splitlines() == [f"Undone {name}" for name in reversed(ALL[1:])]
    assert applied(command) == ALL[:1]


def test_the_command_fails_in_one_line_when_clickhouse_is_away(settings: Settings) -> None:
    settings.CLICKHOUSE_URL = f"clickhouse://127.0.0.1:{free_ports(1)[0]}/selection"
    try:
        with pytest.raises(CommandError, match="not reachable") as caught:
            run()
    finally:
        close_clickhouse()
    assert "\n" not in str(caught.value)
    assert caught.value.returncode != 0
