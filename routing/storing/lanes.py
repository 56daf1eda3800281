"""Connections that a process keeps for storing decisions.

Django's belong to a thread and to its request: given back to the pool at its end, and looked after by a query when it
begins. What serves groups of requests belongs to none of them.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connection, connections

from catalog.outage import AWAY
from routing.storing.postgres import PostgresStore
from routing.storing.rows import Store
from routing.storing.sqlite import SqliteStore

R = TypeVar("R")


class Lane:
    """One kept connection and its statements."""

    def __init__(self) -> None:
        self.store: Store
        self._raw: Any
        if connection.vendor == "postgresql":
            self._raw = _connect_postgres()
            self.store = PostgresStore(self._raw)
        else:
            self._raw = connections.create_connection("default")
            # It goes from thread to thread, one at a time.
            self._raw.inc_thread_sharing()
            self._raw.ensure_connection()
            self.store = SqliteStore(self._raw.connection, _as_stored, in_transaction=False)

    def close(self) -> None:
        self._raw.close()


def _connect_postgres() -> Any:
    from psycopg import Connection, Cursor  # SQLite needs no driver of PostgreSQL's

    wrapper: Any = connection
    parameters = wrapper.get_connection_params()
    pool = connection.settings_dict["OPTIONS"].get("pool") or {}
    kind = pool.get("connection_class") or Connection
    # Not Django's cursors: they write values into the statement, which the server then parses and plans each time.
    raw = kind.connect(**{**parameters, "cursor_factory": Cursor, "autocommit": True})
    # Each statement is planned once, and by its indexes: planned while a table is new and empty, it would read all of
    # the table for ever.
    raw.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
    return raw


def _as_stored(value: Any) -> Any:
    return connection.ops.adapt_datetimefield_value(value)


class Lanes:
    """The free ones of this process. Safe between threads."""

    def __init__(self) -> None:
        self._free: list[Lane] = []

    def run(self, work: Callable[[Store], R]) -> R:
        """``work`` on a connection that nobody else uses meanwhile; it may be run twice: a kept connection may have
        died with its server, which is back. Raises Django's database errors."""
        if connection.in_atomic_block:
            return _within(work)
        try:
            lane = self._free.pop()
        except IndexError:
            return self._run_on(_new(), work)
        try:
            return self._run_on(lane, work)
        except AWAY:
            return self._run_on(_new(), work)

    def _run_on(self, lane: Lane, work: Callable[[Store], R]) -> R:
        try:
            with connection.wrap_database_errors:
                result = work(lane.store)
        except BaseException:
            with connection.wrap_database_errors:
                lane.close()
            raise
        self._free.append(lane)
        return result

    def close(self) -> None:
        """Close what is free."""
        while self._free:
            self._free.pop().close()

    def forget(self) -> None:
        """In a forked child: they are the parent's."""
        self._free = []


def _new() -> Lane:
    with connection.wrap_database_errors:
        return Lane()


def _within(work: Callable[[Store], R]) -> R:
    """Take part in the transaction that runs in this thread."""
    connection.ensure_connection()
    raw = connection.connection
    with connection.wrap_database_errors:
        if connection.vendor == "postgresql":
            return work(PostgresStore(raw))
        return work(SqliteStore(raw, _as_stored, in_transaction=True))


lanes = Lanes()
os.register_at_fork(after_in_child=lanes.forget)
