"""A PostgreSQL that falls silent is given up after a while, not waited for."""

import pytest
from psycopg import Connection, OperationalError
from psycopg_pool import ConnectionPool

from config.postgres import ANSWER_SECONDS, BoundedConnection, unhurried
from tests.faults.proxy import Fault, proxy
from tests.services import ServiceMissing, postgres_server
from tests.telemetry.engines import missing

pytestmark = [pytest.mark.services, pytest.mark.slow]


class Impatient(BoundedConnection):
    answer_seconds = 1.5


def test_a_silent_server_is_given_up_and_a_slow_one_is_not() -> None:
    try:
        with postgres_server() as server, proxy(server.server.port) as between:
            url = f"postgres://postgres@127.0.0.1:{between.port}/postgres"
            with Impatient.connect(url, autocommit=True) as connection:
                assert connection.execute("SELECT pg_sleep(0.5), 7").fetchone() == ("", 7)
                with unhurried(connection):
                    assert connection.execute("SELECT pg_sleep(2), 7").fetchone() == ("", 7)
                connection.answer_seconds = Impatient.answer_seconds
                with between.misbehaving(Fault.BLACKHOLE), pytest.raises(OperationalError, match="no answer"):
                    connection.execute("SELECT 1")
                assert connection.closed
    except ServiceMissing as reason:
        missing(reason)


def test_of_a_pool_whose_connections_all_died_the_next_is_there_without_a_rest() -> None:
    try:
        with postgres_server() as server:
            url = f"postgres://postgres@127.0.0.1:{server.server.port}/postgres"
            with ConnectionPool(
                url,
                connection_class=BoundedConnection,
                check=ConnectionPool.check_connection,
                min_size=8,
                # Less than the 0.9 s at least that the pool rests after the second dead one.
                timeout=0.85,
            ) as pool:
                pool.wait()
                with Connection.connect(url, autocommit=True) as other:
                    other.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                    )
                with pool.connection() as found:
                    assert found.execute("SELECT 7").fetchone() == (7,)
    except ServiceMissing as reason:
        missing(reason)


def test_the_server_s_own_limit_comes_first() -> None:
    from config.settings import _database

    told = _database("postgres://user@host/name")["OPTIONS"]
    assert told["pool"]["connection_class"] is BoundedConnection
    assert "statement_timeout=15000" in told["options"]
    assert ANSWER_SECONDS > 15
