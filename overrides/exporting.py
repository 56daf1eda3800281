"""Audit entries as lines of CSV or NDJSON, oldest first, for the command and for the page."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from django.db.models import QuerySet

from overrides.audit import MEMBERS
from overrides.models import AuditEntry

#: What a reader may see of an entry's state (``before``, ``after``).
Seen = Callable[[Any], Any]
_AT_ONCE = 2000


def in_order(entries: QuerySet[AuditEntry]) -> Iterator[AuditEntry]:
    """The entries, oldest first, read in pieces by number: no query is open between two of them, however slowly
    somebody takes them."""
    last, left = 0, True
    while left:
        piece = list(entries.filter(seq__gt=last).order_by("seq")[:_AT_ONCE])
        yield from piece
        left = len(piece) == _AT_ONCE
        last = piece[-1].seq if piece else last


def _as_is(state: Any) -> Any:
    return state


def ndjson_lines(entries: Iterator[AuditEntry], seen: Seen = _as_is) -> Iterator[str]:
    """A JSON document per line."""
    for entry in entries:
        yield orjson.dumps(_row(entry, seen)).decode() + "\n"


def csv_lines(entries: Iterator[AuditEntry], seen: Seen = _as_is) -> Iterator[str]:
    """A header, and a line per entry, with nothing that a spreadsheet would run."""
    yield csv_line(MEMBERS)
    for entry in entries:
        row = _row(entry, seen)
        row |= {name: orjson.dumps(row[name]).decode() for name in ("before", "after")}
        row["at"] = entry.at.isoformat()
        yield csv_line([inert(row[name]) for name in MEMBERS])


def _row(entry: AuditEntry, seen: Seen) -> dict[str, Any]:
    row = {name: getattr(entry, name) for name in MEMBERS}
    return row | {name: seen(row[name]) for name in ("before", "after")}


def csv_line(cells: Any) -> str:
    """One line of CSV with its end; ``inert`` makes cells of text harmless."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue()


def inert(value: Any) -> Any:
    """Spreadsheets run cells that begin like a formula: an apostrophe makes them text."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
