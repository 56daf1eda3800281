"""What the engines' column types are in Python: one answer for both adapters.

Each adapter has its own raw form (the driver's objects, or JSON), so there are two tables of leaf types;
the composite types around them are read by the same code. A decoder of None means: already right.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from telemetry.clickhouse.binding import from_epoch

Decoder = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rows_of(
    names: Sequence[str], columns: Iterable[Iterable[Any]], decoders: Sequence[Decoder | None]
) -> list[dict[str, Any]]:
    """Rows as dicts, from the columns' raw values."""
    return [dict(zip(names, row, strict=True)) for row in tuples_of(columns, decoders)]


def tuples_of(columns: Iterable[Iterable[Any]], decoders: Sequence[Decoder | None]) -> list[tuple[Any, ...]]:
    """Decode column by column (one decision per column, not per value)."""
    # An answer without rows may come without columns too.
    decoded = [
        column if decode is None else map(decode, column)
        for column, decode in zip(columns, decoders, strict=False)
    ]
    return list(zip(*decoded, strict=True))


@lru_cache(maxsize=1024)
def native_decoder(type_name: str) -> Decoder | None:
    """From what clickhouse-driver returns."""
    return _decoder(type_name, {"DateTime": _utc, "DateTime64": _utc})


@lru_cache(maxsize=1024)
def json_decoder(type_name: str) -> Decoder | None:
    """From JSON with Unix timestamps and quoted decimals, as the embedded adapter asks for it."""
    return _decoder(
        type_name,
        {
            "DateTime": lambda text: from_epoch(int(text)),
            "DateTime64": lambda text: _EPOCH + timedelta(microseconds=int(Decimal(text) * 1_000_000)),
            "Date": date.fromisoformat,
            "UUID": UUID,
            "Decimal": Decimal,
            "Float32": float,
            "Float64": float,
        },
    )


def _utc(moment: datetime) -> datetime:
    # A column without a zone is read in this process's own zone, which is what astimezone assumes too.
    return moment.astimezone(UTC)


def _decoder(type_name: str, leaves: Mapping[str, Decoder]) -> Decoder | None:
    outer, inner = _split(type_name)
    match outer:
        case "Nullable":
            return _unless_none(_decoder(inner, leaves))
        case "LowCardinality":
            return _decoder(inner, leaves)
        case "Array":
            return _tuple_of(_decoder(inner, leaves))
        case "Tuple":
            return _tuple_by_position([_decoder(item, leaves) for item in _members(inner)])
    return leaves.get(outer)


def _split(type_name: str) -> tuple[str, str]:
    """``Array(Nullable(X))`` -> (``Array``, ``Nullable(X)``); ``X`` -> (``X``, empty)."""
    outer, _, rest = type_name.partition("(")
    return outer, rest.removesuffix(")")


def _members(inner: str) -> list[str]:
    """The types of a tuple's members, without the names that modern engines may give them."""
    members, depth, start = [], 0, 0
    for at, char in enumerate(inner):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            members.append(inner[start:at])
            start = at + 1
    members.append(inner[start:])
    return [_unnamed(member) for member in members]


def _unnamed(member: str) -> str:
    head, bracket, rest = member.strip().partition("(")
    return head.split()[-1] + bracket + rest


def _unless_none(decode: Decoder | None) -> Decoder | None:
    if decode is None:
        return None
    return lambda value: None if value is None else decode(value)


def _tuple_of(decode: Decoder | None) -> Decoder:
    if decode is None:
        return tuple
    return lambda values: tuple(map(decode, values))


def _tuple_by_position(decoders: Sequence[Decoder | None]) -> Decoder:
    def decode(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            value if decode is None else decode(value) for value, decode in zip(values, decoders, strict=True)
        )

    return decode


_INTEGERS = {
    f"{sign}Int{bits}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits - (not sign)) - 1)
    for sign in ("U", "")
    for bits in (8, 16, 32, 64)
}


def refused_by(type_name: str, values: Iterable[object]) -> str | None:
    """Why a column of this type cannot hold these values, as far as a text format would hide it.

    Given JSON, the embedded engine stores NULL as 0 and 300 as 44 in a UInt8; a server reached with the
    driver refuses both, and so must both adapters.
    """
    outer, inner = _split(type_name)
    match outer:
        case "Nullable":
            return refused_by(inner, [value for value in values if value is not None])
        case "LowCardinality":
            return refused_by(inner, values)
        case "Array":
            return refused_by(inner, [item for value in values for item in _items(value)])
    values = list(values)
    if None in values:
        return "NULL is not allowed"
    if bounds := _INTEGERS.get(outer):
        # Types first, without a Python step per value: this runs for every value of every block.
        if not set(map(type, values)) <= {int, bool}:
            return "only integers are allowed"
        numbers = cast(list[int], values)
        if numbers and not (bounds[0] <= min(numbers) and max(numbers) <= bounds[1]):
            return f"only integers from {bounds[0]} to {bounds[1]} are allowed"
    return None


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else (value,)
