"""The adapter for chDB, the ClickHouse engine in this process. One process owns a path at a time."""

# mypy: allow-untyped-calls
# (chDB has no annotations)

import ctypes
import os
import re
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import orjson

from telemetry.clickhouse.binding import bind, epoch
from telemetry.clickhouse.errors import (
    ClickHouseError,
    ClickHouseQueryError,
    ClickHouseUnavailable,
    refusal,
)
from telemetry.clickhouse.interface import ClickHouse, EmbeddedAddress, identifier
from telemetry.clickhouse.telling import told
from telemetry.clickhouse.types import json_decoder, refused_by, rows_of, tuples_of

# Makes JSON exact: numbers a reader would round are quoted, times do not depend on a zone.
_SESSION_SETTINGS = (
    "SET session_timezone = 'UTC', date_time_output_format = 'unix_timestamp', "
    "output_format_json_quote_decimals = 1, output_format_json_quote_denormals = 1"
)
_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")

# The process in which the engine first started. Its threads do not survive a fork: in a child, every call
# into it, even closing a session at exit, would hang for good.
_engine_pid: int | None = None
_open_sessions: weakref.WeakSet[Any] = weakref.WeakSet()


class _Sessions(threading.local):
    """This thread's session, and the time limit it was last told (seconds)."""

    session: Any = None
    limit: float | None = None


