"""The pipeline over a real cluster whose node is killed; apart, since a node that was away is avoided for minutes."""

import itertools
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.backup import rows
from telemetry import recount, rollups, spool
from telemetry.clickhouse import ClickHouse, ClickHouseUnavailable
from telemetry.ingest import accept
from telemetry.models import DirtyBucket
from tests import factories
from tests.services import ClickHouseCluster, wait_until
from tests.telemetry import test_rollups
from tests.telemetry.test_cluster import at, cluster, counted, door

__all__ = ["cluster", "door"]
pytestmark = [pytest.mark.services, pytest.mark.slow]
RAW_DAYS = 5


@pytest.mark.django_db
def test_the_pipeline_goes_on_over_a_killed_node_and_a_backup_holds_what_both_shards_had(
    cluster: ClickHouseCluster, door: ClickHouse, tmp_path: Path
) -> None:
    sent = test_rollups.make_events(4000)
    dead, peer = cluster.nodes[1]
    for first in range(0, len(sent), 100):
        accept(sent[first : first + 100], source="test", now=factories.NOW, tenants=None)
    # Killed while blocks come in, by somebody who does not wait for a gap between them.
    killer = threading.Thread(target=dead.server.kill)
    for block in itertools.count():
        if block == 10:
            killer.start()
        try:
            if not spool.drain(door, factories.NOW, block_rows=100, max_blocks=1):
                break
        except ClickHouseUnavailable:
            continue  # as the drain task does: they wait in the spool
    killer.join()
    work_off(door)

    # While it is away some come again, and some more.
    more = test_rollups.make_events(1000, seed=2)
    for batch in (sent[:500], more[:500], more[500:]):
        accept(batch, source="test", now=factories.NOW, tenants=None)
    work_off(door)
    dead.server.start()
    with at(peer, door) as other, at(dead, door) as one:
        wait_until(
            lambda: counted(one, "completions_local") == counted(other, "completions_local") > 0,
            "catching up",
            timeout=90,
        )
    # It came back with what it alone had taken: over all days that is found, whenever its turn is.
    for turn in range(RAW_DAYS - 1):
        recount.recount(door, factories.NOW + turn * recount.EVERY, RAW_DAYS)
    work_off(door)
    test_rollups.assert_equal_to_oracle(door, sent + more)
    assert recount.recount(door, factories.NOW, RAW_DAYS) == 0

    saved, _ = rows.save(door, tmp_path, lambda table, count: None)
    rows.load(door, tmp_path, saved, lambda table, count: None)
    test_rollups.assert_equal_to_oracle(door, sent + more)


def work_off(door: ClickHouse) -> None:
    """Drain and roll up as Celery does, until nothing waits."""
    while spool.backlog().events or DirtyBucket.objects.exists():
        try:
            spool.drain(door, factories.NOW, block_rows=1000)
            rollups.roll_up_dirty(door, lambda: datetime.now(UTC))
        except ClickHouseUnavailable:
            continue
