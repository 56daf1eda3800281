"""Parameters and rows on their way to an engine: one escaping for both adapters."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

from clickhouse_driver.util import escape

# Not Python's own formatting: a stray %s would put all parameters, unescaped, into the statement.
_PLACEHOLDER = re.compile(r"%%|%\((?P<name>\w+)\)s|%")


class _UtcServer:
    """What the driver's escaping asks its connection. It is told UTC whatever the server's own zone is,
    so that a bound time means the same everywhere: statements say ``toDateTime(%(x)s, 'UTC')``."""

    @property
    def server_info(self) -> "_UtcServer":
        return self

    def get_timezone(self) -> str:
        return "UTC"


_CONTEXT = _UtcServer()


def bind(sql: str, params: Mapping[str, object] | None) -> str:
    """The statement with its ``%(name)s`` placeholders replaced by escaped literals.

    May be bound: None, bool (as 0 or 1), int, float, str, date, UUID, Enum members (their values), aware
    datetimes (UTC, fractions of a second dropped), Decimal (as a quoted string: say
    ``toDecimal64(%(x)s, 9)``), and lists (arrays) or tuples (for IN) of these. Anything else, a naive
    datetime and a placeholder without a value are a ValueError.
    """
    if params is None:
        return sql
    plain = {name: _plain(value) for name, value in params.items()}
    escape_params: Callable[..., dict[str, object]] = escape.escape_params
    literals = escape_params(plain, _CONTEXT)

    def literal(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        if found["name"] is None:
            raise ValueError(f"{sql[found.start() :][:12]!r} is neither %(name)s nor %%")
        if found["name"] not in literals:
            raise ValueError(f"no value for placeholder {found['name']}")
        return str(literals[found["name"]])

    return _PLACEHOLDER.sub(literal, sql)


def _plain(value: object) -> object:
    match value:
        case bool():
            return int(value)
        case Enum():
            return _plain(value.value)
        case datetime():
            _require_aware(value)
            return value
        case Decimal():
            return format(value, "f")
        case list():
            return [_plain(item) for item in value]
        case tuple():
            return tuple(_plain(item) for item in value)
        case None | int() | float() | str() | date() | UUID():
            return value
    raise ValueError(f"cannot bind a {type(value).__name__}")


def epoch(moment: datetime) -> int:
    """Whole seconds since 1970 of an aware datetime; ValueError for a naive one."""
    _require_aware(moment)
    return int(moment.timestamp())


def _require_aware(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError(f"datetime {moment.isoformat()} has no time zone")


def from_epoch(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
