"""The adapter for a real server: clickhouse-driver over the native protocol, behind a small pool."""

# mypy: allow-untyped-calls
# (clickhouse-driver has no annotations)

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from math import ceil
from time import monotonic
from typing import Any

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors

from telemetry.clickhouse.binding import bind, epoch
from telemetry.clickhouse.errors import (
    ClickHouseError,
    ClickHouseQueryError,
    ClickHouseTimeout,
    ClickHouseUnavailable,
    refusal,
)
from telemetry.clickhouse.interface import ClickHouse, NativeAddress, identifier
from telemetry.clickhouse.telling import told
from telemetry.clickhouse.types import native_decoder, rows_of, tuples_of

# Its warnings come with a traceback per failed connection and say what is raised here anyway.
logging.getLogger("clickhouse_driver").setLevel(logging.ERROR)

# The server, which can free what a late query holds, gets this much longer to say so itself (seconds).
_GRACE = 0.25
# Rows that a stream holds at a time.
_STREAMED = 8192
# Servers before this read max_execution_time as whole seconds.
_FRACTIONAL_LIMITS = (20, 1)


_CLUSTER_SETTINGS = {
    # An insert through a Distributed table returns when the shards have it, not when it is queued.
    "insert_distributed_sync": 1,
    # Replicas copy from each other later. Reads and writes both go to the first one alive, whichever node
    # is asked, so a roll-up sees the events that were acknowledged before it (measured: 485 of 1,000 else).
    "load_balancing": "in_order",
    "prefer_localhost_replica": 0,
    # A replica that comes back and lags by more seconds than this is passed over while another does not.
    "max_replica_delay_for_distributed_queries": 2,
}


class _Client(Client):
    """A driver client that is held to a deadline.

    The driver has one timeout for the handshake and for every read, and a server that makes progress
    resets it; here the handshake gets the connect timeout and a statement a deadline as a whole.
    """

    deadline: float = 0.0

    def establish_connection(self, settings: Any) -> None:
        hosts = len(self.connection.hosts)
        for attempt in range(1, hosts + 1):
            try:
                super().establish_connection(settings)
                break
            except EOFError:
                # A host that accepts and hangs up (a proxy without its server); the driver itself tries
                # the next host only when a connection is refused or times out.
                self.connection.disconnect()
                self.connection.hosts.rotate(-1)
                if attempt == hosts:
                    raise
        self._hold_to_deadline()

    def receive_packet(self) -> Any:
        self._hold_to_deadline()
        return super().receive_packet()

    def _hold_to_deadline(self) -> None:
        left = self.deadline - monotonic()
        if left <= 0:
            raise driver_errors.SocketTimeoutError("no complete answer in time")
        self.connection.socket.settimeout(left)