class EmbeddedClickHouse(ClickHouse):
    cluster = None

    def __init__(self, address: EmbeddedAddress, *, query_timeout: float) -> None:
        self.database = address.database
        self._path = address.path
        self._query_timeout = query_timeout
        self._version: tuple[int, int] | None = None
        self._column_types: dict[str, dict[str, str]] = {}
        self._opening = threading.Lock()
        self._forget_sessions()

    def version(self) -> tuple[int, int]:
        if self._version is None:
            with self._bare_session() as session:
                [[text]] = orjson.loads(session.query("SELECT version()", "JSONCompact").bytes())["data"]
            major, minor, *_ = str(text).split(".")
            self._version = int(major), int(minor)
        return self._version

    @told("query")
    def query(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> list[dict[str, Any]]:
        statement = bind(sql, params)
        with self._session(timeout) as session:
            answer = session.query(statement, "JSONCompact").bytes()
        try:
            document = orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise ClickHouseQueryError("a query is one statement that returns rows") from error
        described = [(column["name"], column["type"]) for column in document["meta"]]
        decoders = [json_decoder(type_name) for _, type_name in described]
        return rows_of([name for name, _ in described], zip(*document["data"], strict=True), decoders)

    def stream(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float
    ) -> Iterator[list[tuple[Any, ...]]]:
        statement = bind(sql, params)
        with self._session(timeout) as session:
            # Each piece is a document of its own: names, types, rows.
            for piece in session.send_query(statement, "JSONCompactEachRowWithNamesAndTypes"):
                _, types, *rows = map(orjson.loads, piece.bytes().splitlines())
                yield tuples_of(zip(*rows, strict=True), [json_decoder(type_name) for type_name in types])

    @told("execute")
    def execute(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> None:
        statement = bind(sql, params)
        try:
            with self._session(timeout) as session:
                session.query(statement, "Null")
        finally:
            self._column_types.clear()  # it may have changed a table

    @told("insert")
    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if not rows:
            return
        names = ", ".join(identifier(column, "column") for column in columns)
        identifier(table, "table")
        try:
            self._refuse_unfit(table, columns, rows)
            # Rows may be parted by commas, so the block is one call; only the outer brackets must go.
            lines = orjson.dumps(rows, default=_json, option=orjson.OPT_PASSTHROUGH_DATETIME)[1:-1]
        except (TypeError, ValueError) as error:
            raise ClickHouseQueryError(f"data does not fit the statement: {error}") from error
        with self._session(None) as session:
            statement = f"INSERT INTO {table} ({names}) FORMAT JSONCompactEachRow\n".encode() + lines
            session.query(statement, "Null")

    def ensure_database(self, *, timeout: float | None = None) -> None:
        with self._bare_session() as session:
            session.query(self.create_database_sql(), "Null")

    def close(self) -> None:
        for session in list(self._sessions):
            session.close()
        self._forget_sessions()

    def _refuse_unfit(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        types = self._column_types.get(table)
        if types is None:
            described = self.query(f"DESCRIBE TABLE {table}")
            types = self._column_types[table] = {row["name"]: row["type"] for row in described}
        for name, values in zip(columns, zip(*rows, strict=True), strict=True):
            # An unknown column is left for the engine to refuse.
            if name in types and (reason := refused_by(types[name], values)):
                raise ClickHouseQueryError(f"data does not fit {table}.{name}: {reason}")

    def _forget_sessions(self) -> None:
        self._local = _Sessions()
        self._sessions: weakref.WeakSet[Any] = weakref.WeakSet()
        # The engine stops with its last session; this one keeps it up while threads come and go.
        self._anchor: Any = None

    @contextmanager
    def _session(self, timeout: float | None) -> Iterator[Any]:
        """This thread's session, in the database and with the time limit set.

        After any error it is dropped: the engine prints what a failed query had left into the next
        answer of its session.
        """
        local = self._local
        limit = timeout or self._query_timeout
        _refuse_after_fork()
        with _no_engine_errors():
            try:
                if local.session is None:
                    local.session, local.limit = self._open(), None
                    local.session.query(f"USE {self.database}")
                if local.limit != limit:
                    local.session.query(f"SET max_execution_time = {limit:f}")
                    local.limit = limit
                yield local.session
            except BaseException:
                if local.session is not None:
                    local.session.close()
                    local.session = None
                raise

    @contextmanager
    def _bare_session(self) -> Iterator[Any]:
        """A session of its own that names no database, for what must work before the database exists."""
        with _no_engine_errors():
            session = self._open()
            try:
                yield session
            finally:
                session.close()

    def _open(self) -> Any:
        with self._opening:
            if self._anchor is None:
                self._anchor = _start_session(self._path)
                self._sessions.add(self._anchor)
            session = _start_session(self._path)
            self._sessions.add(session)
        session.query(_SESSION_SETTINGS)
        return session


def _start_session(path: str) -> Any:
    global _engine_pid
    _refuse_after_fork()
    try:
        # Imported here because it is optional and takes 0.4 s and 250 MB.
        from chdb.session import Session
    except ImportError as error:
        raise ClickHouseUnavailable(
            "chDB is not installed: install requirements-embedded.txt, or point CLICKHOUSE_URL at a server"
        ) from error
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        session = Session(path)
    except (RuntimeError, OSError) as error:
        raise ClickHouseUnavailable(
            f"chDB cannot open {path}: another process has it open, this process has another path open, "
            f"or it is not writable ({_without_code(str(error))})"
        ) from error
    _engine_pid = os.getpid()
    _open_sessions.add(session)
    return session


def _refuse_after_fork() -> None:
    if _engine_pid not in (None, os.getpid()):
        raise ClickHouseUnavailable(
            "chDB was started before this process was forked and cannot run in it; "
            "start it after the fork, or use a ClickHouse server"
        )


def _abandon_engine_after_fork() -> None:
    if _engine_pid is None:
        return
    for session in list(_open_sessions):
        # Closing would hang, and freeing too: the session forgets its connection, which is never freed.
        connection, session._conn = session._conn, None
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    # So would the engine's own clean-up when the child ends: end for good before it, after Python's.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


os.register_at_fork(after_in_child=_abandon_engine_after_fork)


def _json(value: object) -> object:
    """What orjson does not know, or would write in a form the engine reads differently."""
    if isinstance(value, datetime):
        return epoch(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"cannot insert a {type(value).__name__}")


@contextmanager
def _no_engine_errors() -> Iterator[None]:
    """Let only the door's own errors out."""
    try:
        yield
    except ClickHouseError:
        raise
    except RuntimeError as error:
        found = _CODE.search(str(error))
        raise refusal(_without_code(str(error)), int(found[1]) if found else None) from error


def _without_code(message: str) -> str:
    return _CODE.sub("", message).strip() or "no message"
