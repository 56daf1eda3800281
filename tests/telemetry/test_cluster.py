"""A real cluster, 2 shards x 2 replicas: what is written on one node is read on every other."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from telemetry.clickhouse import ClickHouse, connect
from telemetry.clickhouse_migrations import runner
from telemetry.clickhouse_migrations.dialect import Dialect
from tests.services import ClickHouseCluster, ClickHouseServer, ServiceMissing, clickhouse_cluster, wait_until
from tests.telemetry import test_arms
from tests.telemetry.engines import fresh_name, missing

pytestmark = [pytest.mark.services, pytest.mark.slow]
NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
COLUMNS = ["event_id", "occurred_at", "received_us", "tenant", "latency_ms"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClickHouseCluster]:
    try:
        with clickhouse_cluster() as running:
            yield running
    except ServiceMissing as reason:
        missing(reason)


@pytest.fixture
def door(cluster: ClickHouseCluster) -> Iterator[ClickHouse]:
    """A migrated database on the cluster, reached by every node's address."""
    url = cluster.url(fresh_name())
    with closing(connect(url, cluster=cluster.name, query_timeout=20)) as door:
        runner.migrate(door)
        yield door


@contextmanager
def at(node: ClickHouseServer, door: ClickHouse) -> Iterator[ClickHouse]:
    with closing(connect(node.url(door.database), cluster=door.cluster, query_timeout=20)) as one:
        yield one


def events(first: int, count: int) -> list[tuple[object, ...]]:
    return [
        (UUID(int=n), NOON + timedelta(seconds=n % 3600), n, "acme", n) for n in range(first, first + count)
    ]


def counted(door: ClickHouse, table: str = "completions") -> int:
    [row] = door.query(f"SELECT count() AS n FROM {table}")
    return int(row["n"])


def holds(node: ClickHouseServer, door: ClickHouse, count: int) -> None:
    with at(node, door) as one:
        wait_until(lambda: counted(one, "completions_local") == count, f"{count} rows on {node.port}")


def test_rows_are_spread_over_shards_and_copied_to_replicas(
    cluster: ClickHouseCluster, door: ClickHouse
) -> None:
    door.insert("completions", COLUMNS, events(0, 1000))
    # At once and whichever node is asked: an insert returns when the shards have it, and reads go where it went.
    for node in (node for shard in cluster.nodes for node in shard):
        with at(node, door) as one:
            assert counted(one) == 1000
    held = []
    for shard in cluster.nodes:
        with at(shard[0], door) as first:
            held.append(counted(first, "completions_local"))
        holds(shard[1], door, held[-1])
    assert sum(held) == 1000
    assert min(held) > 300


def test_what_was_inserted_is_read_at_once_however_often(door: ClickHouse) -> None:
    for n in range(20):
        door.insert("completions", COLUMNS, events(100 * n, 100))
        assert counted(door) == 100 * (n + 1)


def test_copies_of_one_event_meet_on_one_shard_and_the_last_received_remains(door: ClickHouse) -> None:
    for received_us in (1, 3, 2):
        door.insert("completions", COLUMNS, [(UUID(int=7), NOON, received_us, "acme", received_us)])
    assert door.query("SELECT received_us FROM completions FINAL") == [{"received_us": 3}]


def test_a_block_sent_again_to_the_other_replica_is_stored_once(
    cluster: ClickHouseCluster, door: ClickHouse
) -> None:
    block = events(0, 200)
    for node in cluster.nodes[0]:
        with at(node, door) as one:
            one.insert("completions", COLUMNS, block)
    assert counted(door) == 200


def test_insert_select_goes_through_the_distributed_table(door: ClickHouse) -> None:
    door.insert("completions", COLUMNS, events(0, 500))
    door.execute(
        """
        INSERT INTO rollup_5m (bucket, tenant, requests, version)
        SELECT toStartOfFiveMinute(occurred_at) AS bucket, tenant, count(), %(version)s
        FROM completions GROUP BY bucket, tenant
        """,
        {"version": 1},
    )
    assert door.query("SELECT sum(requests) AS n FROM rollup_5m FINAL") == [{"n": 500}]


@pytest.mark.django_db
def test_the_holdout_s_sums_are_the_same_over_shards(door: ClickHouse) -> None:
    completions, decisions = test_arms.scattered(5)
    test_arms.report(door, completions)
    test_arms.decide(door, decisions)
    first = test_arms.DAY - timedelta(days=4)
    assert len(test_arms.update(door, first=first)) >= 3
    assert test_arms.update(door, first=first) == []
    test_arms.assert_equal_to_oracle(door, completions, decisions)


def test_a_partition_is_dropped_on_every_node(cluster: ClickHouseCluster, door: ClickHouse) -> None:
    door.insert("completions", COLUMNS, events(0, 300))
    dialect = Dialect(door.version(), door.database, door.cluster)
    door.execute(f"ALTER TABLE {dialect.local('completions')}{dialect.on_cluster} DROP PARTITION 20240501")
    for shard in cluster.nodes:
        for node in shard:
            holds(node, door, 0)


def test_every_node_knows_which_migrations_are_applied(cluster: ClickHouseCluster, door: ClickHouse) -> None:
    for shard in cluster.nodes:
        for node in shard:
            with at(node, door) as one:
                wait_until(lambda one=one: runner.plan(one) == [], f"migrations known on {node.port}")  # type: ignore[misc]


def test_migrations_can_be_undone_and_done_again_on_a_cluster(door: ClickHouse) -> None:
    runner.migrate(door, 0)
    runner.migrate(door)
    assert counted(door) == 0


def test_with_a_node_killed_the_others_read_and_write_and_it_catches_up(
    cluster: ClickHouseCluster, door: ClickHouse
) -> None:
    # The last test of this module: the cluster is whole again only at its end.
    door.insert("completions", COLUMNS, events(0, 500))
    dead = cluster.nodes[0][0]  # the one that addresses name first
    survivor = cluster.nodes[0][1]
    with at(dead, door) as one:
        holds(survivor, door, counted(one, "completions_local"))
    dead.server.kill()

    assert counted(door) == 500
    door.insert("completions", COLUMNS, events(500, 500))
    assert counted(door) == 1000

    dead.server.start()
    with at(survivor, door) as one:
        expected = counted(one, "completions_local")
    holds(dead, door, expected)