class _Pool:
    """At most ``size`` clients, the last used first, so that idle ones age and servers see few."""

    def __init__(self, address: NativeAddress, connect_timeout: float, size: int) -> None:
        self._address = address
        self._connect_timeout = connect_timeout
        self._size = size
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[_Client] = []
        self.pid = os.getpid()

    @contextmanager
    def client(self) -> Iterator[_Client]:
        """A client for this thread alone. After any error it is dropped: what it has left to read or to
        send is not known."""
        if not self._slots.acquire(timeout=self._connect_timeout):
            raise ClickHouseUnavailable(
                f"all {self._size} ClickHouse connections of this process are busy (CLICKHOUSE_POOL_SIZE)"
            )
        try:
            try:
                client = self._idle.pop()  # atomic, as append is: no lock is needed beside the semaphore
            except IndexError:
                client = self.new_client(self._address.database)
            try:
                yield client
            except BaseException:
                client.disconnect()
                raise
            self._idle.append(client)
        finally:
            self._slots.release()

    def new_client(self, database: str) -> _Client:
        address = self._address
        return _Client(
            address.host,
            port=address.port,
            alt_hosts=address.alt_hosts,
            user=address.user,
            password=address.password,
            database=database,
            client_name="llm-selection",
            compression="lz4",
            connect_timeout=self._connect_timeout,
            sync_request_timeout=self._connect_timeout,
            send_receive_timeout=self._connect_timeout,
        )

    def close(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()


class NativeClickHouse(ClickHouse):
    def __init__(
        self,
        address: NativeAddress,
        *,
        cluster: str | None,
        connect_timeout: float,
        query_timeout: float,
        pool_size: int,
    ) -> None:
        self.database = address.database
        self.cluster = cluster
        self._query_timeout = query_timeout
        self._pool_arguments = (address, connect_timeout, pool_size)
        self._current_pool = _Pool(*self._pool_arguments)
        self._version: tuple[int, int] | None = None

    def version(self) -> tuple[int, int]:
        if self._version is None:
            with _no_driver_errors(), self._bare_client(self._query_timeout) as client:
                client.execute("SELECT 1")
                self._version = _version_of(client)
        return self._version

    @told("query")
    def query(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> list[dict[str, Any]]:
        statement = bind(sql, params)
        with self._client(timeout) as (client, settings):
            columns, described = client.execute(
                statement, with_column_types=True, columnar=True, settings=settings
            )
            decoders = [native_decoder(type_name) for _, type_name in described]
            return rows_of([name for name, _ in described], columns, decoders)

    def stream(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float
    ) -> Iterator[list[tuple[Any, ...]]]:
        statement = bind(sql, params)
        with self._client(timeout) as (client, settings):
            rows = client.execute_iter(
                statement, with_column_types=True, settings=settings | {"max_block_size": _STREAMED}
            )
            decoders = [native_decoder(type_name) for _, type_name in next(rows)]
            while piece := list(islice(rows, _STREAMED)):
                yield tuples_of(zip(*piece, strict=True), decoders)

    @told("execute")
    def execute(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> None:
        statement = bind(sql, params)
        with self._client(timeout) as (client, settings):
            client.execute(statement, settings=settings)

    @told("insert")
    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if not rows:
            return
        names = ", ".join(identifier(column, "column") for column in columns)
        statement = f"INSERT INTO {identifier(table, 'table')} ({names}) VALUES"
        with _no_driver_errors():
            data = [_sendable(column) for column in zip(*rows, strict=True)]
        with self._client(None) as (client, settings):
            client.execute(statement, data, columnar=True, settings=settings)

    def ensure_database(self, *, timeout: float | None = None) -> None:
        limit = timeout or self._query_timeout
        with _no_driver_errors(), self._bare_client(limit) as client:
            client.execute(self.create_database_sql(), settings=_settings(limit, None, self.cluster))

    def close(self) -> None:
        if self._current_pool.pid == os.getpid():
            self._current_pool.close()
        self._current_pool = _Pool(*self._pool_arguments)

    @property
    def _pool(self) -> _Pool:
        # After a fork the sockets belong to the parent: forget them without a goodbye, which it would hear.
        if self._current_pool.pid != os.getpid():
            self._current_pool = _Pool(*self._pool_arguments)
        return self._current_pool

    @contextmanager
    def _client(self, timeout: float | None) -> Iterator[tuple[_Client, dict[str, Any]]]:
        limit = timeout or self._query_timeout
        with _no_driver_errors(), self._pool.client() as client:
            client.deadline = monotonic() + limit + _GRACE
            yield client, _settings(limit, self._version, self.cluster)
            self._version = self._version or _version_of(client)

    @contextmanager
    def _bare_client(self, limit: float) -> Iterator[_Client]:
        """A client of its own that names no database, for what must work before the database exists."""
        client = self._pool.new_client("")
        client.deadline = monotonic() + limit + _GRACE
        try:
            yield client
        finally:
            client.disconnect()


def _version_of(client: _Client) -> tuple[int, int]:
    major, minor, _ = client.connection.server_info.version_tuple()
    return int(major), int(minor)


def _settings(limit: float, version: tuple[int, int] | None, cluster: str | None) -> dict[str, Any]:
    fractional = version is not None and version >= _FRACTIONAL_LIMITS
    settings: dict[str, Any] = {"max_execution_time": limit if fractional else ceil(limit)}
    return settings | _CLUSTER_SETTINGS if cluster else settings


def _sendable(column: tuple[object, ...]) -> Sequence[object]:
    # Whole seconds spare the driver a zone conversion per value, and a naive datetime is found here.
    if datetime in set(map(type, column)):
        return [epoch(value) if isinstance(value, datetime) else value for value in column]
    return column


@contextmanager
def _no_driver_errors() -> Iterator[None]:
    """Let only the door's own errors out."""
    try:
        yield
    except ClickHouseError:
        raise
    except driver_errors.ServerException as error:
        raise refusal(str(error.message), error.code) from error
    except (driver_errors.SocketTimeoutError, TimeoutError) as error:
        raise ClickHouseTimeout(f"ClickHouse did not answer in time: {_message(error)}") from error
    except (
        driver_errors.NetworkError,
        driver_errors.UnexpectedPacketFromServerError,
        driver_errors.UnknownPacketFromServerError,
        driver_errors.ChecksumDoesntMatchError,
        OSError,
        EOFError,
    ) as error:
        raise ClickHouseUnavailable(f"ClickHouse is not reachable: {_message(error)}") from error
    except Exception as error:  # the driver meets bad values with whatever they happen to raise
        raise ClickHouseQueryError(f"data does not fit the statement: {_message(error)}") from error


def _message(error: Exception) -> str:
    return str(getattr(error, "message", None) or error or type(error).__name__).strip()
