"""The product's own door on a fresh database, and the pipeline run by hand."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from telemetry import rollups, spool
from telemetry.clickhouse import ClickHouse, close_clickhouse, get_clickhouse
from telemetry.clickhouse_migrations import runner
from telemetry.ingest import accept
from tests.telemetry.engines import database_at


@pytest.fixture
def door(clickhouse_url: str, settings: Settings) -> Iterator[ClickHouse]:
    """What ``get_clickhouse`` gives, on a migrated database, on each engine in turn."""
    settings.CLICKHOUSE_URL = clickhouse_url
    close_clickhouse()
    with database_at(clickhouse_url) as opened:
        runner.migrate(opened)
        yield get_clickhouse()
        close_clickhouse()


def run_pipeline(clickhouse: ClickHouse, events: list[dict[str, Any]], now: datetime) -> None:
    """Accept, drain, roll up; every event must be acceptable."""
    for first in range(0, len(events), 1000):
        outcome = accept(events[first : first + 1000], source="test", now=now, tenants=None)
        assert outcome.rejected == ()
    while spool.drain(clickhouse, now, block_rows=10_000):
        pass
    while rollups.roll_up_dirty(clickhouse, lambda: now):
        pass
