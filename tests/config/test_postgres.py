"""A PostgreSQL that falls silent is given up after a while, not waited for."""

import pytest
from psycopg import OperationalError

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


def test_the_server_s_own_limit_comes_first() -> None:
    from config.settings import _database

    told = _database("postgres://user@host/name")["OPTIONS"]
    assert told["pool"]["connection_class"] is BoundedConnection
    assert "statement_timeout=15000" in told["options"]
    assert ANSWER_SECONDS > 15
