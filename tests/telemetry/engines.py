"""The two engines that every ClickHouse test runs on: the embedded one and a real server.

Other test folders import ``clickhouse_engine``, ``native_server`` and ``clickhouse`` from here into their
conftest.py; each test gets a fresh, migrated database.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from urllib.parse import urlsplit

import pytest

from telemetry.clickhouse import ClickHouse, connect
from telemetry.clickhouse_migrations import runner
from tests.services import ClickHouseServer, ServiceMissing, clickhouse_server

CHDB = "chdb"
NATIVE = pytest.param("native", marks=pytest.mark.services)
_numbers = count(1)


@cache
def chdb_directory() -> tempfile.TemporaryDirectory[str]:
    """The one path that this process's embedded engine may have; removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="chdb-", ignore_cleanup_errors=True)


def fresh_name() -> str:
    """A database name that no other test of this run has, in any process."""
    return f"test_{os.getpid()}_{next(_numbers)}"


def chdb_url(database: str) -> str:
    return f"chdb://{chdb_directory().name}?database={database}"


def missing(reason: ServiceMissing) -> None:
    """Skip loudly where servers are optional, fail where they are not (CI)."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@contextmanager
def database_at(url: str) -> Iterator[ClickHouse]:
    """An empty database, dropped afterwards."""
    door = connect(url)
    door.ensure_database()
    try:
        yield door
    finally:
        door.execute(f"DROP DATABASE IF EXISTS {door.database}")
        door.close()


@pytest.fixture(scope="session")
def native_server() -> Iterator[ClickHouseServer]:
    """One server per test process. Tests that stop or pause it start one of their own."""
    try:
        with clickhouse_server() as server:
            yield server
    except ServiceMissing as reason:
        missing(reason)


@pytest.fixture(params=[CHDB, NATIVE])
def clickhouse_url(request: pytest.FixtureRequest) -> str:
    """The address of a database that does not exist yet, on each engine in turn."""
    if request.param == CHDB:
        return chdb_url(fresh_name())
    server: ClickHouseServer = request.getfixturevalue("native_server")
    return server.url(fresh_name())


@pytest.fixture
def empty_clickhouse(clickhouse_url: str) -> Iterator[ClickHouse]:
    """An existing database without tables, on each engine in turn."""
    with database_at(clickhouse_url) as door:
        yield door


@pytest.fixture
def clickhouse(empty_clickhouse: ClickHouse) -> ClickHouse:
    """A migrated database, on each engine in turn."""
    runner.migrate(empty_clickhouse)
    return empty_clickhouse


def is_embedded(door_or_url: ClickHouse | str) -> bool:
    if isinstance(door_or_url, str):
        return urlsplit(door_or_url).scheme == "chdb"
    return type(door_or_url).__name__ == "EmbeddedClickHouse"
