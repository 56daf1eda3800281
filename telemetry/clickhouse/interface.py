"""The door's one interface, and the addresses it understands. Both adapters are interchangeable."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEFAULT_PORT = 9000


class ClickHouse(ABC):
    """One database of one ClickHouse. Safe to share between threads.

    Statements take ``%(name)s`` placeholders (a literal ``%`` is then written ``%%``); see
    ``telemetry.clickhouse.binding`` for what may be bound. Timeouts are seconds; None means the
    adapter's default. Every method raises only ClickHouseError and its subclasses, and ValueError
    for parameters that cannot be bound.
    """

    database: str
    cluster: str | None

    @abstractmethod
    def version(self) -> tuple[int, int]:
        """The engine's (major, minor) version; asked once. The database need not exist yet."""

    @abstractmethod
    def query(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> list[dict[str, Any]]:
        """Rows of a SELECT, as dicts by column name.

        Types are the same on every engine: DateTime is an aware datetime in UTC, Array is a tuple,
        Decimal a Decimal, UUID a UUID, Enum a str, NULL None.
        """

    @abstractmethod
    def stream(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float
    ) -> Iterator[list[tuple[Any, ...]]]:
        """The same rows in pieces of some thousands, as tuples in the order of the SELECT's columns, for what would
        not fit into memory. ``timeout`` is for all of it. This thread asks nothing else until it has ended."""

    @abstractmethod
    def execute(
        self, sql: str, params: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> None:
        """Run a statement that returns nothing: DDL or INSERT ... SELECT (never INSERT ... VALUES)."""

    @abstractmethod
    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Insert rows as one block; a row has a value per column. No rows, no statement.

        Datetimes must be aware, belong in DateTime columns and lose fractions of a second.
        """

    @abstractmethod
    def ensure_database(self, *, timeout: float | None = None) -> None:
        """Create the database (on the whole cluster, if there is one) unless it exists."""

    @abstractmethod
    def close(self) -> None:
        """Give up connections. The next call opens new ones."""

    def ping(self) -> None:
        """Return if the engine answers, raise otherwise. The database must exist."""
        self.query("SELECT 1")

    def create_database_sql(self) -> str:
        on_cluster = f" ON CLUSTER {self.cluster}" if self.cluster else ""
        return f"CREATE DATABASE IF NOT EXISTS {self.database}{on_cluster}"


@dataclass(frozen=True, slots=True)
class NativeAddress:
    """``clickhouse://[user[:password]@]host[:port]/database[?alt_hosts=host:port,...]``"""

    host: str
    port: int
    user: str
    password: str
    database: str
    alt_hosts: str | None


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """``chdb:///absolute/path[?database=name]``"""

    path: str
    database: str


def parse_url(url: str) -> NativeAddress | EmbeddedAddress:
    """Read a ClickHouse address; ValueError says what is wrong with it, without its password."""
    parts = urlsplit(url)
    try:
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise ValueError("ClickHouse URL: what follows '?' must be name=value pairs") from None
    if parts.scheme == "clickhouse":
        return _native(parts, options)
    if parts.scheme == "chdb":
        return _embedded(parts, options)
    raise ValueError(
        f"ClickHouse URL: scheme {parts.scheme!r} is unknown; "
        "use clickhouse://host:9000/database or chdb:///absolute/path"
    )


def _native(parts: SplitResult, options: dict[str, str]) -> NativeAddress:
    _only(options, "alt_hosts")
    try:
        port = parts.port or _DEFAULT_PORT
    except ValueError:
        raise ValueError("ClickHouse URL: the port is not a number below 65536") from None
    if not parts.hostname:
        raise ValueError("ClickHouse URL: clickhouse:// needs a host")
    alt_hosts = options.get("alt_hosts")
    for alternative in alt_hosts.split(",") if alt_hosts else ():
        if not re.fullmatch(r"[^:/@\s]+(:[0-9]{1,5})?", alternative):
            raise ValueError(f"ClickHouse URL: alt_hosts has {alternative!r}, which is not host:port")
    return NativeAddress(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=identifier(parts.path.strip("/"), "ClickHouse URL: database"),
        alt_hosts=alt_hosts,
    )


def _embedded(parts: SplitResult, options: dict[str, str]) -> EmbeddedAddress:
    _only(options, "database")
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or path == "/" or "?" in path:
        raise ValueError("ClickHouse URL: chdb:// needs an absolute path, as in chdb:///var/lib/selection")
    database = identifier(options.get("database", "selection"), "ClickHouse URL: database")
    return EmbeddedAddress(path=path, database=database)


def _only(options: dict[str, str], known: str) -> None:
    if unknown := sorted(options.keys() - {known}):
        raise ValueError(f"ClickHouse URL: unknown option {', '.join(unknown)}; only {known} is known")


def identifier(name: str, what: str) -> str:
    """The name, if it can stand in SQL unquoted; ValueError otherwise. Values are bound, names cannot be."""
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} must be letters, digits and underscores, not starting with a digit"
        )
    return name
