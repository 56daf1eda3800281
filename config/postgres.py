"""A connection to PostgreSQL that gives up on a server that says nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from psycopg import Connection, OperationalError, errors
from psycopg.abc import PQGen
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg_pool import ConnectionPool

RV = TypeVar("RV")
#: The server itself ends statements after 15 s (config.settings): who hears nothing for longer has lost it.
ANSWER_SECONDS = 20.0
_FOR_EVER = 86_400.0


class BoundedConnection(Connection[tuple[object, ...]]):
    """Raises OperationalError, and is closed, when an answer takes longer than ``answer_seconds``. Without it a request
    waits as long as the network stays silent, and so do all that share its process's threads.

    One that finds itself cut off takes its pool's free ones with it: a server that restarts ends them all, and the pool
    rests for a second after each one it finds dead, which is as long as a request waits for a connection."""

    answer_seconds = ANSWER_SECONDS

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)
        except errors._WaitTimeout:
            if timeout is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # Its answer may come yet, and must not be taken for that of another statement.
                self.pgconn.finish()
                raise OperationalError(f"no answer within {self.answer_seconds:g} s") from None
            raise
        except OperationalError:
            pool = getattr(self, "_pool", None)  # who connects without one has none
            if self.pgconn.status == ConnStatus.BAD and isinstance(pool, ConnectionPool):
                pool.drain()
            raise


@contextmanager
def unhurried(connection: object) -> Iterator[None]:
    """For a command's long statements: waits for them as long as it takes, on this raw connection."""
    if not isinstance(connection, BoundedConnection):
        yield
        return
    connection.answer_seconds = _FOR_EVER
    try:
        yield
    finally:
        connection.answer_seconds = ANSWER_SECONDS
